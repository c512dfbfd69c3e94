"""The tables that set models against one another: paired tests within a group, and how they stand over all groups."""

from __future__ import annotations

from harness.report import formats, tables
from harness.report.summary import ORIGINS, Cell, Group, Number, Summary, number
from harness.report.tables import Column, Row, Table
from harness.report.words import Words


def pairs(group: Group, words: Words) -> Table | None:
    """The best model against each other one, from the paired tests; None where there are none."""
    best = next((cell.model for cell in group.models if cell.score.value is not None), None)
    rows = []
    for row in group.comparisons:
        if best is None or best not in (row.get("a"), row.get("b")) or group.joined:
            continue
        sign = 1 if row.get("a") == best else -1
        bounds = sorted(
            sign * bound for bound in (number(row.get("low")), number(row.get("high"))) if bound is not None
        )
        difference, p = number(row.get("difference")), number(row.get("p_holm"))
        rows.append(
            (
                str(row.get("b") if sign == 1 else row.get("a")),
                formats.signed(None if difference is None else sign * difference),
                f"[{formats.signed(bounds[0])}, {formats.signed(bounds[1])}]" if len(bounds) == 2 else formats.NONE,
                formats.probability(p),
                formats.NONE if p is None else words("yes" if p < 0.05 else "no"),
                formats.metric(number(row.get("detectable"))),
                formats.count(row.get("n")),
            )
        )
    if not rows:
        return None
    place = {cell.model: position for position, cell in enumerate(group.models)}
    rows.sort(key=lambda row: place.get(row[0], len(place)))
    keys = ("against", "difference", "interval", "p_holm", "shown", "detectable", "n")
    columns = tuple(Column(words(key), key not in ("against", "shown")) for key in keys)
    return Table(columns, tuple(Row(row) for row in rows), f"{best} − …")


def overview(summary: Summary, words: Words) -> Table | None:
    """The headline of every model in every group; None for a single group, whose own table says it all."""
    if len(summary.groups) < 2:
        return None
    labels: dict[str, Cell] = {}
    for group in summary.groups:
        for cell in (*group.cells, *group.missing):
            labels.setdefault(cell.label, cell)
    rows = []
    for label, first in sorted(labels.items(), key=lambda item: ORIGINS.index(item[1].origin)):
        texts, shades = [], []
        for group in summary.groups:
            cell = next((cell for cell in group.cells if cell.label == label), None)
            other = next((cell for cell in group.missing if cell.label == label), None)
            if cell is not None:
                texts.append(f"{tables.mark(cell, group)} {formats.metric(cell.score.value, cell.headline)}".strip())
                shades.append(tables.shade(cell.score.value, cell.headline))
            else:
                texts.append(words.name(other.status) if other else formats.NONE)
                shades.append(None)
        kind = "reference" if first.origin == "reference" else ""
        rows.append(Row((label, words.name(first.origin), *texts), kind, (None, None, *shades)))
    titles = (f"{tables.title(group, words, short=True)} {group.headline}" for group in summary.groups)
    return Table(
        (Column(words("model")), Column(words("origin")), *(Column(text, True) for text in titles)), tuple(rows)
    )


def standings(summary: Summary, words: Words) -> Table | None:
    """Win rate and mean rank over all tables, best first; None where there are no such figures."""
    rows = []
    for row in summary.standings:
        rate, place = (
            Number(*(number(row.get(key + end)) for end in ("", "_low", "_high"))) for key in ("win_rate", "borda")
        )
        rows.append(
            (
                str(row.get("model")),
                formats.with_interval(rate),
                formats.with_interval(place),
                formats.count(row.get("tables")),
            )
        )
    if not rows:
        return None
    keys = ("model", "win_rate", "mean_rank", "tables")
    return Table(tuple(Column(words(key), key == "tables") for key in keys), tuple(Row(row) for row in rows))
