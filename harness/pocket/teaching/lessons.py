"""What the bundled models are taught: pictures of the pocket train split, with questions, captions and dense labels.

Everything is drawn from a numpy generator, so a lesson is a function of the seed and the step. Only the train split is
taught and only the validation split examined; nothing here can reach the test split.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Literal

import numpy as np

from harness.pocket import scenes as pocket_scenes
from harness.pocket import speech as pocket_speech
from harness.pocket import text as pocket_text
from harness.pocket.scenes import COLOURS, KINDS, SIZES, Object, Scene, Stream
from harness.records import Language

if TYPE_CHECKING:
    import torch

LANGUAGES: tuple[Language, ...] = ("en", "zh")
TaughtSplit = Literal["train", "validation"]


@dataclass(frozen=True, slots=True)
class Lesson:
    """One thing to say about a picture: what is asked, and the right answer."""

    prompt: str
    answer: str
    category: str
    language: Language
    spoken: int | None = None
    """The digit that the clip speaks, where there is one."""
    about: Object | None = None
    """The object that the question names, where it names one that is there."""


@cache
def prompts() -> dict[str, dict[str, str]]:
    """The wording in conf/prompt/pocket.yaml: {field: {language: template}}."""
    import yaml

    return yaml.safe_load(files("harness.conf").joinpath("prompt/pocket.yaml").read_text(encoding="utf-8"))


def draw_scenes(rng: np.random.Generator, count: int, stream: Stream = "scenes") -> list[Scene]:
    """Draw `count` scenes of the train split."""
    return [pocket_scenes.MAKERS[stream]("train", int(i)) for i in rng.integers(0, SIZES["train"], count)]


def pixels(scenes: Sequence[Scene]) -> torch.Tensor:
    """The pictures of scenes: float [n, 3, 64, 64] in -1..1."""
    import torch

    images = torch.from_numpy(np.stack([pocket_scenes.render(s) for s in scenes]))
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def dense_labels(scenes: Sequence[Scene]) -> torch.Tensor:
    """What stands where, int64 [n, 5, 2]: kind and colour in each of the four cells, then those of a close-up's main
    object; 0 is for nothing."""
    import torch

    colours = list(COLOURS)
    rows = []
    for scene in scenes:
        main = (0, 0)
        if scene.stream == "closeups":
            main = (1 + KINDS.index(scene.objects[0].kind), 1 + colours.index(scene.objects[0].colour))
        rows.append([*scene.cells(), main])
    return torch.tensor(rows)


def cell_words(scenes: Sequence[Scene], tokens: Callable[[str], Sequence[int]]) -> torch.Tensor:
    """The words for what stands in each cell and for the cell itself: int64 [n, 4, 8], -1 in empty cells and close-ups.

    They are the first tokens of colour and kind and the two tokens of the position, in both languages. Naming them at
    an image's tokens teaches a decoder what those tokens mean and where they are.
    """
    import torch

    rows = torch.full((len(scenes), 4, 8), -1)
    for row, scene in enumerate(scenes):
        for thing in scene.objects if scene.stream != "closeups" else ():
            named = []
            for language in LANGUAGES:
                named += [tokens(pocket_text.word(word, language))[0] for word in (thing.colour, thing.kind)]
                named += tokens(pocket_text.word(pocket_scenes.POSITIONS[thing.position], language))[:2]
            rows[row, thing.position] = torch.tensor(named)
    return rows


def about_labels(taught: Sequence[Lesson]) -> torch.Tensor:
    """What each question is about, int64 [n, 3]: an object's kind, colour and position; -1 is for what is not told.

    The kind of a digit that is spoken is told even where the picture does not have it: it can be heard.
    """
    import torch

    rows = []
    for lesson in taught:
        row = [-1, -1, -1]
        if lesson.spoken is not None:
            row[0] = lesson.spoken
        if (thing := lesson.about) is not None:
            row = [KINDS.index(thing.kind), list(COLOURS).index(thing.colour), thing.position]
        rows.append(row)
    return torch.tensor(rows).view(-1, 3)


def caption_lesson(scene: Scene, language: Language) -> Lesson:
    """A lesson that says what a scene shows."""
    return Lesson(prompts()["captioning"][language], pocket_text.caption(scene, language), "caption", language)


def closeup_lesson(scene: Scene, language: Language) -> Lesson:
    """A lesson that names a close-up's main object."""
    answer = pocket_text.word(scene.objects[0].kind, language)
    return Lesson(prompts()["classification"][language], answer, "closeup", language)


def question_lesson(scene: Scene, language: Language, rng: np.random.Generator, category: str) -> Lesson | None:
    """A question of one category; None where the scene has none. Yes and no are equally likely as its answer."""
    spoken = category in pocket_text.SPOKEN_CATEGORIES
    ask = pocket_text.spoken_questions if spoken else pocket_text.questions
    found = ask(scene, language, category)
    if not found:
        return None
    if category in ("yes-no", "spoken-presence"):
        answer = pocket_text.word("yes" if rng.random() < 0.5 else "no", language)
        found = [q for q in found if q.answer == answer]
    # A wording first, then a question of it: wordings with many questions would crowd out the others.
    form = rng.choice(sorted({q.form for q in found}))
    found = [q for q in found if q.form == form]
    question = found[int(rng.integers(len(found)))]
    template = prompts()["vqa"][language]
    prompt = template.format(question=question.question)
    return Lesson(
        prompt=prompt,
        answer=question.answer,
        category=category,
        language=language,
        spoken=question.spoken,
        about=question.about,
    )


