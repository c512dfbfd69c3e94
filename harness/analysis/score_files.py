"""`harness score`: metrics for predictions made elsewhere, from files alone; no model, and torch is never imported.

The lines become records, and the task scores them as it scores those of a run, so that a metric means the same in both.
What the files hold is checked before anything is computed: a line that is not JSON, an id that stands twice or an id in
one file alone is an error with file and line, because a line dropped in silence would be a wrong number.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import numpy as np

from harness.analysis import statistics
from harness.analysis.scoring import ScoredCell, score
from harness.config.compose import compose
from harness.config.specs import CaptioningSpec
from harness.data.references import Labels, Options
from harness.dataset import connected
from harness.errors import UserError, counted, nearest
from harness.metrics.classification import map_to_label
from harness.metrics.ranking import rank_both
from harness.records import Record
from harness.task import GalleryTask, Scoring, Task, make_task, put_answer

SEED = 0
"""The seed of the intervals' resamples: the same files give the same numbers."""
_NEEDS = {
    "vqa_accuracy": "ten references a question",
    "textvqa_accuracy": "ten references a question",
    "choice_accuracy": '"choices" in the lines of the references',
    "extraction_failure_rate": '"choices" in the lines of the references',
    "top5_accuracy": '"scores" for more than five labels in the predictions',
    "ece": '"scores" in the predictions',
    "meteor": "English, Java and pycocoevalcap",
}
"""What files must have for a metric that not all files allow."""


def score_files(
    task: str,
    predictions: Path,
    references: Path | None = None,
    metrics: Sequence[str] = (),
    language: Literal["en", "zh"] = "en",
    config_dirs: Sequence[Path] = (),
    similarity: Literal["cosine", "dot"] = "cosine",
) -> dict[str, Any]:
    """{"task", "n", "metrics": {name: {"value", "low", "high", "definition"}}}; what is undefined is None.

    `task` is a task of `conf/` or of the user's own folder. All but retrieval read JSON lines: predictions {"id",
    "prediction", "scores"?: {label: number}}, where a null prediction is a failed sample and counts as wrong, and
    references {"id", "references": [...], "cluster"?, "category"?, "choices"?: [...]}. Retrieval reads .npz: `image`
    [n, d], `text` [m, d], `text_image` [m] or `positives` [k, 2], and `cluster` [n] if there are clusters; a second
    file may hold what the first lacks. It ranks by cosine, or by the dot product of the rows as they are, and the
    result says which by the key "similarity". Where `metrics` are named, only these are computed. With categories,
    "slices" has the headline of each. Raises UserError for everything that is wrong with the files or the names.
    """
    found = _task(task, metrics, config_dirs)
    for name in metrics:
        if found.metrics and name not in found.metrics:
            raise UserError(f"The task {task} has no metric '{name}'. {nearest(name, found.metrics)}")
    note, labels = "", ()
    if isinstance(found, GalleryTask):
        records = _retrieval(predictions, references, similarity)
        note = f"compared by {_SIMILARITY[similarity]}"
    else:
        if references is None:
            raise UserError(f"The task {task} needs --references FILE.")
        lines = _join(predictions, references)
        labels = _declared(lines) if task == "classification" else ()
        records = [_record(line, labels, language) for line in lines]
    cell = score(found, records, Scoring(language, labels))
    if metrics:
        missing = [name for name in metrics if name not in {s.metric.name for s in cell.scored}]
        if missing:
            needs = _NEEDS.get(missing[0], "scores")
            raise UserError(f"These files do not have what {missing[0]} needs ({needs}).")
        cell = replace(cell, scored=[s for s in cell.scored if s.metric.name in metrics])
    result = _result(task, cell, note)
    return result | {"similarity": similarity} if isinstance(found, GalleryTask) else result


def _task(name: str, metrics: Sequence[str], config_dirs: Sequence[Path]) -> Task:
    """The task of this name; one that can leave out a slow metric does so where others are named."""
    run = compose([f"task={name}"], config_dirs, models=False).run
    spec = run.tasks[name]
    if isinstance(spec, CaptioningSpec):
        spec = replace(spec, meteor=not metrics or "meteor" in metrics)
    return make_task(spec._target_, spec)


