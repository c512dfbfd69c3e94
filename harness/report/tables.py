"""The tables of a report: built once from cells, as text in columns, and then printed in five forms.

A `Table` knows no markup; the terminal, Markdown, HTML and LaTeX each escape and draw it in their own way, so that
all show the same figures in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.report import formats
from harness.report.strings import Strings
from harness.report.summary import Cell, Group, Number, number

Text = Callable[[Cell], str]
"""What a cell has in a column."""
Form = Callable[[Any], str]
BEST, ALIKE, UNRELIABLE = "★", "≈", "†"
MANY_ACROSS = 6
"""More slice values than this, and than there are models, stand below one another."""
MANY_VALUES = 24
"""A slice field with more values than this is shown with its largest ones."""


@dataclass(frozen=True)
class Column:
    title: str
    right: bool = False
    """Figures stand to the right."""
    drop_order: int = 0
    """Where a table is too wide, columns of the highest rank go first; 0 always stays."""


@dataclass(frozen=True)
class Row:
    cells: tuple[str, ...]
    kind: str = ""
    """"best", "reference" or nothing."""
    shades: tuple[float | None, ...] = ()
    """Shares (0 to 1) behind figures, for a medium that can shade them."""


@dataclass(frozen=True)
class Table:
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    caption: str = ""


def mark(cell: Cell, group: Group) -> str:
    """★ for the best value, ≈ for what is not distinguishable from it.

    Nothing for reference rows, in joined tables, and for a model that is alone.
    """
    if cell.reference or not cell.best or group.joined or cell.score.value is None or len(group.models) < 2:
        return ""
    return BEST if cell.score.value == max(c.score.value or 0.0 for c in group.models) else ALIKE


_WORTH = (
    "t2i_recall@1",
    "i2t_recall@1",
    "t2i_recall@5",
    "i2t_recall@5",
    "choice_accuracy",
    "exact_match",
    "token_f1",
    "f1_macro",
    "balanced_accuracy",
    "extraction_failure_rate",
    "unmapped_rate",
    "bleu4",
    "rouge_l",
)
"""Which metrics stand beside the headline where there is room for few, most telling first; the CSV files have all."""


def side_metrics(group: Group, most: int = 3) -> list[str]:
    """Further metrics worth a column: those named above, else the first of the summary."""
    names = dict.fromkeys(name for cell in group.cells for name in cell.metrics if name != group.headline)
    worthy = [name for name in _WORTH if name in names]
    return (worthy or list(names))[:most]


def results(group: Group, strings: Strings) -> Table:
    """The main table of a group: quality first, then what it cost. Columns without a figure are left out."""

    def measured(key: str, form: Form = formats.quantity) -> Text:
        return lambda cell: form(cell.latency.get(key))

    def value(name: str) -> Text:
        return lambda cell: formats.metric(cell.metrics.get(name, Number()).value, name)

    def name(cell: Cell) -> str:
        return " ".join(filter(None, (mark(cell, group), cell.label, "" if cell.reliable else UNRELIABLE)))

    def rank(cell: Cell) -> str:
        if cell.rank is None or cell.reference or group.joined:
            return formats.NONE
        low, high = cell.rank
        return str(low) if low == high else f"{low}–{high}"

    return _table(
        group.cells,
        group,
        (Column(strings("model")), name),
        (Column(strings("origin"), drop_order=3), lambda cell: strings.name(cell.origin)),
        (Column(strings("route"), drop_order=6), lambda cell: cell.route or formats.NONE),
        (Column(f"{group.headline} [95 %]"), lambda cell: formats.with_interval(cell.score, group.headline)),
        (Column(strings("rank"), True, 6), rank),
        *((Column(other, True, 5 + place), value(other)) for place, other in enumerate(side_metrics(group))),
        (
            Column(strings("answered"), True),
            lambda cell: formats.NONE if cell.reference else formats.share(cell.coverage),
        ),
        (Column(strings("of_answered"), True, 5), lambda cell: formats.metric(cell.of_answered, group.headline)),
        (Column(strings("p50"), True, 2), measured("p50_ms")),
        (Column(strings("rate"), True, 4), measured("samples_per_s")),
        (Column(strings("load"), True, 8), measured("load_s")),
        (Column(strings("memory"), True, 7), measured("peak_memory_mb", formats.count)),
    )


def _table(cells: Sequence[Cell], group: Group, *columns: tuple[Column, Text]) -> Table:
    """A row for each cell, without the columns that may go (a `drop_order` above 0) and have no figure in any row."""
    kept = [
        (column, text)
        for column, text in columns
        if not column.drop_order or any(text(cell) not in (formats.NONE, "") for cell in cells)
    ]
    return Table(
        tuple(column for column, _ in kept),
        tuple(Row(tuple(text(cell) for _, text in kept), _kind(cell, group)) for cell in cells),
    )


def all_metrics(group: Group, strings: Strings) -> Table:
    """Every metric with its interval: metrics down, models across would be too wide, so models stay down."""
    names = list(dict.fromkeys(name for cell in group.cells for name in cell.metrics))
    return Table(
        (Column(strings("model")), *(Column(name, True) for name in names)),
        tuple(
            Row(
                (cell.label, *(formats.with_interval(cell.metrics.get(name, Number()), name) for name in names)),
                _kind(cell, group),
            )
            for cell in group.cells
        ),
    )


def latency(group: Group, strings: Strings) -> Table | None:
    """Latency, throughput and memory of a group, fastest first, machine by machine; None where nothing was timed."""
    timed = [cell for cell in group.models if number(cell.latency.get("p50_ms")) is not None]
    if not timed:
        return None
    timed.sort(key=lambda cell: (group.machines.index(cell.machine), cell.latency["p50_ms"]))

    def measured(word: str, key: str, form: Form = formats.quantity) -> tuple[Column, Text]:
        return Column(strings(word), True, 1), lambda cell: form(cell.latency.get(key))

    def phase(name: str) -> tuple[Column, Text]:
        part = lambda cell: formats.quantity((cell.latency.get("phases_ms") or {}).get(name))  # noqa: E731
        return Column(strings("phase", name=name), True, 1), part

    phases = dict.fromkeys(name for cell in timed for name in cell.latency.get("phases_ms") or {})
    several = len(group.machines) > 1
    return _table(
        timed,
        group,
        (Column(strings("model")), lambda cell: cell.label),
        (Column(strings("machine_column"), drop_order=1), lambda cell: cell.machine if several else ""),
        measured("p50", "p50_ms"),
        measured("p90", "p90_ms"),
        measured("p95", "p95_ms"),
        measured("p99", "p99_ms"),
        *(phase(name) for name in phases),
        measured("first_token", "first_token_ms"),
        measured("per_token", "per_token_ms"),
        measured("tokens_out", "tokens_out"),
        measured("token_rate", "tokens_per_s"),
        measured("timings", "n", formats.count),
        measured("rate", "samples_per_s"),
        measured("batch", "batch_size", formats.count),
        measured("load", "load_s"),
        measured("memory", "peak_memory_mb", formats.count),
    )


def slices(group: Group, field: str, strings: Strings) -> tuple[Table, int]:
    """The headline metric by the values of one field, and how many values were too many to show.

    Models down and values across, or the other way where the values are many.
    """
    shown, sizes = _shown(group, field)
    cells = [cell for cell in group.cells if field in cell.slices]
    scores = [[_part(cell, field, value) for value in shown] for cell in cells]
    names = [f"{value or formats.NONE} (n={sizes[value]:,})" for value in shown]
    if len(shown) > max(MANY_ACROSS, len(cells)):
        columns = (Column(field), *(Column(cell.label, True) for cell in cells))
        rows = [_scores(name, column, group) for name, column in zip(names, zip(*scores, strict=True), strict=True)]
    else:
        columns = (Column(strings("model")), *(Column(name, True) for name in names))
        rows = [_scores(cell.label, row, group, _kind(cell, group)) for cell, row in zip(cells, scores, strict=True)]
    return Table(columns, tuple(rows)), len(sizes) - len(shown)


def _scores(name: str, scores: Sequence[Number], group: Group, kind: str = "") -> Row:
    return Row(
        (name, *(formats.with_interval(score, group.headline) for score in scores)),
        kind,
        (None, *(shade(score.value, group.headline) for score in scores)),
    )


def slice_fields(group: Group) -> list[str]:
    """The fields that break the headline metric down into at least two parts."""
    fields = dict.fromkeys(field for cell in group.cells for field in cell.slices)
    return [field for field in fields if len(_shown(group, field)[0]) > 1]


def _shown(group: Group, field: str) -> tuple[list[str], dict[str, int]]:
    """The values to show of a slice field, at most MANY_VALUES of those with a score; and the size of every value."""
    sizes: dict[str, int] = {}
    for cell in group.cells:
        for value, part in cell.slices.get(field, {}).items():
            sizes[value] = max(part.n, sizes.get(value, 0))
    shown = [value for value in sizes if any(_part(cell, field, value).value is not None for cell in group.cells)]
    largest = set(sorted(shown, key=lambda value: -sizes[value])[:MANY_VALUES])
    return [value for value in shown if value in largest], sizes


def _part(cell: Cell, field: str, value: str) -> Number:
    part = cell.slices.get(field, {}).get(value)
    return part.metrics.get(cell.headline, Number()) if part else Number()


def missing(group: Group, strings: Strings) -> list[tuple[str, str, str]]:
    """(status, models, reason) of the cells without a score, one entry for each reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for cell in group.missing:
        found.setdefault((cell.status, formats.clean(cell.reason, 300)), []).append(cell.label)
    return [
        (strings.name(status), ", ".join(names), reason or formats.NONE) for (status, reason), names in found.items()
    ]


