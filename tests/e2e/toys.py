"""Adapters without torch, for tests of the engine: quick to load, and able to go wrong in every way on demand."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.adapter import Adapter
from harness.clock import Clock
from harness.errors import Refused, SampleError, TransientError
from harness.records import Answer, Media, Request, Route


class AcceleratorError(RuntimeError):
    """Named like torch's: after it, every call of the process fails."""


class Toy(Adapter):
    """Answers from the question alone. `fault` on the requests that contain `trigger`; `diary` is a file that says on
    which device it was loaded, and when; `notes` a folder where some faults count, so that they end: a process that is
    started anew forgets. Requests that contain `held_at` wait as long as a file `hold` lies there, and say so by a
    file `held`: a test has the run stand still where it wants it. It answers only `after` the diary says that the model
    of this name is closed."""

    def __init__(
        self,
        spec: Any,
        fault: str = "",
        trigger: str = "",
        delay: float = 0.0,
        look: bool = False,
        listen: bool = False,
        diary: str = "",
        notes: str = "",
        held_at: str = "",
        after: str = "",
    ) -> None:
        super().__init__(spec)
        self.fault, self.trigger, self.delay, self.look, self.listen = fault, trigger, delay, look, listen
        self.diary, self.notes, self.held_at = diary, Path(notes), held_at
        self.after = after
        self.held: list[Any] = []

    def _note(self, what: str) -> None:
        if self.diary:
            with open(self.diary, "a") as file:
                file.write(json.dumps([what, self.name, self.device, time.time()]) + "\n")

    def close(self) -> None:
        self._note("close")

    def load(self, device: str, clock: Clock) -> None:
        self.name, self.device = self.spec.developer, device
        self._note("load")
        if self.fault == "load":
            raise OSError("the weights are not there")
        if self.fault == "child":
            (self.notes / "child").write_text(str(subprocess.Popen(["sleep", "3600"]).pid))
        if self.fault == "load hangs":
            time.sleep(3600)
        if self.fault == "load crashes":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.fault == "load killed once" and self._count("load") == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    def _count(self, name: str) -> int:
        """How often this has been called in the run, this time included."""
        with (self.notes / name).open("a") as file:
            file.write("x")
        return (self.notes / name).stat().st_size

    def prepare(self, requests: Sequence[Request], route: Route) -> Any:
        if self.fault == "crash in prepare" and any(self.trigger in request.text for request in requests):
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.listen:
            from harness.media import open_audio

            for request in requests:
                for medium in request.media("audio"):
                    open_audio(medium, 16_000)
        if self.look:
            from harness.media import open_image

            for request in requests:
                for medium in request.media("image"):
                    open_image(medium)
        return list(requests)

    def _wait(self, requests: Sequence[Request]) -> None:
        time.sleep(self.delay)
        if self.held_at and any(self.held_at in _seen(request) for request in requests):
            while (self.notes / "hold").exists():
                (self.notes / "held").touch()
                time.sleep(0.01)
        while self.after and f'["close", "{self.after}"' not in Path(self.diary).read_text():
            time.sleep(0.01)
        if not self.trigger or any(self.trigger in request.text for request in requests):
            match self.fault:
                case "raise":
                    raise SampleError("cannot answer this one")
                case "broken" if (self.notes / "broken").exists():
                    raise OSError(f"the weights are torn at call {self._count('asked')}")
                case "crash":
                    os.kill(os.getpid(), signal.SIGSEGV)
                case "killed":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "killed twice" if self._count("kills") <= 2:
                    os.kill(os.getpid(), signal.SIGKILL)
                case "crash, then narrow" if self._count("kills") == 1:
                    os.kill(os.getpid(), signal.SIGSEGV)
                case "exit":
                    sys.exit(3)
                case "hang":
                    time.sleep(3600)
                case "stuck":  # in a library's call that does not let the interpreter go
                    (self.notes / "stuck").touch()
                    ctypes.PyDLL(None).sleep(3600)
                case "leak":  # as the kernel ends what takes too much
                    self.held.append(bytearray(os.urandom(1)) * 20_000_000)
                    if len(self.held) > 3:
                        os.kill(os.getpid(), signal.SIGKILL)
                case "memory" if len(requests) > 2:
                    raise MemoryError
                case "device memory" if len(requests) > 5:
                    (self.notes / f"{len(requests)} at {time.monotonic_ns()}").touch()
                    import torch

                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
                case "large batches killed" if len(requests) > 4:
                    os.kill(os.getpid(), signal.SIGKILL)
                case "device lost":
                    self.fault, self.trigger = "device is lost", ""
                    self._wait(requests)
                case "device is lost":
                    raise AcceleratorError("CUDA error: device-side assert triggered")
                case "busy" if self._count("asked") < 3:
                    raise TransientError("the server is busy")
                case "refused" if self._count("asked") < 3:
                    raise ConnectionRefusedError("nobody listens")
                case "down":
                    self._count("asked")
                    raise TransientError("the server is down")
                case "crowd" if len(requests) > 2:
                    os.kill(os.getpid(), signal.SIGSEGV)


