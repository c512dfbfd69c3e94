"""A full latency pass has a section of its own in both languages, and a line for each way of timing in a CSV file."""

import csv
import json

import pytest

from harness import report

TIMES = {"p90_ms": 9.9, "p95_ms": None, "p99_ms": None, "phases_ms": {"preprocess": 1.5, "decode": 4.25}}
FULL = {
    "mode": "full", "n": 40, "p50_ms": 7.5, **TIMES, "intervals": {"p50_ms": [7.1, 7.9], "p90_ms": [8.8, None]},
    "first_token_ms": 3.25, "per_token_ms": 1.75, "tokens_per_s": 321.0, "tokens_out": 2.5,
    "import_s": 4.5, "load_s": 0.25, "first_answer_ms": 77.0, "warmups": 19, "steady": True, "gpu_shared": False,
    "memory_mb": {"allocated": 1234.0, "reserved": 2345.0, "process": 3456.0}, "energy_j": 0.65,
    "fixed": {"tokens": 32, "n": 40, "p50_ms": 65.5, **TIMES, "intervals": {}, "tokens_per_s": 456.0},
    "offline": [
        {"batch_size": 1, "n": 10, "p50_ms": 7.6, **TIMES, "intervals": {}, "samples_per_s": 131.0},
        {"batch_size": 2, "n": 10, "p50_ms": 11.5, **TIMES, "intervals": {}, "samples_per_s": 173.0},
    ],
    "offline_end": "memory",
}  # fmt: skip


@pytest.fixture
def timed(demo):
    path = demo / "summary.json"
    data = json.loads(path.read_text("utf-8"))
    for cell in data["cells"]:
        if (cell["model"], cell["task"], cell["language"]) == ("fusion-concat", "vqa", "en"):
            cell["latency"] |= FULL
    path.write_text(json.dumps(data), "utf-8")
    return demo


@pytest.mark.parametrize(
    ("language", "title", "end"), [("en", "Latency in full", "memory"), ("zh", "完整的延迟测量", "内存不足")]
)
def test_every_figure_of_a_full_pass_is_in_the_report(timed, no_charts, language, title, end):
    out = report.write(timed, language=language)
    text = (out / "report.md").read_text("utf-8")
    assert text.count(title) == 1
    section = text.split(title)[1].split("\n#### ")[0].replace("\\", "")
    for figure in ("7.50 [7.10, 7.90]", "9.90 [8.80, —]", "3.25", "1.75", "321", "2.50", "4.50", "0.25", "77.0", "19",
                   "1,234", "2,345", "3,456", "0.65", "65.5", "456", "131", "173", end):  # fmt: skip
        assert figure in section, figure
    assert title in (out / "report.html").read_text("utf-8")


def test_without_a_full_pass_there_is_no_such_section(demo, no_charts):
    assert "Latency in full" not in (report.write(demo) / "report.md").read_text("utf-8")


def test_the_csv_has_a_line_for_each_way_of_timing(timed, no_charts):
    rows = list(csv.DictReader((report.write(timed) / "tables" / "latency.csv").open(encoding="utf-8")))
    own = [r for r in rows if (r["model"], r["task"], r["language"]) == ("fusion-concat", "vqa", "en")]
    assert [(r["way"], r["batch_size"], r["p50_ms"]) for r in own] == [
        ("single_stream", "1", "7.5"), ("fixed_length", "1", "65.5"), ("offline", "1", "7.6"), ("offline", "2", "11.5")
    ]  # fmt: skip
    assert (own[0]["p90_ms_low"], own[0]["p90_ms_high"], own[0]["decode_ms"]) == ("8.8", "", "4.25")
    assert own[3]["samples_per_s"] == "173.0"
    quick = [r for r in rows if (r["model"], r["task"], r["language"]) == ("smolvlm-pocket", "vqa", "en")]
    assert [(r["way"], r["p50_ms"]) for r in quick] == [("single_stream", "28.4")]


def test_a_pass_that_was_cut_short_still_shows_what_it_found(timed, no_charts):
    path = timed / "summary.json"
    data = json.loads(path.read_text("utf-8"))
    for cell in data["cells"]:
        if (cell.get("latency") or {}).get("mode") == "full":
            cell["latency"] = {"mode": "full", "import_s": 4.5, "first_answer_ms": 77.0, "p50_ms": None}
    path.write_text(json.dumps(data), "utf-8")
    section = (report.write(timed) / "report.md").read_text("utf-8").split("Latency in full")[1].split("\n#### ")[0]
    assert "77.0" in section
    assert "In batches" not in section
