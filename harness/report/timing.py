"""What full latency passes found, as tables: from cold, one sample after another, answers of one length, batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from harness.report import formats
from harness.report.strings import Strings
from harness.report.summary import Cell, Group, number
from harness.report.tables import Column, Form, Table, filled

Figures = Mapping[str, Any]
"""One way of timing a model: an entry under `latency` in summary.json, or a part of it."""
_TIMES = (("p50", "p50_ms"), ("p90", "p90_ms"), ("p95", "p95_ms"), ("p99", "p99_ms"))


def tables(group: Group, strings: Strings) -> Iterator[tuple[str, Table]]:
    """Titled tables of the models that had a full pass, the fastest first; nothing where none had one."""
    cells = [cell for cell in group.models if cell.latency.get("mode") == "full"]
    cells.sort(key=lambda cell: (group.machines.index(cell.machine), cell.latency["p50_ms"]) if _timed(cell) else (99,))
    if not cells:
        return
    own = [(cell, cell.latency) for cell in cells]
    yield strings("from_cold"), _from_cold(own, strings)
    if streamed := [(cell, figures) for cell, figures in own if _timed(cell)]:
        yield strings("single_stream"), _stream(streamed, strings)
    if fixed := [(cell, figures["fixed"]) for cell, figures in own if figures.get("fixed")]:
        yield strings("fixed_length", n=fixed[0][1].get("tokens")), _stream(fixed, strings)
    if any(figures.get("offline") for _, figures in own):
        yield strings("offline"), _offline(own, strings)


def _timed(cell: Cell) -> bool:
    return number(cell.latency.get("p50_ms")) is not None


def _from_cold(rows: list[tuple[Cell, Figures]], strings: Strings) -> Table:
    def answer(value: Any) -> str:
        return strings("yes") if value is True else strings("no") if value is False else formats.NONE

    def memory(name: str) -> Callable[[Figures], str]:
        return lambda figures: formats.count((figures.get("memory_mb") or {}).get(name))

    return _table(
        rows,
        strings,
        ("import", _figure("import_s")),
        ("load", _figure("load_s")),
        ("first_answer", _figure("first_answer_ms")),
        ("warmups", _figure("warmups", formats.count)),
        ("steady", _figure("steady", answer)),
        ("allocated", memory("allocated")),
        ("reserved", memory("reserved")),
        ("process", memory("process")),
        ("energy", _figure("energy_j")),
        ("shared", _figure("gpu_shared", answer)),
    )


def _stream(rows: list[tuple[Cell, Figures]], strings: Strings) -> Table:
    return _table(
        rows,
        strings,
        *((word, lambda figures, key=key: _bounded(figures, key)) for word, key in _TIMES),
        ("first_token", _figure("first_token_ms")),
        ("per_token", _figure("per_token_ms")),
        ("token_rate", _figure("tokens_per_s")),
        ("tokens_out", _figure("tokens_out")),
        ("timings", _figure("n", formats.count)),
    )


def _offline(rows: list[tuple[Cell, Figures]], strings: Strings) -> Table:
    """A row for each model and batch size; the last one of a model says why there is no larger one."""
    batches = []
    for cell, figures in rows:
        found = figures.get("offline") or []
        end = strings.name(f"end_{figures.get('offline_end')}")
        batches += [(cell, row | {"end": end if row is found[-1] else ""}) for row in found]
    return _table(
        batches,
        strings,
        ("batch", _figure("batch_size", formats.count)),
        ("rate", _figure("samples_per_s")),
        ("token_rate", _figure("tokens_per_s")),
        ("batch_p50", lambda row: _bounded(row, "p50_ms")),
        ("memory", _figure("peak_memory_mb", formats.count)),
        ("energy", _figure("energy_j")),
        ("timings", _figure("n", formats.count)),
        ("ended", lambda row: row["end"]),
    )


def _figure(key: str, form: Form = formats.quantity) -> Callable[[Figures], str]:
    return lambda figures: form(figures.get(key))


def _table(
    rows: Sequence[tuple[Cell, Figures]], strings: Strings, *columns: tuple[str, Callable[[Figures], str]]
) -> Table:
    """The model, and those of the columns (the name of the title, the text) that have a figure in any row."""
    titled = (
        (Column(strings(name), right=True, drop_order=1), lambda row, text=text: text(row[1])) for name, text in columns
    )
    dtype = (Column(strings("dtype"), drop_order=1), lambda row: row[0].dtype)
    return filled(rows, (Column(strings("model")), lambda row: row[0].label), dtype, *titled)


def _bounded(figures: Figures, key: str) -> str:
    """A percentile with its interval, of which a side may be unknown."""
    low, high = (figures.get("intervals") or {}).get(key) or (None, None)
    text = formats.quantity(figures.get(key))
    if number(low) is None and number(high) is None:
        return text
    return f"{text} [{formats.quantity(low)}, {formats.quantity(high)}]"