def title(group: Group, strings: Strings, short: bool = False) -> str:
    """Such as "Captioning · pocket · English · n = 500", or short: "captioning · pocket · English"."""
    ablated = ablation(group, strings) if group.ablate else ""
    counts = {cell.samples for cell in group.models}
    n = "" if short or len(counts) != 1 or counts == {None} else f"n = {formats.count(counts.pop())}"
    parts = (group.task if short else strings.name(group.task), group.dataset, strings.name(group.language), ablated, n)
    return " · ".join(part for part in parts if part)


def ablation(group: Group, strings: Strings) -> str:
    """What the models of a group were not given, such as "without audio"; "whole" where nothing is missing."""
    return strings.name(f"ablate {group.ablate}") if group.ablate else strings("whole")


def notes(group: Group, strings: Strings) -> list[str]:
    """What a reader must know of one group beside its figures."""
    found = []
    if group.joined:
        found.append(strings("joined_note"))
    if len(group.machines) > 1:
        found.append(strings("machines_note", machines="; ".join(name or formats.NONE for name in group.machines)))
    counts = sorted({cell.samples for cell in group.models if cell.samples is not None})
    if len(counts) > 1:
        found.append(strings("counts_note", counts=", ".join(f"{n:,}" for n in counts)))
    doubts: dict[str, list[str]] = {}
    for cell in group.cells:
        if not cell.reliable:
            doubts.setdefault(formats.clean(cell.doubt or formats.NONE, 120), []).append(cell.label)
    if doubts:
        reasons = (f"{doubt} ({', '.join(labels)})" for doubt, labels in doubts.items())
        found.append(strings("unreliable", reasons="; ".join(reasons)))
    found.extend(dict.fromkeys(f"{cell.label}: {formats.clean(cell.note, 300)}" for cell in group.cells if cell.note))
    return found


def shade(value: float | None, name: str) -> float | None:
    """How full a cell is drawn: only metrics that are shares of 1 have a full."""
    if value is None or name.endswith("rank") or name.startswith("cider"):
        return None
    return min(max(value, 0.0), 1.0)


def _kind(cell: Cell, group: Group) -> str:
    return "reference" if cell.reference else "best" if mark(cell, group) else ""
