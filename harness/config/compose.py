"""From the command line to typed settings, with Hydra's Compose API behind checks that speak to people.

Names are checked against the files in `conf/` (and the user's `--config-dir`) before Hydra is imported, so a misspelt
model costs milliseconds. Values that are paths or names are quoted before Hydra's grammar sees them, because it refuses
Chinese letters, spaces and parentheses. Whatever Hydra and OmegaConf still refuse is turned into one message that names
the file, the key and the nearest right name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from harness.checkpoint import is_here
from harness.config.specs import SPECS, ModelSpec, RunSpec, TrainingSpec, spec_class
from harness.errors import UserError, nearest
from harness.records import ABLATIONS, ORIGINS

CONF = Path(str(files("harness.conf")))
GROUPS = ("model", "task", "dataset", "engine", "latency", "report")
SELECTIONS = ("model", "task", "dataset")
"""Groups of which a run takes several; the others have one member."""
DEFAULTS = {"model": "all", "task": "vqa", "dataset": "pocket"}
MODEL_ORIGINS = tuple(origin for origin in ORIGINS if origin != "reference")
LISTS = ("ablate",)
"""Settings that take one name or a list of names, like the selections."""
_TEXT_KEYS = re.compile(r"(^|\.)(run|results_dir|data_dir|work_dir|checkpoint|path|revision|homepage)$")
_NAME = re.compile(r"[\w+:@%-]+")
"""The name of a member. Hydra takes a point, a space or a comma in it for something else."""
_FREE_KEYS = re.compile(r"^(models|datasets)\.[\w-]+\.(options|processor|columns|slices|where|values|labels)\.")
"""Mappings whose keys are the user's own, so that Hydra must let new ones in."""


def members(group: str, config_dir: Path | None = None) -> dict[str, Path]:
    """The group's members and their files; the user's own directory comes last and wins."""
    folders = [CONF / group] + ([config_dir / group] if config_dir else [])
    return {file.stem: file for folder in folders for file in sorted(folder.glob("*.yaml"))}


def compose(
    overrides: Sequence[str],
    config_dir: Path | None = None,
    absent: bool = False,
    own: Mapping[str, ModelSpec] | None = None,
) -> tuple[RunSpec, set[str]]:
    """The run that a command line asks for, and the models that were asked for only through `all` or an origin.

    Of the latter, those whose weights are not on this machine are in the run only with `absent`: composing dozens of
    models takes a second, too long to be told of a misspelt word. `own` are models that have no file: with them, others
    are in the run only where they are named.

    Raises UserError for an unknown name or key, a bad type or a missing value.
    """
    _check_folder(config_dir)
    selected = {group: _split(DEFAULTS[group]) for group in SELECTIONS}
    if own:
        del selected["model"]
    rest: list[str] = []
    for override in overrides:
        key, value = _parse(override)
        if key in SELECTIONS:
            selected[key] = _split(value or "")
        else:
            _check_key(key, value, config_dir)
            if key in LISTS and value is not None:
                override = f"{key}=[{','.join(_split(value))}]"
                value = override.partition("=")[2]
            free = "++" if _FREE_KEYS.search(key) and override.startswith(key) else ""
            rest.append(free + _quoted(override, key, value))
    chosen, from_sets = _choose(selected, config_dir)
    chosen.setdefault("model", [])
    if not absent:
        mentioned = {key.split(".")[1] for key, _ in map(_parse, overrides) if key.startswith("models.")}
        models = members("model", config_dir)
        left_out = {name for name in from_sets - mentioned if not is_here(_said(models[name], "checkpoint") or "")}
        chosen["model"] = [name for name in chosen["model"] if name not in left_out]
    lists = [f"{group}={_listed(names)}" for group, names in chosen.items()]
    lists.append(f"prompt={_listed(members('prompt', config_dir))}")
    _check_headers(chosen | {"prompt": list(members("prompt", config_dir))}, config_dir)
    _load_families(members("model", config_dir)[name] for name in chosen["model"])
    run = _typed(_hydra(lists + rest, config_dir), chosen, config_dir)
    _command_line_first(run, {key for key, _ in map(_parse, overrides)})
    run.models |= own or {}
    _check_values(run, config_dir)
    return run, from_sets - (set(chosen["model"]) - set(run.models))


def _command_line_first(run: RunSpec, said: set[str]) -> None:
    """Have `batch_size` on the command line beat what the models' files say of it; `models.NAME.batch_size` there beats
    both."""
    if "batch_size" in said:
        for name, model in run.models.items():
            if f"models.{name}.batch_size" not in said:
                model.batch_size = None


