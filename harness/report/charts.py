"""Charts for each task, as SVG and PNG: the headline metric with its intervals, and quality against latency and cost.

They are drawn on matplotlib's figures without pyplot, so that nothing global is left behind. A model's origin shows in
its colour (Okabe and Ito's, which every kind of colour vision tells apart) and in its marker. SVG text stays text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.records import CellGroup
from harness.report import formats, labels, tables
from harness.report.document import Figure
from harness.report.fonts import families
from harness.report.strings import Strings
from harness.report.summary import Cell, Group, Summary, number
from harness.store.files import file_stem

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

INK, GRID, PAPER = "#1a1b1c", "#d3d4d5", "#fefdfe"
"""Colours that nothing else has, so that a page can put its own in their place."""
COLOURS = {"in-house": "#d55e00", "domestic": "#0072b2", "international": "#009e73", "reference": "#767676"}
MARKERS = {"in-house": "D", "domestic": "o", "international": "^"}
_DASHES = ("--", ":", "-.")
"""How the lines of reference rows are drawn, in order."""
_SETTINGS = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "axes.unicode_minus": False,
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GRID,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": GRID,
    "axes.facecolor": "none",
    "figure.facecolor": PAPER,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_ACROSS = 3
"""How many panels stand beside one another at most."""
_WIDTHS = (5.6, 3.7, 3.2)
"""The width of a panel in inches, where one, two or three stand beside one another."""


def draw(summary: Summary, folder: Path, strings: Strings) -> tuple[dict[str, str], dict[str, list[Figure]]]:
    """Draw all charts into `folder` (NAME.svg and NAME.png); returns the SVG texts by name and the figures by task."""
    from matplotlib import rc_context

    texts = [cell.label for cell in summary.cells] + [group.key.name for group in summary.groups]
    texts += [strings(key) for key in ("axis_latency", "in-house", "en", "zh", "domestic", "frontier", "cost_frontier")]
    fonts, strings = families(texts, strings)
    svgs: dict[str, str] = {}
    figures: dict[str, list[Figure]] = {}
    settings: dict[Any, Any] = {**_SETTINGS, "font.family": fonts}
    with rc_context(settings):
        for task in summary.tasks:
            groups = [group for group in summary.groups if group.key.task == task]
            for kind, draw_one in (("quality", _quality), ("latency", _latency), ("cost", _cost)):
                canvas = draw_one(groups, strings)
                if canvas is None:
                    continue
                stem = file_stem(f"{task}.{kind}")
                svgs[stem] = _save(canvas, folder / stem)
                figures.setdefault(task, []).append(Figure(stem, strings(f"chart_{kind}", task=strings.name(task))))
    return svgs, figures


def _save(canvas: Canvas, path: Path) -> str:
    """Write both files; the SVG has no date, and ids from its name alone, so that equal runs give equal files."""
    from matplotlib import rc_context

    svg = path.with_name(path.name + ".svg")
    with rc_context({"svg.hashsalt": path.name}):
        canvas.savefig(svg, metadata={"Date": None, "Creator": None})
    canvas.savefig(path.with_name(path.name + ".png"), dpi=130, pil_kwargs={"compress_level": 4})
    return svg.read_text("utf-8")


def _across(count: int) -> int:
    """How many of `count` panels stand beside one another."""
    return 2 if count == 4 else min(count, _ACROSS)


def _panels(count: int, left: float, width: float, height: float) -> tuple[Canvas, list[Axes]]:
    """`count` panels in rows of up to _ACROSS, each width x height inches with `left` inches for what stands beside it.

    The layout is done by hand, because matplotlib's own layout engines draw every chart several times over.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    right, top, bottom, legend = 0.6, 0.42, 0.5, 0.35
    across = _across(count)
    down = math.ceil(count / across)
    wide, tall = across * (left + width + right), down * (top + height + bottom) + legend
    canvas = Canvas(figsize=(wide, tall))
    FigureCanvasAgg(canvas)
    axes = []
    for position in range(count):
        row, column = divmod(position, across)
        x, y = column * (left + width + right) + left, tall - (row + 1) * (top + height + bottom) + bottom
        axes.append(canvas.add_axes((x / wide, y / tall, width / wide, height / tall)))
    return canvas, axes


# Quality --------------------------------------------------------------------------------------------------------------


