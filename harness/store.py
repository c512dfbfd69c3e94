"""The run folder: everything a run leaves on disk, written by the driver alone. `results/README.md` is its format.

Records are appended batch by batch and synced at least once a second, so a kill costs at most the batch in hand; a torn
last line is dropped when the file is opened again. `cell.json` comes first and `complete.json` last, both by atomic
rename, so that a cell without `complete.json` is unfinished, whatever happened.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import lock
from harness.errors import StorageError, UserError, nearest
from harness.records import Record

if TYPE_CHECKING:
    import numpy as np

RECORDS = "records.jsonl"


def write_json(path: Path, data: Any) -> None:
    """Write by atomic rename: readers see the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(data, file, ensure_ascii=False, indent=1, allow_nan=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_json(path: Path) -> Any:
    """Raises UserError for a file that is missing or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} is not there: {path.parent} is no run folder, or an older one.") from error
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error


class CellStore:
    """One cell's folder. Open for writing only in the driver."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records_path = folder / RECORDS
        self._file: Any = None
        self._synced = 0.0

    @property
    def complete(self) -> bool:
        return (self.folder / "complete.json").exists()

    @property
    def failed(self) -> bool:
        return (self.folder / "failed.json").exists()

    def info(self) -> dict[str, Any]:
        """cell.json."""
        return read_json(self.folder / "cell.json")

    @property
    def timed(self) -> bool:
        """Whether the full latency pass has been."""
        return (self.folder / "latency.json").exists()

    def outcome(self) -> dict[str, Any]:
        """complete.json (its latency that of the full pass, if one has been), or what is known of another cell."""
        for name in ("complete.json", "failed.json"):
            if (self.folder / name).exists():
                found = read_json(self.folder / name)
                return found | {"latency": read_json(self.folder / "latency.json")} if self.timed else found
        return {"status": "interrupted"}

    def begin(self, info: dict[str, Any]) -> None:
        """Write cell.json, or check that the one there has the same fingerprint; else a UserError says what changed."""
        path = self.folder / "cell.json"
        if path.exists() and self._answered:
            old, new = self.info()["fingerprint"], info["fingerprint"]
            changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
            if changed:
                what = ", ".join(f"{key} (was {old.get(key)}, is now {new.get(key)})" for key in changed)
                raise UserError(
                    f"{self.folder}: cannot go on, because its answers were made with another {what}. "
                    "Start a new run, or put back what was changed."
                )
        else:
            write_json(path, info)
        (self.folder / "failed.json").unlink(missing_ok=True)

    @property
    def _answered(self) -> bool:
        """Whether there is anything that the model has answered."""
        return self.records_path.exists() or (self.folder / "embeddings").exists()

    def shrink(self, batch_size: int) -> None:
        """Note in cell.json that memory allows no larger batches, so that a resume does not run out of it again."""
        write_json(self.folder / "cell.json", self.info() | {"batch_size_that_fits": batch_size})

    def records(self) -> Iterator[Record]:
        """The whole lines of records.jsonl; nothing where there is none."""
        if not self.records_path.exists():
            return
        with self.records_path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield Record.from_json(json.loads(line))

    def append(self, lines: Sequence[Record]) -> None:
        """Append a batch and flush it; synced to disk at least once a second."""
        if self._file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = self.records_path.open("ab")
        text = "".join(json.dumps(record.to_json(), ensure_ascii=False, allow_nan=False) + "\n" for record in lines)
        self._file.write(text.encode(errors="replace"))  # a model's text may hold half a character
        self._sync(self._file)

    def _sync(self, file: Any) -> None:
        file.flush()
        if time.monotonic() - self._synced > 1.0:
            os.fsync(file.fileno())
            self._synced = time.monotonic()

    def keep(self, ids: set[str]) -> None:
        """Rewrite records.jsonl with the records of `ids` alone: a half-finished batch is run again whole."""
        if not self.records_path.exists():
            return
        kept = [record for record in self.records() if record.id in ids]
        temporary = self.records_path.with_name(RECORDS + ".tmp")
        temporary.write_text(
            "".join(json.dumps(record.to_json(), ensure_ascii=False) + "\n" for record in kept), encoding="utf-8"
        )
        temporary.replace(self.records_path)

    def append_vectors(self, side: str, ids: Sequence[str], rows: np.ndarray, errors: dict[str, str]) -> None:
        """Append float32 rows to embeddings/<side>.f32 and then their ids to the index beside it."""
        folder = self.folder / "embeddings"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{side}.f32").open("ab") as file:
            file.write(rows.astype("<f4", copy=False).tobytes())
            self._sync(file)
        with (folder / f"{side}.jsonl").open("a", encoding="utf-8") as file:
            for name in ids:
                row = {"id": name, "width": rows.shape[1], **({"error": errors[name]} if name in errors else {})}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
            self._sync(file)

    def vectors(self, side: str) -> tuple[list[str], np.ndarray, dict[str, str]]:
        """Ids, float32 [n, d] and errors of one side, as far as both files are whole."""
        import numpy as np

        folder = self.folder / "embeddings"
        index = folder / f"{side}.jsonl"
        if not index.exists():
            return [], np.zeros((0, 0), dtype=np.float32), {}
        lines = [json.loads(line) for line in index.read_bytes().split(b"\n")[:-1]]
        if not lines:
            return [], np.zeros((0, 0), dtype=np.float32), {}
        width = lines[0]["width"]
        raw = np.fromfile(folder / f"{side}.f32", dtype="<f4")
        whole = min(len(raw) // width, len(lines))
        errors = {line["id"]: line["error"] for line in lines[:whole] if "error" in line}
        return [line["id"] for line in lines[:whole]], raw[: whole * width].reshape(whole, width), errors

    def keep_vectors(self, side: str, n: int) -> None:
        """Cut a side back to its first n vectors."""
        ids, rows, errors = self.vectors(side)
        folder = self.folder / "embeddings"
        if not folder.exists():
            return
        for name in (f"{side}.f32", f"{side}.jsonl"):
            (folder / name).unlink(missing_ok=True)
        if n:
            self.append_vectors(side, ids[:n], rows[:n], errors)

    def write_records(self, records: Sequence[Record]) -> None:
        """All records at once, in place of any that were there."""
        self.close()
        self.records_path.unlink(missing_ok=True)
        self.append(records)

    def finish(self, facts: dict[str, Any]) -> None:
        """Write complete.json: count and sha256 of the records, and what was measured."""
        self.close()
        data = self.records_path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        write_json(
            self.folder / "complete.json",
            {"status": "complete", "count": data.count(b"\n"), "sha256": digest, **facts},
        )

    def write_latency(self, figures: dict[str, Any]) -> None:
        """Keep what the full latency pass found, beside answers that are complete."""
        write_json(self.folder / "latency.json", figures)

    def fail(self, status: str, reason: str) -> None:
        """Keep why the cell has no result; what records it has stay."""
        self.close()
        write_json(self.folder / "failed.json", {"status": status, "reason": reason})

    def close(self) -> None:
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None


class RunFolder:
    """A run's folder below `results_dir`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, results_dir: Path, name: str | None) -> RunFolder:
        """A new folder; raises UserError where the name is taken, is no name, or the place cannot be written."""
        name = name or time.strftime("%Y-%m-%d_%H-%M-%S")
        if not name.strip() or name in (".", "..") or re.search(r"[/\\\0]", name):
            raise UserError(f"run={name!r} is no name for a folder.")
        path = results_dir / name
        try:
            path.mkdir(parents=True, exist_ok=True)
            there = {entry.name for entry in path.iterdir()}
        except OSError as error:
            raise UserError(f"{path} cannot be made: {error.strerror}. results_dir=DIR sets another.") from error
        folder = cls(path)
        if there - {"lock", "run.json.tmp"}:  # more than a run leaves that was killed before it began
            hint = f"`{folder.resume}` goes on with it" if "run.json" in there else "It holds no run"
            raise UserError(f"{path} exists already. {hint}; run=NAME names a new one.")
        return folder

    @classmethod
    def open(cls, results_dir: Path, name: str) -> RunFolder:
        """An existing run, by name or by path."""
        for path in (results_dir / name, Path(name)):
            if (path / "run.json").exists():
                return cls(path)
        raise UserError(
            f"There is no run '{name}' in {results_dir}. {nearest(name, [r.name for r in runs(results_dir)])}"
        )

    @property
    def name(self) -> str:
        return self.path.name

    def cell(self, key: str) -> CellStore:
        return CellStore(self.path / "cells" / key)

    def plan(self) -> dict[str, Any]:
        """run.json: the resolved config, machine, cells and what was left out."""
        return read_json(self.path / "run.json")

    def summary(self) -> dict[str, Any] | None:
        """summary.json; None where there is none yet."""
        path = self.path / "summary.json"
        return read_json(path) if path.exists() else None

    @property
    def resume(self) -> str:
        """The command that goes on with this run."""
        where = self.path.parent
        words = [self.name] if where == Path("results") else [self.name, f"results_dir={where}"]
        return shlex.join(["harness", "resume", *words])

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
