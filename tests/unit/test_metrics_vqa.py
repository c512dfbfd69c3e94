"""Answers: the official accuracies with their oddities, string metrics, multiple choice, and answers that are none."""

import random

import numpy as np
import pytest

from harness.errors import UserError
from harness.metrics import vqa
from harness.metrics.answers import final_answer
from harness.metrics.choice import extract_choice, letter
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


def test_anls_is_that_of_a_plain_edit_distance_to_the_last_digit():
    def plain(a: str, b: str) -> int:
        row = list(range(len(b) + 1))
        for i, x in enumerate(a, 1):
            above, row = row, [i]
            for j, y in enumerate(b):
                row.append(min(above[j + 1] + 1, row[j] + 1, above[j] + (x != y)))
        return row[-1]

    draw = random.Random(0)
    for _ in range(2_000):
        prediction, *answers = ("".join(draw.choices("aB 猫", k=draw.randrange(12))) for _ in range(4))
        found = []
        for answer in answers:
            length = max(len(answer), len(prediction))
            distance = plain(" ".join(answer.lower().split()), " ".join(prediction.lower().split()))
            found.append(1 - distance / length if length else 1.0)
        assert one(vqa.anls, prediction, answers) == (max(found) if max(found) >= 0.5 else 0.0)


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


SAME = [
    ("1,000", "1000"), ("1,234.50", "1234.5"), ("3", "3.0"), ("3.50", "3.5"), (".5", "0.5"), ("−5", "-5"), ("–5", "-5"),
    ("+5", "5"), ("$5", "5"), ("5€", "5"), ("-$5", "$-5"), ("50 %", "50%"), ("1 / 2", "1/2"), ("3–5", "3-5"),
    ("３．５", "3.5"), ("(5)", "5."), ("3.0%", "3%"), ("C++.", "c++"),
    ("约3.50米", "约3.5米"), ("共1,000个", "共1000个"),
]  # fmt: skip
OTHER = [
    ("35", "3.5"), ("5", "-5"), ("10", "1.0"), ("314", "3.14"), ("12", "1/2"), ("1030", "10:30"), ("50", "50%"),
    ("2,5", "25"), ("3", "30"), ("51", "5:1"), ("35", "3-5"), ("123", "1.2.3"), ("23", "2**3"), ("v2.0", "v20"),
    ("1e5", "1e-5"), ("-1/2", "1/2"), ("A", ""), ("The", ""), ("A", "The"), ("...", "A"), ("+", "-"), ("C", "C++"),
    ("A+", "A-"), ("A", "A-"),
]  # fmt: skip


@pytest.mark.parametrize("language", ["en", "zh"])
def test_numbers_are_equal_by_their_value_and_not_by_their_digits(language):
    assert [pair for pair in SAME if one(vqa.exact_match, pair[0], [pair[1]], language) < 1] == []
    assert [pair for pair in OTHER if one(vqa.exact_match, pair[0], [pair[1]], language) > 0] == []
    numbers = [pair for pair in OTHER if pair[0].isdigit()]
    assert [pair for pair in numbers if one(vqa.token_f1, pair[0], [pair[1]], language) > 0] == []


def test_an_article_that_is_the_whole_answer_stands_for_itself():
    assert [normalise(text, "en") for text in ("A", "the A.", "a cat", "An", "")] == ["a", "a", "cat", "an", ""]


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


