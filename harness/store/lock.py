"""One writer for a run folder: its file `lock` says who is at work, and the kernel whether that is still true.

The holder keeps the file locked (flock) until its process ends, however it ends, so what a kill leaves behind is taken
over at once. Where the kernel cannot tell (another host, or a file system without such locks) the name in the file is
believed, and the message says which file to delete if that process is gone.
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
        raise UserError(
            f"{folder} cannot be written ({error.strerror}); what is there stays as it is. "
            "`harness report … --out DIR` writes a report elsewhere."
        ) from error
    try:
        yield
    finally:
        with suppress(OSError):  # a disk that has become read-only keeps the file; nobody holds it then
            path.unlink()
        file.close()


def _take(path: Path) -> TextIO:
    """The lock file, locked and with this process named in it; raises UserError where another holds it."""
    here = socket.gethostname()
    file = path.open("a+", encoding="utf-8")
    free = _locked(file)
    file.seek(0)
    owner = _read(file)
    believed = owner.get("host", here) != here or (free is None and bool(owner))
    if free is False or believed:
        file.close()
        raise UserError(_refusal(path, owner, sure=free is False))
    if not path.exists() or not os.path.samestat(path.stat(), os.fstat(file.fileno())):
        file.close()  # its last holder deleted it between our opening and our locking it
        return _take(path)
    file.truncate(0)
    json.dump({"pid": os.getpid(), "host": here, "since": time.strftime("%Y-%m-%d %H:%M:%S")}, file)
    file.flush()
    return file


def _locked(file: TextIO) -> bool | None:
    """Whether the lock is ours now; None where the system or the file system has no such locks."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return None
    return True


def _read(file: TextIO) -> dict[str, Any]:
    """What the file says of its holder; nothing where it was torn."""
    try:
        found = json.loads(file.read())
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _refusal(path: Path, owner: dict[str, Any], sure: bool) -> str:
    who = "another process"
    if owner:
        who = f"process {owner.get('pid')} on {owner.get('host')}, since {owner.get('since')}"
    end = "Wait for it to end." if sure else f"If that process is gone, delete {path} and try again."
    return f"{path.parent}: {who}, is at work on this run; a second one would spoil its records. {end}"
