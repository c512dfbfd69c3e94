"""One cell's folder: what was asked, a line for each answer, the vectors of a gallery, and how it ended.

Records are appended batch by batch and synced at least once a second, so a kill costs at most the batch in hand. What
a kill or a power loss tore (a line that does not parse, a vector that is not what its checksum says) is dropped when a
run goes on, and asked again. `cell.json` comes first and `complete.json` last, both by atomic rename, so that a cell
without `complete.json` is unfinished, whatever happened.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import UserError
from harness.records import Record
from harness.store.files import read_json, replacing, sync_names, write_json
from harness.store.secrets import masked

if TYPE_CHECKING:
    from harness.media import Read

RECORDS, MEDIA = "records.jsonl", "media.jsonl"


def _record(line: bytes) -> Record:
    """The record of a line; raises ValueError where it is not one."""
    try:
        return Record.from_json(json.loads(line))
    except (TypeError, AttributeError) as error:
        raise ValueError(f"this is not a record: {error}") from error


@lru_cache(2**16)
def _file_digest(path: Path, time: int) -> str:
    """The first 16 hex digits of the sha256 of a file that was changed at this time."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


@lru_cache(2**12)
def _count_and_digest(path: Path, size: int, time: int) -> tuple[int, str]:
    """The number of lines and the sha256 of a file of this size that was changed at this time."""
    digest, count = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
            count += block.count(b"\n")
    return count, digest.hexdigest()


