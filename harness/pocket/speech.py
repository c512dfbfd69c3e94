"""Spoken digits for the pocket scenes: bundled clips of synthetic voices, varied for every use.

The voices of train, validation and test are disjoint (`spoken_digits/index.json` names them; `spoken_digits/make.py`
made them). A clip's tempo and pitch (together, by resampling), loudness, onset and background noise come from a seed.
"""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path

import numpy as np

from harness.pocket.scenes import Split
from harness.records import Language

RATE = 8_000
"""Samples a second."""
SAMPLES = 8_000
"""The length of every clip: one second."""

_FOLDER = Path(__file__).parent / "spoken_digits"


def clip(split: Split, digit: int, language: Language, seed: int | str) -> np.ndarray:
    """Someone saying `digit` in `language`: float32 [8000] at 8 kHz, within -1..1."""
    draw = random.Random(f"pocket/clip/{split}/{language}/{digit}/{seed}")
    word = draw.choice(_words()[split, language, digit])
    tempo = draw.uniform(0.88, 1.14)
    word = np.interp(np.arange(0, len(word) - 1, tempo), np.arange(len(word)), word)
    gain, noise = draw.uniform(0.35, 1.0), draw.uniform(0.001, 0.02)
    sound = np.frombuffer(draw.randbytes(SAMPLES), np.int8).astype(np.float32) * np.float32(noise / 74)  # sd of int8
    onset = draw.randint(0, SAMPLES - len(word))
    sound[onset : onset + len(word)] += (gain * word).astype(np.float32)
    return sound


def voices(split: Split) -> set[str]:
    """The names of the voices in a split."""
    return {row["voice"] for row in _index()[split]}


@cache
def _index() -> dict[str, list[dict]]:
    return json.loads((_FOLDER / "index.json").read_text(encoding="utf-8"))


@cache
def _words() -> dict[tuple[str, str, int], list[np.ndarray]]:
    """By (split, language, digit) the recordings, each float32 [n] at RATE."""
    import soundfile

    words: dict[tuple[str, str, int], list[np.ndarray]] = {}
    for split, rows in _index().items():
        sound, _ = soundfile.read(_FOLDER / f"{split}.flac", dtype="float32")
        for row in rows:
            words.setdefault((split, row["language"], row["digit"]), []).append(sound[row["start"] : row["stop"]])
    return words
