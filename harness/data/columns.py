"""From the columns of a table to samples: what all sources of tables share.

What a data set's file may say, key by key and with an example of each, is in docs/data.md. Rows may be read lazily and
samples are built when asked for; form, ids and references are checked before, for all rows.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from harness.data import cells
from harness.data.cells import listed
from harness.data.references import READINGS, Decision, Labels, Options, Reading
from harness.dataset import Chosen, Dataset, Form, LazySequence, connected
from harness.errors import SampleError, UserError, nearest
from harness.media import encoded
from harness.records import Language, Media, Sample

if TYPE_CHECKING:
    from harness.config.specs import DatasetSpec

FIELDS = ("id", "cluster", "image", "audio", "question", "references", "choices")


Row = Mapping[str, Any]
"""A row of a table: its cells by column."""


@runtime_checkable
class ReadsColumns(Protocol):
    """Rows on disk, of which some columns can be read without the media that stand beside them."""

    def only(self, columns: Sequence[str]) -> Sequence[Row]:
        """All rows, with these columns alone."""
        ...


@dataclass(frozen=True)
class Rows:
    """A table: rows that may be read lazily, their columns, and what to call them in messages."""

    rows: Sequence[Row]
    columns: list[str]
    places: Sequence[str]
    """Where each row stands, such as its file and line."""
    table: str
    """The name of the table: its file or repository."""
    folder: Path | None
    """The folder that media paths are relative to; None: the working directory."""
    homes: Sequence[Path] = ()
    """The folders in which the media that rows name must lie."""
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By column, what its whole numbers stand for, where the table says so (the hub's ClassLabel)."""

    def only(self, columns: Iterable[str]) -> Sequence[Row]:
        """All rows, with at least these columns (a table on disk then reads no other)."""
        return self.rows.only(list(columns)) if isinstance(self.rows, ReadsColumns) else self.rows


class Places(LazySequence[str]):
    """Where each row of a table stands, such as "rows.jsonl, line 3"."""

    def __init__(self, table: str, word: str, numbers: Sequence[int]) -> None:
        self.table, self.word, self.numbers = table, word, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def item(self, index: int) -> str:
        return f"{self.table}, {self.word} {self.numbers[index]}"


class _ChosenRows(Chosen[Row]):
    """The rows that pass a filter."""

    def only(self, columns: Sequence[str]) -> Sequence[Row]:
        rows = self.whole.only(columns) if isinstance(self.whole, ReadsColumns) else self.whole
        return [rows[number] for number in self.indices]


def keep(name: str, table: Rows, filters: Mapping[str, Any]) -> Rows:
    """The rows that pass all filters; raises UserError for an unknown column, and where no row is left."""
    if not filters:
        return table
    _check(name, table, filters, "where")
    allowed = {
        column: {text for value in (values if isinstance(values, list | tuple) else [values]) for text in _said(value)}
        for column, values in filters.items()
    }
    chosen = array(
        "q",
        (
            number
            for number, row in enumerate(table.only(filters))
            if all(not values.isdisjoint(_said(row.get(column))) for column, values in allowed.items())
        ),
    )
    if not chosen:
        said = ", ".join(f"{column} = {value}" for column, value in filters.items())
        raise UserError(f"Data set '{name}': no row of {table.table} has {said}.")
    return replace(table, rows=_ChosenRows(table.rows, chosen), places=Chosen(table.places, chosen))


def dataset(
    name: str, spec: DatasetSpec, task: str, language: Language, split: str | None, read: Callable[[str], Rows]
) -> Dataset:
    """A data set of the rows that `read` gives for a split; raises UserError where they do not fit the config."""
    _check_settings(name, spec, task)
    wanted = split or spec.split
    prior_split = spec.train_split or wanted
    tables = {split: read(split) for split in dict.fromkeys((wanted, prior_split))}
    labels = _labels(name, spec, task, language, tables.values())
    mapped = {split: _Mapped(name, spec, language, table, labels) for split, table in tables.items()}
    samples = mapped[wanted]
    return Dataset(
        name=name,
        language=language,
        samples=samples,
        labels=labels,
        modalities=tuple(spec.modalities),  # pyright: ignore[reportArgumentType]
        prior=mapped[prior_split].prior,
        prior_by=spec.prior_by,
        prior_split=prior_split,
        metric=spec.metric,
        left_out=samples.left_out,
    )


