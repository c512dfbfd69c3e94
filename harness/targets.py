"""The classes that configurations name by `_target_`: adapters, tasks and what recipes train, and nothing else.

A configuration is a text that may come from anywhere, so a name in it must never lead to an arbitrary object: what is
handed out is a subclass of the base that the caller asks for.

A module is looked for where Python imports from: installed packages, PYTHONPATH, and the folders that `--config-dir`
names. The working directory comes after all of them and is looked into for a `_target_` alone, so that a file of the
user's that happens to be called `random.py` or `tasks.py` takes nobody's place.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, TypeVar

from harness.config.files import ConfigFiles
from harness.errors import UserError, nearest

Base = TypeVar("Base")

_FORMER = re.compile(r"(?:adapters|tasks)\.\w+(?:\.\w+)+")
"""A target as it was written while `adapters` and `tasks` were top-level packages."""


def load_class(target: str, base: type[Base]) -> type[Base]:
    """The subclass of `base` that `target` ("module.Class") names, also by the name that it once had.

    Raises UserError where the module or the class is not there, or where the class is of another kind.
    """
    module_name, class_name, _ = _look_for(target)
    module = importlib.import_module(module_name)
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        classes = [name for name, value in vars(module).items() if isinstance(value, type)]
        raise UserError(_no_class(target, module_name, class_name, classes))
    if not issubclass(found, base):
        raise UserError(f"_target_ {target}: {class_name} is no {base.__name__}.")
    return found


def constructor_arguments(target: str) -> set[str] | None:
    """What the constructor of a class takes, by name, read from its source so that a slip costs no import of torch.

    None where it takes anything (**), where it inherits its constructor, and where there is no source to read. Raises
    UserError where the module or the class is not there.
    """
    module_name, class_name, spec = _look_for(target)
    read = getattr(spec.loader, "get_source", None)
    source = read(module_name) if read else None
    if source is None:
        return None
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise UserError(f"_target_ {target}: {spec.origin} is not valid Python: {error}.") from error
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    if class_name not in classes:
        raise UserError(_no_class(target, module_name, class_name, classes))
    made = [n for n in classes[class_name].body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
    if not made or made[0].args.kwarg:
        return None
    return {argument.arg for argument in (*made[0].args.args[1:], *made[0].args.kwonlyargs)}


def rename_targets(specs: Iterable[Any]) -> list[str]:
    """Give each `_target_` of ours the name that it has today; returns a line to tell for each that had another."""
    lines = []
    for spec in specs:
        now = current_target(spec._target_)
        if now != spec._target_:
            lines.append(f"_target_ {spec._target_} is now {now}; please write it so.")
            spec._target_ = now
    return lines


def current_target(target: str) -> str:
    """The name that a target has today: `adapters.open_clip.OpenClip` is now `harness.adapters.open_clip.OpenClip`.

    Any other target stays as it is, also one in a package of somebody else's that is called `adapters`.
    """
    if not _FORMER.fullmatch(target):
        return target
    now = "harness." + re.sub(r"^adapters\.transformers_", "adapters.transformers.", target)
    return now if _spec(now.rpartition(".")[0]) is not None else target


def known_target(group: str, name: str) -> str | None:
    """The class of the task or model of this name, as bundled settings or the user's say it; None where none do.

    A run folder may come from anywhere, so a class is never taken from it, but looked up by its name here.
    """
    return known_setting(group, name, "_target_")


def known_setting(group: str, name: str, key: str) -> str | None:
    """What bundled settings, or the user's, say of a task or model; None where they do not."""
    return ConfigFiles(_folders).said(group, name, key)


def find_module(name: str) -> ModuleSpec | None:
    """Where a module is, without importing it (its packages are imported); None where there is none of that name.

    The working directory is put last on the import path if it alone has the module: what such an adapter imports later
    may lie beside it.
    """
    found = _spec(name)
    here = os.getcwd()
    if found is None and here not in sys.path and _spec(name.partition(".")[0]) is None:
        sys.path.append(here)
        importlib.invalidate_caches()
        found = _spec(name)
        if found is None:
            sys.path.remove(here)
    return found


_folders: list[Path] = []
"""The folders of settings that this process was given, of which the last wins."""


def folders() -> list[Path]:
    """The folders of settings that this process was given, of which the last wins."""
    return list(_folders)


def import_from(folder: Path) -> None:
    """Make `folder` a place to import adapters, tasks and trainables from, after all others, and to know them by the
    names that its settings give them."""
    if folder not in _folders:
        _folders.append(folder)
    path = str(folder.resolve())
    if path not in sys.path:
        sys.path.append(path)


def _look_for(target: str) -> tuple[str, str, ModuleSpec]:
    """The module and the class that `target` names today, and where that module is; raises UserError for no module."""
    module_name, _, class_name = current_target(target).rpartition(".")
    if not module_name or not all(part.isidentifier() for part in target.split(".")):
        raise UserError(f"_target_ '{target}' must be module.Class.")
    spec = find_module(module_name)
    if spec is None:
        raise UserError(
            f"_target_ {target}: there is no module '{module_name}'. Is its folder on PYTHONPATH, or named by "
            "--config-dir?"
        )
    return module_name, class_name, spec


def _no_class(target: str, module_name: str, class_name: str, classes: Iterable[str]) -> str:
    return f"_target_ {target}: {module_name} has no class '{class_name}'. {nearest(class_name, classes)}"


def _spec(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except (ModuleNotFoundError, ValueError):  # a package above it is absent, or it is no name of a module
        return None
