"""Progress for the person at the terminal: a live bar there, plain lines elsewhere (a log, a pipe)."""

from __future__ import annotations

import threading
import time
from typing import Any

from rich.console import Console

from harness.errors import printable
from harness.store.secrets import masked

EVERY = 15.0
"""Seconds between plain lines."""


class Progress:
    """Counts items over all cells; shows the model at work, samples a second and the remaining time."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bar: Any = None
        self._task: Any = None
        self._total = self._done = 0
        self._began = self._said = time.monotonic()
        self._fresh = 0
        self._cell = ""
        self._counting = threading.Lock()

    def start(self, total: int, done: int) -> None:
        """Begin: `done` of `total` items were there before."""
        self._total, self._done = total, done
        self._began = self._said = time.monotonic()
        if self.console.is_terminal:
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (TextColumn("{task.description}"), BarColumn(None), MofNCompleteColumn())
            rate = TextColumn("{task.fields[rate]}")
            self._bar = Bar(
                *columns, rate, TimeElapsedColumn(), TimeRemainingColumn(), console=self.console, expand=True
            )
            self._bar.start()
            self._task = self._bar.add_task("starting", total=total, completed=done, rate="")

    def model(self, name: str, items: int) -> None:
        """A model begins, with that many items to do."""
        self._describe(f"{name}: loading")
        if self._bar is None:
            self.say(f"{name}: {items} to do")

    def cell(self, key: str) -> None:
        self._cell = key
        self._describe(key)

    def timing(self, key: str) -> None:
        """The full latency pass of a cell begins."""
        self._describe(f"{key}: timing")
        if self._bar is None:
            self.say(f"{key}: timing")

    def advance(self, items: int) -> None:
        """Count items that have come to be on disk."""
        with self._counting:
            self._done += items
            self._fresh += items
        now = time.monotonic()
        rate = self._fresh / max(1e-9, now - self._began)
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, rate=f"{rate:.0f}/s")
        elif now - self._said > EVERY:
            self._said = now
            left = (self._total - self._done) / max(rate, 1e-9)
            self.say(f"{self._cell}: {self._done} of {self._total}, {rate:.0f}/s, about {left:.0f} s left")

    def say(self, text: str) -> None:
        """A plain line; at a terminal the bar says it."""
        if self._bar is None:
            self.console.print(printable(masked(text)), highlight=False, markup=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """A line that must be seen."""
        from rich.text import Text

        self.console.print(Text(printable(masked(text)), style="yellow"), soft_wrap=True)

    def stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _describe(self, text: str) -> None:
        if self._bar is not None:
            self._bar.update(self._task, description=printable(masked(text)))
