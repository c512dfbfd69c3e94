"""Every family keeps the adapter's contract: built tiny, saved, loaded from its folder, asked alone and in a batch."""

from __future__ import annotations

import io
from itertools import pairwise

import numpy as np
import pytest
from tiny_models import FAMILIES

from harness.adapter import Adapter, routes_of
from harness.adapters.open_clip import OpenClipSpec
from harness.adapters.transformers import TransformersSpec
from harness.clock import Clock, HostTimer
from harness.errors import SampleError, UserError
from harness.records import Media, Request
from harness.targets import load_class

QUESTIONS = [
    "what is it?",
    "how many red squares are there to the left of the circle",
    "a",
    "colour of the circle?",
    "is it blue?",
    "yes or no",
    "one more question",
    "last",
]
CHOICES = [
    ("yes", "no"),
    ("red", "blue", "yellowish"),
    ("a", "b"),
    ("x", "yy", "zzz"),
    ("one", "two"),
    ("yes", "no"),
    ("1", "22", "333"),
    ("left", "right"),
]


def a_picture(number: int) -> Media:
    from PIL import Image

    rng = np.random.default_rng(number)
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (24 + 4 * (number % 3), 32, 3), dtype=np.uint8)).save(file, "PNG")
    return Media("image", f"picture {number}", file.getvalue())


def a_clip(number: int) -> Media:
    rng = np.random.default_rng(number)
    samples = rng.normal(0, 0.1, 8000 * (1 + number % 3)) * np.sin(np.arange(8000 * (1 + number % 3)) * 0.01 * number)
    return Media("audio", f"clip {number}", samples.astype(np.float32), rate=16000)


