"""The report as one HTML file with its charts inside, light or dark as the reader's system is set.

It holds no script and asks nothing of any server. Everything that comes from a run goes through `html.escape`, a
model's output first of all; besides, the page's policy forbids scripts and outside requests.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

from harness.report import formats
from harness.report.document import Block, Figure, Fold, Heading, Points, Samples, Text
from harness.report.pictures import data_uri
from harness.report.samples import Example, reply_text
from harness.report.strings import Strings
from harness.report.tables import Table

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def render(blocks: Sequence[Block], svgs: Mapping[str, str], strings: Strings) -> str:
    """The whole page; `svgs` are the charts' files by stem, as matplotlib wrote them."""
    style = files("harness.report").joinpath("style.css").read_text("utf-8")
    title = next((block.text for block in blocks if isinstance(block, Heading)), "")
    headings = [block for block in blocks if isinstance(block, Heading) and block.level == 2]
    links = "".join(f'<a href="#{_anchor(heading.text)}">{_text(heading.text)}</a>' for heading in headings)
    body = "\n".join(_block(block, svgs, strings) for block in blocks)
    lines = [
        "<!DOCTYPE html>",
        f'<html lang="{"zh-CN" if strings.language == "zh" else "en"}">',
        '<head>\n<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{_text(title)}</title>",
        f"<style>\n{style}</style>\n</head>",
        f"<body>\n<nav>{links}</nav>\n<main>\n{body}\n</main>\n</body>\n</html>\n",
    ]
    return "\n".join(lines)


def _text(text: str) -> str:
    return escape(formats.clean(text))


def _anchor(text: str) -> str:
    return re.sub(r"[^\w]+", "-", text.lower()).strip("-")


def _block(block: Block, svgs: Mapping[str, str], strings: Strings) -> str:
    match block:
        case Heading():
            anchor = f' id="{_anchor(block.text)}"' if block.level == 2 else ""
            return f"<h{block.level}{anchor}>{_text(block.text)}</h{block.level}>"
        case Text():
            return f'<p class="{"strong" if block.strong else "note"}">{_text(block.text)}</p>'
        case Points():
            kind = ' class="verdict"' if block.strong else ""
            return f"<ul{kind}>" + "".join(f"<li>{_text(item)}</li>" for item in block.items) + "</ul>"
        case Figure():
            svg = inline_svg(svgs[block.stem], block.stem, block.alt)
            return f"<figure>{svg}</figure>"
        case Samples():
            return (
                '<div class="samples">' + "\n".join(_example(example, strings) for example in block.examples) + "</div>"
            )
        case Fold():
            inner = "\n".join(_block(inner, svgs, strings) for inner in block.blocks)
            return f"<details><summary>{_text(block.title)}</summary>\n{inner}\n</details>"
        case Table():
            return _table(block)


_LIMITS = (34, 60), (24, 40)
"""A column with a text longer than the first number may break its lines, and one with a text longer than the second may
have longer ones. The first pair is for a table's first column, the second for the others; figures are never broken."""


def _kind(table: Table, i: int) -> str:
    """The class of a column in the style sheet: "r" for figures, "b" or "w" for one that may break its lines, or ""."""
    if table.columns[i].right:
        return "r"
    longest = max((len(row.cells[i]) for row in table.rows), default=0)
    short, long = _LIMITS[min(i, 1)]
    return "w" if longest > long else "b" if longest > short else ""


def _table(table: Table) -> str:
    kinds = [_kind(table, i) for i in range(len(table.columns))]
    sides = [f' class="{kind}"' if kind else "" for kind in kinds]
    head = "".join(f'<th scope="col"{sides[i]}>{_text(column.title)}</th>' for i, column in enumerate(table.columns))
    lines = []
    for row in table.rows:
        cells = [f'<th scope="row"{sides[0]}>{_text(row.cells[0])}</th>']
        for i, text in enumerate(row.cells[1:], start=1):
            shade = row.shades[i] if row.shades else None
            style = f' style="--v:{shade:.3f}"' if shade is not None else ""
            cells.append(f"<td{sides[i]}{style}>{_text(text)}</td>")
        lines.append(f'<tr class="{row.kind}">' if row.kind else "<tr>")
        lines.append("".join(cells) + "</tr>")
    body = "\n".join(lines)
    table_ = f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"
    return f'<div class="scroll" tabindex="0">{table_}</div>'


def _example(example: Example, strings: Strings) -> str:
    asked = example.asked
    title = asked.question or asked.id
    facts = [asked.id, *(f"{key}: {value}" for key, value in asked.slices.items())]
    facts = [fact for fact in dict.fromkeys([*facts, *(Path(medium).name for medium in asked.media)]) if fact != title]
    pictures = [uri for key in asked.media if (uri := data_uri(key, example.media))]
    lines = [f'<div class="pictures">{"".join(_picture(uri) for uri in pictures)}</div>'] if pictures else []
    lines += [f"<h5><bdi>{_text(formats.clean(title, 300))}</bdi></h5>"]
    lines.append(f'<p class="ids">{" · ".join(f"<bdi>{_text(formats.clean(fact, 120))}</bdi>" for fact in facts)}</p>')
    if asked.choices:
        lines.append(
            f"<p>{_text(strings('choices_are'))}: <bdi>{_text(formats.clean(' / '.join(asked.choices), 300))}</bdi></p>"
        )
    if asked.references:
        unique = " / ".join(dict.fromkeys(asked.references))
        lines.append(f"<p>{_text(strings('references_are'))}: <bdi>{_text(formats.clean(unique, 300))}</bdi></p>")
    lines.append("<dl>")
    for reply in example.replies:
        kind, sign = {True: ("right", "✓"), False: ("wrong", "✗"), None: ("open", "·")}[reply.right]
        lines.append(
            f'<dt class="{kind}"><span>{sign}</span> <bdi>{_text(reply_text(reply.record, strings))}</bdi></dt>'
            f"<dd>{_text(', '.join(reply.models))}</dd>"
        )
    return "<article>" + "\n".join(lines) + "</dl></article>"


def _picture(uri: str) -> str:
    return f'<img alt="" src="{uri}">'


def inline_svg(svg: str, stem: str, alt: str) -> str:
    """A chart for a page with others: without its XML head, with ids of its own, and with the page's colours in place
    of those in `charts`."""
    from harness.report.charts import COLOURS, GRID, INK, PAPER

    svg = svg[svg.index("<svg") :].rstrip()
    svg = re.sub(r"<metadata>.*?</metadata>\s*|<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    prefix = re.sub(r"\W", "-", stem)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    ours = {INK: "currentColor", GRID: "var(--line)", PAPER: "none"}
    ours |= {colour: f"var(--{origin})" for origin, colour in COLOURS.items()}
    for colour, own in ours.items():
        svg = svg.replace(colour, own)
    size = re.search(r'width="([\d.]+)pt"', svg)
    svg = re.sub(r'(<svg[^>]*?) height="[\d.]+pt"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) width="[\d.]+pt"', r"\1", svg, count=1)
    width = f"max-width:{float(size[1]) * 4 / 3:.0f}px" if size else ""
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(alt)}" style="{width}"', 1)
