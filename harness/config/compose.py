"""From the command line to typed settings, with Hydra's Compose API behind checks that speak to people.

Names are checked against the files in `conf/` (and the user's `--config-dir`) before Hydra is imported, so a misspelt
model costs milliseconds. Values that are paths or names are quoted before Hydra's grammar sees them, because it refuses
Chinese letters, spaces and parentheses. Whatever Hydra and OmegaConf still refuse is turned into one message that names
the file, the key and the nearest right name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from harness.checkpoint import is_here
from harness.config.files import ConfigFiles, FileFault, place, read
from harness.config.specs import (
    MODEL_ORIGINS,
    SPECS,
    DatasetSpec,
    EndpointSpec,
    ModelSpec,
    PromptSpec,
    RunSpec,
    ServerSpec,
    TaskSpec,
    TrainingSpec,
    spec_class,
    to_json,
)
from harness.config.values import allowed, faults
from harness.errors import UserError, nearest
from harness.store import secrets

GROUPS = ("model", "task", "dataset", "engine", "latency", "report")
SELECTIONS = ("model", "task", "dataset")
"""Groups of which a run takes several; the others have one member."""
DEFAULTS = {"model": "all", "task": "vqa", "dataset": "pocket"}
SERVED = "served"
"""The set of the models that are asked over the network: they may cost money, and are in no other set."""
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
    models: bool = True,
) -> Composed:
    """The run that a command line asks for, with the user's folders of settings, of which the last wins.

    Of models that were asked for through a set, those whose weights are not on this machine are in the run only with
    `absent`: composing dozens of models takes a second, too long to be told of a misspelt word. `own` are models that
    have no file: with them, others are in the run only where they are named. Without `models` there are none, for a
    look at the rest.

    Raises UserError for an unknown name or key, a bad type or a missing value. A file of the user's that was asked for
    only through a set is left out instead, and the others go on.
    """
    files = ConfigFiles(config_dirs)
    selected = {group: _split(DEFAULTS[group]) for group in SELECTIONS}
    if own or not models:
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
    said = dict(map(_parse, overrides))
    place = _Place(files, said)
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
            run = _typed(_hydra(lists + rest, place), chosen, place)
            _check_values(run, place)
            _command_line_first(run, said)
            if by_dataset:
                made_for = {task for spec in run.datasets.values() for task in spec.tasks}
                run.tasks = {name: spec for name, spec in run.tasks.items() if name in made_for} or run.tasks
            before = set(run.models)
            run.models |= own or {}
            for name in own or ():
                _check_model(run, name, place)
            for name, spec in run.models.items():
                if spec.server:
                    run.models[name] = _behind_server(run, name, spec, place)
            return Composed(run, from_sets - (set(chosen["model"]) - before), choice.faults)
        except FileFault as fault:
            choice.drop(fault)


def _command_line_first(run: RunSpec, said: Collection[str]) -> None:
    """Have `batch_size` and `dtype` on the command line beat what the models' files say of them; what is said there of
    one model (`models.NAME.batch_size`) beats both."""
    for name, model in run.models.items():
        if "batch_size" in said and f"models.{name}.batch_size" not in said:
            model.batch_size = None
        if run.dtype is not None and f"models.{name}.dtype" not in said:
            model.dtype = run.dtype


CHAT, SERVED_CHAT = "harness.adapters.transformers.chat.", "harness.adapters.served.chat.Served"
"""Adapters of models that a server can run as well, by how their names begin; and the adapter that asks it."""


def _behind_server(run: RunSpec, name: str, spec: ModelSpec, place: _Place) -> ModelSpec:
    """The settings of a chat model as those of one that a server answers for, which is started for it."""
    if spec.server not in run.servers:
        advice = f"there is no such server. {nearest(spec.server, run.servers)}"
        raise place.wrong(f"models.{name}.server", advice, spec.server)
    if not spec._target_.startswith(CHAT):
        advice = f"only chat models ({CHAT}…) can be run by a server."
        raise place.wrong(f"models.{name}.server", advice, spec.server)
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
    return _objects(_hydra(lists, _Place(files, {})), _Place(files, {})).servers


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
            raise UserError(f"There is no recipe '{name}'. {nearest(name, [*known, 'all'], 'harness list recipes')}")
    place = _Place(files, dict(map(_parse, overrides)))
    if not named:
        raise UserError(f"Say what to train: model=NAME, [A,B] or all. Recipes: {', '.join(known)}.")
    if "all" in named:
        every = _recipes(list(known), rest, place)
        named = [name for name, recipe in every.recipes.items() if recipe.publish]
    rest += [("" if key.startswith("schedule") else "++") + f"recipes.{n}.{key}={v}" for n in named for key, v in inner]
    spec = _recipes(named, rest, place)
    return spec, named


def _recipes(names: Sequence[str], overrides: list[str], place: _Place) -> TrainingSpec:
    """The recipes `names` and those that they need, and so on."""
    files = place.files
    known = files.members("train")
    wanted = dict.fromkeys(names)
    while True:
        for name in wanted:
            files.check("train", name)
        lists = [f"+spec@recipes.{name}=recipe" for name in wanted]
        lists += [f"+train@recipes.{name}='{name}'" for name in wanted]
        spec: TrainingSpec = _objects(_hydra(lists + overrides, place, root="training"), place)
        needed = dict.fromkeys(n for recipe in spec.recipes.values() for n in recipe.needs.values() if n in known)
        if needed.keys() <= wanted.keys():
            for name, recipe in spec.recipes.items():
                for key, value, advice in faults(recipe):
                    raise place.wrong(f"recipes.{name}.{key}", advice, value)
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
        groups = [group for group in (*SELECTIONS, "train") if override in ConfigFiles().members(group)]
        advice = "write key=value (task=vqa, limit=100) or ~models.NAME to leave one out."
        if groups:
            advice = f"did you mean {groups[0].replace('train', 'model')}={override}?"
        raise UserError(f"'{override}' is not a setting: {advice}")
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
        see = f"harness list {group}s"
        if not names:
            raise UserError(f"{group}= names nothing. Give a name, a list or 'all'. {nearest('', known, see)}")
        explicit = [name for name in names if name in known]
        sets = [name for name in names if name not in known]
        for name in sets:
            if name != "all" and not (group == "model" and name in (*MODEL_ORIGINS, SERVED)):
                extra = ["all", *((*MODEL_ORIGINS, SERVED) if group == "model" else ())]
                raise UserError(f"There is no {group} '{name}'. {nearest(name, [*known, *extra], see)}")
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
    root = key.split(".")[0]
    if not all(key.split(".")):
        raise UserError(f"'{key}' is not the name of a setting. `harness run … --cfg` shows the settings there are.")
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


def _hydra(overrides: list[str], place: _Place, root: str = "config") -> Any:
    """The composed DictConfig; every complaint of Hydra's becomes a UserError."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra

    store = ConfigStore.instance()
    for name, cls in SPECS.items():
        store.store(group="spec", name=name, node=cls)
    GlobalHydra.instance().clear()
    try:
        with place.files.merged() as folder, initialize_config_dir(str(folder), version_base="1.3"):
            return hydra_compose(root, overrides=overrides)
    except UserError:
        raise
    except Exception as error:  # of theirs, and what Python raises within them, such as for a number without end
        raise _explained(error, place) from error


