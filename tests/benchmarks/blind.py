"""What do the pocket questions give away to who does not look, does not listen, or is not told the question?

A benchmark measures eyes only as far as it cannot be answered without them. Here guessers that lack one thing and have
everything else, the true scene instead of its picture and the true digit instead of its clip included, learn from the
train split and are scored by exact match on the test split, type by type:

    prior              the type's most frequent train answer
    question: words    the question alone: logistic regression on its 1- to 3-grams (Chinese: characters)
    question: table    the question alone: the most frequent train answer to the very same one; they come from
                       templates, so that no learner gets more out of them
    scene              gradient boosting that knows every object's kind, colour and position, and which answers the
                       questions about such a scene have, and guesses among all of them
    scene, type        the same, told the type: all that is lacking is which thing in the scene is meant
    wording, count     the most frequent train answer to the same wording (whatever it names) for as many objects
    unbound            gradient boosting on the question and the lists of kinds, colours and positions in the scene:
                       all that is lacking is which belongs to which

Of pocket-audio: the question and the digit without the scene, the question and the scene without the clip, and scene
and digit without the question.

A number above the prior is no fault where it follows from what is known: the type and the scene narrow a colour down to
those that are there, and the lists give a count. It is one where nothing relevant is known. n is 333 a type (300 with
audio), so that one percentage is known to 5 points at the most, and one in twenty misses by more.

    python tests/benchmarks/blind.py [train scenes]        a minute for 12,000
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from harness.pocket import samples as pocket
from harness.pocket import text as pocket_text
from harness.pocket.scenes import COLOURS, KINDS, POSITIONS
from harness.pocket.text import CATEGORIES, SPOKEN_CATEGORIES

FORMS = list(pocket_text._TEXTS["en"])
ANSWERS = pocket_text.answers("en")


class Case:
    """A question with everything that a guesser may be told of it."""

    def __init__(self, item, language):
        question = item.question(language)
        self.scene, self.type, self.form, self.language = item.scene, item.category, question.form, language
        self.text, self.answer, self.digit = question.question, question.answer, question.spoken


def cases(audio, split, scenes, language):
    ask = pocket.spoken_questions_of if audio else pocket.questions_of
    return [Case(item, language) for item in ask(split, scenes)]


# Guessers: from train cases to what they say to test cases ------------------------------------------------------------


def table(train, test, known):
    """The most frequent train answer where the same was `known`; where it never was, the type's."""
    seen, usual = defaultdict(Counter), defaultdict(Counter)
    for case in train:
        seen[known(case)][case.answer] += 1
        usual[case.type][case.answer] += 1
    return [(seen.get(known(case)) or usual[case.type]).most_common(1)[0][0] for case in test]


def words(train, test):
    """Logistic regression on the question's n-grams."""
    cut = list if train[0].language == "zh" else str.split
    grams = CountVectorizer(ngram_range=(1, 3), tokenizer=cut, token_pattern=None)
    model = make_pipeline(grams, LogisticRegression(max_iter=300))
    return model.fit([c.text for c in train], [c.answer for c in train]).predict([c.text for c in test])


def boosted(train, test, possible):
    """Gradient boosting: `possible` gives each case's possible answers, and what is known of each as numbers; said is
    the one that looks most like an answer."""
    rows, right = [], []
    for case in train:
        for answer, row in possible(case).items():
            rows.append(row)
            right.append(answer == case.answer)
    model = HistGradientBoostingClassifier(random_state=0).fit(np.array(rows), right)
    found = [possible(case) for case in test]
    scores = iter(model.predict_proba(np.array([row for answers in found for row in answers.values()]))[:, 1])
    return [max(answers, key={answer: next(scores) for answer in answers}.__getitem__) for answers in found]


def by_type(train, test, possible):
    """The same with one guesser for each type."""
    said = np.empty(len(test), dtype=object)
    for type_ in dict.fromkeys(case.type for case in test):
        at = [i for i, case in enumerate(test) if case.type == type_]
        said[at] = boosted([case for case in train if case.type == type_], [test[i] for i in at], possible)
    return said


# What is known of an answer -------------------------------------------------------------------------------------------


