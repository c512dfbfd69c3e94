"""Choices that are embedded: each sample's own texts decide, and what samples share is embedded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from harness.config.specs import PromptSpec, TaskSpec
from harness.dataset import Dataset
from harness.records import Answer, Record, Request, Sample
from harness.run import choices
from harness.run.choices import ChoiceVectors
from harness.task import Scoring
from harness.tasks.classification import Classification
from harness.tasks.vqa import Vqa

WORDING = {"en": "{question}"}
PROMPT = PromptSpec(
    vqa=WORDING,
    vqa_closed=WORDING,
    vqa_choices=WORDING,
    captioning=WORDING,
    classification=WORDING,
    image_labels={"en": ["a {label}", "one {label}"]},
    audio_labels={"en": ["{label}"]},
    answer={"en": "{question} {choice}"},
    choice={"en": "{choice}"},
)
VQA = Vqa(TaskSpec("harness.tasks.vqa.Vqa"))


def samples(*questions: str, options: Sequence[tuple[str, ...]] = ()) -> list[Sample]:
    own = options or [()] * len(questions)
    return [
        Sample(str(i), str(i), "en", question=q, choices=c) for i, (q, c) in enumerate(zip(questions, own, strict=True))
    ]


def vector(text: str) -> np.ndarray:
    """A direction of its own for each text."""
    found = np.random.default_rng(list(text.encode())).normal(size=16)
    return (found / np.linalg.norm(found)).astype(np.float32)


class Asked:
    """A model that embeds texts, and notes which ones."""

    def __init__(self, task, asked: Sequence[Sample], labels: tuple[str, ...] = (), cut: str = "") -> None:
        self.texts: list[str] = []
        self.vectors = ChoiceVectors(
            task, Dataset("set", "en", asked, labels), PROMPT, "en",
            ask=self.embed, was_cut=lambda request: bool(cut) and cut in request.text, batch_size=3, scale=10.0,
        )  # fmt: skip

    def embed(self, requests: list[Request]) -> list[np.ndarray | Exception]:
        assert len(requests) <= 3
        self.texts += [request.text for request in requests]
        return [ValueError("no") if "broken" in request.text else vector(request.text) for request in requests]


def test_every_question_is_scored_with_the_texts_of_its_own_choices():
    # The first, the middle and the last one are alike, and say nothing of the others.
    asked = samples("Red?", "Blue?", "Red?", "Green?", "Red?")
    query = vector("a picture")
    found, _ = Asked(VQA, asked, ("yes", "no")).vectors.scores(asked, [query] * 5)
    expected = [[10 * vector(f"{s.question} {choice}") @ query for choice in ("yes", "no")] for s in asked]
    assert np.array(found) == pytest.approx(np.array(expected), abs=1e-5)


def test_a_text_is_embedded_once_for_the_cell():
    asked = samples("", "", "", options=[("cat", "dog"), ("dog", "cow"), ("cow", "cat", "dog")])
    model = Asked(VQA, asked)
    for sample in asked:  # batches of one
        model.vectors.scores([sample], [vector("x")])
    assert model.texts == ["cat", "dog", "cow"]


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(choices, "ROOM", 3 * 16 * 4)  # three vectors
    asked = samples(*[""] * 4, options=[("a", "b"), ("c", "d"), ("e", "f"), ("a", "b")])
    model = Asked(VQA, asked)
    found = [model.vectors.scores([sample], [vector("x")])[0][0] for sample in asked]
    assert model.texts == ["a", "b", "c", "d", "e", "f", "a", "b"]
    assert (found[0] == found[3]).all()


def test_a_text_that_cannot_be_embedded_costs_the_samples_that_have_it_and_is_tried_again():
    asked = samples(*[""] * 3, options=[("a", "broken"), ("a", "b"), ("c", "broken")])
    model = Asked(VQA, asked)
    found, _ = model.vectors.scores(asked, [vector("x")] * 3)
    assert [type(one) for one in found] == [ValueError, np.ndarray, ValueError]
    model.vectors.scores(asked[:1], [vector("x")])
    assert model.texts.count("broken") == 2
    assert model.texts.count("a") == 1


def test_a_timing_embeds_what_a_new_question_would_bring_and_no_more():
    asked = samples("Red?", "Blue?", "Red?")
    model = Asked(VQA, asked, ("yes", "no"))
    model.vectors.scores(asked, [vector("x")] * 3)
    model.texts.clear()
    for sample in asked:
        model.vectors.scores([sample], [vector("x")], timed=True)
    assert model.texts == ["Blue? yes", "Blue? no"]  # that of the other two is known of another sample


def test_labels_that_all_samples_share_are_worded_once_and_averaged():
    task = Classification(TaskSpec("harness.tasks.classification.Classification"))
    asked = samples("", "")
    model = Asked(task, asked, ("cat", "dog"))
    query = vector("x")
    found, _ = model.vectors.scores(asked, [query, query])
    assert model.texts == [f"{x}" for x in ("cat", "dog")]  # samples without media were heard
    assert task.candidates(asked[0], model.vectors.dataset, PROMPT) is task.candidates(
        asked[1], model.vectors.dataset, PROMPT
    )
    assert found[0] == pytest.approx([10 * vector(x) @ query for x in ("cat", "dog")], abs=1e-5)


def test_a_cut_choice_is_told_of_its_sample_alone():
    asked = samples(*[""] * 3, options=[("a", "long"), ("a", "b"), ("long", "c")])
    _, cut = Asked(VQA, asked, cut="long").vectors.scores(asked, [vector("x")] * 3)
    assert cut == [True, False, True]


@pytest.mark.parametrize("shown", [("A", "B", "C", "D"), ("D", "C", "B", "A"), ("cat", "a cat", "no cat", "cats")])
def test_what_was_chosen_by_its_score_is_known_by_its_place(shown):
    task = Classification(TaskSpec("harness.tasks.classification.Classification"))
    dataset = Dataset("set", "en", [], shown)
    records = []
    for i, label in enumerate(shown):
        sample = Sample(str(i), str(i), "en", references=(label,))
        records.append(task.record(sample, np.eye(4, dtype=np.float32)[i], dataset))
    assert [record.chosen for record in records] == [0, 1, 2, 3]
    assert [record.answer for record in records] == list(shown)
    for some in (records, [replace(record, chosen=None) for record in records]):  # those of before hold scores alone
        scores = {scored.metric.name: scored.value for scored in task.score(some, Scoring("en", shown))}
        assert (scores["accuracy"], scores["unmapped_rate"]) == (1.0, 0.0)
    assert Record.from_json(records[2].to_json()).chosen == 2
    assert task.record(Sample("x", "x", "en"), Answer("cat"), dataset).chosen is None
