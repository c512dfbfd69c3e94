"""The report as GitHub Markdown: readable as plain text, charts as their PNG files, all foreign text escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.report import formats
from harness.report.document import Block, Figure, Fold, Heading, Points, Samples, Text
from harness.report.samples import Example
from harness.report.tables import Table
from harness.report.words import Words

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$])")


def render(blocks: Sequence[Block], words: Words) -> str:
    """The whole document, ending in a line break."""
    return "\n\n".join(_block(block, words) for block in blocks) + "\n"


def escape(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no HTML, no new table cell."""
    text = (
        _SPECIAL.sub(r"\\\1", formats.clean(text).replace("&", "&amp;")).replace("\\<", "&lt;").replace("\\>", "&gt;")
    )
    return re.sub(r"^([+\-=]|\d+[.)])(?=\s|[+\-=]|$)", r"\\\1", text) if not text[:1].isdigit() else text


def table(table: Table) -> str:
    """A pipe table; reference rows are set in italics, marked rows in bold."""
    rows = [
        "| " + " | ".join(escape(column.title) for column in table.columns) + " |",
        "|" + "|".join("---:" if column.right else "---" for column in table.columns) + "|",
    ]
    for row in table.rows:
        around = {"best": "**", "reference": "*"}.get(row.kind, "")
        cells = [escape(text) for text in row.cells]
        rows.append("| " + " | ".join([f"{around}{cells[0]}{around}", *cells[1:]]) + " |")
    return "\n".join(rows)


def _block(block: Block, words: Words) -> str:
    match block:
        case Heading():
            return f"{'#' * block.level} {escape(block.text)}"
        case Text():
            return f"> **{escape(block.text)}**" if block.strong else escape(block.text)
        case Points():
            return "\n".join(f"- {escape(item)}" for item in block.items)
        case Figure():
            return f"![{escape(block.alt)}](charts/{block.stem}.png)"
        case Samples():
            return "\n\n".join(_example(example, words) for example in block.examples)
        case Fold():
            inner = "\n\n".join(_block(inner, words) for inner in block.blocks)
            return f"#### {escape(block.title)}\n\n{inner}"
        case Table():
            return table(block)


def _example(example: Example, words: Words) -> str:
    asked = example.asked
    lines = [f"**{escape(formats.clean(asked.question or asked.id, 300))}** ({escape(asked.id)})", ""]
    if asked.choices:
        lines.append(f"- {words('choices_are')}: {escape(formats.clean(' / '.join(asked.choices), 300))}")
    if asked.references:
        unique = " / ".join(dict.fromkeys(asked.references))
        lines.append(f"- {words('references_are')}: {escape(formats.clean(unique, 300))}")
    for reply in example.replies:
        sign = {True: "✓", False: "✗", None: "·"}[reply.right]
        lines.append(f"- {sign} {escape(said(reply.record, words))} — {escape(', '.join(reply.models))}")
    return "\n".join(lines)


def said(record, words: Words) -> str:  # noqa: ANN001
    """What a model made of a sample, in one line."""
    if record.error is not None:
        return words("no_answer", error=formats.clean(record.error, 200))
    if record.retrieval is not None:
        rank = record.retrieval.get("rank")
        text = words("rank_answer", rank=formats.count(rank))
        first = record.retrieval.get("first") or []
        return text + (words("found_first", ids=formats.clean(", ".join(map(str, first[:3])), 120)) if first else "")
    return formats.clean(record.answer, 300) if record.answer else words("empty_answer")
