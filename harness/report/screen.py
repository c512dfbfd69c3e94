"""The comparison in a terminal: a table for each group, as wide as the window allows.

Columns that do not fit are left out whole, the least telling first, and named below the table: a figure cut in half is
worse than none. Colour says nothing that the text does not say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.report import comparisons, formats, tables
from harness.report.strings import Strings
from harness.report.summary import Summary
from harness.report.tables import Table

if TYPE_CHECKING:
    from rich.console import Console

_GAP = 2
"""Characters between columns: a space of padding and one of the box."""


def show(summary: Summary, console: Console, strings: Strings) -> None:
    """Print every group of `summary`, and the notes that belong to them."""
    ascii_only = console.options.ascii_only
    marked = False
    for group in summary.groups:
        console.print()
        _line(console, tables.title(group, strings), "bold", ascii_only)
        if group.cells:
            table = tables.results(group, strings)
            marked |= any(tables.SMALLER in column.title for column in table.columns)
            _table(console, table, strings, ascii_only)
        else:
            _line(console, strings("nothing"), "", ascii_only)
        for note in tables.notes(group, strings):
            _line(console, note, "dim", ascii_only)
        for status, models, reason in tables.missing(group, strings):
            style = "" if status == strings("skipped") else "bold"
            _line(console, f"{status}: {models} ({reason})", style, ascii_only)
    for groups in summary.ablations:
        table = comparisons.ablations(groups, strings, parts=False)
        console.print()
        _line(console, f"{strings('ablations')}: {table.caption}", "bold", ascii_only)
        _table(console, table, strings, ascii_only)
    console.print()
    if any(tables.mark(cell, group) for group in summary.groups for cell in group.models):
        _line(console, strings("best_note"), "dim", ascii_only)
    if marked:
        _line(console, strings("smaller_note"), "dim", ascii_only)
    if any(cell.score.low is not None for cell in summary.cells):
        _line(console, strings("interval_note"), "dim", ascii_only)
    if summary.pocket:
        _line(console, strings("pocket", n=len(summary.pocket)), "", ascii_only)


def _table(console: Console, table: Table, strings: Strings, ascii_only: bool) -> None:
    from rich.box import ASCII2, SIMPLE_HEAD
    from rich.table import Table as RichTable
    from rich.text import Text

    kept = _fit(table, console.width)
    drawn = RichTable(box=ASCII2 if ascii_only else SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for position in kept:
        column = table.columns[position]
        drawn.add_column(
            Text(_plain(column.title, ascii_only)),
            justify="right" if column.right else "left",
            no_wrap=position > 0,
            overflow="fold",
        )
    for row, after in zip(table.rows, [*table.rows[1:], None], strict=True):
        style = {"best": "bold", "reference": "dim", "unranked": "dim"}.get(row.kind, "")
        ends = after is not None and after.kind == "reference" and row.kind != "reference"
        drawn.add_row(*(Text(_plain(row.cells[i], ascii_only)) for i in kept), style=style, end_section=ends)
    console.print(drawn)
    if dropped := [column.title for i, column in enumerate(table.columns) if i not in kept]:
        _line(console, strings("hidden", names=", ".join(dropped)), "dim", ascii_only)


def _fit(table: Table, width: int) -> list[int]:
    """The positions of the columns that fit into `width` characters; those with the highest `drop_order` go first."""
    from rich.cells import cell_len

    def need(position: int) -> int:
        wide = max(cell_len(table.columns[position].title), *(cell_len(row.cells[position]) for row in table.rows))
        return min(wide, max(28, width // 4)) if position == 0 else wide

    kept = list(range(len(table.columns)))
    while sum(need(i) + _GAP for i in kept) - 1 > width:
        loose = [i for i in kept if table.columns[i].drop_order]
        if not loose:
            break
        kept.remove(max(loose, key=lambda i: (table.columns[i].drop_order, i)))
    return kept


def _line(console: Console, text: str, style: str, ascii_only: bool) -> None:
    """A line of foreign text: neither markup nor highlighting, wrapped at the window's width."""
    from rich.text import Text

    console.print(Text(_plain(text, ascii_only)), style=style, highlight=False)


_ASCII = str.maketrans(
    {
        "★": "*",
        "≈": "~",
        "†": "+",
        "‡": "++",
        "↓": "(v)",
        "—": "-",
        "–": "-",
        "·": "|",
        "…": "...",
        "“": '"',
        "”": '"',
        "−": "-",
    }
)


def _plain(text: str, ascii_only: bool) -> str:
    text = formats.clean(text)
    return text.translate(_ASCII).encode("ascii", "replace").decode() if ascii_only else text
