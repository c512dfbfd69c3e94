"""Every setting there is, as plain dataclasses without torch or Hydra.

`conf/` holds the values, `harness.config.compose` checks them against these classes, and below it nothing sees a
DictConfig. A family of models with settings of its own brings its dataclass along, in `harness.adapters.<family>`; the
member files in `conf/model/` pull it in with `defaults: [/spec/<family>@_here_, _self_]`. "???" marks what a file must
say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar, get_args

from harness.config.values import setting
from harness.records import ABLATIONS, ORIGINS, Language, Modality

MISSING: Any = "???"
DTYPES = ("auto", "float32", "bfloat16", "float16")
LANGUAGES, MODALITIES = get_args(Language), get_args(Modality)
MODEL_ORIGINS = tuple(origin for origin in ORIGINS if origin != "reference")
LONGEST = 366 * 24 * 3600.0
"""Seconds of a year: the most that any time may be."""


@dataclass
class ModelSpec:
    """One model. An adapter from outside uses this class and `options`."""

    not_in_fingerprint: ClassVar[tuple[str, ...]] = ()
    """Settings of a family that decide how a model is asked, and not what it answers."""

    _target_: str = MISSING
    """The adapter class, such as harness.adapters.open_clip.OpenClip."""
    origin: str = setting(MISSING, of=MODEL_ORIGINS)
    """in-house, domestic (China) or international."""
    developer: str = ""
    checkpoint: str = ""
    """A hub id, a local folder, or "bundled:NAME" for weights in adapters/pocket/; empty for a model without any."""
    revision: str | None = None
    """Hub revision (a commit), so that a run can be repeated."""
    parameters: float | None = None
    """In millions; decides whether the model fits the memory at hand."""
    license: str = ""
    modalities: list[str] = setting(["text", "image"], of=MODALITIES)
    languages: list[str] = setting(["en", "zh"], of=LANGUAGES)
    """Languages the model is asked in; in others its cells are skipped with that reason."""
    tasks: list[str] = field(default_factory=list)
    """Tasks it was made for, such as captioning alone; in others its cells are skipped. Empty: whatever it can do."""
    prompt: str = "chat"
    """The profile in conf/prompt/ that words its requests."""
    dtype: str = setting("auto", of=DTYPES)
    """float32, bfloat16, float16, or auto: bfloat16 on a GPU or a processor that computes it by itself, else float32
    (float16 on an older GPU). A run resolves auto once, as it begins."""
    batch_size: int | None = setting(None, least=1)
    """The most requests in one call of the adapter; None: the run's batch_size, which on the command line beats what a
    file says here."""
    max_new_tokens: int | None = setting(None, least=1)
    """The most tokens of an answer, such as 4096 for a model that reasons before it answers; None: the task's."""
    trust_remote_code: bool = False
    server: str = ""
    """For a chat model: the server in conf/server/ that runs it, such as vllm, started for it and ended after it;
    empty: it runs in the harness's own process."""
    gpus: int = setting(1, least=1)
    """How many GPUs such a server spreads the model over."""
    options: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the adapter's constructor after `spec`, for adapters without a spec class of their own."""

    @property
    def remote(self) -> bool:
        """Whether it runs elsewhere and is there already, so that it needs none of this machine's devices."""
        return False

    @property
    def patience_s(self) -> float:
        """How many seconds its process may give no sign beyond what `engine.timeout_s` allows: it waits for others."""
        return 0.0


@dataclass
class EndpointSpec(ModelSpec):
    """A model that is asked over the network: what the engine must know of one. An adapter from outside may use it in
    the place of ModelSpec (`/spec/endpoint@_here_`), with `options` for all else."""

    not_in_fingerprint: ClassVar[tuple[str, ...]] = ("api_key_env", "concurrency", "price_in", "price_out", "budget")

    base_url: str = ""
    """Where it is reached, such as https://example.com/v1."""
    api_key_env: str = ""
    """The environment variable that holds the key; empty where none is needed."""
    concurrency: int = setting(16, least=1)
    """The most requests that are under way at the same time."""
    price_in: float | None = None
    """What a million tokens of requests cost, in any currency; None: nothing is said of money."""
    price_out: float | None = None
    """What a million tokens of answers cost."""
    budget: float | None = setting(None, above=0)
    """The most that a run may spend on this model, in the currency of its prices."""

    @property
    def remote(self) -> bool:
        return True