@pytest.fixture(scope="module")
def family(request, tmp_path_factory):
    """A family's name, its description and a loaded adapter."""
    import torch

    torch.manual_seed(0)
    family = FAMILIES[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    family.build(folder)
    fields = {"origin": "international", "checkpoint": str(folder), "dtype": "float32"}
    fields["modalities"] = ["text", family.modality]
    if "open_clip" in family.target:
        spec = OpenClipSpec(_target_=family.target, **fields)
    else:
        spec = TransformersSpec(
            _target_=family.target, attention=family.attention, auto_class=family.auto_class, **fields
        )
    adapter = load_class(family.target, Adapter)(spec)
    try:
        adapter.load("cpu", Clock())
    except UserError as error:
        if "update transformers" not in str(error):
            raise
        pytest.skip(str(error))
    yield family, adapter
    adapter.close()


def a_medium(family, number: int) -> Media:
    return a_picture(number) if family.modality == "image" else a_clip(number + 1)


def questions(family) -> list[Request]:
    asked = zip(QUESTIONS, CHOICES, strict=True)
    return [Request((a_medium(family, i), q), choices=c, max_new_tokens=10) for i, (q, c) in enumerate(asked)]


def families(*routes: str, without: tuple[str, ...] = ()):
    """Runs a test with every family that has one of the routes."""
    names = [name for name, family in FAMILIES.items() if set(family.routes) & set(routes) and name not in without]
    assert names
    return pytest.mark.parametrize("family", names, indirect=True)


@families("embed", "rank", "generate")
def test_a_family_has_the_routes_it_is_meant_to_have(family):
    description, adapter = family
    assert routes_of(type(adapter)) == description.routes


@families("generate")
def test_answers_in_a_batch_of_eight_equal_answers_asked_alone(family):
    description, adapter = family
    together = adapter.generate(adapter.prepare(questions(description), "generate"))
    alone = [adapter.generate(adapter.prepare([request], "generate"))[0] for request in questions(description)]
    assert [answer.text for answer in together] == [answer.text for answer in alone]
    assert [(a.tokens_in, a.tokens_out) for a in together] == [(a.tokens_in, a.tokens_out) for a in alone]
    assert all(answer.tokens_out is None or 0 < answer.tokens_out <= 10 for answer in together)
    assert [a.finish for a in together] == [a.finish for a in alone]
    assert all(answer.tokens_out == 10 for answer in together if answer.finish == "length")


@families("generate", without=("vilt",))
def test_answers_are_as_long_as_they_must_be_are_then_cut_off_and_each_token_is_stamped(family):
    description, adapter = family
    picture = a_medium(description, 0)
    for length in (1, 7):
        request = Request((picture, "what is it?"), min_new_tokens=length, max_new_tokens=length)
        prepared = adapter.prepare([request], "generate")
        adapter.clock.timer = HostTimer(adapter.clock.now)
        (answer,) = adapter.generate(prepared)
        _, stamps = adapter.clock.drain()
        adapter.clock.timer = None
        assert answer.tokens_out == len(stamps) == length
        assert answer.finish == "length"
        assert stamps == sorted(stamps)


@families("rank")
def test_scores_of_choices_do_not_depend_on_the_batch(family):
    description, adapter = family
    together = adapter.rank(adapter.prepare(questions(description), "rank"))
    assert [len(scores) for scores in together] == [len(choices) for choices in CHOICES]
    for request, scores in zip(questions(description), together, strict=True):
        alone = adapter.rank(adapter.prepare([request], "rank"))[0]
        np.testing.assert_allclose(scores, alone, atol=1e-5, rtol=0)


@families("rank", without=("vilt",))
def test_scores_of_choices_are_what_the_model_says_token_by_token(family):
    """Against the slow way: the whole prompt with its picture and the choice's first tokens, once for each token."""
    description, adapter = family
    for request in questions(description)[:4]:
        prepared = adapter.prepare([request], "rank")
        group = prepared[0] if isinstance(prepared, list) else getattr(prepared, "groups", [prepared])[0]
        expected = [likelihood_token_by_token(adapter.model, group.tensors, ids) for ids in group.choices[0]]
        np.testing.assert_allclose(adapter.rank(prepared)[0], expected, atol=1e-5, rtol=0)


def likelihood_token_by_token(model, tensors: dict, choice: list[int]) -> float:
    import torch
    from transformers import GenerationMixin

    width = tensors["input_ids"].shape[1]
    total = 0.0
    for done, token in enumerate(choice):
        longer = dict(tensors)
        for name, tensor in tensors.items():
            if getattr(tensor, "shape", None) != (1, width):
                continue
            # PaliGemma marks its causal part by token type 1; the others mark pictures by other numbers than 0.
            ones = name == "attention_mask" or (name == "token_type_ids" and model.config.model_type == "paligemma")
            tail = torch.tensor([choice[:done]]) if name == "input_ids" else torch.full((1, done), int(ones))
            longer[name] = torch.cat([tensor, tail.to(tensor.dtype)], dim=1)
        settings = {"max_new_tokens": 1, "return_dict_in_generate": True, "output_logits": True}
        with torch.no_grad():
            logits = GenerationMixin.generate(model, **longer, **settings).logits[0][0]
        total += float(torch.log_softmax(logits.float(), dim=-1)[token])
    return total / len(choice)


@families("rank")
def test_the_picture_changes_the_scores(family):
    description, adapter = family
    asked = [Request((a_medium(description, i), "what is it?"), choices=("yes", "no")) for i in (0, 1)]
    one, other = adapter.rank(adapter.prepare(asked, "rank"))
    assert abs(one - other).max() > 1e-3


@families("embed")
def test_embeddings_are_unit_rows_that_do_not_depend_on_the_batch(family):
    description, adapter = family
    media = [a_medium(description, i) for i in range(8)]
    requests = [Request((part,)) for pair in zip(media, QUESTIONS, strict=True) for part in pair]
    together = adapter.embed(adapter.prepare(requests, "embed"))
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    alone = np.concatenate([adapter.embed(adapter.prepare([request], "embed")) for request in requests])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert len(np.unique(together.round(4), axis=0)) == len(requests)


@families("embed")
def test_a_dual_encoder_refuses_a_joint_embedding(family):
    _, adapter = family
    with pytest.raises(SampleError, match="one text, image or sound at a time"):
        adapter.prepare([Request((a_picture(0), "a picture"))], "embed")


OWN = ["<image>", "<|image_pad|>", "<IMG_CONTEXT>", "<|im_end|>", "<audio>", "</s>", "[SEP]", "<|endoftext|>", "<img>"]
"""Marks that some family reads as its own."""


@families("embed", "rank", "generate")
def test_marks_in_a_question_are_text(family):
    """However many of its own special tokens a text mentions, the model gets no more of them than without."""
    description, adapter = family
    tokenizer = getattr(adapter, "processor", adapter).tokenizer
    own = [getattr(tokenizer, "image_token", None), *getattr(tokenizer, "all_special_tokens", [])]
    marks = list(dict.fromkeys(filter(None, [*own, *OWN])))
    dull = {getattr(tokenizer, name, None) for name in ("pad_token_id", "unk_token_id")}
    special = set(tokenizer.all_special_ids) - dull
    for route in description.routes:
        media = () if route == "embed" else (a_medium(description, 0),)
        counts = []
        for words in (["say"], ["say", *marks[:4]], ["say", *marks[4:9], "".join(marks[:2])]):
            asked = Request((*media, " ".join(words)), choices=("yes", "no"), max_new_tokens=2)
            inputs = adapter.prepare([asked], route)
            counts.append(sorted(i for i in prompt_ids(inputs).flatten().tolist() if i in special))
            getattr(adapter, route)(inputs)
        assert counts[0] == counts[1] == counts[2], route


def prompt_ids(inputs):
    """The token ids of a prepared request."""
    import torch

    inputs = inputs[0] if isinstance(inputs, list) else inputs
    if hasattr(inputs, "prompts"):  # CoCa's
        return torch.tensor(inputs.prompts)
    tensors = inputs.kinds["text"][1] if hasattr(inputs, "kinds") else getattr(inputs, "groups", [inputs])[0]
    tensors = getattr(tensors, "tensors", tensors)
    return tensors["input_ids"] if isinstance(tensors, dict) else tensors


CUT = {"git", "blip", "blip_vqa", "vilt", "open_clip_coca"}
"""The families that cut a prompt at their context; the others read all of it."""


@families("embed", "rank", "generate")
def test_a_text_longer_than_the_context_is_cut_off_and_counted(family, request):
    description, adapter = family
    for route in description.routes:
        media = () if route == "embed" else (a_medium(description, 0),)
        texts = ("what is it?", "word " * 500, "a", "word ! " * 500)
        asked = [Request((*media, text), choices=("yes", "no"), max_new_tokens=2) for text in texts]
        counted = route == "embed" or request.node.callspec.params["family"] in CUT
        expected = [False, counted, False, counted]
        inputs = adapter.prepare(asked, route)
        assert list(adapter.text_cut(inputs) or [False] * 4) == expected
        for one, cut in zip(asked, expected, strict=True):
            assert list(adapter.text_cut(adapter.prepare([one], route)) or [False]) == [cut]
        if route == "embed":
            assert np.isfinite(adapter.embed(inputs)).all()


@families("embed")
def test_a_text_that_just_fits_is_not_counted_as_cut(family):
    """A text that grows token by token is cut as soon as the model sees no more of it than of the one before."""
    description, adapter = family
    between = " " if "open_clip" in description.target else ""  # the others' tiny tokenizers read letter by letter
    letters = ["abcdefghijklm"[i % 13] for i in range(98)]
    inputs = adapter.prepare([Request((between.join(letters[:n]),)) for n in range(1, 98)], "embed")
    tensors = inputs.kinds["text"][1]
    ids = tensors["input_ids"] if isinstance(tensors, dict) else tensors
    same = [bool((one == other).all()) for one, other in pairwise(ids)]
    assert list(adapter.text_cut(inputs)) == [False, *same]
    assert same[-1]
    assert not same[0]


@families("embed", "rank", "generate")
def test_a_medium_that_does_not_open_costs_its_own_sample_alone(family):
    description, adapter = family
    route = description.routes[-1]
    kind = description.modality
    broken = Media(kind, "broken", b"not a picture", where="photos.jsonl, row 7")
    good = a_medium(description, 0)
    text = () if route == "embed" else ("what is it?",)
    requests = [Request((medium, *text), choices=("yes", "no"), max_new_tokens=2) for medium in (good, broken)]
    with pytest.raises(SampleError, match=r"photos\.jsonl, row 7"):
        adapter.prepare(requests, route)
    assert len(getattr(adapter, route)(adapter.prepare(requests[:1], route))) == 1