def _quality(groups: Sequence[Group], strings: Strings) -> Canvas | None:
    """Bars from best to worst with 95 % intervals, and reference rows as lines across.

    Ablations come last, and have the scale of the group that they were made from.
    """
    groups = [group for group in groups if any(cell.score.value is not None for cell in group.models)]
    if not groups:
        return None
    groups = sorted(groups, key=lambda group: bool(group.key.ablate))
    tops: dict[CellGroup, float] = {}
    for group in groups:
        whole = group.key._replace(ablate="")
        tops[whole] = max(tops.get(whole, 0.0), _top(group))
    most = max(len(group.models) for group in groups)
    left = 0.3 + max(_inches(_short(cell.label)) for group in groups for cell in group.models)
    canvas, axes = _panels(len(groups), left, _WIDTHS[_across(len(groups)) - 1], 0.27 * most + 0.1)
    for axis, group in zip(axes, groups, strict=True):
        _bars(axis, group, most, tops[group.key._replace(ablate="")], strings)
    _legend(canvas, groups, strings)
    return canvas


def _top(group: Group) -> float:
    """The highest value, or end of an interval, that a panel shows."""
    highs = [cell.score.high or cell.score.value or 0.0 for cell in group.models]
    return max(highs + [cell.score.value or 0.0 for cell in group.references])


