"""In which order samples are asked: decided before any model loads, and the same whenever it is decided again."""

from __future__ import annotations

import random
from dataclasses import replace

from harness.adapters.transformers import TransformersSpec
from harness.config.specs import RunSpec
from harness.data import draw
from harness.data.draw import by_length
from harness.dataset import Dataset
from harness.records import CellGroup, Sample
from harness.run import plan
from harness.run.plan import Plan

GROUP = CellGroup("vqa", "quiz", "en")


def quiz(lengths: list[int]) -> Dataset:
    samples = [Sample(str(i), str(i), "en", question="?" * length) for i, length in enumerate(lengths)]
    return Dataset("quiz", "en", samples)


def asked(dataset: Dataset) -> list[int]:
    return [len(sample.question) for sample in dataset]


def test_the_longest_questions_come_first_and_equal_ones_keep_their_order():
    dataset = by_length(quiz([3, 9, 5, 9, 3]))
    assert [sample.id for sample in dataset] == ["1", "3", "2", "0", "4"]
    assert dataset.source_indices == (1, 3, 2, 0, 4)


def test_questions_are_sorted_among_their_neighbours_alone(monkeypatch):
    monkeypatch.setattr(draw, "WINDOW", 3)
    assert asked(by_length(quiz([1, 2, 3, 7, 8, 9, 5]))) == [3, 2, 1, 9, 8, 7, 5]


def test_questions_of_one_length_are_asked_as_they_stand():
    dataset = quiz([4, 4, 4])
    assert by_length(dataset) is dataset
    assert dataset.source_indices is None


def test_a_draw_in_order_of_length_still_names_places_in_the_whole_data_set():
    drawn = quiz(list(range(10))).take([1, 4, 8])
    dataset = by_length(drawn)
    assert dataset.source_indices == (8, 4, 1)
    assert asked(dataset) == [8, 4, 1]


def test_what_is_embedded_keeps_the_order_of_the_data_set_and_the_order_is_made_once():
    lengths = list(range(100))
    random.Random(0).shuffle(lengths)
    made = Plan(RunSpec(), "cpu", ["cpu"], datasets={GROUP: quiz(lengths)})
    assert asked(made.asked(GROUP, "embed")) == lengths
    assert asked(made.asked(GROUP, "generate")) == sorted(lengths, reverse=True)
    assert made.asked(GROUP, "generate") is made.asked(GROUP, "rank")


def test_the_card_of_a_model_says_what_it_runs_in():
    spec = TransformersSpec("x", "domestic", checkpoint="bundled:pocket-qwen3-vl")
    assert plan.model_facts(replace(spec, dtype="float32"), "cpu")["dtype"] == "float32"
    assert plan.model_facts(replace(spec, dtype="bfloat16", compile=True), "cpu")["dtype"] == "bfloat16, compiled"