def compose_training(overrides: Sequence[str], config_dir: Path | None = None) -> tuple[TrainingSpec, list[str]]:
    """The recipes that a command line asks for, those that they need included, and the names of the former.

    `schedule.…`, `options.…` and `needs.…` hold for every recipe that is named. Raises UserError as `compose` does.
    """
    _check_folder(config_dir)
    known = members("train", config_dir)
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
        every = _recipes(list(known), rest, config_dir)
        named = [name for name, recipe in every.recipes.items() if recipe.publish]
    rest += [("" if key.startswith("schedule") else "++") + f"recipes.{n}.{key}={v}" for n in named for key, v in inner]
    spec = _recipes(named, rest, config_dir)
    for name, recipe in spec.recipes.items():
        if recipe.schedule.precision not in (precisions := ("no", "bf16", "fp16")):
            hint = nearest(recipe.schedule.precision, precisions)
            raise UserError(f"{known[name]}: schedule.precision '{recipe.schedule.precision}' is unknown. {hint}")
    return spec, named


def _recipes(names: Sequence[str], overrides: list[str], config_dir: Path | None) -> TrainingSpec:
    """The recipes `names` and those that they need, and so on."""
    known = members("train", config_dir)
    wanted = dict.fromkeys(names)
    while True:
        lists = [f"+spec@recipes.{name}=recipe" for name in wanted]
        lists += [f"+train@recipes.{name}='{name}'" for name in wanted]
        spec: TrainingSpec = _objects(_hydra(lists + overrides, config_dir, root="training"), config_dir)
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


def _choose(selected: dict[str, list[str]], config_dir: Path | None) -> tuple[dict[str, list[str]], set[str]]:
    """Names by group with sets expanded; and the models that came through a set alone."""
    chosen: dict[str, list[str]] = {}
    from_sets: set[str] = set()
    for group, names in selected.items():
        known = members(group, config_dir)
        if not names:
            raise UserError(f"{group}= names nothing. Give a name, a list or 'all'. Known: {', '.join(known)}.")
        explicit = [name for name in names if name in known]
        sets = [name for name in names if name not in known]
        for name in sets:
            if name != "all" and not (group == "model" and name in MODEL_ORIGINS):
                extra = ["all", *(MODEL_ORIGINS if group == "model" else ())]
                raise UserError(f"There is no {group} '{name}'. {nearest(name, [*known, *extra])}")
        members_ = list(known) if sets else []
        if group == "model":
            origins = MODEL_ORIGINS if "all" in sets else sets
            members_ = [name for name in members_ if (_said(known[name], "origin") or origins[0]) in origins]
            from_sets = set(members_) - set(explicit)
        chosen[group] = list(dict.fromkeys(explicit + members_))
    return chosen, from_sets


def _said(file: Path, key: str) -> str | None:
    """A value that stands as plain text in a member's file: what must be known before it is worth composing."""
    found = re.search(rf"^{key}:[ \t]+(['\"]?)([^\s'\"#]+)\1[ \t]*(#.*)?$", file.read_text("utf-8"), re.MULTILINE)
    return found[2] if found else None


def _check_key(key: str, value: str | None, config_dir: Path | None) -> None:
    root = key.split(".")[0].split("@")[0]
    known = {f.name for f in fields(RunSpec)} | set(GROUPS)
    if root not in known:
        raise UserError(f"There is no setting '{root}'. {nearest(root, known)}")
    if root in ("engine", "latency", "report") and "." not in key and value is not None:
        names = members(root, config_dir)
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


def _check_folder(config_dir: Path | None) -> None:
    if config_dir is not None and not config_dir.is_dir():
        raise UserError(f"--config-dir {config_dir}: there is no such folder.")


def _check_headers(chosen: dict[str, list[str]], config_dir: Path | None) -> None:
    """Hydra reads where a file belongs from its first lines and says nothing sensible where that is missing."""
    for group, names in chosen.items():
        found = members(group, config_dir)
        for name in names:
            own = config_dir is not None and found[name].is_relative_to(config_dir)
            if own and not _NAME.fullmatch(name):
                raise UserError(
                    f"{found[name]}: '{name}' cannot be a name: names have letters, digits, - and _. Rename the file."
                )
            header = f"# @package {group}s.{name}"
            if own and found[name].read_text("utf-8").lstrip().split("\n")[0].rstrip() != header:
                raise UserError(f"{found[name]}: the first line must be `{header}`.")


def _load_families(files: Iterable[Path]) -> None:
    """Have the settings classes of the families at hand that these members ask for; Hydra tells of one that is not."""
    for name in {name for file in files for name in re.findall(r"/spec/(\w+)@_here_", file.read_text("utf-8"))}:
        with suppress(KeyError):
            spec_class(name)


def _hydra(overrides: list[str], config_dir: Path | None, root: str = "config") -> Any:
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
    search = [f"hydra.searchpath=[{_escaped(f'file://{config_dir.resolve()}')}]"] if config_dir else []
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return hydra_compose(root, overrides=overrides + search)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_explain(error, config_dir)) from error


