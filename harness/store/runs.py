"""The folder of a run, and the list of runs: who may write there, and what the run was asked.

`results/README.md` is the format of everything in it.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from harness.errors import StorageError, UserError, nearest
from harness.store import lock
from harness.store.cells import CellStore
from harness.store.files import FULL, UNFINISHED, read_json

SUMMARY = "summary.json"
MANIFEST = {"harness": str, "started": str, "seed": int, "config": dict, "machine": dict, "models": dict,
            "datasets": dict, "prompts": dict, "left_out": list, "cells": list}  # fmt: skip
"""What run.json always says."""


class RunFolder:
    """A run's folder below `results_dir`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, results_dir: Path, name: str | None) -> RunFolder:
        """A new folder, named by the time where `name` is None, and by a number too where that is taken.

        Raises UserError for a name that is taken, and where nothing can be written.
        """
        if name is None:
            now = time.strftime("%Y-%m-%d_%H-%M-%S")
            names = (now if number == 1 else f"{now}-{number}" for number in count(1))
            name = next(free for free in names if not (results_dir / free).exists())
        path = results_dir / name
        try:
            path.mkdir(parents=True, exist_ok=True)
            there = {entry.name for entry in path.iterdir()}
        except OSError as error:
            raise UserError(f"{path} cannot be made: {error.strerror}. results_dir=DIR sets another.") from error
        folder = cls(path)
        left_by_a_kill = {name for name in there if name == "lock" or name.endswith(UNFINISHED)}
        if there - left_by_a_kill:
            hint = f"`{folder.resume}` goes on with it" if "run.json" in there else "It holds no run"
            raise UserError(f"{path} exists already. {hint}; run=NAME names a new one.")
        return folder

    @classmethod
    def open(cls, results_dir: Path, name: str) -> RunFolder:
        """An existing run, by name or by path; raises UserError where there is none."""
        for path in (results_dir / name, Path(name)):
            if (path / "run.json").exists():
                return cls(path)
        hint = nearest(name, [run.name for run in runs(results_dir)], "harness list runs")
        raise UserError(f"There is no run '{name}' in {results_dir}. {hint}")

    @property
    def name(self) -> str:
        return self.path.name

    def cell(self, key: str) -> CellStore:
        return CellStore(self.path / "cells" / key)

    def manifest(self) -> dict[str, Any]:
        """What run.json says: the resolved config, the machine, the cells and what was left out."""
        return read_json(self.path / "run.json", MANIFEST)

    def summary(self) -> dict[str, Any] | None:
        """What summary.json says; None where there is none yet."""
        path = self.path / SUMMARY
        return read_json(path) if path.exists() else None

    @property
    def resume(self) -> str:
        """The command that goes on with this run."""
        where = self.path.parent
        words = [self.name] if where == Path("results") else [self.name, f"results_dir={where}"]
        return shlex.join(["harness", "resume", *words])

    @property
    def writable(self) -> bool:
        """Whether this process may write here, as far as the system can tell beforehand."""
        return os.access(self.path, os.W_OK)

    @contextmanager
    def being_read(self) -> Iterator[None]:
        """Read here and write nothing, so that nobody is kept out. Raises UserError where something cannot be read, and
        StorageError where what is made of it finds no room elsewhere."""
        try:
            yield
        except OSError as error:
            if error.errno in FULL:
                raise StorageError(
                    f"{error.filename or 'The output'}: {error.strerror}. What was there before is valid."
                ) from error
            raise UserError(f"{error.filename or self.path} cannot be read: {error.strerror or error}.") from error

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Be the only one who writes here. Raises UserError where another is, StorageError where the disk fails."""
        with lock.hold(self.path):
            try:
                yield
            except BrokenPipeError:
                raise
            except OSError as error:
                raise StorageError(
                    f"{error.filename or self.path}: {error.strerror or error}. What was written before is valid. "
                    f"When that is mended, an unfinished run goes on with: {self.resume}"
                ) from error


def runs(results_dir: Path) -> list[RunFolder]:
    """All runs below a folder, the oldest first."""
    found = [path.parent for path in results_dir.glob("*/run.json")]
    return [RunFolder(path) for path in sorted(found, key=lambda path: (path / "run.json").stat().st_mtime)]