@dataclass
class ServerSpec:
    """A server that is started for a model: a file of conf/server/."""

    command: list[str] = MISSING
    """The program and its arguments, without a shell. {python} is this Python, {checkpoint} the folder of the weights,
    {port} a free port of this machine, {gpus} the model's `gpus`, and {dtype} its dtype."""
    health: str = "/health"
    """The page that says 200 once the server is ready."""
    ready_s: float = setting(900.0, above=0, most=LONGEST)
    """The longest that it may take to be ready."""
    concurrency: int = setting(64, least=1)
    """The most requests that are under way at the same time."""


@dataclass
class TaskSpec:
    """What every task has."""

    _target_: str = MISSING
    max_new_tokens: int = setting(32, least=1)
    wording: dict[str, str] = field(default_factory=dict)
    """What a task of your own asks, by language, where the model's prompt profile has no words for it in `own`."""


@dataclass
class CaptioningSpec(TaskSpec):
    """The captioning task."""

    meteor: bool = True
    """Whether METEOR is computed for English captions where Java and pycocoevalcap are installed: it takes seconds."""


@dataclass
class DatasetSpec:
    """One data set and how its columns map to a sample."""

    source: str = MISSING
    """pocket (generated), jsonl (JSON lines and media files below data_dir) or hub (datasets.load_dataset)."""
    tasks: list[str] = MISSING
    languages: list[str] = setting(["en"], of=LANGUAGES)
    modalities: list[str] = setting(["text", "image"], of=MODALITIES)
    """What a sample shows or plays beside text; a model that lacks one is skipped."""
    path: str = ""
    """jsonl: the file, below data_dir; hub: the repository id."""
    subset: str | None = None
    revision: str | None = None
    split: str = "test"
    train_split: str = ""
    """The split on which the prior reference row is counted; empty where the data set has no other split."""
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)
    """jsonl: by the name of a split, the filter (as in `where`) that its rows pass."""
    columns: dict[str, Any] = field(default_factory=dict)
    """By the sample's field (id, cluster, image, audio, question, references, choices): the column, a list of columns,
    or a template with {column}; "{language}" in a column's name is replaced first."""
    slices: dict[str, str] = field(default_factory=dict)
    """By the name of a slice, the column that it is read from."""
    where: dict[str, Any] = field(default_factory=dict)
    """By column, the value or the list of values whose rows are kept."""
    values: dict[str, dict[Any, Any]] = field(default_factory=dict)
    """By column, what stands in the place of a value."""
    labels: dict[str, list[str]] = field(default_factory=dict)
    """By language, the closed set of labels."""
    answer_is: str = ""
    """What references say of a row's right choice: its letter, its text, or its place, index0 or index1; empty: the
    one reading that fits every row."""
    order: str = "given"
    """How a row's choices are shown: given; shuffled, by the sample's id; or circular, once in every rotation, all of
    which must be answered rightly."""
    group: str = ""
    """A column (or "COLUMN % NUMBER"): rows with the same value in it belong together, and are never drawn apart."""
    right: str = "each"
    """each: every row counts by itself; all: the rows of a group count once, and only if all of them are right."""
    bad_rows: str = "refuse"
    """What becomes of rows whose references name no choice or label: refuse (an error before the run), leave_out."""
    image_optional: bool = False
    """Whether rows without an image are asked without one; else they fail."""
    outside: bool = False
    """Whether rows may name media outside the data file's own folder, data_dir and the source's cache."""
    positives: str = ""
    """Retrieval: the column whose value joins: all images and texts of the rows with the same one fit one another."""
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
    vqa_closed: dict[str, str] = MISSING
    """For data sets with closed answers, such as yes and no, which are listed in {choices}."""
    vqa_choices: dict[str, str] = MISSING
    """For samples with options of their own, lettered line by line in {choices}; more than 26 are numbered, and {mark}
    says which."""
    captioning: dict[str, str] = MISSING
    classification: dict[str, str] = MISSING
    """Asks a model that generates to choose a label."""
    image_labels: dict[str, list[str]] = MISSING
    """Texts that stand for a label when images are embedded; several are averaged."""
    audio_labels: dict[str, list[str]] = MISSING
    answer: dict[str, str] = MISSING
    """The text that stands for one of a closed set's answers when a question is answered by embedding."""
    choice: dict[str, str] = MISSING
    """The text that stands for an option of the sample's own, which needs no question beside it."""
    own: dict[str, dict[str, str]] = field(default_factory=dict)
    """What tasks of your own ask, by the task's name and the language."""