class _Place:
    """Where each setting was said, the command line or a file, so that a message can name the place."""

    def __init__(self, files: ConfigFiles, said: Mapping[str, str | None]) -> None:
        self.files, self.said = files, said

    def wrong(
        self, key: str, reason: str, given: Any = None, file: Path | None = None, secret: bool = False
    ) -> UserError:
        """The error of a setting such as "models.mine.batch_size": a FileFault where a member's file says it.

        `given` is the value, if it is known; a `secret` one is not shown. `file` is known where the error came from
        reading it.
        """
        group, name, inner = [*key.split(".", 2), "", ""][:3]
        names = (f"{key}.", f"{inner}.") if group == "recipes" else (f"{key}.",)
        said = next((known for known in self.said if any(n.startswith(f"{known}.") for n in names)), None)
        if file is None and said is not None:
            return UserError(f"{_shown(said, None if secret else self.said[said])}: {reason}")
        file = file or self.files.members(_GROUP_OF.get(group, "")).get(name)
        if file is None:
            return UserError(f"{_shown(key, given)}: {reason}")
        return FileFault(file, f"{place(file, inner)}: {_shown(inner, given)}: {reason}".replace(": : ", ": "))


def _shown(key: str, given: Any) -> str:
    """A setting as it was given, cut to a readable length."""
    if given is None:
        return key
    text = str(given).lower() if isinstance(given, bool) else str(given)
    if secrets.is_secret(key, text.strip("'\"[]{} ")):
        return key
    return f"{key}={text if len(text) <= _SHOWN else text[:_SHOWN] + '…'}"