def render(result: Mapping[str, Any]) -> str:
    """The result as lines for a terminal: each metric's name, value, interval and definition."""
    sizes = f"{counted(result['n'], 'sample')}, {counted(result['clusters'], 'cluster')}"
    lines = [f"{result['task']}: {sizes}"]
    if result.get("note"):
        lines.append(f"Note: {result['note']}")
    for name, row in result["metrics"].items():
        value = "—" if row["value"] is None else f"{row['value']:.4f}"
        interval = "" if row["low"] is None else f"[{row['low']:.4f}, {row['high']:.4f}]"
        doubt = f"  ({row['doubt']})" if "doubt" in row else ""
        lines.append(f"{name:24} {value:>9}  {interval:20}{doubt}  {row['definition']}")
    for name, values in result.get("slices", {}).items():
        for value, part in values.items():
            (metric, row), *_ = part["metrics"].items()
            shown = "—" if row["value"] is None else f"{row['value']:.4f}"
            lines.append(f"{name}={value}  n={part['n']}  {metric} {shown}")
    return "\n".join(lines)


def _result(task: str, cell: ScoredCell, note: str) -> dict[str, Any]:
    """The object that is printed: every metric with its interval, and the headline by category."""
    clusters, fields = cell.records.clusters, cell.records.column("slices")
    found = statistics.estimates(cell.scored, clusters, SEED)
    rows: dict[str, dict[str, Any]] = {}
    for s, estimate in zip(cell.scored, found, strict=True):
        rows[s.metric.name] = {**estimate.to_json(), "definition": s.metric.definition}
        if estimate.doubt:
            rows[s.metric.name]["doubt"] = estimate.doubt
    result: dict[str, Any] = {"task": task, "n": len(clusters), "clusters": len(set(clusters)), "seed": SEED}
    result["metrics"] = rows
    if any(fields):
        result["slices"] = statistics.slices_to_json(cell.scored[0], clusters, fields, SEED)
    if note:
        result["note"] = note
    return result


# Lines of text --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Line:
    """What both files say of one id."""

    id: str
    where: str
    """The file and line of the references, for messages."""
    prediction: str | None
    scores: Mapping[str, float] | None
    references: list[str]
    choices: list[str]
    cluster: str
    slices: dict[str, str]


def _record(line: _Line, labels: Sequence[str], language: Literal["en", "zh"]) -> Record:
    """A line as the record that a run would have written. Raises UserError for references that name nothing."""
    record = Record(id=line.id, cluster=line.cluster, slices=line.slices)
    if line.prediction is not None:
        put_answer(record, line.prediction)
    record.references = tuple(line.references)
    if labels:
        _add_label(record, line, labels, language)
    elif line.choices:
        options = Options.of(line.choices)
        right = [options.right(text, "text") or options.right(text, "letter") for text in line.references]
        for text, numbers in zip(line.references, right, strict=True):
            if not numbers:
                hint = nearest(text, options.texts)
                raise UserError(f"{line.where}: id '{line.id}': the answer '{text}' is not among its choices. {hint}")
        record.choices, record.right = options.texts, tuple(sorted({i for numbers in right for i in numbers}))
        record.references = tuple(options.texts[numbers[0]] for numbers in right)
    if line.prediction is None and line.scores is None:
        record.error = "no prediction"
    return record


def _add_label(record: Record, line: _Line, labels: Sequence[str], language: Literal["en", "zh"]) -> None:
    """The true label as it is declared; and the one that was predicted, which without a text has the best score."""
    numbers = [Labels(labels).number(text) for text in line.references]
    if None in numbers:
        wrong = line.references[numbers.index(None)]
        hint = nearest(wrong, labels)
        raise UserError(f"{line.where}: id '{line.id}': the label '{wrong}' is not declared. {hint}")
    record.references = tuple(labels[number] for number in numbers if number is not None)
    if line.scores is None:
        return
    if set(line.scores) != set(labels):
        raise UserError(
            f"{line.where}: the scores of '{line.id}' are not for the same labels as those of the first line."
        )
    record.scores = tuple(float(line.scores[label]) for label in labels)
    if line.prediction is None:
        record.answer = labels[record.scores.index(max(record.scores))]
    named = map_to_label(str(record.answer), labels, language)
    record.chosen = -1 if named is None else list(labels).index(named)