@dataclass
class EngineSpec:
    """How jobs are run."""

    name: str = setting("local", of=("local",))
    gpus: int | None = setting(None, least=1)
    """How many GPUs to use at once, one model on each; None ("auto"): all that device= allows."""
    prepare_ahead: int = 2
    """Batches prepared on the host while the device computes; bounds memory."""
    media_gib: float = setting(2.0, above=0)
    """How much the decoded media of all prepared batches may take together, in GiB. A batch above half of it is
    prepared in smaller parts, and a sample above half of it fails."""
    timeout_s: float = setting(900.0, above=0, most=LONGEST)
    """A worker that is silent for so long (loading, or at work on one batch) is ended and its batch tried singly."""


@dataclass
class LatencySpec:
    """How latency is measured, apart from quality (harness/measure/latency.py)."""

    mode: str = setting("quick", of=("off", "quick", "full"))
    """off; quick (batch 1 after the quality pass); or full (a fresh process for each cell)."""
    warmups: int = 3
    """How many timings are thrown away first; in a full pass at most so many, fewer once they are steady."""
    samples: int = setting(36, least=1)
    """How many timings there are; 36 is the least that allows a p90, 72 a p95, 368 a p99."""
    seconds: float = setting(30.0, above=0, most=LONGEST)
    """The longest that timing may take: quick, for a model over all its cells; full, for each part of a cell's pass."""
    fixed_tokens: int = 0
    """A full pass also times answers of exactly so many tokens; 0: it does not."""


@dataclass
class ReportSpec:
    """What is written beside summary.json."""

    language: str = setting("en", of=LANGUAGES)
    """en or zh."""
    charts: bool = True


@dataclass
class RunSpec:
    """A whole run, composed."""

    models: dict[str, Any] = field(default_factory=dict)
    tasks: dict[str, Any] = field(default_factory=dict)
    datasets: dict[str, Any] = field(default_factory=dict)
    prompts: dict[str, Any] = field(default_factory=dict)
    servers: dict[str, Any] = field(default_factory=dict)
    """The servers that may be started for models, by the names of their files in conf/server/."""
    engine: EngineSpec = field(default_factory=EngineSpec)
    latency: LatencySpec = field(default_factory=LatencySpec)
    report: ReportSpec = field(default_factory=ReportSpec)
    limit: int | None = setting(None, least=1)
    """The most samples of each data set, drawn as whole clusters; None: all."""
    batch_size: int | None = setting(None, least=1)
    """None ("auto"): begins with 64 (or 256 embeddings) on a GPU, with 32 elsewhere, halved until they fit."""
    dtype: str | None = setting(None, of=DTYPES)
    """On the command line: the dtype of all models, whatever their files say; None: each model's own."""
    ablate: list[str] = setting(["none"], of=ABLATIONS)
    """Each cell is asked once for each of these: none (as it is); without image, audio or text (the question); or with
    another sample's: shuffled-image, shuffled-audio, shuffled-text."""
    seed: int = 0
    device: str = "auto"
    """cuda, mps, cpu, or auto: the first of these that is there."""
    data_dir: str | None = None
    """Where data sets of files lie; None: the environment's HARNESS_DATA."""
    results_dir: str = "results"
    run: str | None = None
    """The run's name and folder; None: the time it started."""
    budget: float | None = setting(None, above=0)
    """The most that the run may spend on models with prices, in their currency; what is left is interrupted."""


