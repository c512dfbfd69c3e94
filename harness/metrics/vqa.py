"""Answers to questions: official VQA v2 and TextVQA accuracy, ANLS, relaxed accuracy, exact match, token F1, choices.

Each function takes one prediction for each question and that question's references. A prediction of None, where there
is no answer, counts as wrong. The official scorers are followed to the letter, oddities included, because a number is
compared with published ones.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache

import numpy as np
from rapidfuzz.distance.Levenshtein import distance as levenshtein

from harness.errors import UserError
from harness.metrics import Metric, Scored, averaged, mean
from harness.metrics.text import NUMBER_WORDS, REMEMBERED, normalise, tokens

Predictions = Sequence[str | None]
References = Sequence[Sequence[str]]

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_PERIOD = re.compile(r"\.(?!\d)")
_PERIODS_REMOVED = 32
"""At most so many periods are removed: the official script passes re.UNICODE (32) where re.sub takes a count."""
_GROUPED_DIGITS = re.compile(r"\d,\d")
_NUMBER = NUMBER_WORDS | {"none": "0"}
_ARTICLES = {"a", "an", "the"}
_RESTORED = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've
o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're
there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've
when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't
wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""
_CONTRACTIONS = {
    word[:i] + word[i + 1 :]: word for word in _RESTORED.split() for i, letter in enumerate(word) if letter == "'"
}
"""The official table: every form that lacks one apostrophe, with the form that has it. Its capitalised entries are left
out, because they never match text in lower case."""
_CONTRACTIONS["somebody'd"] = "somebodyd"  # as it stands in that table


# VQA v2 and TextVQA ---------------------------------------------------------------------------------------------------


def _flat(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def _without_punctuation(text: str) -> str:
    """The official script's rule: a mark becomes a space; but it goes altogether, wherever it stands, if it touches a
    space anywhere or if the text has a number with a thousands separator."""
    grouped = _GROUPED_DIGITS.search(text) is not None
    out = text
    for mark in _PUNCTUATION:
        touches_space = mark + " " in text or " " + mark in text
        out = out.replace(mark, "" if touches_space or grouped else " ")
    return _PERIOD.sub("", out, count=_PERIODS_REMOVED)


def _words(text: str) -> str:
    numbers = (_NUMBER.get(word, word) for word in text.lower().split())
    return " ".join(_CONTRACTIONS.get(word, word) for word in numbers if word not in _ARTICLES)


def _vqa_normal(text: str) -> str:
    return _words(_without_punctuation(text))


def _textvqa_normal(text: str) -> str:
    lowered = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    return _vqa_normal(_flat(lowered))


def _leave_one_out(matches: int, answers: int) -> float:
    """The mean over all annotators of min(1, matches among the others / 3).

    >>> _leave_one_out(matches=3, answers=10)  # for three of them 2 / 3, for the other seven 1
    0.9
    """
    agree = min(1.0, (matches - 1) / 3) if matches else 0.0
    return (matches * agree + (answers - matches) * min(1.0, matches / 3)) / answers


FEWEST_ANNOTATORS = 4
"""With fewer human answers, not even an answer that all of them gave is fully right by the official rule."""


def _need(name: str, references: References, fewest: int, most: float) -> None:
    for number, answers in enumerate(references, 1):
        if not fewest <= len(answers) <= most:
            few = "ten" if most == fewest else f"at least {fewest}"
            raise UserError(
                f"{name} needs {few} human answers to each question; question {number} has {len(answers)}. "
                "Choose another metric, such as exact_match."
            )


def vqa_accuracy(predictions: Predictions, references: References) -> Scored:
    """VQA v2's official accuracy (Goyal et al. 2017), which is made for ten human answers and takes any number of them.

    Raises UserError where a question has fewer than FEWEST_ANNOTATORS.
    """
    _need("vqa_accuracy", references, FEWEST_ANNOTATORS, math.inf)

    def score(prediction: str, answers: Sequence[str]) -> float:
        prediction, answers = _flat(prediction), [_flat(answer) for answer in answers]
        if len(set(answers)) > 1:
            prediction, answers = _vqa_normal(prediction), [_vqa_normal(answer) for answer in answers]
        return _leave_one_out(answers.count(prediction), len(answers))

    definition = "VQA v2 evaluation: mean over the annotators, ten as a rule, of min(1, matches among the others / 3)"
    return _each("vqa_accuracy", definition, predictions, references, score)


def textvqa_accuracy(predictions: Predictions, references: References) -> Scored:
    """TextVQA's accuracy, as the M4C evaluator computes it. Raises UserError where a question has not ten answers."""
    _need("textvqa_accuracy", references, 10, 10)

    def score(prediction: str, answers: Sequence[str]) -> float:
        return _leave_one_out([_textvqa_normal(a) for a in answers].count(_textvqa_normal(prediction)), len(answers))

    definition = "TextVQA (M4C evaluator): as VQA accuracy, both sides always normalised"
    return _each("textvqa_accuracy", definition, predictions, references, score)


# Strings and numbers --------------------------------------------------------------------------------------------------