_SHOWN = 80
"""A value is shown up to so many characters."""
_GROUP_OF = {f"{group}s": group for group in ("model", "task", "dataset", "prompt", "server")} | {"recipes": "train"}
"""By the mapping in which a run holds them, the group of the members."""
_CLASS_OF = {
    "models": ModelSpec,
    "tasks": TaskSpec,
    "datasets": DatasetSpec,
    "prompts": PromptSpec,
    "servers": ServerSpec,
}


def _explained(error: Exception, place: _Place) -> UserError:
    """One message for people out of Hydra's chain of exceptions; a FileFault where a file of the user's is to blame."""
    chain: list[BaseException] = []
    step: BaseException | None = error
    while step is not None and step not in chain:
        chain.append(step)
        step = step.__cause__ or step.__context__
    if setting := getattr(error, "override", ""):  # it could not even be taken apart
        advice = "brackets and quotes must be closed, and a text that holds them stands in quotes of its own"
        shown = _shown(*setting.lstrip("+").partition("=")[::2])
        return UserError(f"{shown}: this cannot be read as a value: {advice}.")
    text = "\n".join(str(step) for step in chain)
    member = re.search(r"In '([\w-]+)/([^'\n]+)'", text)
    file = place.files.members(member[1]).get(member[2]) if member else None
    if file is not None and not place.files.is_own(file):
        file = None  # ours are sound: it is what the command line says
    full_key = re.search(r"full_key: (\S+)", text)
    key = re.sub(r"\[\d+\]$", "", full_key[1]) if full_key else ""
    unknown = re.search(r"Key '([^']+)' (?:is )?not in '([^']+)'", text)
    if unknown:
        cls = next((cls for cls in SPECS.values() if cls.__name__ == unknown[2].split(".")[-1]), None)
        hint = nearest(unknown[1], [f.name for f in fields(cls)]) if cls else ""
        return place.wrong(key or unknown[1], f"there is no such key. {hint}".strip(), file=file)
    member_key = re.match(r"(model|task|dataset|prompt|server)s\.([\w-]+)", key)
    if member_key and "not in struct" in text:
        hint = nearest(member_key[2], place.files.members(member_key[1]))
        return UserError(f"There is no {member_key[1]} '{member_key[2]}' in this run. {hint}")
    if deleted := re.search(r"Could not delete from config\. '([^']+)'", text):
        return UserError(f"~{deleted[1]}: this is not in the run. ~models.NAME leaves out a model that is.")
    override = re.search(r"Could not override '([^']+)'|Override ([^=\s]+)", text)
    if override and not full_key:
        name = override[1] or override[2]
        return UserError(f"There is no key '{name}' to set. `harness run … --cfg` shows the keys there are.")
    within = next((said for said in place.said if said.startswith(f"{key}.")), key) if key and file is None else key
    return place.wrong(within, _reason(key, text, chain), _value(text), file)


def _value(text: str) -> str | None:
    """The value that OmegaConf complains of."""
    found = re.search(r"Value '(.*?)' (?:of type|is not a valid|could not)|Value (\S+) \(\w+\)", text)
    return "null" if "is not Optional" in text else found and (found[1] if found[1] is not None else found[2])


def _reason(key: str, text: str, chain: Sequence[BaseException]) -> str:
    """What is wrong with the value of a setting, in words that name no class of a library."""
    if missing := re.search(r"Interpolation key '([^']+)' not found", text):
        return f"${{{missing[1]}}} stands for a setting, and there is none of that name."
    if "nterpolation" in text or "${" in text:
        return "what stands between ${ and } cannot be filled in."
    group, name, inner, deeper = [*key.split(".", 3), "", "", ""][:4]
    if inner and (group in _CLASS_OF or group == "recipes"):
        base = _CLASS_OF.get(group, SPECS["recipe"])
        of = re.search(r"object_type=(\w+)", text)
        classes = [cls for cls in SPECS.values() if issubclass(cls, base)]
        named = [cls for cls in (*classes, SPECS["schedule"]) if of and cls.__name__ == of[1]]
        path = [inner, *filter(None, [deeper])]
    else:
        named, classes, path = [], [SPECS.get(group, RunSpec)], [name] if group in SPECS else [group]
    last = path[-1].split(".")[-1]
    for cls in [*named, *classes]:
        if last in {f.name for f in fields(cls)}:
            return allowed(cls, last)
    if found := re.search(r"is incompatible with type hint '(\w+)'|could not be converted to (\w+)", text):
        kind = (found[1] or found[2]).lower()
        return f"give {'a text: quote it' if kind.startswith('str') else 'a number'}."
    reason = str(chain[-1]).split("\n")[0]
    return "this value does not fit here." if _LIBRARY.search(reason) else reason


