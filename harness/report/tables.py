"""The tables of a report: built once from cells, as text in columns, and then printed in several forms.

A `Table` holds no markup; the terminal, Markdown, HTML and LaTeX each escape and draw it in their own way, so that
all show the same figures in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from harness.report import formats
from harness.report.strings import Strings
from harness.report.summary import NETWORK, Cell, Group, Number, number

T = TypeVar("T")
Text = Callable[[Cell], str]
"""Gives what a cell has in a column."""
Form = Callable[[Any], str]
"""Writes a figure."""
BEST, ALIKE, UNRELIABLE, CUT_OFF, SMALLER = "★", "≈", "†", "‡", "↓"
"""The marks: best of its table, not distinguishable from the best, interval not to be relied on, answers cut off; and,
behind the name of a metric, that a smaller value is better."""
MANY_CUT_OFF = 0.01
"""More answers than this share, cut off by the token limit, may have cost the model its score: it is marked."""
SHARES = ("cut_off", "refused", "empty", "unfinished")
"""What may be amiss with answers that were given, each as the share of them."""
MANY_ACROSS = 6
"""Slice values stand below one another where they are more than this, and more than the models."""
MANY_VALUES = 24
"""A slice field with more values than this is shown with its largest ones."""


@dataclass(frozen=True)
class Column:
    """What holds for all cells of a column."""

    title: str
    right: bool = False
    """Whether texts stand at the right edge, as figures do."""
    drop_order: int = 0
    """Where a table is too wide, the columns with the highest order go first; one with 0 always stays."""


@dataclass(frozen=True)
class Row:
    """The texts of a row, one for each column."""

    cells: tuple[str, ...]
    kind: str = ""
    """"best", "unranked", "reference" or ""."""
    shades: tuple[float | None, ...] = ()
    """How full each cell is drawn (0 to 1), for a medium that can shade it."""


@dataclass(frozen=True)
class Table:
    """Texts in columns and rows, without any markup."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    caption: str = ""


def mark(cell: Cell, group: Group) -> str:
    """★ for the best value, ≈ for one that is not distinguishable from it.

    A reference row, a row beside those of other runs that were not tested together, and a model that is alone have no
    mark.
    """
    if cell.reference or not cell.best or not group.tested or cell.score.value is None or len(group.models) < 2:
        return ""
    marked = [c.score.value for c in group.models if c.best and c.score.value is not None]
    return BEST if cell.score.value == (max if cell.larger_is_better else min)(marked) else ALIKE


def heading(name: str, group: Group) -> str:
    """A metric's name as the title of a column, marked where a smaller value is better."""
    return f"{name} {SMALLER}" if name in group.smaller_is_better else name


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
"""Metrics that stand beside the headline where there is room for few, the most telling first; the CSV files have
all."""


def side_metrics(group: Group, most: int = 3) -> list[str]:
    """Up to `most` metrics beside the headline that are worth a column: those of _WORTH, else the first in the
    summary."""
    names = dict.fromkeys(name for cell in group.cells for name in cell.metrics if name != group.headline)
    worthy = [name for name in _WORTH if name in names]
    return (worthy or list(names))[:most]


def results(group: Group, strings: Strings) -> Table:
    """The main table of a group: quality first, then what it cost. Columns without a figure are left out."""

    def value(name: str) -> Text:
        return lambda cell: formats.metric(cell.metrics.get(name, Number()).value, name)

    def name(cell: Cell) -> str:
        doubtful = "" if cell.reliable else UNRELIABLE
        return " ".join(filter(None, (mark(cell, group), cell.label, doubtful, CUT_OFF if _marked(cell) else "")))

    def rank(cell: Cell) -> str:
        if cell.rank is None or cell.reference or not group.tested:
            return formats.NONE
        low, high = cell.rank
        return str(low) if low == high else f"{low}–{high}"

    def of_answered(cell: Cell) -> str:
        return formats.metric(cell.of_answered, group.headline)

    side = enumerate(side_metrics(group))
    return filled(
        group.cells,
        (Column(strings("model")), name),
        (Column(strings("origin"), drop_order=3), lambda cell: strings.name(cell.origin)),
        (Column(strings("route"), drop_order=6), lambda cell: cell.route or formats.NONE),
        (
            Column(f"{heading(group.headline, group)} [95 %]"),
            lambda cell: formats.with_interval(cell.score, group.headline),
        ),
        (Column(strings("rank"), right=True, drop_order=6), rank),
        *((Column(heading(other, group), right=True, drop_order=5 + place), value(other)) for place, other in side),
        (
            Column(strings("answered"), right=True),
            lambda cell: formats.NONE if cell.reference else formats.share(cell.coverage),
        ),
        (Column(strings("of_answered"), right=True, drop_order=5), of_answered),
        (
            Column(strings("text_cut"), right=True, drop_order=1),
            lambda cell: formats.share(cell.text_cut) if cell.text_cut else formats.NONE,
        ),
        *(
            (
                Column(strings(name), right=True, drop_order=1),
                lambda cell, name=name: formats.share(getattr(cell, name)),
            )
            for name in _amiss(group)
        ),
        _figure(strings("p50"), "p50_ms", drop_order=2),
        _figure(strings("rate"), "samples_per_s", drop_order=4),
        _figure(strings("load"), "load_s", drop_order=8),
        _figure(strings("memory"), "peak_memory_mb", formats.count, drop_order=7),
        kind=lambda cell: _kind(cell, group),
    )


