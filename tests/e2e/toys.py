"""Adapters without torch, for tests of the engine: quick to load, and able to go wrong in every way on demand."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.adapter import Adapter
from harness.clock import Clock
from harness.errors import SampleError
from harness.records import Answer, Media, Request, Route


class Toy(Adapter):
    """Answers from the question alone. `fault` on the requests that contain `trigger`; `diary` is a file that says on
    which device it was loaded, and when."""

    def __init__(
        self, spec: Any, fault: str = "", trigger: str = "", delay: float = 0.0, look: bool = False, diary: str = ""
    ) -> None:
        super().__init__(spec)
        self.fault, self.trigger, self.delay, self.look, self.diary = fault, trigger, delay, look, diary

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

    def prepare(self, requests: Sequence[Request], route: Route) -> Any:
        if self.look:
            from harness.media import open_image

            for request in requests:
                for medium in request.media("image"):
                    open_image(medium)
        return list(requests)

    def _wait(self, requests: Sequence[Request]) -> None:
        time.sleep(self.delay)
        if not self.trigger or any(self.trigger in request.text for request in requests):
            match self.fault:
                case "raise":
                    raise SampleError("cannot answer this one")
                case "crash":
                    os.kill(os.getpid(), signal.SIGSEGV)
                case "killed":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "hang":
                    time.sleep(3600)
                case "memory" if len(requests) > 2:
                    raise MemoryError


class ToyGenerator(Toy):
    def generate(self, inputs: list[Request]) -> list[Answer]:
        self._wait(inputs)
        answers = [Answer("yes" if "Is" in request.text else "two", tokens_out=1) for request in inputs]
        for answer, request in zip(answers, inputs, strict=True):
            if self.fault == "type" and self.trigger in request.text:
                answer.text = b"no text"  # pyright: ignore[reportAttributeAccessIssue]
        return answers[:-1] if self.fault == "short" else answers


class ToyLooker(Toy):
    """Says the name of the picture's file, so that a test sees which one it was shown; cannot be asked without one."""

    needs = ("image",)

    def generate(self, inputs: list[Request]) -> list[Answer]:
        return [Answer(os.path.basename(request.media("image")[0].key)) for request in inputs]


class ToyEncoder(Toy):
    def embed(self, inputs: list[Request]) -> np.ndarray:
        self._wait(inputs)
        rows = np.stack([self._vector(request) for request in inputs])
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        for row, request in zip(rows, inputs, strict=True):
            if self.fault == "nan" and self.trigger in request.text:
                row[0] = np.nan
        return rows[:, : 3 + len(inputs)] if self.fault == "width" else rows

    def _vector(self, request: Request) -> np.ndarray:
        keys = [part.key if isinstance(part, Media) else part for part in request.parts]
        seed = hashlib.sha256("|".join(os.path.basename(key).split(".")[0] for key in keys).encode()).digest()
        return np.frombuffer(seed, dtype=np.uint8).astype(np.float32) - 127.5
