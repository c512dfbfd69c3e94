"""The in-house model: text, image and audio encoders, one of four fusions, an embedding head and a text decoder.

Every modality is encoded to tokens and projected to one width. The fusion turns them into fused tokens; each modality's
own tokens stand beside them as its residual path, so that fusion cannot wash a modality out. Everything reads this
memory: a learned query pools it into the contrastive embedding, and the decoder attends to it to caption, to answer and
to rank choices by log-likelihood. A modality that is missing is left out where no row has it, and masked in
the rows that lack it where others do.

Shapes are written with the letters of `layers`, and with these:

    channels   channels of an encoder's tokens, before they are projected to `width`
    slots      summary vectors that weighted and concat fusion make of each modality
    3          the modalities, always in the order text, image, audio

    encode_*: [b, n of the modality, width] each → fuse: memory [b, n, width], where n = the fused tokens and then those
    of every modality → embed: [b, width], or decode: logits [b, tokens of the answer, vocabulary]
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import FusionConfig
from .encoders import AudioEncoder, Encoder, ImageEncoder, TextEncoder, WordEncoder
from .layers import Attention, CrossBlock, DecoderBlock, SelfBlock

MODALITIES = ("text", "image", "audio")


@dataclass
class Encoded:
    """One modality of a batch: tokens [b, n, width] and which of them are there, bool [b, n]."""

    tokens: Tensor
    mask: Tensor

    def rows(self, index: Tensor) -> Encoded:
        """A batch of other rows: `index` int [k] picks them, and may pick one several times."""
        return Encoded(self.tokens[index], self.mask[index])


@dataclass
class Memory:
    """What the heads read: tokens [b, n, width], mask [b, n], and the modalities' weights [b, 3] where the fusion has
    such."""

    tokens: Tensor
    mask: Tensor
    weights: Tensor | None = None
    fused: int = 0
    """How many of the tokens, the first ones, come from the fusion; the others are the modalities' own."""


