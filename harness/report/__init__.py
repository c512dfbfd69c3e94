"""The report of a run, rebuilt from its folder at any time: tables and charts, without any model.

`summary` reads and checks, `tables` and `samples` choose what is shown, `document` puts it in order, and `markdown`,
`html`, `export`, `charts` and `screen` print it, each in its own escaping. Neither torch nor transformers is imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console


def write(
    run_folder: Path | Sequence[Path],
    out: Path | None = None,
    language: str = "en",
    *,
    charts: bool = True,
    summaries: Sequence[Mapping[str, Any]] | None = None,
) -> Path:
    """Write report.md, report.html, tables/ and charts/ of one run, or of several joined; returns their folder.

    `out` is by default the run folder itself, and for several runs a folder beside the first one that bears all
    their names. Without `charts` none are drawn, which spares the import of matplotlib. `summaries` are what the
    folders' summary.json would say, where they need not be read. Raises UserError when a folder is no run, its summary
    is damaged, or `out` cannot be written.
    """
    from harness.report import charts as drawing
    from harness.report import document, export, html, markdown, summary, tables
    from harness.report.strings import Strings
    from harness.store.files import file_stem

    strings = Strings(language)
    folders = [run_folder] if isinstance(run_folder, str | Path) else list(run_folder)
    folders = [Path(folder) for folder in folders]
    if not folders:
        raise UserError("There is no run to report on. `harness list runs` names the runs there are.")
    found = summaries or [summary.load(folder) for folder in folders]
    data = summary.join([(s, str(folder / "summary.json"), folder) for s, folder in zip(found, folders, strict=True)])
    out = Path(out) if out is not None else _default(folders)
    try:
        for name in ("tables", "charts") if charts else ("tables",):
            (out / name).mkdir(parents=True, exist_ok=True)
        svgs, figures = drawing.draw(data, out / "charts", strings) if charts else ({}, {})
        for group in data.groups:
            stem = out / "tables" / file_stem(group.name)
            _save(stem.with_name(stem.name + ".csv"), export.results_csv(group))
            if group.cells:
                table = export.tex(tables.results(group, strings), tables.title(group, strings), group.name)
                _save(stem.with_name(stem.name + ".tex"), table)
        _save(out / "tables" / "slices.csv", export.slices_csv(data))
        _save(out / "tables" / "latency.csv", export.latency_csv(data))
        _save(out / "tables" / "comparisons.csv", export.comparisons_csv(data))
        blocks = document.build(data, figures, strings)
        _save(out / "report.md", markdown.render(blocks, strings))
        _save(out / "report.html", html.render(blocks, svgs, strings))
    except OSError as error:
        raise UserError(
            f"The report cannot be written to {out}: {error.strerror or error}. Name another folder with --out."
        ) from error
    return out


def terminal(data: Mapping[str, Any], console: Console, language: str = "en") -> None:
    """Print the tables of a run's summary (the object in summary.json), as wide as the console is."""
    from harness.report import screen, summary
    from harness.report.strings import Strings

    screen.show(summary.parse(data), console, Strings(language))


def _default(folders: Sequence[Path]) -> Path:
    if len(folders) == 1:
        return folders[0]
    name = "+".join(folder.name for folder in folders)
    return folders[0].parent / (name if len(name) <= 100 else f"{folders[0].name}+{len(folders) - 1}")


def _save(path: Path, text: str) -> None:
    path.write_text(text, "utf-8", newline="\n")
