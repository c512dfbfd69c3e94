"""From the columns of a table to samples: what all sources of tables share.

What a data set's file may say, key by key and with an example of each, is in docs/data.md. Rows may be read lazily and
samples are built when asked for; form, ids and references are checked before, for all rows.
"""

from __future__ import annotations

import hashlib
import random
import re
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from harness.dataset import Chosen, Dataset, LazySequence
from harness.errors import UserError, nearest
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
    allowed = {c: set(map(str, v if isinstance(v, list | tuple) else [v])) for c, v in filters.items()}
    chosen = array(
        "q",
        (
            number
            for number, row in enumerate(table.only(filters))
            if all(str(row.get(column)) in values for column, values in allowed.items())
        ),
    )
    if not chosen:
        said = ", ".join(f"{column} = {value}" for column, value in filters.items())
        raise UserError(f"Data set '{name}': no row of {table.table} has {said}.")
    return replace(table, rows=_ChosenRows(table.rows, chosen), places=Chosen(table.places, chosen))


def dataset(
    name: str, spec: DatasetSpec, language: Language, split: str | None, read: Callable[[str], Rows]
) -> Dataset:
    """A data set of the rows that `read` gives for a split; raises UserError where they do not fit the config."""
    wanted = split or spec.split
    samples = _Mapped(name, spec, language, read(wanted))
    prior_split = spec.train_split or wanted
    known = samples if prior_split == wanted else _Mapped(name, spec, language, read(prior_split))
    if spec.prior_by and spec.prior_by not in spec.slices:
        hint = nearest(spec.prior_by, spec.slices)
        raise UserError(f"Data set '{name}': prior_by: '{spec.prior_by}' is not a slice. {hint}")
    return Dataset(
        name=name,
        language=language,
        samples=samples,
        labels=tuple(str(label) for label in spec.labels.get(language, ())),
        modalities=tuple(spec.modalities),  # pyright: ignore[reportArgumentType]
        prior=known.prior,
        prior_by=spec.prior_by,
        prior_split=prior_split,
        metric=spec.metric,
    )


