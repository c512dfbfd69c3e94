"""The in-house fusion model: text, image and audio."""

from __future__ import annotations

from dataclasses import dataclass

from harness.config.specs import MISSING, ModelSpec


@dataclass
class FusionSpec(ModelSpec):
    """The in-house model; its architecture is in the checkpoint's config.json."""

    checkpoint: str = MISSING
