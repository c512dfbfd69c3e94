"""JSON lines with media files beside them: how local data sets are kept, the user's own included.

    <data_dir>/<spec.path>      one JSON object a line; media paths in it are relative to the file's folder

`data_dir` comes from the config or the environment variable HARNESS_DATA.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UserError, nearest
from harness.sources.columns import Rows, keep

if TYPE_CHECKING:
    from harness.config.specs import DatasetSpec


def find(name: str, spec: DatasetSpec, data_dir: str | Path | None) -> Path:
    """The data file. Raises UserError, saying where it looked and what to set, if there is none."""
    base = data_dir or os.environ.get("HARNESS_DATA")
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


def rows(name: str, spec: DatasetSpec, split: str, file: Path) -> Rows:
    """The rows of one split. Raises UserError for an unknown split, a line that is no JSON object, or an empty file."""
    filters = dict(spec.where)
    if spec.splits:
        if split not in spec.splits:
            raise UserError(f"Data set '{name}' has no split '{split}'. {nearest(split, spec.splits)}")
        filters |= spec.splits[split]
    elif split != spec.split:
        raise UserError(f"Data set '{name}' has the split '{spec.split}' alone, not '{split}'.")
    found, numbers = [], []
    with file.open(encoding="utf-8-sig") as lines:
        try:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise UserError(f"{file}, line {number}: this is no JSON object but {line.strip()[:60]!r}.")
                found.append(row)
                numbers.append(number)
        except json.JSONDecodeError as error:
            raise UserError(f"{file}, line {number}: this is no JSON ({error.msg}, column {error.colno}).") from error
        except UnicodeDecodeError as error:
            raise UserError(f"{file}: this is no UTF-8 text ({error.reason} at byte {error.start}).") from error
    if not found:
        raise UserError(f"Data set '{name}': {file} is empty.")
    columns = list(dict.fromkeys(column for row in found for column in row))
    table = Rows(found, columns, [f"{file}, line {number}" for number in numbers], str(file), file.parent)
    return keep(name, table, filters)
