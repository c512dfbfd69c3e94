"""The fusion model's architecture as data: what `config.json` in a checkpoint says."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from harness.errors import UserError, nearest
from harness.store.files import write_json

Fusion = Literal["weighted", "concat", "self-attention", "cross-attention"]
MODEL_TYPE = "harness-fusion"


@dataclass(frozen=True)
class FusionConfig:
    """Sizes and choices. The encoders' own sizes are in `text`, `image` and `audio`; their tokens meet at `width`."""

    fusion: Fusion = "self-attention"
    width: int = 128
    heads: int = 4
    fusion_layers: int = 2
    """Layers of self- or cross-attention fusion."""
    decoder_layers: int = 2
    slots: int = 8
    """How many summary vectors each modality is reduced to before weighted and concat fusion."""
    fixed_weights: tuple[float, float, float] | None = None
    """The weights of (text, image, audio) in weighted fusion, where the user sets them; None learns them."""
    modality_dropout: float = 0.05
    """The chance, in training, that a modality of a question is masked."""
    vocabulary: int = 1024
    special: tuple[int, int, int] = (0, 1, 2)
    """Token ids of padding, of an answer's start and of its end."""
    max_text: int = 64
    max_answer: int = 80
    text: dict[str, Any] = field(default_factory=lambda: {"layers": 2})
    """The pocket encoder has {"layers"}; a published one {"backbone": its transformers config as a dict}."""
    image: dict[str, Any] = field(default_factory=lambda: {"size": 64, "widths": [32, 64, 96, 72]})
    """The pocket ResNet has {"size", "widths"}; a published model {"size"}, "mean" and "std" where they are not .5, and
    "timm" (a name that timm knows) or "backbone"."""
    audio: dict[str, Any] = field(default_factory=lambda: {"rate": 8000, "mels": 40, "widths": [64, 96, 128]})
    """Both have {"rate" (Hz), "mels"}; the pocket encoder also {"widths"}, a published one {"backbone"}."""

    def __post_init__(self) -> None:
        if self.fusion not in get_args(Fusion):
            raise UserError(f"Unknown fusion '{self.fusion}'. {nearest(self.fusion, get_args(Fusion))}")

    def write(self, folder: Path) -> None:
        """Write config.json in a checkpoint's folder."""
        write_json(folder / "config.json", {"model_type": MODEL_TYPE, **asdict(self)})

    @classmethod
    def read(cls, folder: Path) -> FusionConfig:
        """Read config.json; raises UserError when it is missing, unreadable or of another model."""
        path = folder / "config.json"
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read as a fusion checkpoint's config: {error}.") from error
        found = values.pop("model_type", None) if isinstance(values, dict) else None
        if found != MODEL_TYPE:
            raise UserError(
                f"{folder} is not a checkpoint of the fusion model: config.json says model_type {found!r}, not "
                f"'{MODEL_TYPE}'. Point `checkpoint` at a folder that `harness train model=fusion-...` wrote."
            )
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise UserError(f"{path} has an unknown key '{unknown[0]}'. {nearest(unknown[0], known)}")
        for key in ("fixed_weights", "special"):
            if values.get(key) is not None:
                values[key] = tuple(values[key])
        return cls(**values)
