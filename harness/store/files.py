"""Files that are whole or absent: a new one takes the place of the old one by one rename, once it is on the disk.

Whatever this project writes goes through here, so that a kill or a loss of power at any moment leaves the file before
or the file after, and never half of one.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from harness.errors import UserError
from harness.store.secrets import masked

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What the system says when a disk takes no more: no mistake in the command."""
UNFINISHED = ".tmp"
"""The ending of a file that is being written; a kill leaves it behind, and nobody reads it."""


def write_json(path: Path, data: Any) -> None:
    """Write data as JSON, by atomic rename: readers see the old file or the new one. NaN raises ValueError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = masked(json.dumps(data, ensure_ascii=False, indent=1, allow_nan=False))
    with replacing(path) as file:
        file.write(text.encode(errors="replace") + b"\n")


@contextmanager
def replacing(path: Path, shared: bool = False) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` once it is written and on the disk.

    What a kill leaves of it is overwritten by the next writer. A `shared` file, such as one of a cache, may have
    several writers at once, so each writes under a name of its own.
    """
    own = f".{os.getpid()}-{threading.get_ident()}" if shared else ""
    temporary = path.with_name(path.name + own + UNFINISHED)
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_names(path.parent)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A new folder to be filled, which then takes the place of the folder `path`."""
    fresh, old = path.with_name(f"{path.name}.new"), path.with_name(f"{path.name}.old")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    yield fresh
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
        path.replace(old)
    fresh.replace(path)
    shutil.rmtree(old, ignore_errors=True)


def sync_names(folder: Path) -> None:
    """Write the names of the files in a folder to the disk; a file's own sync writes its content alone."""
    with suppress(OSError):  # Windows and some network file systems cannot, and need not
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read_json(path: Path, needs: Mapping[str, type] | None = None) -> dict[str, Any]:
    """The object in a JSON file; raises UserError for a file that is missing, is no JSON object, or lacks a key that it
    needs, with a value of this type."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it holds no JSON object")
        for key, kind in (needs or {}).items():
            if not isinstance(found.get(key), kind):
                raise ValueError(f"it has no '{key}'" if key not in found else f"its '{key}' is not what it should be")
        return found
    except RecursionError as error:
        raise UserError(f"{path} is damaged: it is nested too deep") from error
    except FileNotFoundError as error:
        raise UserError(
            f"{path} is not there: {path.parent} is not a run folder, or is one of an older version."
        ) from error
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error


def file_stem(name: str) -> str:
    """`name` without the characters that some system does not allow in a file's name."""
    return re.sub(r"[^\w.\-+]", "_", name).strip(".") or "_"


def cache_folder() -> Path:
    """Where what can be made again is kept: $HARNESS_CACHE, else `harness` in the platform's folder for caches."""
    if chosen := os.environ.get("HARNESS_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "harness"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "harness"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "harness"
