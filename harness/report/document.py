"""The report as a list of blocks without any markup: its contents, in their order. Markdown and HTML print them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.report import comparisons, formats, tables, timing, verdict
from harness.report.samples import Example, examples
from harness.report.strings import Strings
from harness.report.summary import Group, Summary
from harness.report.tables import Column, Row, Table


@dataclass(frozen=True)
class Heading:
    """A title; 1 is the level of the whole report's."""

    level: int
    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    strong: bool = False
    """Whether the statement must not be overlooked."""


@dataclass(frozen=True)
class Points:
    """A list of short statements."""

    items: tuple[str, ...]
    strong: bool = False
    """Whether they are what a reader came for, and no notes beside it."""


@dataclass(frozen=True)
class Figure:
    """A chart: `stem` names its files in charts/."""

    stem: str
    alt: str


@dataclass(frozen=True)
class Samples:
    """Samples with the models' answers to them."""

    examples: tuple[Example, ...]


@dataclass(frozen=True)
class Fold:
    """Blocks that a medium may fold away behind `title`."""

    title: str
    blocks: tuple[Block, ...]


Block = Heading | Text | Points | Figure | Samples | Fold | Table


def build(summary: Summary, figures: Mapping[str, list[Figure]], strings: Strings) -> list[Block]:
    """All blocks of a report; `figures` are the charts there are, by task."""
    missing = sum(len(group.missing) for group in summary.groups)
    models = {cell.model for cell in summary.cells if not cell.reference}
    counted = {
        "models": strings("counted_models", n=len(models)),
        "cells": strings("counted_cells", n=len(summary.cells) - missing),
    }
    blocks: list[Block] = [
        Heading(1, strings("title", runs=" + ".join(summary.runs))),
        Text(strings("subtitle", **counted, missing=missing)),
    ]
    if told := verdict.sentences(summary, strings):
        blocks += [Heading(2, strings("verdict")), Points(tuple(told), strong=True)]
        blocks.append(Text(strings("verdict_note")))
    if summary.pocket:
        blocks.append(Text(strings("pocket", n=len(summary.pocket)), strong=True))
    for run in summary.runs:
        facts = summary.facts.get(run, {})
        made, scored = (str(facts.get(key) or "") for key in ("harness", "scored_by"))
        if made and scored and made != scored:
            blocks.append(Text(strings("scored_anew", run=run, made=made, scored=scored)))
    if marks := verdict.legend(summary, strings):
        blocks.append(Text(marks))
    if (table := comparisons.overview(summary, strings)) is not None:
        blocks += [Heading(2, strings("overview")), table, Text(strings("overview_note"))]
    if (table := comparisons.origins(summary, strings)) is not None:
        blocks += [Heading(3, strings("origins")), table, Text(strings("origins_note"))]
    if (table := comparisons.standings(summary, strings)) is not None:
        blocks += [Heading(3, strings("standings")), table, Text(strings("standings_note"))]
    for task in summary.tasks:
        blocks += [Heading(2, _named(task, strings)), *figures.get(task, [])]
        for group in (group for group in summary.groups if group.key.task == task):
            blocks += _group(group, strings)
        for groups in (groups for groups in summary.ablations if groups[0].key.task == task):
            table = comparisons.ablations(groups, strings)
            blocks += [Heading(3, f"{strings('ablations')}: {table.caption}"), Table(table.columns, table.rows)]
            blocks.append(Text(strings("ablations_note")))
    return blocks + _reading(summary, strings) + _appendix(summary, strings)


def _named(task: str, strings: Strings) -> str:
    """A task's name in words, with the command line's name behind it where that is another."""
    name = strings.name(task)
    return name if name.lower() == task else f"{name} ({task})"


def _group(group: Group, strings: Strings) -> list[Block]:
    """All that is shown of one group: its table and notes, and folded away what only some readers look for."""
    blocks: list[Block] = [Heading(3, tables.title(group, strings))]
    blocks.append(tables.results(group, strings) if group.cells else Text(strings("nothing")))
    if notes := tables.notes(group, strings):
        blocks.append(Points(tuple(notes)))
    if missing := tables.missing(group, strings):
        columns = tuple(Column(strings(key)) for key in ("status", "who", "reason"))
        blocks += [Heading(4, strings("missing")), Table(columns, tuple(Row(row) for row in missing))]
    if not group.cells:
        return blocks
    blocks.append(Fold(strings("metrics"), (tables.all_metrics(group, strings),)))
    for field in tables.slice_fields(group):
        table, more = tables.slices(group, field, strings)
        rest = (Text(strings("more_slices", n=more, file="tables/slices.csv")),) if more else ()
        blocks.append(Fold(strings("slices", field=field), (table, *rest)))
    if (table := comparisons.pairs(group, strings)) is not None:
        note = Text(strings("pairs_note", file="tables/comparisons.csv"))
        blocks.append(Fold(f"{strings('pairs')}: {table.caption}", (Table(table.columns, table.rows), note)))
    if (table := tables.latency(group, strings)) is not None:
        blocks.append(Fold(strings("latency"), (table, Text(strings("latency_note")))))
    if (table := tables.costs(group, strings)) is not None:
        blocks += [Heading(4, strings("costs")), table, Text(strings("costs_note"))]
    if titled := list(timing.tables(group, strings)):
        parts = [block for title, table in titled for block in (Heading(5, title), table)]
        blocks += [Heading(4, strings("full_latency")), *parts, Text(strings("full_latency_note"))]
    if shown := examples(group):
        blocks.append(Fold(strings("samples"), (Samples(tuple(shown)), Text(strings("samples_note")))))
    return blocks


