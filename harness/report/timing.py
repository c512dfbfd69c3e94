"""What full latency passes found, as tables: from cold, one sample after another, answers of one length, batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from harness.report import formats
from harness.report.strings import Strings
from harness.report.summary import Cell, Group, number
from harness.report.tables import Column, Row, Table

Figures = Mapping[str, Any]
_TIMES = (("p50", "p50_ms"), ("p90", "p90_ms"), ("p95", "p95_ms"), ("p99", "p99_ms"))


def tables(group: Group, strings: Strings) -> Iterator[tuple[str, Table]]:
    """Titled tables of the models that had a full pass, fastest first; none where none had one."""
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
        ("import", lambda figures: formats.quantity(figures.get("import_s"))),
        ("load", lambda figures: formats.quantity(figures.get("load_s"))),
        ("first_answer", lambda figures: formats.quantity(figures.get("first_answer_ms"))),
        ("warmups", lambda figures: formats.count(figures.get("warmups"))),
        ("steady", lambda figures: answer(figures.get("steady"))),
        ("allocated", memory("allocated")),
        ("reserved", memory("reserved")),
        ("process", memory("process")),
        ("energy", lambda figures: formats.quantity(figures.get("energy_j"))),
        ("shared", lambda figures: answer(figures.get("gpu_shared"))),
    )


def _stream(rows: list[tuple[Cell, Figures]], strings: Strings) -> Table:
    return _table(
        rows,
        strings,
        *((word, lambda figures, key=key: _bounded(figures, key)) for word, key in _TIMES),
        ("first_token", lambda figures: formats.quantity(figures.get("first_token_ms"))),
        ("per_token", lambda figures: formats.quantity(figures.get("per_token_ms"))),
        ("token_rate", lambda figures: formats.quantity(figures.get("tokens_per_s"))),
        ("tokens_out", lambda figures: formats.quantity(figures.get("tokens_out"))),
        ("timings", lambda figures: formats.count(figures.get("n"))),
    )


def _offline(rows: list[tuple[Cell, Figures]], strings: Strings) -> Table:
    batches = []
    for cell, figures in rows:
        found = figures.get("offline") or []
        end = strings.name(f"end_{figures.get('offline_end')}")
        batches += [(cell, row | {"end": end if row is found[-1] else ""}) for row in found]
    return _table(
        batches,
        strings,
        ("batch", lambda row: formats.count(row.get("batch_size"))),
        ("rate", lambda row: formats.quantity(row.get("samples_per_s"))),
        ("token_rate", lambda row: formats.quantity(row.get("tokens_per_s"))),
        ("batch_p50", lambda row: _bounded(row, "p50_ms")),
        ("memory", lambda row: formats.count(row.get("peak_memory_mb"))),
        ("energy", lambda row: formats.quantity(row.get("energy_j"))),
        ("timings", lambda row: formats.count(row.get("n"))),
        ("ended", lambda row: row["end"]),
    )


def _table(rows: list[tuple[Cell, Figures]], strings: Strings, *columns: tuple[str, Callable[[Figures], str]]) -> Table:
    """The model and the columns that have a figure in any row."""
    texts = [[text(figures) for _, text in columns] for _, figures in rows]
    kept = [i for i in range(len(columns)) if any(line[i] not in (formats.NONE, "") for line in texts)]
    return Table(
        (Column(strings("model")), *(Column(strings(columns[i][0]), True) for i in kept)),
        tuple(Row((cell.label, *(line[i] for i in kept))) for (cell, _), line in zip(rows, texts, strict=True)),
    )


def _bounded(figures: Figures, key: str) -> str:
    """A percentile with its interval, of which a side may be unknown."""
    low, high = (figures.get("intervals") or {}).get(key) or (None, None)
    text = formats.quantity(figures.get(key))
    if number(low) is None and number(high) is None:
        return text
    return f"{text} [{formats.quantity(low)}, {formats.quantity(high)}]"
