"""The vision tower that the pocket models begin with: a plain pre-norm ViT, trained once on dense labels.

CLIP, SigLIP, BLIP, InternVL, SmolVLM and Qwen-VL all have such a tower at heart, each with small additions. Here it is
a SigLIP vision model; `transplant` in `parts` copies it into the others before their own training.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import SiglipVisionConfig, SiglipVisionModel

from harness.pocket.teaching.lessons import dense_labels, draw_scenes, examination, pixels
from harness.pocket.teaching.readers import GridReader, read_accuracy
from harness.train.loop import Trainable

SIDE, PATCH, WIDTH, LAYERS, HEADS = 64, 16, 128, 6, 4
"""Pixels to a side of the picture and of a patch, channels of a token, and how many layers and heads there are."""


def build() -> SiglipVisionModel:
    """The untrained tower; pixels float [b, 3, 64, 64] in -1..1 become `last_hidden_state` [b, 16, 128]."""
    return SiglipVisionModel(
        SiglipVisionConfig(
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            image_size=SIDE,
            patch_size=PATCH,
            hidden_act="gelu_pytorch_tanh",
            vision_use_head=False,
        )
    )


class _Reading(nn.Module):
    """The tower with a reader that tells the dense labels from its tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = build()
        self.reader = GridReader(SIDE // PATCH, WIDTH)

    def forward(self, pixels: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"dense": self.reader(self.tower(pixels).last_hidden_state, labels)}


class Tower(Trainable[_Reading]):
    """Trains the tower."""

    def __init__(self, scenes: int = 48, closeups: int = 16) -> None:
        self.scenes, self.closeups = scenes, closeups
        self.module = _Reading()

    def batch(self, rng: np.random.Generator) -> Mapping[str, Tensor]:
        listening = self.scenes // 4
        drawn = draw_scenes(rng, self.scenes - listening) + draw_scenes(rng, listening, "listening")
        drawn += draw_scenes(rng, self.closeups, "closeups")
        return {"pixels": pixels(drawn), "labels": dense_labels(drawn)}

    def validate(self, device: torch.device) -> dict[str, float]:
        drawn = examination(400) + examination(200, "closeups")
        read = self.module.reader.read(self.module.tower(pixels(drawn).to(device)).last_hidden_state)
        return read_accuracy(*read, dense_labels(drawn).to(device))

    def save(self, folder: Path) -> None:
        self.module.tower.save_pretrained(folder)
