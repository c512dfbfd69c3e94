"""How much memory the media of prepared batches take: so many of them are decoded ahead as there is room for.

A batch is prepared while the one before it is computed, and what it holds is not known from its number of samples: 32
photos may be 20 MB or 20 GB. Half of the room is for parts that are prepared ahead, and half for the one that is
prepared when its turn has come, so that neither waits for the other.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence

from harness.errors import MediaError
from harness.records import Request


class Room:
    """Room for `size` bytes of decoded media. Two threads share it."""

    def __init__(self, size: int) -> None:
        self.half = size // 2
        self._taken = 0
        self._lock = threading.Lock()

    def too_large(self, size: int) -> MediaError | None:
        """Why a request whose media take so much cannot be asked; None where it can."""
        if size <= self.half:
            return None
        return MediaError(
            f"Its media decode to {size / 2**30:.2f} GiB, and {self.half / 2**30:.2f} GiB are allowed (half of "
            "engine.media_gib)."
        )

    def parts(
        self, requests: Sequence[Request], sizes: Mapping[Request, int], most: int
    ) -> Iterator[tuple[list[Request], int]]:
        """The requests in parts of at most `most`, none of which takes more than half of the room, with what each
        takes."""
        part: list[Request] = []
        taken = 0
        for request in requests:
            if part and (len(part) == most or taken + sizes[request] > self.half):
                yield part, taken
                part, taken = [], 0
            part.append(request)
            taken += sizes[request]
        if part:
            yield part, taken

    def take(self, size: int) -> bool:
        """Whether a part that takes so much may be prepared ahead; its room is then taken until it `leave`s."""
        with self._lock:
            if self._taken + size > self.half:
                return False
            self._taken += size
            return True

    def leave(self, size: int) -> None:
        """Give back what a part took."""
        with self._lock:
            self._taken -= size
