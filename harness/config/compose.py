"""From the command line to typed settings, with Hydra's Compose API behind checks that speak to people.

Names are checked against the files in `conf/` (and the user's `--config-dir`) before Hydra is imported, so a misspelt
model costs milliseconds. Values that are paths or names are quoted before Hydra's grammar sees them, because it refuses
Chinese letters, spaces and parentheses. Whatever Hydra and OmegaConf still refuse is turned into one message that names
the file, the key and the nearest right name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple, get_args

from harness.checkpoint import is_here
from harness.config.files import ConfigFiles, FileFault, place, read
from harness.config.specs import (
    SPECS,
    DatasetSpec,
    EndpointSpec,
    ModelSpec,
    RunSpec,
    ServerSpec,
    TrainingSpec,
    spec_class,
    to_json,
)
from harness.errors import UserError, nearest
from harness.records import ABLATIONS, ORIGINS, Language, Modality
from harness.store import secrets

GROUPS = ("model", "task", "dataset", "engine", "latency", "report")
SELECTIONS = ("model", "task", "dataset")
"""Groups of which a run takes several; the others have one member."""
DEFAULTS = {"model": "all", "task": "vqa", "dataset": "pocket"}
DTYPES = ("auto", "float32", "bfloat16", "float16")
SERVED = "served"
"""The set of the models that are asked over the network: they may cost money, and are in no other set."""
MODEL_ORIGINS = tuple(origin for origin in ORIGINS if origin != "reference")
LISTS = ("ablate",)
"""Settings that take one name or a list of names, like the selections."""
_NOT_SECRET = {f.name for f in fields(ModelSpec)} - {"options"}
"""Settings of every model, none of which can be a key."""
_TEXT_KEYS = re.compile(r"(^|\.)(run|results_dir|data_dir|work_dir|checkpoint|path|revision|homepage)$")
_FREE_KEYS = re.compile(
    r"^(models|datasets)\.[\w-]+\.(options|processor|extra_body|columns|slices|where|values|labels)(\.|$)"
)
"""Mappings whose keys are the user's own, so that Hydra must let new ones in."""


class Composed(NamedTuple):
    """What a command line asks for."""

    run: RunSpec
    from_sets: set[str]
    """The models that were asked for only through `all` or an origin."""
    faults: list[str]
    """What is wrong with files of the user's that were left out; each was asked for only through a set."""


def compose(
    overrides: Sequence[str],
    config_dirs: Sequence[Path] = (),
    absent: bool = False,
    own: Mapping[str, ModelSpec] | None = None,
) -> Composed:
    """The run that a command line asks for, with the user's folders of settings, of which the last wins.

    Of models that were asked for through a set, those whose weights are not on this machine are in the run only with
    `absent`: composing dozens of models takes a second, too long to be told of a misspelt word. `own` are models that
    have no file: with them, others are in the run only where they are named.

    Raises UserError for an unknown name or key, a bad type or a missing value. A file of the user's that was asked for
    only through a set is left out instead, and the others go on.
    """
    files = ConfigFiles(config_dirs)
    selected = {group: _split(DEFAULTS[group]) for group in SELECTIONS}
    if own:
        del selected["model"]
    rest: list[str] = []
    for override in overrides:
        key, value = _parse(override)
        if key in SELECTIONS:
            selected[key] = _split(value or "")
        else:
            _check_key(key, value, files)
            if key.startswith("models.") and secrets.is_secret(key, (value or "").strip("'\" ")):
                raise UserError(f"{key}: {secrets.ADVICE}")
            if key in LISTS and value is not None:
                override = f"{key}=[{','.join(_split(value))}]"
                value = override.partition("=")[2]
            free = "++" if _FREE_KEYS.search(key) and override.startswith(key) else ""
            rest.append(free + _quoted(override, key, value))
    said = {key for key, _ in map(_parse, overrides)}
    by_dataset = "dataset" in said and "task" not in said
    if by_dataset:  # what the data sets are made for is known once they are composed
        selected["task"] = ["all"]
    choice = _Choice(selected, files)
    chosen, from_sets = choice.names, set(choice.droppable["model"])
    chosen.setdefault("model", [])
    if not absent:
        mentioned = {key.split(".")[1] for key in said if key.startswith("models.")}
        absent_ones = from_sets - mentioned
        left_out = {name for name in absent_ones if not is_here(files.said("model", name, "checkpoint") or "")}
        chosen["model"] = [name for name in chosen["model"] if name not in left_out]
    while True:
        try:
            _load_families(files.members("model")[name] for name in chosen["model"])
            lists = [f"{group}={_listed(names)}" for group, names in chosen.items()]
            run = _typed(_hydra(lists + rest, files), chosen, files)
            _command_line_first(run, said)
            if by_dataset:
                made_for = {task for spec in run.datasets.values() for task in spec.tasks}
                run.tasks = {name: spec for name, spec in run.tasks.items() if name in made_for} or run.tasks
            before = set(run.models)
            run.models |= own or {}
            _check_values(run, files)
            for name, spec in run.models.items():
                if spec.server:
                    run.models[name] = _behind_server(run, name, spec, files)
            return Composed(run, from_sets - (set(chosen["model"]) - before), choice.faults)
        except FileFault as fault:
            choice.drop(fault)


