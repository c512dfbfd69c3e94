"""The charts: right figures, labels that can be read, equal files for equal runs, nothing left behind in matplotlib."""

import json
import logging
import re
import sys
from itertools import combinations

import pytest

from harness import report
from harness.report import charts, fonts, html, labels, summary
from harness.report.strings import Strings


def drawn(folder, language="en", task="vqa"):
    data = summary.load(folder)
    data = summary.parse({**data, "cells": [cell for cell in data["cells"] if cell["task"] == task]}, folder=folder)
    (folder / "charts").mkdir(exist_ok=True)
    return charts.draw(data, folder / "charts", Strings(language))


def test_every_task_has_both_charts_in_both_formats(written):
    names = sorted(path.name for path in (written / "charts").iterdir())
    tasks = ("captioning", "retrieval", "vqa")
    assert names == [f"{t}.{kind}.{end}" for t in tasks for kind in ("latency", "quality") for end in ("png", "svg")]


def test_a_chart_has_models_values_and_reference_rows_as_text(written):
    svg = (written / "charts" / "vqa.quality.svg").read_text("utf-8")
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    for text in ("★ fusion-self-attention", "0.860", "≈ qwen3-vl-pocket", "prior", "chance", "exact_match"):
        assert text in texts


def test_equal_runs_give_equal_files_without_a_date(demo, written):
    again = drawn(demo)[0]
    assert set(again) == {"vqa.quality", "vqa.latency"}
    for name, svg in again.items():
        assert (written / "charts" / f"{name}.svg").read_text("utf-8") == svg
        assert "dc:date" not in svg


def test_drawing_leaves_no_setting_and_no_open_figure_behind(demo):
    import matplotlib

    before, there = dict.copy(matplotlib.rcParams), "matplotlib.pyplot" in sys.modules
    drawn(demo)
    assert dict.copy(matplotlib.rcParams) == before
    assert ("matplotlib.pyplot" in sys.modules) == there


def test_a_model_name_is_no_formula(demo):
    path = demo / "summary.json"
    path.write_text(path.read_text("utf-8").replace("fusion-concat", "a$x^2$_b&<i>"), "utf-8")
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", drawn(demo)[0]["vqa.quality"])
    assert "a$x^2$_b&amp;&lt;i&gt;" in texts


def test_several_charts_on_one_page_share_no_ids(written):
    page = (written / "report.html").read_text("utf-8")
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    targets = set(re.findall(r'(?:href="#|url\(#)([^")]*)', page))
    assert targets <= set(ids)


def test_a_chart_on_the_page_takes_the_pages_colours(written):
    svg = (written / "charts" / "vqa.quality.svg").read_text("utf-8")
    svg = html.inline_svg(svg, "vqa.quality", "alt & text")
    assert charts.INK not in svg
    assert "currentColor" in svg
    assert "var(--in-house)" in svg
    assert 'aria-label="alt &amp; text"' in svg


def test_the_frontier_has_only_what_nothing_beats():
    points = [(10, 0.5), (5, 0.5), (20, 0.9), (20, 0.8), (30, 0.7), (1, 0.1)]
    assert charts.frontier(points) == [(1, 0.1), (5, 0.5), (20, 0.9)]


@pytest.mark.parametrize(("low", "high"), [(0.3, 0.8), (3.9, 620), (95, 130), (1, 9e6)])
def test_a_log_axis_has_a_few_ticks_within_it(low, high):
    found = charts.ticks(low, high)
    assert 2 <= len(found) <= 8
    assert all(low <= tick <= high for tick in found)


def test_labels_cover_neither_one_another_nor_points():
    points = [(100 + 6 * i, 100 + 9 * (i % 3)) for i in range(12)]
    boxes = labels.place(points, [(70, 11)] * 12, (0, 0, 500, 400), 8)
    for (x, y), box in zip(points, boxes, strict=True):
        assert min(box) >= 0
        assert max(box[2] / 500, box[3] / 400) <= 1
        assert not any(box[0] < px < box[2] and box[1] < py < box[3] for px, py in points), (x, y)
    assert not any(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for a, b in combinations(boxes, 2))


def test_without_a_chinese_font_labels_are_english_and_one_warning_says_so(demo, monkeypatch, caplog):
    monkeypatch.setattr(fonts, "having", lambda characters: None)
    with caplog.at_level(logging.WARNING):
        svg = drawn(demo, "zh")[0]["vqa.quality"]
    assert "domestic" in svg
    assert "国产" not in svg
    assert len(caplog.records) == 1


def test_the_font_of_boxes_that_matplotlib_brings_is_no_chinese_font(monkeypatch):
    from matplotlib import font_manager, get_data_path

    own = [font for font in font_manager.fontManager.ttflist if font.fname.startswith(get_data_path())]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    assert fonts.having.__wrapped__(frozenset("延迟")) is None


def test_a_font_that_was_installed_after_matplotlib_made_its_list_is_found(monkeypatch):
    from matplotlib import font_manager

    new = font_manager.findfont("DejaVu Sans")
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [])
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [new])
    assert fonts.having.__wrapped__(frozenset("é")) == "DejaVu Sans"


def test_a_task_without_latency_has_no_latency_chart(demo):
    path = demo / "summary.json"
    data = json.loads(path.read_text("utf-8"))
    for cell in data["cells"]:
        cell["latency"] = dict.fromkeys(cell["latency"])
    path.write_text(json.dumps(data), "utf-8")
    out = report.write(demo)
    assert sorted(path.name for path in (out / "charts").glob("*.svg")) == [
        "captioning.quality.svg",
        "retrieval.quality.svg",
        "vqa.quality.svg",
    ]


def test_ablations_come_last_on_the_scale_of_the_whole_and_are_not_timed(demo):
    path = demo / "summary.json"
    data = json.loads(path.read_text("utf-8"))
    english = [cell for cell in data["cells"] if (cell["task"], cell["language"]) == ("vqa", "en")]
    without = json.loads(json.dumps(english).replace('"ablate": ""', '"ablate": "audio"'))
    for number in (number for cell in without for number in cell["metrics"].values()):
        number |= {name: number[name] and number[name] / 4 for name in ("value", "low", "high")}
    place = data["cells"].index(english[-1]) + 1
    data["cells"][place:place] = without
    path.write_text(json.dumps(data), "utf-8")
    quality, latency = (drawn(demo)[0][f"vqa.{kind}"] for kind in ("quality", "latency"))
    titles = re.findall(r"<text[^>]*>(vqa · [^<]*)</text>", quality)
    assert titles == ["vqa · pocket · English", "vqa · pocket · Chinese", "vqa · pocket · English · without audio"]
    assert len(re.findall(r"<text[^>]*>1\.0</text>", quality)) == 3
    assert "without audio" not in latency


def test_a_report_imports_neither_torch_nor_transformers():
    import subprocess

    code = "import sys, harness.report; from harness.report import charts, document, export, html, screen, samples; "
    code += "print(sorted({'torch', 'transformers', 'pandas', 'matplotlib', 'rich', 'scipy'} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
