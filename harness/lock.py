"""One writer for a run folder: its file `lock` says who is at work, and the kernel whether that is still true.

The holder keeps the file locked (flock) until its process ends, however it ends, so what a kill leaves behind is taken
over at once. A lock that was written on another host is believed, because not every network file system shares locks;
the message then says which file to delete.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from harness.errors import UserError


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Be the only one who writes to `folder`; raises UserError where another is, or where nothing can be written."""
    path = folder / "lock"
    try:
        file = _take(path)
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}); what is there stays as it is.") from error
    try:
        yield
    finally:
        with suppress(OSError):  # a disk that has become read-only keeps the file; nobody holds it then
            path.unlink()
        file.close()


def _take(path: Path) -> TextIO:
    """The lock file, locked, with this process named in it."""
    here = socket.gethostname()
    file = path.open("a+", encoding="utf-8")
    free = _locked(file)
    file.seek(0)
    owner = _read(file)
    if not free or owner.get("host", here) != here:
        file.close()
        raise UserError(_refusal(path, owner, here))
    if not path.exists() or not os.path.samestat(path.stat(), os.fstat(file.fileno())):
        file.close()  # its last holder deleted it between our opening and our locking it
        return _take(path)
    file.truncate(0)
    json.dump({"pid": os.getpid(), "host": here, "since": time.strftime("%Y-%m-%d %H:%M:%S")}, file)
    file.flush()
    return file


def _locked(file: TextIO) -> bool:
    """Whether the lock is ours now. A system without flock has only the name in the file: one that is there counts."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return os.fstat(file.fileno()).st_size == 0
    return True


def _read(file: TextIO) -> dict[str, Any]:
    """Who the file names; nobody where it was torn."""
    try:
        found = json.loads(file.read())
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _refusal(path: Path, owner: dict[str, Any], here: str) -> str:
    who = "another process"
    if owner:
        who = f"process {owner.get('pid')} on {owner.get('host')}, since {owner.get('since')}"
    end = "Wait for it to end."
    if owner.get("host", here) != here:
        end = f"If that process is gone, delete {path} and try again."
    return f"{path.parent}: {who}, is at work on this run; a second one would spoil its records. {end}"