_ALLOWED = {
    "answer_is": ("", *READINGS),
    "order": ("given", "shuffled", "circular"),
    "bad_rows": ("refuse", "leave_out"),
    "right": ("each", "all"),
}
"""The settings of a data set that take one of a few words."""


def _check_settings(name: str, spec: DatasetSpec, task: str) -> None:
    """Raise UserError for settings of a data set that mean nothing."""
    for key, allowed in _ALLOWED.items():
        if (value := getattr(spec, key)) not in allowed:
            raise UserError(f"Data set '{name}': {key}: '{value}' is unknown. {nearest(value, filter(None, allowed))}")
    for field_ in spec.columns:
        if field_ not in FIELDS:
            raise UserError(f"Data set '{name}', columns: there is no field '{field_}'. {nearest(field_, FIELDS)}")
    if spec.prior_by and spec.prior_by not in spec.slices:
        hint = nearest(spec.prior_by, spec.slices)
        raise UserError(f"Data set '{name}': prior_by: '{spec.prior_by}' is not a slice. {hint}")
    if spec.right == "all" and not spec.group:
        raise UserError(f"Data set '{name}': right: all needs group, the column whose rows count together.")
    if (spec.group or spec.order == "circular") and task != "vqa":
        key = "group" if spec.group else "order: circular"
        raise UserError(f"Data set '{name}': {key} is for questions, and there is none in task '{task}'.")


def _labels(name: str, spec: DatasetSpec, task: str, language: Language, tables: Iterable[Rows]) -> tuple[str, ...]:
    """The declared labels; of a classification set that declares none, those that its rows have."""
    labels = tuple(str(label) for label in spec.labels.get(language, ()))
    twice = next((label for i, label in enumerate(labels) if label in labels[:i]), None)
    if twice is not None:
        raise UserError(f"Data set '{name}', labels: '{twice}' stands twice for language {language}.")
    if labels or task != "classification" or "choices" in spec.columns:
        return labels
    found: set[str] = set()
    for table in tables:
        column = spec.columns.get("references")
        if isinstance(column, str) and column in table.names and column not in spec.values:
            return tuple(table.names[column])
        found.update(_Mapped(name, spec, language, table, ()).seen)
    return tuple(sorted(found))


