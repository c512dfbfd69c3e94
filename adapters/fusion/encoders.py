"""The three pocket encoders of text, image and audio, which are small enough to train on a laptop.

They are a Transformer, a ResNet and a convolution over log-mel frames. `backbones` has their counterparts of published
architectures.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from .config import FusionConfig
from .layers import SelfBlock


class Encoder(nn.Module):
    """What turns one modality into tokens [b, n, channels]."""

    channels: int
    """The width of its tokens, which the model projects to its own."""


class WordEncoder(Encoder):
    """The encoder of text. It also holds the embedding that the decoder reads and writes with."""

    embedding: nn.Embedding
    """Vectors [vocabulary, width] of the decoder's tokens."""


class TextEncoder(WordEncoder):
    """Token ids [b, n] to [b, n, width]."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.position = nn.Parameter(torch.randn(config.max_text, config.width) * 0.02)
        self.blocks = nn.ModuleList(SelfBlock(config.width, config.heads) for _ in range(config.text["layers"]))
        self.channels = config.width
        nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.embedding(ids) + self.position[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, mask[:, None, None])
        return x


class Residual(nn.Module):
    """The basic block of a ResNet (He et al. 2015)."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(into, out, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(out), nn.BatchNorm2d(out)
        self.skip = nn.Identity()
        if stride != 1 or into != out:
            self.skip = nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        return torch.relu(self.skip(x) + y)


class ImageEncoder(Encoder):
    """Pixels [b, 3, size, size] in -1..1 to a grid of tokens [b, (size / 16) ** 2, channels], row by row."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        widths = config.image["widths"]
        stages: list[nn.Module] = [nn.Conv2d(3, widths[0], 3, 2, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()]
        for into, out in itertools.pairwise(widths):
            stages += [Residual(into, out, 2), Residual(out, out, 1)]
        self.stages = nn.Sequential(*stages)
        side = config.image["size"] // 2 ** len(widths)
        self.position = nn.Parameter(torch.randn(side * side, widths[-1]) * 0.02)
        self.channels = widths[-1]

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.stages(pixels.contiguous(memory_format=torch.channels_last))
        return x.flatten(2).transpose(1, 2) + self.position


class AudioEncoder(Encoder):
    """Log-mel frames [b, mels, t] with their mask [b, t] to tokens [b, t / 8, channels] with theirs; t / 8 is rounded
    up."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        channels = [config.audio["mels"], *config.audio["widths"]]
        self.convs = nn.ModuleList(nn.Conv1d(into, out, 5, 2, 2) for into, out in itertools.pairwise(channels))
        self.norms = nn.ModuleList(nn.GroupNorm(1, out) for out in channels[1:])
        self.channels = channels[-1]

    def forward(self, frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        x = frames
        norms = cast(Iterable[nn.GroupNorm], self.norms)  # a ModuleList does not say what it holds
        for conv, norm in zip(self.convs, norms, strict=True):
            # Frames beyond a clip's end are kept at zero, so that padding in a batch changes nothing inside it.
            x = conv(x * mask[:, None])
            mask = mask[:, ::2]
            x = torch.nn.functional.gelu(masked_norm(x, mask, norm))
        x = x.transpose(1, 2)
        return x + sinusoid(x.shape[1], x.shape[2], x.device).to(x.dtype), mask


def masked_norm(x: Tensor, mask: Tensor, norm: nn.GroupNorm) -> Tensor:
    """Normalise [b, c, t] over channels and the frames that `mask` keeps, with `norm`'s scale and shift."""
    kept = mask[:, None].float()
    count = (kept.sum(2, keepdim=True) * x.shape[1]).clamp(min=1)
    dtype, x = x.dtype, x.float()
    mean = (x * kept).sum((1, 2), keepdim=True) / count
    variance = ((x - mean).square() * kept).sum((1, 2), keepdim=True) / count
    return ((x - mean) * torch.rsqrt(variance + norm.eps) * norm.weight[:, None] + norm.bias[:, None]).to(dtype)


def sinusoid(length: int, width: int, device: torch.device) -> Tensor:
    """Sines and cosines that stand for positions, of any number (Vaswani et al. 2017): [length, width]."""
    rates = torch.exp(torch.arange(0, width, 2, device=device) * (-9.21 / width))
    angles = torch.arange(length, device=device)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)
