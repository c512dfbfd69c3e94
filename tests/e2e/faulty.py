"""Adapters that are each wrong in a way of their own: `options: {fault: NAME}` chooses it. Made for one run of all.

A fault shows at the question of number 5 where its name is followed by nothing else, so that the other eleven tell
whether anything else was harmed. What each is to cost stands in `test_sixty_faults.py`.
"""

from __future__ import annotations

import ctypes
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.adapter import Adapter
from harness.clock import Clock
from harness.errors import SampleError
from harness.records import Answer, Request, Route

LABELS = ("cat", "dog")
TRIGGER = 5


def number(request: Request) -> int:
    """The number of the question, or where there is none, of the picture."""
    pictures = request.media("image")
    return int(re.findall(r"\d+", request.text or pictures[0].key)[-1])


def label(request: Request) -> str:
    """The label that is to be embedded; nothing where it is a picture."""
    return "" if request.media("image") else next(label for label in LABELS if label in request.text)


def right(request: Request) -> str:
    return LABELS[number(request) % 2]


class Unsayable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("an error without words")


class Sly(Answer):
    @property
    def text(self) -> str:  # type: ignore[override]
        raise RuntimeError("a text that cannot be read")

    @text.setter
    def text(self, value: str) -> None:
        pass


def throw(error: BaseException) -> Any:
    raise error


def deep() -> int:
    return deep() + 1


def kill(number: int) -> None:
    os.kill(os.getpid(), number)


AT_TRIGGER: dict[str, Callable[[], Any]] = {
    "ValueError": lambda: throw(ValueError("no")),
    "SampleError": lambda: throw(SampleError("not this one")),
    "KeyError": lambda: throw(KeyError("caption")),
    "error of many lines": lambda: throw(RuntimeError("a\nb\x1b[31m\x07" * 10_000)),
    "error without words": lambda: throw(Unsayable()),
    "half a character": lambda: throw(RuntimeError("\ud800")),
    "StopIteration": lambda: throw(StopIteration()),
    "KeyboardInterrupt": lambda: throw(KeyboardInterrupt()),
    "GeneratorExit": lambda: throw(GeneratorExit()),
    "BaseException": lambda: throw(BaseException("no")),
    "recursion": deep,
    "sys.exit": lambda: sys.exit(0),
    "os._exit": lambda: os._exit(0),
    "SIGKILL": lambda: kill(signal.SIGKILL),
    "SIGSEGV": lambda: kill(signal.SIGSEGV),
    "SIGTERM": lambda: kill(signal.SIGTERM),
    "abort": lambda: ctypes.CDLL(None).abort(),
    "MemoryError": lambda: throw(MemoryError()),
    "CUDA memory": lambda: throw(RuntimeError("CUDA error: out of memory")),
}
"""What a method does when it meets the trigger, by the name of the fault."""

ANSWERS: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "a text": lambda: "cat",
    "an array": lambda: np.zeros(3),
    "no text": lambda: Answer(None),  # type: ignore[arg-type]
    "bytes": lambda: Answer(b"cat"),  # type: ignore[arg-type]
    "a number": lambda: Answer(5),  # type: ignore[arg-type]
    "a text that cannot be read": lambda: Sly("cat"),
    "half a character": lambda: Answer("\ud83d"),
    "tokens below none": lambda: Answer("cat", 1, -1),
    "tokens without end": lambda: Answer("cat", 1, 10**5000),
    "tokens that are true": lambda: Answer("cat", 1, True),
    "tokens that are halves": lambda: Answer("cat", 1, 1.5),  # type: ignore[arg-type]
    "an exception": lambda: SampleError("not this one"),
}
"""What stands in the place of the trigger's answer."""

SCORES: dict[str, Callable[[], Any]] = {
    "nan": lambda: [float("nan"), 0],
    "inf": lambda: [float("inf"), 0],
    "large": lambda: [1e300, 0],
    "few": lambda: [1.0],
    "many": lambda: [1.0, 2.0, 3.0],
    "matrix": lambda: [[1.0, 2.0]],
    "texts": lambda: ["a", "b"],
    "objects": lambda: [object(), object()],
    "none": lambda: None,
}
VECTORS: dict[str, Callable[[], Any]] = {
    "nan": lambda: [float("nan")] * 4,
    "inf": lambda: [float("inf")] * 4,
    "zeros": lambda: [0.0] * 4,
    "wide": lambda: [0.5] * 5,
    "texts": lambda: ["a"] * 4,
}