def question_lessons(scene: Scene, rng: np.random.Generator, count: int, more: Sequence[str] = ()) -> list[Lesson]:
    """`count` questions about a scene. Categories and languages are drawn evenly; those in `more` come more often."""
    categories = [c for c in (*pocket_text.CATEGORIES, *more) if c != "relation" or len(scene.objects) > 2]
    order = [categories[i % len(categories)] for i in rng.permutation(max(count, len(categories)))[:count]]
    lessons = [question_lesson(scene, LANGUAGES[int(rng.integers(2))], rng, category) for category in order]
    return [lesson for lesson in lessons if lesson is not None]


def clip(lesson: Lesson, split: TaughtSplit, seed: int) -> np.ndarray:
    """The clip that a spoken lesson needs: float32 [8000] at `pocket_speech.RATE`."""
    if lesson.spoken is None:
        raise ValueError(f"The question '{lesson.prompt}' needs no clip.")
    return pocket_speech.clip(split, lesson.spoken, lesson.language, seed)


def label_text(scene: Scene, language: Language) -> str:
    """The text by which zero-shot classification names a close-up's main object."""
    return prompts()["image_labels"][language][0].format(label=pocket_text.word(scene.objects[0].kind, language))


def corpus() -> list[str]:
    """Texts in which every word of the pocket language occurs, to train a tokenizer on."""
    rng = np.random.default_rng(0)
    texts = [text for field in ("captioning", "classification") for text in prompts()[field].values()]
    for language in LANGUAGES:
        # As an answer a word begins the text, in a question it follows a space: both forms become tokens.
        texts += [form for word in pocket_text.answers(language) for form in (word, f" {word}")]
        for scene in draw_scenes(rng, 300) + draw_scenes(rng, 50, "listening"):
            texts.append(pocket_text.caption(scene, language))
            texts += [q.question for q in pocket_text.questions(scene, language)]
        for scene in draw_scenes(rng, 50, "closeups"):
            texts += [pocket_text.caption(scene, language), label_text(scene, language)]
        listening = draw_scenes(rng, 1, "listening")[0]
        texts += [q.question for q in pocket_text.spoken_questions(listening, language)]
    return texts


def examination(count: int, stream: Stream = "scenes", offset: int = 0) -> list[Scene]:
    """The first `count` scenes of the validation split, from `offset`."""
    return [pocket_scenes.MAKERS[stream]("validation", i) for i in range(offset, offset + count)]


def examine(count: int, *, spoken: bool = False, captions: bool = True) -> list[tuple[Scene, Lesson]]:
    """What generating models are examined on, always the same.

    They are asked a question of each category about `count` validation scenes, in the two languages by turns, and for
    the captions; the main object of as many close-ups; and, with `spoken`, what clips say about as many listening
    scenes.
    """
    rng = np.random.default_rng(1)
    asked: list[tuple[Scene, Lesson]] = []
    for number, scene in enumerate(examination(count)):
        for place, category in enumerate(pocket_text.CATEGORIES):
            lesson = question_lesson(scene, LANGUAGES[(number + place) % 2], rng, category)
            if lesson is not None:
                asked.append((scene, lesson))
        if captions:
            asked.append((scene, caption_lesson(scene, LANGUAGES[number % 2])))
    for number, scene in enumerate(examination(count, "closeups")):
        asked.append((scene, closeup_lesson(scene, LANGUAGES[number // 16 % 2])))
    for number, scene in enumerate(examination(count, "listening") if spoken else ()):
        for place, category in enumerate(pocket_text.SPOKEN_CATEGORIES):
            lesson = question_lesson(scene, LANGUAGES[(number + place) % 2], rng, category)
            if lesson is not None:
                asked.append((scene, lesson))
    return asked


def mark(asked: Sequence[tuple[Scene, Lesson]], answers: Sequence[str]) -> dict[str, float]:
    """The share of exactly right answers: `vqa` over all questions, then by category and, for captions, by language."""
    right: dict[str, list[bool]] = {}
    for (_, lesson), answer in zip(asked, answers, strict=True):
        name = f"caption_{lesson.language}" if lesson.category == "caption" else lesson.category
        right.setdefault(name, []).append(answer.strip() == lesson.answer)
    scores = {name: sum(marks) / len(marks) for name, marks in right.items()}
    questions = [m for name in pocket_text.CATEGORIES for m in right.get(name, [])]
    return {"vqa": sum(questions) / max(1, len(questions))} | scores


def recall_at_1(queries: torch.Tensor, gallery: torch.Tensor) -> float:
    """The share of `queries` [n, d] whose own row of `gallery` [n, d] scores highest; a tie counts as wrong."""
    scores = queries.float() @ gallery.float().T
    own = scores.diagonal()[:, None]
    return float(((scores >= own).sum(1) == 1).float().mean())
