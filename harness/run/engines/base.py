"""What an engine is: it carries a job's events from wherever the job runs to the driver, in order, and nothing else."""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol

from harness.run.messages import Event, Job


class Engine(Protocol):
    """Runs one job at a time."""

    @property
    def stopping(self) -> bool:
        """Whether `stop` or `kill` was called: no other job will run."""
        ...

    def run(self, job: Job) -> Generator[Event]:
        """The job's events, in order; a process that ends without a word becomes a Died event."""
        ...

    def pause(self, pausing: bool) -> None:
        """Have the job ask nothing more while this is so, if it streams; one that begins later, too."""
        ...

    def stop(self) -> None:
        """End the job after the batch in hand, and start no other one."""
        ...

    def kill(self) -> None:
        """End the job at once."""
        ...