class Faulty(Adapter):
    """What all have in common: faults of loading, preparing and closing."""

    def __init__(self, spec: Any, fault: str = "", notes: str = "") -> None:
        super().__init__(spec)
        self.fault, self.notes = fault, notes

    def load(self, device: str, clock: Clock) -> None:
        match self.fault:
            case "load: raises":
                raise OSError("the weights are not there")
            case "load: sys.exit":
                sys.exit(0)
            case "load: os._exit":
                os._exit(0)
            case "load: KeyboardInterrupt":
                raise KeyboardInterrupt
            case "load: prints":
                for _ in range(1000):
                    print("loading " * 100)
                    print("loading " * 100, file=sys.stderr)
                    warnings.warn("loading", stacklevel=1)
            case "load: closes its outputs":
                for descriptor in (0, 1, 2):
                    os.close(descriptor)
            case "load: a thread without end":
                threading.Thread(target=lambda: time.sleep(3600)).start()
            case "load: a child without end":
                Path(self.notes).write_text(str(subprocess.Popen(["sleep", "3600"]).pid))
            case "load: another folder":
                os.chdir("/")
            case "load: deaf to signals":
                for deaf in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                    signal.signal(deaf, signal.SIG_IGN)
            case "load: chance is seeded":
                random.seed(0)
                np.random.seed(0)
            case "load: numpy raises":
                np.seterr(all="raise")

    def close(self) -> None:
        match self.fault:
            case "close: raises":
                raise RuntimeError("cannot close")
            case "close: sys.exit":
                sys.exit(3)
            case "close: os._exit":
                os._exit(3)
            case "close: SIGKILL":
                kill(signal.SIGKILL)

    def prepare(self, requests: Sequence[Request], route: Route) -> Any:
        assert isinstance(requests, list)
        match self.fault:
            case "prepare: sorts":
                kept = list(requests)
                requests.sort(key=number, reverse=True)
                return kept
            case "prepare: empties":
                kept = list(requests)
                requests.clear()
                return kept
            case "prepare: gives nothing":
                return None
        self._at("prepare", requests)
        return list(requests)

    def text_cut(self, inputs: Any) -> Sequence[bool]:
        match self.fault:
            case "text_cut: raises":
                raise RuntimeError("no")
            case "text_cut: too few":
                return [True] * (len(inputs) + 1)
        return ()

    def _at(self, place: str, requests: Sequence[Request]) -> None:
        where, _, fault = self.fault.partition(": ")
        if where == place and fault in AT_TRIGGER and any(map(self._triggers, requests)):
            AT_TRIGGER[fault]()

    def _triggers(self, request: Request) -> bool:
        return number(request) == TRIGGER

    def _in_place(
        self, requests: Sequence[Request], rows: list[Any], faults: dict[str, Callable[[], Any]]
    ) -> list[Any]:
        fault = self.fault.removeprefix("gives: ")
        if fault == self.fault or fault not in faults:
            return rows
        return [faults[fault]() if self._triggers(r) else row for r, row in zip(requests, rows, strict=True)]


class FaultyGenerator(Faulty):
    def generate(self, requests: list[Request]) -> Any:
        self._at("answer", requests)
        there = any(map(self._triggers, requests))
        answers = self._in_place(requests, [Answer(right(request), 4, 1) for request in requests], ANSWERS)
        match self.fault:
            case "gives: too few" if there:
                answers.pop()
            case "gives: too many" if there:
                answers.append(Answer("cat"))
            case "gives: a generator":
                return (answer for answer in answers)
            case "gives: a mapping":
                return dict(enumerate(answers))
            case "memory for two" if len(requests) > 2:
                raise MemoryError
            case "2 million characters":
                answers = [Answer(right(r) + " " * 2_000_000 if number(r) == TRIGGER else right(r)) for r in requests]
            case "control characters":
                answers = [
                    Answer(right(r) + "\x00\x1b[2J\x07\u202e\u2028\r\n" * (number(r) == TRIGGER)) for r in requests
                ]
        return answers


class FaultyRanker(Faulty):
    def rank(self, requests: list[Request]) -> Any:
        self._at("answer", requests)
        return self._in_place(requests, [[float(c == right(r)) for c in r.choices] for r in requests], SCORES)


class FaultyEncoder(Faulty):
    def load(self, device: str, clock: Clock) -> None:
        super().load(device, clock)
        if self.fault.startswith("scale: "):
            self.logit_scale: Any = {"inf": float("inf"), "nan": float("nan"), "text": "large", "None": None}[
                self.fault.removeprefix("scale: ")
            ]

    def embed(self, requests: list[Request]) -> Any:
        self._at("answer", requests)
        rows = [self._vector(request) for request in requests]
        rows = self._in_place(requests, rows, VECTORS)
        match self.fault:
            case "gives: width 0":
                return np.zeros((len(requests), 0))
            case "gives: labels of zeros":
                return [[0.0] * 4 if label(r) else row for r, row in zip(requests, rows, strict=True)]
        return rows

    def _triggers(self, request: Request) -> bool:
        return not label(request) and super()._triggers(request)

    @staticmethod
    def _vector(request: Request) -> list[float]:
        return [1.0, 0.0, 0.0, 0.0] if (label(request) or right(request)) == "cat" else [0.0, 1.0, 0.0, 0.0]
