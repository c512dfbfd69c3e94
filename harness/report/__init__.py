"""The report of a run, rebuilt from its folder at any time: tables and charts, without any model.

`summary` reads and checks, `tables`, `comparisons`, `timing` and `samples` choose what is shown, `document` puts it in
order, and `markdown`, `html`, `export`, `charts` and `screen` print it, each with an escaping of its own. Neither torch
nor transformers is imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import StorageError, UserError
from harness.store.files import FULL, replacing

if TYPE_CHECKING:
    from rich.console import Console

    from harness.report.strings import Strings
    from harness.report.summary import Summary


def write(
    run_folder: Path | Sequence[Path],
    out: Path | None = None,
    language: str = "en",
    *,
    charts: bool = True,
    summaries: Sequence[Mapping[str, Any]] | None = None,
    joined: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Write report.md, report.html, tables/ and charts/ of one run, or of several joined; returns their folder.

    `out` is by default the run folder itself, and for several runs a folder beside the first one that bears all
    their names. Without `charts` none are drawn, which spares the import of matplotlib. `summaries` are the contents of
    the folders' summary.json, where they need not be read; `joined` says what of several runs shares its samples
    (`harness.analysis.joined`). Raises UserError where a folder holds no run, where its
    summary is damaged, or where `out` cannot be written, and StorageError where the disk is full.
    """
    from harness.report import charts as drawing
    from harness.report import document, html, markdown, summary
    from harness.report.strings import Strings

    strings = Strings(language)
    folders = [run_folder] if isinstance(run_folder, str | Path) else list(run_folder)
    folders = [Path(folder) for folder in folders]
    if not folders:
        raise UserError("There is no run to report on. `harness list runs` names the runs there are.")
    found = summaries or [summary.load(folder) for folder in folders]
    parts = [(s, str(folder / "summary.json"), folder) for s, folder in zip(found, folders, strict=True)]
    data = summary.join(parts, joined)
    out = Path(out) if out is not None else _default(folders)
    try:
        for name in ("tables", "charts") if charts else ("tables",):
            (out / name).mkdir(parents=True, exist_ok=True)
        svgs, figures = drawing.draw(data, out / "charts", strings) if charts else ({}, {})
        _tables(data, out / "tables", strings)
        blocks = document.build(data, figures, strings)
        _save(out / "report.md", markdown.render(blocks, strings))
        _save(out / "report.html", html.render(blocks, svgs, strings))
    except OSError as error:
        kind = StorageError if error.errno in FULL else UserError
        raise kind(
            f"The report cannot be written to {out}: {error.strerror or error}. Name another folder with --out."
        ) from error
    return out


def terminal(data: Mapping[str, Any], console: Console, language: str = "en") -> None:
    """Print the tables of a run's summary (the object in summary.json), as wide as the console is."""
    from harness.report import screen, summary
    from harness.report.strings import Strings

    screen.show(summary.parse(data), console, Strings(language))


def _tables(summary: Summary, folder: Path, strings: Strings) -> None:
    """Write the tables for other programs: each group's as CSV and LaTeX, and those over all groups as CSV."""
    from harness.report import export, tables
    from harness.store.files import file_stem

    for group in summary.groups:
        stem = folder / file_stem(group.name)
        _save(stem.with_name(stem.name + ".csv"), export.results_csv(group))
        if group.cells:
            table = export.tex(tables.results(group, strings), tables.title(group, strings), group.name)
            _save(stem.with_name(stem.name + ".tex"), table)
    _save(folder / "slices.csv", export.slices_csv(summary))
    _save(folder / "latency.csv", export.latency_csv(summary))
    _save(folder / "comparisons.csv", export.comparisons_csv(summary))


def _default(folders: Sequence[Path]) -> Path:
    """Where the report goes unless another folder is named."""
    if len(folders) == 1:
        return folders[0]
    name = "+".join(folder.name for folder in folders)
    return folders[0].parent / (name if len(name) <= 100 else f"{folders[0].name}+{len(folders) - 1}")


def _save(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write(text.encode("utf-8", "replace"))