class _Mapped(LazySequence[Sample]):
    """The samples of a table. Form, ids and references are checked at once, for all rows; media are not opened."""

    def __init__(self, name: str, spec: DatasetSpec, language: Language, table: Rows, labels: Sequence[str]) -> None:
        self.name, self.spec, self.table = name, spec, table
        self.language: Language = language
        self.labels = Labels(labels)
        column = spec.columns.get("references")
        names = table.names.get(column, ()) if isinstance(column, str) else ()
        if len(names) == len(labels) and any(self.labels.number(name) is None for name in names):
            # The config words the same labels in its own way, such as in another language.
            self.table = replace(table, names={**table.names, column: labels})
        used = {field: _columns(source, language) for field, source in spec.columns.items()}
        needed = dict.fromkeys(column for columns in used.values() for column in columns)
        group, self.modulus = _group_column(spec.group, table.columns)
        self.group_column = group
        _check(name, table, [*needed, *spec.slices.values()], "columns")
        _check(name, table, [group] if group else [], "group")
        _check(name, table, [spec.positives] if spec.positives else [], "positives")
        self.kept, self.rotations = array("q"), array("H")
        self.choice_counts, self.reference_counts = array("H"), array("H")
        self.prior: dict[str, tuple[str, ...]] = {}
        """References by the `prior_by` slice. Questions with choices of their own give none, as no other has them."""
        self.left_out: tuple[str, ...] = ()
        """Why rows were left out, one sentence for each."""
        self.listed = False
        """Whether references are lists that are written as texts."""
        self.reading: Reading = "text"
        self.joined: dict[str, str] = {}
        """The cluster that a cluster is part of, where groups connect several."""
        read = [column for field in ("id", "references", "choices") for column in used.get(field, ())]
        self.light = self._only(*read, *spec.slices.values(), *([group] if group else []))
        self.homes = [] if spec.outside else _homes(table)
        self._check_places()
        self._check_texts(("question", "cluster"))
        self.listed = self._all_listed()
        self.reading = self._decide()
        self._read()
        if spec.group:
            self._join()
        if not self.kept:
            source = spec.columns.get("references", "nothing")
            raise UserError(
                f"Data set '{name}': no row of {table.table} has a reference for language {self.language} "
                f"(from {source}). Columns found: {', '.join(table.columns)}."
            )

    def _only(self, *columns: str) -> Sequence[Row]:
        """All rows of the table, with at least these columns; of "a.b" it is column a."""
        return self.table.only(dict.fromkeys(c if c in self.table.columns else c.partition(".")[0] for c in columns))

    # What all rows are checked for --------------------------------------------------------------------------------

    def _wrong(self, number: int, reason: str) -> UserError:
        return UserError(f"Data set '{self.name}': {self.table.places[number]}{self._named(number)}: {reason}")

    def _named(self, number: int) -> str:
        """The id of a row, for messages."""
        return f" (id '{self._id(number, self.light[number])}')" if "id" in self.spec.columns else ""

    def _check_places(self) -> None:
        """Raise UserError for a row whose media lie where none of the table's may.

        The media columns of a table on disk, which mostly holds its media in itself, are not read for it: there a path
        is looked at as its sample is built.
        """
        if not self.homes:
            return
        kinds: tuple[Literal["image", "audio"], ...] = ("image", "audio")
        for number, row in enumerate(self.light):
            for kind in kinds:
                for _, cell in self._media_cells(kind, row):
                    path = cell.get("path") if isinstance(cell, Mapping) and not cell.get("bytes") else cell
                    if isinstance(path, str) and encoded(path) is None:
                        try:
                            self._path(path)
                        except SampleError as error:
                            raise self._wrong(number, f"{kind}: {error}") from error

    def _path(self, said: str) -> Path:
        """The file that a row names; raises SampleError where it lies outside of where the media may.

        A link counts where it lies. That it ends at a file of data is seen when it is opened.
        """
        path = (self.table.folder or Path()) / said
        if ".." in path.parts:  # as it is compared, so is it opened: a link before the points could lead elsewhere
            path = Path(os.path.normpath(path))
        if self.homes and not any(Path(os.path.abspath(path)).is_relative_to(home) for home in self.homes):
            raise SampleError(
                f"{said!r} lies outside the data's own folders ({', '.join(map(str, self.homes[:2]))}). If it is to be "
                "read, say outside: true in the data set's file."
            )
        return path

    def _check_texts(self, fields: Sequence[str]) -> None:
        """Raise UserError for a row in which one of these fields holds what is not a text.

        A row that cannot be read at all is its sample's fault, later; the others are sound.
        """
        columns = [c for name in fields for c in _columns(self.spec.columns.get(name, ()), self.language)]
        for number, row in enumerate(self._only(*columns) if columns else ()):
            for name in fields:
                try:
                    self._checked(number, name, row)
                except UserError:
                    raise
                except Exception:  # a reader raises whatever a broken row leads it to
                    continue

    def _checked(self, number: int, field: str, row: Row) -> list[str]:
        """The cells of a field in a row; raises UserError where they hold what is not a text."""
        try:
            return self._cells(field, row)
        except ValueError as error:
            raise self._wrong(number, f"{field} cannot be read: {error}.") from error

    def _all_listed(self) -> bool:
        """Whether every row's references are a list that is written as a text."""
        found = False
        if not isinstance(self.spec.columns.get("references"), str):
            return False
        for number, row in enumerate(self.light):
            texts = list(filter(None, self._checked(number, "references", row)))
            if texts and (len(texts) > 1 or listed(texts[0]) is None):
                return False
            found |= bool(texts)
        return found

    def _decide(self) -> Reading:
        """What the references of rows with choices mean; raises UserError where two readings are possible."""
        if self.spec.answer_is or "choices" not in self.spec.columns:
            return self.spec.answer_is or "text"  # pyright: ignore[reportReturnType]
        decision = Decision()
        for number, row in enumerate(self.light):
            references, options = self._texts_of(number, "references", row), self._options(number, row)
            if references and options.texts:
                decision.add(number, options, references)
        if not any(decision.fits.values()):
            return "text"
        if (conflict := decision.conflict()) is not None:
            first, second, number = conflict
            row = self.light[number]
            reference, options = self._texts_of(number, "references", row)[0], self._options(number, row)
            meant = [options.texts[options.right(reference, reading)[0]] for reading in (first, second)]
            raise self._wrong(
                number,
                f"the answer '{reference}' may be the {_MEANS[first]} ('{meant[0]}') or the {_MEANS[second]} "
                f"('{meant[1]}'), and all rows allow both. Say which: answer_is: {first} or answer_is: {second}.",
            )
        return decision.best()[0]

    def _read(self) -> None:
        """Note which rows are samples, and count the prior. Raises UserError for a row whose reference names nothing,
        unless such rows are left out, and for an id that two rows have."""
        first: dict[str, int] = {}
        prior: dict[str, list[str]] = {}
        known: dict[str, str] = {}
        left_out: list[str] = []
        for number, row in enumerate(self.light):
            references = self._texts_of(number, "references", row)
            if not references:
                continue
            options = self._options(number, row)
            if reason := self._misfit(references, options):
                wrong = self._wrong(number, reason)
                if self.spec.bad_rows != "leave_out":
                    raise UserError(f"{wrong} Mend the row, or leave out such rows: bad_rows: leave_out.")
                left_out.append(str(wrong))
                continue
            base = self._id(number, row)
            turns = len(options.texts) if self.spec.order == "circular" else 0
            for rotation in range(max(1, turns)):
                sample_id = f"{base}~{rotation}" if turns else base
                if (other := first.setdefault(sample_id, number)) != number:
                    raise UserError(
                        f"Data set '{self.name}': two rows have the id '{sample_id}': {self.table.places[other]}, and "
                        f"{self.table.places[number]}. Ids must be unique; without columns.id rows are numbered."
                    )
                self.kept.append(number)
                self.rotations.append(rotation)
                self.choice_counts.append(min(len(options.texts), 65535))
                self.reference_counts.append(min(len(references), 65535))
            if "choices" not in self.spec.columns:
                by = self._slices(row).get(self.spec.prior_by, "") if self.spec.prior_by else ""
                shown = self._references(references, options)[0]
                prior.setdefault(by, []).extend(known.setdefault(reference, reference) for reference in shown)
        self.prior = {value: tuple(references) for value, references in prior.items()}
        self.left_out = tuple(left_out)

    @property
    def seen(self) -> set[str]:
        """All references."""
        return {reference for references in self.prior.values() for reference in references}

    def _misfit(self, references: Sequence[str], options: Options) -> str:
        """Why the references name none of the row's choices, or none of the declared labels; empty where they do."""
        if options.texts:
            wrong = next((text for text in references if not options.right(text, self.reading)), None)
            if wrong is None:
                return ""
            return (
                f"the answer '{wrong}', read as the {_MEANS[self.reading]}, is not among its choices "
                f"({', '.join(options.texts[:6])}{', …' if len(options.texts) > 6 else ''})."
            )
        if self.labels.labels:
            wrong = next((text for text in references if self.labels.number(text) is None), None)
            if wrong is not None:
                return f"the label '{wrong}' is not declared. {nearest(wrong, self.labels.labels)}"
        return ""

    def _join(self) -> None:
        """Connect the clusters that share a group, so that a group is never split."""
        numbers = dict.fromkeys(self.kept)
        rows = [(number, self.table.rows[number]) for number in numbers]
        clusters = [self._own_cluster(number, row, self._all_media(number, row)) for number, row in rows]
        groups = [self._group_of(number, row) for number, row in rows]
        marks = (
            (("cluster", cluster), *([("group", group)] if group else []))
            for cluster, group in zip(clusters, groups, strict=True)
        )
        self.joined = {cluster: clusters[first] for cluster, first in zip(clusters, connected(marks), strict=True)}

    # One sample -----------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.kept)

    def item(self, index: int) -> Sample:
        try:
            return self._sample(index)
        except Exception as error:  # a reader raises whatever a broken row leads it to; the other rows are sound
            return self._broken(index, error)

    def _sample(self, index: int) -> Sample:
        number = self.kept[index]
        row = self.table.rows[number]
        sample_id = self._sample_id(index, row)
        media = self._all_media(number, row)
        options = self._options(number, row)
        references, right = self._references(self._texts_of(number, "references", row), options)
        order = self._order(sample_id, len(options.texts), self.rotations[index])
        return Sample(
            id=sample_id,
            cluster=self._cluster(number, row, media),
            language=self.language,
            media=media,
            question=self._one("question", row),
            references=references,
            choices=tuple(options.texts[i] for i in order),
            slices=self._slices(row),
            order=() if order == sorted(order) else tuple(order),
            right=right,
            group=self._group(number, row),
            positives=" ".join(filter(None, self._read_cells(self.spec.positives, row))) if self.spec.positives else "",
        )

    def _broken(self, index: int, error: Exception) -> Sample:
        """The sample of a row that cannot be read: it holds what was read when the table was checked, and the fault."""
        number = self.kept[index]
        place, row = self.table.places[number], self.light[number]
        kinds: tuple[Literal["image", "audio"], ...] = ("image", "audio")
        sample_id = self._sample_id(index, row)
        options = self._options(number, row)
        references, right = self._references(self._texts_of(number, "references", row), options)
        return Sample(
            id=sample_id,
            cluster=sample_id,
            language=self.language,
            media=tuple(_absent(kind, place) for kind in kinds if kind in self.spec.columns),
            references=references,
            choices=options.texts,
            slices=self._slices(row),
            right=right,
            group=self._group(number, row),
            fault=f"{place} cannot be read: {type(error).__name__}: {error}",
        )

    def lengths(self) -> list[int]:
        """See `Dataset.lengths`; no medium of a table on disk is read for it."""
        fields = [field for field in ("question", "choices") if field in self.spec.columns]
        columns = [column for field in fields for column in _columns(self.spec.columns[field], self.language)]
        if not columns:  # all are asked the same
            return [0] * len(self)
        rows = self._only(*columns)
        return [sum(len(text) for field in fields for text in self._all(field, rows[number])) for number in self.kept]

    def form(self) -> Form:
        """See `Dataset.form`."""
        return Form(self.choice_counts, self.reference_counts, self.rotations)

    def _id(self, number: int, row: Row) -> str:
        return self._one("id", row) if "id" in self.spec.columns else str(number)

    def _sample_id(self, index: int, row: Row) -> str:
        turned = self.spec.order == "circular" and self.choice_counts[index]
        return self._id(self.kept[index], row) + (f"~{self.rotations[index]}" if turned else "")

    def _options(self, number: int, row: Row) -> Options:
        return Options.of(self._checked(number, "choices", row) if "choices" in self.spec.columns else ())

    def _references(self, given: Sequence[str], options: Options) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """A row's references as texts, and the numbers of the choices or labels that they name."""
        if options.texts:
            named = [numbers for text in given if (numbers := options.right(text, self.reading))]
            right = sorted({number for numbers in named for number in numbers})
            return tuple(options.texts[numbers[0]] for numbers in named), tuple(right)
        if self.labels.labels:
            numbers = [number for text in given if (number := self.labels.number(text)) is not None]
            return tuple(self.labels.labels[number] for number in numbers), tuple(dict.fromkeys(numbers))
        return tuple(given), ()

    def _order(self, sample_id: str, count: int, rotation: int) -> list[int]:
        """The order in which a sample's choices are shown: for each, its number in the data set's own order."""
        order = list(range(count))
        if self.spec.order == "shuffled":
            # The text alone as a seed would raise an error for half a character; its bytes seed the same.
            random.Random(f"choices/{sample_id}".encode(errors="surrogatepass")).shuffle(order)
        return order[rotation:] + order[:rotation]

    def _slices(self, row: Row) -> dict[str, str]:
        found = {
            slice_: list(filter(None, self._read_cells(column, row))) for slice_, column in self.spec.slices.items()
        }
        return {slice_: " ".join(texts) for slice_, texts in found.items() if texts}

    def _group(self, number: int, row: Row) -> str:
        """What a row counts together with; empty for a row by itself."""
        if self.spec.right == "all":
            return self._group_of(number, row)
        return self._id(number, row) if self.spec.order == "circular" else ""

    def _group_of(self, number: int, row: Row) -> str:
        """What `group` says of a row."""
        found = " ".join(filter(None, self._read_cells(self.group_column, row)))
        if not self.modulus:
            return found
        if not re.fullmatch(r"\d+", found):
            raise self._wrong(number, f"group: '{found}' is not a whole number, as {self.spec.group} needs.")
        return str(int(found) % self.modulus)

    def _cluster(self, number: int, row: Row, media: Sequence[Media]) -> str:
        """The cluster of a row, which is that of all rows that groups connect it with."""
        own = self._own_cluster(number, row, media)
        return self.joined.get(own, own)

    def _own_cluster(self, number: int, row: Row, media: Sequence[Media]) -> str:
        """The cluster of a row, before groups connect it with others."""
        return self._one("cluster", row) or (self._shared(media[0]) if media else self._id(number, row))

    def _shared(self, medium: Media) -> str:
        """A name for a medium that is the same on every machine: its path below the table's folder, else its key."""
        path, folder = medium.source, self.table.folder
        inside = isinstance(path, Path) and folder is not None and path.is_relative_to(folder)
        return path.relative_to(folder).as_posix() if inside else medium.key  # pyright: ignore

    # Cells ------------------------------------------------------------------------------------------------------------

    def _one(self, field: str, row: Row) -> str:
        return " ".join(self._all(field, row))

    def _all(self, field: str, row: Row) -> list[str]:
        return list(filter(None, self._cells(field, row)))

    def _texts_of(self, number: int, field: str, row: Row) -> list[str]:
        return list(filter(None, self._checked(number, field, row)))

    def _cells(self, field: str, row: Row) -> list[str]:
        """The texts that a field has in a row; "" for a place that is empty."""
        source = self.spec.columns.get(field)
        if source is None:
            return []
        said = self._read_cells(source, row)
        may_be_list = field == "choices" or (field == "references" and self.listed)
        if may_be_list and isinstance(source, str) and len(said) == 1 and (found := listed(said[0])) is not None:
            return found
        return said

    def _read_cells(self, source: Any, row: Row) -> list[str]:
        """The texts that a columns entry gives for a row; "" for a place that is empty."""
        if isinstance(source, Mapping):
            source = source.get(self.language, "")
            return [_fill(source, row)]
        if not isinstance(source, str):
            return [text for part in source for text in self._read_cells(part, row) or [""]]
        if "{" in source:
            source = source.replace("{language}", self.language)
            if "{" in source:
                return [_fill(source, row)]
        found = _reach(row, source)
        if source in self.spec.values or source in self.table.names:
            found = [self._translated(source, value) for value in found]
        return cells.texts(found)

    def _translated(self, column: str, value: Any) -> Any:
        names, known = self.table.names.get(column, ()), self.spec.values.get(column, {})
        named = value
        if names and type(value) is int:  # the hub writes -1 where there is no label
            named = names[value] if 0 <= value < len(names) else None
        for form in (value, named, cells.texts([value])[0]):
            try:
                if form in known:
                    named = known[form]
                    break
            except TypeError:  # a value that no mapping can hold, such as a list of lists
                return value
        return named[self.language] if isinstance(named, Mapping) and self.language in named else named

    def _all_media(self, number: int, row: Row) -> tuple[Media, ...]:
        return (*self._media("image", row, number), *self._media("audio", row, number))

    def _media(self, kind: Literal["image", "audio"], row: Row, number: int) -> list[Media]:
        place = self.table.places[number]
        found = [self._medium(kind, source, cell, place) for source, cell in self._media_cells(kind, row)]
        # Asked without its picture a question would look answered; so it fails instead, unless such rows are expected.
        if kind in self.spec.columns and not found and not (kind == "image" and self.spec.image_optional):
            found.append(_absent(kind, place))
        return found

    def _media_cells(self, kind: Literal["image", "audio"], row: Row) -> Iterator[tuple[str, Any]]:
        """Each medium of a kind that a row names or holds, with its column."""
        sources = self.spec.columns.get(kind, ())
        for source in [sources] if isinstance(sources, str) else sources:
            source = source.replace("{language}", self.language)
            values = [_fill(source, row)] if "{" in source else _reach(row, source)
            for value in values:
                several = listed(value) if isinstance(value, str) else None  # a list that is written as a text
                yield from (
                    (source, cell) for cell in ([value] if several is None else several) if not cells.empty(cell)
                )

    def _medium(self, kind: Literal["image", "audio"], source: str, value: Any, place: str) -> Media:
        """The medium of a cell. Where a table writes its media as texts, the id of another row stands for that row's
        medium (so VLMEvalKit keeps a picture that several questions are about once)."""
        made = self._found(kind, value, place)
        text = str(value) if isinstance(value, str | int) else ""
        if (
            text
            and not set(text) & {".", "/", "\\"}
            and isinstance(made.source, Path)
            and not os.path.exists(made.source)
        ):
            number = self._numbers.get(text.strip())
            cell = None if number is None else self.table.rows[number].get(source)
            if isinstance(cell, str) and (content := encoded(cell)) is not None:
                return self._found(kind, content, place)
        return made

    def _found(self, kind: Literal["image", "audio"], value: Any, place: str) -> Media:
        """The medium of a cell: a path, an encoded file as bytes or as a text, or {bytes, path}, as `datasets` has it.
        The key of what is encoded is the beginning of its bytes' sha256, and never the text."""
        if isinstance(value, Mapping):
            value = value.get("bytes") or value.get("path") or b""
        if isinstance(value, str) and (content := encoded(value)) is not None:
            value = content
        if isinstance(value, bytes):
            return Media(kind, hashlib.sha256(value).hexdigest()[:24], value, where=place)
        path = self._path(str(value))
        return Media(kind, str(path), path, where=place)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        """The number of the row with each id."""
        return {self._id(number, row): number for number, row in enumerate(self.light)}


