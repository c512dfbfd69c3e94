"""The pocket data set: pocket scenes as samples for all four tasks. It is generated, so nothing has to be fetched.

Whoever trains on the same material takes it from where it is made: pictures and their dense labels from `scenes`,
questions, captions and labels from `text`, clips from `speech`.

What is asked about a split is fixed:

    vqa                    two questions about each of its 1,000 scenes
    vqa of pocket-audio    two questions about each of 600 listening scenes, each with a clip of its own
    captioning, retrieval  the first 500 scenes, whose captions are unique
    classification         the kind of the main object of each of 1,000 close-ups

Questions are drawn so that every type has its share, and within a type no answer is much more frequent than another.
Both languages ask the same. Pictures of the validation and test splits are kept in the cache folder.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.dataset import Dataset, LazySequence
from harness.errors import UserError
from harness.pocket import scenes as pocket_scenes
from harness.pocket import speech as pocket_speech
from harness.pocket import text as pocket_text
from harness.pocket.scenes import MAKERS, SIZES, Scene, Split, Stream
from harness.pocket.text import CATEGORIES, SPOKEN_CATEGORIES, Question
from harness.records import Language, Media, Sample
from harness.store.files import cache_folder, replacing

if TYPE_CHECKING:
    from harness.config.specs import DatasetSpec

GALLERY = 500
"""How many scenes are captioned and searched."""
LISTENING = 600
"""How many listening scenes are asked about."""
PRIOR_SCENES = 1_200
"""How many scenes of the train split the prior reference row is counted from."""


def load(name: str, spec: DatasetSpec, task: str, language: Language, split: str | None = None) -> Dataset:
    """The samples of a task. `spec.subset` "audio" stands for questions about a scene and a spoken digit.

    Raises UserError for a split that does not exist.
    """
    wanted = split or spec.split
    if wanted not in SIZES:
        raise UserError(f"Data set '{name}' has no split '{wanted}'; it has {', '.join(SIZES)}.")
    items = _items(task, spec.subset == "audio", wanted, SIZES[wanted])  # pyright: ignore[reportArgumentType]
    train = _items(task, spec.subset == "audio", "train", PRIOR_SCENES)
    prior: dict[str, list[str]] = {}
    for item in train:
        prior.setdefault(item.category if spec.prior_by else "", []).append(item.reference(language))
    return Dataset(
        name=name,
        language=language,
        samples=_Samples(items, language),
        labels=pocket_text.labels(language) if task == "classification" else (),
        modalities=tuple(spec.modalities),  # pyright: ignore[reportArgumentType]
        prior={value: tuple(references) for value, references in prior.items()},
        prior_by=spec.prior_by,
        prior_split="train",
        metric=spec.metric,
    )


@dataclass(frozen=True, slots=True)
class Item:
    """One sample before it has a language."""

    scene: Scene
    category: str = ""
    """The type of its question; empty where nothing is asked."""
    number: int = 0
    """The place of its question among all questions of this type about the scene, from 0."""
    label: bool = False
    """Whether the reference is the main object's kind, instead of a caption."""

    def question(self, language: Language) -> Question | None:
        if not self.category:
            return None
        spoken = self.category in SPOKEN_CATEGORIES
        ask = pocket_text.spoken_questions if spoken else pocket_text.questions
        return ask(self.scene, language, self.category)[self.number]

    def reference(self, language: Language) -> str:
        if question := self.question(language):
            return question.answer
        if self.label:
            return pocket_text.word(self.scene.objects[0].kind, language)
        return pocket_text.caption(self.scene, language)


class _Samples(LazySequence[Sample]):
    """Items put into a language. Their pictures come from the cache."""

    def __init__(self, items: Sequence[Item], language: Language) -> None:
        self.items = items
        self.language: Language = language

    def __len__(self) -> int:
        return len(self.items)

    def item(self, index: int) -> Sample:
        item, language = self.items[index], self.language
        scene, question = item.scene, item.question(language)
        media = [Media("image", scene.id, _picture(scene), where=f"pocket {scene.id}")]
        sample_id = scene.id
        if question:
            sample_id = f"{scene.id}-{item.category}-{item.number}"
            if question.spoken is not None:
                sound = pocket_speech.clip(scene.split, question.spoken, language, sample_id)
                key = f"{sample_id}-{language}"
                media.append(Media("audio", key, sound, where=f"pocket {key}", rate=pocket_speech.RATE))
        return Sample(
            id=sample_id,
            cluster=scene.id,
            language=language,
            media=tuple(media),
            question=question.question if question else "",
            references=(item.reference(language),),
            slices={"category": item.category, "form": question.form} if question else {},
        )


