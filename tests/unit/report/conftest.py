"""A run folder as `harness run` leaves it, small but with everything that is awkward to show.

Six models and two reference rows on three tasks in two languages; failed and skipped cells, Chinese text, a model whose
output is a script tag, metrics without an interval, a retrieval without records. All figures follow from a few
constants.
"""

import json
from pathlib import Path

import pytest

MODELS = {
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
    "en": (
        "What colour is the circle?",
        "How many stars are there?",
        "Where is the 3 | left or right?",
        "Is the *big* one blue?",
    ),
    "zh": ("圆形是什么颜色？", "有几颗星？", "数字3在哪边？", "大的那个是蓝色的吗？"),
}
EVIL = "<script>alert('x')</script> | **bold** =1+1"


def number(value: float, half: float = 0.03, definition: str = "") -> dict:
    row = {"value": round(value, 4), "low": round(max(value - half, 0), 4), "high": round(min(value + half, 1), 4)}
    return {**row, "definition": definition} if definition else row


def cell(model: str, task: str, language: str, quality: float, latency: float, samples: int = 200) -> dict:
    headline = {"vqa": "exact_match", "captioning": "cider", "retrieval": "i2t_recall@1"}[task]
    metrics = {
        headline: number(quality, definition="exact match after NFKC, case and punctuation" if task == "vqa" else "")
    }
    if task == "vqa":
        metrics |= {
            "token_f1": number(quality + 0.02),
            "choice_accuracy": number(quality - 0.01),
            "ece": {"value": 0.041, "low": None, "high": None},
        }
    elif task == "captioning":
        metrics = {
            "cider": {
                "value": round(3.2 * quality, 4),
                "low": round(3.2 * quality - 0.1, 4),
                "high": round(3.2 * quality + 0.1, 4),
            }
        }
        metrics |= {
            "bleu4": number(quality - 0.2),
            "rouge_l": number(quality - 0.05),
            "meteor": {"value": None, "low": None, "high": None},
        }
    else:
        metrics |= {
            "t2i_recall@1": number(quality - 0.04),
            "i2t_recall@5": number(quality + 0.1),
            "i2t_median_rank": {"value": 2.0, "low": 1.0, "high": 3.0},
        }
    slices = {
        "category": {
            kind: {"n": samples // 4, "metrics": {headline: number(min(quality + shift, 1.0), 0.06)}}
            for kind, shift in zip(TYPES[language], (0.1, -0.2, 0.0, 0.05), strict=True)
        }
    }
    return {
        "model": model,
        "origin": MODELS[model][0],
        "task": task,
        "dataset": "pocket",
        "language": language,
        "route": "embed" if task == "retrieval" else "generate",
        "status": "complete",
        "reason": "",
        "samples": samples,
        "failed": 0,
        "coverage": 1.0,
        "clusters": samples // 2,
        "reliable": True,
        "headline": headline,
        "metrics": metrics,
        "slices": slices if task == "vqa" else {},
        "rank": [3, 6],
        "best": False,
        "note": "",
        "latency": {
            "p50_ms": latency,
            "p90_ms": round(latency * 1.3, 2),
            "p95_ms": None,
            "p99_ms": None,
            "samples_per_s": round(900 / latency, 3),
            "tokens_per_s": 210.5 if task != "retrieval" else None,
            "first_token_ms": None,
            "load_s": 0.84,
            "peak_memory_mb": 612.0,
            "batch_size": 32,
        },
    }


def reference(name: str, task: str, language: str, quality: float) -> dict:
    row = cell("fusion-concat", task, language, quality, 1.0)
    empty = {"origin": "reference", "model": name, "route": "", "latency": {}, "rank": None}
    row = {**row, **empty}
    if name == "chance":
        row["metrics"] = {row["headline"]: {"value": quality, "low": None, "high": None}}
        row["slices"] = {}
    return row


def absent(model: str, task: str, language: str, status: str, reason: str) -> dict:
    row = {
        "model": model,
        "origin": MODELS[model][0],
        "task": task,
        "dataset": "pocket",
        "language": language,
        "route": None,
    }
    return {
        **row,
        "status": status,
        "reason": reason,
        "samples": None,
        "failed": None,
        "headline": None,
        "metrics": {},
        "slices": {},
        "latency": {},
    }


def build_cells() -> list[dict]:
    cells = []
    for task in ("vqa", "captioning", "retrieval"):
        for language in ("en", "zh"):
            for model, (_, _, _, _, quality, latency) in MODELS.items():
                if task == "captioning" and model == "siglip2_base":
                    cells.append(
                        absent(
                            model, task, language, "skipped", "no route: captioning needs generate, the model has embed"
                        )
                    )
                elif task == "retrieval" and model in ("qwen3-vl-pocket", "internvl3-1b", "smolvlm-pocket"):
                    cells.append(
                        absent(
                            model, task, language, "skipped", "no route: retrieval needs embed, the model has generate"
                        )
                    )
                elif task == "vqa" and model == "internvl3-1b" and language == "zh":
                    cells.append(
                        absent(
                            model,
                            task,
                            language,
                            "failed",
                            "OSError: weights [red]corrupt[/red] <b>at</b> \x1b[31mbyte 12_000",
                        )
                    )
                else:
                    row = cell(model, task, language, quality - (0.03 if language == "zh" else 0), latency)
                    if model == "smolvlm-pocket":
                        row |= {"failed": 3, "coverage": 0.985}
                    if model in ("fusion-self-attention", "qwen3-vl-pocket"):
                        row |= {"best": True, "rank": [1, 1] if task == "retrieval" else [1, 2]}
                    cells.append(row)
            cells.append(reference("prior", task, language, 0.31))
            if task == "vqa":
                cells.append(reference("chance", task, language, 0.2512))
    return cells


def pairs() -> list[dict]:
    best = "fusion-self-attention"
    rows = []
    for language in ("en", "zh"):
        for other in ("fusion-concat", "qwen3-vl-pocket", "smolvlm-pocket"):
            far = other != "qwen3-vl-pocket"
            d = round(MODELS[best][4] - MODELS[other][4], 3)
            a, b, sign = (other, best, -1) if other == "fusion-concat" else (best, other, 1)
            bounds = sorted((round(sign * (d - 0.04), 3), round(sign * (d + 0.04), 3)))
            rows.append(
                {
                    "task": "vqa",
                    "dataset": "pocket",
                    "language": language,
                    "metric": "exact_match",
                    "a": a,
                    "b": b,
                    "difference": sign * d,
                    "low": bounds[0],
                    "high": bounds[1],
                    "p": 0.0001 if far else 0.21,
                    "p_holm": 0.0003 if far else 0.21,
                    "n": 200,
                }
            )
    return rows


def records(model: str, language: str) -> list[dict]:
    quality = MODELS[model][4]
    rows = []
    for i in range(40):
        kind = i % 4
        right = ((i * 37 + len(model) * 11) % 100) / 100 < quality
        row = {
            "id": f"q{i:03d}",
            "cluster": f"scene{i // 2}",
            "question": QUESTIONS[language][kind],
            "references": [ANSWERS[language][kind]],
            "slices": {"category": TYPES[language][kind]},
            "media": [f"scene{i // 2}.png"],
            "answer": ANSWERS[language][kind] if right else {"en": "blue", "zh": "蓝色"}[language],
            "tokens_out": 1,
        }
        if model == "smolvlm-pocket" and i in (7, 8, 9):
            row |= {"answer": EVIL}
        if model == "smolvlm-pocket" and i == 12:
            row["error"] = "UnidentifiedImageError: scene6.png (test.jsonl, row 13) does not open"
            del row["answer"]
        rows.append(row)
    return rows


def build(folder: Path, run: str = "demo", gpu: str | None = None) -> Path:
    """Write the run into `folder`/`run` and return that."""
    target = folder / run
    target.mkdir(parents=True)
    summary = {
        "run": run,
        "seed": 0,
        "harness": "0.1.0",
        "started": "2026-01-02T03:04:05Z",
        "seconds": 171.4,
        "machine": {
            "cpu": "Example CPU 3000 (2 cores)",
            "gpu": gpu,
            "memory_gb": 15.6,
            "python": "3.11.2",
            "torch": "2.15.0",
            "transformers": "5.23.0",
        },
        "cells": build_cells(),
        "comparisons": pairs(),
        "models": {
            name: {
                "origin": origin,
                "developer": developer,
                "checkpoint": checkpoint,
                "parameters": parameters,
                "license": "apache-2.0",
                "dtype": "float32",
                "pocket": checkpoint.startswith("bundled:"),
                "prompt": "pocket" if checkpoint.startswith("bundled:") else "chat",
            }
            for name, (origin, developer, checkpoint, parameters, _, _) in MODELS.items()
        },
        "datasets": {"pocket": {"license": "CC0-1.0", "n": 200}},
        "prompts": {
            "chat": {
                "vqa": {"en": "{question}\nAnswer with a word.", "zh": "{question}\n请用一个词回答。"},
                "image_labels": {"en": ["a photo of a {label}", "{label}"]},
            }
        },
        "left_out": [
            {
                "model": "qwen2.5-vl-7b",
                "reason": "its weights are not on this machine: harness fetch model=qwen2.5-vl-7b",
            }
        ],
    }
    (target / "summary.json").write_text(json.dumps(summary, ensure_ascii=False, indent=1), "utf-8")
    for model in MODELS:
        for language in ("en", "zh"):
            if (model, language) == ("internvl3-1b", "zh"):
                continue
            cell_folder = target / "cells" / model / f"vqa.pocket.{language}"
            cell_folder.mkdir(parents=True)
            lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in records(model, language)]
            (cell_folder / "records.jsonl").write_text("".join(lines), "utf-8")
    return target


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """The run folder."""
    return build(tmp_path)


@pytest.fixture
def build_run():
    """`build` itself, for runs of other names and machines."""
    return build
