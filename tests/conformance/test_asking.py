"""What a model is told and what is counted: prompts in order, tokens, phases, labels, and what a family cannot take."""

from __future__ import annotations

import io

import numpy as np
import pytest
import tiny_chat
import tiny_dual
import tiny_prompted
from tiny_models import THINKER

from harness.adapters.open_clip import OpenClipCoCa, OpenClipSpec
from harness.adapters.transformers import TransformersSpec
from harness.adapters.transformers.chat import ChatModel
from harness.adapters.transformers.decoding import count_tokens, finishes
from harness.adapters.transformers.dual import Clap, TransformersDual
from harness.adapters.transformers.labels import UNKNOWN, LabelAnswers
from harness.adapters.transformers.prompted import Blip, Git
from harness.clock import Clock, HostTimer
from harness.errors import SampleError
from harness.records import Media, Request


def loaded(tmp_path_factory, build, adapter_class, **fields):
    folder = tmp_path_factory.mktemp(build.__name__)
    build(folder)
    spec_class = OpenClipSpec if adapter_class is OpenClipCoCa else TransformersSpec
    options = fields.pop("options", {})
    adapter = adapter_class(
        spec_class(_target_="x", origin="domestic", checkpoint=str(folder), dtype="float32", **fields), **options
    )
    adapter.load("cpu", Clock())
    return adapter


@pytest.fixture(scope="module")
def chat(tmp_path_factory):
    return loaded(tmp_path_factory, tiny_chat.smolvlm, ChatModel)


@pytest.fixture(scope="module")
def vilt(tmp_path_factory):
    return loaded(tmp_path_factory, tiny_prompted.vilt, LabelAnswers, attention="eager")


def picture(colour: tuple[int, int, int] = (200, 30, 30), size: tuple[int, int] = (32, 32)) -> Media:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return Media("image", f"{colour} {size}", file.getvalue())


@pytest.mark.parametrize("build", [tiny_dual.siglip, tiny_dual.siglip2])
def test_texts_of_siglip_are_padded_on_the_right_whatever_side_the_tokenizer_names(
    tmp_path_factory, build, monkeypatch
):
    monkeypatch.setattr("transformers.PreTrainedTokenizerFast.padding_side", "left")
    adapter = loaded(tmp_path_factory, build, TransformersDual)
    ids = adapter.host_inputs("text", ["a Red Car"])["input_ids"][0].tolist()
    assert len(ids) == 64
    assert ids[-1] == adapter.processor.tokenizer.pad_token_id != ids[0]


def test_texts_of_siglip_2_are_written_in_small_letters(tmp_path_factory):
    adapter = loaded(tmp_path_factory, tiny_dual.siglip2, TransformersDual)
    told: list[list[str]] = []
    tokenise = adapter.processor.tokenizer
    adapter.processor.tokenizer = lambda texts, **options: (told.append(texts), tokenise(texts, **options))[1]
    adapter.host_inputs("text", ["A Red CAR"])
    assert told == [["a red car"]]


def test_parts_reach_the_model_in_their_order(chat):
    first = chat.prepare([Request(("before", picture(), "after"))], "generate")
    text = chat.tokenizer.decode(first.tensors["input_ids"][0])
    assert text.index("before") < text.index("<image>") < text.index("after")
    assert text.endswith("assistant: ")


def test_several_pictures_in_one_request_all_reach_the_model(chat):
    one = chat.prepare([Request((picture(), "what is it?"))], "generate").tensors["input_ids"]
    two = chat.prepare([Request((picture(), picture((0, 0, 9)), "what is it?"))], "generate").tensors["input_ids"]
    marks = [int((ids == chat.tokenizer.convert_tokens_to_ids("<image>")).sum()) for ids in (one, two)]
    assert marks[1] == 2 * marks[0] > 0


def test_a_question_without_a_picture_can_be_asked(chat):
    assert len(chat.generate(chat.prepare([Request(("hello?",), max_new_tokens=3)], "generate"))) == 1


def test_a_chat_model_without_ears_refuses_a_sound(chat):
    sound = Media("audio", "bark", np.zeros(800, np.float32), where="sounds.jsonl, row 2", rate=8000)
    with pytest.raises(SampleError, match=r"takes no sound \(sounds\.jsonl, row 2\)"):
        chat.prepare([Request((sound, "what is it?"))], "generate")


def test_a_model_that_sees_and_hears_is_asked_about_both_at_once(tmp_path_factory):
    adapter = loaded(tmp_path_factory, tiny_chat.qwen2_5_omni, ChatModel, auto_class=THINKER)
    rng = np.random.default_rng(0)
    sound = Media("audio", "noise", rng.normal(0, 0.1, 8000).astype(np.float32), rate=16_000)
    silence = Media("audio", "silence", np.zeros(8000, np.float32), rate=16_000)
    asked = [Request((picture(), heard, "which?"), choices=("a", "bb")) for heard in (sound, silence)]
    asked.append(Request((picture((0, 0, 250)), sound, "which?"), choices=("a", "bb")))
    noise, quiet, other_picture = adapter.rank(adapter.prepare(asked, "rank"))
    assert abs(noise - quiet).max() > 1e-3
    assert abs(noise - other_picture).max() > 1e-3


def test_arguments_for_the_chat_template_reach_it(tmp_path_factory):
    adapter = loaded(
        tmp_path_factory, tiny_chat.smolvlm, ChatModel, options={"template": {"add_generation_prompt": False}}
    )
    ids = adapter.prepare([Request(("hello?",))], "generate").tensors["input_ids"]
    assert not adapter.tokenizer.decode(ids[0]).endswith("assistant: ")


