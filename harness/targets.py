"""The classes that configurations name by `_target_`: adapters, tasks and what recipes train, and nothing else.

A configuration is a text that may come from anywhere, so a name in it must never lead to an arbitrary object: what is
handed out is a subclass of the base that the caller asks for. The modules are imported from the import path, on which
the working directory stands last.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TypeVar

from harness.errors import UserError, nearest

Base = TypeVar("Base")


def load_class(target: str, base: type[Base]) -> type[Base]:
    """The subclass of `base` that `target` ("module.Class") names.

    Raises UserError where the module or the class is not there, or where the class is of another kind.
    """
    module_name, _, class_name = target.rpartition(".")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        raise UserError(
            f"_target_ {target}: there is no module '{error.name}'. Is its folder on PYTHONPATH?"
        ) from error
    except ValueError as error:
        raise UserError(f"_target_ '{target}' must be module.Class.") from error
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        classes = [name for name, value in vars(module).items() if isinstance(value, type)]
        raise UserError(f"_target_ {target}: {module_name} has no class '{class_name}'. {nearest(class_name, classes)}")
    if not issubclass(found, base):
        raise UserError(f"_target_ {target}: {class_name} is no {base.__name__}.")
    return found
