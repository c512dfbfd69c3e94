"""What flows through a run: Sample -> Request -> Answer -> Record. Start reading here.

A data set yields `Sample`s; a task turns a sample into a `Request`; an adapter gives an `Answer`; the engine writes a
`Record`, one JSON line that holds enough to score and show the sample again without the model or the data set. This
module imports nothing of ours and nothing heavy, so that every other one can build on it.
"""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

if TYPE_CHECKING:
    import numpy as np

Language = Literal["en", "zh"]
Modality = Literal["text", "image", "audio"]
Route = Literal["embed", "rank", "generate"]
Finish = Literal["stop", "length", "filter"]
"""What ended an answer: the model itself, the token limit, or a server's filter."""
Origin = Literal["in-house", "domestic", "international", "reference"]

FINISHES: tuple[Finish, ...] = get_args(Finish)
ORIGINS: tuple[Origin, ...] = get_args(Origin)
"""The origins of a report's rows: our own model, one made in China, one made elsewhere, or a row without a model."""
ABLATIONS = ("none", "text", "image", "audio", "shuffled-text", "shuffled-image", "shuffled-audio")
"""What a run may take out of its samples, or exchange for another sample's. `text` is the question."""
EXAMPLES = 100
"""So many samples of each cell are looked at for a report; the driver keeps thumbnails of the same ones."""


@dataclass(frozen=True, slots=True, eq=False)
class Media:
    """An image or a sound clip that is not decoded yet; `harness.media` opens it.

    Two media with the same `key` have the same content, so an engine may decode or embed it once.
    """

    kind: Literal["image", "audio"]
    key: str
    source: Path | bytes | np.ndarray
    """A file; an encoded file's bytes; or an array: image uint8 [h, w, 3], audio float32 [n] at `rate`."""
    where: str = ""
    """For messages: the data file and row that named this medium."""
    rate: int | None = None
    """Samples a second, for an audio array only."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Media) and (self.kind, self.key) == (other.kind, other.key)

    def __hash__(self) -> int:
        return hash((self.kind, self.key))


@dataclass(frozen=True, slots=True)
class Sample:
    """One row of a data set in one language."""

    id: str
    cluster: str
    """What it shares with other samples (an image, a passage): the unit of every interval."""
    language: Language
    media: tuple[Media, ...] = ()
    question: str = ""
    references: tuple[str, ...] = ()
    """VQA: accepted answers (ten raw ones where a data set has them); captions; classification: the true label."""
    choices: tuple[str, ...] = ()
    """The closed set to choose from, in the order shown; empty for an open question."""
    slices: Mapping[str, str] = field(default_factory=dict)
    """Fields to break scores down by, such as {"category": "colour"}."""
    order: tuple[int, ...] = ()
    """Where each of `choices` stands in the data set's own order; empty where they are shown in that order."""
    right: tuple[int, ...] = ()
    """The right choices (or labels), by their places in the data set's own order; empty for an open question."""
    group: str = ""
    """Samples of one group count once, and are right only if all of them are; empty for a sample by itself."""
    content: str = ""
    """Where an ablation has changed the words: the `text_digest` of the sample as it was."""
    positives: str = ""
    """Retrieval: what all samples have in common whose images and texts fit one another; empty: by content alone."""
    fault: str = ""
    """Why it cannot be asked about: its row is broken. It is recorded as failed, and the others go on."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a model is asked. Several parts in a request to embed mean one joint embedding.

    For `generate` and `rank` the parts hold the media, in order, then the prompt as the model's prompt profile words it
    (`conf/prompt/`), so an adapter never knows which data set or task a request comes from. Where a question or its
    options have places for images, images and pieces of the prompt alternate.
    """

    parts: tuple[Media | str, ...]
    choices: tuple[str, ...] = ()
    """For `rank`: score each of these as the answer."""
    max_new_tokens: int = 32
    language: Language = "en"
    min_new_tokens: int = 0
    """For `generate`: do not end before so many tokens; latency passes time answers of one length with it."""

    @property
    def text(self) -> str:
        """All text parts, joined by a line break where no blank parts them."""
        text = ""
        for part in self.parts:
            if isinstance(part, str):
                parted = not text or text[-1].isspace() or part[:1].isspace()
                text += part if parted else f"\n{part}"
        return text

    def media(self, kind: Literal["image", "audio"]) -> list[Media]:
        """The parts of one kind, in order."""
        return [part for part in self.parts if isinstance(part, Media) and part.kind == kind]


@dataclass(slots=True)
class Answer:
    """What came back for one generate request."""

    text: str
    tokens_in: int | None = None
    tokens_out: int | None = None
    finish: Finish | None = None
    """What ended it; None where the adapter cannot tell, and `tokens_out` decides."""
    reasoning: str = ""
    """What a server returned as reasoning, apart from the answer."""
    reasoning_tokens: int | None = None
    """So many of `tokens_out` were reasoning."""
    cost: float | None = None
    """What it cost, in the currency of the model's prices; None for a model without prices."""
    served_by: str = ""
    """The name of the model as the server gave it."""


class CellGroup(NamedTuple):
    """The key of the cells that are compared with one another: they differ in the model alone."""

    task: str
    dataset: str
    language: Language
    ablate: str = ""
    """One of ABLATIONS but "none": empty where nothing was taken out."""

    @classmethod
    def of(cls, cell: Mapping[str, Any]) -> CellGroup:
        """The group of a cell, from its entry in cell.json or summary.json."""
        return cls(cell["task"], cell["dataset"], cell["language"], cell.get("ablate") or "")

    @property
    def name(self) -> str:
        """Task, data set, language and ablation joined by points: the last part of a cell's key and of its folder."""
        return ".".join(filter(None, self))