def anls(predictions: Predictions, references: References) -> Scored:
    """Average normalised Levenshtein similarity, as the DocVQA evaluation computes it.

    An answer scores 1 - distance / length with its most similar reference, and 0 where that is below 0.5. The length is
    that of the longer raw string; the distance is taken in lower case with white space collapsed.
    """

    def score(prediction: str, answers: Sequence[str]) -> float:
        best, plain = 0.0, _collapsed(prediction)
        for answer in answers:
            length = max(len(answer), len(prediction))
            # Beyond half of the length the distance is not looked for: the similarity counts 0 there.
            distance = levenshtein(_collapsed(answer), plain, score_cutoff=length // 2)
            best = max(best, 1 - distance / length if length else 1.0)
        return best if best >= 0.5 else 0.0

    definition = "ANLS, DocVQA evaluation: lower case, white space collapsed, similarities below 0.5 count 0"
    return _each("anls", definition, predictions, references, score)


def _collapsed(text: str) -> str:
    return " ".join(text.lower().split())


def _number(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


def relaxed_accuracy(predictions: Predictions, references: References) -> Scored:
    """ChartQA's accuracy (Masry et al. 2022, as in pix2struct): a number is right within 5 % of the target, any other
    answer where it equals the target but for case.

    A number that ends in "%" is divided by 100. A target of 0, and numbers with thousands separators, are compared as
    strings.
    """

    def score(prediction: str, answers: Sequence[str]) -> float:
        return float(any(_relaxed(prediction.strip(), answer.strip()) for answer in answers))

    definition = "ChartQA relaxed accuracy: numbers within 5 % of the target, other answers equal but for case"
    return _each("relaxed_accuracy", definition, predictions, references, score)


def _relaxed(prediction: str, target: str) -> bool:
    number, goal = _number(prediction), _number(target)
    if number is not None and goal:
        return abs(number - goal) / abs(goal) <= 0.05
    return prediction.lower() == target.lower()


_NORMAL = {
    "en": "SQuAD normalisation, numbers kept whole, full-width forms and number words read as ASCII",
    "zh": "full-width forms, Chinese numerals, punctuation and spaces normalised, numbers kept whole",
}


def exact_match(predictions: Predictions, references: References, language: str, simplify: bool = False) -> Scored:
    """Whether the answer equals any reference after normalising; `simplify` reads Traditional Chinese as Simplified."""

    def score(prediction: str, answers: Sequence[str]) -> float:
        plain = normalise(prediction, language, simplify)
        return float(any(plain == normalise(answer, language, simplify) for answer in answers))

    return _each("exact_match", f"equal to any reference after {_NORMAL[language]}", predictions, references, score)


def token_f1(predictions: Predictions, references: References, language: str, simplify: bool = False) -> Scored:
    """SQuAD's F1 of the bags of tokens with the best of the references; in Chinese, tokens are characters."""

    def score(prediction: str, answers: Sequence[str]) -> float:
        given = tokens(prediction, language, simplify)
        return max((_f1(given, tokens(answer, language, simplify)) for answer in answers), default=0.0)

    unit = "characters, Latin and digit runs whole" if language == "zh" else "words"
    definition = f"F1 of the bags of {unit}, best reference, after {_NORMAL[language]}"
    return _each("token_f1", definition, predictions, references, score)


def _f1(prediction: list[str], reference: list[str]) -> float:
    if not prediction or not reference:
        return float(prediction == reference)
    common = (Counter(prediction) & Counter(reference)).total()
    return 2 * common / (len(prediction) + len(reference))


# Multiple choice ------------------------------------------------------------------------------------------------------


def choice_accuracy(
    chosen: Sequence[int | None], right: Sequence[Collection[int]], otherwise: Sequence[float] | None = None
) -> Scored:
    """Whether the choice that an answer makes is a right one; no choice is wrong.

    `chosen` and `right` hold numbers of choices. A question without choices has nothing in `right`; it scores what
    `otherwise` says of it, so that sets which mix both kinds have one number.
    """
    values = [float(choice in some) for choice, some in zip(chosen, right, strict=True)]
    definition = "the choice read from the answer is right; no choice read is wrong"
    if otherwise is not None:
        values = [value if some else other for value, some, other in zip(values, right, otherwise, strict=True)]
        definition += "; a question without choices by exact match"
    return averaged("choice_accuracy", definition, values)


def extraction_failure_rate(chosen: Sequence[int | None], asked: Sequence[bool]) -> Scored:
    """The share of the answers to questions with choices that make no single choice.

    `asked` says which samples are such a question and have an answer; the others do not count.
    """
    rows = [(counts and choice is None, counts) for choice, counts in zip(chosen, asked, strict=True)]
    definition = "share of the answers from which no single choice could be read"
    metric = Metric("extraction_failure_rate", definition, mean, larger_is_better=False)
    return Scored(metric, np.asarray(rows, dtype=np.float64).reshape(-1, 2))


def _each(
    name: str,
    definition: str,
    predictions: Predictions,
    references: References,
    score: Callable[[str, Sequence[str]], float],
) -> Scored:
    """The average of `score`, where a missing answer scores 0. Equal answers to equal references are scored once."""
    once = lru_cache(maxsize=REMEMBERED)(score)
    pairs = zip(predictions, references, strict=True)
    values = (0.0 if p is None else once(p, tuple(answers)) for p, answers in pairs)
    return averaged(name, definition, np.fromiter(values, np.float64, len(predictions)))
