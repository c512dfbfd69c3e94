"""The inline engine: a job whose model is an object of this process, such as a model in a notebook, runs right here.

There is no isolation: a crash ends the caller too, and memory is not freed afterwards. The latency is not that of a
fresh process, and the cell says so.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

from harness.adapter import Adapter
from harness.run import worker
from harness.run.messages import CellEnded, Event, Job, Timed

NOTE = "asked in the caller's own process: load, latency and memory are not those of a fresh one"


class InlineEngine:
    """Runs the jobs of one adapter that exists already."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter
        self.stopping = False
        self._paused = False

    def run(self, job: Job) -> Generator[Event]:
        """The job's events, each with the remark that it ran in this process where figures are in it."""
        self.adapter.spec = job.model  # with its dtype resolved, as any adapter has it
        for event in worker.run(job, lambda: self.stopping, self.adapter, lambda: self._paused):
            match event:
                case CellEnded(_, _, _, note):
                    yield replace(event, note="; ".join(filter(None, (note, NOTE))))
                case Timed(_, figures):
                    yield replace(event, figures=figures | {"note": NOTE})
                case _:
                    yield event

    def pause(self, pausing: bool) -> None:
        """Have a stream ask nothing more while this is so."""
        self._paused = pausing

    def stop(self) -> None:
        """Let the batch in hand finish, and ask nothing more."""
        self.stopping = True

    def kill(self) -> None:
        """Interrupt whatever this process is doing, as Ctrl-C does in any Python program."""
        self.stopping = True
        raise KeyboardInterrupt
