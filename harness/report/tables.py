"""The tables of a report: built once from cells, as text in columns, and then printed in five forms.

A `Table` knows no markup; the terminal, Markdown, HTML and LaTeX each escape and draw it in their own way, so that
all show the same figures in the same order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.report import formats
from harness.report.summary import FEW_CLUSTERS, Cell, Group, Number, Summary, number
from harness.report.words import Words

BEST, ALIKE, UNRELIABLE = "★", "≈", "†"
MANY_VALUES = 24
"""A slice field with more values than this is shown with its largest ones."""


@dataclass(frozen=True)
class Column:
    title: str
    right: bool = False
    """Figures stand to the right."""
    rank: int = 0
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
    """★ for the best value, ≈ for what is not distinguishable from it; nothing in joined tables and reference rows."""
    if cell.reference or not cell.best or group.joined or cell.score.value is None:
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


def results(group: Group, words: Words) -> Table:
    """The main table of a group: quality first, then what it cost."""

    def ms(key: str) -> Callable[[Cell], str]:
        return lambda cell: formats.quantity(cell.latency.get(key))

    def value(name: str) -> Callable[[Cell], str]:
        return lambda cell: formats.metric(cell.metrics.get(name, Number()).value, name)

    def name(cell: Cell) -> str:
        return " ".join(filter(None, (mark(cell, group), cell.label, "" if cell.reliable else UNRELIABLE)))

    def rank(cell: Cell) -> str:
        if cell.rank is None or cell.reference:
            return formats.NONE
        low, high = cell.rank
        return str(low) if low == high else f"{low}–{high}"

    wanted: list[tuple[Column, Callable[[Cell], str]]] = [
        (Column(words("model")), name),
        (Column(words("origin"), rank=3), lambda cell: words.name(cell.origin)),
        (Column(words("route"), rank=6), lambda cell: cell.route or formats.NONE),
        (Column(f"{group.headline} [95 %]"), lambda cell: formats.with_interval(cell.score, group.headline)),
        *((Column(other, True, 5 + place), value(other)) for place, other in enumerate(side_metrics(group))),
        (
            Column(words("answered"), True),
            lambda cell: formats.NONE if cell.reference else formats.share(cell.coverage),
        ),
        (Column(words("p50"), True, 2), ms("p50_ms")),
        (Column(words("rate"), True, 4), ms("samples_per_s")),
        (Column(words("load"), True, 8), ms("load_s")),
        (Column(words("memory"), True, 7), lambda cell: formats.count(cell.latency.get("peak_memory_mb"))),
    ]
    if not group.joined and any(cell.rank for cell in group.cells):
        wanted.insert(4, (Column(words("rank"), True, 6), rank))
    empty = {formats.NONE, ""}
    kept = [(c, text) for c, text in wanted if not c.rank or any(text(cell) not in empty for cell in group.cells)]
    return Table(
        tuple(column for column, _ in kept),
        tuple(Row(tuple(text(cell) for _, text in kept), _kind(cell, group)) for cell in group.cells),
    )


def all_metrics(group: Group, words: Words) -> Table:
    """Every metric with its interval: metrics down, models across would be too wide, so models stay down."""
    names = list(dict.fromkeys(name for cell in group.cells for name in cell.metrics))
    return Table(
        (Column(words("model")), *(Column(name, True) for name in names)),
        tuple(
            Row(
                (cell.label, *(formats.with_interval(cell.metrics.get(name, Number()), name) for name in names)),
                _kind(cell, group),
            )
            for cell in group.cells
        ),
    )


def latency(group: Group, words: Words) -> Table | None:
    """Latency, throughput and memory of a group, fastest first, machine by machine; None where nothing was timed."""
    timed = [cell for cell in group.models if number(cell.latency.get("p50_ms")) is not None]
    if not timed:
        return None
    keys = {
        "p50": "p50_ms",
        "p90": "p90_ms",
        "p95": "p95_ms",
        "p99": "p99_ms",
        "first_token": "first_token_ms",
        "rate": "samples_per_s",
        "token_rate": "tokens_per_s",
        "load": "load_s",
        "memory": "peak_memory_mb",
        "batch": "batch_size",
    }
    shown = {
        word: key for word, key in keys.items() if any(number(cell.latency.get(key)) is not None for cell in timed)
    }
    several = len(group.machines) > 1
    timed.sort(key=lambda cell: (group.machines.index(cell.machine), cell.latency["p50_ms"]))
    whole = ("memory", "batch")
    return Table(
        (
            Column(words("model")),
            *((Column(words("machine_column")),) if several else ()),
            *(Column(words(w), True) for w in shown),
        ),
        tuple(
            Row(
                (
                    cell.label,
                    *((cell.machine,) if several else ()),
                    *(
                        (formats.count if w in whole else formats.quantity)(cell.latency.get(key))
                        for w, key in shown.items()
                    ),
                )
            )
            for cell in timed
        ),
    )


def slices(group: Group, field: str, words: Words) -> tuple[Table, int]:
    """The headline metric by the values of one field, and how many values were too many to show."""
    sizes: dict[str, int] = {}
    for cell in group.cells:
        for value, part in cell.slices.get(field, {}).items():
            sizes[value] = max(part.n, sizes.get(value, 0))
    shown = list(sizes)
    if len(shown) > MANY_VALUES:
        largest = set(sorted(sizes, key=lambda value: -sizes[value])[:MANY_VALUES])
        shown = [value for value in sizes if value in largest]
    rows = []
    for cell in group.cells:
        if field not in cell.slices:
            continue
        scores = [
            cell.slices[field][value].metrics.get(group.headline, Number()) if value in cell.slices[field] else Number()
            for value in shown
        ]
        rows.append(
            Row(
                (cell.label, *(formats.with_interval(score, group.headline) for score in scores)),
                _kind(cell, group),
                (None, *(shade(score.value, group.headline) for score in scores)),
            )
        )
    columns = (
        Column(words("model")),
        *(Column(f"{value or formats.NONE} (n={sizes[value]:,})", True) for value in shown),
    )
    return Table(columns, tuple(rows)), len(sizes) - len(shown)


def slice_fields(group: Group) -> list[str]:
    return list(dict.fromkeys(field for cell in group.cells for field in cell.slices))


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
                formats.count(row.get("n")),
            )
        )
    if not rows:
        return None
    place = {cell.model: position for position, cell in enumerate(group.models)}
    rows.sort(key=lambda row: place.get(row[0], len(place)))
    keys = ("against", "difference", "interval", "p_holm", "shown", "n")
    columns = tuple(Column(words(key), key not in ("against", "shown")) for key in keys)
    return Table(columns, tuple(Row(row) for row in rows), f"{best} − …")


def missing(group: Group, words: Words) -> list[tuple[str, str, str]]:
    """(status, models, reason) of the cells without a score, one entry for each reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for cell in group.missing:
        found.setdefault((cell.status, formats.clean(cell.reason, 300)), []).append(cell.label)
    return [(words.name(status), ", ".join(names), reason or formats.NONE) for (status, reason), names in found.items()]