_LIBRARY = re.compile(r"\$[A-Z]|exception|error\b|config\b|\b(dict|list)\b|omegaconf|hydra", re.IGNORECASE)
"""Words of a library's own, which tell a person nothing."""


def _typed(config: Any, chosen: dict[str, list[str]], place: _Place) -> RunSpec:
    """The DictConfig as dataclasses; a missing value or a member without a spec is a UserError that names its file."""
    from omegaconf import OmegaConf

    for group in SELECTIONS:
        for name in chosen[group]:
            node = (config.get(f"{group}s") or {}).get(name)
            if node is not None and OmegaConf.get_type(node) in (dict, None):
                begin = f"`# @package {group}s.{name}` and `defaults: [/spec/{group}@_here_, _self_]`"
                raise FileFault(
                    place.files.members(group)[name], f": the settings have no type. Begin the file with {begin}."
                )
    return _objects(config, place)


def _objects(config: Any, place: _Place) -> Any:
    """The DictConfig as dataclasses; a missing value is a UserError that names its file."""
    from omegaconf import OmegaConf
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    try:
        return OmegaConf.to_object(config)
    except MissingMandatoryValue as error:
        missing = re.search(r"(\w+)s\.([\w-]+)\.([\w.]+)", str(error))
        if missing is None:
            raise UserError(str(error).split("\n")[0]) from error
        file = place.files.members("train" if missing[1] == "recipe" else missing[1]).get(missing[2])
        reason = f": '{missing[3]}' has no value; it must be given."
        raise (FileFault(file, reason) if file else UserError(f"{missing[2]}{reason}")) from error
    except OmegaConfBaseException as error:
        raise _explained(error, place) from error


def _check_model(run: RunSpec, name: str, place: _Place) -> None:
    spec, key = run.models[name], f"models.{name}"
    if not isinstance(spec, ModelSpec):
        raise place.wrong(key, f"{key} is not a model. `# @package {key}` must stand at the top of its file.")
    for inner, value, advice in faults(spec):
        raise place.wrong(f"{key}.{inner}", advice, value)
    if spec.prompt not in run.prompts:
        advice = f"there is no such prompt profile. {nearest(spec.prompt, run.prompts)}"
        raise place.wrong(f"{key}.prompt", advice, spec.prompt)
    settings = {key: value for key, value in to_json(spec).items() if key not in _NOT_SECRET}
    if secret := secrets.secret_in(settings):
        raise place.wrong(f"{key}.{secret}", secrets.ADVICE, secret=True)
    if spec.gpus > 1 and not spec.server:
        raise place.wrong(f"{key}.gpus", "a server alone spreads a model over several (server=vllm).", spec.gpus)
    if isinstance(spec, EndpointSpec):
        if (spec.price_in is None) != (spec.price_out is None):
            raise place.wrong(
                f"{key}.{'price_out' if spec.price_out is None else 'price_in'}", "give both prices or none."
            )
        if spec.budget is not None and spec.price_in is None:
            advice = "without price_in and price_out nobody knows what is spent."
            raise place.wrong(f"{key}.budget", advice, spec.budget)


def _check_values(run: RunSpec, place: _Place) -> None:
    """Check what types alone cannot say."""
    for key, value, advice in faults(run):
        if not key.startswith(tuple(f"{group}." for group in _CLASS_OF)):
            raise place.wrong(key, advice, value)
    for name in run.models:
        _check_model(run, name, place)
    for group, cls in _CLASS_OF.items():
        for name, spec in getattr(run, group).items():
            if not isinstance(spec, cls):
                raise place.wrong(f"{group}.{name}", f"this is not a {_GROUP_OF[group]}.")
            for key, value, advice in faults(spec) if group != "models" else ():
                raise place.wrong(f"{group}.{name}.{key}", advice, value)
    run.ablate = list(dict.fromkeys(run.ablate)) or ["none"]
    if run.run is not None and (not run.run.strip() or run.run in (".", "..") or re.search(r"[/\\\0]", run.run)):
        raise UserError(f"{_shown('run', run.run)}: this cannot be the name of a folder.")
