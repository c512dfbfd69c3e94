"""How much of what its connections can carry does a model behind an endpoint get asked, and at what CPU time?

    python tests/benchmarks/served.py             the adapter itself
    python tests/benchmarks/served.py clients     HTTP clients alone, of which the adapter has the first

A server on this machine takes 100 ms for each call. 512 requests with an image of 20 kB go over 64 connections. From
the first answer to the last, 64 connections carry the 448 requests behind the first 64 in 0.7 s at best: the ratio is
that over the time it took, at most 1, and must be 0.90. CPU seconds are those of the asking process for 1,000 requests;
an image, which ten requests share, is encoded once.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
import io
import json
import multiprocessing
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

DELAY, CONNECTIONS, REQUESTS, SHARED_BY = 0.1, 64, 512, 10
REPLY = json.dumps(
    {
        "model": "echo",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "red"}}],
        "usage": {"prompt_tokens": 300, "completion_tokens": 2, "total_tokens": 302},
    }
).encode()


class Echo(asyncio.Protocol):
    """As little of an HTTP server as there can be, so that its own work does not count: it answers after DELAY."""

    def connection_made(self, transport) -> None:
        self.transport, self.got, self.wanted = transport, bytearray(), 0

    def data_received(self, data: bytes) -> None:
        self.got += data
        if not self.wanted and (end := self.got.find(b"\r\n\r\n")) >= 0:
            head = self.got[:end].lower()
            self.wanted = end + 4 + int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
        if self.wanted and len(self.got) >= self.wanted:
            self.got, self.wanted = bytearray(), 0
            asyncio.get_running_loop().call_later(DELAY, self.answer)

    def answer(self) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(REPLY)}\r\n\r\n"
        self.transport.write(head.encode() + REPLY)


def serve(port: multiprocessing.Queue) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0, backlog=1024)
        port.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


def pictures(count: int) -> list[bytes]:
    """Encoded images of about 20 kB, each another."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)).save(file, "JPEG", quality=88)
        made.append(file.getvalue())
    return made


class Watch:
    """When answers came, and the CPU time from the beginning."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.cpu = time.process_time()

    def answered(self) -> None:
        self.times.append(time.perf_counter())

    def say(self, name: str) -> tuple[float, float]:
        cpu = (time.process_time() - self.cpu) / len(self.times) * 1000
        ideal = (len(self.times) / CONNECTIONS - 1) * DELAY
        ratio = ideal / (max(self.times) - min(self.times))
        print(f"{name:28} {ratio:5.2f} of what {CONNECTIONS} connections carry {cpu:6.2f} CPU-s per 1,000", flush=True)
        return ratio, cpu


# Clients alone ---------------------------------------------------------------------------------------------------


def bodies() -> list[bytes]:
    images = pictures(REQUESTS // SHARED_BY + 1)
    urls = ["data:image/jpeg;base64," + base64.b64encode(image).decode() for image in images]
    asked = {"type": "text", "text": "What is it?"}
    contents = [[{"type": "image_url", "image_url": {"url": urls[i // SHARED_BY]}}, asked] for i in range(REQUESTS)]
    return [json.dumps({"model": "m", "messages": [{"role": "user", "content": c}]}).encode() for c in contents]


HEADERS = {"Content-Type": "application/json", "Authorization": "Bearer none"}


def standard_library(port: int, asked: list[bytes]) -> Watch:
    """A connection of http.client for each of 64 threads."""
    own = threading.local()
    watch = Watch()

    def one(body: bytes) -> None:
        if not hasattr(own, "connection"):
            own.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        own.connection.request("POST", "/v1/chat/completions", body, HEADERS)
        json.loads(own.connection.getresponse().read())
        watch.answered()

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(one, asked))
    return watch


def httpx_in_threads(port: int, asked: list[bytes]) -> Watch:
    import httpx2

    watch = Watch()
    limits = httpx2.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    with httpx2.Client(limits=limits, timeout=60) as client:

        def one(body: bytes) -> None:
            client.post(f"http://127.0.0.1:{port}/v1/chat/completions", content=body, headers=HEADERS).json()
            watch.answered()

        with ThreadPoolExecutor(CONNECTIONS) as pool:
            list(pool.map(one, asked))
    return watch


def httpx_async(port: int, asked: list[bytes]) -> Watch:
    import httpx2

    watch = Watch()

    async def main() -> None:
        limits = httpx2.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
        todo = iter(asked)
        async with httpx2.AsyncClient(limits=limits, timeout=60) as client:

            async def work() -> None:
                for body in todo:
                    url = f"http://127.0.0.1:{port}/v1/chat/completions"
                    (await client.post(url, content=body, headers=HEADERS)).json()
                    watch.answered()

            await asyncio.gather(*(work() for _ in range(CONNECTIONS)))

    asyncio.run(main())
    return watch


def aiohttp_async(port: int, asked: list[bytes]) -> Watch:
    import aiohttp

    watch = Watch()

    async def main() -> None:
        todo = iter(asked)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as client:

            async def work() -> None:
                for body in todo:
                    url = f"http://127.0.0.1:{port}/v1/chat/completions"
                    async with client.post(url, data=body, headers=HEADERS) as response:
                        await response.json()
                    watch.answered()

            await asyncio.gather(*(work() for _ in range(CONNECTIONS)))

    asyncio.run(main())
    return watch


CLIENTS = {
    "http.client, threads": ("http", standard_library),
    "aiohttp": ("aiohttp", aiohttp_async),
    "httpx2, threads": ("httpx2", httpx_in_threads),
    "httpx2, asyncio": ("httpx2", httpx_async),
}


# The adapter -----------------------------------------------------------------------------------------------------


def adapter(port: int, images: list[bytes]) -> tuple[Watch, float]:
    """512 questions through the adapter, and the CPU seconds that encoding their images takes by itself."""
    from harness.adapters.served import ServedSpec
    from harness.adapters.served.chat import Served
    from harness.clock import Clock
    from harness.records import Media, Request

    url = f"http://127.0.0.1:{port}/v1"
    model = Served(ServedSpec(base_url=url, model="m", concurrency=CONNECTIONS))
    model.load("cpu", Clock())
    media = [Media("image", f"image {i}", image) for i, image in enumerate(images)]
    before = time.process_time()
    for medium in media:
        model.encoder._image(medium)
    encoding = (time.process_time() - before) / REQUESTS * 1000
    watch = Watch()
    asked = ((i, Request((media[i // SHARED_BY], "What is it?"))) for i in range(REQUESTS))
    for _, answer in model.stream(asked):
        assert answer.text == "red", answer
        watch.answered()
    assert model.encoder.encoded == len(media)
    model.close()
    return watch, encoding


def main(words: list[str]) -> int:
    context = multiprocessing.get_context("spawn")
    ports = context.Queue()
    server = context.Process(target=serve, args=(ports,), daemon=True)
    server.start()
    port = ports.get()
    print(f"{REQUESTS} requests, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    if not words:
        good = False
        for _ in range(5):
            watch, encoding = adapter(port, pictures(REQUESTS // SHARED_BY + 1))
            ratio, cpu = watch.say("the adapter")
            print(f"{'':28} of which {encoding:.2f} CPU-s encode images")
            good |= ratio >= 0.9 and cpu - encoding <= 1.5
        return int(not good)
    asked = bodies()
    for _ in range(3):
        for name, (module, client) in CLIENTS.items():
            if find_spec(module):
                client(port, asked).say(name)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
