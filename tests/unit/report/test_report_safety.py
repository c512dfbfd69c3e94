"""What a model, a data set or an error message says is shown, never obeyed: in HTML, Markdown, CSV, LaTeX, terminal."""

import csv
import io
import json
import re
from html.parser import HTMLParser

import pytest

from harness import report
from harness.report import export, formats, markdown


class Tags(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.found, self.outside = set(), []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.add(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "data", "action") and not (value or "").startswith("#"):
                self.outside.append(value)
            if name.startswith("on"):
                self.found.add(name)


def poison(folder, text):
    """Put `text` wherever a run has foreign text."""
    path = folder / "summary.json"
    data = json.loads(path.read_text("utf-8"))
    for cell in data["cells"]:
        cell["reason"] = cell["note"] = text
        for number in cell["metrics"].values():
            number["definition"] = text
        for values in cell["slices"].values():
            values[text] = next(iter(values.values()))
    data["left_out"] = [{"model": text, "reason": text, "fetch": text}]
    data["machine"]["cpu"] = text
    data["prompts"] = {text: {text: text}}
    for card in data["models"].values():
        card["developer"] = card["checkpoint"] = text
    path.write_text(json.dumps(data), "utf-8")


ATTACKS = ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", '"><svg onload=alert(1)>', "</style><script>"]


@pytest.mark.usefixtures("no_charts")
@pytest.mark.parametrize("attack", ATTACKS)
def test_no_tag_of_a_run_reaches_the_page(demo, attack):
    poison(demo, attack)
    page = (report.write(demo) / "report.html").read_text("utf-8")
    tags = Tags(page)
    assert not tags.found & {"script", "img", "onerror", "onload", "iframe", "object"}
    assert formats.clean(attack)[:4].replace("<", "&lt;").replace('"', "&quot;").replace(">", "&gt;") in page


def test_the_page_asks_nothing_of_anywhere(written):
    page = (written / "report.html").read_text("utf-8")
    assert Tags(page).outside == []
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)


def test_a_models_script_is_shown_as_text(written, evil):
    page = (written / "report.html").read_text("utf-8")
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;" in page
    assert evil not in page


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", "a\\|b"),
        ("<b>x</b>", "&lt;b&gt;x&lt;/b&gt;"),
        ("[a](javascript:x)", "[a]\\(javascript:x)"),
        ("two\nlines", "two lines"),
        ("# head", "\\# head"),
        ("- item", "\\- item"),
        ("1. first", "1\\. first"),
        ("`code` *x* _y_", "\\`code\\` \\*x\\* \\_y\\_"),
        ("exact_match [0.1, 0.2]", "exact_match [0.1, 0.2]"),
        ("i2t_recall@1 of data.jsonl", "i2t_recall@1 of data.jsonl"),
        ("![a](https://evil.com/x)", "![a]\\(https:\\//evil\\.com/x)"),
        ("<https://evil.com>", "&lt;https:\\//evil\\.com&gt;"),
        ("[a]: http://evil", "[a]\\: http:\\//evil"),
        ("www.evil1.museum", "www\\.evil1\\.museum"),
        ("see evil.com or 例子.中国", "see evil\\.com or 例子\\.中国"),
        ("write to me@evil.com", "write to me\u2060@evil\\.com"),
    ],
)
def test_markdown_shows_text_as_it_is(text, shown):
    assert markdown.escape(text) == shown


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "＝1+1", "﹣1", "\ufeff=1", " \u200b\ufeff@A"]
)
def test_a_spreadsheet_runs_no_text(text):
    value = export.safe(text)
    assert value.startswith("'")
    assert next(csv.reader(io.StringIO(value)))[0].startswith("'")


def test_a_pile_of_marks_stays_within_its_line():
    name = "Tie\u0302\u0301ng"
    assert formats.clean(name) == name
    for mark in ("\u0301", "\u0e47", "\u20dd", "\u0301\u200d"):
        assert formats.clean("Z" + 99 * mark + "a").count(mark[0]) == 5


def test_a_long_text_is_cut_before_it_is_cleaned(monkeypatch):
    seen = []
    monkeypatch.setattr(formats, "printable", lambda text, keep: seen.append(text) or text)
    shown = formats.clean("word " * 1_000_000, 100)
    assert len(shown) <= 100
    assert shown.endswith("…")
    assert len(seen[0]) < 1000
    assert formats.clean(" " * 5000 + "end", 100).endswith("…")


def test_negative_numbers_stay_numbers_in_csv():
    assert export.safe(-0.25) == -0.25


def test_latex_runs_no_text():
    assert export.tex_text(r"50% of \input{x} & #1 $a$ a_b ~^") == (
        r"50\% of \textbackslash{}input\{x\} \& \#1 \$a\$ a\_b \textasciitilde{}\textasciicircum{}"
    )


def test_control_characters_and_reversed_text_are_made_visible():
    assert formats.clean("a\x1b[31mb\u202ec\x00") == "a\ufffd[31mb\ufffdc\ufffd"
    assert formats.clean("line\u2028break\r\n tab\t end ") == "line break tab end"
    formats.clean("lone \ud800 surrogate").encode("utf-8")


@pytest.mark.usefixtures("no_charts")
def test_a_name_with_a_path_in_it_stays_in_the_folder(demo):
    path = demo / "summary.json"
    path.write_text(path.read_text("utf-8").replace('"dataset": "pocket"', '"dataset": "../../evil"'), "utf-8")
    report.write(demo)
    assert not list(demo.parent.parent.glob("evil*"))
    assert (demo / "tables" / "vqa..._.._evil.en.csv").is_file()
