"""What a table means: which way a metric goes, who may have a rank, and why samples failed."""

from __future__ import annotations

import io

import pytest
from made_runs import answered, write_run
from rich.console import Console

from harness import report
from harness.analysis.summary import build
from harness.errors import alike, commonest
from harness.store.files import write_json

TRUTH = ["abcdefghij"] * 60


def wrong(letters: int) -> str:
    """An answer of which so many of the ten letters are wrong."""
    return "x" * letters + TRUTH[0][letters:]


@pytest.fixture
def error_rates(tmp_path, error_rate_task):
    """Three models that get 1, 4 and 9 of ten letters wrong, each now and then one fewer; the prior gets 8 wrong."""
    models = {"poor": 4, "bad": 9, "good": 1}
    run = {name: answered([wrong(n - (i % 5 == 0)) for i in range(60)], TRUTH) for name, n in models.items()}
    return write_run(tmp_path, "a", run, error_rate_task, prior=answered([wrong(8)] * 60, TRUTH))


def cells_of(data):
    return {cell["model"]: cell for cell in data["cells"]}


def test_the_smallest_error_rate_is_the_best_and_one_above_the_priors_has_no_rank(error_rates):
    cells = cells_of(build(error_rates))
    assert cells["good"]["metrics"]["cer"]["value"] == pytest.approx(0.08)
    assert cells["good"]["metrics"]["cer"]["larger_is_better"] is False
    assert (cells["good"]["best"], cells["good"]["rank"]) == (True, [1, 1])
    assert (cells["poor"]["best"], cells["poor"]["rank"]) == (False, [2, 2])
    assert (cells["bad"]["best"], cells["bad"]["rank"], cells["bad"]["ranked"]) == (False, None, False)
    assert cells["bad"]["unranked_reason"] == "not_above_blind"


def test_every_form_of_the_report_says_that_the_smaller_error_rate_is_the_better(error_rates, tmp_path):
    data = build(error_rates)
    out = report.write(error_rates.path, tmp_path / "out", summaries=[data])
    rows = [line for line in (out / "report.md").read_text("utf-8").splitlines() if line.startswith("| ")]
    main = rows[: 1 + next(i for i, row in enumerate(rows) if "prior" in row)]
    assert "cer ↓ [95 %]" in main[0]
    assert [row.split("|")[1].strip() for row in main[1:]] == ["**★ good**", "poor", "bad", "*prior*"]
    for kind in ("quality", "latency"):
        assert "cer (smaller is better)" in (out / "charts" / f"vqa.{kind}.svg").read_text("utf-8")
    page = (out / "report.html").read_text("utf-8")
    assert '<tr class="best"><th scope="row">★ good' in page.replace("\n", "")
    assert '<tr class="unranked"><th scope="row">bad' in page.replace("\n", "")
    tex = (out / "tables" / "vqa.quiz.en.tex").read_text("utf-8")
    assert r"\textbf{$\star$ good}" in tex
    assert r"cer $\downarrow$" in tex


def test_a_model_that_answered_less_than_half_has_no_rank_but_is_tested_and_its_latency_stays(tmp_path):
    truth = ["yes"] * 40
    run = write_run(
        tmp_path,
        "a",
        {
            "whole": answered(["yes"] * 30 + ["no"] * 10, truth),
            "half": answered(["yes"] * 20 + [None] * 20, truth),
            "less": answered(["yes"] * 19 + [None] * 21, truth),
        },
    )
    data = build(run)
    cells = cells_of(data)
    assert {name: cell["ranked"] for name, cell in cells.items()} == {"whole": True, "half": True, "less": False}
    assert cells["less"]["unranked_reason"] == "few_answers"
    assert cells["less"]["latency"]["p50_ms"] == 10.0
    assert {(row["a"], row["b"]) for row in data["comparisons"]} == {
        ("whole", "half"),
        ("whole", "less"),
        ("half", "less"),
    }
    text = printed(data)
    assert "less: 21 of 40 failed: OSError: row 19 of the weights is torn" in text
    assert "No rank, ★ or win rate: less (answered less than half)." in text


def test_where_nobody_beats_the_prior_nobody_is_marked_and_a_sentence_says_why(tmp_path):
    truth = ["yes", "no"] * 20
    run = write_run(
        tmp_path,
        "a",
        {"one": answered(["yes"] * 40, truth), "two": answered(["no"] * 40, truth)},
        prior=answered(["no"] * 40, truth),
    )
    data = build(run)
    assert not any(cell.get("best") for cell in data["cells"])
    assert len(data["comparisons"]) == 1
    for language, words in (("en", "No model of this table has a rank or ★"), ("zh", "本表没有模型获得名次或 ★")):
        text = printed(data, language)
        assert words in text
        assert "★ one" not in text
        assert "★ two" not in text


def test_without_an_interval_nothing_has_been_shown(tmp_path):
    truth = ["yes", "no"] * 20
    right = answered(truth, truth, cluster="one picture")
    data = build(write_run(tmp_path, "a", {"m": right}, prior=answered(["no"] * 40, truth, cluster="one picture")))
    assert cells_of(data)["m"]["unranked_reason"] == "not_above_blind"


def test_a_win_rate_is_over_tables_in_which_the_models_have_ranks(tmp_path):
    truth = ["yes"] * 40
    models = {name: answered(["yes"] * n + ["no"] * (40 - n), truth) for name, n in (("a", 38), ("b", 30), ("c", 20))}
    run = write_run(tmp_path, "a", models)
    run.path.joinpath("cells", "c", "vqa.quiz.en", "records.jsonl").unlink()
    store = run.cell("c/vqa.quiz.en")
    store.write_records(answered(["yes"] * 10 + [None] * 30, truth))
    manifest = run.manifest()
    for model in models:  # a second table: the same cells under another data set's name
        twin = run.cell(f"{model}/vqa.twin.en")
        twin.begin({**run.cell(f"{model}/vqa.quiz.en").info(), "dataset": "twin"})
        twin.write_records(models[model])
        twin.finish({})
        manifest["cells"].append(f"{model}/vqa.twin.en")
    write_json(run.path / "run.json", manifest)
    assert [row["model"] for row in build(run)["standings"]] == ["a", "b"]


def test_errors_that_differ_in_numbers_ids_and_paths_are_of_one_kind():
    assert alike("KeyError: 'img_017'") == alike("KeyError: 'img_4'")
    assert alike("OSError: C:\\data\\a.png is 0x7f3a") == alike("OSError: C:\\data\\b.png is 0x11")
    assert alike("样本 12 失败") == alike("样本 7 失败")
    assert alike("KeyError: 'image'") != alike("KeyError: 'text'")
    assert commonest(["busy", "no row 3", "no row 4"]) == "no row 3"
    assert commonest([]) is None


def printed(data, language="en"):
    out = io.StringIO()
    report.terminal(data, Console(file=out, width=200), language)
    return out.getvalue()