class Merge(nn.Module):
    """Projects the grid of the image encoder, [b, side * side, channels], to [b, half * half, width] with half as many
    tokens to a side: an object spreads over neighbouring tokens, and read together they say what it is."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.mix = nn.Sequential(nn.Linear(4 * channels, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.mix(neighbours(self.norm(tokens)))


def neighbours(tokens: Tensor) -> Tensor:
    """The tokens of a grid [b, side * side, channels], four neighbours joined to one: [b, half * half, 4 * channels].

    An odd side is padded with zeros on the right and at the bottom. In a grid of 4 x 4, numbered row by row:

    >>> neighbours(torch.arange(16).view(1, 16, 1))[0].tolist()
    [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    """
    side = math.isqrt(tokens.shape[1])
    grid = F.pad(tokens.unflatten(1, (side, side)), (0, 0, 0, side % 2, 0, side % 2))
    half = grid.shape[1] // 2
    squares = grid.unflatten(2, (half, 2)).unflatten(1, (half, 2))  # [b, half, 2 rows, half, 2 columns, channels]
    return squares.transpose(2, 3).flatten(3).flatten(1, 2)


class Summary(nn.Module):
    """Pools the tokens of a modality into slots [b, slots, width] by learned queries; zeros where it is missing."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(config.slots, config.width) * 0.02)
        self.norm = nn.LayerNorm(config.width)
        self.attention = Attention(config.width, config.heads)

    def forward(self, x: Encoded) -> Tensor:
        present = x.mask.any(1)[:, None, None]
        # In a row without the modality the softmax would be over nothing, so the queries look at all of it, and what
        # they saw is multiplied by zero.
        mask = (x.mask[:, None] | ~present)[:, None]
        return self.attention(self.queries.expand(len(x.tokens), -1, -1), self.norm(x.tokens), mask) * present


class WeightedFusion(nn.Module):
    """Adds the slots of the modalities that are present, each times its weight: a softmax over learned logits, or what
    the user has fixed."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.summaries = nn.ModuleDict({name: Summary(config) for name in MODALITIES})
        fixed = config.fixed_weights
        self.logits = nn.Parameter(
            # The softmax of their logarithms gives back fixed weights, divided by the sum of those that are present.
            torch.zeros(3) if fixed is None else torch.tensor(fixed).clamp(min=1e-6).log(),
            requires_grad=fixed is None,
        )
        self.block = SelfBlock(config.width, config.heads)

    def forward(self, parts: dict[str, Encoded]) -> Memory:
        present = torch.stack([parts[name].mask.any(1) for name in parts], 1)  # [b, modalities of the batch]
        logits = torch.stack([self.logits[MODALITIES.index(name)] for name in parts]).float()
        weights = torch.where(present, logits, torch.full_like(logits, -1e9)).softmax(1)
        slots = torch.stack([self.summaries[name](x) for name, x in parts.items()], 1)  # [b, modalities, slots, width]
        fused = self.block((slots * weights.to(slots.dtype)[:, :, None, None]).sum(1), None)
        every = weights.new_zeros(len(weights), 3)
        every[:, [MODALITIES.index(name) for name in parts]] = weights
        return Memory(fused, torch.ones(fused.shape[:2], dtype=torch.bool, device=fused.device), every)


class ConcatFusion(nn.Module):
    """Lays the slots of the three modalities side by side, [b, slots, 3 * width] with zeros for a missing one, and
    mixes them by two layers."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.summaries = nn.ModuleDict({name: Summary(config) for name in MODALITIES})
        self.mix = nn.Sequential(
            nn.Linear(3 * config.width, 2 * config.width), nn.GELU(), nn.Linear(2 * config.width, config.width)
        )

    def forward(self, parts: dict[str, Encoded]) -> Memory:
        known = {name: self.summaries[name](x) for name, x in parts.items()}
        like = next(iter(known.values()))
        fused = self.mix(torch.cat([known.get(name, torch.zeros_like(like)) for name in MODALITIES], -1))
        return Memory(fused, torch.ones(fused.shape[:2], dtype=torch.bool, device=fused.device))


class SelfAttentionFusion(nn.Module):
    """Lets every token of every modality attend to every other."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(SelfBlock(config.width, config.heads) for _ in range(config.fusion_layers))

    def forward(self, parts: dict[str, Encoded]) -> Memory:
        tokens = torch.cat([x.tokens for x in parts.values()], 1)
        mask = torch.cat([x.mask for x in parts.values()], 1)
        for block in self.blocks:
            tokens = block(tokens, mask[:, None, None])
        return Memory(tokens, mask)


class CrossAttentionFusion(nn.Module):
    """Lets the text's tokens attend to those of image and audio. Where there is no text, learned queries do so in its
    place."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(config.slots, config.width) * 0.02)
        self.nothing = nn.Parameter(torch.randn(1, config.width) * 0.02)
        self.blocks = nn.ModuleList(CrossBlock(config.width, config.heads) for _ in range(config.fusion_layers))

    def forward(self, parts: dict[str, Encoded]) -> Memory:
        any_part = next(iter(parts.values()))
        b, device = len(any_part.tokens), any_part.tokens.device
        asking = Encoded(
            self.queries.expand(b, -1, -1), torch.ones(b, len(self.queries), dtype=torch.bool, device=device)
        )
        if (text := parts.get("text")) is not None:
            queries = asking.mask & ~text.mask.any(1, keepdim=True)
            asking = Encoded(torch.cat([asking.tokens, text.tokens], 1), torch.cat([queries, text.mask], 1))
        # `nothing` is always there to attend to, for a request without image and audio.
        answers = [x for name, x in parts.items() if name != "text"]
        memory = torch.cat([self.nothing.expand(b, 1, -1), *(x.tokens for x in answers)], 1)
        mask = torch.cat([asking.mask.new_ones(b, 1), *(x.mask for x in answers)], 1)
        x = asking.tokens
        for block in self.blocks:
            x = block(x, memory, mask[:, None, None])
        return Memory(x, asking.mask)


FUSIONS: dict[str, type[nn.Module]] = {
    "weighted": WeightedFusion,
    "concat": ConcatFusion,
    "self-attention": SelfAttentionFusion,
    "cross-attention": CrossAttentionFusion,
}


def _build_encoders(config: FusionConfig) -> tuple[WordEncoder, Encoder, Encoder]:
    """Text, image and audio encoder, each in the form that the config asks for."""
    text: type[Any] = TextEncoder
    image: type[Any] = ImageEncoder
    audio: type[Any] = AudioEncoder
    if "backbone" in config.text or {"backbone", "timm"} & set(config.image) or "backbone" in config.audio:
        from . import backbones  # imports transformers, which the pocket size does without

        text = backbones.TextBackbone if "backbone" in config.text else text
        image = backbones.ImageBackbone if {"backbone", "timm"} & set(config.image) else image
        audio = backbones.AudioBackbone if "backbone" in config.audio else audio
    return text(config), image(config), audio(config)


class FusionModel(nn.Module):
    """The whole model. Use `encode_*`, then `fuse`, then a head: `embed`, `generate`, `likelihood`, `weigh`."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.pad, self.start, self.end = config.special
        # What is random is drawn in this order; another order would train to other weights.
        self.text, self.image, self.audio = _build_encoders(config)
        self.project = nn.ModuleDict(
            {
                "text": nn.Sequential(nn.LayerNorm(self.text.channels), nn.Linear(self.text.channels, width)),
                "image": Merge(self.image.channels, width),
                "audio": nn.Sequential(nn.LayerNorm(self.audio.channels), nn.Linear(self.audio.channels, width)),
            }
        )
        self.kind = nn.ParameterDict({name: nn.Parameter(torch.randn(width) * 0.02) for name in MODALITIES})
        self.fusion = FUSIONS[config.fusion](config)
        self.norm = nn.LayerNorm(width)
        self.pool = nn.Parameter(torch.randn(1, width) * 0.02)
        self.pooling = Attention(width, config.heads)
        self.embedding = nn.Linear(width, width, bias=False)
        self.scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.answer_position = nn.Parameter(torch.randn(config.max_answer, width) * 0.02)
        self.decoder = nn.ModuleList(DecoderBlock(width, config.heads) for _ in range(config.decoder_layers))
        self.decoder_norm = nn.LayerNorm(width)

    def encode_text(self, ids: Tensor, mask: Tensor) -> Encoded:
        """Encode token ids int64 [b, n], of which the mask bool [b, n] tells the text from padding."""
        return Encoded(self.project["text"](self.text(ids, mask)) + self.kind["text"], mask)

    def encode_image(self, pixels: Tensor, mask: Tensor | None = None) -> Encoded:
        """Encode pixels float [b, 3, size, size] in -1..1; `mask` bool [b] is False for rows without an image."""
        if mask is None:
            mask = torch.ones(len(pixels), dtype=torch.bool, device=pixels.device)
        tokens = self.project["image"](self.image(pixels)) + self.kind["image"]
        return Encoded(tokens, mask[:, None].expand(-1, tokens.shape[1]))

    def encode_audio(self, frames: Tensor, mask: Tensor) -> Encoded:
        """Encode log-mel frames float [b, mels, t]; their mask bool [b, t] is False throughout rows without a clip."""
        tokens, mask = self.audio(frames, mask)
        return Encoded(self.project["audio"](tokens) + self.kind["audio"], mask)

    def fuse(self, parts: dict[str, Encoded]) -> Memory:
        """The memory: the fused tokens, and behind them each modality's own in the order text, image, audio."""
        parts = {name: parts[name] for name in MODALITIES if name in parts}
        fused = self.fusion(parts)
        tokens = torch.cat([fused.tokens, *(x.tokens for x in parts.values())], 1)
        mask = torch.cat([fused.mask, *(x.mask for x in parts.values())], 1)
        return Memory(self.norm(tokens), mask, fused.weights, fused.tokens.shape[1])

    def pooled(self, memory: Memory) -> Tensor:
        """The embedding before it is normalised, [b, width]: the memory as one learned query sees it, projected."""
        pooled = self.pooling(self.pool.expand(len(memory.tokens), 1, -1), memory.tokens, memory.mask[:, None, None])
        return self.embedding(pooled[:, 0])

    def embed(self, memory: Memory) -> Tensor:
        """The embedding, float32 [b, width], each row of length one."""
        return F.normalize(self.pooled(memory).float(), dim=-1)

    def decode(self, memory: Memory, ids: Tensor, caches: list[dict[str, Tensor]] | None = None, at: int = 0) -> Tensor:
        """Logits [b, n, vocabulary] of the token after each of `ids` [b, n], of which the first stands at `at`.

        `caches` holds a dict for each decoder layer and means that `ids` are the next token alone (see `DecoderBlock`).
        """
        x = self.text.embedding(ids) + self.answer_position[at : at + ids.shape[1]]
        for index, block in enumerate(self.decoder):
            x = block(x, memory.tokens, memory.mask[:, None, None], None if caches is None else caches[index])
        return self.decoder_norm(x) @ self.text.embedding.weight.T

    @torch.no_grad()
    def generate(
        self, memory: Memory, limit: int, least: int = 0, each: Callable[[], None] = lambda: None
    ) -> list[list[int]]:
        """Greedy answers as token ids, without start and end: at least `least` tokens each and at most `limit`.

        `each` is called when a further token of all answers is known.
        """
        b = len(memory.tokens)
        caches: list[dict[str, Tensor]] = [{} for _ in self.decoder]
        token = torch.full((b, 1), self.start, device=memory.tokens.device)
        alive = torch.ones(b, dtype=torch.bool, device=memory.tokens.device)
        written = []
        for at in range(min(limit, self.config.max_answer)):
            scores = self.decode(memory, token, caches, at)[:, -1]
            if at < least:
                scores[:, [self.end, self.pad]] = float("-inf")
            token = scores.argmax(-1, keepdim=True)
            each()
            # Rows that have ended go on in the batch; what they write is replaced by padding.
            alive = alive & (token[:, 0] != self.end)
            if not alive.any():
                break
            written.append(torch.where(alive, token[:, 0], self.pad))
        rows = torch.stack(written, 1).tolist() if written else [[] for _ in range(b)]
        return [[token for token in row if token != self.pad] for row in rows]

    def shifted(self, ids: Tensor) -> Tensor:
        """What the decoder reads in order to write `ids` [b, n]: the start, then all of `ids` but the last."""
        return torch.cat([torch.full_like(ids[:, :1], self.start), ids[:, :-1]], 1)

    def likelihood(self, memory: Memory, ids: Tensor) -> Tensor:
        """The mean log-likelihood [b] of the tokens of each answer; `ids` [b, n] are ended, then padded."""
        before = self.shifted(ids)
        scores = self.decode(memory, before).float().log_softmax(-1).gather(-1, ids[..., None])[..., 0]
        counted = ids != self.pad
        return (scores * counted).sum(1) / counted.sum(1)

    def weigh(self, parts: dict[str, Encoded], memory: Memory) -> dict[str, Tensor]:
        """How the query that pools the embedding spreads its attention over each modality's own tokens: {name: [b, n]}.

        "weights" [b, 3] are those of weighted fusion; for another fusion, each modality's share of that attention.
        """
        attention = self.pooling.weights(
            self.pool.expand(len(memory.tokens), 1, -1), memory.tokens, memory.mask[:, None, None]
        )[:, 0]
        found: dict[str, Tensor] = {}
        end = attention.shape[1]  # the modalities' own tokens stand last (`fuse`), so they are counted from the end
        for name in reversed([name for name in MODALITIES if name in parts]):
            count = parts[name].tokens.shape[1]
            found[name] = attention[:, end - count : end]
            end -= count
        shares = torch.stack(
            [found[n].sum(1) if n in found else attention.new_zeros(len(attention)) for n in MODALITIES], 1
        )
        found["weights"] = memory.weights if memory.weights is not None else shares / shares.sum(1, keepdim=True)
        return found