def _command_line_first(run: RunSpec, said: set[str]) -> None:
    """Have `batch_size` and `dtype` on the command line beat what the models' files say of them; what is said there of
    one model (`models.NAME.batch_size`) beats both."""
    for name, model in run.models.items():
        if "batch_size" in said and f"models.{name}.batch_size" not in said:
            model.batch_size = None
        if run.dtype is not None and f"models.{name}.dtype" not in said:
            model.dtype = run.dtype


CHAT, SERVED_CHAT = "harness.adapters.transformers.chat.", "harness.adapters.served.chat.Served"
"""Adapters of models that a server can run as well, by how their names begin; and the adapter that asks it."""


def _behind_server(run: RunSpec, name: str, spec: ModelSpec, files: ConfigFiles) -> ModelSpec:
    """The settings of a chat model as those of one that a server answers for, which is started for it."""
    if spec.server not in run.servers:
        reason = f"there is no server '{spec.server}'. {nearest(spec.server, run.servers)}"
        raise _wrong(files, "model", name, "server", f"server: {reason}")
    if not spec._target_.startswith(CHAT):
        raise _wrong(files, "model", name, "server", f"server: only chat models ({CHAT}…) can be run by a server.")
    launch: ServerSpec = run.servers[spec.server]
    kept = {f.name: getattr(spec, f.name) for f in fields(ModelSpec) if f.name not in ("_target_", "options")}
    template = spec.options.get("template")
    return spec_class("served")(
        **kept,
        _target_=SERVED_CHAT,
        launch=launch,
        concurrency=launch.concurrency,
        extra_body={"chat_template_kwargs": template} if template else {},
    )


def servers_of_today(folders: Sequence[Path]) -> dict[str, ServerSpec]:
    """The servers as the bundled files and those of these folders describe them."""
    files = ConfigFiles(folders)
    lists = [f"server={_listed(files.members('server'))}"]
    return _objects(_hydra(lists, files), files).servers


class _Choice:
    """The members of each group that are composed. Those that came through a set alone may be left out."""

    def __init__(self, selected: Mapping[str, list[str]], files: ConfigFiles) -> None:
        self.files = files
        self.names, self.droppable = _choose(selected, files)
        for group in ("prompt", "server"):  # these always come along
            self.names[group] = list(files.members(group))
            self.droppable[group] = set(self.names[group])
        self.faults: list[str] = []
        for group, names in self.names.items():
            for name in list(names):
                try:
                    files.check(group, name)
                except FileFault as fault:
                    self.drop(fault)

    def drop(self, fault: FileFault) -> None:
        """Leave out the member whose file is wrong; raises the fault where it was asked for by name."""
        for group, names in self.names.items():
            for name in names:
                if self.files.members(group)[name] == fault.file and name in self.droppable[group]:
                    names.remove(name)
                    self.droppable[group].discard(name)
                    self.faults.append(f"{group} '{name}' is left out: {fault}")
                    if not names:
                        raise fault
                    return
        raise fault


