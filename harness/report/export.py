"""Tables for other programs: CSV with every figure at full precision, and LaTeX for a paper.

A spreadsheet runs a text that begins like a formula, so an apostrophe is put before such texts; numbers stay numbers.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

from harness.records import CellGroup
from harness.report import formats
from harness.report.summary import Group, Number, Summary
from harness.report.tables import Table

_FACTS = [
    *("run", "machine", "model", "origin", "route", "status", "reason", "samples", "failed", "coverage", "of_answered"),
    *("text_cut", "cut_off", "refused", "empty", "unfinished", "max_new_tokens"),
    *("tokens_in", "tokens_out", "reasoning_tokens", "cost"),
    *("clusters", "reliable", "doubt", "headline", "larger_is_better", "best", "unranked_reason"),
]
_LATENCY = [
    *("p50_ms", "p90_ms", "p95_ms", "p99_ms", "n", "first_token_ms", "tokens_out", "tokens_per_s", "samples_per_s"),
    *("load_s", "peak_memory_mb", "batch_size"),
]
_NAMES = {"n": "timings"}
"""What a latency figure is called beside others: its own `n` would be taken for the samples'."""
_SUMS = {name: f"all_{name}" for name in ("tokens_in", "tokens_out", "reasoning_tokens")}
"""What a sum over a cell is called beside its latencies, whose `tokens_out` is a mean."""


def results_csv(group: Group) -> str:
    """One line for each cell of the group, even without a score; three columns for each metric."""
    names = list(dict.fromkeys(name for cell in group.cells for name in cell.metrics))
    bounds = [column for name in names for column in (name, f"{name}_low", f"{name}_high")]
    rows = []
    for cell in (*group.cells, *group.missing):
        scores = [cell.metrics.get(name, Number()) for name in names]
        row = [getattr(cell, fact) for fact in _FACTS] + list(cell.rank or (None, None))
        row += [bound for score in scores for bound in (score.value, score.low, score.high)]
        rows.append([*row, *(cell.latency.get(key) for key in _LATENCY)])
    facts = [_SUMS.get(fact, fact) for fact in _FACTS]
    return _csv([*facts, "rank_low", "rank_high", *bounds, *(_NAMES.get(key, key) for key in _LATENCY)], rows)


def slices_csv(summary: Summary) -> str:
    """One line for each cell, slice and metric."""
    head = ["run", *CellGroup._fields, "model", "field", "slice"]
    rows = [
        [cell.run, *cell.group, cell.model, field, value, part.n, name, score.value, score.low, score.high]
        for cell in summary.cells
        for field, values in cell.slices.items()
        for value, part in values.items()
        for name, score in part.metrics.items()
    ]
    return _csv([*head, "n", "metric", "value", "low", "high"], rows)


_TIMES = ("p50_ms", "p90_ms", "p95_ms", "p99_ms")
_PHASES = ("preprocess", "encode", "prefill", "decode", "postprocess", "device", "unaccounted")
_TIMED = ("samples_per_s", "first_token_ms", "per_token_ms", "tokens_out", "tokens_per_s", "peak_memory_mb", "energy_j")


def latency_csv(summary: Summary) -> str:
    """One line for each cell and way of timing: single stream, answers of a fixed length, each batch size offline."""
    bounds = [column for name in _TIMES for column in (name, f"{name}_low", f"{name}_high")]
    rows = []
    for cell in summary.cells:
        fixed = cell.latency.get("fixed")
        ways = [("single_stream", {**cell.latency, "batch_size": 1, "samples_per_s": None})]
        ways += [("fixed_length", fixed | {"batch_size": 1})] if fixed else []
        ways += [("offline", row) for row in cell.latency.get("offline") or []]
        for way, figures in ways:
            if not figures.get("n"):
                continue
            known = figures.get("intervals") or {}
            times = [[figures.get(name), *(known.get(name) or (None, None))] for name in _TIMES]
            phases = figures.get("phases_ms") or {}
            rows.append(
                [cell.run, cell.machine, *cell.group, cell.model]
                + [way, figures.get("batch_size"), figures["n"]]
                + [value for values in times for value in values]
                + [figures.get(name) for name in _TIMED]
                + [phases.get(name) for name in _PHASES]
            )
    head = ["run", "machine", *CellGroup._fields, "model", "way", "batch_size", _NAMES["n"], *bounds, *_TIMED]
    return _csv([*head, *(f"{name}_ms" for name in _PHASES)], rows)


def comparisons_csv(summary: Summary) -> str:
    """One line for each pair of models that was tested."""
    rows = [row for group in summary.groups for row in group.comparisons]
    head = list(dict.fromkeys(key for row in rows for key in row))
    return _csv(head, ([row.get(key) for key in head] for row in rows))


_FORMULA = re.compile(r"[\s\xad\u200b-\u200d\u2060-\u2064\ufeff\ufffd]*[=+\-@＝＋－＠﹦﹢﹣﹫]")
"""How a formula begins, also in full width, and behind what is not seen, such as a byte order mark."""


def safe(value: Any) -> Any:
    """A value as a CSV field: a number as it is, and a text that a spreadsheet would run behind an apostrophe."""
    if value is None or isinstance(value, bool | int | float):
        return "" if value is None else int(value) if isinstance(value, bool) else value
    text = formats.clean(value)
    return f"'{text}" if _FORMULA.match(text) else text


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
    "—": "---", "–": "--", "★": r"$\star$", "≈": r"$\approx$", "†": r"\dag{}", "‡": r"\ddag{}", "…": r"\ldots{}",
    "−": "$-$", "·": r"$\cdot$", "↓": r"$\downarrow$",
}  # fmt: skip


def tex(table: Table, caption: str, label: str) -> str:
    """A `table` environment, which needs booktabs, and for Chinese text XeLaTeX or LuaLaTeX with a CJK font."""
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
    """A text that LaTeX sets as it is."""
    return "".join(_TEX.get(c, c) for c in formats.clean(text))
