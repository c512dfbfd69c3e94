"""The verdict says what the tests of the tables say, in both languages, and no more."""

import pytest

from harness.report import summary, verdict
from harness.report.strings import Strings


def cell(model, origin, value, rank=(1, 1), best=False, reason=None, **more):
    """A complete cell of a table of visual question answering."""
    metrics = {"exact_match": {"value": value, "low": value - 0.03, "high": value + 0.03}}
    row = {"model": model, "origin": origin, "task": "vqa", "dataset": "pocket", "language": "en", "ablate": ""}
    row |= {"status": "complete", "headline": "exact_match", "metrics": metrics, "samples": 200, "failed": 0}
    return row | {"rank": list(rank), "best": best, "unranked_reason": reason} | more


def lost(model, origin, status):
    row = {"model": model, "origin": origin, "task": "vqa", "dataset": "pocket", "language": "en"}
    return row | {"status": status, "metrics": {}}


def pair(a, b, difference, p):
    row = {"task": "vqa", "dataset": "pocket", "language": "en", "ablate": "", "a": a, "b": b, "detectable": 0.057}
    return row | {"difference": difference, "low": difference - 0.04, "high": difference + 0.04, "p_adjusted": p}


def told(cells, comparisons=(), language="en", **more):
    data = {"run": "r", "cells": cells, "comparisons": list(comparisons), **more}
    return verdict.sentences(summary.parse(data), Strings(language))


OURS, THEIRS, OTHERS = ("ours", "in-house"), ("qwen", "domestic"), ("llava", "international")

ONE_BEST = [
    cell(*OURS, 0.9, best=True),
    cell(*THEIRS, 0.8, rank=(2, 3)),
    cell(*OTHERS, 0.78, rank=(2, 3)),
]
ALL_TIED = [cell(*OURS, 0.8, best=True), cell(*THEIRS, 0.82, best=True), cell(*OTHERS, 0.79, best=True)]
ALL_FAILED = [lost(*OURS, "failed"), lost(*THEIRS, "interrupted")]
BLIND = [
    cell(*OURS, 0.3, rank=(), reason="not_above_blind"),
    cell(*THEIRS, 0.28, rank=(), reason="not_above_blind"),
    cell("prior", "reference", 0.31),
]

GOLDEN = {
    "one best, with its gaps": (
        ONE_BEST,
        [pair("ours", "qwen", 0.1, 0.001), pair("llava", "ours", -0.12, 0.001)],
        [
            "Visual question answering: ours is best (exact_match 0.900).",
            "The best in-house model against the best domestic one: ahead in 1 table (Visual question answering: "
            "ours − qwen +0.100 [+0.060, +0.140]).",
            "The best in-house model against the best international one: ahead in 1 table (Visual question answering: "
            "ours − llava +0.120 [+0.080, +0.160]).",
        ],
        [
            "视觉问答：ours 最佳（exact_match 0.900）。",
            "自研最佳模型与国产最佳模型相比：1 个表领先（视觉问答：ours − qwen +0.100 [+0.060, +0.140]）。",
            "自研最佳模型与国际最佳模型相比：1 个表领先（视觉问答：ours − llava +0.120 [+0.080, +0.160]）。",
        ],
    ),
    "all tied": (
        ALL_TIED,
        [pair("ours", "qwen", -0.02, 0.6)],
        [
            "Visual question answering: no model is told apart from the best score, that of qwen (exact_match 0.820): "
            "ours, llava are tied with it.",
            "The best in-house model against the best domestic one: not told apart in 1 table (Visual question "
            "answering: ours − qwen -0.020 [-0.060, +0.020], detectable from 0.057 on).",
        ],
        [
            "视觉问答：没有模型能与最高分 qwen（exact_match 0.820）区分开：ours、llava 与之并列。",
            "自研最佳模型与国产最佳模型相比：1 个表无法区分（视觉问答：ours − qwen -0.020 [-0.060, +0.020]，"
            "可检出差值 0.057）。",
        ],
    ),
    "all failed": (
        ALL_FAILED,
        [],
        [
            "Visual question answering: no model has a score.",
            "Failed: ours (Visual question answering), qwen (Visual question answering).",
        ],
        ["视觉问答：没有模型得到评分。", "失败：ours（视觉问答）、qwen（视觉问答）。"],
    ),
    "one model": (
        [cell(*OURS, 0.8, best=True), cell("prior", "reference", 0.31)],
        [],
        ["Visual question answering: ours is the only model (exact_match 0.800 [0.770, 0.830])."],
        ["视觉问答：只有 ours 一个模型（exact_match 0.800 [0.770, 0.830]）。"],
    ),
    "below chance": (
        BLIND,
        [],
        [
            "Visual question answering: no model can be called best: not shown to be better than prior and chance.",
            "Not shown to be better than prior and chance, and so without a rank: ours (Visual question answering), "
            "qwen (Visual question answering).",
        ],
        [
            "视觉问答：没有模型可称最佳：未显示优于 prior 与 chance。",
            "未显示优于 prior 与 chance，因而没有名次：ours（视觉问答）、qwen（视觉问答）。",
        ],
    ),
}


