"""Every setting there is, as plain dataclasses without torch or Hydra.

`conf/` holds the values, `harness.config.compose` checks them against these classes, and below it nothing sees a
DictConfig. A model family adds a dataclass here when it has settings of its own; the member files in `conf/model/` pull
it in with `defaults: [/spec/<family>@_here_, _self_]`. "???" marks what a file must say.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MISSING: Any = "???"


@dataclass
class ModelSpec:
    """One model. An adapter from outside uses this class and `options`."""

    _target_: str = MISSING
    """The adapter class, such as adapters.open_clip.OpenClip."""
    origin: str = MISSING
    """in-house, domestic (China) or international."""
    developer: str = ""
    checkpoint: str = MISSING
    """A hub id, a local folder, or "bundled:NAME" for weights in adapters/pocket/."""
    revision: str | None = None
    """Hub revision (a commit), so that a run can be repeated."""
    parameters: float | None = None
    """In millions; decides whether the model fits the memory at hand."""
    license: str = ""
    modalities: list[str] = field(default_factory=lambda: ["text", "image"])
    languages: list[str] = field(default_factory=lambda: ["en", "zh"])
    """Languages the model is asked in; in others its cells are skipped with that reason."""
    prompt: str = "chat"
    """The profile in conf/prompt/ that words its requests."""
    dtype: str = "auto"
    """float32, bfloat16, float16, or auto: bfloat16 on a GPU that has it, float32 elsewhere."""
    batch_size: int | None = None
    """None: the engine's."""
    trust_remote_code: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    """For adapters without a spec class of their own: keyword arguments of the constructor after `spec`."""


@dataclass
class TransformersSpec(ModelSpec):
    """Any family loaded through transformers."""

    attention: str = "sdpa"
    """attn_implementation; "eager" where a family has no other."""
    processor: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of AutoProcessor.from_pretrained, such as {min_pixels: 3136}."""


@dataclass
class OpenClipSpec(ModelSpec):
    """open_clip: `checkpoint` is a hub id, a local folder, or an architecture name with `pretrained` tag."""

    pretrained: str = ""


@dataclass
class FusionSpec(ModelSpec):
    """The in-house model; its architecture is in the checkpoint's config.json."""


@dataclass
class TaskSpec:
    """One task."""

    _target_: str = MISSING
    max_new_tokens: int = 32
    ablate: str = ""
    """Take a modality out of every request: image, audio, or shuffled-image, shuffled-audio (another sample's)."""


@dataclass
class DatasetSpec:
    """One data set and how its columns map to a sample."""

    source: str = MISSING
    """pocket (generated), jsonl (a file of JSON lines and media files below data_dir) or hub (datasets.load_dataset)."""
    tasks: list[str] = MISSING
    languages: list[str] = field(default_factory=lambda: ["en"])
    modalities: list[str] = field(default_factory=lambda: ["text", "image"])
    """What a sample shows or plays beside text; a model that lacks one is skipped."""
    path: str = ""
    """jsonl: the file, below data_dir; hub: the repository id."""
    subset: str | None = None
    revision: str | None = None
    split: str = "test"
    train_split: str = ""
    """Where the prior reference row is counted; empty where the data set has no other split."""
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)
    """jsonl: split name -> `where` filter."""
    columns: dict[str, Any] = field(default_factory=dict)
    """Sample field (id, cluster, image, audio, question, references, choices) -> column, or list of columns, or a
    template with {column}; "{language}" in a column's name is replaced first."""
    slices: dict[str, str] = field(default_factory=dict)
    """Slice name -> column."""
    where: dict[str, Any] = field(default_factory=dict)
    """Column -> value or list of values to keep."""
    values: dict[str, dict[Any, Any]] = field(default_factory=dict)
    """Column -> {value: replacement}."""
    labels: dict[str, list[str]] = field(default_factory=dict)
    """Language -> the closed label set."""
    prior_by: str = ""
    """The slice by which the prior is counted, such as category."""
    metric: str = ""
    """The headline metric, where it is not the task's default."""
    license: str = ""
    homepage: str = ""


@dataclass
class PromptSpec:
    """How requests are worded, by language. `{question}`, `{choices}` and `{label}` are filled in by the task."""

    vqa: dict[str, str] = MISSING
    vqa_choices: dict[str, str] = MISSING
    """With a closed set to choose from."""
    captioning: dict[str, str] = MISSING
    classification: dict[str, str] = MISSING
    """Asking a generating model to choose a label."""
    image_labels: dict[str, list[str]] = MISSING
    """Texts that stand for a label when images are embedded; several are averaged."""
    audio_labels: dict[str, list[str]] = MISSING
    choice: dict[str, str] = MISSING
    """The text that stands for a choice when a question with choices is answered by embedding."""
