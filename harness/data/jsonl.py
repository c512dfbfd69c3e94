"""JSON lines with media files beside them: how local data sets are kept, the user's own included.

    <data_dir>/<spec.path>      one JSON object a line; media paths in it are relative to the file's folder

`data_dir` comes from the config or the environment variable HARNESS_DATA.
"""

from __future__ import annotations

import json
import os
from array import array
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.columns import Places, Row, Rows, keep
from harness.dataset import LazySequence
from harness.errors import UserError, nearest

if TYPE_CHECKING:
    from harness.config.specs import DatasetSpec


def find(name: str, spec: DatasetSpec, data_dir: str | Path | None) -> Path:
    """The file with the data. If there is none, raises UserError, saying where it was looked for and what to set."""
    base = _base(data_dir)
    file = Path(base or ".").expanduser() / Path(spec.path).expanduser()
    if file.is_file():
        return file
    if base is None and not Path(spec.path).is_absolute():
        raise UserError(
            f"Data set '{name}' reads {spec.path} below your data folder, and none is set. "
            "Say data_dir=FOLDER or set the environment variable HARNESS_DATA."
        )
    source = f" It comes from {spec.homepage}." if spec.homepage else ""
    raise UserError(
        f"Data set '{name}': there is no file {file}. Put it there, or say data_dir=FOLDER "
        f"(or HARNESS_DATA) so that FOLDER/{spec.path} is the file.{source}"
    )


def _base(data_dir: str | Path | None) -> str | Path | None:
    """The folder below which data lie, if one is named."""
    return data_dir or os.environ.get("HARNESS_DATA")


def rows(name: str, spec: DatasetSpec, split: str, file: Path, data_dir: str | Path | None) -> Rows:
    """The rows of one split.

    Raises UserError for an unknown split, for a line that is not a JSON object, and for an empty file.
    """
    filters = dict(spec.where)
    if spec.splits:
        if split not in spec.splits:
            raise UserError(f"Data set '{name}' has no split '{split}'. {nearest(split, spec.splits)}")
        filters |= spec.splits[split]
    elif split != spec.split:
        raise UserError(f"Data set '{name}' has the split '{spec.split}' alone, not '{split}'.")
    lines = _Lines(file)
    if not len(lines):
        raise UserError(f"Data set '{name}': {file} is empty.")
    table = Rows(
        rows=lines,
        columns=list(lines.columns),
        places=Places(str(file), "line", lines.numbers),
        table=str(file),
        folder=file.parent,
        homes=[file.parent, *([Path(base).expanduser()] if (base := _base(data_dir)) else [])],
    )
    return keep(name, table, filters)


class _Lines(LazySequence[Row]):
    """The rows of a file. All are checked at once, and parsed again when asked for: as text they take a fifth of the
    memory."""

    def __init__(self, file: Path) -> None:
        self.text = file.read_bytes()
        self.starts, self.numbers = array("q"), array("q")
        self.columns: dict[str, None] = {}
        at = 3 if self.text.startswith(b"\xef\xbb\xbf") else 0
        for number in count(1):
            if at >= len(self.text):
                return
            end = self._end(at)
            try:
                line = self.text[at:end].decode()
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise UserError(f"{file}, line {number}: this is not a JSON object but {line.strip()[:60]!r}.")
                    self.columns.update(dict.fromkeys(row))
                    self.starts.append(at)
                    self.numbers.append(number)
            except json.JSONDecodeError as error:
                raise UserError(
                    f"{file}, line {number}: this is not JSON ({error.msg}, column {error.colno})."
                ) from error
            except RecursionError as error:
                raise UserError(f"{file}, line {number}: this is nested too deep.") from error
            except UnicodeDecodeError as error:
                place = f"{error.reason} at byte {at + error.start}"
                raise UserError(f"{file}: this is not UTF-8 text ({place}).") from error
            except ValueError as error:  # Python refuses numbers of thousands of digits
                raise UserError(f"{file}, line {number}: it holds a number that is too long to be read.") from error
            at = end

    def _end(self, start: int) -> int:
        return self.text.find(b"\n", start) + 1 or len(self.text)

    def __len__(self) -> int:
        return len(self.starts)

    def item(self, index: int) -> Row:
        start = self.starts[index]
        return json.loads(self.text[start : self._end(start)].decode())
