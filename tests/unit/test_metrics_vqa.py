"""Answers: the official accuracies with their oddities, string metrics, multiple choice, and answers that are none."""

import random

import numpy as np
import pytest

from harness.errors import UserError
from harness.metrics import vqa
from harness.metrics.answers import final_answer
from harness.metrics.choice import extract_choice
from harness.metrics.hygiene import answer_hygiene, repeats_endlessly, wrong_language
from harness.metrics.text import arabic, normalise, tokens


def one(score, prediction, answers, *rest):
    return score([prediction], [answers], *rest).value


def ten(**counts):
    return [answer for answer, n in counts.items() for _ in range(n)]


# VQA v2 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("matches", "accuracy"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)])
def test_vqa_accuracy_is_the_mean_over_the_other_nine(matches, accuracy):
    assert one(vqa.vqa_accuracy, "red", ["red"] * matches + ["blue"] * (10 - matches)) == pytest.approx(accuracy)


def test_vqa_accuracy_is_the_leave_one_out_mean_on_random_answers():
    draw = random.Random(0)
    for _ in range(200):
        answers = [draw.choice(["red", "blue", "green"]) for _ in range(10)]
        prediction = draw.choice(["red", "blue", "pink"])
        left_out = [min(1, sum(a == prediction for j, a in enumerate(answers) if j != i) / 3) for i in range(10)]
        assert one(vqa.vqa_accuracy, prediction, answers) == pytest.approx(np.mean(left_out))


@pytest.mark.parametrize(
    ("prediction", "reference"),
    [
        ("Two.", "2"),
        ("The dog!", "dog"),
        ("none", "0"),
        ("dont", "don't"),
        ("couldnt've", "couldn't've"),
        ("1,000", "1000"),  # digit,digit: marks go
        ("black/white", "black white"),  # no space touched: a mark becomes a space
        ("black /white", "black white"),  # a mark that touches a space goes
        ("tom-cat", "tom cat"),
        ("3.5", "3.5"),  # a period before a digit stays
        ("p.m.", "pm"),
        ("a\ncat", "cat"),
        ("3'4", "3'4"),  # not in the list of marks
        ("50%", "50%"),
        ("Im", "im"),  # capitalised entries of the official table never match
    ],
)
def test_both_sides_are_normalised_as_the_official_script_does(prediction, reference):
    assert one(vqa.vqa_accuracy, prediction, [reference] * 9 + ["other"]) == 1.0
    assert vqa._vqa_normal(vqa._flat(prediction)) == reference


def test_only_the_first_32_periods_are_removed():
    assert vqa._vqa_normal("." * 40 + "x") == "." * 8 + "x"


def test_a_mark_that_touches_a_space_anywhere_is_removed_everywhere():
    assert vqa._vqa_normal("a-b c- d") == "ab c d"


def test_nothing_is_normalised_where_the_ten_answers_are_equal():
    assert one(vqa.vqa_accuracy, "Yes.", ["yes"] * 10) == 0.0
    assert one(vqa.vqa_accuracy, " yes\n", ["yes"] * 10) == 1.0
    assert one(vqa.vqa_accuracy, "Yes.", ["yes"] * 9 + ["no"]) == 1.0


def test_textvqa_always_normalises_and_splits_the_possessive():
    assert one(vqa.textvqa_accuracy, "Yes.", ["yes"] * 10) == 1.0
    assert one(vqa.textvqa_accuracy, "a,b", ["ab"] * 10) == 1.0
    assert one(vqa.vqa_accuracy, "a,b", ["ab"] * 9 + ["x"]) == 0.0
    assert one(vqa.textvqa_accuracy, "mcdonald's", ["mcdonald 's"] * 4 + ["x"] * 6) == 1.0


@pytest.mark.parametrize("score", [vqa.vqa_accuracy, vqa.textvqa_accuracy])
def test_fewer_than_ten_answers_are_refused_with_the_question_named(score):
    with pytest.raises(UserError, match=r"question 2 has 3.*exact_match"):
        score(["a", "b"], [["a"] * 10, ["b"] * 3])


def test_a_missing_answer_is_wrong_everywhere():
    references = [["yes"] * 10, ["yes"] * 10]
    for scored in (
        vqa.vqa_accuracy(["yes", None], references),
        vqa.textvqa_accuracy(["yes", None], references),
        vqa.exact_match(["yes", None], references, "en"),
        vqa.token_f1(["yes", None], references, "en"),
        vqa.anls(["yes", None], references),
        vqa.relaxed_accuracy(["yes", None], references),
        vqa.choice_accuracy([0, None], [{0}, {0}]),
    ):
        assert scored.value == 0.5
        assert scored.statistics[1, 0] == 0


