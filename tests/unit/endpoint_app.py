"""An endpoint for tests: OpenAI's protocol over plain HTTP, with whatever faults a test asks for.

A script decides each call's reply: `app.script(body, number)` returns a reply or raises nothing; see the helpers.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DROP, HALF = "drop", "half"


def answer(text: str = "red", finish: str = "stop", usage: Mapping[str, Any] | None = None, **message: Any) -> dict:
    usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12} if usage is None else usage
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}
    return {"model": "the-served-name", "choices": [choice], **({"usage": usage} if usage else {})}


def error(status: int, message: str, code: str = "", headers: Mapping[str, str] | None = None) -> tuple:
    return status, {"error": {"message": message, "code": code}}, headers or {}


def question(body: Mapping[str, Any]) -> str:
    """The text of the last message."""
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else "\n".join(p["text"] for p in content if p["type"] == "text")


class App:
    """`script(body, number)` gives for each call (number from 0) an answer, an error, DROP or HALF."""

    def __init__(self, script: Callable[[dict, int], Any], delay: float = 0.0) -> None:
        self.script, self.delay = script, delay
        self.calls: list[dict] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.open: list[Any] = []
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()
        app = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                app.open.append(self.connection)

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                self._send(200, {"data": [{"id": "first-listed"}, {"id": "second"}]}, {})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with app._lock:
                    number = len(app.calls)
                    app.calls.append(body)
                    app.headers.append(dict(self.headers))
                    app.times.append(time.monotonic())
                    app.at_once += 1
                    app.most_at_once = max(app.most_at_once, app.at_once)
                try:
                    time.sleep(app.delay)
                    self._reply(body, app.script(body, number))
                finally:
                    with app._lock:
                        app.at_once -= 1

            def _reply(self, body: dict, reply: Any) -> None:
                if reply == DROP:
                    self.close_connection = True
                    self.connection.close()
                elif reply == HALF or (body.get("stream") and isinstance(reply, dict) and "choices" in reply):
                    self._stream(answer() if reply == HALF else reply, half=reply == HALF)
                elif isinstance(reply, tuple):
                    self._send(*reply)
                else:
                    self._send(200, reply, {})

            def _send(self, status: int, reply: dict, headers: Mapping[str, str]) -> None:
                payload = json.dumps(reply).encode()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def _stream(self, reply: dict, half: bool) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Connection", "close")
                self.end_headers()
                message = reply["choices"][0]["message"]
                events = [{key: piece} for key in ("reasoning_content", "content") for piece in message.get(key) or ""]
                for delta in events[: 1 if half else None]:
                    self._event({"model": reply["model"], "choices": [{"delta": delta}]})
                if not half:
                    self._event({"choices": [{"delta": {}, "finish_reason": reply["choices"][0]["finish_reason"]}]})
                    self._event({"choices": [], "usage": reply.get("usage")})
                    self.wfile.write(b"data: [DONE]\n\n")
                self.close_connection = True

            def _event(self, event: dict) -> None:
                self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
                self.wfile.flush()

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_: Any) -> None:
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def __enter__(self) -> App:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        for connection in self.open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
