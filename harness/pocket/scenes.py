"""Pocket scenes: small pictures of handwritten digits and shapes that are made from a seed, as many as wanted.

A real benchmark is gigabytes; this one is generated in a second and still needs eyes. A scene is a 64 x 64 RGB image
of 2 x 2 cells in which two to four objects stand, each a real handwritten digit (scikit-learn's `load_digits`) or a
shape. Kinds and colours are distinct within a scene, so that "the circle" and "the red object" name one object, and to
answer anything about it a model must bind its kind, colour and position to one another. Size, place within the cell,
tint, background and noise vary.

`scene(split, index)` depends on nothing but its arguments: the structure comes from a `random.Random` seeded by a
string (stable across Python versions) and the pixels from integer or plain IEEE arithmetic. The handwritten instances
of the three splits are disjoint. Streams of pictures:

    scenes     2, 3 or 4 objects, in equal shares                         vqa, captioning, retrieval
    listening  3 or 4 objects of which at least 3 are digits              questions about a spoken digit
    closeups   one large object before one or two small ones              classification by kind
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np

Split = Literal["train", "validation", "test"]
Stream = Literal["scenes", "listening", "closeups"]

SIZES: dict[str, int] = {"train": 40_000, "validation": 1_000, "test": 1_000}
"""How many pictures each stream has in a split. Train is made on demand and goes on beyond its size."""
SIDE = 64
"""Pixels along the side of a picture."""
SHAPES = ("circle", "square", "triangle", "star", "cross", "heart")
KINDS = tuple("0123456789") + SHAPES
POSITIONS = ("top left", "top right", "bottom left", "bottom right")
"""The cells in reading order: position p is row p // 2, column p % 2."""
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (225, 45, 45),
    "green": (50, 190, 60),
    "blue": (65, 95, 240),
    "yellow": (235, 220, 60),
    "purple": (175, 70, 205),
    "white": (240, 240, 240),
}

_CELL = SIDE // 2
_OBJECT_SIZES = (20, 22, 24, 26)
_LARGE_SIZES = (36, 40, 44)
_SMALL_SIZES = (14, 16)


@dataclass(frozen=True, slots=True)
class Object:
    """One object in a picture."""

    kind: str
    """One of KINDS."""
    colour: str
    """One of COLOURS."""
    position: int
    """An index into POSITIONS; in a close-up the main object has -1."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What a picture shows, without its pixels (`render` makes those)."""

    stream: Stream
    split: Split
    index: int
    objects: tuple[Object, ...]
    """The objects in reading order; in a close-up the main object comes first."""

    @property
    def id(self) -> str:
        return f"{self.stream}-{self.split}-{self.index}"

    @property
    def digits(self) -> tuple[Object, ...]:
        """The objects that are digits, in order."""
        return tuple(thing for thing in self.objects if thing.kind.isdigit())

    def at(self, position: int) -> Object | None:
        """The object in a cell; None where the cell is empty."""
        return next((thing for thing in self.objects if thing.position == position), None)

    def cells(self) -> list[tuple[int, int]]:
        """Dense labels: (kind, colour) of each cell, as 1 + index into KINDS and COLOURS; (0, 0) where it is empty."""
        colours = list(COLOURS)
        found = [self.at(position) for position in range(len(POSITIONS))]
        return [(1 + KINDS.index(o.kind), 1 + colours.index(o.colour)) if o else (0, 0) for o in found]


def scene(split: Split, index: int) -> Scene:
    """Picture `index` of the stream `scenes`. The number of objects cycles through 2, 3, 4."""
    draw = _draws("scenes", split, index)
    count = 2 + index % 3
    return _scene("scenes", split, index, draw.sample(KINDS, count), draw)


def listening_scene(split: Split, index: int) -> Scene:
    """Picture `index` of the stream `listening`. It has several digits, so that which one is spoken must be heard."""
    draw = _draws("listening", split, index)
    count = 3 + index % 2
    kinds = draw.sample(KINDS[:10], 3)
    kinds += draw.sample([kind for kind in KINDS if kind not in kinds], count - 3)
    draw.shuffle(kinds)
    return _scene("listening", split, index, kinds, draw)


