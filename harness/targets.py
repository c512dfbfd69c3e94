"""The classes that configurations name by `_target_`: adapters, tasks and what recipes train, and nothing else.

A configuration is a text that may come from anywhere, so a name in it must never lead to an arbitrary object: what is
handed out is a subclass of the base that the caller asks for.

A module is looked for where Python imports from: installed packages, PYTHONPATH, and the folders that `--config-dir`
names. The working directory comes after all of them and is looked into for a `_target_` alone, so that a file of the
user's that happens to be called `random.py` or `tasks.py` takes nobody's place.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import TypeVar

from harness.errors import UserError, nearest

Base = TypeVar("Base")

_FORMER = re.compile(r"(?:adapters|tasks)\.\w+(?:\.\w+)+")
"""A target as it was written while `adapters` and `tasks` were top-level packages."""


def load_class(target: str, base: type[Base]) -> type[Base]:
    """The subclass of `base` that `target` ("module.Class") names, also by the name that it once had.

    Raises UserError where the module or the class is not there, or where the class is of another kind.
    """
    module_name, _, class_name = current_target(target).rpartition(".")
    if not module_name or not all(part.isidentifier() for part in target.split(".")):
        raise UserError(f"_target_ '{target}' must be module.Class.")
    if find_module(module_name) is None:
        raise UserError(
            f"_target_ {target}: there is no module '{module_name}'. Is its folder on PYTHONPATH, or named by "
            "--config-dir?"
        )
    module = importlib.import_module(module_name)
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        classes = [name for name, value in vars(module).items() if isinstance(value, type)]
        raise UserError(f"_target_ {target}: {module_name} has no class '{class_name}'. {nearest(class_name, classes)}")
    if not issubclass(found, base):
        raise UserError(f"_target_ {target}: {class_name} is no {base.__name__}.")
    return found


def current_target(target: str) -> str:
    """The name that a target has today: `adapters.open_clip.OpenClip` is now `harness.adapters.open_clip.OpenClip`.

    Any other target stays as it is, also one in a package of somebody else's that is called `adapters`.
    """
    if not _FORMER.fullmatch(target):
        return target
    now = "harness." + re.sub(r"^adapters\.transformers_", "adapters.transformers.", target)
    return now if _spec(now.rpartition(".")[0]) is not None else target


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


def import_from(folder: Path) -> None:
    """Make `folder` a place to import adapters, tasks and trainables from, after all others."""
    path = str(folder.resolve())
    if path not in sys.path:
        sys.path.append(path)


def _spec(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except (ModuleNotFoundError, ValueError):  # a package above it is absent, or it is no name of a module
        return None