def _declared(lines: Sequence[_Line]) -> tuple[str, ...]:
    """The labels: those of the scores, else the references' choices, else (as in scikit-learn) all that occur."""
    scores = next((line.scores for line in lines if line.scores is not None), None)
    return tuple(scores or dict.fromkeys(choice for line in lines for choice in line.choices))


def _join(predictions: Path, references: Path) -> list[_Line]:
    """Read both files and match their lines by id; raises UserError, naming file and line, for what does not fit."""
    answers = _lines(predictions, {"id", "prediction", "scores"})
    asked = _lines(references, {"id", "references", "cluster", "category", "choices"})
    for name, (line, _) in answers.items():
        if name not in asked:
            raise UserError(f"{predictions}:{line}: id '{name}' is not in {references}.")
    found: list[_Line] = []
    for name, (line, row) in asked.items():
        where = f"{references}:{line}"
        if name not in answers:
            raise UserError(
                f"{where}: id '{name}' has no prediction in {predictions}. "
                f'A failed sample is a line {{"id": {json.dumps(name)}, "prediction": null}} and counts as wrong.'
            )
        there = f"{predictions}:{answers[name][0]}"
        answer = answers[name][1]
        if "prediction" not in answer and "scores" not in answer:
            raise UserError(f"{there}: 'prediction' is missing (null for a failed sample).")
        prediction = answer.get("prediction")
        if prediction is not None and not isinstance(prediction, str):
            raise UserError(f"{there}: 'prediction' must be a text or null, not {json.dumps(prediction)}.")
        found.append(
            _Line(
                id=name,
                where=where,
                prediction=prediction,
                scores=_scores(answer.get("scores"), there),
                references=_texts(row, "references", where),
                choices=_texts(row, "choices", where) if "choices" in row else [],
                cluster=str(row.get("cluster", name)),
                slices={"category": str(row["category"])} if row.get("category") is not None else {},
            )
        )
    if not found:
        raise UserError(f"{references} has no lines.")
    return found