def _bars(axis: Axes, group: Group, most: int, top: float, strings: Strings) -> None:
    """Draw one group, with room for `most` bars and values up to `top`."""
    cells = [cell for cell in group.models if cell.score.value is not None]
    for row, cell in enumerate(cells):
        value, colour = cell.score.value or 0.0, COLOURS[cell.origin]
        axis.barh(row, value, height=0.62, color=colour, alpha=0.32 * _strength(cell), linewidth=0)
        if cell.score.low is not None and cell.score.high is not None:
            axis.plot([cell.score.low, cell.score.high], [row, row], color=colour, linewidth=1.6, solid_capstyle="butt")
        axis.plot(
            [value], [row], marker=MARKERS[cell.origin], color=colour, markersize=5, linestyle="none", clip_on=False
        )
        text = formats.metric(value, cell.headline)
        axis.text(1.015, row, text, transform=axis.get_yaxis_transform(), va="center", ha="left", fontsize=8)
    for position, cell in enumerate(group.references):
        if cell.score.value is not None:
            axis.axvline(
                cell.score.value, color=COLOURS["reference"], linestyle=_DASHES[position % len(_DASHES)], linewidth=1.2
            )
    axis.set_yticks(range(len(cells)), [f"{tables.mark(cell, group)} {_short(cell.label)}".strip() for cell in cells])
    axis.set_ylim(most - 0.4, -0.6)
    least = min((cell.score.low or cell.score.value or 0.0 for cell in cells), default=0.0)
    most_shown = 1 if tables.is_share(group.headline) and 0.5 < top <= 1 else (top or 1) * 1.06
    axis.set_xlim(min(0.0, least), most_shown)
    axis.locator_params(axis="x", nbins=6)
    axis.grid(axis="x", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(axis="y", length=0, pad=6)  # room for the mark of a value of 0
    axis.spines["left"].set_visible(False)
    _inscribe(axis, tables.title(group, strings, short=True), _metric(group, strings))


# Quality against latency, and against cost ----------------------------------------------------------------------------


def _latency(groups: Sequence[Group], strings: Strings) -> Canvas | None:
    """A panel for each machine on which models were timed."""
    whole = [group for group in groups if not group.key.ablate]
    shown = [
        (group, tables.machine(machine, strings) if len(group.machines) > 1 else "", cells)
        for group in whole
        for machine, cells in _timed(group)
    ]
    return _against(shown, _milliseconds, ("axis_latency", "frontier"), strings)


def _cost(groups: Sequence[Group], strings: Strings) -> Canvas | None:
    """The models that cost something; others have no place on a scale of prices."""
    whole = [group for group in groups if not group.key.ablate]
    shown = [
        (group, "", cells)
        for group in whole
        if (cells := [c for c in group.models if (c.cost_of_thousand or 0) > 0 and c.score.value is not None])
    ]
    return _against(shown, lambda cell: cell.cost_of_thousand or 0.0, ("axis_cost", "cost_frontier"), strings)


def _against(
    shown: Sequence[tuple[Group, str, list[Cell]]],
    price: Callable[[Cell], float],
    words: tuple[str, str],
    strings: Strings,
) -> Canvas | None:
    """A point for each model, and the frontier of those that no other beats in both quality and `price`; a panel for
    each group and machine. Models without a rank are pale and take no part in the frontier, and the better values are
    always above. `words` name the strings of the axis and of the frontier.

    Ablations are left out: nobody asks how fast a model is without what it was asked about.
    """
    if not shown:
        return None
    canvas, axes = _panels(len(shown), 0.7, 1.15 * _WIDTHS[_across(len(shown)) - 1], 3.3)
    points = [[(price(cell), cell.score.value or 0.0) for cell in cells] for *_, cells in shown]
    for axis, (group, machine, cells), where in zip(axes, shown, points, strict=True):
        _scatter(axis, group, machine, cells, where, strings(words[0]), strings)
    _legend(canvas, [group for group, _, _ in shown], strings, frontier=strings(words[1]))
    for axis, (_, _, cells), where in zip(axes, shown, points, strict=True):
        _name(axis, cells, where)
    return canvas


def _milliseconds(cell: Cell) -> float:
    return float(cell.latency["p50_ms"])


def _timed(group: Group) -> Iterator[tuple[str, list[Cell]]]:
    """The models with a latency and a score, machine by machine."""
    for machine in group.machines:
        cells = [
            cell
            for cell in group.models
            if cell.machine == machine
            and (number(cell.latency.get("p50_ms")) or 0) > 0
            and cell.score.value is not None
        ]
        if cells:
            yield machine, cells


def frontier(points: Sequence[tuple[float, float]], larger_is_better: bool = True) -> list[tuple[float, float]]:
    """The (latency, quality) points to which no other is equal or better in both, the fastest first."""
    sign = 1 if larger_is_better else -1
    kept: list[tuple[float, float]] = []
    for latency, quality in sorted(set(points), key=lambda point: (point[0], -sign * point[1])):
        if not kept or sign * quality > sign * kept[-1][1]:
            kept.append((latency, quality))
    return kept


def _scatter(
    axis: Axes,
    group: Group,
    machine: str,
    cells: Sequence[Cell],
    points: Sequence[tuple[float, float]],
    below: str,
    strings: Strings,
) -> None:
    """Draw one panel: the points with their intervals, and the frontier as a staircase. `below` labels the axis."""
    ranked = [point for cell, point in zip(cells, points, strict=True) if not cell.unranked_reason]
    edge = frontier(ranked, cells[0].larger_is_better)
    low, high = min(x for x, _ in points), max(x for x, _ in points)
    room = max((high / low) ** 0.12, 1.5)
    low, high = low / room, high * room
    corners = [
        corner
        for (x, y), (_, before) in zip(edge, [*edge[:1], *edge], strict=False)
        for corner in ((x, before), (x, y))
    ]
    corners += [(high, y) for _, y in edge[-1:]]
    axis.plot([x for x, _ in corners], [y for _, y in corners], color=COLOURS["reference"], linewidth=1)
    for cell, (x, y) in zip(cells, points, strict=True):
        bounds = [y if cell.score.low is None else cell.score.low, y if cell.score.high is None else cell.score.high]
        axis.plot([x, x], bounds, color=COLOURS[cell.origin], linewidth=1, alpha=0.45 * _strength(cell))
        axis.plot(
            [x],
            [y],
            marker=MARKERS[cell.origin],
            color=COLOURS[cell.origin],
            markersize=6.5,
            alpha=_strength(cell),
            linestyle="none",
            clip_on=False,
        )
    ys = [bound for cell in cells for bound in (cell.score.low, cell.score.value, cell.score.high) if bound is not None]
    _scale(axis, low, high, min(ys), max(ys))
    if not cells[0].larger_is_better:
        axis.invert_yaxis()
    heading = tables.title(group, strings, short=True)
    heading = f"{heading}\n{_short(machine, 60)}" if machine else heading
    _inscribe(axis, heading, below, _metric(group, strings))


def _scale(axis: Axes, low: float, high: float, bottom: float, top: float) -> None:
    """Latencies from `low` to `high` on a log scale, and values from `bottom` to `top` with a margin."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    margin = max(0.08 * (top - bottom), 0.03 * abs(top)) or 0.01
    axis.set_ylim(max(min(0.0, bottom), bottom - margin), top + margin)
    axis.yaxis.set_major_formatter("{x:g}")
    axis.set_xscale("log")
    axis.set_xlim(low, high)
    axis.xaxis.set_major_locator(FixedLocator(ticks(low, high)))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.grid(linewidth=0.6)
    axis.set_axisbelow(True)


def ticks(low: float, high: float) -> list[float]:
    """Round numbers between `low` and `high` for a log scale: 1, 2 and 5 of each decade, or fewer, so that they are at
    most eight."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        found = [step * 10.0**decade for decade in decades for step in steps if low <= step * 10.0**decade <= high]
        if len(found) <= 8:
            break
    if len(found) < 2:
        found = [float(f"{value:.2g}") for value in (low * 1.05, math.sqrt(low * high), high / 1.05)]
    return found


def _name(axis: Axes, cells: Sequence[Cell], where: Sequence[tuple[float, float]]) -> None:
    """Write each model's name beside its point, clear of the lines; a name that had to go farther has a line to it."""
    renderer: Any = axis.figure.canvas.get_renderer()  # type: ignore[union-attr]
    written = [axis.text(0, 0, _short(cell.label), fontsize=8, transform=None) for cell in cells]
    extents = [text.get_window_extent(renderer) for text in written]
    points = [tuple(axis.transData.transform(point)) for point in where]
    frame, reach = axis.bbox, 0.075 * axis.figure.dpi  # type: ignore[union-attr]
    lines = [
        line.get_transform().transform(line.get_path().vertices)
        for line in axis.lines
        if line.get_linestyle() != "None"
    ]
    sizes = [(extent.width, extent.height) for extent in extents]
    boxes = labels.place(
        points, sizes, (frame.x0, frame.y0, frame.x1, frame.y1), reach, [line.tolist() for line in lines]
    )
    for text, box, (x, y) in zip(written, boxes, points, strict=True):
        text.set_transform(axis.transData)
        left, middle = axis.transData.inverted().transform((box[0], (box[1] + box[3]) / 2))
        text.set_position((left, middle))
        text.set_verticalalignment("center_baseline")
        near = min(max(x, box[0]), box[2]), min(max(y, box[1]), box[3])
        if math.dist(near, (x, y)) > 1.6 * reach:
            ends = axis.transData.inverted().transform([(x, y), near])
            axis.plot(ends[:, 0], ends[:, 1], color=INK, linewidth=0.5, alpha=0.6)


def _strength(cell: Cell) -> float:
    """How opaque a model's marks are: pale where it has no rank."""
    return 0.35 if cell.unranked_reason else 1.0


def _metric(group: Group, strings: Strings) -> str:
    """The headline as an axis is labelled, with its direction where that is not the usual one."""
    name = group.headline
    return strings("smaller_is_better", metric=name) if name in group.smaller_is_better else name


# Both -----------------------------------------------------------------------------------------------------------------


def _legend(canvas: Canvas, groups: Sequence[Group], strings: Strings, frontier: str = "") -> None:
    from matplotlib.lines import Line2D

    present = {cell.origin for group in groups for cell in group.models}
    handles = [
        Line2D([], [], color=COLOURS[origin], marker=MARKERS[origin], linestyle="none", label=strings.name(origin))
        for origin in MARKERS
        if origin in present
    ]
    if frontier:
        handles.append(Line2D([], [], color=COLOURS["reference"], linewidth=1, label=frontier))
    else:
        names = dict.fromkeys((place, cell.label) for group in groups for place, cell in enumerate(group.references))
        for place, name in names:
            dash = _DASHES[place % len(_DASHES)]
            handles.append(
                Line2D([], [], color=COLOURS["reference"], linestyle=dash, linewidth=1.2, label=_short(name))
            )
    canvas.legend(handles=handles, loc="lower center", ncols=min(len(handles), 6), fontsize=8.5)


def _inscribe(axis: Axes, title: str, below: str, beside: str = "") -> None:
    """Put title and axis labels at fixed places: finding places by itself takes matplotlib a fifth of the drawing."""
    box = axis.get_window_extent()
    dots = axis.figure.dpi  # type: ignore[union-attr]
    axis.set_title(title, fontsize=9.5, loc="left", y=1 + 0.06 * dots / box.height)
    axis.set_xlabel(below, fontsize=8.5)
    axis.xaxis.set_label_coords(0.5, -0.3 * dots / box.height)
    axis.set_ylabel(beside, fontsize=8.5)
    axis.yaxis.set_label_coords(-0.5 * dots / box.width, 0.5)


def _inches(text: str) -> float:
    """About how wide a label of the default size is."""
    return sum(0.128 if ord(c) >= 0x2E80 else 0.08 for c in text)


def _short(text: str, limit: int = 34) -> str:
    return formats.clean(text, limit)
