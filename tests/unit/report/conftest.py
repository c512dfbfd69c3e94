"""A run folder as `harness run` leaves it, small but with everything that is awkward to show.

Six models and two reference rows on three tasks in two languages; failed and skipped cells, Chinese text, a model whose
output is a script tag, metrics without an interval, doubtful ones, a retrieval without records. All figures follow from
a few constants.
"""

# ruff: noqa: C408 - the keyword form keeps rows of many plain keys readable

import json
from pathlib import Path

import pytest

from harness import report
from harness.report import charts

MODELS = {  # origin, developer, checkpoint, million parameters, quality, milliseconds
    "fusion-self-attention": ("in-house", "ours", "bundled:fusion-self-attention", 2.1, 0.86, 6.2),
    "fusion-concat": ("in-house", "ours", "bundled:fusion-concat", 2.0, 0.70, 5.9),
    "qwen3-vl-pocket": ("domestic", "Alibaba", "bundled:qwen3-vl", 1.9, 0.84, 31.0),
    "internvl3-1b": ("domestic", "Shanghai AI Lab", "OpenGVLab/InternVL3-1B-hf", 938.0, 0.61, 412.5),
    "smolvlm-pocket": ("international", "Hugging Face", "bundled:smolvlm", 1.7, 0.66, 28.4),
    "siglip2_base": ("international", "Google", "google/siglip2-base-patch16-224", 375.2, 0.58, 29.5),
}
TYPES = {"en": ("colour", "count", "position", "yes/no"), "zh": ("颜色", "数量", "位置", "是非")}
ANSWERS = {"en": ("red", "2", "left", "yes"), "zh": ("红色", "2", "左边", "是")}
QUESTIONS = {
    "en": ("What colour is it?", "How many stars are there?", "Is the 3 | left or right?", "Is the *big* one blue?"),
    "zh": ("圆形是什么颜色？", "有几颗星？", "数字3在哪边？", "大的那个是蓝色的吗？"),
}
EVIL = "<script>alert('x')</script> | **bold** =1+1"
BROKEN = "OSError: weights [red]corrupt[/red] <b>at</b> \x1b[31mbyte 12_000"
HEADLINES = {"vqa": "exact_match", "captioning": "cider", "retrieval": "i2t_recall@1"}
TIMES = ("p50_ms", "p90_ms", "p95_ms", "p99_ms", "samples_per_s", "tokens_per_s", "first_token_ms", "load_s")


def number(value, half=0.03):
    if half is None:
        return {"value": value, "low": None, "high": None}
    return {
        "value": round(value, 4),
        "low": round(max(value - half, 0), 4),
        "high": round(min(value + half, 9.0 if value > 1 else 1.0), 4),
    }


def metrics_of(task, quality):
    if task == "vqa":
        rest = {
            "token_f1": number(quality + 0.02),
            "choice_accuracy": number(quality - 0.01),
            "ece": number(0.04, None) | {"larger_is_better": False},
        }
        return {"exact_match": number(quality) | {"definition": "equal in normal form"}, **rest}
    if task == "captioning":
        rest = {"bleu4": number(quality - 0.2), "rouge_l": number(quality - 0.05), "meteor": number(None, None)}
        return {"cider": number(3.2 * quality, 0.1), **rest}
    rest = {"t2i_recall@1": number(quality - 0.04), "i2t_recall@5": number(quality + 0.1)}
    return {"i2t_recall@1": number(quality), **rest, "i2t_median_rank": number(2.0, 1.0) | {"larger_is_better": False}}


def blank(model, origin, task, language, status="complete", reason=None):
    row = dict(model=model, origin=origin, task=task, dataset="pocket", language=language, ablate="", route=None)
    row |= dict(status=status, reason=reason, samples=200, failed=None, headline=None, metrics={}, slices={})
    return row | dict(latency=dict.fromkeys((*TIMES, "peak_memory_mb", "batch_size")))


def complete(model, origin, task, language, quality):
    metrics, headline = metrics_of(task, quality), HEADLINES[task]
    row = blank(model, origin, task, language) | dict(headline=headline, metrics=metrics, failed=0, coverage=1.0)
    row |= dict(clusters=100, reliable=True)
    if task == "vqa":
        shifts = zip(TYPES[language], (0.1, -0.2, 0.0, 0.05), strict=True)
        parts = {kind: {"n": 50, "metrics": {headline: number(quality + shift, 0.06)}} for kind, shift in shifts}
        row["slices"] = {"category": parts}
    return row


def model_cell(model, task, language):
    origin, _, _, _, quality, ms = MODELS[model]
    if task == "captioning" and model == "siglip2_base":
        return blank(model, origin, task, language, "skipped", "no route: captioning needs generate, it has embed")
    if task == "retrieval" and model in ("qwen3-vl-pocket", "internvl3-1b", "smolvlm-pocket"):
        return blank(model, origin, task, language, "skipped", "no route: retrieval needs embed, it has generate")
    if (task, model, language) == ("vqa", "internvl3-1b", "zh"):
        return blank(model, origin, task, language, "failed", BROKEN)
    row = complete(model, origin, task, language, quality - (0.03 if language == "zh" else 0))
    row |= dict(route="embed" if task == "retrieval" else "generate", rank=[3, 6], best=False, note="")
    row["latency"] |= dict(p50_ms=ms, p90_ms=round(1.3 * ms, 2), samples_per_s=round(900 / ms, 3), load_s=0.84, n=36)
    row["latency"] |= dict(peak_memory_mb=612.0, batch_size=32, phases_ms={"preprocess": 1.2, "device": ms - 1.2})
    if model == "smolvlm-pocket":
        row["failed_reason"] = "UnidentifiedImageError: scene6.png (test.jsonl, row 13) does not open"
        row |= dict(failed=3, coverage=0.985, of_answered=quality + 0.01, note="batch halved to 16: out of memory")
    if model in ("fusion-self-attention", "qwen3-vl-pocket"):
        row |= dict(best=True, rank=[1, 1] if task == "retrieval" else [1, 2])
    if task == "retrieval" and model == "siglip2_base":
        row |= dict(reliable=False, doubt="only 12 clusters")
    return row