@dataclass(slots=True)
class Record:
    """One line of `records.jsonl`: a sample (or a retrieval query) and what became of it.

    It repeats the sample's own fields so that scores, slices and reports can be made again from the file alone.
    """

    id: str
    cluster: str
    question: str = ""
    references: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    slices: Mapping[str, str] = field(default_factory=dict)
    media: tuple[str, ...] = ()
    """The media's keys: file paths where they are files."""
    order: tuple[int, ...] = ()
    """Where each of `choices` stands in the data set's own order; empty where they were shown in that order."""
    right: tuple[int, ...] = ()
    """The right choices (or labels), by their places in the data set's own order."""
    group: str = ""
    """Records of one group count once, and are right only if all of them are."""
    answer: str | None = None
    """The final answer: generated text, or the choice with the highest score; None after an error."""
    raw: str | None = None
    """The text as the model wrote it, where the final answer is another."""
    scores: tuple[float, ...] | None = None
    """A score for each choice, where choices were scored; larger is likelier."""
    chosen: int | None = None
    """Which of the choices as shown (or of the labels) has the highest score, where choices were scored; -1: none."""
    retrieval: Mapping[str, Any] | None = None
    """What became of a retrieval query: its direction, its rank, the first ids, the positives."""
    tokens_out: int | None = None
    cut_off: bool = False
    """Whether the token limit ended the answer."""
    tokens_in: int | None = None
    finish: Finish | None = None
    """What ended the answer; None where it is not known."""
    reasoning: str | None = None
    """What a server returned as reasoning, apart from the answer."""
    reasoning_tokens: int | None = None
    """So many of `tokens_out` were reasoning."""
    cost: float | None = None
    """What the answer cost, in the currency of the model's prices."""
    served_by: str | None = None
    """The name of the model as the server gave it."""
    refused: bool = False
    """Whether the model, or the filter of a server before it, declined to answer: `error` says how. It is an answer of
    its own kind, which counts as wrong and not as failed."""
    text_cut: bool = False
    """Whether the model saw less than the whole text, as its context is too short."""
    content: str = ""
    """What was asked and the references, by which two runs know that they asked the same: the `text_digest`, and behind
    it, after a hyphen each, the digests of the media's bytes as they were read, or ? for one that was not."""
    error: str | None = None
    """Why there is no answer: kind, message, file and row."""

    @property
    def best(self) -> int | None:
        """Which of the choices as shown (or of the labels) has the highest score; None where choices were not scored.

        Records of earlier versions hold the scores alone.
        """
        if self.chosen is not None or not self.scores:
            return self.chosen
        return self.scores.index(max(self.scores))

    @property
    def written(self) -> str | None:
        """The text as the model wrote it; None where choices were scored, a query was ranked, or no answer came."""
        if self.best is not None or self.retrieval is not None:
            return None
        return self.answer if self.raw is None else self.raw

    @property
    def unsound(self) -> str:
        """What no file can hold of an answer, or no score be made from; empty where there is nothing of the kind."""
        if self.scores is not None and not all(map(math.isfinite, self.scores)):
            return "a score is not a finite number"
        for count in (self.tokens_in, self.tokens_out, self.reasoning_tokens):
            if count is not None and not 0 <= count < _MOST_TOKENS:
                return "the count of its tokens is not one of tokens"
        if self.cost is not None and not 0 <= self.cost < math.inf:
            return "its cost is not one"
        for text in (self.answer, self.raw, self.reasoning, self.served_by):
            try:
                (text or "").encode()
            except UnicodeEncodeError:
                return "its text holds half a character (a lone surrogate)"
        return ""

    def to_json(self) -> dict[str, Any]:
        """A JSON object without the fields that are empty, but for `id`, `cluster` and an answer of no text."""
        row: dict[str, Any] = {"id": self.id, "cluster": self.cluster}
        for name in _MAY_BE_EMPTY:
            value = getattr(self, name)
            if (value is not False and value not in _EMPTY) or (name == "answer" and value is not None):
                row[name] = value
        return row

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Record:
        """The inverse of `to_json`; raises TypeError for an unknown field, KeyError never."""
        values: dict[str, Any] = {**row}
        for name in _LISTS:
            if values.get(name) is not None:
                values[name] = tuple(values[name])
        return cls(**values)


_MOST_TOKENS = 2**31
_MAY_BE_EMPTY = tuple(field.name for field in fields(Record) if field.name not in ("id", "cluster"))
_EMPTY: tuple[Any, ...] = (None, "", (), {})
_LISTS = ("references", "choices", "order", "right", "media", "scores")


def text_digest(question: str, references: Sequence[str] = (), choices: Sequence[str] = ()) -> str:
    """What a sample says in words, its choices in the data set's own order: 16 hex digits of a sha256."""
    words = json.dumps([question, list(references), list(choices)])
    return hashlib.sha256(words.encode()).hexdigest()[:16]


def sample_digest(sample: Sample) -> str:
    """The `text_digest` of a sample before any ablation."""
    if sample.content:
        return sample.content
    own = [choice for _, choice in sorted(zip(sample.order, sample.choices, strict=False))] if sample.order else []
    return text_digest(sample.question, sample.references, own or sample.choices)


def example_order(cluster: str, id_: str) -> tuple[int, int, str]:
    """The key by which the EXAMPLES of a cell are drawn: the lowest ones are taken.

    Whole clusters stand together, so that what they share is at hand, in an order that a hash decides. All models are
    therefore looked at with the same samples, and a report made again shows the same ones.
    """
    return zlib.crc32(cluster.encode("utf-8", "replace")), zlib.crc32(id_.encode("utf-8", "replace")), id_
