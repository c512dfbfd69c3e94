"""Dense supervision: read kind and colour of every cell from a grid of image tokens, or from one pooled vector.

Naming what stands where teaches an image encoder in minutes what answers to questions would teach it in hours, and a
pooled embedding that must tell every object back cannot forget one. The heads are thrown away after training.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.pocket.scenes import COLOURS, KINDS, POSITIONS

KIND_CLASSES, COLOUR_CLASSES = 1 + len(KINDS), 1 + len(COLOURS)


class GridReader(nn.Module):
    """From an image's tokens [b, side * side, width], row by row, to the loss against dense labels [b, 5, 2]."""

    def __init__(self, side: int, width: int) -> None:
        super().__init__()
        self.side = side
        self.cell = nn.Sequential(nn.Linear(width * (side // 2) ** 2, 256), nn.GELU())
        self.main = nn.Sequential(nn.Linear(width, 256), nn.GELU())
        self.kind, self.colour = nn.Linear(256, KIND_CLASSES), nn.Linear(256, COLOUR_CLASSES)

    def read(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of kind [b, 5, 17] and colour [b, 5, 7] for the four cells, then for the main object of a close-up."""
        b, _, width = tokens.shape
        half = self.side // 2
        cells = tokens.view(b, 2, half, 2, half, width).permute(0, 1, 3, 2, 4, 5).reshape(b, 4, -1)
        features = torch.cat([self.cell(cells), self.main(tokens).mean(1, keepdim=True)], 1)
        return self.kind(features).float(), self.colour(features).float()

    def forward(self, tokens: Tensor, labels: Tensor) -> Tensor:
        return _loss(*self.read(tokens), labels)


class VectorReader(nn.Module):
    """From a vector [b, width] for each picture (or its caption) to the loss against dense labels [b, 5, 2]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(width, 512), nn.GELU())
        self.kind, self.colour = nn.Linear(512, 5 * KIND_CLASSES), nn.Linear(512, 5 * COLOUR_CLASSES)

    def forward(self, vector: Tensor, labels: Tensor) -> Tensor:
        h = self.hidden(vector)
        return _loss(self.kind(h).float().unflatten(1, (5, -1)), self.colour(h).float().unflatten(1, (5, -1)), labels)


class AboutReader(nn.Module):
    """From vectors [n, width] that stand for questions to the loss against what each is about, labels [n, 3].

    "Is the 7 red?" needs two steps: to find the 7, and to compare. Asked to tell kind, colour and place of the object
    that a question names, a model learns the first step by itself, and the second follows in minutes, not hours.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.heads = nn.ModuleList(nn.Linear(width, n) for n in (len(KINDS), len(COLOURS), len(POSITIONS)))

    def forward(self, vectors: Tensor, labels: Tensor) -> Tensor:
        vectors = self.norm(vectors.float())
        losses = [
            F.cross_entropy(head(vectors).float(), labels[:, i], ignore_index=-1, reduction="sum")
            for i, head in enumerate(self.heads)
        ]
        return sum(losses, vectors.new_zeros(())) / (labels >= 0).sum().clamp(min=1)


def _loss(kinds: Tensor, colours: Tensor, labels: Tensor) -> Tensor:
    # The corners of a close-up are seldom told; a scene never has a main object, so reading that teaches nothing.
    told = torch.ones(labels.shape[:2], device=labels.device)
    closeup = labels[:, 4, 0] > 0
    told[closeup, :4] = 0.1
    told[~closeup, 4] = 0.0
    kind = F.cross_entropy(kinds.flatten(0, 1), labels[..., 0].flatten(), reduction="none")
    colour = F.cross_entropy(colours.flatten(0, 1), labels[..., 1].flatten(), reduction="none")
    return ((kind + 0.5 * colour) * told.flatten()).sum() / told.sum()


def naming_loss(logits: Tensor, words: Tensor) -> Tensor:
    """The cross-entropy of logits [b, 4, vocabulary], one for each cell, against all of its words [b, 4, k] alike.

    A cell of -1 has no words.
    """
    named = words[..., 0] >= 0
    scores = logits[named].float().log_softmax(-1)
    return -scores.gather(1, words[named]).mean()


def read_accuracy(kinds: Tensor, colours: Tensor, labels: Tensor) -> dict[str, float]:
    """The share of scenes of which all four cells are right, and of close-ups of which the main object's kind is."""
    right = (kinds.argmax(-1) == labels[..., 0]) & (colours.argmax(-1) == labels[..., 1])
    closeup = labels[:, 4, 0] > 0
    main = (kinds.argmax(-1) == labels[..., 0])[:, 4]
    return {"scene": float(right[~closeup, :4].all(1).float().mean()), "closeup": float(main[closeup].float().mean())}
