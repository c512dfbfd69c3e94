"""The report as a list of blocks, without any markup: what is said, in which order. Markdown and HTML print it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.report import comparisons as across
from harness.report import formats, tables, timing
from harness.report.samples import Example, examples
from harness.report.strings import Words
from harness.report.summary import Group, Summary
from harness.report.tables import Column, Row, Table


@dataclass(frozen=True)
class Heading:
    level: int
    text: str


@dataclass(frozen=True)
class Text:
    text: str
    strong: bool = False
    """A statement that must not be overlooked."""


@dataclass(frozen=True)
class Points:
    """A list of short statements."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Figure:
    """A chart: `stem` names its files in charts/."""

    stem: str
    alt: str


@dataclass(frozen=True)
class Samples:
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class Fold:
    """Blocks that a medium may fold away behind `title`."""

    title: str
    blocks: tuple[Block, ...]


Block = Heading | Text | Points | Figure | Samples | Fold | Table


def build(summary: Summary, figures: Mapping[str, list[Figure]], words: Words) -> list[Block]:
    """All blocks of a report; `figures` are the charts there are, by task."""
    missing = sum(len(group.missing) for group in summary.groups)
    models = {cell.model for cell in summary.cells if not cell.reference}
    blocks: list[Block] = [
        Heading(1, words("title", runs=" + ".join(summary.runs))),
        Text(words("subtitle", models=len(models), cells=len(summary.cells) - missing, missing=missing)),
    ]
    if summary.pocket:
        blocks.append(Text(words("pocket", names=", ".join(summary.pocket)), strong=True))
    if (table := across.overview(summary, words)) is not None:
        blocks += [Heading(2, words("overview")), table, Text(words("overview_note"))]
    if (table := across.origins(summary, words)) is not None:
        blocks += [Heading(3, words("origins")), table, Text(words("origins_note"))]
    if (table := across.standings(summary, words)) is not None:
        blocks += [Heading(3, words("standings")), table, Text(words("standings_note"))]
    for task in summary.tasks:
        blocks += [
            Heading(2, _named(task, words)),
            *figures.get(task, []),
        ]
        for group in (group for group in summary.groups if group.task == task):
            blocks += _group(group, words)
        for groups in (groups for groups in summary.ablations if groups[0].task == task):
            table = across.ablations(groups, words)
            blocks += [Heading(3, f"{words('ablations')}: {table.caption}"), Table(table.columns, table.rows)]
            blocks.append(Text(words("ablations_note")))
    return blocks + _reading(summary, words) + _appendix(summary, words)


def _named(task: str, words: Words) -> str:
    """A task in words and, where these are others, as the command line calls it."""
    name = words.name(task)
    return name if name.lower() == task else f"{name} ({task})"


def _group(group: Group, words: Words) -> list[Block]:
    blocks: list[Block] = [Heading(3, tables.title(group, words))]
    blocks.append(tables.results(group, words) if group.cells else Text(words("nothing")))
    if notes := tables.notes(group, words):
        blocks.append(Points(tuple(notes)))
    if missing := tables.missing(group, words):
        columns = tuple(Column(words(key)) for key in ("status", "who", "reason"))
        blocks += [Heading(4, words("missing")), Table(columns, tuple(Row(row) for row in missing))]
    if not group.cells:
        return blocks
    blocks.append(Fold(words("metrics"), (tables.all_metrics(group, words),)))
    for field in tables.slice_fields(group):
        table, more = tables.slices(group, field, words)
        rest = (Text(words("more_slices", n=more, file="tables/slices.csv")),) if more else ()
        blocks.append(Fold(words("slices", field=field), (table, *rest)))
    if (table := across.pairs(group, words)) is not None:
        note = Text(words("pairs_note", file="tables/comparisons.csv"))
        blocks.append(Fold(f"{words('pairs')}: {table.caption}", (Table(table.columns, table.rows), note)))
    if (table := tables.latency(group, words)) is not None:
        blocks.append(Fold(words("latency"), (table, Text(words("latency_note")))))
    if titled := list(timing.tables(group, words)):
        parts = [block for title, table in titled for block in (Heading(5, title), table)]
        blocks += [Heading(4, words("full_latency")), *parts, Text(words("full_latency_note"))]
    if shown := examples(group):
        blocks.append(Fold(words("samples"), (Samples(tuple(shown)), Text(words("samples_note")))))
    return blocks