def filled(
    rows: Sequence[T], *columns: tuple[Column, Callable[[T], str]], kind: Callable[[T], str] = lambda _: ""
) -> Table:
    """A table of the columns and what each gives for every one of `rows`.

    A column that may go (its `drop_order` is above 0) is left out where it has no figure in any row.
    """
    texts = [[text(row) for row in rows] for _, text in columns]
    empty = (formats.NONE, "")
    kept = [
        i
        for i, (column, _) in enumerate(columns)
        if not column.drop_order or any(text not in empty for text in texts[i])
    ]
    return Table(
        tuple(columns[i][0] for i in kept),
        tuple(Row(tuple(texts[i][number] for i in kept), kind(row)) for number, row in enumerate(rows)),
    )


def _figure(title: str, key: str, form: Form = formats.quantity, drop_order: int = 1) -> tuple[Column, Text]:
    """A column of one figure among a cell's latencies."""
    return Column(title, right=True, drop_order=drop_order), lambda cell: form(cell.latency.get(key))


def all_metrics(group: Group, strings: Strings) -> Table:
    """Every metric with its interval. There may be many models, so they stand below one another."""
    names = list(dict.fromkeys(name for cell in group.cells for name in cell.metrics))
    return Table(
        (Column(strings("model")), *(Column(heading(name, group), right=True) for name in names)),
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

    def phase(name: str) -> tuple[Column, Text]:
        column = Column(strings("phase", name=name), right=True, drop_order=1)
        return column, lambda cell: formats.quantity((cell.latency.get("phases_ms") or {}).get(name))

    phases = dict.fromkeys(name for cell in timed for name in cell.latency.get("phases_ms") or {})
    several = len(group.machines) > 1
    return filled(
        timed,
        (Column(strings("model")), lambda cell: cell.label),
        (
            Column(strings("machine_column"), drop_order=1),
            lambda cell: machine(cell.machine, strings) if several else "",
        ),
        (Column(strings("dtype"), drop_order=1), lambda cell: cell.dtype),
        _figure(strings("p50"), "p50_ms"),
        _figure(strings("p90"), "p90_ms"),
        _figure(strings("p95"), "p95_ms"),
        _figure(strings("p99"), "p99_ms"),
        *(phase(name) for name in phases),
        _figure(strings("first_token"), "first_token_ms"),
        _figure(strings("per_token"), "per_token_ms"),
        _figure(strings("tokens_out"), "tokens_out"),
        _figure(strings("token_rate"), "tokens_per_s"),
        _figure(strings("timings"), "n", formats.count),
        _figure(strings("rate"), "samples_per_s"),
        _figure(strings("batch"), "batch_size", formats.count),
        _figure(strings("load"), "load_s"),
        _figure(strings("memory"), "peak_memory_mb", formats.count),
        kind=lambda cell: _kind(cell, group),
    )


def slices(group: Group, field: str, strings: Strings) -> tuple[Table, int]:
    """The headline metric by the values of one field, and how many values are left out because there are too many.

    A model has a row and a value a column, or the other way round where the values are many.
    """
    shown, sizes = _shown(group, field)
    cells = [cell for cell in group.cells if field in cell.slices]
    scores = [[_part(cell, field, value) for value in shown] for cell in cells]
    names = [f"{value or formats.NONE} (n={sizes[value]:,})" for value in shown]
    if len(shown) > max(MANY_ACROSS, len(cells)):
        columns = (Column(field), *(Column(cell.label, right=True) for cell in cells))
        rows = [_scores(name, column, group) for name, column in zip(names, zip(*scores, strict=True), strict=True)]
    else:
        columns = (Column(strings("model")), *(Column(name, right=True) for name in names))
        rows = [_scores(cell.label, row, group, _kind(cell, group)) for cell, row in zip(cells, scores, strict=True)]
    return Table(columns, tuple(rows)), len(sizes) - len(shown)


def _scores(name: str, scores: Sequence[Number], group: Group, kind: str = "") -> Row:
    return Row(
        (name, *(formats.with_interval(score, group.headline) for score in scores)),
        kind,
        (None, *(shade(score, group.headline, group) for score in scores)),
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
    """The headline over one value of a field; unknown where the cell has no such value."""
    part = cell.slices.get(field, {}).get(value)
    return part.metrics.get(cell.headline, Number()) if part else Number()


def missing(group: Group, strings: Strings) -> list[tuple[str, str, str]]:
    """The cells without a score as (status, models, reason), one entry for each reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for cell in group.missing:
        found.setdefault((cell.status, formats.clean(cell.reason, 300)), []).append(cell.label)
    return [
        (strings.name(status), ", ".join(names), reason or formats.NONE) for (status, reason), names in found.items()
    ]


def title(group: Group, strings: Strings, short: bool = False) -> str:
    """What a group's table is about, such as "Captioning · pocket · English · n = 500", or in short "captioning ·
    pocket · English"."""
    key = group.key
    ablated = ablation(group, strings) if key.ablate else ""
    counts = {cell.samples for cell in group.models}
    n = "" if short or len(counts) != 1 or counts == {None} else f"n = {formats.count(counts.pop())}"
    runs = ", ".join(group.runs) if group.joint and group.joint.split else ""
    parts = (key.task if short else strings.name(key.task), key.dataset, strings.name(key.language), ablated, runs, n)
    return " · ".join(part for part in parts if part)


def ablation(group: Group, strings: Strings) -> str:
    """What the models of a group were not given, such as "without audio"; "whole" where nothing is missing."""
    return strings.name(f"ablate {group.key.ablate}") if group.key.ablate else strings("whole")


def notes(group: Group, strings: Strings) -> list[str]:
    """What a reader must know about one group beside its figures."""
    found = []
    found.extend(_joining(group, strings))
    if len(group.machines) > 1:
        machines = "; ".join(machine(name, strings) or formats.NONE for name in group.machines)
        found.append(strings("machines_note", machines=machines))
    counts = sorted({cell.samples for cell in group.models if cell.samples is not None})
    if len(counts) > 1:
        found.append(strings("counts_note", counts=", ".join(f"{n:,}" for n in counts)))
    if left_out := max((cell.rows_left_out for cell in group.cells), default=0):
        found.append(strings("rows_left_out", n=left_out))
    found.extend(_failures(group, strings))
    if cut := [f"{cell.label} ({formats.share(cell.text_cut)})" for cell in group.cells if cell.text_cut]:
        found.append(strings("text_cut_note", models=", ".join(cut)))
    if cut := [cell for cell in group.models if _cut_off(cell)]:
        shares = (f"{cell.label} ({formats.share(cell.cut_off)}, {formats.count(cell.max_new_tokens)})" for cell in cut)
        found.append(strings("cut_off_note", models=", ".join(shares)))
    if _amiss(group):
        found.append(strings("amiss_note"))
    if unranked := _unranked(group, strings):
        found.append(unranked)
    doubts: dict[str, list[str]] = {}
    for cell in group.cells:
        if not cell.reliable:
            doubts.setdefault(formats.clean(cell.doubt or formats.NONE, 120), []).append(cell.label)
    if doubts:
        reasons = (f"{doubt} ({', '.join(labels)})" for doubt, labels in doubts.items())
        found.append(strings("unreliable", reasons="; ".join(reasons)))
    found.extend(dict.fromkeys(f"{cell.label}: {formats.clean(cell.note, 300)}" for cell in group.cells if cell.note))
    return found


def _cut_off(cell: Cell) -> bool:
    """Whether so many answers were cut off that the score may owe to it."""
    return (cell.cut_off or 0.0) > MANY_CUT_OFF


def _marked(cell: Cell) -> bool:
    """Whether a note says what a reader must know of the answers: cut off, or given by several models."""
    return _cut_off(cell) or len(cell.served_by) > 1


def machine(name: str, strings: Strings) -> str:
    """Where latencies were measured, in words."""
    if not name.startswith(NETWORK):
        return name
    return strings("over_network", machine=name.removeprefix(NETWORK) or formats.NONE)


def costs(group: Group, strings: Strings) -> Table | None:
    """Tokens and cost of each model, and of a thousand samples; None where no model runs elsewhere."""
    cells = [cell for cell in group.models if cell.tokens_in is not None or cell.cost is not None]
    if not any(cell.remote for cell in cells):
        return None

    def of_thousand(cell: Cell) -> str:
        counts = [count for count in (cell.tokens_in, cell.tokens_out) if count is not None]
        return formats.count(1_000 * sum(counts) / cell.samples) if cell.samples else formats.NONE

    return filled(
        cells,
        (Column(strings("model")), lambda cell: cell.label),
        (Column(strings("all_tokens_in"), right=True), lambda cell: formats.count(cell.tokens_in)),
        (Column(strings("all_tokens_out"), right=True), lambda cell: formats.count(cell.tokens_out)),
        (Column(strings("reasoning_tokens"), True, drop_order=1), lambda cell: formats.count(cell.reasoning_tokens)),
        (Column(strings("tokens_of_thousand"), right=True), of_thousand),
        (Column(strings("cost"), right=True, drop_order=1), lambda cell: formats.quantity(cell.cost)),
        (
            Column(strings("cost_of_thousand"), right=True, drop_order=1),
            lambda cell: formats.quantity(cell.cost_of_thousand),
        ),
    )


def _amiss(group: Group) -> list[str]:
    """Those of SHARES that are above 0 for any model."""
    return [name for name in SHARES if any(getattr(cell, name) for cell in group.models)]


def _joining(group: Group, strings: Strings) -> list[str]:
    """How the rows of several runs came to stand together, or why they do not."""
    joint, found = group.joint, []
    if group.joined:
        found.append(strings("joint_note" if joint else "joined_note"))
    if joint and joint.other:
        runs = ", ".join(group.runs)
        found.append(strings("apart_note", runs=runs, other=f"{joint.other:,}", samples=f"{joint.samples:,}"))
    if joint and joint.by_words:
        found.append(strings("by_words_note", n=joint.by_words))
    if joint and joint.by_id:
        found.append(strings("by_id_note", n=joint.by_id))
    return found


def _failures(group: Group, strings: Strings) -> list[str]:
    """How many samples of each model failed, and the commonest reason."""
    return [
        strings(
            "failures_note",
            model=cell.label,
            failed=formats.count(cell.failed),
            samples=formats.count(cell.samples),
            reason=formats.clean(cell.failed_reason or formats.NONE, 160),
        )
        for cell in group.models
        if cell.failed
    ]


def _unranked(group: Group, strings: Strings) -> str:
    """Which models have no rank, and why; empty where all have one."""
    found: dict[str, list[str]] = {}
    for cell in group.models:
        if cell.unranked_reason:
            found.setdefault(cell.unranked_reason, []).append(cell.label)
    reasons = "; ".join(f"{', '.join(labels)} ({strings.name(reason)})" for reason, labels in found.items())
    everyone = sum(map(len, found.values())) == len(group.models)
    return strings("nobody_ranked" if everyone else "unranked_note", reasons=reasons) if found else ""


def is_share(name: str) -> bool:
    """Whether a metric is a share, from 0 to 1."""
    return not (name.endswith("rank") or name.startswith("cider"))


def shade(score: Number, name: str, group: Group) -> float | None:
    """How full a cell with this score is drawn, 0 to 1, fuller the better; None for a metric that is not a share."""
    if score.value is None or not is_share(name):
        return None
    full = min(max(score.value, 0.0), 1.0)
    return 1 - full if name in group.smaller_is_better else full


def _kind(cell: Cell, group: Group) -> str:
    """The kind of a cell's row."""
    return (
        "reference" if cell.reference else "unranked" if cell.unranked_reason else "best" if mark(cell, group) else ""
    )
