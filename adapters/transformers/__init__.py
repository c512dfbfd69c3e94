"""Models that transformers loads: a file for each way of asking them, and here the settings that they share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from harness.config.specs import MISSING, ModelSpec


@dataclass
class TransformersSpec(ModelSpec):
    """Settings of a model of any family that transformers loads."""

    checkpoint: str = MISSING
    auto_class: str = ""
    """The class of transformers that loads it, such as Qwen2_5OmniThinkerForConditionalGeneration, where it is not the
    one that its family uses."""
    attention: str = "sdpa"
    """The attn_implementation of transformers: "sdpa", or "eager" for a family that has no other."""
    compile: bool = False
    """Whether torch.compile is used: the first batches take longer, later ones less, and answers may differ in their
    last digits."""
    processor: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of AutoProcessor.from_pretrained, such as {min_pixels: 3136}."""
