"""The run folder: everything a run leaves on disk, written by the driver alone. `results/README.md` is its format.

Records are appended batch by batch and synced at least once a second, so a kill costs at most the batch in hand. What
a kill or a power loss tore (a line that does not parse, a vector that is not what its checksum says) is dropped when a
run goes on, and asked again. `cell.json` comes first and `complete.json` last, both by atomic rename, so that a cell
without `complete.json` is unfinished, whatever happened.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from harness import lock
from harness.errors import StorageError, UserError, nearest
from harness.records import Record

if TYPE_CHECKING:
    import numpy as np

RECORDS = "records.jsonl"
SUMMARY = "summary.json"


def write_json(path: Path, data: Any) -> None:
    """Write by atomic rename: readers see the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(data, ensure_ascii=False, indent=1, allow_nan=False)
    with _replacing(path) as file:
        file.write(text.encode(errors="replace") + b"\n")


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` once it is written and on the disk."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync_names(path.parent)


def _sync_names(folder: Path) -> None:
    """Have the disk know the names of the files in a folder; their content is synced by itself."""
    with suppress(OSError):  # Windows and some network file systems cannot, and need not
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read_json(path: Path) -> Any:
    """Raises UserError for a file that is missing or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} is not there: {path.parent} is no run folder, or an older one.") from error
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error


def _record(line: bytes) -> Record:
    """The record of a line; raises ValueError where it is none."""
    try:
        return Record.from_json(json.loads(line))
    except (TypeError, AttributeError) as error:
        raise ValueError(f"this is no record: {error}") from error


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
        """The whole lines of records.jsonl; nothing where there is none. Raises UserError for a damaged one."""
        if not self.records_path.exists():
            return
        with self.records_path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.endswith(b"\n"):
                    try:
                        yield _record(line)
                    except ValueError as error:
                        raise UserError(f"{self.records_path}, line {number}, is damaged: {error}") from error

    def append(self, lines: Sequence[Record]) -> None:
        """Append a batch and flush it; synced to disk at least once a second."""
        if self._file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = self.records_path.open("ab")
            _sync_names(self.folder)
        text = "".join(json.dumps(record.to_json(), ensure_ascii=False, allow_nan=False) + "\n" for record in lines)
        self._file.write(text.encode(errors="replace"))  # a model's text may hold half a character
        self._sync(self._file)

    def _sync(self, *files: Any) -> None:
        now = time.monotonic()
        for file in files:
            file.flush()
            if now - self._synced > 1.0:
                os.fsync(file.fileno())
        if now - self._synced > 1.0:
            self._synced = now

    def ids(self) -> set[str]:
        """Of the records that are whole; what a loss of power has damaged does not count, and is asked again."""
        return {name for name, _ in self._whole_lines()}

    def _whole_lines(self) -> Iterator[tuple[str, bytes]]:
        if self.records_path.exists():
            with self.records_path.open("rb") as file:
                for line in file:
                    with suppress(ValueError):
                        if line.endswith(b"\n"):
                            yield _record(line).id, line

    def keep(self, left: set[str]) -> None:
        """Rewrite records.jsonl with those of these ids alone, each once (the set is used up): a half-finished batch is
        run again whole."""
        if self.records_path.exists():
            with _replacing(self.records_path) as file:
                for name, line in self._whole_lines():
                    if name in left:
                        left.remove(name)
                        file.write(line)

    def append_vectors(self, side: str, ids: Sequence[str], rows: np.ndarray, errors: dict[str, str]) -> None:
        """Append float32 rows to embeddings/<side>.f32, and ids and checksums to the index beside it."""
        import numpy as np

        folder = self.folder / "embeddings"
        folder.mkdir(parents=True, exist_ok=True)
        rows = np.ascontiguousarray(rows, dtype="<f4")
        with (folder / f"{side}.f32").open("ab") as vectors, (folder / f"{side}.jsonl").open("ab") as index:
            vectors.write(rows.tobytes())
            for name, row in zip(ids, rows, strict=True):
                entry = {"id": name, "width": len(row), "crc32": zlib.crc32(row.tobytes())}
                entry |= {"error": errors[name]} if name in errors else {}
                index.write(json.dumps(entry, ensure_ascii=False).encode(errors="replace") + b"\n")
            self._sync(vectors, index)

    def vectors(self, side: str) -> tuple[list[str], np.ndarray, dict[str, str]]:
        """Ids, float32 [n, d] and errors of one side, up to the first that is not whole in both files."""
        import numpy as np

        folder = self.folder / "embeddings"
        index, data = folder / f"{side}.jsonl", folder / f"{side}.f32"
        raw = np.fromfile(data, dtype="<f4") if data.exists() else np.zeros(0, dtype="<f4")
        ids: list[str] = []
        errors: dict[str, str] = {}
        width = 0
        for line in index.read_bytes().split(b"\n")[:-1] if index.exists() else []:
            try:
                entry = json.loads(line)
            except ValueError:
                break
            width = width or entry["width"]
            if zlib.crc32(raw[len(ids) * width : (len(ids) + 1) * width].tobytes()) != entry["crc32"]:
                break
            ids.append(entry["id"])
            if "error" in entry:
                errors[entry["id"]] = entry["error"]
        return ids, raw[: len(ids) * width].reshape(len(ids), width), errors

    def keep_vectors(self, side: str, n: int) -> None:
        """Cut a side back to its first n vectors."""
        folder = self.folder / "embeddings"
        if folder.exists():
            width = self.vectors(side)[1].shape[1]
            index = folder / f"{side}.jsonl"
            lines = index.read_bytes().split(b"\n")[:n] if index.exists() else []
            for path, size in ((index, sum(len(line) + 1 for line in lines)), (folder / f"{side}.f32", n * width * 4)):
                with path.open("ab") as file:
                    file.truncate(size)

    def write_records(self, records: Iterable[Record]) -> None:
        """All records, in place of any that were there."""
        self.close()
        self.records_path.unlink(missing_ok=True)
        records = iter(records)
        while some := list(islice(records, 1_000)):
            self.append(some)

    def finish(self, facts: dict[str, Any]) -> None:
        """Write complete.json: count and sha256 of the records, and what was measured."""
        self.close()
        digest, count = hashlib.sha256(), 0
        with self.records_path.open("rb") as file:
            while part := file.read(2**20):
                digest.update(part)
                count += part.count(b"\n")
        write_json(
            self.folder / "complete.json",
            {"status": "complete", "count": count, "sha256": digest.hexdigest(), **facts},
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
        """A new folder; raises UserError where the name is taken or the place cannot be written."""
        name = name or time.strftime("%Y-%m-%d_%H-%M-%S")
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
        """For who writes nothing here, and so keeps nobody out. Raises UserError where something cannot be read."""
        try:
            yield
        except OSError as error:
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
