"""What went wrong, and what follows from it: whether to wait, to ask for less, or to end the process.

Errors of libraries are told by name or text, so that the libraries need not be there.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from harness.errors import MediaError, OutOfBudget, Refused, SampleError, TransientError, UserError, alike
from harness.store.secrets import masked

PAUSES = (1.0, 4.0, 15.0)
"""Seconds before what may pass is tried again."""
_PASSING = {"ConnectionError", "TimeoutError", "Timeout", "TimeoutException", "NetworkError"}


FIRST = 20
"""A cell whose first so many items all fail with the same error of the adapter is given up."""


class NotAsked(Exception):
    """In the place of an item's outcome: it was not asked, because its cell has been given up."""


class FirstOutcomes:
    """Whether a cell's first outcomes are one error of the adapter over and over. Media that do not open never count.

    A cell that was `begun` before in another process has had its first outcomes.
    """

    def __init__(self, begun: bool = False) -> None:
        self.over = begun
        """Whether the adapter has answered, or failed in several ways: then it goes on to the end."""
        self.count = 0
        self.error = ""

    def note(self, outcome: Any) -> None:
        """Take the next item's outcome into account."""
        if self.over or isinstance(outcome, NotAsked) or _of_media(outcome):
            return
        error = describe(outcome) if isinstance(outcome, Exception) and not isinstance(outcome, Refused) else ""
        if not error or (self.error and alike(error) != alike(self.error)):
            self.over = True
            return
        self.error = self.error or error
        self.count += 1

    @property
    def hopeless(self) -> bool:
        """Whether there were enough outcomes, all of them the same error."""
        return not self.over and self.count >= FIRST


def _of_media(outcome: Any) -> bool:
    """Whether an error comes, through whatever others, from a picture or clip that does not open."""
    step = outcome if isinstance(outcome, BaseException) else None
    while step is not None and not isinstance(step, MediaError):
        step = step.__cause__ or step.__context__
    return step is not None


GOOD_BATCHES = 16
"""After so many batches without a want of memory, larger calls are tried again."""
MOST_RISES = 3
"""So often are larger calls tried again in a cell: each trial may cost calls that fail."""


class CallSize:
    """How many requests go into one call of the adapter, by what memory has allowed.

    A batch that memory does not allow is asked in halves, and the next one is tried whole again: what filled the memory
    may have been one large picture, or a neighbour. Where the next one fails as well, the size that fitted is kept, and
    doubled after GOOD_BATCHES.
    """

    def __init__(self, largest: int) -> None:
        self.kept = self.now = self.largest = largest
        """`now` holds for the batch in hand, `kept` for the ones that follow."""
        self.failed = 0
        """Batches that were asked in halves because memory ran out."""
        self._failed_before = False
        self._good = self._rises = 0

    def ran_out(self, requests: int) -> None:
        """A call of so many requests, two or more, found too little memory."""
        self.now = min(self.now, (requests + 1) // 2)

    def end_batch(self) -> None:
        """The batch in hand is done: decide the size for the next one."""
        if self.now < self.kept:
            self.failed += 1
            self._good = 0
            if self._failed_before:
                self.kept = self.now
            self._failed_before = not self._failed_before
        else:
            self._failed_before = False
            self._good += 1
            if self.kept < self.largest and self._good >= GOOD_BATCHES and self._rises < MOST_RISES:
                self.kept = min(2 * self.kept, self.largest)
                self._good = 0
                self._rises += 1
        self.now = self.kept


class DeviceLost(BaseException):
    """The device does not answer this process any more; the message is that of the library's error."""


def describe(error: BaseException) -> str:
    """An error in one line: its message, and before it its kind unless the message was written for people."""
    text = masked(" ".join(_message(error).split()))[:500].encode(errors="replace").decode()
    return text if isinstance(error, UserError | SampleError | OutOfBudget) else f"{type(error).__name__}: {text}"


def _message(error: BaseException) -> str:
    """The text of an error, which may be at fault itself where it is somebody's own."""
    try:
        return str(error)
    except Exception:
        return "(its message cannot be read)"


def may_pass(error: BaseException) -> bool:
    """Whether trying again may help: TransientError, Python's own network errors, and those of HTTP libraries."""
    return isinstance(error, TransientError) or any(kind.__name__ in _PASSING for kind in type(error).__mro__)


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on the host or the device."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    signs = ("out of memory", "can't allocate memory", "ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(sign in _message(error) for sign in signs)


def device_lost(error: BaseException) -> bool:
    """Whether the device is of no more use to this process: after most CUDA errors every later call fails too."""
    named = type(error).__name__ == "AcceleratorError" or "CUDA error:" in _message(error)
    return isinstance(error, RuntimeError) and named and not out_of_memory(error)


@contextmanager
def no_exit() -> Iterator[None]:
    """Within it an adapter that calls sys.exit(), or raises what no library should, fails as with any other error, and
    ends nothing. A KeyboardInterrupt goes through: it may be the person's."""
    try:
        yield
    except SystemExit as error:
        raise RuntimeError(f"the adapter called sys.exit({error.code!r})") from error
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise RuntimeError(f"the adapter raised {describe(error)}") from error


def caught(call: Callable[..., Any], *arguments: Any) -> Any:
    """What the call returns, or the error that it raises."""
    try:
        return call(*arguments)
    except Exception as error:
        return without_frames(error)


def without_frames(error: Exception) -> Exception:
    """The same error without the frames it came through, which would keep the tensors of the failed call alive."""
    step: BaseException | None = error
    while step is not None and step.__traceback__ is not None:
        traceback.clear_frames(step.__traceback__)
        step.__traceback__ = None
        step = step.__cause__ or step.__context__
    return error


def free_memory() -> None:
    """Give back what a failed call has left, on the host and in torch's cache of device memory."""
    import gc
    import sys

    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