def _reading(summary: Summary, words: Words) -> list[Block]:
    """How to read it: the notes that hold for every table, and the definitions of the metrics."""
    keys = ["best_note", "interval_note", "failed_note", "route_note"]
    if any(cell.reference for cell in summary.cells):
        keys.append("reference_note")
    blocks: list[Block] = [Heading(2, words("how_to_read")), Points(tuple(words(key) for key in keys))]
    definitions: dict[tuple[str, str], str] = {}
    for cell in summary.cells:
        for name, definition in cell.definitions.items():
            definitions.setdefault((name, definition), cell.task)
    if definitions:
        columns = (Column(words("metric")), Column(words("definition")))
        rows = tuple(Row((name, formats.clean(definition))) for name, definition in definitions)
        blocks.append(Fold(words("metrics"), (Table(columns, rows),)))
    return blocks


_CARD = ("origin", "developer", "checkpoint", "parameters", "license", "dtype", "prompt")


def _appendix(summary: Summary, words: Words) -> list[Block]:
    blocks: list[Block] = [Heading(2, words("appendix"))]
    if summary.models:
        columns = (Column(words("model")), *(Column(words(key), key == "parameters") for key in _CARD))
        rows = tuple(
            Row((name, *(_card(card, key, words) for key in _CARD))) for name, card in sorted(summary.models.items())
        )
        blocks += [Heading(3, words("models")), Table(columns, rows)]
    if summary.datasets:
        keys = ("split", "license", "homepage")
        columns = (Column(words("dataset")), *(Column(words(key)) for key in keys), Column(words("sample_count"), True))
        rows = tuple(
            Row((name, *(str(card.get(key) or formats.NONE) for key in keys), _sizes(summary, name)))
            for name, card in sorted(summary.datasets.items())
        )
        blocks += [Heading(3, words("datasets")), Table(columns, rows)]
    for run in summary.runs:
        facts = {**summary.facts.get(run, {}), **summary.machines.get(run, {})}
        rows = tuple(Row((key, _plain(value))) for key, value in facts.items() if value not in (None, "", [], {}))
        if rows:
            name = words("machine") if len(summary.runs) == 1 else f"{words('machine')}: {run}"
            blocks += [Heading(3, name), Table((Column(words("fact")), Column(words("value"))), rows)]
    if summary.prompts:
        rows = tuple(Row((key, formats.clean(text))) for key, text in _flat(summary.prompts))
        columns = (Column(words("prompt")), Column(words("text")))
        blocks.append(Fold(words("prompts"), (Table(columns, rows),)))
    if summary.left_out:
        columns = (Column(words("model")), Column(words("reason")), Column(words("fetch")))
        rows = tuple(
            Row(tuple(formats.clean(row.get(key) or formats.NONE) for key in ("model", "reason", "fetch")))
            for row in summary.left_out
        )
        blocks += [Heading(3, words("left_out")), Table(columns, rows)]
    return blocks


def _sizes(summary: Summary, dataset: str) -> str:
    """How many samples its cells had: one number, or the least and the most where tasks or runs differ."""
    counts = {cell.samples for cell in summary.cells if cell.dataset == dataset and cell.samples}
    return "–".join(formats.count(n) for n in sorted({min(counts), max(counts)})) if counts else formats.NONE


def _card(card: Mapping[str, Any], key: str, words: Words) -> str:
    value = card.get(key)
    if value in (None, ""):
        return formats.NONE
    if key == "parameters":
        return formats.quantity(value)
    return words.name(str(value)) if key == "origin" else str(value)


def _plain(value: Any) -> str:
    """A fact of any shape on one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(part)}" for key, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return formats.clean(f"{value:,.1f}".removesuffix(".0") if isinstance(value, float) else value)


def _flat(value: Any, path: str = "") -> list[tuple[str, Any]]:
    """The texts of nested prompt profiles, named by their path."""
    if isinstance(value, Mapping):
        return [pair for key, part in value.items() for pair in _flat(part, f"{path} {key}".strip())]
    if isinstance(value, list):
        return [(path, part) for part in value]
    return [(path, value)] if value not in (None, "") else []
