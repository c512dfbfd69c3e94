"""The whole output for one run, byte for byte: whoever changes a report sees in the diff what readers will see.

After a change on purpose: HARNESS_UPDATE_GOLDEN=1 pytest tests/unit/report, then read the diff of tests/golden/report.
"""

import os
import re
from pathlib import Path

import pytest

from harness import report
from harness.report import fonts

GOLDEN = Path(__file__).parents[2] / "golden" / "report"


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.filterwarnings("ignore:Glyph")
def test_reports_equal_the_golden_files(demo, tmp_path, language, monkeypatch):
    monkeypatch.setattr(fonts, "having", lambda characters: "DejaVu Sans")  # whether a Chinese font is here or not
    out = report.write(demo, tmp_path / "out", language)
    page = re.sub(r"<svg.*?</svg>", "<svg/>", (out / "report.html").read_text("utf-8"), flags=re.DOTALL)
    page = re.sub(r"<style>.*?</style>", "<style/>", page, flags=re.DOTALL)
    _same(f"report.{language}.html", page)
    _same(f"report.{language}.md", (out / "report.md").read_text("utf-8"))


@pytest.mark.parametrize("name", ["vqa.pocket.zh.csv", "captioning.pocket.en.tex", "slices.csv", "comparisons.csv"])
def test_tables_equal_the_golden_files(written, name):
    _same(name, (written / "tables" / name).read_text("utf-8"))


def _same(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("HARNESS_UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8", newline="\n")
    assert path.read_text("utf-8") == text
