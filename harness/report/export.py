"""Tables for other programs: CSV with every figure at full precision, and LaTeX for a paper.

A spreadsheet runs a text that begins like a formula, so such texts get an apostrophe before them; numbers stay numbers.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

from harness.report import formats
from harness.report.summary import Group, Summary, number
from harness.report.tables import Table

_LATENCY = (
    "p50_ms",
    "p90_ms",
    "p95_ms",
    "p99_ms",
    "samples_per_s",
    "tokens_per_s",
    "first_token_ms",
    "load_s",
    "peak_memory_mb",
    "batch_size",
)


def results_csv(group: Group) -> str:
    """One line for each cell of the group, those without a score too; three columns for each metric."""
    names = list(dict.fromkeys(name for cell in group.cells for name in cell.metrics))
    head = [
        "run",
        "machine",
        "model",
        "origin",
        "route",
        "status",
        "reason",
        "samples",
        "failed",
        "coverage",
        "clusters",
        "reliable",
    ]
    head += ["headline", "rank_low", "rank_high", "best"]
    head += [column for name in names for column in (name, f"{name}_low", f"{name}_high")] + list(_LATENCY)
    rows = []
    for cell in (*group.cells, *group.missing):
        row: list[Any] = [
            cell.run,
            cell.machine,
            cell.model,
            cell.origin,
            cell.route,
            cell.status,
            cell.reason,
            cell.samples,
        ]
        row += [
            cell.failed,
            cell.coverage,
            cell.clusters,
            int(cell.reliable),
            cell.headline,
            *(cell.rank or (None, None)),
            int(cell.best),
        ]
        for name in names:
            score = cell.metrics.get(name)
            row += [score.value, score.low, score.high] if score else [None] * 3
        rows.append([*row, *(number(cell.latency.get(key)) for key in _LATENCY)])
    return _csv(head, rows)


def slices_csv(summary: Summary) -> str:
    """One line for each cell, slice and metric."""
    head = [
        "run",
        "task",
        "dataset",
        "language",
        "ablate",
        "model",
        "field",
        "slice",
        "n",
        "metric",
        "value",
        "low",
        "high",
    ]
    return _csv(
        head,
        (
            [
                cell.run,
                cell.task,
                cell.dataset,
                cell.language,
                cell.ablate,
                cell.model,
                field,
                value,
                part.n,
                name,
                s.value,
                s.low,
                s.high,
            ]
            for cell in summary.cells
            for field, values in cell.slices.items()
            for value, part in values.items()
            for name, s in part.metrics.items()
        ),
    )


def comparisons_csv(summary: Summary) -> str:
    """One line for each pair of models that was tested."""
    rows = [row for group in summary.groups for row in group.comparisons]
    head = list(dict.fromkeys(key for row in rows for key in row))
    return _csv(head, ([row.get(key) for key in head] for row in rows))


def safe(value: Any) -> Any:
    """A CSV field: numbers as they are, text that a spreadsheet would run with an apostrophe before it."""
    if value is None or isinstance(value, bool | int | float):
        return "" if value is None else value
    text = formats.clean(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠") else text


def _csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([safe(name) for name in head])
    writer.writerows([safe(value) for value in row] for row in rows)
    return out.getvalue()


_TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "[": "{[}", "]": "{]}", '"': "''", "`": r"\textasciigrave{}", "'": r"\textquotesingle{}",
    "—": "---", "–": "--", "★": r"$\star$", "≈": r"$\approx$", "†": r"\dag{}", "…": r"\ldots{}", "−": "$-$",
    "·": r"$\cdot$",
}  # fmt: skip


def tex(table: Table, caption: str, label: str) -> str:
    """A `table` environment; needs booktabs, and for Chinese text XeLaTeX or LuaLaTeX with a CJK font."""
    columns = "".join("r" if column.right else "l" for column in table.columns)
    lines = [
        "% Needs \\usepackage{booktabs,textcomp}; Chinese text needs XeLaTeX or LuaLaTeX with a CJK font.",
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{tex_text(caption)}}}",
        f"\\label{{tab:{re.sub(r'[^A-Za-z0-9.:-]', '-', label)}}}",
        f"\\begin{{tabular}}{{{columns}}}",
        "\\toprule",
        " & ".join(tex_text(column.title) for column in table.columns) + r" \\",
        "\\midrule",
    ]
    references = False
    for row in table.rows:
        if row.kind == "reference" and not references:
            references = True
            lines.append("\\midrule")
        cells = [tex_text(text) for text in row.cells]
        if row.kind == "best":
            cells[0] = f"\\textbf{{{cells[0]}}}"
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}", ""])


def tex_text(text: str) -> str:
    return "".join(_TEX.get(c, c) for c in formats.clean(text))
