"""Captions, held against pycocoevalcap, sacrebleu and published scores of 4,982 COCO images."""

import json
import shutil
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from harness.errors import UserError
from harness.metrics import captions, tokenise
from harness.metrics.captions import caption_scores
from harness.metrics.tokenise import Tokeniser, caption_tokeniser, ptb_tokens

ORACLES = Path(__file__).parents[2].parent / "shared" / "oracles"
needs_oracle = pytest.mark.skipif(not ORACLES.is_dir(), reason="the COCO oracle captions are not on this machine")
needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="Java is not installed")
RULES = Tokeniser("PTB (Python rules)", tokenise._rules)
WORDS = Tokeniser("words", lambda texts: [text.split() for text in texts])


@cache
def oracle():
    data = json.loads((ORACLES / "captions_coco5k.json").read_text())
    expected = json.loads((ORACLES / "captions_coco5k.expected.json").read_text())
    ids = list(data["predictions"])
    return [data["predictions"][i] for i in ids], [data["references"][i] for i in ids], expected, ids


def made_up(seed, n=60):
    rng = np.random.default_rng(seed)
    words = np.array(["a", "cat", "dog", "sits", "on", "red", "mat", "the", "big", "runs", "fast", "x" * 3])

    def text():
        return " ".join(rng.choice(words, rng.integers(0, 9)))

    return [text() for _ in range(n)], [[text() or "cat" for _ in range(rng.integers(1, 6))] for _ in range(n)]


def pycoco(predictions, references):
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    truth = dict(enumerate(references))
    answers = {i: [p] for i, p in enumerate(predictions)}
    bleu, _ = Bleu(4).compute_score(truth, answers, verbose=0)
    cider, per_image = Cider().compute_score(truth, answers)
    rouge, per_rouge = Rouge().compute_score(truth, answers)
    values = {"cider": cider, "rouge_l": rouge} | {f"bleu{i + 1}": b for i, b in enumerate(bleu)}
    return values, per_image, per_rouge


@pytest.mark.parametrize("seed", range(4))
def test_scores_are_those_of_pycocoevalcap_corpus_and_image(seed):
    predictions, references = made_up(seed)
    scored = caption_scores(predictions, references, "en", WORDS)
    values, per_image, per_rouge = pycoco(predictions, references)
    assert {s.metric.name: s.value for s in scored} == pytest.approx(values, abs=1e-12)
    assert scored[0].statistics[:, 0] == pytest.approx(per_image, abs=1e-12)
    assert scored[-1].statistics[:, 0] == pytest.approx(per_rouge, abs=1e-12)


def test_bleu_is_sacrebleus_where_the_two_agree():
    import sacrebleu

    _, references = made_up(5)
    predictions = [" ".join(texts[0].split()[:6]) for texts in references]
    streams = list(zip(*[(texts * 5)[:5] for texts in references], strict=True))
    scored = {s.metric.name: s.value for s in caption_scores(predictions, references, "en", WORDS)}
    peer = sacrebleu.corpus_bleu(predictions, streams, tokenize="none", smooth_method="none")
    assert peer.score > 10
    assert scored["bleu4"] == pytest.approx(peer.score / 100, rel=1e-6)


@needs_oracle
def test_published_scores_are_met_by_the_python_tokeniser_within_1e_4():
    predictions, references, expected, ids = oracle()
    scored = {s.metric.name: s for s in caption_scores(predictions, references, "en", RULES)}
    names = {"cider": "CIDEr", "rouge_l": "ROUGE_L"} | {f"bleu{k}": f"Bleu_{k}" for k in range(1, 5)}
    for name, theirs in names.items():
        assert scored[name].value == pytest.approx(expected["corpus"][theirs], abs=1e-4), name
        if theirs in expected["published"]:
            assert round(scored[name].value, 3) == expected["published"][theirs]
    per_image = [expected["per_image"][i]["CIDEr"] for i in ids]
    assert scored["cider"].statistics[:, 0] == pytest.approx(per_image, abs=1e-4)