def compose_training(overrides: Sequence[str], config_dirs: Sequence[Path] = ()) -> tuple[TrainingSpec, list[str]]:
    """The recipes that a command line asks for, those that they need included, and the names of the former.

    `schedule.…`, `options.…` and `needs.…` hold for every recipe that is named. Raises UserError as `compose` does.
    """
    files = ConfigFiles(config_dirs)
    known = files.members("train")
    roots = ("model", "dataset", *(f.name for f in fields(TrainingSpec)), "schedule", "options", "needs")
    named: list[str] = []
    inner: list[tuple[str, str]] = []
    rest: list[str] = []
    for override in overrides:
        key, value = _parse(override)
        root = key.split(".")[0]
        if value is None or root not in roots:
            raise UserError(f"There is no setting '{key}' of training. {nearest(root, roots)}")
        if root == "model":
            named = _split(value)
        elif root == "dataset":
            _check_teachable(_split(value))
        elif root in ("schedule", "options", "needs"):
            inner.append((key, _quoted(f"{key}={value}", key, value).partition("=")[2]))
        else:
            rest.append(_quoted(override, key, value))
    for name in named:
        if name not in (*known, "all"):
            raise UserError(f"There is no recipe '{name}'. {nearest(name, [*known, 'all'])}")
    if not named:
        raise UserError(f"Say what to train: model=NAME, [A,B] or all. Recipes: {', '.join(known)}.")
    if "all" in named:
        every = _recipes(list(known), rest, files)
        named = [name for name, recipe in every.recipes.items() if recipe.publish]
    rest += [("" if key.startswith("schedule") else "++") + f"recipes.{n}.{key}={v}" for n in named for key, v in inner]
    spec = _recipes(named, rest, files)
    for name, recipe in spec.recipes.items():
        if recipe.schedule.precision not in (precisions := ("no", "bf16", "fp16")):
            hint = nearest(recipe.schedule.precision, precisions)
            raise UserError(f"{known[name]}: schedule.precision '{recipe.schedule.precision}' is unknown. {hint}")
    return spec, named


def _recipes(names: Sequence[str], overrides: list[str], files: ConfigFiles) -> TrainingSpec:
    """The recipes `names` and those that they need, and so on."""
    known = files.members("train")
    wanted = dict.fromkeys(names)
    while True:
        for name in wanted:
            files.check("train", name)
        lists = [f"+spec@recipes.{name}=recipe" for name in wanted]
        lists += [f"+train@recipes.{name}='{name}'" for name in wanted]
        spec: TrainingSpec = _objects(_hydra(lists + overrides, files, root="training"), files)
        needed = dict.fromkeys(n for recipe in spec.recipes.values() for n in recipe.needs.values() if n in known)
        if needed.keys() <= wanted.keys():
            return spec
        wanted |= needed


def _check_teachable(names: list[str]) -> None:
    """The recipes there are draw their lessons from the pocket data's generator: a train split without end."""
    for name in names:
        if name not in ("pocket", "pocket-audio"):
            raise UserError(f"dataset={name}: the recipes teach the pocket data (dataset=pocket) and no other.")


def _parse(override: str) -> tuple[str, str | None]:
    """`key=value`, `+key=value` or `~key` as (key without sign, value)."""
    if override.startswith("~"):
        return override[1:].split("=")[0], None
    key, sign, value = override.partition("=")
    if not sign or not key:
        raise UserError(
            f"'{override}' is not a setting: write key=value (task=vqa, limit=100) or ~models.NAME to leave one out."
        )
    return key.lstrip("+"), value


def _listed(names: Iterable[str]) -> str:
    """Names as a list of Hydra's, quoted: to it nan is a number, null nothing and true a truth value."""
    return "[" + ",".join(f"'{name}'" for name in names) + "]"


def _split(value: str) -> list[str]:
    return [name.strip().strip("'\"") for name in value.strip("[]").split(",") if name.strip()]