def _explain(error: Exception, config_dir: Path | None) -> str:
    """One message for people out of Hydra's chain of exceptions."""
    chain: list[BaseException] = []
    step: BaseException | None = error
    while step is not None and step not in chain:
        chain.append(step)
        step = step.__cause__ or step.__context__
    if setting := getattr(error, "override", ""):  # it could not even be taken apart
        reason = [str(step).split("\n")[0] for step in chain if str(step) not in ("", "None")][-1]
        return f"'{setting.lstrip('+')}' cannot be read as a setting: {reason}."
    text = "\n".join(str(step) for step in chain)
    member = re.search(r"In '([\w-]+)/([\w-]+)'", text)
    where = ""
    if member:
        file = members(member[1], config_dir).get(member[2])
        where = f"{file}: " if file else f"conf/{member[1]}/{member[2]}.yaml: "
    full_key = re.search(r"full_key: (\S+)", text)
    key = full_key[1] if full_key else ""
    unknown = re.search(r"Key '([^']+)' (?:is )?not in '([^']+)'", text)
    if unknown:
        cls = next((cls for cls in SPECS.values() if cls.__name__ == unknown[2].split(".")[-1]), None)
        hint = nearest(unknown[1], [f.name for f in fields(cls)]) if cls else ""
        return f"{where}there is no key '{key or unknown[1]}'. {hint}".strip()
    member_key = re.fullmatch(r"(model|task|dataset|prompt)s\.([\w-]+)", key)
    if member_key and "not in struct" in text:
        hint = nearest(member_key[2], members(member_key[1], config_dir))
        return f"there is no {member_key[1]} '{member_key[2]}' in this run. {hint}"
    override = re.search(r"Could not override '([^']+)'", text)
    if override and not full_key:
        return f"{where}there is no key '{override[1]}' to set. `harness run … --cfg` shows the keys there are."
    reason = str(chain[-1]).split("\n")[0]
    for step in chain:
        line = str(step).split("\n")[0]
        if "Value" in line or "could not be converted" in line:
            reason = line
            break
    return f"{where}{key + ': ' if key else ''}{reason}"


def _typed(config: Any, chosen: dict[str, list[str]], config_dir: Path | None) -> RunSpec:
    """The DictConfig as dataclasses; a missing value or a member without a spec is a UserError that names its file."""
    from omegaconf import OmegaConf

    for group in SELECTIONS:
        for name in chosen[group]:
            node = config.get(f"{group}s", {}).get(name)
            if node is not None and OmegaConf.get_type(node) in (dict, None):
                raise UserError(
                    f"{members(group, config_dir)[name]}: the settings have no type. Begin the file with "
                    f"`# @package {group}s.{name}` and `defaults: [/spec/{group}@_here_, _self_]`."
                )
    return _objects(config, config_dir)


def _objects(config: Any, config_dir: Path | None) -> Any:
    """The DictConfig as dataclasses; a missing value is a UserError that names its file."""
    from omegaconf import OmegaConf
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    try:
        return OmegaConf.to_object(config)
    except MissingMandatoryValue as error:
        missing = re.search(r"(\w+)s\.([\w-]+)\.([\w.]+)", str(error))
        if missing is None:
            raise UserError(str(error).split("\n")[0]) from error
        file = members("train" if missing[1] == "recipe" else missing[1], config_dir).get(missing[2])
        raise UserError(f"{file}: '{missing[3]}' has no value; it must be given.") from error
    except OmegaConfBaseException as error:
        raise UserError(_explain(error, config_dir)) from error


def _check_values(run: RunSpec, config_dir: Path | None) -> None:
    """Check what types alone cannot say."""
    for name, spec in run.models.items():
        file = members("model", config_dir).get(name, name)
        if not isinstance(spec, ModelSpec):
            raise UserError(f"{file}: models.{name} is not a model. `# @package models.{name}` must stand at its top.")
        if spec.origin not in MODEL_ORIGINS:
            raise UserError(f"{file}: origin '{spec.origin}' is unknown. {nearest(spec.origin, MODEL_ORIGINS)}")
        if spec.prompt not in run.prompts:
            raise UserError(f"{file}: there is no prompt profile '{spec.prompt}'. {nearest(spec.prompt, run.prompts)}")
        if spec.dtype not in (dtypes := ("auto", "float32", "bfloat16", "float16")):
            raise UserError(f"{file}: dtype '{spec.dtype}' is unknown. {nearest(spec.dtype, dtypes)}")
    for ablation in run.ablate:
        if ablation not in ABLATIONS:
            raise UserError(f"ablate={ablation}: there is no such ablation. {nearest(ablation, ABLATIONS)}")
    run.ablate = list(dict.fromkeys(run.ablate)) or ["none"]
    if run.latency.mode not in (modes := ("off", "quick", "full")):
        raise UserError(f"latency.mode={run.latency.mode} is unknown. {nearest(run.latency.mode, modes)}")
    if run.run is not None and (not run.run.strip() or run.run in (".", "..") or re.search(r"[/\\\0]", run.run)):
        raise UserError(f"run={run.run!r} cannot be the name of a folder.")
    for key in ("limit", "batch_size"):
        value = getattr(run, key)
        if value is not None and value < 1:
            raise UserError(f"{key}={value}: give a number of at least 1.")
