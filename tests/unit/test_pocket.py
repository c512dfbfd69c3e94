"""The pocket data: the same everywhere, unseen in training, and no use without looking, binding, hearing."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict

import numpy as np
import pytest

from harness.config.specs import DatasetSpec
from harness.errors import UserError
from harness.pocket import samples as pocket
from harness.pocket import scenes as pocket_scenes
from harness.pocket import speech as pocket_speech
from harness.pocket import text as pocket_text
from harness.pocket.scenes import COLOURS, KINDS, MAKERS, SIZES, handwriting, render

SPEC = DatasetSpec(source="pocket", tasks=["vqa", "captioning", "retrieval", "classification"], prior_by="category")
AUDIO = DatasetSpec(source="pocket", subset="audio", tasks=["vqa"], prior_by="category")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def questions():
    return pocket.load("pocket", SPEC, "vqa", "en")


@pytest.fixture(scope="module")
def spoken():
    return pocket.load("pocket-audio", AUDIO, "vqa", "en")


def by_category(dataset):
    groups = defaultdict(list)
    for item in dataset.samples.items:
        groups[item.category].append(item)
    assert groups
    return dict(groups)  # of a category that is not there it knows nothing


def test_scenes_and_pictures_are_the_same_everywhere():
    digest = hashlib.sha256()
    for make in MAKERS.values():
        for split in SIZES:
            for index in range(40):
                scene = make(split, index)
                digest.update(repr(scene.objects).encode())
                digest.update(render(scene).tobytes())
    assert digest.hexdigest() == "5a111d5aba8385099a4f9bacb843c1763448d72e88326948e786e2304a5b4816"


def test_questions_are_the_same_everywhere(questions, spoken):
    digest = hashlib.sha256()
    for dataset in (questions, spoken):
        for item in dataset.samples.items:
            for language in ("en", "zh"):
                digest.update(repr((item.scene.id, item.question(language))).encode())
    assert digest.hexdigest() == "933ff8ef68df6c544efbfdd70f3990fed30b8479a797e48031495a8133782ee8"


def test_clips_are_the_same_everywhere_but_for_rounding():
    clip = pocket_speech.clip("test", 7, "zh", 3)
    assert clip.dtype == np.float32
    assert clip.shape == (8_000,)
    assert np.abs(clip).max() <= 1
    assert [float(x) for x in clip[3000:3004]] == pytest.approx([0.009572, -0.016512, -0.02417, -0.020102], abs=1e-5)


def test_a_scene_has_two_to_four_objects_of_distinct_kinds_and_colours_in_equal_shares():
    counts = Counter()
    for index in range(900):
        objects = pocket_scenes.scene("test", index).objects
        counts[len(objects)] += 1
        for field in ("kind", "colour", "position"):
            assert len({getattr(thing, field) for thing in objects}) == len(objects)
    assert counts == {2: 300, 3: 300, 4: 300}


def test_no_handwritten_digit_is_in_two_splits():
    members = {split: {n for digit in digits for n in digit} for split, digits in handwriting().items()}
    assert sum(map(len, members.values())) == len(set.union(*members.values())) == 1797
    assert all(len(digit) >= 20 for digits in handwriting().values() for digit in digits)


def test_pictures_of_one_split_show_only_its_own_digits(monkeypatch):
    drawn = set()
    mask = pocket_scenes._digit_mask
    monkeypatch.setattr(pocket_scenes, "_digit_mask", lambda number, size: drawn.add(number) or mask(number, size))
    for index in range(200):
        render(pocket_scenes.scene("test", index))
    assert drawn <= {number for digit in handwriting()["test"] for number in digit}


def test_no_voice_is_in_two_splits():
    voices = [pocket_speech.voices(split) for split in SIZES]
    assert sum(map(len, voices)) == len(set.union(*voices))
    speakers = [{voice.partition("+")[2] for voice in names} for names in voices]
    assert sum(map(len, speakers)) == len(set.union(*speakers))


def test_dense_labels_say_what_stands_in_each_cell():
    scene = pocket_scenes.scene("train", 1)
    for position, (kind, colour) in enumerate(scene.cells()):
        thing = scene.at(position)
        assert (kind, colour) == (
            (1 + KINDS.index(thing.kind), 1 + list(COLOURS).index(thing.colour)) if thing else (0, 0)
        )


def test_no_test_picture_is_a_train_picture():
    seen = {render(pocket_scenes.scene("train", index)).tobytes() for index in range(500)}
    assert not any(render(pocket_scenes.scene("test", index)).tobytes() in seen for index in range(500))


def test_the_test_split_has_its_thousand_scenes_and_three_hundred_questions_of_each_type(questions, spoken):
    assert len({sample.cluster for sample in questions}) == 1_000
    for dataset, categories in ((questions, pocket_text.CATEGORIES), (spoken, pocket_text.SPOKEN_CATEGORIES)):
        sizes = {category: len(items) for category, items in by_category(dataset).items()}
        assert set(sizes) == set(categories)
        assert min(sizes.values()) >= 300
        assert len({sample.id for sample in dataset}) == len(dataset)


def test_yes_and_no_are_in_balance(questions, spoken):
    answers = Counter(item.reference("en") for item in by_category(questions)["yes-no"])
    assert abs(answers["yes"] - answers["no"]) <= 1
    assert set(Counter(i.reference("en") for i in by_category(spoken)["spoken-presence"]).values()) == {150}


@pytest.mark.parametrize(
    ("category", "most"),
    [("kind", 0.09), ("colour", 0.20), ("position", 0.27), ("relation", 0.10), ("count", 0.32), ("yes-no", 0.51)],
)
def test_the_prior_of_each_type_is_low(questions, category, most):
    items = by_category(questions)[category]
    usual = Counter(questions.prior[category]).most_common(1)[0][0]
    assert sum(item.reference("en") == usual for item in items) / len(items) <= most


def test_the_question_alone_does_not_give_the_answer(questions):
    learnt = defaultdict(Counter)
    for item in pocket.questions_of("train", 6_000):
        learnt[item.question("en").question][item.reference("en")] += 1
    for category, items in by_category(questions).items():
        right = 0
        for item in items:
            known = learnt[item.question("en").question].most_common(1)
            right += bool(known) and known[0][0] == item.reference("en")
        assert right / len(items) <= {"yes-no": 0.58, "count": 0.38, "position": 0.33}.get(category, 0.25)


def test_knowing_what_is_there_without_binding_it_does_not_help_with_yes_and_no(questions):
    for item in by_category(questions)["yes-no"]:
        question = item.question("en")
        scene = item.scene
        first, second = question.form.split(" and ")
        there = {"kind": {o.kind for o in scene.objects}, "colour": {o.colour for o in scene.objects}}
        there["position"] = {pocket_scenes.POSITIONS[o.position] for o in scene.objects}
        named = {
            field: [value for value in values if f" {value}" in question.question.rstrip("?") + " "]
            for field, values in there.items()
        }
        # Both things that the question names occur in the scene, be the answer yes or no.
        assert named[first]
        assert named[second]
        bound = {
            (o.kind, o.colour, pocket_scenes.POSITIONS[o.position])
            for o in scene.objects
            if {"kind": o.kind, "colour": o.colour, "position": pocket_scenes.POSITIONS[o.position]}[first]
            in named[first]
            and {"kind": o.kind, "colour": o.colour, "position": pocket_scenes.POSITIONS[o.position]}[second]
            in named[second]
        }
        assert (question.answer == "yes") == bool(bound)


def test_a_relation_is_asked_where_the_answer_is_not_just_the_other_object(questions):
    items = by_category(questions)["relation"]
    assert min(len(item.scene.objects) for item in items) == 3
    assert pocket_text.questions(pocket_scenes.scene("train", 0), "en", "relation") == []
    guess = sum(1 / (len(item.scene.objects) - 1) for item in items) / len(items)
    assert guess < 0.45


def test_each_relation_is_true_of_its_scene(questions):
    steps = {"left": -1, "right": 1, "above": -2, "below": 2}
    for item in by_category(questions)["relation"]:
        question = item.question("en")
        named = next(o for o in item.scene.objects if question.question.endswith(f" the {o.kind}?"))
        other = item.scene.at(named.position + steps[question.form])
        assert other is not None
        assert other.kind == question.answer
        if question.form in ("left", "right"):
            assert named.position // 2 == other.position // 2


def test_without_the_clip_a_spoken_question_is_a_guess(spoken):
    """The best guess for someone who sees the picture and does not hear: uniform over what the clip may say."""
    for category, items in by_category(spoken).items():
        chance = []
        for item in items:
            answers = Counter(q.answer for q in pocket_text.spoken_questions(item.scene, "en", category))
            if category == "spoken-presence":
                answers = {"yes": 1, "no": 1}  # asked in balance
            chance.append(max(answers.values()) / sum(answers.values()))
        assert np.mean(chance) <= {"spoken-presence": 0.5, "spoken-sum": 0.1}.get(category, 0.34)


def test_each_spoken_question_has_a_clip_of_the_right_language(spoken):
    other = pocket.load("pocket-audio", AUDIO, "vqa", "zh")
    assert len(spoken) >= 20
    for english, chinese in zip(spoken[:20], other[:20], strict=True):
        assert english.id == chinese.id
        assert [medium.kind for medium in english.media] == ["image", "audio"]
        assert english.media[0] == chinese.media[0]
        assert english.media[1] != chinese.media[1]
        assert english.media[1].rate == 8_000


def test_captions_are_unique_in_the_gallery():
    for language in ("en", "zh"):
        gallery = pocket.load("pocket", SPEC, "retrieval", language)
        assert len(gallery) == len({sample.references for sample in gallery}) == 500


def test_a_caption_says_all_there_is():
    scene = pocket_scenes.scene("test", 2)
    said = pocket_text.caption(scene, "en")
    assert said == ", ".join(
        f"a {o.colour} {o.kind} at the {pocket_scenes.POSITIONS[o.position]}" for o in scene.objects
    )
    assert scene.objects
    assert all(pocket_text.word(o.kind, "zh") in pocket_text.caption(scene, "zh") for o in scene.objects)


def test_every_answer_is_in_the_closed_set():
    for language in ("en", "zh"):
        known = set(pocket_text.answers(language))
        for index in range(60):
            asked = pocket_text.questions(pocket_scenes.scene("train", index), language)
            asked += pocket_text.spoken_questions(pocket_scenes.listening_scene("train", index), language)
            assert asked
            assert {question.answer for question in asked} <= known


def test_both_languages_ask_the_same(questions):
    chinese = pocket.load("pocket", SPEC, "vqa", "zh")
    assert len(questions) >= 200
    for english, other in zip(questions[:200], chinese[:200], strict=True):
        assert english.id == other.id
        assert pocket_text.word(english.references[0], "zh") == other.references[0]
        assert not any(letter.isascii() and letter.isalpha() for letter in other.question)


def test_closeups_have_each_label_equally_often():
    dataset = pocket.load("pocket", SPEC, "classification", "en")
    counts = Counter(sample.references[0] for sample in dataset)
    assert set(counts) == set(dataset.labels) == set(KINDS)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_an_unknown_split_is_named():
    with pytest.raises(UserError, match="no split 'tset'"):
        pocket.load("pocket", SPEC, "vqa", "en", split="tset")


@pytest.mark.parametrize("damage", ["cut short", "another picture", "no note", "note of another form"])
def test_a_corrupt_cache_is_made_anew(tmp_path, monkeypatch, damage):
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    pocket.pictures.cache_clear()
    first = np.array(pocket.pictures("scenes", "validation"))
    (data,) = tmp_path.glob("pocket/*.npy")
    note = data.with_suffix(".json")
    if damage == "cut short":
        data.write_bytes(data.read_bytes()[:5_000])
    elif damage == "another picture":
        data.write_bytes(data.read_bytes()[:-1] + b"\x99")
    elif damage == "no note":
        note.unlink()
    else:
        note.write_text("[1]")
    pocket.pictures.cache_clear()
    again = pocket.pictures("scenes", "validation")
    pocket.pictures.cache_clear()
    assert (first == again).all()
    assert json.loads(note.read_text())["sha256"] == hashlib.sha256(data.read_bytes()).hexdigest()
    assert sorted(path.suffix for path in tmp_path.glob("pocket/*")) == [".json", ".npy"]


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "file"))
    pocket.pictures.cache_clear()
    made = pocket.pictures("scenes", "validation")
    pocket.pictures.cache_clear()
    assert made.shape == (1_000, 64, 64, 3)
    assert made.dtype == np.uint8