def in_scene(case, types, clip=False):
    """The answers that questions of `types` can have about the scene (with `clip`: and the digit spoken): the share of
    each type's questions that have it, the object it is an attribute of, and what the scene is like."""
    ask = pocket_text.questions if case.digit is None else pocket_text.spoken_questions
    shares = {}
    for place, type_ in enumerate(types):
        asked = [q for q in ask(case.scene, case.language, type_) if not clip or q.spoken == case.digit]
        for question in asked:
            shares.setdefault(question.answer, [0.0] * len(types))[place] += 1 / len(asked)
    heard = clip and any(int(thing.kind) == case.digit for thing in case.scene.digits)
    return {answer: [*share, *owner(answer, case.scene), *like(case.scene), heard] for answer, share in shares.items()}


def owner(answer, scene):
    """The object that has this kind, colour or position: its place in reading order, position, kind and colour."""
    for place, thing in enumerate(scene.objects):
        if answer in (thing.kind, thing.colour, POSITIONS[thing.position]):
            kind, colour = KINDS.index(thing.kind), list(COLOURS).index(thing.colour)
            return place, thing.position, kind, thing.kind.isdigit(), colour
    return -1, -1, -1, -1, -1


def like(scene):
    """How many objects and digits, and which cells are taken."""
    return len(scene.objects), len(scene.digits), sum(1 << thing.position for thing in scene.objects)


def unbound(case):
    """The answers that the scene's lists leave open, and what question and lists say of them."""
    things = case.scene.objects
    left = {
        "colour": [thing.colour for thing in things],
        "position": [POSITIONS[thing.position] for thing in things],
        "count": list("01234"),
        "yes-no": ["yes", "no"],
    }.get(case.type, [thing.kind for thing in things])
    named = next((place for place, name in enumerate(POSITIONS) if name in case.text), -1)
    known = (FORMS.index(case.form), named, *like(case.scene))
    blank = (-1,) * len(known)
    rows = {}
    for answer in dict.fromkeys(left):
        itself = (ANSWERS.index(answer), answer.isdigit(), answer in POSITIONS and POSITIONS.index(answer))
        # Columns of its own for "no": a tree sees nothing in what is as true of the right answer as of the wrong one.
        there = (*blank, *known) if answer == "no" else (*known, *blank)
        rows[answer] = [*itself, f" {answer}?" in case.text, *there]
    return rows


# Tables ---------------------------------------------------------------------------------------------------------------


def show(title, test, types, columns):
    print(f"\n### {title}\n\n| type | n | {' | '.join(columns)} |\n|---|---:|{'---:|' * len(columns)}")
    for type_ in (*types, "all"):
        at = [i for i, case in enumerate(test) if type_ in (case.type, "all")]
        shares = [np.mean([said[i] == test[i].answer for i in at]) for said in columns.values()]
        print(f"| {type_} | {len(at)} | {' | '.join(f'{share:.1%}' for share in shares)} |", flush=True)


def silent(language, train_scenes):
    """Questions about a scene."""
    train, test = cases(False, "train", train_scenes, language), cases(False, "test", 1_000, language)
    columns = {
        "prior": table(train, test, lambda case: case.type),
        "question: words": words(train, test),
        "question: table": table(train, test, lambda case: case.text),
    }
    if language == "en":  # scenes speak no language
        columns |= {
            "scene": boosted(train, test, lambda case: in_scene(case, CATEGORIES)),
            "scene, type": by_type(train, test, lambda case: in_scene(case, [case.type])),
            "wording, count": table(train, test, lambda case: (case.form, len(case.scene.objects))),
            "unbound": by_type(train, test, unbound),
        }
    show(f"pocket, {language}", test, CATEGORIES, columns)


def spoken(train_scenes):
    """Questions about a scene and a clip; each type has one wording, so that the question is its type."""
    train, test = cases(True, "train", train_scenes, "en"), cases(True, "test", pocket.LISTENING, "en")
    columns = {
        "prior": table(train, test, lambda case: case.type),
        "question: table": table(train, test, lambda case: case.text),
        "question, digit": table(train, test, lambda case: (case.text, case.digit)),
        "question, scene": by_type(train, test, lambda case: in_scene(case, [case.type])),
        "scene, digit": boosted(train, test, lambda case: in_scene(case, SPOKEN_CATEGORIES, clip=True)),
    }
    show("pocket-audio, en", test, SPOKEN_CATEGORIES, columns)


def main(train_scenes):
    print(f"{train_scenes:,} train scenes, two questions each; the whole test split; exact match")
    silent("en", train_scenes)
    silent("zh", train_scenes)
    spoken(train_scenes)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 12_000)