_MEANS: Mapping[Reading, str] = {
    "letter": "letter of a choice",
    "text": "text of a choice",
    "index0": "place of a choice, counted from 0",
    "index1": "place of a choice, counted from 1",
}


def _group_column(group: str, columns: Sequence[str]) -> tuple[str, int]:
    """The column of `group`, and of "COLUMN % NUMBER" the number; 0 without one."""
    found = re.fullmatch(r"(.+?)\s*%\s*([1-9]\d*)", group)
    return (found[1], int(found[2])) if found and group not in columns else (group, 0)


def _columns(source: Any, language: Language) -> list[str]:
    """The columns that an entry of `columns` reads."""
    if isinstance(source, Mapping):
        if language not in source:
            return []
        return _names(source[language])
    if not isinstance(source, str):
        return [column for part in source for column in _columns(part, language)]
    source = source.replace("{language}", language)
    return _names(source) if "{" in source else [source]


def _fill(template: str, row: Row) -> str:
    """A template with the texts of its columns filled in; empty where all of these are."""
    found = {column: " ".join(filter(None, cells.texts(_reach(row, column)))) for column in _names(template)}
    if found and not any(found.values()):
        return ""
    return re.sub(r"{([^{}]+)}", lambda match: found[match[1]], template).strip()


def _names(template: str) -> list[str]:
    return re.findall(r"{([^{}]+)}", template)