YES_NO, RIGHT_WRONG, THERE = ("是", "否"), ("正确", "错误"), ("有", "没有")
POLARITY = [
    # MME's rule: the first word, whatever is denied after it.
    (("yes", "no"), "Yes, there is no dog in the picture.", 0), (("yes", "no"), "No, the sign does not say yes.", 1),
    (("no", "yes"), "Yes — I can see no cars but one bus.", 1), (("Yes", "No"), "**No**. Yes would be wrong.", 1),
    (("yes", "no"), "Not really.", 1), (("yes", "no"), "The answer is no, not yes.", 1), (("yes", "no"), "Nope", 1),
    (("True", "False"), "False, though it is true to life", 1), (("True", "False"), "It is not true.", 1),
    (("True", "False"), "yes", 0), (("Correct", "Incorrect"), "not correct", 1), (("yes", "no"), "Answer: No", 1),
    (("Yes", "No", "Unknown"), "No, there is not", 1), (("Yes, it is", "No, it isn't"), "No.", 1),
    (("yes", "no"), "Not sure.", None), (("yes", "no"), "No idea", None), (("yes", "no"), "I don't know", None),
    (("yes", "no"), "Notice the dog", None), (("yes", "no"), "yes and no", None), (("left", "right"), "right", 1),
    # Chinese: what the first clause says, in any wording of the pair.
    (YES_NO, "不是", 1), (YES_NO, "不是的，图中是猫。", 1), (YES_NO, "是的，图中有一只狗。", 0), (YES_NO, "不对", 1),
    (YES_NO, "图中没有狗。", 1), (YES_NO, "这不是狗", 1), (YES_NO, "答案是否", 1), (YES_NO, "答案是：是", 0),
    (YES_NO, "没错", 0), (YES_NO, "是否有狗无法确定", None), (YES_NO, "不知道", None), (YES_NO, "图中是猫", None),
    (YES_NO, "No, it is a cat", 1), (RIGHT_WRONG, "不是", 1), (RIGHT_WRONG, "否", 1), (RIGHT_WRONG, "不对。", 1),
    (RIGHT_WRONG, "是的", 0), (RIGHT_WRONG, "这个说法不正确。", 1), (RIGHT_WRONG, "这个说法是正确的。", 0),
    (RIGHT_WRONG, "图中没有狗，所以正确", 0), (RIGHT_WRONG, "不是错误的", None), (RIGHT_WRONG, "正确答案是错误", 1),
    (("对", "错"), "不对", 1), (("对", "错"), "对的", 0), (("对", "错"), "对于这个问题，答案是错", 1), (THERE, "没", 1),
    (THERE, "图中没有狗", 1), (THERE, "图中有一只狗", 0), (THERE, "不是", 1), (THERE, "有可能", None),
    (("会", "不会"), "不会的", 1), (("能", "不能"), "不能", 1), (("能", "不能"), "不能确定", None),
    (("红", "不红"), "不红", 1),
    # No option is read behind what denies it.
    (("红色", "蓝色"), "不是红色，是蓝色", 1), (("红色", "蓝色"), "非红色", None), (("红色", "蓝色"), "非常红色", 0),
    (("猫", "狗"), "无猫", None), (("猫", "狗"), "未见猫", None), (("猫", "狗"), "没有看到猫，只有狗", 1),
    (("猫", "狗"), "不仅有猫", 0), (("正常", "异常"), "不正常", None), (("cat", "dog"), "not a cat", None),
    (("cat", "dog"), "I do not see a cat, I see a dog.", 1), (("cat", "dog"), "There is no dog, only a cat", 0),
    (("cat", "dog"), "not only a cat", 0),
]  # fmt: skip


@pytest.mark.parametrize("lettered", [True, False])
@pytest.mark.parametrize(("choices", "text", "index"), POLARITY)
def test_what_is_denied_is_not_read_and_a_yes_or_a_no_is(choices, text, index, lettered):
    language = "en" if choices[0].isascii() else "zh"
    assert extract_choice(final_answer(text).text, choices, language, lettered) == index


LANGUAGES = ("C++", "C", "Java", "C#")


@pytest.mark.parametrize(
    ("choices", "text", "lettered", "index"),
    [
        (LANGUAGES, "C++", True, 0), (LANGUAGES, "c#", True, 3), (LANGUAGES, "C", True, 2), (LANGUAGES, "C", False, 1),
        (LANGUAGES, "“Ｃ＋＋”", False, 0), (LANGUAGES, "B", False, None), (("A", "B", "C"), "(C)", False, 2),
        (("A", "B", "C"), "The answer is C.", False, 2), (("C", "B", "A"), "A", True, 0),
        (("C", "B", "A"), "A", False, 2), (("3", "3.5", "35"), "3.5", True, 1),
        (("3", "3.5", "35"), "It is 3.5 m", True, 1),
        (("5", "-5"), "It is −5.", True, 1), (("50", "50%"), "about 50%", True, 1), (("1/2", "12"), "12", True, 1),
        (("1/2", "12"), "It is 1/2", True, 0), (("cat", "dog", "cat"), "cat", True, 0), (("US", "us"), "US", False, 0),
        (("US", "us"), "Us", False, None),
    ],
)  # fmt: skip
def test_a_whole_choice_is_read_before_anything_is_normalised(choices, text, lettered, index):
    assert extract_choice(text, choices, "en", lettered) == index


@pytest.mark.parametrize(
    ("text", "index"),
    [("27", 26), ("(3)", 2), ("选项28", 27), ("Option 5.", 4), ("2. thing 2", 1), ("The answer is 12", 11),
     ("31", None), ("0", None), ("B", None), ("thing 7", 6), ("3.5", None)],
)  # fmt: skip
def test_more_choices_than_there_are_letters_are_named_by_number(text, index):
    assert extract_choice(text, [f"thing {i}" for i in range(1, 31)], "en") == index


DRESSES = ["B", "b", "(B)", "(b)", "B.", "B)", "Ｂ", "【B】", "（B）", "B、", "option B", "Option B.", "选项B",
           "选项B)", "B选项", "**B**", "“B”", "答案：B", "Answer: B"]  # fmt: skip


@pytest.mark.parametrize("text", DRESSES)
def test_a_bare_letter_is_itself_in_any_dress(text):
    assert letter(text) == 1
    assert extract_choice(text, ANIMALS["en"], "en") == 1


@pytest.mark.parametrize("text", ["A+", "A-", "C++", "C#", "AB", "B or C", "I am", "a cat", "1", "", "é"])
def test_what_is_more_than_a_letter_is_none(text):
    assert letter(text) is None


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