def test_prefill_and_decode_are_marked_on_the_clock(chat):
    chat.clock.timer = HostTimer(chat.clock.now)
    chat.generate(chat.prepare([Request((picture(), "what is it?"), max_new_tokens=8)], "generate"))
    phases, _ = chat.clock.drain()
    chat.clock.timer = None
    assert set(phases) == {"prefill", "decode", "postprocess"}
    assert min(phases.values()) > 0


def test_a_choice_of_one_token_and_a_longer_one_are_both_averages(chat):
    request = Request((picture(), "what is it?"), choices=("a", "aa", "aaa"))
    scores = chat.rank(chat.prepare([request], "rank"))[0]
    assert scores.shape == (3,)
    assert (scores < 0).all()


def test_an_empty_choice_is_the_samples_own_error(chat):
    with pytest.raises(SampleError, match="A choice is empty: 'yes', ''"):
        chat.prepare([Request((picture(), "what is it?"), choices=("yes", ""))], "rank")


def test_more_choices_than_are_scored_at_a_time_are_all_scored(chat, monkeypatch):
    request = Request((picture(), "which?"), choices=tuple(f"word {i}" for i in range(11)))
    whole = chat.rank(chat.prepare([request, request], "rank"))
    monkeypatch.setattr("harness.adapters.transformers.decoding.ROWS", 4)
    parts = chat.rank(chat.prepare([request, request], "rank"))
    np.testing.assert_allclose(whole, parts, atol=1e-5)


def test_tokens_are_counted_with_the_end_mark_without_padding_and_an_answer_without_it_was_cut_off():
    import torch

    rows = torch.tensor([[5, 6, 2, 0, 0], [5, 6, 7, 8, 9], [2, 0, 0, 0, 0], [5, 2, 2, 2, 2]])
    assert count_tokens(rows, stop=2) == [3, 5, 1, 2]
    assert count_tokens(rows, stop=[9, 6]) == [2, 2, 5, 5]
    assert count_tokens(rows, stop=None) == [5, 5, 5, 5]
    assert finishes(rows, stop=2) == ["stop", "length", "stop", "stop"]
    assert finishes(rows, stop=None) == ["length"] * 4


def test_a_classifier_answers_with_its_likeliest_label(vilt):
    request = Request((picture(), "what is it?"), choices=("yes", "no", "2", "red"))
    label = vilt.generate(vilt.prepare([request], "generate"))[0].text
    assert label in vilt.labels.values()
    scores = vilt.rank(vilt.prepare([Request(request.parts, choices=tuple(vilt.labels.values()))], "rank"))[0]
    assert vilt.labels[int(scores.argmax())] == label


def test_a_choice_that_is_no_label_cannot_be_the_answer(vilt):
    request = Request((picture(), "what is it?"), choices=("Yes ", "zebra"))
    scores = vilt.rank(vilt.prepare([request], "rank"))[0]
    assert scores[1] == UNKNOWN < scores[0]


def test_a_sample_of_which_no_choice_is_a_label_fails(vilt):
    with pytest.raises(SampleError, match="none of the choices"):
        vilt.prepare([Request((picture(), "what is it?"), choices=("zebra", "lion"))], "rank")


def test_a_question_longer_than_forty_tokens_is_cut_for_vilt(vilt):
    prepared = vilt.prepare([Request((picture(), "why " * 100))], "generate")
    assert prepared.tensors["input_ids"].shape[1] == 40
    assert len(vilt.generate(prepared)) == 1


@pytest.mark.parametrize("parts", [("what is it?",), (picture(), picture(), "what is it?")])
def test_families_of_one_picture_refuse_another_number(vilt, parts):
    with pytest.raises(SampleError, match="exactly one image"):
        vilt.prepare([Request(parts)], "generate")


def test_a_caption_does_not_repeat_its_prompt(tmp_path_factory):
    for build, adapter_class in ((tiny_prompted.blip, Blip), (tiny_prompted.git, Git)):
        adapter = loaded(tmp_path_factory, build, adapter_class, attention="eager")
        asked = [Request((picture(), prompt), max_new_tokens=4) for prompt in ("zzzzzzzz", "")]
        prompted, free = adapter.generate(adapter.prepare(asked, "generate"))
        assert "z z z z z z" not in prompted.text
        assert prompted.tokens_in > free.tokens_in
        assert 0 < prompted.tokens_out <= 4


def test_coca_continues_a_prompt_and_stops_at_its_context(tmp_path_factory):
    adapter = loaded(tmp_path_factory, tiny_dual.open_clip_coca, OpenClipCoCa)
    requests = [Request((picture(), text), max_new_tokens=100) for text in ("", "a photo of")]
    free, prompted = adapter.generate(adapter.prepare(requests, "generate"))
    assert (free.tokens_in, prompted.tokens_in) == (1, 4)
    assert max(a.tokens_in + a.tokens_out for a in (free, prompted)) <= adapter.model.context_length
    assert "a photo of" not in prompted.text


def test_of_a_long_clip_the_first_window_is_heard(tmp_path_factory):
    adapter = loaded(tmp_path_factory, tiny_dual.clap, Clap, attention="eager", modalities=["text", "audio"])
    rng = np.random.default_rng(0)
    samples = rng.normal(0, 0.1, 48_000).astype(np.float32)
    whole, start = (Media("audio", f"{n}", samples[:n], rate=16_000) for n in (48_000, 16_000))
    vectors = adapter.embed(adapter.prepare([Request((whole,)), Request((start,))], "embed"))
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
    with pytest.raises(SampleError, match="does not encode image"):
        adapter.prepare([Request((picture(),))], "embed")