@dataclass
class Schedule:
    """How long and how fast: everything about a training run that is not the model or the data."""

    steps: int = setting(MISSING, least=1)
    learning_rate: float = 1e-3
    warmup: int = 100
    """Steps of linear warm-up, before the cosine to `final` x learning_rate at the last step."""
    final: float = 0.02
    weight_decay: float = 0.02
    """It acts on matrices only; biases, norms and embeddings of one dimension are left alone."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    accumulate: int = setting(1, least=1)
    """Batches whose gradients are summed into one step."""
    validate_every: int = setting(500, least=1)
    save_every: int = setting(250, least=1)
    seed: int = 0
    precision: str = setting("bf16", of=("no", "bf16", "fp16"))
    """Autocast of the forward pass: no, bf16 or fp16; weights and optimiser stay float32."""

    def rate(self, step: int) -> float:
        """Learning rate of step `step` (from 0)."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        done = min(1.0, (step - self.warmup) / max(1, self.steps - self.warmup))
        return self.learning_rate * (self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * done)))


@dataclass
class RecipeSpec:
    """What trains one model from nothing: a file of conf/train/."""

    _target_: str = MISSING
    """The trainable class, such as harness.adapters.pocket.tower.Tower; imported when training begins."""
    schedule: Schedule = field(default_factory=Schedule)
    options: dict[str, Any] = field(default_factory=dict)
    """Arguments of the class."""
    needs: dict[str, str] = field(default_factory=dict)
    """By argument, what the model begins with: another recipe (trained first), "bundled:NAME", a checkpoint's folder.
    The class is given the folder."""
    publish: bool = True
    """False for a stage that only others begin with."""


@dataclass
class TrainingSpec:
    """All that `harness train` was asked for, composed."""

    recipes: dict[str, Any] = field(default_factory=dict)
    """Those named, and those they need."""
    seed: int | None = None
    """Takes the place of the recipes' own; another seed is trained in a folder of its own, NAME-seed-N."""
    device: str = "auto"
    """cpu, or auto: whatever accelerate finds."""
    work_dir: str | None = None
    """Where runs are kept; None: `training` in the folder for caches ($HARNESS_CACHE, or the platform's)."""


SPECS: dict[str, type] = {
    "run": RunSpec,
    "model": ModelSpec,
    "endpoint": EndpointSpec,
    "server": ServerSpec,
    "task": TaskSpec,
    "captioning": CaptioningSpec,
    "dataset": DatasetSpec,
    "prompt": PromptSpec,
    "engine": EngineSpec,
    "latency": LatencySpec,
    "report": ReportSpec,
    "schedule": Schedule,
    "recipe": RecipeSpec,
    "training": TrainingSpec,
}
"""The names under which `conf/` pulls the classes in: `/spec/<name>@_here_`. Those of families join when asked for."""
_FAMILIES = "harness.adapters"


def spec_class(name: str) -> type:
    """The class that `conf/` calls /spec/<name>: one of the above, or else that of the family of models of this name,
    which is the subclass of ModelSpec that the module `harness.adapters.<name>` defines.

    Raises KeyError where there is none.
    """
    if name not in SPECS and name.isidentifier() and find_spec(f"{_FAMILIES}.{name}") is not None:
        module = import_module(f"{_FAMILIES}.{name}")
        own = [cls for cls in vars(module).values() if isinstance(cls, type) and cls.__module__ == module.__name__]
        SPECS.update((name, cls) for cls in own if issubclass(cls, ModelSpec))
    return SPECS[name]


def to_json(spec: Any) -> Any:
    """A spec (or a mapping of specs) as JSON, each with its name in SPECS, for `run.json` and `cell.json`."""
    if is_dataclass(spec):
        family = type(spec).__module__.removeprefix(f"{_FAMILIES}.")
        name = next((name for name, cls in SPECS.items() if cls is type(spec)), family)
        return {"spec": name} | {f.name: to_json(getattr(spec, f.name)) for f in fields(spec)}
    if isinstance(spec, Mapping):
        return {str(key): to_json(value) for key, value in spec.items()}
    if isinstance(spec, list | tuple):
        return [to_json(value) for value in spec]
    return spec


def from_json(data: Any) -> Any:
    """The inverse of `to_json`, without fields that only other versions have; raises KeyError for a spec that this
    version does not have."""
    if isinstance(data, dict):
        values = {key: from_json(value) for key, value in data.items() if key != "spec"}
        if "spec" not in data:
            return values
        made = spec_class(data["spec"])
        known = {f.name for f in fields(made)}
        return made(**{key: value for key, value in values.items() if key in known})
    if isinstance(data, list):
        return [from_json(value) for value in data]
    return data
