"""Data sets of the Hugging Face hub, read by `datasets.load_dataset` at the revision that the config pins.

A run reads what `fetch` brought to the hub's local cache and never asks the network. Media are not decoded by
`datasets`: they stay encoded bytes or a path, and `harness.media` opens them as it opens local files, so that both
sources treat rotation, palettes and rates alike. `path` may also be a local folder of parquet, CSV or JSON files that
`load_dataset` understands.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.data.columns import Places, Row, Rows, keep
from harness.dataset import LazySequence
from harness.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset
    from datasets.packaged_modules.csv.csv import CsvConfig

    from harness.config.specs import DatasetSpec


def data_folder(name: str, spec: DatasetSpec) -> Path:
    """The folder with the data: `spec.path` itself, or where it was fetched to. Raises UserError for neither."""
    folder = Path(spec.path).expanduser()
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        found = snapshot_download(spec.path, repo_type="dataset", revision=spec.revision, local_files_only=True)
    except HFValidationError as error:
        raise UserError(f"Data set '{name}': '{spec.path}' is neither a folder nor a hub id ('owner/name').") from error
    except LocalEntryNotFoundError as error:
        at = f" at revision {spec.revision}" if spec.revision else ""
        raise UserError(
            f"Data set '{name}': {spec.path}{at} is not on this machine. 'harness fetch dataset={name}' brings it."
        ) from error
    return Path(found)


def rows(name: str, spec: DatasetSpec, split: str) -> Rows:
    """The rows of one split, read from disk as they are asked for.

    Raises UserError where the data set is not on this machine, or has no such subset or split.
    """
    folder = data_folder(name, spec)
    import datasets
    from datasets.config import HF_DATASETS_CACHE
    from datasets.exceptions import DatasetsError
    from datasets.packaged_modules.csv.csv import CsvConfig
    from huggingface_hub.constants import HF_HUB_CACHE

    subset = f"/{spec.subset}" if spec.subset else ""
    try:
        builder = datasets.load_dataset_builder(str(folder), spec.subset)
        options = _as_text(builder.config) if isinstance(builder.config, CsvConfig) else {}
        table = datasets.load_dataset(str(folder), spec.subset, split=split, **options)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(f"Data set '{name}': {spec.path}{subset}, split {split}, cannot be loaded: {reason}") from error
    if not isinstance(table, datasets.Dataset):
        raise UserError(f"Data set '{name}': {spec.path}{subset} gives no table for split '{split}'.")
    if options:
        table = _whole_numbers(table)
    for column, feature in table.features.items():
        if isinstance(feature, datasets.Image | datasets.Audio):
            table = table.cast_column(column, type(feature)(decode=False))
    if not len(table):
        raise UserError(f"Data set '{name}': {spec.path}{subset}, split {split}, is empty.")
    place = f"{spec.path}{subset}/{split}"
    found = Rows(
        rows=_Table(table),
        columns=table.column_names,
        places=Places(place, "row", range(len(table))),
        table=place,
        folder=folder,
        homes=[folder, Path(HF_HUB_CACHE), Path(HF_DATASETS_CACHE)],
        names={
            column: feature.names
            for column, feature in table.features.items()
            if isinstance(feature, datasets.ClassLabel)
        },
    )
    return keep(name, found, spec.where)


def _as_text(config: CsvConfig) -> dict[str, Any]:
    """How CSV and TSV files are read: every cell as the text that it is, and only an empty field as nothing.

    pandas would read 007 as 7, "NA" and "None" as nothing, and would guess anew for every ten thousand rows.
    """
    import datasets
    import pandas as pd

    options: dict[str, Any] = {"keep_default_na": False, "na_values": [""]}
    if config.features is None:  # else the repository says what its columns are
        files = [file for some in (config.data_files or {}).values() for file in some]
        header = pd.read_csv(files[0], sep=config.sep, nrows=0).columns if files else []
        options["features"] = datasets.Features({str(column): datasets.Value("string") for column in header})
    return options


def _whole_numbers(table: Dataset) -> Dataset:
    """The table with 3 in the place of "3.0" in every column that has nothing else.

    pandas writes whole numbers so where some of them are missing.
    """
    import datasets
    import pyarrow as pa
    import pyarrow.compute as pc

    arrow = table.data.table
    for number, name in enumerate(arrow.column_names):
        if not pa.types.is_string(arrow.column(name).type):
            continue
        matched = pc.match_substring_regex(arrow.column(name), pattern=r"^-?\d+\.0$")  # pyright: ignore
        if set(matched.unique().to_pylist()) - {None} == {True}:
            whole = pc.replace_substring_regex(arrow.column(name), pattern=r"\.0$", replacement="")  # pyright: ignore
            arrow = arrow.set_column(number, name, whole)
    return table if arrow is table.data.table else datasets.Dataset(arrow)


class _Table(LazySequence[Row]):
    """A `datasets` table as a sequence of rows."""

    def __init__(self, table: Dataset) -> None:
        self.table = table

    def __len__(self) -> int:
        return len(self.table)

    def item(self, index: int) -> Row:
        return self.table[index]

    def only(self, columns: Sequence[str]) -> Sequence[Row]:
        return self.table.select_columns(list(columns)).to_list()