def _choose(selected: Mapping[str, list[str]], files: ConfigFiles) -> tuple[dict[str, list[str]], dict[str, set[str]]]:
    """Names by group with sets expanded; and by group those that came through a set alone."""
    chosen: dict[str, list[str]] = {}
    droppable: dict[str, set[str]] = {group: set() for group in SELECTIONS}
    for group, names in selected.items():
        known = files.members(group)
        if not names:
            raise UserError(f"{group}= names nothing. Give a name, a list or 'all'. Known: {', '.join(known)}.")
        explicit = [name for name in names if name in known]
        sets = [name for name in names if name not in known]
        for name in sets:
            if name != "all" and not (group == "model" and name in (*MODEL_ORIGINS, SERVED)):
                extra = ["all", *((*MODEL_ORIGINS, SERVED) if group == "model" else ())]
                raise UserError(f"There is no {group} '{name}'. {nearest(name, [*known, *extra])}")
        of_sets = list(known) if sets else []
        if group == "model":
            of_sets = [name for name in of_sets if _is_of_set(name, sets, files)]
        droppable[group] = set(of_sets) - set(explicit)
        chosen[group] = list(dict.fromkeys(explicit + of_sets))
    return chosen, droppable


def _is_of_set(name: str, sets: Sequence[str], files: ConfigFiles) -> bool:
    """Whether a model is a member of one of the sets."""
    if _is_served(files.members("model")[name]):
        return SERVED in sets
    origin = files.said("model", name, "origin")  # a file that does not say it is found wrong later
    return "all" in sets or (origin in sets if origin else sets != [SERVED])


def _is_served(file: Path) -> bool:
    """Whether a model's file is of a family that is asked over the network."""
    try:
        names = _FAMILY.findall(read(file))
        return any(issubclass(spec_class(name), EndpointSpec) for name in names)
    except (FileFault, KeyError):
        return False


_FAMILY = re.compile(r"/spec/(\w+)@_here_")


def _check_key(key: str, value: str | None, files: ConfigFiles) -> None:
    root = key.split(".")[0].split("@")[0]
    known = {f.name for f in fields(RunSpec)} | set(GROUPS)
    if root not in known:
        raise UserError(f"There is no setting '{root}'. {nearest(root, known)}")
    if root in ("engine", "latency", "report") and "." not in key and value is not None:
        names = files.members(root)
        if value not in names:
            raise UserError(f"There is no {root} '{value}'. {nearest(value, names)}")


def _quoted(override: str, key: str, value: str | None) -> str:
    """The override with its value as a quoted string where Hydra's grammar would refuse or reinterpret it."""
    if value is None:
        return override
    head = override[: override.index("=")]
    if (key, value) in (("batch_size", "auto"), ("engine.gpus", "auto"), ("limit", "all")):
        return f"{head}=null"
    text = bool(_TEXT_KEYS.search(key))
    plain = value[:1] not in ("\"'" if text else "\"'[{") and not value.startswith("${")
    if plain and value not in ("", "null") and (text or not re.fullmatch(r"[\w.+\-/:@%]*", value, re.A)):
        return f"{head}={_escaped(value)}"
    return override


def _escaped(value: str) -> str:
    """A text as Hydra's grammar reads it between quotes: there, a backslash counts before a quote alone."""
    if value.endswith("\\") or "'" in value:
        value = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{value}'"


def _load_families(files: Iterable[Path]) -> None:
    """Have the settings classes of the families at hand that these members ask for; Hydra tells of one that is not."""
    for name in {name for file in files for name in _FAMILY.findall(read(file))}:
        with suppress(KeyError):
            spec_class(name)


