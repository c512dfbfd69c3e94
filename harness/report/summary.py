"""What a report is made of: `summary.json` of one run, or of several joined, checked once and turned into plain
objects.

Everything after this module trusts what it gets. A file that lacks what every summary has is a `UserError` that names
the file and the key; what only some runs know (latency, slices, machine card ...) may be missing and is then empty.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.records import ORIGINS

FEW_CLUSTERS = 20
"""Below this many clusters an interval is not to be relied on."""


@dataclass(frozen=True)
class Number:
    """A value and its 95 % interval; None where undefined or unknown."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Slice:
    n: int
    metrics: Mapping[str, Number]


@dataclass(frozen=True)
class Cell:
    """One model on one task x dataset x language of one run."""

    run: str
    machine: str
    """The run's machine in a few words: latencies are compared only where these are equal."""
    model: str
    label: str
    """The model's name, with its run where two runs of a joined report have a model of that name."""
    origin: str
    task: str
    dataset: str
    language: str
    ablate: str
    route: str
    status: str
    reason: str
    samples: int | None
    failed: int | None
    coverage: float | None
    """Share of samples that were answered, 0 to 1."""
    headline: str
    metrics: Mapping[str, Number]
    definitions: Mapping[str, str]
    slices: Mapping[str, Mapping[str, Slice]]
    of_answered: float | None
    """The headline over the answered samples alone, where some failed."""
    latency: Mapping[str, Any]
    clusters: int | None
    reliable: bool
    doubt: str
    """Why not, where it is not."""
    rank: tuple[int, int] | None
    best: bool
    """The best of its group or not distinguishable from it."""
    note: str
    folder: Path | None
    """Where records.jsonl is, if anywhere."""

    @property
    def score(self) -> Number:
        """The headline number."""
        return self.metrics.get(self.headline, Number())

    @property
    def reference(self) -> bool:
        return self.origin == "reference"

    @property
    def complete(self) -> bool:
        return self.status == "complete"


@dataclass(frozen=True)
class Group:
    """The cells that may be compared: one task x dataset x language (x ablation)."""

    task: str
    dataset: str
    language: str
    ablate: str
    cells: tuple[Cell, ...]
    """Complete models by falling headline, then complete reference rows; the others apart in `missing`."""
    missing: tuple[Cell, ...]
    """Skipped, failed and interrupted cells."""
    comparisons: tuple[Mapping[str, Any], ...]

    @property
    def name(self) -> str:
        """Also the stem of the group's files."""
        return ".".join(part for part in (self.task, self.dataset, self.language, self.ablate) if part)

    @property
    def headline(self) -> str:
        return next((cell.headline for cell in (*self.cells, *self.missing) if cell.headline), "")

    @property
    def models(self) -> tuple[Cell, ...]:
        return tuple(cell for cell in self.cells if not cell.reference)

    @property
    def references(self) -> tuple[Cell, ...]:
        return tuple(cell for cell in self.cells if cell.reference)

    @property
    def machines(self) -> tuple[str, ...]:
        """The machines whose latencies stand here."""
        return tuple(
            dict.fromkeys(cell.machine for cell in self.cells if number(cell.latency.get("p50_ms")) is not None)
        )

    @property
    def joined(self) -> bool:
        """Rows come from several runs, so marks and ranks, which hold within one run, are not shown."""
        return len({cell.run for cell in self.cells}) > 1


@dataclass(frozen=True)
class Summary:
    """One run, or several joined."""

    runs: tuple[str, ...]
    groups: tuple[Group, ...]
    machines: Mapping[str, Mapping[str, Any]]
    """Run -> machine card."""
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    datasets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    prompts: Mapping[str, Any] = field(default_factory=dict)
    left_out: tuple[Mapping[str, Any], ...] = ()
    standings: tuple[Mapping[str, Any], ...] = ()
    """Win rates and mean ranks over the tables of a single run."""
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Run -> seed, started, seconds, harness version, as far as known."""

    @property
    def cells(self) -> list[Cell]:
        return [cell for group in self.groups for cell in (*group.cells, *group.missing)]

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(group.task for group in self.groups))

    @property
    def ablations(self) -> list[list[Group]]:
        """The groups that differ in their ablation alone, together, where there are several."""
        sets: dict[tuple[str, ...], list[Group]] = {}
        for group in self.groups:
            sets.setdefault((group.task, group.dataset, group.language), []).append(group)
        return [groups for groups in sets.values() if len(groups) > 1]

    @property
    def pocket(self) -> list[str]:
        """Names of the bundled pocket models that are in it."""
        present = {cell.model for cell in self.cells}
        return [name for name, card in self.models.items() if card.get("pocket") and name in present]


def load(folder: Path) -> dict[str, Any]:
    """The JSON object of a run folder's summary.json; raises UserError when there is none or it is no summary."""
    path = Path(folder) / "summary.json"
    try:
        data = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{folder} is not a run: it has no summary.json. `harness list runs` names the runs there are."
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}. Run the comparison again, or restore the file.") from None
    if not isinstance(data, dict):
        raise UserError(f"{path} should hold a JSON object, but holds a {type(data).__name__}.")
    return data