def closeup(split: Split, index: int) -> Scene:
    """Picture `index` of the stream `closeups`. The kind of the main object, objects[0], cycles through KINDS."""
    draw = _draws("closeups", split, index)
    main = KINDS[index % len(KINDS)]
    others = draw.sample([kind for kind in KINDS if kind != main], draw.choice((1, 2)))
    colours = draw.sample(list(COLOURS), 1 + len(others))
    positions = sorted(draw.sample(range(len(POSITIONS)), len(others)))
    rest = [Object(*thing) for thing in zip(others, colours[1:], positions, strict=True)]
    return Scene("closeups", split, index, (Object(main, colours[0], -1), *rest))


MAKERS = {"scenes": scene, "listening": listening_scene, "closeups": closeup}


def render(scene: Scene) -> np.ndarray:
    """The pixels: uint8 [64, 64, 3]. The same scene always gives the same picture."""
    draw = _draws(scene.stream, scene.split, scene.index, "pixels")
    canvas = _background(draw)
    # The main object of a close-up is painted last, over the small ones.
    order = scene.objects[1:] + scene.objects[:1] if scene.stream == "closeups" else scene.objects
    for thing in order:
        if thing.position < 0:
            size = draw.choice(_LARGE_SIZES)
            top, left = (draw.randint(max(0, (SIDE - size) // 2 - 6), (SIDE - size) // 2 + 6) for _ in "yx")
        else:
            size = draw.choice(_SMALL_SIZES if scene.stream == "closeups" else _OBJECT_SIZES)
            row, column = divmod(thing.position, 2)
            if scene.stream == "closeups":  # in the corners, so that the main object leaves something of them
                top, left = row * (SIDE - size), column * (SIDE - size)
            else:
                top = row * _CELL + draw.randint(0, _CELL - size)
                left = column * _CELL + draw.randint(0, _CELL - size)
        mask = _sprite(thing.kind, size, scene.split, draw)[:, :, None]
        tint = np.array([min(255, max(0, c + draw.randint(-15, 15))) for c in COLOURS[thing.colour]], np.int32)
        patch = canvas[top : top + size, left : left + size]
        patch += (tint - patch) * mask // 255
    return canvas.astype(np.uint8)


def _draws(*parts: object) -> random.Random:
    return random.Random("/".join(("pocket", *map(str, parts))))


def _scene(stream: Stream, split: Split, index: int, kinds: list[str], draw: random.Random) -> Scene:
    colours = draw.sample(list(COLOURS), len(kinds))
    positions = sorted(draw.sample(range(len(POSITIONS)), len(kinds)))
    return Scene(stream, split, index, tuple(Object(*thing) for thing in zip(kinds, colours, positions, strict=True)))


def _background(draw: random.Random) -> np.ndarray:
    """A dark, tinted gradient with noise: int32 [64, 64, 3]."""
    ramps, noise = _textures()
    start, end = ([draw.randint(0, 70) for _ in "rgb"] for _ in range(2))
    ramp = ramps[draw.randrange(len(ramps))][:, :, None]
    step = np.subtract(end, start, dtype=np.int32)
    return np.asarray(start, np.int32) + step * ramp // SIDE + noise[draw.randrange(len(noise))]


@cache
def _textures() -> tuple[np.ndarray, np.ndarray]:
    """Gradients int32 [4, 64, 64] of 0..63 and noise int32 [64, 64, 64, 3] of 0..15."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.int32)
    noise = np.frombuffer(random.Random("pocket/noise").randbytes(64 * SIDE * SIDE * 3), np.uint8) % 16
    return np.stack([x, y, (x + y) // 2, (x + SIDE - 1 - y) // 2]), noise.reshape(64, SIDE, SIDE, 3).astype(np.int32)


def _sprite(kind: str, size: int, split: Split, draw: random.Random) -> np.ndarray:
    """The mask of an object, int32 [size, size] of 0..255."""
    if kind.isdigit():
        return _digit_mask(draw.choice(handwriting()[split][int(kind)]), size)
    return _shape_mask(kind, size, draw.randrange(len(_TURNS)))


@cache
def _scans() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    return digits["images"], digits["target"]


@cache
def handwriting() -> dict[str, tuple[tuple[int, ...], ...]]:
    """By split and digit, the numbers of its instances in `load_digits`: of each digit 70 % are for train, 15 % for
    validation and 15 % for test."""
    targets = _scans()[1].tolist()
    splits: dict[str, list[tuple[int, ...]]] = {"train": [], "validation": [], "test": []}
    for digit in range(10):
        members = [number for number, target in enumerate(targets) if target == digit]
        random.Random(f"pocket/handwriting/{digit}").shuffle(members)
        first, second = len(members) * 70 // 100, len(members) * 85 // 100
        splits["train"].append(tuple(members[:first]))
        splits["validation"].append(tuple(members[first:second]))
        splits["test"].append(tuple(members[second:]))
    return {split: tuple(members) for split, members in splits.items()}


@cache
def _digit_mask(number: int, size: int) -> np.ndarray:
    """The mask of a digit: an 8 x 8 scan, enlarged bilinearly to int32 [size, size] of 0..255.

    It is computed element by element, so that the result is the same on every machine.
    """
    scan = _scans()[0][number]
    place = np.clip((np.arange(size) + 0.5) * 8 / size - 0.5, 0, 7)
    low = np.minimum(place.astype(int), 6)
    share = place - low
    rows = scan[low] * (1 - share)[:, None] + scan[low + 1] * share[:, None]
    mask = rows[:, low] * (1 - share) + rows[:, low + 1] * share
    return np.minimum(255, mask * (1.25 * 255 / 16)).astype(np.int32)


_TURNS = ((1.0, 0.0), (0.96, 0.28), (0.96, -0.28), (12 / 13, 5 / 13), (12 / 13, -5 / 13))
"""Cosine and sine of small turns. They are Pythagorean, so that no platform's mathematical library has a say."""

_OUTLINES: dict[str, tuple[tuple[float, float], ...]] = {
    "square": ((-0.72, -0.72), (0.72, -0.72), (0.72, 0.72), (-0.72, 0.72)),
    "triangle": ((0.0, -0.85), (0.85, 0.68), (-0.85, 0.68)),
    "star": ((0.0, -0.98), (0.24, -0.32), (0.93, -0.3), (0.38, 0.12), (0.58, 0.79), (0.0, 0.4), (-0.58, 0.79),
             (-0.38, 0.12), (-0.93, -0.3), (-0.24, -0.32)),
    "cross": ((-0.26, -0.85), (0.26, -0.85), (0.26, -0.26), (0.85, -0.26), (0.85, 0.26), (0.26, 0.26), (0.26, 0.85),
              (-0.26, 0.85), (-0.26, 0.26), (-0.85, 0.26), (-0.85, -0.26), (-0.26, -0.26)),
}  # fmt: skip
"""The corners (x, y) of each shape in a box from -1 to 1, where y goes down."""


@cache
def _shape_mask(kind: str, size: int, turn: int) -> np.ndarray:
    """The mask of a shape, int32 [size, size]: for each pixel the share of 4 x 4 points that lie inside, times 255."""
    grid = (np.arange(size * 4) + 0.5) / (size * 2) - 1
    cosine, sine = _TURNS[turn]
    x = grid[None, :] * cosine + grid[:, None] * sine
    y = grid[:, None] * cosine - grid[None, :] * sine
    if kind == "circle":
        inside = x * x + y * y < 0.7
    elif kind == "heart":
        u, v = x * 1.3, 0.15 - y * 1.3
        ring = u * u + v * v - 1
        inside = ring * ring * ring < u * u * v * v * v
    else:
        inside = np.zeros(x.shape, bool)
        corners = _OUTLINES[kind]
        for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):  # even-odd rule
            if y0 != y1:
                inside ^= ((y0 > y) != (y1 > y)) & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    share = inside.reshape(size, 4, size, 4).sum(axis=(1, 3))
    return (share * 255 // 16).astype(np.int32)