def _hydra(overrides: list[str], files: ConfigFiles, root: str = "config") -> Any:
    """The composed DictConfig; every complaint of Hydra's becomes a UserError."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    store = ConfigStore.instance()
    for name, cls in SPECS.items():
        store.store(group="spec", name=name, node=cls)
    GlobalHydra.instance().clear()
    try:
        with files.merged() as folder, initialize_config_dir(str(folder), version_base="1.3"):
            return hydra_compose(root, overrides=overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise _explained(error, files) from error


def _explained(error: Exception, files: ConfigFiles) -> UserError:
    """One message for people out of Hydra's chain of exceptions; a FileFault where a file of the user's is to blame."""
    chain: list[BaseException] = []
    step: BaseException | None = error
    while step is not None and step not in chain:
        chain.append(step)
        step = step.__cause__ or step.__context__
    if setting := getattr(error, "override", ""):  # it could not even be taken apart
        reason = [str(step).split("\n")[0] for step in chain if str(step) not in ("", "None")][-1]
        return UserError(f"'{setting.lstrip('+')}' cannot be read as a setting: {reason}.")
    text = "\n".join(str(step) for step in chain)
    member = re.search(r"In '([\w-]+)/([\w-]+)'", text)
    file = files.members(member[1]).get(member[2]) if member else None

    def wrong(key: str, reason: str) -> UserError:
        """The error, at the place in the file where the key stands."""
        if file is not None and files.is_own(file):
            return FileFault(file, f"{place(file, _within(key))}: {reason}")
        return UserError(f"{file or f'conf/{member[1]}/{member[2]}.yaml'}: {reason}" if member else reason)

    full_key = re.search(r"full_key: (\S+)", text)
    key = full_key[1] if full_key else ""
    unknown = re.search(r"Key '([^']+)' (?:is )?not in '([^']+)'", text)
    if unknown:
        cls = next((cls for cls in SPECS.values() if cls.__name__ == unknown[2].split(".")[-1]), None)
        hint = nearest(unknown[1], [f.name for f in fields(cls)]) if cls else ""
        return wrong(key or unknown[1], f"there is no key '{key or unknown[1]}'. {hint}".strip())
    member_key = re.fullmatch(r"(model|task|dataset|prompt|server)s\.([\w-]+)", key)
    if member_key and "not in struct" in text:
        hint = nearest(member_key[2], files.members(member_key[1]))
        return UserError(f"there is no {member_key[1]} '{member_key[2]}' in this run. {hint}")
    override = re.search(r"Could not override '([^']+)'", text)
    if override and not full_key:
        return UserError(f"there is no key '{override[1]}' to set. `harness run … --cfg` shows the keys there are.")
    reason = str(chain[-1]).split("\n")[0]
    for step in chain:
        line = str(step).split("\n")[0]
        if "Value" in line or "could not be converted" in line:
            reason = line
            break
    return wrong(key, f"{key + ': ' if key else ''}{reason}")


def _within(key: str) -> str:
    """A key as it stands in its member's file: models.mine.batch_size is batch_size there."""
    return re.sub(r"^(models|tasks|datasets|prompts|servers|recipes)\.[^.]+\.", "", key)


def _typed(config: Any, chosen: dict[str, list[str]], files: ConfigFiles) -> RunSpec:
    """The DictConfig as dataclasses; a missing value or a member without a spec is a UserError that names its file."""
    from omegaconf import OmegaConf

    for group in SELECTIONS:
        for name in chosen[group]:
            node = config.get(f"{group}s", {}).get(name)
            if node is not None and OmegaConf.get_type(node) in (dict, None):
                begin = f"`# @package {group}s.{name}` and `defaults: [/spec/{group}@_here_, _self_]`"
                raise FileFault(
                    files.members(group)[name], f": the settings have no type. Begin the file with {begin}."
                )
    return _objects(config, files)


def _objects(config: Any, files: ConfigFiles) -> Any:
    """The DictConfig as dataclasses; a missing value is a UserError that names its file."""
    from omegaconf import OmegaConf
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    try:
        return OmegaConf.to_object(config)
    except MissingMandatoryValue as error:
        missing = re.search(r"(\w+)s\.([\w-]+)\.([\w.]+)", str(error))
        if missing is None:
            raise UserError(str(error).split("\n")[0]) from error
        file = files.members("train" if missing[1] == "recipe" else missing[1]).get(missing[2])
        reason = f": '{missing[3]}' has no value; it must be given."
        raise (FileFault(file, reason) if file else UserError(f"{missing[2]}{reason}")) from error
    except OmegaConfBaseException as error:
        raise _explained(error, files) from error


def _wrong(files: ConfigFiles, group: str, name: str, key: str, reason: str) -> UserError:
    """The error of a value that a member's file says, or that was set for it."""
    file = files.members(group).get(name)
    if file is None:
        return UserError(f"{name}: {reason}")
    return FileFault(file, f"{place(file, key)}: {reason}")