# Strings and numbers --------------------------------------------------------------------------------------------------


def test_the_edit_distance_is_that_of_the_textbook():
    assert vqa.levenshtein("kitten", "sitting") == 3
    assert vqa.levenshtein("", "abc") == 3
    assert vqa.levenshtein("猫在", "狗在") == 1


@pytest.mark.parametrize(
    ("prediction", "answers", "value"),
    [
        ("Hello", ["hello"], 1.0),
        ("abcd", ["abxy"], 0.5),  # the threshold itself counts
        ("abcde", ["abxyz"], 0.0),
        ("a  b", ["a b"], 1.0),
        ("cat", ["dog", "cats"], 0.75),
        ("", [""], 1.0),
    ],
)
def test_anls_is_that_of_docvqa(prediction, answers, value):
    assert one(vqa.anls, prediction, answers) == pytest.approx(value)


@pytest.mark.parametrize(
    ("prediction", "target", "right"),
    [
        ("105", "100", True),
        ("94.9", "100", False),
        ("5%", "0.05", True),
        ("0.0", "0", False),  # a target of 0 compares as a string
        ("1,000", "1000", False),  # so do thousands separators
        ("Blue", "blue", True),
        ("2,000", "2,000", True),
    ],
)
def test_relaxed_accuracy_is_that_of_chartqa(prediction, target, right):
    assert one(vqa.relaxed_accuracy, prediction, [target]) == right


@pytest.mark.parametrize(
    ("language", "prediction", "reference"),
    [
        ("en", "The two Dogs.", "2 dogs"),
        ("en", "ＡＢＣ！", "abc"),
        ("en", "it's", "its"),
        ("zh", "两只猫。", "2只猫"),
        ("zh", "１２％", "12%"),
        ("zh", "三百零五 米", "305米"),
        ("zh", "红 色，", "红色"),
        ("zh", "1,000", "1000"),
        ("zh", "3.5米", "3.5米"),
        ("zh", "《T恤》", "t恤"),
    ],
)
def test_answers_are_normalised_by_language(language, prediction, reference):
    assert normalise(prediction, language) == reference
    assert one(vqa.exact_match, prediction, [reference], language) == 1.0


@pytest.mark.parametrize(
    ("numeral", "digits"),
    [("十", "10"), ("十二", "12"), ("二十", "20"), ("一百零三", "103"), ("一万两千", "12000"), ("二〇二四", "2024"),
     ("三亿五千万", "350000000")],
)  # fmt: skip
def test_chinese_numerals_are_read_as_digits(numeral, digits):
    assert arabic(numeral) == digits


def test_traditional_is_simplified_only_when_asked():
    pytest.importorskip("opencc")
    assert one(vqa.exact_match, "紅色", ["红色"], "zh") == 0.0
    assert one(vqa.exact_match, "紅色", ["红色"], "zh", True) == 1.0


def test_token_f1_is_that_of_squad():
    assert one(vqa.token_f1, "the red cat", ["a red dog", "cat"], "en") == pytest.approx(2 / 3)
    assert one(vqa.token_f1, "dog", ["red cat"], "en") == 0.0
    assert one(vqa.token_f1, "a the", ["the"], "en") == 1.0


def test_chinese_f1_counts_characters_and_whole_latin_runs():
    assert tokens("T恤 ABC 12个", "zh") == ["t", "恤", "abc", "12", "个"]
    assert one(vqa.token_f1, "红色的猫", ["红色"], "zh") == pytest.approx(2 * 2 / 6)


# Multiple choice ------------------------------------------------------------------------------------------------------

