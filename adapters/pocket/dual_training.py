"""How the pocket dual encoders learn: picture against caption, in both languages, with hard negatives.

A batch holds 64 or so pictures with a caption each. Beside the contrastive loss both embeddings must tell every object
back (one reader for both, so that they agree on where they keep it), which small batches alone would not teach; and
each picture has a foil: its own caption with two colours or two kinds exchanged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.pocket.scenes import Scene
from harness.pocket.teaching import lessons as lessons
from harness.pocket.teaching.lessons import LANGUAGES
from harness.pocket.teaching.readers import VectorReader
from harness.pocket.text import caption
from harness.records import Language
from harness.train.loop import Trainable

from .dual import FAMILIES, Dual
from .parts import tower_weights


class _DualLosses(nn.Module):
    """The model with its losses: of matching pictures with captions, and of telling the objects back."""

    def __init__(self, dual: Dual, width: int) -> None:
        super().__init__()
        self.dual = dual
        self.model = dual.model
        self.reader = VectorReader(width)

    def forward(self, pixels: Tensor, ids: Tensor, mask: Tensor, labels: Tensor, keys: Tensor) -> dict[str, Tensor]:
        n = len(pixels)
        image, text = self.dual.image(pixels).float(), self.dual.text(ids, mask).float()
        # The n captions come first, then the foils, which belong to no picture.
        scores = F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T * self.model.logit_scale.exp().clamp(max=100)
        same = torch.zeros_like(scores, dtype=torch.bool)
        same[:, :n] = (keys[:, None] == keys) & ~torch.eye(n, dtype=torch.bool, device=keys.device)
        own = torch.arange(n, device=scores.device)
        if self.dual.sigmoid:
            sign = torch.full_like(scores, -1.0)
            sign[own, own] = 1.0
            loss = F.softplus(-sign * (scores + self.model.logit_bias)).masked_fill(same, 0.0).sum() / n
        else:
            scores = scores.masked_fill(same, -1e4)
            loss = 0.5 * (F.cross_entropy(scores, own) + F.cross_entropy(scores[:, :n].T, own))
        return {"match": loss, "recall": self.reader(image, labels) + self.reader(text[:n], labels)}


def foil(scene: Scene, rng: np.random.Generator) -> Scene:
    """The scene with the kinds or the colours of two of its objects exchanged, so that the words of its caption are
    right and their binding is wrong."""
    first, second = rng.choice(len(scene.objects), 2, replace=False)
    a, b = scene.objects[first], scene.objects[second]
    things = list(scene.objects)
    if rng.random() < 0.5:
        things[first], things[second] = replace(a, colour=b.colour), replace(b, colour=a.colour)
    else:
        things[first], things[second] = replace(a, kind=b.kind), replace(b, kind=a.kind)
    return replace(scene, objects=tuple(things))


class DualTraining(Trainable[_DualLosses]):
    """Trains one dual encoder, beginning with the shared vision tower."""

    def __init__(self, tower: Path, family: str, scenes: int = 48, closeups: int = 16, foils: int = 24) -> None:
        self.dual = FAMILIES[family](tower_weights(tower))
        self.scenes, self.closeups, self.foils = scenes, closeups, foils
        if hasattr(self.dual.model, "set_attn_implementation"):
            self.dual.model.set_attn_implementation("eager")
        self.module = _DualLosses(self.dual, width=128)

    def batch(self, rng: np.random.Generator) -> Mapping[str, Tensor]:
        scenes = lessons.draw_scenes(rng, self.scenes)
        closeups = lessons.draw_scenes(rng, self.closeups, "closeups")
        languages: list[Language] = [LANGUAGES[int(k)] for k in rng.integers(0, 2, len(scenes) + len(closeups))]
        texts = [caption(scene, language) for scene, language in zip(scenes, languages, strict=False)]
        for scene, language in zip(closeups, languages[len(scenes) :], strict=True):
            texts.append((caption if rng.random() < 0.4 else lessons.label_text)(scene, language))
        texts += [caption(foil(s, rng), k) for s, k in zip(scenes[: self.foils], languages, strict=False)]
        labels = lessons.dense_labels([*scenes, *closeups])
        keys = [kind or 1000 + row for row, kind in enumerate(labels[:, 4, 0].tolist())]
        ids, mask = self.dual.ids(texts)
        return {
            "pixels": lessons.pixels([*scenes, *closeups]),
            "ids": ids,
            "mask": mask,
            "labels": labels,
            "keys": torch.tensor(keys),
        }

    def validate(self, device: torch.device) -> dict[str, float]:
        scenes, closeups = lessons.examination(500), lessons.examination(320, "closeups")
        scores: dict[str, float] = {}
        image, main = self._image(scenes, device), self._image(closeups, device)
        for language in LANGUAGES:
            text = self._text([caption(scene, language) for scene in scenes], device)
            scores[f"i2t_{language}"] = lessons.recall_at_1(image, text)
            scores[f"t2i_{language}"] = lessons.recall_at_1(text, image)
            kinds = self._text([lessons.label_text(scene, language) for scene in closeups[:16]], device)
            right = (main @ kinds.T).argmax(1).cpu() == torch.arange(len(closeups)) % 16
            scores[f"zero_shot_{language}"] = float(right.float().mean())
        return {"mean": sum(scores.values()) / len(scores)} | scores

    def _image(self, scenes: Sequence[Scene], device: torch.device) -> Tensor:
        return F.normalize(self.dual.image(lessons.pixels(scenes).to(device)).float(), dim=-1)

    def _text(self, texts: Sequence[str], device: torch.device) -> Tensor:
        ids, mask = self.dual.ids(texts)
        return F.normalize(self.dual.text(ids.to(device), mask.to(device)).float(), dim=-1)

    def save(self, folder: Path) -> None:
        self.dual.save(folder)