def _lines(file: Path, known: set[str]) -> dict[str, tuple[int, dict[str, Any]]]:
    """Id -> (line number, object) of a file of JSON lines; blank lines are skipped.

    A key that is nearly one of those `known` is taken for a slip and refused; any other one may be there.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 text: {error.reason} at byte {error.start}.") from error
    found: dict[str, tuple[int, dict[str, Any]]] = {}
    for line, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        where = f"{file}:{line}"
        try:
            row = json.loads(content)
        except ValueError as error:
            raise UserError(f"{where}: this line is not JSON ({error}).") from error
        if not isinstance(row, dict):
            raise UserError(f"{where}: a line must be a JSON object with an 'id', not {type(row).__name__}.")
        for key in row.keys() - known:
            close = get_close_matches(key, known, n=1, cutoff=0.8)
            if close:
                raise UserError(f"{where}: unknown key '{key}'. Did you mean '{close[0]}'?")
        name = row.get("id")
        if not isinstance(name, str | int) or isinstance(name, bool):
            raise UserError(f"{where}: 'id' is missing, or is neither a text nor a number.")
        if str(name) in found:
            raise UserError(f"{where}: id '{name}' stands in line {found[str(name)][0]} already.")
        found[str(name)] = (line, row)
    return found


def _texts(row: Mapping[str, Any], key: str, where: str) -> list[str]:
    value = row.get(key)
    if not isinstance(value, list) or not value or not all(isinstance(text, str) for text in value):
        raise UserError(f"{where}: '{key}' must be a list of at least one text.")
    return value


def _scores(value: Any, where: str) -> Mapping[str, float] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or not value or not all(_is_number(x) for x in value.values()):
        raise UserError(f"{where}: 'scores' must be an object {{label: number}} of finite numbers.")
    return value


def _is_number(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x)


# Retrieval ------------------------------------------------------------------------------------------------------------


_SIMILARITY = {"cosine": "cosine", "dot": "the dot product of the rows as they are"}


def _retrieval(file: Path, second: Path | None, similarity: str) -> list[Record]:
    """A record for each query, images first, then texts."""
    arrays = _arrays(file) | (_arrays(second) if second is not None else {})
    images, texts = _vectors(arrays, "image", file), _vectors(arrays, "text", file)
    if images.shape[1] != texts.shape[1]:
        widths = f"image has {counted(images.shape[1], 'column')} and text {texts.shape[1]}"
        raise UserError(f"{file}: {widths}; they must be equal.")
    n, m = len(images), len(texts)
    if "positives" in arrays:
        pairs = _indices(arrays, "positives", file, (n, m))
    elif "text_image" in arrays:
        owner = _indices(arrays, "text_image", file, (n,))[:, 0]
        if len(owner) != m:
            sizes = f"{counted(len(owner), 'entry', 'entries')} for {counted(m, 'text')}"
            raise UserError(f"{file}: text_image has {sizes}.")
        pairs = np.stack([owner, np.arange(m)], axis=1)
    else:
        raise UserError(f"{file} needs 'text_image' [m] (each text's image) or 'positives' [k, 2] (image, text).")
    cluster = [str(c) for c in arrays["cluster"]] if "cluster" in arrays else [str(i) for i in range(n)]
    if len(cluster) != n:
        sizes = f"{counted(len(cluster), 'entry', 'entries')} for {counted(n, 'image')}"
        raise UserError(f"{file}: cluster has {sizes}.")
    if similarity == "cosine":
        images, texts = (_of_length_one(rows, name, file) for rows, name in ((images, "image"), (texts, "text")))
    marks: list[list[Hashable]] = [[name, i] for i, name in enumerate(cluster)] + [[] for _ in range(m)]
    for i, j in pairs.tolist():
        marks[n + j].append(i)
    own = [cluster[first] if first < n else f"text {first - n}" for first in connected(marks)]
    forward, backward = rank_both(images, texts, pairs)
    queries = [{"direction": "i2t", **forward.row(i)} for i in range(n)]
    queries += [{"direction": "t2i", **backward.row(j)} for j in range(m)]
    names = [f"i2t:{i}" for i in range(n)] + [f"t2i:{j}" for j in range(m)]
    rows = zip(names, own, queries, strict=True)
    return [Record(id=name, cluster=c, retrieval=query) for name, c, query in rows]


def _of_length_one(rows: np.ndarray, name: str, file: Path) -> np.ndarray:
    """The rows [n, d] divided by their lengths; raises UserError for one of zeros, which has no direction."""
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    if not lengths.all():
        raise UserError(
            f"{file}: '{name}' row {int(np.argmin(lengths))} is all zeros, which have no cosine with anything. "
            "Leave it out, or say --similarity dot."
        )
    return (rows / lengths).astype(np.float32)


def _arrays(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a .npz file; objects, which could run code, are refused."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise UserError(f"{file} is not an .npz archive.")
            return {name: archive[name] for name in archive.files}
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}.") from error
    except (ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{file} is not an .npz archive of plain arrays: {error}.") from error


def _vectors(arrays: Mapping[str, np.ndarray], name: str, file: Path) -> np.ndarray:
    """An array of vectors, float32 [rows, d], all of them finite."""
    if name not in arrays:
        raise UserError(f"{file} has no array '{name}'; it has {', '.join(sorted(arrays)) or 'none'}.")
    value = arrays[name]
    if value.ndim != 2 or value.dtype.kind != "f" or not len(value):
        raise UserError(f"{file}: '{name}' must be floats [rows, d], not {value.dtype} {list(value.shape)}.")
    value = np.asarray(value, dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(value).all(axis=1))
    if len(bad):
        raise UserError(f"{file}: '{name}' has a row that is not finite: row {bad[0]}.")
    return value


def _indices(arrays: Mapping[str, np.ndarray], name: str, file: Path, sizes: tuple[int, ...]) -> np.ndarray:
    """An array of row numbers, int64 [k, len(sizes)], each of which is below the size of what it numbers."""
    value = arrays[name]
    value = value.reshape(-1, 1) if value.ndim == 1 else value
    if value.ndim != 2 or value.shape[1] != len(sizes) or value.dtype.kind not in "iu":
        shape = "[m]" if len(sizes) == 1 else "[k, 2]"
        found = f"{value.dtype} {list(arrays[name].shape)}"
        raise UserError(f"{file}: '{name}' must be whole numbers {shape}, not {found}.")
    wrong = np.argwhere((value < 0) | (value >= np.array(sizes)))
    if len(wrong):
        row, column = wrong[0]
        raise UserError(
            f"{file}: '{name}' row {row} is {value[row, column]}; it must be from 0 to {sizes[column] - 1}."
        )
    return value.astype(np.int64)