ANIMALS = {"en": ["cat", "dog", "wild cat", "horse"], "zh": ["猫", "狗", "野猫", "马"]}
READ = [
    ("en", "B", 1), ("en", "(C)", 2), ("en", "b.", 1), ("en", "B. dog", 1), ("en", "**C**", 2), ("en", "\\boxed{B}", 1),
    ("en", "The answer is option D because the other options are wrong.", 3),
    ("en", "the answer is D.", 3), ("en", "answer: b", 1), ("en", "Final answer: C", 2), ("en", "A is correct", 0),
    ("en", "The answer is A because it purrs", 0), ("en", "B is the answer", 1), ("en", "I think it is B", 1),
    ("en", "<think>Maybe A, or C.</think>B", 1), ("en", "<think>Maybe A, or C", None),
    ("en", "A. No wait, it's B", 1), ("en", "The answer is A. Actually, the answer is C.", 2),
    ("en", "Neither A nor B", None), ("en", "Neither A nor B, so C", 2), ("en", "The answer is not A but B", 1),
    ("en", "It isn't B, it's D", 3), ("en", "Option A is wrong. Option B is correct.", 1),
    ("en", "A is incorrect", None),
    ("en", "It can't be A or B, so it must be C", 2), ("en", "A, B and C are all wrong", None),
    ("en", "A or B", None), ("en", "The answer is A or B.", None), ("en", "None of the above", None),
    ("en", "I cannot determine the answer from the image.", None), ("en", "As an AI, I cannot see images.", None),
    ("en", "I'm sorry, but I can't help with that.", None), ("en", "", None), ("en", "E", None),
    ("en", "A dog is on the mat", 1), ("en", "A wild cat", 2), ("en", "The correct answer is a dog.", 1),
    ("en", "It is a dog, not a cat.", 1), ("en", "cats and dogs", None), ("en", "I think the animal is a horse.", 3),
    ("zh", "答案是B。", 1), ("zh", "选B", 1), ("zh", "答案：Ｃ", 2), ("zh", "正确答案为(D)", 3),
    ("zh", "B选项是正确的", 1),
    ("zh", "故选D.", 3), ("zh", "应选择 C 项", 2), ("zh", "选项C正确", 2),
    ("zh", "排除A和C，选D", 3), ("zh", "不是A，是B", 1), ("zh", "A不对，应该是B", 1),
    ("zh", "我认为是A，等等，不对，是C", 2),
    ("zh", "A和B都有可能", None), ("zh", "答案是A或B", None), ("zh", "抱歉，我无法回答这个问题。", None),
    ("zh", "野猫", 2), ("zh", "图中是一只野猫", 2), ("zh", "图中是一只狗，不是猫", 1),
]  # fmt: skip


@pytest.mark.parametrize(("language", "text", "index"), READ)
def test_the_choice_is_read_as_a_person_would(language, text, index):
    assert extract_choice(final_answer(text).text, ANIMALS[language], language) == index


def test_a_choice_is_right_if_it_is_one_of_the_right_ones():
    scored = vqa.choice_accuracy([1, 3, 2, None], [{1}, {0, 3}, {0}, {0}])
    assert scored.statistics[:, 0].tolist() == [1, 1, 0, 0]


def test_a_question_without_choices_is_scored_as_the_caller_says():
    scored = vqa.choice_accuracy([1, None, 0], [{1}, set(), {2}], otherwise=[0.0, 1.0, 1.0])
    assert scored.statistics[:, 0].tolist() == [1, 1, 0]
    assert "exact match" in scored.metric.definition


def test_extraction_failures_are_a_share_of_the_answers_given():
    scored = vqa.extraction_failure_rate([1, None, None, None], [True, True, False, False])
    assert scored.value == 0.5
    assert not scored.metric.larger_is_better


# Hygiene --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("language", "text", "wrong"),
    [("zh", "A red cat", True), ("zh", "红色的cat", False), ("zh", "B", False), ("zh", "42", False),
     ("en", "红色的猫", True), ("en", "a red cat", False), ("en", "the 猫 is red", False), ("en", "", False)],
)  # fmt: skip
def test_an_answer_in_the_other_language_is_noticed(language, text, wrong):
    assert wrong_language(text, language) == wrong


@pytest.mark.parametrize(
    ("text", "endless"),
    [
        ("the cat the cat the cat the cat the cat the c", True),
        ("A cat. " + "a red dog " * 20, True),
        ("红色的猫" * 8, True),
        ("no no no", False),
        ("A man rides a bike down the street next to a bus.", False),
        ("", False),
    ],
)
def test_endless_repetition_is_noticed(text, endless):
    assert repeats_endlessly(text) == endless


def test_hygiene_is_three_rates_over_the_answers_given():
    scored = answer_hygiene(["a cat", "", "猫猫", None], "en")
    assert {s.metric.name: s.value for s in scored} == pytest.approx(
        {"wrong_language_rate": 1 / 3, "empty_rate": 1 / 3, "repetition_rate": 0.0}
    )
