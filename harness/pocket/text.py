"""What is said and asked about pocket scenes, in English and Chinese.

Every text is determined by the scene: one caption, in reading order, and for each question one right answer. The
question types (`category`):

    kind      What is the red object?  What is at the top left?
    colour    What colour is the 7?  What colour is the object at the top left?
    position  Where is the 7?  Where is the red object?
    relation  What is directly to the left of the 7?  (three objects or more: the answer is not "the other one")
    count     How many objects / digits / shapes are there?
    yes-no    Is the 7 red?  Is the 7 at the top left?  Is the red object at the top left?
              The false ones re-bind what is there: both things named do occur in the scene, but not together.

    about a clip that speaks a digit (`listening` scenes):
    spoken-colour, spoken-position   of the spoken digit, among three or four digits
    spoken-presence                  Is the spoken digit in the picture?
    spoken-sum                       What is the spoken digit plus the number of objects?
"""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.pocket.scenes import COLOURS, KINDS, POSITIONS, Object, Scene
from harness.records import Language

CATEGORIES = ("kind", "colour", "position", "relation", "count", "yes-no")
SPOKEN_CATEGORIES = ("spoken-colour", "spoken-position", "spoken-presence", "spoken-sum")


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a scene and its one right answer."""

    category: str
    form: str
    """The wording within its category, such as "kind by colour"."""
    question: str
    answer: str
    spoken: int | None = None
    """The digit that the clip must speak, for a question that needs one."""
    about: Object | None = field(default=None, repr=False)
    """The object that the question names (or its clip speaks), where it names one that is there."""


_ZH = {
    "red": "红色", "green": "绿色", "blue": "蓝色", "yellow": "黄色", "purple": "紫色", "white": "白色",
    "circle": "圆形", "square": "方形", "triangle": "三角形", "star": "星形", "cross": "十字形", "heart": "心形",
    "top left": "左上", "top right": "右上", "bottom left": "左下", "bottom right": "右下",
    "yes": "是", "no": "否",
}  # fmt: skip

_TEXTS: dict[str, dict[str, str]] = {
    "en": {
        "kind by colour": "What is the {colour} object?",
        "kind by position": "What is at the {position}?",
        "colour by kind": "What colour is the {kind}?",
        "colour by position": "What colour is the object at the {position}?",
        "position by kind": "Where is the {kind}?",
        "position by colour": "Where is the {colour} object?",
        "left": "What is directly to the left of the {kind}?",
        "right": "What is directly to the right of the {kind}?",
        "above": "What is directly above the {kind}?",
        "below": "What is directly below the {kind}?",
        "objects": "How many objects are there?",
        "digits": "How many digits are there?",
        "shapes": "How many shapes are there?",
        "kind and colour": "Is the {kind} {colour}?",
        "kind and position": "Is the {kind} at the {position}?",
        "colour and position": "Is the {colour} object at the {position}?",
        "spoken-colour": "What colour is the spoken digit?",
        "spoken-position": "Where is the spoken digit?",
        "spoken-presence": "Is the spoken digit in the picture?",
        "spoken-sum": "What is the spoken digit plus the number of objects?",
        "item": "a {colour} {kind} at the {position}",
        "closeup": "a large {colour} {kind}",
        "between": ", ",
    },
    "zh": {
        "kind by colour": "{colour}的是什么？",
        "kind by position": "{position}是什么？",
        "colour by kind": "{kind}是什么颜色？",
        "colour by position": "{position}的物体是什么颜色？",
        "position by kind": "{kind}在哪里？",
        "position by colour": "{colour}的物体在哪里？",
        "left": "{kind}的正左边是什么？",
        "right": "{kind}的正右边是什么？",
        "above": "{kind}的正上方是什么？",
        "below": "{kind}的正下方是什么？",
        "objects": "图中有几个物体？",
        "digits": "图中有几个数字？",
        "shapes": "图中有几个图形？",
        "kind and colour": "{kind}是{colour}的吗？",
        "kind and position": "{kind}在{position}吗？",
        "colour and position": "{colour}的物体在{position}吗？",
        "spoken-colour": "语音中的数字是什么颜色？",
        "spoken-position": "语音中的数字在哪里？",
        "spoken-presence": "语音中的数字在图中吗？",
        "spoken-sum": "语音中的数字加上物体的个数是多少？",
        "item": "{position}有{colour}的{kind}",
        "closeup": "一个大大的{colour}的{kind}",
        "between": "，",
    },
}


def word(english: str, language: Language) -> str:
    """A kind, colour, position, yes or no in `language`; digits and numbers stay as they are."""
    return english if language == "en" else _ZH.get(english, english)


def labels(language: Language) -> tuple[str, ...]:
    """The 16 kinds in `language`: the labels of classification."""
    return tuple(word(kind, language) for kind in KINDS)


def caption(scene: Scene, language: Language) -> str:
    """The one caption of a scene: every object with colour, kind and position, in reading order.

    A close-up's caption names its main object alone.
    """
    if scene.stream == "closeups":
        return _say("closeup", language, scene.objects[0])
    return _TEXTS[language]["between"].join(_say("item", language, thing) for thing in scene.objects)


def questions(scene: Scene, language: Language, category: str | None = None) -> list[Question]:
    """All questions about a scene (or those of one category), in a fixed order that is the same in both languages.

    There is a `yes-no` question for every pairing, right or wrong, so that most answers are "no": whoever draws one
    must draw the answer first.
    """
    makers = {"kind": _attributes, "colour": _attributes, "position": _attributes, "relation": _relations,
              "count": _counts, "yes-no": _claims}  # fmt: skip
    chosen = makers if category is None else {category: makers[category]}
    return [question for name, make in chosen.items() for question in make(scene, language, name)]


def spoken_questions(scene: Scene, language: Language, category: str | None = None) -> list[Question]:
    """All questions about a `listening` scene and a clip that speaks `Question.spoken`, in a fixed order."""
    digits = {int(thing.kind): thing for thing in scene.digits}

    def ask(category: str, answer: str, digit: int) -> Question:
        text = _say(category, language)
        return Question(
            category=category,
            form=category,
            question=text,
            answer=word(answer, language),
            spoken=digit,
            about=digits.get(digit),
        )

    asked = []
    for name in SPOKEN_CATEGORIES if category is None else (category,):
        if name == "spoken-presence":
            asked += [ask(name, "yes" if digit in digits else "no", digit) for digit in range(10)]
        elif name == "spoken-sum":
            asked += [ask(name, str(digit + len(scene.objects)), digit) for digit in range(10)]
        elif name == "spoken-colour":
            asked += [ask(name, thing.colour, digit) for digit, thing in digits.items()]
        else:
            asked += [ask(name, POSITIONS[thing.position], digit) for digit, thing in digits.items()]
    return asked


def answers(language: Language) -> tuple[str, ...]:
    """The closed set of answers: every one that any question can have."""
    names = (*KINDS, *COLOURS, *POSITIONS, "yes", "no", "10", "11", "12", "13")
    return tuple(word(name, language) for name in names)


def _facts(thing: Object) -> dict[str, str]:
    return {"kind": thing.kind, "colour": thing.colour, "position": POSITIONS[thing.position]}


def _say(form: str, language: Language, thing: Object | None = None, **instead: str) -> str:
    facts = (_facts(thing) if thing else {}) | instead
    return _TEXTS[language][form].format(**{name: word(value, language) for name, value in facts.items()})


def _attributes(scene: Scene, language: Language, asked: str) -> list[Question]:
    """Questions for one attribute of an object that is named by one of its other two."""
    return [
        Question(asked, form, _say(form, language, thing), word(_facts(thing)[asked], language), about=thing)
        for form in (f"{asked} by {given}" for given in ("kind", "colour", "position") if given != asked)
        if form in _TEXTS["en"]
        for thing in scene.objects
    ]


def _relations(scene: Scene, language: Language, category: str) -> list[Question]:
    if len(scene.objects) < 3:
        return []
    asked = []
    for thing in scene.objects:
        row, column = divmod(thing.position, 2)
        sideways = ("right", thing.position + 1) if column == 0 else ("left", thing.position - 1)
        upright = ("below", thing.position + 2) if row == 0 else ("above", thing.position - 2)
        for direction, position in (sideways, upright):
            if other := scene.at(position):
                text = _say(direction, language, thing)
                asked.append(Question(category, direction, text, word(other.kind, language), about=thing))
    return asked


def _counts(scene: Scene, language: Language, category: str) -> list[Question]:
    objects, digits = len(scene.objects), len(scene.digits)
    numbers = {"objects": objects, "digits": digits, "shapes": objects - digits}
    return [Question(category, form, _say(form, language), str(number)) for form, number in numbers.items()]


def _claims(scene: Scene, language: Language, category: str) -> list[Question]:
    return [
        Question(
            category,
            f"{first} and {second}",
            _say(f"{first} and {second}", language, thing, **{second: _facts(other)[second]}),
            word("yes" if thing is other else "no", language),
            about=thing,
        )
        for first, second in (("kind", "colour"), ("kind", "position"), ("colour", "position"))
        for thing in scene.objects
        for other in scene.objects
    ]
