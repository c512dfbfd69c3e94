"""Ctrl-C and SIGTERM: the first one stops after the batch in hand, a second one ends everything at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from harness.run.engines.base import Engine
from harness.run.progress import Progress


class Interrupts:
    """Counts how often the person has pressed Ctrl-C."""

    count = 0


@contextmanager
def interruptible(engines: Sequence[Engine], progress: Progress) -> Iterator[Interrupts]:
    interrupts = Interrupts()

    def interrupt(_signal: int, _frame: Any) -> None:
        interrupts.count += 1
        if interrupts.count == 1:
            progress.warn("stopping after this batch (Ctrl-C again stops now)")
        for engine in engines:
            engine.stop() if interrupts.count == 1 else engine.kill()

    kinds = (signal.SIGINT, signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread():  # Python lets no other thread have signals
        kinds = ()
    previous = {kind: signal.signal(kind, interrupt) for kind in kinds}
    try:
        yield interrupts
    finally:
        for kind, handler in previous.items():
            signal.signal(kind, handler)
