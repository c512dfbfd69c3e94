"""Text that a model cuts at its context is counted, whichever way it is asked, and shown beside the score."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import harness
from harness.adapter import Adapter
from harness.config.specs import ModelSpec
from harness.errors import SampleError
from harness.records import Answer, Request

CONTEXT = 150
"""How many characters of a text the toys read."""
COLOURS = ["red", "lime", "blue", "white"]


class Short(Adapter):
    """Reads no more than CONTEXT characters. It does not take the word "bad", nor more than `most` requests."""

    def __init__(self, most: int = 100) -> None:
        super().__init__(ModelSpec())
        self.most = most

    def load(self, device, clock):
        pass

    def prepare(self, requests, route):
        if any("bad" in request.text for request in requests):
            raise SampleError("I do not take that word.")
        return requests

    def text_cut(self, inputs):
        return [len(request.text) > CONTEXT for request in inputs]

    def _room(self, inputs: list[Request]) -> None:
        if len(inputs) > self.most:
            raise MemoryError


class Reader(Short):
    def generate(self, inputs):
        self._room(inputs)
        return [Answer("red") for _ in inputs]


class Encoder(Short):
    def embed(self, inputs):
        self._room(inputs)
        rows = np.random.default_rng(0).normal(size=(len(inputs), 8))
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def evaluate(tmp_path):
    for colour in COLOURS:
        Image.new("RGB", (4, 4), colour).save(tmp_path / f"{colour}.png")
    (tmp_path / "dataset").mkdir()

    def run(models, task: str, rows: list[dict], columns: str, **overrides) -> harness.Run:
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"id": str(i)} | r) + "\n" for i, r in enumerate(rows)))
        (tmp_path / "dataset" / "set.yaml").write_text(
            "# @package datasets.set\ndefaults: [/spec/dataset@_here_, _self_]\nsource: jsonl\n"
            f"path: rows.jsonl\ntasks: [{task}]\ncolumns: {columns}\n"
        )
        settings = {"data_dir": str(tmp_path), "results_dir": str(tmp_path / "results"), "latency": "off"}
        return harness.evaluate(models, task=task, dataset="set", config_dir=tmp_path, **settings | overrides)

    return run


def cut(run: harness.Run) -> set[str]:
    """The ids of the records whose text was cut."""
    files = (run.path / "cells").glob("*/*/records.jsonl")
    records = [json.loads(line) for file in files for line in file.read_text("utf-8").splitlines()]
    return {record["id"] for record in records if record.get("text_cut")}


@pytest.mark.parametrize("most", [100, 1])
def test_a_question_that_is_cut_is_counted_also_where_its_batch_is_halved(evaluate, most):
    questions = ["What?", "What? " * 40, "Is it bad? " * 40, "Which?", "Which? " * 40]
    rows = [{"image": "red.png", "q": question, "a": "red"} for question in questions]
    run = evaluate(Reader(most), "vqa", rows, "{id: id, image: image, question: q, references: a}")
    assert cut(run) == {"1", "4"}  # the bad one has no answer, and so nothing was seen of it
    (cell,) = [cell for cell in run.summary["cells"] if cell["origin"] != "reference"]
    assert (cell["text_cut"], cell["failed"]) == (0.4, 1)
    report = (run.path / "report.md").read_text("utf-8")
    assert "Text was cut: it is longer than the context of" in report
    assert "(40 %)" in report


def test_a_choice_that_is_cut_counts_for_its_samples_alone(evaluate):
    options = [["red", "blue"], ["red", "blue " * 40], ["red", "blue"], ["blue " * 40, "red"]]
    rows = [{"image": "red.png", "q": "Which?", "o": some, "a": "red"} for some in options]
    run = evaluate(Encoder(), "vqa", rows, "{id: id, image: image, question: q, choices: o, references: a}")
    assert cut(run) == {"1", "3"}


def test_a_caption_that_is_cut_is_counted_in_the_direction_that_looks_for_its_picture(evaluate):
    captions = [["short", "long " * 40], ["another"], ["longer " * 40], ["bad"]]
    rows = [{"image": f"{colour}.png", "c": c} for colour, c in zip(COLOURS, captions, strict=True)]
    run = evaluate(Encoder(), "retrieval", rows, "{id: id, image: image, references: c}")
    assert cut(run) == {"t2i:0#1", "t2i:2#0"}
    (cell,) = [cell for cell in run.summary["cells"] if cell["origin"] != "reference"]
    assert cell["text_cut"] == 0.4


def test_where_nothing_is_cut_the_report_says_nothing_of_it(evaluate):
    rows = [{"image": "red.png", "q": "What?", "a": "red"}]
    run = evaluate(Reader(), "vqa", rows, "{id: id, image: image, question: q, references: a}")
    assert cut(run) == set()
    for page in ("report.md", "report.html"):
        assert "text cut" not in Path(run.path / page).read_text("utf-8").lower()
