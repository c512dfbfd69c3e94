"""The tables that set models against one another: paired tests within a group, and how they stand over all groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from harness.metrics import ALPHA
from harness.records import ORIGINS
from harness.report import formats, tables
from harness.report.strings import Strings
from harness.report.summary import Cell, Group, Number, Summary, number
from harness.report.tables import Column, Row, Table


@dataclass(frozen=True)
class Test:
    """The paired test of model a against b: the difference is a's value minus b's."""

    difference: Number
    p: float | None
    """After the correction over all pairs of the table."""
    detectable: float | None
    n: float | None

    @property
    def shown(self) -> bool:
        """Whether the models have been shown to differ."""
        return self.p is not None and self.p < ALPHA

    def text(self) -> str:
        """The difference with its interval."""
        d = self.difference
        bounds = f" [{formats.signed(d.low)}, {formats.signed(d.high)}]" if d.low is not None else ""
        return formats.signed(d.value) + bounds


def paired(group: Group, a: Cell, b: Cell) -> Test | None:
    """The test of a against b, in whichever order the summary has it; None where there is none."""
    names = [(cell.model, cell.run) for cell in (a, b)]
    for row in group.comparisons if group.tested else ():
        value, low, high = (number(row.get(key)) for key in ("difference", "low", "high"))
        tested = [(row.get(side), row.get(f"{side}_run", a.run)) for side in ("a", "b")]
        if tested == names[::-1]:
            value, low, high = (None if bound is None else -bound for bound in (value, high, low))
        elif tested != names:
            continue
        p, detectable, n = (number(row.get(key)) for key in (_p_key(row), "detectable", "n"))
        return Test(Number(value, low, high), p=p, detectable=detectable, n=n)
    return None


def _p_key(row: Mapping[str, Any]) -> str:
    """Where the corrected p value stands: summaries of versions before 0.2 have one correction alone."""
    return "p_adjusted" if "p_adjusted" in row else "p_holm"


def pairs(group: Group, strings: Strings) -> Table | None:
    """The best model against each other one, from the paired tests; None where there is no test."""
    scored = [cell for cell in group.models if cell.score.value is not None]
    if not scored:
        return None
    best, *others = scored
    # A thousand models have half a million pairs; they are searched once.
    own = tuple(row for row in group.comparisons if best.model in (row.get("a"), row.get("b")))
    group = replace(group, comparisons=own)
    rows = [
        (
            other.label,
            test.text(),
            formats.probability(test.p),
            formats.NONE if test.p is None else strings("yes" if test.shown else "no"),
            formats.metric(test.detectable),
            formats.count(test.n),
        )
        for other in others
        if (test := paired(group, best, other)) is not None
    ]
    if not rows:
        return None
    correction = next((row.get("correction") for row in group.comparisons), "") or "holm"
    keys = ("against", "difference", f"p {correction}", "shown", "detectable", "n")
    columns = tuple(Column(strings(key), right=key not in ("against", "shown")) for key in keys)
    return Table(columns, tuple(Row(row) for row in rows), f"{best.label} − …")


def origins(summary: Summary, strings: Strings) -> Table | None:
    """The best model of each origin in each group and the gaps between them; None where no group has two origins."""
    compared = [origin for origin in ORIGINS if origin != "reference"]
    rows = []
    for group in summary.groups:
        if group.key.ablate:  # that a model does best without what was asked about does not make it the best
            continue
        best = best_of_origins(group)
        if len(best) < 2:
            continue
        names = [
            f"{formats.metric(best[o].score.value)} {best[o].label}" if o in best else formats.NONE for o in compared
        ]
        gaps = [_gap(group, best, *pair) for pair in combinations(compared, 2)]
        about = f"{tables.title(group, strings, short=True)} {tables.heading(group.headline, group)}"
        rows.append((about, *names, *gaps))
    if not rows:
        return None
    titles = [strings("table"), *map(strings.name, compared)]
    titles += [f"{strings.name(a)} − {strings.name(b)}" for a, b in combinations(compared, 2)]
    kept = [i for i in range(len(titles)) if any(row[i] != formats.NONE for row in rows)]
    columns = tuple(Column(titles[i], right=i > len(compared)) for i in kept)
    return Table(columns, tuple(Row(tuple(row[i] for i in kept)) for row in rows))


def best_of_origins(group: Group) -> dict[str, Cell]:
    """The model with the best headline of each origin that has one."""
    best: dict[str, Cell] = {}
    for cell in group.models:
        if cell.score.value is not None:
            best.setdefault(cell.origin, cell)
    return best


def _gap(group: Group, best: Mapping[str, Cell], a: str, b: str) -> str:
    """The difference between the best models of two origins, marked where it has not been shown."""
    if a not in best or b not in best or (test := paired(group, best[a], best[b])) is None:
        return formats.NONE
    alike = "" if test.p is None or test.shown else f"{tables.ALIKE} "
    return alike + test.text()


def overview(summary: Summary, strings: Strings) -> Table | None:
    """The headline of every model in every group from which nothing was taken; `ablations` shows the others.

    None for a single group, whose own table says it all.
    """
    groups = [group for group in summary.groups if not group.key.ablate]
    if len(groups) < 2:
        return None
    labels: dict[str, Cell] = {}
    for group in groups:
        for cell in (*group.cells, *group.missing):
            labels.setdefault(cell.label, cell)
    rows = []
    for label, first in sorted(labels.items(), key=lambda item: ORIGINS.index(item[1].origin)):
        texts, shades = [], []
        for group in groups:
            cell = next((cell for cell in group.cells if cell.label == label), None)
            other = next((cell for cell in group.missing if cell.label == label), None)
            if cell is not None:
                texts.append(f"{tables.mark(cell, group)} {formats.metric(cell.score.value, cell.headline)}".strip())
                shades.append(tables.shade(cell.score, cell.headline, group))
            else:
                texts.append(strings.name(other.status) if other else formats.NONE)
                shades.append(None)
        kind = "reference" if first.origin == "reference" else ""
        rows.append(Row((label, strings.name(first.origin), *texts), kind, (None, None, *shades)))
    titles = (f"{tables.title(group, strings, short=True)} {tables.heading(group.headline, group)}" for group in groups)
    return Table(
        (Column(strings("model")), Column(strings("origin")), *(Column(text, right=True) for text in titles)),
        tuple(rows),
    )


def ablations(groups: Sequence[Group], strings: Strings, parts: bool = True) -> Table:
    """Groups that differ in their ablation alone, side by side: each model's headline over all samples and, with
    `parts`, by the values of its first slice field."""
    rows = []
    for label in dict.fromkeys(cell.label for group in groups for cell in group.cells):
        cells = [next((cell for cell in group.cells if cell.label == label), None) for group in groups]
        first = next(cell for cell in cells if cell is not None)
        rows.append((first, label, [cell.score if cell else Number() for cell in cells]))
        field = next(iter(first.slices), "")
        for value in first.slices[field] if parts and field else ():
            found = [cell.slices.get(field, {}).get(value) if cell else None for cell in cells]
            numbers = [part.metrics.get(first.headline, Number()) if part else Number() for part in found]
            rows.append((first, f"… {value}", numbers))
    columns = [Column(strings("model"))]
    columns += [
        Column(tables.ablation(group, strings), right=True, drop_order=place) for place, group in enumerate(groups)
    ]
    head = groups[0]
    drawn = (
        Row(
            (name, *(formats.with_interval(score, first.headline) for score in scores)),
            "reference" if first.reference else "",
            (None, *(tables.shade(score, first.headline, head) for score in scores)),
        )
        for first, name, scores in rows
    )
    metric = f"{tables.heading(head.headline, head)} [95 %]"
    title = (strings.name(head.key.task), head.key.dataset, strings.name(head.key.language), metric)
    return Table(tuple(columns), tuple(drawn), " · ".join(title))


def standings(summary: Summary, strings: Strings) -> Table | None:
    """Win rate and mean rank over all tables, the best model first; None where the summary has no such figures."""
    rows = []
    for row in summary.standings:
        rate, place = (
            Number(number(row.get(key)), number(row.get(f"{key}_low")), number(row.get(f"{key}_high")))
            for key in ("win_rate", "borda")
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
    return Table(tuple(Column(strings(key), right=key == "tables") for key in keys), tuple(Row(row) for row in rows))
