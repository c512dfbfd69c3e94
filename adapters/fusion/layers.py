"""Attention blocks that the encoders, the fusion and the decoder share: pre-norm, masked, nothing special.

Shapes are written with these letters, here and in `model`:

    b       rows of the batch, one for each request
    n       tokens that are attended to (the memory)
    q       tokens that attend (the queries)
    width   channels of a token; they are divided among `heads` of d = width / heads channels each

A mask is bool and True where attention is allowed. Whatever its own shape, it broadcasts to [b, heads, q, n]: one that
hides some tokens of each row is [b, 1, 1, n], and the causal one is [n, n].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017) from `x` [b, q, width] to `memory` [b, n, width].

    Three tokens attend to five, of which the mask hides the last three:

    >>> attention = Attention(width=8, heads=2)
    >>> x, memory = torch.ones(1, 3, 8), torch.ones(1, 5, 8)
    >>> mask = torch.tensor([True, True, False, False, False])[None, None, None]
    >>> attention(x, memory, mask).shape
    torch.Size([1, 3, 8])
    >>> attention.weights(x, memory, mask)[0, 0].tolist()
    [0.5, 0.5, 0.0, 0.0, 0.0]
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def project(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [b, heads, n, d] of `memory` [b, n, width]."""
        b, n, width = memory.shape
        # One product for both: [b, n, 2 * width] is cut into (keys, values) x heads, and these go to the front.
        keys, values = self.key_value(memory).view(b, n, 2, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        return keys, values

    def attend(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """The same as `forward` with the memory as `project` returns it, so that it can be kept: [b, q, width]."""
        b, q, width = x.shape
        queries = self.query(x).view(b, q, self.heads, -1).transpose(1, 2)
        # It is written out because, for sequences this short, the fused kernel's backward pass takes longer on a CPU.
        mixed = self._softmax(queries, keys, mask).to(values.dtype) @ values
        return self.out(mixed.transpose(1, 2).reshape(b, q, width))

    @staticmethod
    def _softmax(queries: Tensor, keys: Tensor, mask: Tensor | None) -> Tensor:
        """Attention weights [b, heads, q, n]."""
        scores = (queries * keys.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
        if mask is not None:
            # The floor is finite, so that a row whose every modality was dropped attends evenly; with minus infinity
            # its softmax would be undefined.
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        return scores.softmax(-1)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.attend(x, *self.project(memory), mask)

    def weights(self, x: Tensor, memory: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attention weights averaged over heads, [b, q, n], for explanations."""
        b, q, _ = x.shape
        queries = self.query(x).view(b, q, self.heads, -1).transpose(1, 2)
        keys, _ = self.project(memory)
        return self._softmax(queries, keys, mask).mean(1)


def feed_forward(width: int) -> nn.Sequential:
    """The two layers that follow attention, each token by itself."""
    return nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))


class SelfBlock(nn.Module):
    """One Transformer encoder layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp = feed_forward(width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        h = self.norm1(x)
        x = x + self.attention(h, h, mask)
        return x + self.mlp(self.norm2(x))


class CrossBlock(nn.Module):
    """A Transformer layer in which `x` attends to `memory` and not to itself."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp = feed_forward(width)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor | None) -> Tensor:
        x = x + self.attention(self.norm1(x), memory, mask)
        return x + self.mlp(self.norm2(x))


class DecoderBlock(nn.Module):
    """A Transformer decoder layer: causal self-attention, attention to the memory, feed-forward."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.own = Attention(width, heads)
        self.cross = Attention(width, heads)
        self.mlp = feed_forward(width)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor, cache: dict[str, Tensor] | None = None) -> Tensor:
        """Without a cache `x` [b, q, width] is the whole text, and each token sees itself and those before it.

        With a cache `x` is the next token alone (q = 1). The keys and values of those before it are in `cache`, which
        is extended in place; those of the memory are computed at the first call, which begins with an empty dict.
        """
        h = self.norm1(x)
        keys, values = self.own.project(h)
        if cache is None:
            causal = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
            x = x + self.own.attend(h, keys, values, causal)
            x = x + self.cross(self.norm2(x), memory, mask)
        else:
            if "keys" in cache:
                keys, values = torch.cat([cache["keys"], keys], 2), torch.cat([cache["values"], values], 2)
            else:
                cache["memory_keys"], cache["memory_values"] = self.cross.project(memory)
            cache["keys"], cache["values"] = keys, values
            x = x + self.own.attend(h, keys, values, None)
            x = x + self.cross.attend(self.norm2(x), cache["memory_keys"], cache["memory_values"], mask)
        return x + self.mlp(self.norm3(x))