@pytest.mark.parametrize("case", GOLDEN)
def test_the_verdict_says_how_the_tables_ended(case):
    cells, comparisons, english, chinese = GOLDEN[case]
    assert told(cells, comparisons) == english
    assert told(cells, comparisons, "zh") == chinese


def test_the_sign_of_a_gap_follows_the_metric_s_direction():
    cells = [cell(*OURS, 0.2, best=True), cell(*THEIRS, 0.3, rank=(2, 2))]
    for row in cells:
        row["metrics"]["exact_match"]["larger_is_better"] = False
    assert "ahead in 1 table" in told(cells, [pair("ours", "qwen", -0.1, 0.001)])[1]


def test_a_model_that_does_best_without_the_image_is_not_called_best():
    blinded = [row | {"ablate": "image"} for row in ONE_BEST]
    assert told(blinded) == []


def test_the_cost_is_that_of_the_fastest_model_that_is_not_told_apart_from_the_best():
    ours, theirs, others = (dict(row) for row in ALL_TIED)
    ours["latency"] = {"p50_ms": 20.0, "peak_memory_mb": 600.0}
    theirs |= {"latency": {"p50_ms": 30.0}}
    others |= {"latency": {"p50_ms": 5.0}, "best": False}
    costs = "What the fastest of the best takes, one sample at a time: Visual question answering: ours 20.0 ms (p50), "
    assert told([ours, theirs, others])[-1] == costs + "600 MB at the peak."
    assert told([ours | {"cost": 0.4}, theirs, others])[-1] == costs + "600 MB at the peak, 2.00 for 1,000 samples."


def test_many_gaps_are_counted_and_the_first_ones_told():
    languages = [f"l{i}" for i in range(6)]
    cells = [row | {"language": language} for language in languages for row in ONE_BEST[:2]]
    pairs = [pair("ours", "qwen", 0.1, 0.001) | {"language": language} for language in languages]
    gaps = told(cells, pairs)[1]
    assert "ahead in 6 tables" in gaps
    assert gaps.count("ours − qwen") == verdict.NAMED
    assert gaps.endswith("3 more below).")


def test_what_was_skipped_or_left_out_is_counted_by_model():
    cells = [*ONE_BEST, lost("clip", "international", "skipped"), cell("smol", "international", 0.7, failed=3)]
    text = told(cells, left_out=[{"model": "big"}, {"model": "bigger"}])[-1]
    assert "smol (Visual question answering) 3 of 200." in text
    assert "1 model was not asked" in text
    assert "2 models were left out" in text


def test_the_legend_explains_the_marks_that_there_are():
    doubtful = [ONE_BEST[0], ONE_BEST[1] | {"reliable": False}]
    data = summary.parse({"run": "r", "cells": doubtful, "comparisons": []})
    assert verdict.legend(data, Strings("en")) == "★ best of its table; † interval not to be relied on"
    assert "≈" in verdict.legend(summary.parse({"run": "r", "cells": ALL_TIED}), Strings("en"))
