"""The in-house fusion model of text, image and audio.

`adapter` puts it behind the harness's interface. `config` says what a checkpoint holds, `processing` makes tensors of
requests, `encoders` and `backbones` encode them, `layers` has what attends, and `model` is the whole. `training`
teaches it the pocket data.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.config.specs import MISSING, ModelSpec


@dataclass
class FusionSpec(ModelSpec):
    """Settings of the in-house model; its architecture is in the checkpoint's config.json."""

    checkpoint: str = MISSING