@needs_oracle
@needs_java
def test_the_python_tokeniser_cuts_coco_captions_as_the_java_one_does():
    predictions, references, _, _ = oracle()
    texts = predictions[:1000] + [text for some in references[:1000] for text in some]
    assert caption_tokeniser("en").name == "PTB (Stanford CoreNLP 3.4.1)"
    assert RULES.split(texts) == caption_tokeniser("en").split(texts)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("A man's dog isn't \"big\".", "a man 's dog is n't '' big '' ."),
        ("I can't, we'll, they've", "i ca n't , we 'll , they 've"),
        ("cannot gonna", "can not gon na"),
        ("a black-and-white T-shirt (new)", "a black-and-white t-shirt -lrb- new -rrb-"),
        ("at 3:30 p.m. in the U.S. now", "at 3:30 p.m. in the u.s. now"),
        ("$5.99 or 10%", "$ 5.99 or 10 %"),
        ("on 11th St. and N. Astor", "on 11th st. and n. astor"),
        ("wait... no--yes..", "wait ... no -- yes . ."),
        ("AT&T Tom & Jerry M&Ms", "at&t tom & jerry m&m s"),
        ("don’t “go”", "do n't '' go ''"),
    ],
)
def test_penn_treebank_rules(text, tokens):
    assert ptb_tokens(text) == tokens.split()


@pytest.mark.parametrize("tokeniser", [RULES, pytest.param(None, marks=needs_java)])
@pytest.mark.parametrize("mark", ["\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029", "\t"])
def test_a_line_separator_in_a_caption_shifts_nothing(tokeniser, mark):
    predictions = [f"a cat{mark}on a mat", "a dog runs", ""]
    references = [["a cat on a mat"], [f"a dog{mark}runs"], ["a bird"]]
    flat = ["a cat on a mat", "a dog runs", ""]
    plain = caption_scores(flat, [["a cat on a mat"], ["a dog runs"], ["a bird"]], "en", RULES)
    for ours, expected in zip(caption_scores(predictions, references, "en", tokeniser), plain, strict=True):
        assert ours.statistics.tolist() == expected.statistics.tolist()


@needs_java
def test_an_empty_caption_keeps_its_place_with_java():
    texts = ["a cat", "", " ", "a dog"]
    assert caption_tokeniser("en").split(texts) == [["a", "cat"], [], [], ["a", "dog"]]


def test_chinese_is_cut_by_character_and_never_by_english_rules():
    tokeniser = caption_tokeniser("zh")
    assert tokeniser.split(["一只ABC红色的猫，12个。"]) == [[*"一只", "abc", *"红色的猫", "12", "个"]]
    scored = caption_scores(["一只红色的猫", "两条狗在跑"], [["一只红猫"], ["两条狗"]], "zh")
    values = [s.value for s in scored if s.metric.name in ("cider", "bleu1", "rouge_l")]
    assert len(values) == 3
    assert all(0 < value < 10 for value in values)
    assert all("Chinese characters" in s.metric.definition for s in scored)


def test_chinese_words_come_from_jieba():
    pytest.importorskip("jieba")
    assert caption_tokeniser("zh", words=True).split(["我爱北京天安门。"]) == [["我", "爱", "北京", "天安门"]]


def test_every_definition_names_its_tokeniser():
    every = caption_scores(["a cat"], [["a cat"]], "en", RULES)
    assert every
    for scored in every:
        assert "PTB (Python rules)" in scored.metric.definition


def test_a_missing_caption_counts_as_an_empty_one():
    references = [["a cat on a mat"], ["a dog runs fast"]]
    missing = caption_scores(["a cat on a mat", None], references, "en", RULES)
    empty = caption_scores(["a cat on a mat", ""], references, "en", RULES)
    assert [s.value for s in missing] == [s.value for s in empty]
    assert missing[0].statistics[1, 0] == 0


def test_no_captions_have_no_score_and_no_reference_is_an_error():
    every = caption_scores([], [], "en", RULES)
    assert every
    assert all(np.isnan(s.value) for s in every)
    with pytest.raises(UserError, match="Caption 2 has no reference"):
        caption_scores(["a", "b"], [["a"], []], "en", RULES)


@pytest.mark.parametrize(
    ("a", "b", "length"), [("abcbdab", "bdcaba", 4), ("", "abc", 0), ("abc", "abc", 3), ("a" * 80, "ab" * 50, 50)]
)
def test_the_longest_common_subsequence_is_that_of_the_textbook(a, b, length):
    assert captions._common_subsequence(a, b) == length


def test_ids_of_n_grams_never_collide():
    split = [["a", "b", "a", "b"], ["b", "a", "b"], ["a", "b"]]
    counts = captions._Counts(split, 1, np.array([0, 0]))
    assert len(counts.orders) == 4
    for k, (text, gram, count, _) in enumerate(counts.orders):
        grams = [Counter(tuple(tokens[i : i + k + 1]) for i in range(len(tokens) - k)) for tokens in split]
        assert len(set(gram)) == len(set().union(*grams))
        assert [sorted(count[text == t]) for t in range(3)] == [sorted(g.values()) for g in grams]