def _said(value: Any) -> list[str]:
    """What a cell says, for a filter: an empty cell is ""."""
    return cells.texts(value) or [""]


def _reach(row: Row, column: str) -> list[Any]:
    """The values in a column; "a.b" is b of every object in a. A list gives several values, an empty cell none."""
    value: Any = row.get(column)
    if column not in row and "." in column:
        outer, _, inner = column.partition(".")
        value = row.get(outer)
        if isinstance(value, Mapping):
            value = value.get(inner)
        elif isinstance(value, list):
            value = [part.get(inner) for part in value if isinstance(part, Mapping)]
    if isinstance(value, list | tuple):
        return list(value)
    return [] if cells.empty(value) else [value]


def _homes(table: Rows) -> list[Path]:
    """The folders in which a table's media may lie, as they are called and as they are."""
    return list(dict.fromkeys(way for home in table.homes for way in (Path(os.path.abspath(home)), home.resolve())))


def _absent(kind: Literal["image", "audio"], place: str) -> Media:
    """A medium that stands for one that the row does not have. It does not open."""
    return Media(kind, f"{place}, no {kind}", b"", where=place)


def _check(name: str, table: Rows, columns: Iterable[str], key: str) -> None:
    absent = [c for c in columns if c not in table.columns and c.partition(".")[0] not in table.columns]
    if absent:
        raise UserError(
            f"Data set '{name}', {key}: {table.table} has no column '{absent[0]}'. "
            f"{nearest(absent[0], table.columns)} Columns found: {', '.join(table.columns)}."
        )