def _reading(summary: Summary, strings: Strings) -> list[Block]:
    """How to read the report: the notes that hold for every table, and the definitions of the metrics."""
    keys = ["best_note", "interval_note", "failed_note", "route_note"]
    if any(group.smaller_is_better for group in summary.groups):
        keys.insert(1, "smaller_note")
    if any(cell.reference for cell in summary.cells):
        keys.append("reference_note")
    blocks: list[Block] = [Heading(2, strings("how_to_read")), Points(tuple(strings(key) for key in keys))]
    definitions: dict[tuple[str, str], str] = {}
    for cell in summary.cells:
        for name, definition in cell.definitions.items():
            definitions.setdefault((name, definition), cell.group.task)
    if definitions:
        columns = (Column(strings("metric")), Column(strings("definition")))
        rows = tuple(Row((name, formats.clean(definition))) for name, definition in definitions)
        blocks.append(Fold(strings("metrics"), (Table(columns, rows),)))
    return blocks


_CARD = ("origin", "developer", "checkpoint", "parameters", "license", "dtype", "prompt")
"""What is told of each model."""


def _appendix(summary: Summary, strings: Strings) -> list[Block]:
    """What stood behind the figures: models, data sets, machines, prompts, and what was left out."""
    return [
        Heading(2, strings("appendix")),
        *_models(summary, strings),
        *_datasets(summary, strings),
        *_machines(summary, strings),
        *_prompts(summary, strings),
        *_left_out(summary, strings),
    ]


def _models(summary: Summary, strings: Strings) -> list[Block]:
    if not summary.models:
        return []
    columns = (Column(strings("model")), *(Column(strings(key), right=key == "parameters") for key in _CARD))
    rows = tuple(
        Row((name, *(_card(card, key, strings) for key in _CARD))) for name, card in sorted(summary.models.items())
    )
    return [Heading(3, strings("models")), Table(columns, rows)]


def _datasets(summary: Summary, strings: Strings) -> list[Block]:
    if not summary.datasets:
        return []
    keys = ("split", "license", "homepage")
    titles = [Column(strings(key)) for key in ("dataset", *keys)]
    rows = tuple(
        Row((name, *(str(card.get(key) or formats.NONE) for key in keys), _sizes(summary, name)))
        for name, card in sorted(summary.datasets.items())
    )
    return [Heading(3, strings("datasets")), Table((*titles, Column(strings("sample_count"), right=True)), rows)]


def _machines(summary: Summary, strings: Strings) -> list[Block]:
    blocks: list[Block] = []
    for run in summary.runs:
        facts = {**summary.facts.get(run, {}), **summary.machines.get(run, {})}
        rows = tuple(Row((key, _plain(value))) for key, value in facts.items() if value not in (None, "", [], {}))
        if rows:
            name = strings("machine") if len(summary.runs) == 1 else f"{strings('machine')}: {run}"
            blocks += [Heading(3, name), Table((Column(strings("fact")), Column(strings("value"))), rows)]
    return blocks


def _prompts(summary: Summary, strings: Strings) -> list[Block]:
    if not summary.prompts:
        return []
    rows = tuple(Row((key, formats.clean(text))) for key, text in _flat(summary.prompts))
    columns = (Column(strings("prompt")), Column(strings("text")))
    return [Fold(strings("prompts"), (Table(columns, rows),))]


def _left_out(summary: Summary, strings: Strings) -> list[Block]:
    if not summary.left_out:
        return []
    keys = ("model", "reason", "fetch")
    rows = tuple(Row(tuple(formats.clean(row.get(key) or formats.NONE) for key in keys)) for row in summary.left_out)
    return [Heading(3, strings("left_out")), Table(tuple(Column(strings(key)) for key in keys), rows)]


def _sizes(summary: Summary, dataset: str) -> str:
    """How many samples the cells of a data set had: one number, or the least and the most where tasks or runs
    differ."""
    counts = {cell.samples for cell in summary.cells if cell.group.dataset == dataset and cell.samples}
    return "–".join(formats.count(n) for n in sorted({min(counts), max(counts)})) if counts else formats.NONE


def _card(card: Mapping[str, Any], key: str, strings: Strings) -> str:
    value = card.get(key)
    if value in (None, ""):
        return formats.NONE
    if key == "parameters":
        return formats.quantity(value)
    return strings.name(str(value)) if key == "origin" else str(value)


def _plain(value: Any) -> str:
    """A fact, whatever its shape, on one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(part)}" for key, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return formats.clean(f"{value:,.1f}".removesuffix(".0") if isinstance(value, float) else value)


def _flat(value: Any, path: str = "") -> list[tuple[str, Any]]:
    """The texts of nested prompt profiles, each with the path of keys that leads to it."""
    if isinstance(value, Mapping):
        return [pair for key, part in value.items() for pair in _flat(part, f"{path} {key}".strip())]
    if isinstance(value, list):
        return [(path, part) for part in value]
    return [(path, value)] if value not in (None, "") else []