def _seen(request: Request) -> str:
    """The text of a request, and the names of its files."""
    return " ".join([request.text, *(os.path.basename(part.key) for part in request.parts if isinstance(part, Media))])


class ToyGenerator(Toy):
    def generate(self, inputs: list[Request]) -> list[Answer]:
        self._wait(inputs)
        answers = [Answer("yes" if "Is" in request.text else "two", tokens_out=1) for request in inputs]
        for answer, request in zip(answers, inputs, strict=True):
            if self.trigger in request.text:
                match self.fault:
                    case "type":
                        answer.text = b"no text"  # pyright: ignore[reportAttributeAccessIssue]
                    case "tokens":
                        answer.tokens_out = np.int64(1)  # pyright: ignore[reportAttributeAccessIssue]
                    case "surrogate":
                        answer.text = "half a \ud83d"
        if self.fault == "nothing":
            return None  # pyright: ignore[reportReturnType]
        return answers[:-1] if self.fault == "short" else answers


class ToyStreamer(Toy):
    """Answers as a ToyGenerator does, but by `stream`: four requests at a time, out of order, each after `delay`. A
    line of `notes/calls` is a call of its server, busy at `every seventh` where it is told so: it waits and repeats."""

    concurrency = 4
    calls = 0
    calling = threading.Lock()

    def stream(self, requests: Iterator[tuple[int, Request]]) -> Iterator[tuple[int, Answer | Exception]]:
        from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

        with ThreadPoolExecutor(self.concurrency) as pool:
            waiting: dict[Future[Answer | Exception], int] = {}
            for index, request in requests:
                waiting[pool.submit(self._ask, request)] = index
                if len(waiting) == self.concurrency:
                    for done in wait(waiting, return_when=FIRST_COMPLETED).done:
                        yield waiting.pop(done), done.result()
            for done, index in waiting.items():
                yield index, done.result()

    def _ask(self, request: Request) -> Answer | Exception:
        while True:
            with self.calling, (self.notes / "calls").open("a") as file:
                file.write(f"{request.text.splitlines()[0]}\n")
                (self.notes / f"{time.monotonic():.3f} {self.name} {self.calls}").touch()
                self.calls += 1
                busy = self.fault == "every seventh" and not self.calls % 7
            if not busy:
                break
            time.sleep(0.01)
        try:
            self._wait([request])
        except SampleError as error:
            return error
        if self.fault == "refuse" and self.trigger in request.text:
            return Refused("the filter stopped it")
        return Answer("yes" if "Is" in request.text else "two", 5, 1, served_by="toy-1")


class ToyLooker(Toy):
    """Says the name of the picture's file, so that a test sees which one it was shown; cannot be asked without one."""

    needs = ("image",)

    def generate(self, inputs: list[Request]) -> list[Answer]:
        return [Answer(os.path.basename(request.media("image")[0].key)) for request in inputs]


class ToyRanker(Toy):
    """Prefers the first choice; a fault of its scores on the requests that contain `trigger`."""

    def rank(self, inputs: list[Request]) -> list[np.ndarray]:
        self._wait(inputs)
        rows = [-np.arange(len(request.choices), dtype=np.float32) for request in inputs]
        for i, request in enumerate(inputs):
            if self.trigger in request.text:
                match self.fault:
                    case "nan":
                        rows[i][0] = np.nan
                    case "few":
                        rows[i] = rows[i][:-1]
        return rows


class ToyEncoder(Toy):
    def embed(self, inputs: list[Request]) -> np.ndarray:
        self._wait(inputs)
        rows = np.stack([self._vector(request) for request in inputs])
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        for row, request in zip(rows, inputs, strict=True):
            if self.fault == "nan" and self.trigger in request.text:
                row[0] = np.nan
        if self.fault == "width" and any(self.trigger in request.text for request in inputs):
            return rows[:, :-1]
        if self.fault == "crash, then narrow" and (self.notes / "kills").exists():
            return rows[:, :-1]
        return rows.ravel() if self.fault == "shape" else rows

    def _vector(self, request: Request) -> np.ndarray:
        keys = [part.key if isinstance(part, Media) else part for part in request.parts]
        seed = hashlib.sha256("|".join(os.path.basename(key).split(".")[0] for key in keys).encode()).digest()
        return np.frombuffer(seed, dtype=np.uint8).astype(np.float32) - 127.5