def cells():
    for task in ("vqa", "captioning", "retrieval"):
        for language in ("en", "zh"):
            yield from (model_cell(model, task, language) for model in MODELS)
            yield complete("prior", "reference", task, language, 0.31)
            if task == "vqa":
                chance = complete("chance", "reference", task, language, 0.2512)
                yield chance | dict(metrics={"exact_match": number(0.2512, None)}, slices={})


def pairs():
    best = "fusion-self-attention"
    for language in ("en", "zh"):
        for other, p in (("fusion-concat", 0.0003), ("qwen3-vl-pocket", 0.21), ("smolvlm-pocket", 0.0003)):
            sign = -1 if other == "fusion-concat" else 1
            a, b = (other, best) if sign < 0 else (best, other)
            gap = round(MODELS[best][4] - MODELS[other][4], 3)
            low, high = sorted((round(sign * (gap - 0.04), 3), round(sign * (gap + 0.04), 3)))
            row = dict(task="vqa", dataset="pocket", language=language, ablate="", metric="exact_match", a=a, b=b)
            yield row | dict(
                difference=sign * gap,
                low=low,
                high=high,
                p=p / 3,
                p_adjusted=p,
                correction="holm",
                detectable=0.057,
                n=200,
            )


def standing(model, rate, place):
    row = dict(model=model, win_rate=rate, win_rate_low=rate - 0.1, win_rate_high=rate + 0.1)
    return row | dict(borda=place, borda_low=place - 0.2, borda_high=place + 0.3, tables=6)


def records(model, language):
    for i in range(40):
        kind = i % 4
        right = ((i * 37 + len(model) * 11) % 100) / 100 < MODELS[model][4]
        wrong = {"en": "blue", "zh": "蓝色"}[language]
        row = dict(id=f"q{i:03d}", cluster=f"scene{i // 2}", question=QUESTIONS[language][kind])
        row |= dict(references=[ANSWERS[language][kind]], slices={"category": TYPES[language][kind]})
        row |= dict(media=[f"scene{i // 2}.png"], answer=ANSWERS[language][kind] if right else wrong, tokens_out=1)
        if model == "smolvlm-pocket" and not right:
            row |= dict(answer=EVIL)
        if model == "smolvlm-pocket" and i == 12:
            row["error"] = "UnidentifiedImageError: scene6.png (test.jsonl, row 13) does not open"
            del row["answer"]
        yield row


def card(model):
    origin, developer, checkpoint, parameters, _, _ = MODELS[model]
    pocket = checkpoint.startswith("bundled:")
    row = dict(origin=origin, developer=developer, checkpoint=checkpoint, parameters=parameters, license="apache-2.0")
    return row | dict(dtype="float32", pocket=pocket, prompt="pocket" if pocket else "chat")


def build(folder: Path, run="demo", gpu=None) -> Path:
    """Write the run into `folder`/`run` and return that."""
    target = folder / run
    target.mkdir(parents=True)
    machine = dict(cpu="Example CPU 3000", cores=2, gpu=gpu, memory_gb=15.6, python="3.11.2", torch="2.15.0")
    summary = dict(run=run, seed=0, harness="0.1.0", started="2026-01-02T03:04:05Z", seconds=171.4, machine=machine)
    summary |= dict(cells=list(cells()), comparisons=list(pairs()), models={model: card(model) for model in MODELS})
    summary["standings"] = [standing("fusion-self-attention", 0.9, 1.25), standing("fusion-concat", 0.4, 2.5)]
    summary["datasets"] = {"pocket": {"license": "CC0-1.0", "split": "test", "homepage": "", "source": "pocket"}}
    summary["prompts"] = {
        "chat": {
            "vqa": {"en": "{question}\nAnswer with a word.", "zh": "{question}\n请用一个词回答。"},
            "image_labels": {"en": ["a photo of a {label}", "{label}"]},
        }
    }
    summary["left_out"] = [
        {"model": "qwen2.5-vl-7b", "reason": "its weights are not here", "fetch": "harness fetch model=x"}
    ]
    (target / "summary.json").write_text(json.dumps(summary, ensure_ascii=False, indent=1), "utf-8")
    for model in MODELS:
        for language in ("en", "zh"):
            if (model, language) != ("internvl3-1b", "zh"):
                place = target / "cells" / model / f"vqa.pocket.{language}"
                place.mkdir(parents=True)
                lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in records(model, language))
                (place / "records.jsonl").write_text("".join(lines), "utf-8")
    return target


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """The run folder."""
    return build(tmp_path)


@pytest.fixture(scope="session")
def written(tmp_path_factory) -> Path:
    """The run folder with its report in English, shared: to look at, not to change."""
    folder = build(tmp_path_factory.mktemp("written"))
    report.write(folder)
    return folder


@pytest.fixture
def no_charts(monkeypatch) -> None:
    """Leaves the charts out, which take most of a report's time."""
    monkeypatch.setattr(charts, "draw", lambda *_: ({}, {}))


@pytest.fixture
def build_run():
    """`build` itself, for runs of other names and machines."""
    return build


@pytest.fixture
def evil() -> str:
    """What one model answers, to try every output's escaping."""
    return EVIL
