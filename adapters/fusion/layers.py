"""Attention blocks shared by the encoders, the fusion and the decoder: pre-norm, masked, nothing special."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention from `x` to `memory`; `mask` is True where attention is allowed."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def project(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [b, heads, n, d] of `memory` [b, n, width]."""
        b, n, width = memory.shape
        keys, values = self.key_value(memory).view(b, n, 2, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        return keys, values

    def attend(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """[b, q, width] from queries `x` and projected memory; `mask` broadcasts to [b, 1, q, n]."""
        b, q, width = x.shape
        queries = self.query(x).view(b, q, self.heads, -1).transpose(1, 2)
        # Written out: for sequences this short, the fused kernel's backward pass takes longer on a CPU.
        mixed = self._softmax(queries, keys, mask).to(values.dtype) @ values
        return self.out(mixed.transpose(1, 2).reshape(b, q, width))

    @staticmethod
    def _softmax(queries: Tensor, keys: Tensor, mask: Tensor | None) -> Tensor:
        """Attention weights [b, heads, q, n]."""
        scores = (queries * keys.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
        if mask is not None:
            # A finite floor: a row whose every modality was dropped attends evenly instead of being undefined.
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        return scores.softmax(-1)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.attend(x, *self.project(memory), mask)

    def weights(self, x: Tensor, memory: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attention weights, averaged over heads: [b, q, n]. For explanations; not the fast path."""
        b, q, _ = x.shape
        queries = self.query(x).view(b, q, self.heads, -1).transpose(1, 2)
        keys, _ = self.project(memory)
        return self._softmax(queries, keys, mask).mean(1)


def feed_forward(width: int) -> nn.Sequential:
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
    """`x` asks, `memory` answers; then a feed-forward layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp = feed_forward(width)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor | None) -> Tensor:
        x = x + self.attention(self.norm1(x), memory, mask)
        return x + self.mlp(self.norm2(x))


class DecoderBlock(nn.Module):
    """Causal self-attention, attention to the memory, feed-forward; with a cache of keys and values for generation."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.own = Attention(width, heads)
        self.cross = Attention(width, heads)
        self.mlp = feed_forward(width)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor, cache: dict[str, Tensor] | None = None) -> Tensor:
        """`x` [b, q, width] are the new tokens; all that came before are in `cache`, which is extended in place."""
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