def overview(summary: Summary, words: Words) -> Table | None:
    """The headline of every model in every group; None for a single group, whose own table says it all."""
    if len(summary.groups) < 2:
        return None
    labels: dict[str, Cell] = {}
    for group in summary.groups:
        for cell in (*group.cells, *group.missing):
            labels.setdefault(cell.label, cell)
    order = {origin: place for place, origin in enumerate(("in-house", "domestic", "international", "reference"))}
    rows = []
    for label, first in sorted(labels.items(), key=lambda item: (order[item[1].origin], item[0])):
        texts, shades = [], []
        for group in summary.groups:
            cell = next((cell for cell in group.cells if cell.label == label), None)
            other = next((cell for cell in group.missing if cell.label == label), None)
            if cell is not None:
                texts.append(f"{mark(cell, group)} {formats.metric(cell.score.value, cell.headline)}".strip())
                shades.append(shade(cell.score.value, cell.headline))
            else:
                texts.append(words.name(other.status) if other else formats.NONE)
                shades.append(None)
        kind = "reference" if first.origin == "reference" else ""
        rows.append(Row((label, words.name(first.origin), *texts), kind, (None, None, *shades)))
    titles = (f"{title(group, words, short=True)} {group.headline}" for group in summary.groups)
    return Table(
        (Column(words("model")), Column(words("origin")), *(Column(text, True) for text in titles)), tuple(rows)
    )


def title(group: Group, words: Words, short: bool = False) -> str:
    """Such as "Captioning · pocket · English · n = 500", or short: "captioning · pocket · English"."""
    ablated = words("ablated", what=group.ablate) if group.ablate else ""
    counts = {cell.samples for cell in group.models}
    n = "" if short or len(counts) != 1 or counts == {None} else f"n = {formats.count(counts.pop())}"
    parts = (group.task if short else words.name(group.task), group.dataset, words.name(group.language), ablated, n)
    return " · ".join(part for part in parts if part)


def notes(group: Group, words: Words) -> list[str]:
    """What a reader must know of one group beside its figures."""
    found = []
    if group.joined:
        found.append(words("joined_note"))
    if len(group.machines) > 1:
        found.append(words("machines_note", machines="; ".join(name or formats.NONE for name in group.machines)))
    counts = sorted({cell.samples for cell in group.models if cell.samples is not None})
    if len(counts) > 1:
        found.append(words("counts_note", counts=", ".join(f"{n:,}" for n in counts)))
    if any(not cell.reliable for cell in group.cells):
        found.append(words("unreliable", few=FEW_CLUSTERS))
    found.extend(dict.fromkeys(f"{cell.label}: {formats.clean(cell.note, 300)}" for cell in group.cells if cell.note))
    return found


def shade(value: float | None, name: str) -> float | None:
    """How full a cell is drawn: only metrics that are shares of 1 have a full."""
    if value is None or name.endswith("rank") or name.startswith("cider"):
        return None
    return min(max(value, 0.0), 1.0)


def _kind(cell: Cell, group: Group) -> str:
    return "reference" if cell.reference else "best" if mark(cell, group) else ""