class _Mapped(LazySequence[Sample]):
    """The samples of a table. Form, ids and references are checked at once, for all rows; media are not opened."""

    def __init__(self, name: str, spec: DatasetSpec, language: Language, table: Rows) -> None:
        self.spec, self.table = spec, table
        self.language: Language = language
        for field in spec.columns:
            if field not in FIELDS:
                raise UserError(f"Data set '{name}', columns: there is no field '{field}'. {nearest(field, FIELDS)}")
        used = {field: _columns(source, language) for field, source in spec.columns.items()}
        needed = dict.fromkeys(column for columns in used.values() for column in columns)
        _check(name, table, [*needed, *spec.slices.values()], "columns")
        self.kept = array("q")
        self.prior: dict[str, tuple[str, ...]] = {}
        """References by the `prior_by` slice. Questions with choices of their own give none, as no other has them."""
        self.light = self._only(*used.get("id", ()), *used.get("references", ()), *spec.slices.values())
        self._read(name)
        if not self.kept:
            source = spec.columns.get("references", "nothing")
            raise UserError(
                f"Data set '{name}': no row of {table.table} has a reference for language {self.language} "
                f"(from {source}). Columns found: {', '.join(table.columns)}."
            )

    def _only(self, *columns: str) -> Sequence[Row]:
        """All rows of the table, with at least these columns; of "a.b" it is column a."""
        return self.table.only(dict.fromkeys(c if c in self.table.columns else c.partition(".")[0] for c in columns))

    def _read(self, name: str) -> None:
        """Note which rows have a reference, and count the prior; raises UserError for an id that two of them have."""
        first: dict[str, int] = {}
        prior: dict[str, list[str]] = {}
        known: dict[str, str] = {}
        for number, row in enumerate(self.light):
            references = self._all("references", row)
            if not references:
                continue
            self.kept.append(number)
            sample_id = self._id(number, row)
            if (other := first.setdefault(sample_id, number)) != number:
                raise UserError(
                    f"Data set '{name}': two rows have the id '{sample_id}': {self.table.places[other]}, and "
                    f"{self.table.places[number]}. Ids must be unique; without columns.id rows are numbered."
                )
            if "choices" not in self.spec.columns:
                by = self._slices(row).get(self.spec.prior_by, "") if self.spec.prior_by else ""
                prior.setdefault(by, []).extend(known.setdefault(reference, reference) for reference in references)
        self.prior = {value: tuple(references) for value, references in prior.items()}

    def __len__(self) -> int:
        return len(self.kept)

    def item(self, index: int) -> Sample:
        number = self.kept[index]
        try:
            return self._sample(number)
        except Exception as error:  # a reader raises whatever a broken row leads it to; the other rows are sound
            return self._broken(number, error)

    def _sample(self, number: int) -> Sample:
        row = self.table.rows[number]
        sample_id = self._id(number, row)
        media = (*self._media("image", row, number), *self._media("audio", row, number))
        choices = self._all("choices", row)
        shown = list(choices)
        if shown:  # the text alone as a seed would raise an error for half a character; its bytes seed the same
            random.Random(f"choices/{sample_id}".encode(errors="surrogatepass")).shuffle(shown)
        return Sample(
            id=sample_id,
            cluster=self._one("cluster", row) or (self._shared(media[0]) if media else sample_id),
            language=self.language,
            media=media,
            question=self._one("question", row),
            references=self._references(row, choices),
            choices=tuple(shown),
            slices=self._slices(row),
        )

    def _broken(self, number: int, error: Exception) -> Sample:
        """The sample of a row that cannot be read: it holds what was read when the table was checked, and the fault."""
        place, row = self.table.places[number], self.light[number]
        kinds: tuple[Literal["image", "audio"], ...] = ("image", "audio")
        sample_id = self._id(number, row)
        return Sample(
            id=sample_id,
            cluster=sample_id,
            language=self.language,
            media=tuple(_absent(kind, place) for kind in kinds if kind in self.spec.columns),
            references=tuple(self._all("references", row)),
            slices=self._slices(row),
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

    def _id(self, number: int, row: Row) -> str:
        return self._one("id", row) if "id" in self.spec.columns else str(number)

    def _references(self, row: Row, choices: list[str]) -> tuple[str, ...]:
        given = self._all("references", row)
        column = self.spec.columns.get("references")
        # A whole number is a place among the choices, even where the choices are figures too.
        cells = _reach(row, column) if choices and isinstance(column, str) and column not in self.spec.values else []
        if cells and all(type(cell) is int and 0 <= cell < len(choices) for cell in cells):
            return tuple(choices[cell] for cell in cells)
        return tuple(_lettered(reference, choices) for reference in given)

    def _slices(self, row: Row) -> dict[str, str]:
        found = {slice_: self._texts(column, row) for slice_, column in self.spec.slices.items()}
        return {slice_: " ".join(texts) for slice_, texts in found.items() if texts}

    def _shared(self, medium: Media) -> str:
        """A name for a medium that is the same on every machine: its path below the table's folder, else its key."""
        path, folder = medium.source, self.table.folder
        inside = isinstance(path, Path) and folder is not None and path.is_relative_to(folder)
        return path.relative_to(folder).as_posix() if inside else medium.key  # pyright: ignore

    def _one(self, field: str, row: Row) -> str:
        return " ".join(self._all(field, row))

    def _all(self, field: str, row: Row) -> list[str]:
        source = self.spec.columns.get(field)
        return [] if source is None else self._texts(source, row)

    def _texts(self, source: Any, row: Row) -> list[str]:
        """The texts that a columns entry gives for a row; none where the cell is empty."""
        if isinstance(source, Mapping):
            source = source[self.language]
            return [_fill(source, row)]
        if not isinstance(source, str):
            return [text for part in source for text in self._texts(part, row)]
        if "{" in source:
            source = source.replace("{language}", self.language)
            if "{" in source:
                return [_fill(source, row)]
        found = _reach(row, source)
        if source in self.spec.values or any(type(value) is not str for value in found):
            found = [str(value) for value in (self._translated(source, value) for value in found) if value is not None]
        return [text for value in found if (text := value.strip())]

    def _translated(self, column: str, value: Any) -> Any:
        known = self.spec.values.get(column, {})
        try:
            value = known[value] if value in known else known.get(str(value), value)
        except TypeError:  # a value that no mapping can hold, such as a list of lists
            return value
        return value[self.language] if isinstance(value, Mapping) and self.language in value else value

    def _media(self, kind: Literal["image", "audio"], row: Row, number: int) -> list[Media]:
        place = self.table.places[number]
        sources = self.spec.columns.get(kind, ())
        found = []
        for source in [sources] if isinstance(sources, str) else sources:
            source = source.replace("{language}", self.language)
            values = [_fill(source, row)] if "{" in source else _reach(row, source)
            found += [_medium(kind, value, self.table.folder, place) for value in values]
        if sources and not found:  # asked without its picture a question would look answered; this one fails instead
            found.append(_absent(kind, place))
        return found


def _columns(source: Any, language: Language) -> list[str]:
    """The columns that an entry of `columns` reads."""
    if isinstance(source, Mapping):
        if language not in source:
            return []
        return re.findall(r"{([^{}]+)}", source[language])
    if not isinstance(source, str):
        return [column for part in source for column in _columns(part, language)]
    source = source.replace("{language}", language)
    return re.findall(r"{([^{}]+)}", source) if "{" in source else [source]


def _fill(template: str, row: Row) -> str:
    return re.sub(r"{([^{}]+)}", lambda match: str(row.get(match[1], "")).strip(), template).strip()


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
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _medium(kind: Literal["image", "audio"], value: Any, folder: Path | None, place: str) -> Media:
    """The medium of a cell: a path, encoded bytes, or {bytes, path}, which is what `datasets` does not decode."""
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path") or b""
    if isinstance(value, bytes):
        return Media(kind, hashlib.sha256(value).hexdigest()[:24], value, where=place)
    path = Path(str(value))
    path = folder / path if folder is not None else path
    return Media(kind, str(path), path, where=place)


def _absent(kind: Literal["image", "audio"], place: str) -> Media:
    """A medium that stands for one that the row does not have. It does not open."""
    return Media(kind, f"{place}, no {kind}", b"", where=place)


def _lettered(reference: str, choices: Sequence[str]) -> str:
    """The reference or, where it is the letter of a choice, the text of that choice."""
    place = ord(reference) - ord("A") if len(reference) == 1 and reference not in choices else -1
    return choices[place] if 0 <= place < len(choices) else reference


def _check(name: str, table: Rows, columns: Iterable[str], key: str) -> None:
    absent = [c for c in columns if c not in table.columns and c.partition(".")[0] not in table.columns]
    if absent:
        raise UserError(
            f"Data set '{name}', {key}: {table.table} has no column '{absent[0]}'. "
            f"{nearest(absent[0], table.columns)} Columns found: {', '.join(table.columns)}."
        )
