"""Models that are loaded through transformers, a file for each way of asking them, and the settings that they share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from harness.config.specs import MISSING, ModelSpec


@dataclass
class TransformersSpec(ModelSpec):
    """Any family loaded through transformers."""

    checkpoint: str = MISSING
    attention: str = "sdpa"
    """attn_implementation; "eager" where a family has no other."""
    compile: bool = False
    """torch.compile: slower to begin with, faster afterwards; answers may differ in their last digits."""
    processor: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of AutoProcessor.from_pretrained, such as {min_pixels: 3136}."""
