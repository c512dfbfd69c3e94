"""Where the labels of a scatter plot go, so that none covers another label or a point."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

Box = tuple[float, float, float, float]
"""Left, bottom, right, top, in pixels."""

_AROUND = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))


def place(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    frame: Box,
    reach: float,
    lines: Sequence[Sequence[Sequence[float]]] = (),
) -> list[Box]:
    """A box for the label of each point, of the given sizes (width, height), inside `frame` if it can be; all in
    pixels.

    Each label takes the first free place around its point, from `reach` pixels away to ever farther ones; where no
    place is free it takes the one with the least overlap. `lines` are upright or level strokes that labels keep clear
    of, each a list of its corners.
    """
    taken: list[Box] = [(x - reach * 0.8, y - reach * 0.8, x + reach * 0.8, y + reach * 0.8) for x, y in points]
    for line in lines:
        for (x, y), (to_x, to_y) in pairwise(line):
            taken.append((min(x, to_x) - 1, min(y, to_y) - 1, max(x, to_x) + 1, max(y, to_y) + 1))
    placed: list[Box] = []
    for (x, y), (width, height) in zip(points, sizes, strict=True):
        best, least = (x, y, x + width, y + height), float("inf")
        for distance in (1.0, 2.2, 3.6, 5.2, 7.0):
            for dx, dy in _AROUND:
                left = x + dx * reach * distance - width * (1 - dx) / 2
                bottom = y + dy * reach * distance - height * (1 - dy) / 2
                box = (left, bottom, left + width, bottom + height)
                cost = sum(_shared(box, other) for other in (*taken, *placed)) + 3 * _outside(box, frame)
                if cost < least - 1e-9:
                    best, least = box, cost
            if least == 0:
                break
        placed.append(best)
    return placed


def _shared(a: Box, b: Box) -> float:
    """The area that two boxes share."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _outside(box: Box, frame: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1]) - _shared(box, frame)