@cache
def _items(task: str, audio: bool, split: Split, scenes: int) -> tuple[Item, ...]:
    """What a task asks of the first `scenes` scenes of a split."""
    if task == "vqa":
        ask = spoken_questions_of if audio else questions_of
        return tuple(ask(split, min(scenes, LISTENING) if audio else scenes))
    if task == "classification":
        return tuple(Item(pocket_scenes.closeup(split, index), label=True) for index in range(scenes))
    count = scenes if split == "train" else min(scenes, GALLERY)
    return tuple(Item(pocket_scenes.scene(split, index)) for index in range(count))


def questions_of(split: Split, scenes: int) -> Iterator[Item]:
    """Two questions about each scene. In every three scenes (with 2, 3 and 4 objects) is one of each of six types.

    Which scene gets which type is drawn, but for two rules: questions of count go to scenes of 2, 3 and 4 objects in
    turn, and those of relation to scenes of 3 and 4. Yes and no alternate within each wording.
    """
    seen: Counter[tuple[str, str]] = Counter()
    for block in range((scenes + 2) // 3):
        draw = random.Random(f"pocket/questions/{split}/{block}")
        asked: list[list[str]] = [[], [], []]
        asked[block % 3].append("count")
        asked[1 + block // 3 % 2].append("relation")
        rest = ["kind", "colour", "position", "yes-no"]
        draw.shuffle(rest)
        for place in asked:
            while len(place) < 2:
                place.append(rest.pop())
        for offset, categories in enumerate(asked):
            if (index := block * 3 + offset) >= scenes:
                return
            scene = pocket_scenes.scene(split, index)
            for category in sorted(categories, key=CATEGORIES.index):
                found = list(enumerate(pocket_text.questions(scene, "en", category)))
                if category == "yes-no":
                    forms = sorted({question.form for _, question in found})
                    wanted = forms[block // 2 % len(forms)], ("yes", "no")[block % 2]
                    found = [(n, question) for n, question in found if (question.form, question.answer) == wanted]
                yield Item(scene, category, _rarest(found, seen, draw))


def spoken_questions_of(split: Split, scenes: int) -> Iterator[Item]:
    """Two questions about each listening scene. In every four scenes there are two of each type; yes and no balance."""
    seen: Counter[tuple[str, str]] = Counter()
    for index in range(scenes):
        draw = random.Random(f"pocket/spoken questions/{split}/{index}")
        scene = pocket_scenes.listening_scene(split, index)
        # Each type meets scenes of 3 and of 4 objects, which alternate, equally often.
        pair = SPOKEN_CATEGORIES[:2] if index % 4 in (0, 3) else SPOKEN_CATEGORIES[2:]
        for category in pair:
            found = list(enumerate(pocket_text.spoken_questions(scene, "en", category)))
            if category == "spoken-presence":
                found = [(n, question) for n, question in found if question.answer == ("yes", "no")[index // 4 % 2]]
            yield Item(scene, category, _rarest(found, seen, draw))


def _rarest(found: list[tuple[int, Question]], seen: Counter[tuple[str, str]], draw: random.Random) -> int:
    """The number of the question whose wording and answer were asked least so far. Among several, one is drawn."""
    draw.shuffle(found)
    number, question = min(found, key=lambda pair: seen[pair[1].form, pair[1].answer])
    seen[question.form, question.answer] += 1
    return number


def _picture(scene: Scene) -> np.ndarray:
    """A scene's pixels: uint8 [64, 64, 3]. For the splits that are measured on they come from the cache."""
    if scene.split == "train":
        return pocket_scenes.render(scene)
    return pictures(scene.stream, scene.split)[scene.index]


@cache
def pictures(stream: Stream, split: Split) -> np.ndarray:
    """All pictures of a stream: uint8 [1000, 64, 64, 3], mapped from the cache.

    A file that is absent or damaged is made anew. Where no cache can be written, the pictures are made in memory.
    """
    folder = cache_folder() / "pocket"
    data = folder / f"{stream}-{split}-{_version()}.npy"
    note = data.with_suffix(".json")
    try:
        if json.loads(note.read_text(encoding="utf-8"))["sha256"] == _sha256(data):
            return np.load(data, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, KeyError, TypeError):
        pass  # absent, cut short or of another form: made anew below
    made = np.stack([pocket_scenes.render(MAKERS[stream](split, index)) for index in range(SIZES[split])])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(data, shared=True) as file:
            np.save(file, made)
        description = {"sha256": _sha256(data), "stream": stream, "split": split, "shape": list(made.shape)}
        with replacing(note, shared=True) as file:
            file.write(json.dumps(description).encode())
    except OSError:  # a read-only home or a full disk costs a second, not the run
        pass
    return made


@cache
def _version() -> str:
    """A short hash of what the pictures depend on, which is the code that makes them."""
    return hashlib.sha256(Path(pocket_scenes.__file__).read_bytes()).hexdigest()[:12]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
