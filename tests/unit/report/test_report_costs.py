"""Models that run elsewhere in a report: tokens and cost, quality against cost, and latencies that nobody ranks with
this machine's."""

import json

import pytest

from harness import report

COSTS = {"qwen3-vl-pocket": 1.5, "internvl3-1b": 0.5, "smolvlm-pocket": 3.0}


@pytest.fixture
def far(demo):
    """The run, three of whose models run elsewhere and had 200 questions for these costs."""
    path = demo / "summary.json"
    data = json.loads(path.read_text("utf-8"))
    for cell in data["cells"]:
        if cell["model"] in COSTS and cell["metrics"]:
            cell |= {"remote": True, "tokens_in": 40_000, "tokens_out": 2_000, "cost": COSTS[cell["model"]]}
            cell["served_by"] = {"m-2026-01": 150, "m-2026-02": 50} if cell["model"] == "smolvlm-pocket" else {"m": 200}
    path.write_text(json.dumps(data), "utf-8")
    return demo


@pytest.mark.parametrize(("language", "words"), [("en", "over the network from Example CPU"), ("zh", "经网络，自")])
def test_tokens_and_cost_stand_in_a_table_by_model_and_by_a_thousand_samples(far, no_charts, language, words):
    report.write(far, language=language)
    text = (far / "report.md").read_text("utf-8")
    lines = [line for line in text.splitlines() if "qwen3-vl-pocket" in line and "40,000" in line]
    assert lines
    assert [part.strip() for part in lines[0].strip("|").split("|")][1:] == [
        "40,000",
        "2,000",
        "210,000",
        "1.50",
        "7.50",
    ]
    assert words in text
    rows = (far / "tables" / "vqa.pocket.en.csv").read_text("utf-8").splitlines()
    assert "all_tokens_in,all_tokens_out,all_reasoning_tokens,cost" in rows[0]
    assert any("40000,2000,,1.5" in row for row in rows)


def test_a_model_that_a_server_gave_two_names_is_marked(far, no_charts):
    report.write(far)
    text = (far / "report.md").read_text("utf-8")
    assert "smolvlm-pocket ‡" in text
    assert "qwen3-vl-pocket ‡" not in text


def test_quality_against_cost_is_drawn_where_models_have_prices_and_latencies_stand_apart(far):
    report.write(far)
    svg = (far / "charts" / "vqa.cost.svg").read_text("utf-8")
    assert all(model in svg for model in COSTS)
    assert "fusion-concat" not in svg
    assert "no model is both cheaper and better" in svg
    assert "cost of 1,000 samples" in svg
    assert not list((far / "charts").glob("retrieval.cost.*"))
    latency = (far / "charts" / "vqa.latency.svg").read_text("utf-8")
    assert "over the network from Example CPU 3000" in latency


def test_a_report_without_models_elsewhere_says_nothing_of_cost(written):
    assert "Tokens and cost" not in (written / "report.md").read_text("utf-8")
    assert not list((written / "charts").glob("*.cost.*"))
