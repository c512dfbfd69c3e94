"""The report as GitHub Markdown: it can be read as plain text, shows the charts' PNG files, and escapes foreign
text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.report import formats
from harness.report.document import Block, Figure, Fold, Heading, Points, Samples, Text
from harness.report.samples import Example, reply_text
from harness.report.strings import Strings
from harness.report.tables import Table

_SPECIAL = re.compile(r"[\\`*<>#|~$]|(?<![^\W_])_|_(?![^\W_])|(?<=\])[(\[:]")
"""What could begin markup. An underscore inside a word and brackets without a target cannot, and are left alone."""


_HOST = re.compile(
    r"(?<=[^\W_])\.(?=(?:[^\W\d_]{2}|aero|asia|biz|com|coop|edu|gov|info|museum|name|net|org|pro|shop|web|xn--\w+)\b)"
    r"|(?<=\bwww)\."
)
"""The point before the last part of a host's name: programs that show Markdown make links of bare names too."""
_MAIL = re.compile(r"(?<=[\w.+-])@(?=[\w-]+\.)")
"""The @ of an address. There, an escape does not keep them from making a link; an invisible joiner does."""


def render(blocks: Sequence[Block], strings: Strings) -> str:
    """The whole document, ending in a line break."""
    return "\n\n".join(_block(block, strings) for block in blocks) + "\n"


def escape(text: str) -> str:
    """The text so escaped that Markdown shows it as it is: it makes no markup, HTML, link, table cell, list or
    rule."""
    text = _SPECIAL.sub(r"\\\g<0>", formats.clean(text).replace("&", "&amp;"))
    text = text.replace("\\<", "&lt;").replace("\\>", "&gt;")
    text = _HOST.sub(r"\.", _MAIL.sub("\u2060@", text.replace("://", r":\//")))
    return re.sub(r"^([+\-](?= |$)|-(?=--)|=|\d+[.)](?= ))", _escaped_start, text)


def _escaped_start(match: re.Match[str]) -> str:
    return match[0][:-1] + "\\" + match[0][-1]


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


def _block(block: Block, strings: Strings) -> str:
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
            return "\n\n".join(_example(example, strings) for example in block.examples)
        case Fold():
            inner = "\n\n".join(_block(inner, strings) for inner in block.blocks)
            return f"#### {escape(block.title)}\n\n{inner}"
        case Table():
            return table(block)


def _example(example: Example, strings: Strings) -> str:
    asked = example.asked
    beside = f" ({escape(asked.id)})" if asked.question else ""
    lines = [f"**{escape(formats.clean(asked.question or asked.id, 300))}**{beside}", ""]
    if asked.choices:
        lines.append(f"- {strings('choices_are')}: {escape(formats.clean(' / '.join(asked.choices), 300))}")
    if asked.references:
        unique = " / ".join(dict.fromkeys(asked.references))
        lines.append(f"- {strings('references_are')}: {escape(formats.clean(unique, 300))}")
    for reply in example.replies:
        sign = {True: "✓", False: "✗", None: "·"}[reply.right]
        lines.append(f"- {sign} {escape(reply_text(reply.record, strings))} — {escape(', '.join(reply.models))}")
    return "\n".join(lines)