def _check_model(run: RunSpec, name: str, spec: Any, files: ConfigFiles) -> None:
    if not isinstance(spec, ModelSpec):
        reason = f"models.{name} is not a model. `# @package models.{name}` must stand at its top."
        raise _wrong(files, "model", name, "", reason)
    for key, allowed in (
        ("origin", MODEL_ORIGINS),
        ("dtype", DTYPES),
        ("prompt", tuple(run.prompts)),
    ):
        value = getattr(spec, key)
        if value not in allowed:
            said = f"there is no prompt profile '{value}'." if key == "prompt" else f"{key} '{value}' is unknown."
            raise _wrong(files, "model", name, key, f"{said} {nearest(value, allowed)}")
    _check_names(files, "model", name, spec)
    settings = {key: value for key, value in to_json(spec).items() if key not in _NOT_SECRET}
    if key := secrets.secret_in(settings):
        raise _wrong(files, "model", name, key, f"{key}: {secrets.ADVICE}")
    if spec.batch_size is not None and spec.batch_size < 1:
        raise _wrong(files, "model", name, "batch_size", f"batch_size={spec.batch_size}: give a number of at least 1.")
    if spec.parameters is not None and not (math.isfinite(spec.parameters) and spec.parameters >= 0):
        raise _wrong(files, "model", name, "parameters", f"parameters={spec.parameters} is not a number of millions.")
    if spec.gpus < 1 or (spec.gpus > 1 and not spec.server):
        reason = "a server alone spreads a model over several (server=vllm)." if spec.gpus > 1 else "give at least 1."
        raise _wrong(files, "model", name, "gpus", f"gpus={spec.gpus}: {reason}")
    if isinstance(spec, EndpointSpec):
        _check_endpoint(name, spec, files)


def _check_endpoint(name: str, spec: EndpointSpec, files: ConfigFiles) -> None:
    """Check how a model is reached and what it costs."""
    if spec.concurrency < 1:
        raise _wrong(files, "model", name, "concurrency", f"concurrency={spec.concurrency}: give at least 1.")
    for key in ("price_in", "price_out", "budget"):
        value = getattr(spec, key)
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise _wrong(files, "model", name, key, f"{key}={value} is not an amount of money.")
    if (spec.price_in is None) != (spec.price_out is None):
        key = "price_out" if spec.price_out is None else "price_in"
        raise _wrong(files, "model", name, "price_in", f"{key} has no value; give both prices or none.")
    if spec.budget is not None and spec.price_in is None:
        raise _wrong(
            files, "model", name, "budget", "budget: without price_in and price_out nobody knows what is spent."
        )


def _check_dataset(name: str, spec: Any, files: ConfigFiles) -> None:
    if isinstance(spec, DatasetSpec):
        _check_names(files, "dataset", name, spec)


def _check_names(files: ConfigFiles, group: str, name: str, spec: ModelSpec | DatasetSpec) -> None:
    """Raise the error of a language or a modality that is unknown."""
    for key, known in (("languages", get_args(Language)), ("modalities", get_args(Modality))):
        for value in getattr(spec, key):
            if value not in known:
                raise _wrong(files, group, name, key, f"{key}: '{value}' is unknown. {nearest(value, known)}")


def _check_values(run: RunSpec, files: ConfigFiles) -> None:
    """Check what types alone cannot say."""
    for name, spec in run.models.items():
        _check_model(run, name, spec, files)
    for name, spec in run.datasets.items():
        _check_dataset(name, spec, files)
    if run.dtype is not None and run.dtype not in DTYPES:
        raise UserError(f"dtype={run.dtype} is unknown. {nearest(run.dtype, DTYPES)}")
    for ablation in run.ablate:
        if ablation not in ABLATIONS:
            raise UserError(f"ablate={ablation}: there is no such ablation. {nearest(ablation, ABLATIONS)}")
    run.ablate = list(dict.fromkeys(run.ablate)) or ["none"]
    if run.latency.mode not in (modes := ("off", "quick", "full")):
        raise UserError(f"latency.mode={run.latency.mode} is unknown. {nearest(run.latency.mode, modes)}")
    if run.run is not None and (not run.run.strip() or run.run in (".", "..") or re.search(r"[/\\\0]", run.run)):
        raise UserError(f"run={run.run!r} cannot be the name of a folder.")
    if run.budget is not None and not (math.isfinite(run.budget) and run.budget > 0):
        raise UserError(f"budget={run.budget}: give an amount of money above 0.")
    for key in ("limit", "batch_size"):
        value = getattr(run, key)
        if value is not None and value < 1:
            raise UserError(f"{key}={value}: give a number of at least 1.")
