"""How the parts of a request become tensors on the host: text ids, an image pixels, and sound log-mel frames."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from harness.pocket.teaching.tokenizer import normalise

from .config import FusionConfig

if TYPE_CHECKING:
    from PIL.Image import Image
    from tokenizers import Tokenizer

HOP, WINDOW = 0.010, 0.025
"""Seconds from one frame to the next, and how many seconds a frame covers."""


def texts_to_ids(tokenizer: Tokenizer, texts: Sequence[str], config: FusionConfig) -> tuple[Tensor, Tensor]:
    """Normalised texts as ids int64 [b, n] and their mask bool [b, n], cut at config.max_text tokens."""
    rows = [encoding.ids[: config.max_text] for encoding in tokenizer.encode_batch([normalise(text) for text in texts])]
    return pad(rows, config)


def answers_to_ids(tokenizer: Tokenizer, texts: Sequence[str], config: FusionConfig) -> Tensor:
    """Answers as ids int64 [b, n], each ended and then padded; at most config.max_answer tokens."""
    encoded = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    return pad([[*encoding.ids[: config.max_answer - 1], config.special[2]] for encoding in encoded], config)[0]


def longer(tokenizer: Tokenizer, text: str, choices: Sequence[str], config: FusionConfig) -> bool:
    """Whether a text, or one of the choices that are ranked behind it, is longer than what is taken of it above."""
    answers = tokenizer.encode_batch(list(choices), add_special_tokens=False)
    return len(tokenizer.encode(normalise(text)).ids) > config.max_text or any(
        len(encoding.ids) >= config.max_answer for encoding in answers
    )


def pad(rows: Sequence[Sequence[int]], config: FusionConfig) -> tuple[Tensor, Tensor]:
    """Rows of ids padded on the right: int64 [b, n] with their mask bool [b, n]. There is at least one column."""
    ids = torch.full((len(rows), max(1, max(map(len, rows), default=1))), config.special[0])
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row, dtype=torch.int64)
    return ids, torch.arange(ids.shape[1]) < torch.tensor([len(row) for row in rows])[:, None]


def image_to_pixels(image: Image, config: FusionConfig) -> Tensor:
    """An RGB image as float32 [3, size, size]: squeezed to a square, which keeps everything in view."""
    size = config.image["size"]
    if image.size != (size, size):
        image = image.resize((size, size), resample=3)  # bicubic, antialiased
    return normalise_pixels(torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255, config)


def normalise_pixels(pixels: Tensor, config: FusionConfig) -> Tensor:
    """Pixels [..., 3, h, w] in 0..1, resized to the model's size, less the config's mean and divided by its spread."""
    size = config.image["size"]
    if pixels.shape[-2:] != (size, size):
        pixels = torch.nn.functional.interpolate(pixels, (size, size), mode="bilinear", antialias=True)
    mean = torch.tensor(config.image.get("mean", [0.5] * 3))[:, None, None]
    spread = torch.tensor(config.image.get("std", [0.5] * 3))[:, None, None]
    return (pixels - mean) / spread


def sound_to_frames(sound: np.ndarray, config: FusionConfig) -> Tensor:
    """Mono sound float32 [n] at config.audio["rate"] as log-mel frames float32 [mels, t], t = 1 + n // hop."""
    rate, mels = config.audio["rate"], config.audio["mels"]
    size, hop = round(rate * WINDOW), round(rate * HOP)
    wave = torch.from_numpy(np.ascontiguousarray(sound, dtype=np.float32))
    wave = torch.nn.functional.pad(wave, (size // 2, size - size // 2))
    frames = wave.unfold(0, size, hop) * torch.hann_window(size)
    power = torch.fft.rfft(frames, n=fft_size(rate)).abs().square()
    return (torch.log(power @ mel_filters(rate, mels) + 1e-5).T + 4) / 4


def fft_size(rate: int) -> int:
    """The length of the Fourier transform of a frame: the next power of two."""
    return 1 << (round(rate * WINDOW) - 1).bit_length()


@cache
def mel_filters(rate: int, mels: int) -> Tensor:
    """Triangular filters evenly spaced on the mel scale (O'Shaughnessy 1987): float32 [fft_size // 2 + 1, mels]."""
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + rate / 2 / 700), mels + 2) / 2595) - 1)
    bins = np.linspace(0, rate / 2, fft_size(rate) // 2 + 1)[:, None]
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (bins - low) / (centre - low), (high - bins) / (high - centre)
    return torch.from_numpy(np.maximum(0, np.minimum(rising, falling)).astype(np.float32))


def pad_frames(clips: Sequence[Tensor | None], mels: int) -> tuple[Tensor, Tensor]:
    """Clips of any length in one batch: float32 [b, mels, t] and mask bool [b, t]; None is a missing clip."""
    lengths = torch.tensor([0 if clip is None else clip.shape[1] for clip in clips])
    frames = torch.zeros(len(clips), mels, max(1, int(lengths.max())))
    for index, clip in enumerate(clips):
        if clip is not None:
            frames[index, :, : clip.shape[1]] = clip
    return frames, torch.arange(frames.shape[2]) < lengths[:, None]
