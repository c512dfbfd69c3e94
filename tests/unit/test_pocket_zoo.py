"""The pocket models' builders and their training: what is taught, and that training sees what evaluation sees."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from harness.adapters.open_clip import OpenClipSpec
from harness.adapters.transformers import TransformersSpec
from harness.clock import Clock
from harness.pocket.scenes import POSITIONS, render
from harness.pocket.teaching import lessons as lessons
from harness.pocket.text import CATEGORIES, SPOKEN_CATEGORIES, caption
from harness.records import Media, Request

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def tower(tmp_path_factory):
    from harness.adapters.pocket.tower import build

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tower")
    build().save_pretrained(folder)
    return folder


def test_lessons_depend_on_the_generator_alone_and_come_from_the_train_split():
    first, second = (lessons.draw_scenes(np.random.default_rng(5), 20) for _ in range(2))
    assert first == second
    assert {scene.split for scene in first} == {"train"}
    asked = [lessons.question_lessons(scene, np.random.default_rng(1), 4) for scene in first]
    assert asked == [lessons.question_lessons(scene, np.random.default_rng(1), 4) for scene in second]


def test_categories_languages_and_yes_and_no_are_drawn_evenly():
    rng = np.random.default_rng(0)
    asked = [q for scene in lessons.draw_scenes(rng, 900) for q in lessons.question_lessons(scene, rng, 2)]
    by_category = Counter(q.category for q in asked)
    assert set(by_category) == set(CATEGORIES)
    # A scene of two objects has no question of relation.
    assert min(by_category.values()) > 0.5 * max(by_category.values())
    assert Counter(q.language for q in asked)["zh"] == pytest.approx(len(asked) / 2, rel=0.1)
    claims = [q.answer for q in asked if q.category == "yes-no" and q.language == "en"]
    assert claims.count("yes") == pytest.approx(len(claims) / 2, rel=0.2)


def test_examination_asks_every_category_of_the_validation_split_and_marks_it():
    asked = lessons.examine(24, spoken=True)
    assert {scene.split for scene, _ in asked} == {"validation"}
    assert {q.category for _, q in asked} == {*CATEGORIES, *SPOKEN_CATEGORIES, "caption", "closeup"}
    right = [q.answer for _, q in asked]
    assert set(lessons.mark(asked, right).values()) == {1.0}
    wrong = ["?" if q.category == "colour" else q.answer for _, q in asked]
    marks = lessons.mark(asked, wrong)
    assert marks["colour"] == 0
    assert 0 < marks["vqa"] < 1


def test_recall_counts_a_tie_as_wrong():
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert lessons.recall_at_1(rows, rows) == pytest.approx(1 / 3)


def test_cell_words_name_what_stands_in_each_cell():
    scenes = lessons.examination(3) + lessons.examination(1, "closeups")
    known: list[str] = []

    def tokens(word: str) -> list[int]:
        known.extend((word, f"rest of {word}"))
        return [len(known) - 2, len(known) - 1]

    words = lessons.cell_words(scenes, tokens)
    for scene, row in zip(scenes[:3], words, strict=False):
        for position in range(4):
            thing = scene.at(position)
            named = [known[i] for i in row[position] if i >= 0]
            place = POSITIONS[position]
            assert named[:4] == ([thing.colour, thing.kind, place, f"rest of {place}"] if thing else [])
    assert (words[3] == -1).all()


@pytest.mark.parametrize("family", ["qwen3_vl", "internvl", "smolvlm"])
def test_training_sees_a_packed_question_as_evaluation_sees_it_alone(family, tower):
    from PIL import Image

    from harness.adapters.pocket.chat_training import ChatTraining

    torch.manual_seed(0)
    training = ChatTraining(tower, family)
    training.module.eval()
    scene = lessons.examination(1)[0]
    taught = [lessons.caption_lesson(scene, language) for language in ("zh", "en")]
    packed = training._pack([taught])
    mask = torch.zeros(packed["mask"].shape).masked_fill(~packed["mask"], torch.finfo(torch.float32).min)
    conversation = [
        {"type": "image", "image": Image.fromarray(render(scene))},
        {"type": "text", "text": taught[1].prompt},
    ]
    plain = training.chat.processor.apply_chat_template(
        [[{"role": "user", "content": conversation}]],
        add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
    )  # fmt: skip
    pictures = training.chat.pictures(lessons.pixels([scene]))
    assert pictures
    for name, value in pictures.items():
        assert torch.allclose(value.float(), plain[name].float(), atol=1e-5), name
    with torch.no_grad():
        together = training.chat.model.model(
            input_ids=packed["input_ids"], position_ids=packed["position_ids"], attention_mask=mask, **pictures
        ).last_hidden_state
        alone = training.chat.model.model(**plain).last_hidden_state
    marks = (packed["input_ids"][0] == training.tokenizer.convert_tokens_to_ids("<|assistant|>")).nonzero()[:, 0]
    assert torch.allclose(together[0, marks[1]], alone[0, -1], atol=1e-4)


@pytest.mark.parametrize("family", ["open_clip", "chinese_clip", "siglip"])
def test_a_saved_dual_encoder_embeds_through_its_adapter_as_in_training(family, tower, tmp_path):
    from harness.adapters.open_clip import OpenClip
    from harness.adapters.pocket.dual_training import DualTraining
    from harness.adapters.transformers.dual import TransformersDual

    torch.manual_seed(0)
    training = DualTraining(tower, family)
    training.module.eval()
    training.save(tmp_path)
    spec, adapter = (OpenClipSpec, OpenClip) if family == "open_clip" else (TransformersSpec, TransformersDual)
    loaded = adapter(spec(_target_="", origin="", checkpoint=str(tmp_path), dtype="float32"))
    loaded.load("cpu", Clock())
    scenes = lessons.examination(2)
    texts = [caption(scene, language) for scene, language in zip(scenes, ("en", "zh"), strict=True)]
    pictures = [Media("image", scene.id, render(scene)) for scene in scenes]
    found = loaded.embed(loaded.prepare([Request((part,)) for part in [*texts, *pictures]], "embed"))
    with torch.no_grad():
        text = training._text(texts, torch.device("cpu"))
        image = training._image(scenes, torch.device("cpu"))
    assert np.allclose(found, torch.cat([text, image]).numpy(), atol=1e-4)


def test_a_foil_has_the_same_words_in_another_binding():
    from harness.adapters.pocket.dual_training import foil

    scene = lessons.examination(3)[2]
    other = foil(scene, np.random.default_rng(0))
    assert other.objects != scene.objects
    assert Counter(t.kind for t in other.objects) == Counter(t.kind for t in scene.objects)
    assert Counter(t.colour for t in other.objects) == Counter(t.colour for t in scene.objects)


def test_the_tower_keeps_what_it_saw_when_it_becomes_another_familys(tower):
    from harness.adapters.pocket.chat import build_smolvlm
    from harness.adapters.pocket.parts import tower_weights
    from harness.adapters.pocket.tower import build

    weights = tower_weights(tower)
    own = build().eval()
    own.load_state_dict(weights if "embeddings.patch_embedding.weight" in own.state_dict() else own.state_dict())
    pictures = lessons.pixels(lessons.examination(2))
    eyes = build_smolvlm(weights).model.model.vision_model.eval()
    with torch.no_grad():
        assert torch.allclose(eyes(pictures).last_hidden_state, own(pictures).last_hidden_state, atol=1e-4)