def parse(data: Mapping[str, Any], where: str = "summary.json", folder: Path | None = None) -> Summary:
    """A Summary of one run. `folder` is the run folder, for samples; raises UserError naming `where`."""
    return join([(data, where, folder)])


def join(parts: Sequence[tuple[Mapping[str, Any], str, Path | None]]) -> Summary:
    """One Summary of several (data, where it came from, run folder); rows are labelled by run where names collide."""
    names = _run_names(parts)
    seen: dict[tuple[str, ...], set[str]] = {}
    for (data, where, _), run in zip(parts, names, strict=True):
        for position, row in enumerate(_need(data, "cells", list, where)):
            key = tuple(_need(row, k, str, f"{where}, cell {position + 1}") for k in ("task", "dataset", "language"))
            seen.setdefault((*key, _need(row, "model", str, f"{where}, cell {position + 1}")), set()).add(run)
    shared = {key[-1] for key, runs in seen.items() if len(runs) > 1}

    cells: list[Cell] = []
    comparisons: list[Mapping[str, Any]] = []
    machines, facts = {}, {}
    models, datasets, prompts, left_out = {}, {}, {}, []
    for (data, where, folder), run in zip(parts, names, strict=True):
        card = data.get("machine")
        machines[run] = card if isinstance(card, Mapping) else {"name": str(card)} if card else {}
        facts[run] = {
            key: data.get(key) for key in ("seed", "started", "seconds", "harness") if data.get(key) is not None
        }
        for position, row in enumerate(data["cells"]):
            cells.append(_cell(row, f"{where}, cell {position + 1}", run, machine_name(machines[run]), shared, folder))
        comparisons.extend(_mappings(data.get("comparisons")))
        models.update(data.get("models") or {})
        datasets.update(data.get("datasets") or {})
        prompts.update(data.get("prompts") or {})
        left_out.extend(row for row in _mappings(data.get("left_out")) if row not in left_out)
    return Summary(
        runs=tuple(names),
        groups=_groups(_merged(cells), comparisons),
        machines=machines,
        models=models,
        datasets=datasets,
        prompts=prompts,
        left_out=tuple(left_out),
        standings=tuple(_mappings(parts[0][0].get("standings"))) if len(parts) == 1 else (),
        facts=facts,
    )


def number(value: Any) -> float | None:
    """A finite float, or None for null, NaN, infinity and anything that is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def machine_name(card: Mapping[str, Any]) -> str:
    """The machine in a few words: what its latencies hang on."""
    gpu = card.get("gpu")
    cores = f"{card['cores']} cores" if card.get("cores") else None
    parts = [", ".join(map(str, gpu)) if isinstance(gpu, list) else gpu, card.get("cpu"), cores]
    return " / ".join(str(part) for part in parts if part) or str(card.get("name") or "")


def _run_names(parts: Sequence[tuple[Mapping[str, Any], str, Path | None]]) -> list[str]:
    """The runs' names, told apart by a number where two results folders hold a run of one name."""
    names: list[str] = []
    for data, where, _ in parts:
        name = _need(data, "run", str, where)
        same = sum(other == name or other.startswith(f"{name} (") for other in names)
        names.append(f"{name} ({same + 1})" if same else name)
    return names


def _need(row: Any, key: str, kind: type, where: str) -> Any:
    if not isinstance(row, Mapping):
        raise UserError(f"{where} should be a JSON object, but is a {type(row).__name__}.")
    if key not in row:
        raise UserError(f"{where} has no '{key}'. It was not written by `harness run`, or is damaged.")
    if not isinstance(row[key], kind):
        raise UserError(f"{where}: '{key}' should be a {kind.__name__}, but is {row[key]!r}.")
    return row[key]


def _mappings(rows: Any) -> list[Mapping[str, Any]]:
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []


def _cell(row: Any, where: str, run: str, machine: str, shared: set[str], folder: Path | None) -> Cell:
    model, origin = _need(row, "model", str, where), _need(row, "origin", str, where)
    if origin not in ORIGINS:
        raise UserError(f"{where}: origin is '{origin}', but must be one of {', '.join(ORIGINS)}.")
    task, dataset, language = (str(row[key]) for key in ("task", "dataset", "language"))
    status, ablate = _need(row, "status", str, where), str(row.get("ablate") or "")
    metrics = _need(row, "metrics", Mapping, where) if row.get("metrics") is not None else {}
    samples, failed = _count(row.get("samples")), _count(row.get("failed"))
    coverage = number(row.get("coverage"))
    if coverage is None and samples and failed is not None:
        coverage = (samples - failed) / samples
    clusters, rank, reliable = _count(row.get("clusters")), row.get("rank"), row.get("reliable")
    headline = row.get("headline") or ""
    if status == "complete" and headline not in metrics:
        raise UserError(f"{where} ({model}): the headline metric '{headline}' is not among its metrics.")
    numbers = _numbers(metrics, where)
    slices = {
        str(name): {
            str(value): Slice(_count(part.get("n")) or 0, _numbers(part.get("metrics") or {}, where))
            for value, part in values.items()
        }
        for name, values in (row.get("slices") or {}).items()
    }
    return Cell(
        run=run,
        machine=machine,
        model=model,
        label=f"{model} @ {run}" if model in shared else model,
        origin=origin,
        task=task,
        dataset=dataset,
        language=language,
        ablate=ablate,
        route=row.get("route") or "",
        status=status,
        reason=row.get("reason") or "",
        samples=samples,
        failed=failed,
        coverage=coverage,
        headline=headline,
        metrics=numbers,
        definitions=row.get("definition") or {},
        slices=slices,
        of_answered=number(row.get("of_answered")),
        latency=row.get("latency") or {},
        clusters=clusters,
        reliable=bool(reliable) if reliable is not None else clusters is None or clusters >= FEW_CLUSTERS,
        doubt=row.get("doubt") or "",
        rank=(int(rank[0]), int(rank[1])) if isinstance(rank, list) and len(rank) == 2 else None,
        best=bool(row.get("best")),
        note=row.get("note") or "",
        folder=folder / "cells" / model / ".".join(filter(None, (task, dataset, language, ablate))) if folder else None,
    )


def _count(value: Any) -> int | None:
    whole = number(value)
    return None if whole is None else int(whole)


def _numbers(metrics: Mapping[str, Any], where: str) -> dict[str, Number]:
    for name, value in metrics.items():
        if not isinstance(value, Mapping):
            raise UserError(f"{where}: metric '{name}' should be an object with value, low and high, but is {value!r}.")
    return {
        name: Number(number(value.get("value")), number(value.get("low")), number(value.get("high")))
        for name, value in metrics.items()
    }


def _merged(cells: Sequence[Cell]) -> list[Cell]:
    """The cells, each reference row that several runs have with one and the same score only once and without a run."""
    kept: dict[tuple[Any, ...], Cell] = {}
    for cell in cells:
        key = (cell.task, cell.dataset, cell.language, cell.ablate, cell.model)
        if not cell.reference or not cell.complete:
            kept[*key, cell.run] = cell
            continue
        same = (*key, cell.samples, cell.score)
        kept[same] = replace(kept[same], label=cell.model) if same in kept else cell
    return list(kept.values())


def _groups(cells: Iterable[Cell], comparisons: Sequence[Mapping[str, Any]]) -> tuple[Group, ...]:
    """Groups in the order in which the runs have them."""
    found: dict[tuple[str, str, str, str], list[Cell]] = {}
    for cell in cells:
        found.setdefault((cell.task, cell.dataset, cell.language, cell.ablate), []).append(cell)
    order = {task: position for position, task in enumerate(dict.fromkeys(key[0] for key in found))}
    return tuple(
        Group(
            *key,
            tuple(sorted((cell for cell in members if cell.complete), key=_place)),
            tuple(cell for cell in members if not cell.complete),
            tuple(c for c in comparisons if tuple(c.get(k) or "" for k in _KEYS) == key),
        )
        for key, members in sorted(found.items(), key=lambda item: order[item[0][0]])
    )


_KEYS = ("task", "dataset", "language", "ablate")


def _place(cell: Cell) -> tuple[bool, float, str]:
    """Models first, then reference rows, each by falling headline; undefined ones last."""
    value = cell.score.value
    return cell.reference, math.inf if value is None else -value, cell.label