class CellStore:
    """One cell's folder. The driver alone writes to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records_path = folder / RECORDS
        self._file: Any = None
        self._synced = 0.0

    @property
    def complete(self) -> bool:
        """Whether all answers are there, and are those that the cell was completed with."""
        return (self.folder / "complete.json").exists() and not self.damage

    @property
    def damage(self) -> str:
        """Why a cell that was completed is not whole any more; empty where it is, or never was complete."""
        if not (self.folder / "complete.json").exists():
            return ""
        try:
            said = read_json(self.folder / "complete.json", {"status": str})
            found = self.records_path.stat()
        except UserError as error:
            return str(error)
        except OSError:
            return f"{RECORDS} is not there"
        count, digest = _count_and_digest(self.records_path, found.st_size, found.st_mtime_ns)
        if said.get("count") not in (None, count):
            return f"{RECORDS} has {count} lines, and was completed with {said['count']}"
        if said.get("sha256") not in (None, digest):
            return f"{RECORDS} is not what it was completed with (its sha256 is another)"
        return ""

    @property
    def failed(self) -> bool:
        return (self.folder / "failed.json").exists()

    def info(self) -> dict[str, Any]:
        """What cell.json says; raises UserError where it is missing or damaged."""
        return read_json(self.folder / "cell.json")

    @property
    def timed(self) -> bool:
        """Whether the full latency pass is done."""
        return (self.folder / "latency.json").exists()

    def outcome(self) -> dict[str, Any]:
        """What complete.json (with the latency of a full pass that is done) or failed.json says; else "interrupted"."""
        if damage := self.damage:
            return {"status": "interrupted", "reason": f"damaged: {damage}; a resume asks it again"}
        for name in ("complete.json", "failed.json"):
            if (self.folder / name).exists():
                found = read_json(self.folder / name, {"status": str})
                return found | {"latency": read_json(self.folder / "latency.json")} if self.timed else found
        return {"status": "interrupted"}

    def begin(self, info: dict[str, Any]) -> None:
        """Write cell.json.

        Where there are answers already, raises UserError if they have another fingerprint, and says what changed.
        """
        path = self.folder / "cell.json"
        if self.damage:  # no line of it can be trusted; vectors have checksums of their own
            for name in ("complete.json", RECORDS):
                (self.folder / name).unlink(missing_ok=True)
        if self.failed and read_json(self.folder / "failed.json").get("again"):
            self._drop_failures()
        if path.exists() and self.answered:
            old, new = self.info()["fingerprint"], info["fingerprint"]
            changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
            if changed:
                what = ", ".join(f"{key} (was {old.get(key)}, is now {new.get(key)})" for key in changed)
                raise UserError(
                    f"{self.folder}: cannot go on, because its answers were made with another {what}. "
                    "Start a new run, or put back what was changed."
                )
            if files := self._changed_media():
                more = f" and {len(files) - 3} more" if len(files) > 3 else ""
                raise UserError(
                    f"{self.folder}: cannot go on, because files that its answers are about have changed, or are gone: "
                    f"{', '.join(files[:3])}{more}. Start a new run, or put back what was changed."
                )
        else:
            write_json(path, info)
            (self.folder / MEDIA).unlink(missing_ok=True)
        (self.folder / "failed.json").unlink(missing_ok=True)

    def _drop_failures(self) -> None:
        """Drop what failed, so that it is asked again, whatever has been mended meanwhile."""
        answered = {record.id for record in self.records() if record.error is None or record.refused}
        self.keep(set(answered))
        vectors = 0
        for side in ("image", "text"):
            ids, _, errors = self.vectors(side)
            whole = next((i for i, name in enumerate(ids) if name in errors), len(ids))
            self.keep_vectors(side, whole)
            vectors += whole
        if not answered:
            self.records_path.unlink(missing_ok=True)
        if not vectors:
            shutil.rmtree(self.folder / "embeddings", ignore_errors=True)

    @property
    def answered(self) -> bool:
        """Whether there is anything that the model has answered."""
        return self.records_path.exists() or (self.folder / "embeddings").exists()

    def resize(self, batch_size: int) -> None:
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
        """Append a batch and flush it. The file is synced to the disk at least once a second."""
        if self._file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = self.records_path.open("ab")
            sync_names(self.folder)
        text = "".join(json.dumps(record.to_json(), ensure_ascii=False, allow_nan=False) + "\n" for record in lines)
        self._file.write(masked(text).encode(errors="replace"))  # a model's text may hold half a character
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
        """The ids of the records that are whole. What a loss of power has damaged is asked again."""
        return {record.id for record, _ in self._whole_lines()}

    def _whole_lines(self) -> Iterator[tuple[Record, bytes]]:
        if self.records_path.exists():
            with self.records_path.open("rb") as file:
                for line in file:
                    with suppress(ValueError):
                        if line.endswith(b"\n"):
                            yield _record(line), line

    def keep(self, left: set[str]) -> None:
        """Rewrite records.jsonl with the records of these ids alone, each once; the set is used up.

        This is how a half-finished batch is left out, so that it is run again whole.
        """
        if self.records_path.exists():
            with replacing(self.records_path) as file:
                for record, line in self._whole_lines():
                    if record.id in left:
                        left.remove(record.id)
                        file.write(line)

    def spent(self) -> float:
        """What the answers and their timing have cost."""
        timing = self.outcome().get("latency") or {}
        return sum(record.cost or 0.0 for record, _ in self._whole_lines()) + (timing.get("cost") or 0.0)

    def put_in_order(self, ids: Sequence[str]) -> None:
        """Rewrite records.jsonl with its records in the order of these ids."""
        self.close()
        lines = {record.id: line for record, line in self._whole_lines()}
        with replacing(self.records_path) as file:
            file.writelines(lines[name] for name in ids if name in lines)

    def append_media(self, reads: Iterable[Read]) -> None:
        """Note in media.jsonl what the media were when they were opened. It comes before the answers about them."""
        entries = [{"media": r.key, "sha256": r.sha256, "size": r.size, "time": r.time} for r in reads]
        if entries:
            self.folder.mkdir(parents=True, exist_ok=True)
            text = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
            with (self.folder / MEDIA).open("ab") as file:
                file.write(masked(text).encode(errors="replace"))

    def media(self) -> Iterator[dict[str, Any]]:
        """The whole lines of media.jsonl: "media" (its key), "sha256", and of a file its "size" and "time"."""
        path = self.folder / MEDIA
        if path.exists():
            with path.open("rb") as file:
                for line in file:
                    with suppress(ValueError):
                        yield json.loads(line)

    def _changed_media(self) -> list[str]:
        """The files that are not any more what they were when the cell's answers were made: told by size and time, and
        where these differ by their bytes."""
        changed: dict[str, None] = {}
        for entry in self.media():
            path = Path(entry["media"])
            if entry["size"] is None or entry["media"] in changed:
                continue
            try:
                found = path.stat()
                alike = (found.st_size, found.st_mtime_ns) == (entry["size"], entry["time"])
                same = alike or _file_digest(path, found.st_mtime_ns) == entry["sha256"]
            except OSError:
                same = False
            if not same:
                changed[entry["media"]] = None
        return list(changed)

    def append_vectors(
        self, side: str, ids: Sequence[str], rows: np.ndarray, errors: dict[str, str], cut: Collection[str] = ()
    ) -> None:
        """Append float32 rows to embeddings/<side>.f32, and ids and checksums to the index beside it, which also says
        what failed and which texts were cut."""
        folder = self.folder / "embeddings"
        folder.mkdir(parents=True, exist_ok=True)
        rows = np.ascontiguousarray(rows, dtype="<f4")
        with (folder / f"{side}.f32").open("ab") as vectors, (folder / f"{side}.jsonl").open("ab") as index:
            vectors.write(rows.tobytes())
            for name, row in zip(ids, rows, strict=True):
                entry = {"id": name, "width": len(row), "crc32": zlib.crc32(row.tobytes())}
                entry |= {"error": errors[name]} if name in errors else {}
                entry |= {"cut": True} if name in cut else {}
                index.write(masked(json.dumps(entry, ensure_ascii=False)).encode(errors="replace") + b"\n")
            self._sync(vectors, index)

    def vectors(self, side: str) -> tuple[list[str], np.ndarray, dict[str, str]]:
        """Ids, vectors float32 [n, d] and errors by id of one side, up to the first that is not whole in both files."""
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

    def cut_texts(self) -> set[str]:
        """The ids of the texts that were cut at the model's context, when all vectors are there."""
        index = self.folder / "embeddings" / "text.jsonl"
        entries = map(json.loads, index.read_bytes().splitlines()) if index.exists() else ()
        return {entry["id"] for entry in entries if entry.get("cut")}

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
        """Write all records, in the place of any that were there."""
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

    def fail(self, status: str, reason: str, again: bool = False) -> None:
        """Keep why the cell has no result; what records it has stay. With `again`, those that failed are asked again
        when the run goes on."""
        self.close()
        write_json(
            self.folder / "failed.json", {"status": status, "reason": reason} | ({"again": True} if again else {})
        )

    def close(self) -> None:
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None
