"""Where samples come from: they are generated (pocket), or read from files (jsonl) or from the hub's cache (hub).

`load` is the one way in. Sources know no task beyond its name and no adapter.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.dataset import Dataset
from harness.errors import UserError, nearest
from harness.records import Language

if TYPE_CHECKING:
    from harness.config.specs import DatasetSpec

SOURCES = ("pocket", "jsonl", "hub")


def load(
    name: str,
    spec: DatasetSpec,
    task: str,
    language: Language,
    split: str | None = None,
    data_dir: str | Path | None = None,
) -> Dataset:
    """The samples of one split (the spec's unless `split` says otherwise) in one language, for `task`.

    Media are not opened here; one that does not open fails its sample later. Raises UserError where the data set is
    not for that task or language, or its data are absent or of another form.
    """
    if task not in spec.tasks:
        raise UserError(f"Data set '{name}' is not made for task '{task}'. {nearest(task, spec.tasks)}")
    if language not in spec.languages:
        raise UserError(f"Data set '{name}' has no language '{language}'; it has {', '.join(spec.languages)}.")
    if spec.source == "pocket":
        from harness.pocket import samples as pocket

        return pocket.load(name, spec, task, language, split)
    from harness.data import columns, hub, jsonl

    if spec.source == "jsonl":
        file = data_file(spec, data_dir, name)

        def lines(wanted: str) -> columns.Rows:
            return jsonl.rows(name, spec, wanted, file, data_dir)

        return columns.dataset(name, spec, task, language, split, lines)
    if spec.source == "hub":
        return columns.dataset(name, spec, task, language, split, lambda wanted: hub.rows(name, spec, wanted))
    raise UserError(f"Data set '{name}': source '{spec.source}' is unknown. {nearest(spec.source, SOURCES)}")


def data_file(spec: DatasetSpec, data_dir: str | Path | None, name: str = "") -> Path:
    """The file that a jsonl data set reads. If there is none, raises a UserError that says where it was looked for."""
    from harness.data import jsonl

    return jsonl.find(name or spec.path, spec, data_dir)
