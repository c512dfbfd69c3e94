"""What a report is made of: `summary.json` of one run, or of several joined, checked once and turned into plain
objects.

Every module after this one trusts what it gets. A file that lacks what every summary has is a `UserError` that names
the file and the key; what only some runs know (latency, slices, machine card ...) may be missing and is then empty.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.metrics import FEW_CLUSTERS, finite
from harness.records import ORIGINS, CellGroup


@dataclass(frozen=True)
class Number:
    """A value and its 95 % interval; None where undefined or unknown."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    larger_is_better: bool = True


@dataclass(frozen=True)
class Slice:
    """The metrics over the n samples that share a value of some field."""

    n: int
    metrics: Mapping[str, Number]


NETWORK = "network: "
"""What stands before the machine's name where a model that runs elsewhere was timed from it."""


@dataclass(frozen=True)
class Cell:
    """One model, or reference row, in one group of one run."""

    run: str
    machine: str
    """The run's machine in a few words, behind NETWORK for a model that runs elsewhere: latencies are compared only
    where these are equal."""
    model: str
    label: str
    """The model's name, with its run where two runs of a joined report have a model of that name."""
    origin: str
    group: CellGroup
    part: int
    """Which of the group's tables it is in, where joined runs asked different things under the same ids."""
    route: str
    status: str
    reason: str
    """Why there is no score, where there is none."""
    samples: int | None
    dtype: str
    """What the model computed in; empty where that is not known."""
    rows_left_out: int
    """Rows of the data set that the run left out, as their references mean nothing."""
    failed: int | None
    failed_reason: str
    """Why samples failed: the commonest reason."""
    coverage: float | None
    """Share of samples that were answered, 0 to 1."""
    text_cut: float | None
    """Share of samples (of retrieval, of texts) of whose text the model saw a part alone, 0 to 1."""
    cut_off: float | None
    """Share of the answers, 0 to 1, that the token limit ended."""
    refused: float | None
    """Share of the answers that decline to answer."""
    empty: float | None
    """Share of the answers without text."""
    unfinished: float | None
    """Share of the answers that ended inside a trace of reasoning; they are empty as well."""
    max_new_tokens: int | None
    """The token limit."""
    tokens_in: int | None
    """Of all requests together; None where the model does not count them."""
    tokens_out: int | None
    reasoning_tokens: int | None
    """So many of `tokens_out` were reasoning."""
    cost: float | None
    """Of all answers together, in the currency of the model's prices."""
    served_by: Mapping[str, int]
    """How many answers came under each of a server's names for the model."""
    headline: str
    metrics: Mapping[str, Number]
    definitions: Mapping[str, str]
    slices: Mapping[str, Mapping[str, Slice]]
    of_answered: float | None
    """The headline over the answered samples alone, where some failed."""
    latency: Mapping[str, Any]
    clusters: int | None
    reliable: bool
    """Whether the headline's interval covers what it says."""
    doubt: str
    """Why it may not."""
    rank: tuple[int, int] | None
    """The best and the worst place it may have among the group's models."""
    best: bool
    """Whether it is the best of its group, or not distinguishable from it."""
    unranked_reason: str
    """Why it has no rank, no mark and no win rate, as a key of the report's strings; empty where it may have."""
    note: str
    folder: Path | None
    """Where records.jsonl is, if anywhere."""

    @property
    def score(self) -> Number:
        """The headline number."""
        return self.metrics.get(self.headline, Number())

    @property
    def remote(self) -> bool:
        """Whether the model runs elsewhere."""
        return self.machine.startswith(NETWORK)

    @property
    def cost_of_thousand(self) -> float | None:
        """What a thousand samples cost."""
        return 1_000 * self.cost / self.samples if self.cost is not None and self.samples else None

    @property
    def larger_is_better(self) -> bool:
        """The direction of the headline."""
        return self.score.larger_is_better

    @property
    def reference(self) -> bool:
        """Whether it is a reference row, whose answers come from a rule and not from a model."""
        return self.origin == "reference"

    @property
    def complete(self) -> bool:
        """Whether it has a score."""
        return self.status == "complete"


@dataclass(frozen=True)
class Joint:
    """How the samples of joined runs fit one another in a table."""

    by_id: int
    """Samples that are paired by their ids alone, as their media were not read in all runs."""
    by_words: int
    """Samples that are paired by question and references alone, as a run has no digests."""
    other: int
    """Ids that stand for something else than in the group's first table; 0 in that one."""
    samples: int
    split: bool
    """Whether the group has several tables."""


@dataclass(frozen=True)
class Group:
    """The cells that may be compared with one another."""

    key: CellGroup
    cells: tuple[Cell, ...]
    """Complete models, the best headline first, then complete reference rows."""
    missing: tuple[Cell, ...]
    """Skipped, failed and interrupted cells."""
    comparisons: tuple[Mapping[str, Any], ...]
    """As in summary.json; of joined runs with those of both models as `a_run` and `b_run`."""
    part: int = 0
    joint: Joint | None = None
    """Of joined runs: how their samples fit one another, where that is known."""

    @property
    def name(self) -> str:
        """What the group's files are called."""
        return f"{self.key.name}.{self.part + 1}" if self.part else self.key.name

    @property
    def headline(self) -> str:
        """The name of the headline metric; empty where no cell has one."""
        return next((cell.headline for cell in (*self.cells, *self.missing) if cell.headline), "")

    @property
    def smaller_is_better(self) -> frozenset[str]:
        """The metrics of which a smaller value is better."""
        return frozenset(
            name for cell in self.cells for name, score in cell.metrics.items() if not score.larger_is_better
        )

    @property
    def models(self) -> tuple[Cell, ...]:
        """The complete cells of models."""
        return tuple(cell for cell in self.cells if not cell.reference)

    @property
    def references(self) -> tuple[Cell, ...]:
        """The complete reference rows."""
        return tuple(cell for cell in self.cells if cell.reference)

    @property
    def machines(self) -> tuple[str, ...]:
        """The machines on which these latencies were measured."""
        return tuple(
            dict.fromkeys(cell.machine for cell in self.cells if number(cell.latency.get("p50_ms")) is not None)
        )

    @property
    def runs(self) -> tuple[str, ...]:
        """The runs that rows come from."""
        return tuple(sorted({cell.run for cell in self.cells}))

    @property
    def joined(self) -> bool:
        """Whether rows come from several runs."""
        return len(self.runs) > 1

    @property
    def tested(self) -> bool:
        """Whether marks, ranks and tests hold for all rows: those of single runs do not where others stand beside."""
        return not self.joined or self.joint is not None


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
        """All cells of all groups, those without a score included."""
        return [cell for group in self.groups for cell in (*group.cells, *group.missing)]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks there are, in order."""
        return tuple(dict.fromkeys(group.key.task for group in self.groups))

    @property
    def ablations(self) -> list[list[Group]]:
        """The groups that differ in their ablation alone, together, where there are several."""
        sets: dict[tuple[CellGroup, int], list[Group]] = {}
        for group in self.groups:
            sets.setdefault((group.key._replace(ablate=""), group.part), []).append(group)
        return [groups for groups in sets.values() if len(groups) > 1]

    @property
    def pocket(self) -> list[str]:
        """Names of the bundled pocket models that are in it."""
        present = {cell.model for cell in self.cells}
        return [name for name, card in self.models.items() if card.get("pocket") and name in present]


# Reading --------------------------------------------------------------------------------------------------------------


def load(folder: Path) -> dict[str, Any]:
    """The JSON object in a run folder's summary.json; raises UserError where there is none, or where it is damaged."""
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
    """A Summary of one run. `folder` is the run folder, for samples; a UserError names `where`."""
    return join([(data, where, folder)])


def join(
    parts: Sequence[tuple[Mapping[str, Any], str, Path | None]], joined: Sequence[Mapping[str, Any]] = ()
) -> Summary:
    """One Summary of several (data, where it came from, run folder); rows are labelled by run where names collide.

    `joined` tells of each group that several runs have which of them share their samples, and the tests over all of
    these (`harness.analysis.joined`). Without it such rows stand together untested.
    """
    runs = _runs(parts)
    names = [run.name for run in runs]
    shared = _shared_names(runs)
    models, datasets, prompts, left_out = {}, {}, {}, []
    for data in (run.data for run in runs):
        models.update(data.get("models") or {})
        datasets.update(data.get("datasets") or {})
        prompts.update(data.get("prompts") or {})
        left_out.extend(row for row in _mappings(data.get("left_out")) if row not in left_out)
    cells = [_cell(row, place, run, shared) for run in runs for row, place in run.rows()]
    comparisons = [
        {**row, "a_run": run.name, "b_run": run.name} if len(runs) > 1 else row
        for run in runs
        for row in _mappings(run.data.get("comparisons"))
    ]
    return Summary(
        runs=tuple(run.name for run in runs),
        groups=_groups(_merged(_placed(cells, names, joined)), comparisons, names, joined),
        machines={run.name: run.machine for run in runs},
        models=models,
        datasets=datasets,
        prompts=prompts,
        left_out=tuple(left_out),
        standings=tuple(_mappings(runs[0].data.get("standings"))) if len(runs) == 1 else (),
        facts={run.name: run.facts for run in runs},
    )


def number(value: Any) -> float | None:
    """A finite float, or None for null, NaN, infinity and anything else but a number."""
    return finite(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def machine_name(card: Mapping[str, Any]) -> str:
    """The machine in a few words: what its latencies depend on."""
    gpu = card.get("gpu")
    cores = f"{card['cores']} cores" if card.get("cores") else None
    parts = [", ".join(map(str, gpu)) if isinstance(gpu, list) else gpu, card.get("cpu"), cores]
    return " / ".join(str(part) for part in parts if part) or str(card.get("name") or "")


@dataclass(frozen=True)
class _Run:
    """One summary, by itself or to be joined with others."""

    name: str
    data: Mapping[str, Any]
    where: str
    """Where it came from, for messages."""
    folder: Path | None

    @property
    def machine(self) -> Mapping[str, Any]:
        """The machine card, as far as known."""
        card = self.data.get("machine")
        return card if isinstance(card, Mapping) else {"name": str(card)} if card else {}

    @property
    def facts(self) -> dict[str, Any]:
        """Seed, start, duration and harness version, as far as known."""
        known = {key: self.data.get(key) for key in ("seed", "started", "seconds", "harness", "scored_by")}
        return {key: value for key, value in known.items() if value is not None}

    def rows(self) -> Iterator[tuple[Any, str]]:
        """The entries of cells, each with its place, for messages."""
        for position, row in enumerate(_need(self.data, "cells", list, self.where), start=1):
            yield row, f"{self.where}, cell {position}"


def _runs(parts: Sequence[tuple[Mapping[str, Any], str, Path | None]]) -> list[_Run]:
    """The runs, told apart by a number where two results folders hold a run of one name."""
    runs: list[_Run] = []
    for data, where, folder in parts:
        name = _need(data, "run", str, where)
        same = sum(run.name == name or run.name.startswith(f"{name} (") for run in runs)
        runs.append(_Run(f"{name} ({same + 1})" if same else name, data, where, folder))
    return runs


def _shared_names(runs: Sequence[_Run]) -> set[str]:
    """The models that several runs have on the same task, data set and language."""
    seen: dict[tuple[str, ...], set[str]] = {}
    for run in runs:
        for row, place in run.rows():
            key = tuple(_need(row, name, str, place) for name in ("task", "dataset", "language", "model"))
            seen.setdefault(key, set()).add(run.name)
    return {key[-1] for key, names in seen.items() if len(names) > 1}


def _need(row: Any, key: str, kind: type, where: str) -> Any:
    """What every row must have under `key`; raises UserError where it is missing or of another kind."""
    if not isinstance(row, Mapping):
        raise UserError(f"{where} should be a JSON object, but is a {type(row).__name__}.")
    if key not in row:
        raise UserError(f"{where} has no '{key}'. It was not written by `harness run`, or is damaged.")
    if not isinstance(row[key], kind):
        raise UserError(f"{where}: '{key}' should be a {kind.__name__}, but is {row[key]!r}.")
    return row[key]


def _mappings(rows: Any) -> list[Mapping[str, Any]]:
    """The objects in a list that may be missing, or hold something else besides."""
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []


# Cells and groups -----------------------------------------------------------------------------------------------------


def _cell(row: Any, where: str, run: _Run, shared: set[str]) -> Cell:
    """A cell from its entry in summary.json; raises UserError, naming `where`, for an entry that cannot be shown."""
    model, origin = _need(row, "model", str, where), _need(row, "origin", str, where)
    if origin not in ORIGINS:
        raise UserError(f"{where}: origin is '{origin}', but must be one of {', '.join(ORIGINS)}.")
    group = CellGroup.of(row)
    status = _need(row, "status", str, where)
    metrics = _numbers(_need(row, "metrics", Mapping, where) if row.get("metrics") is not None else {}, where)
    headline = row.get("headline") or ""
    if status == "complete" and headline not in metrics:
        raise UserError(f"{where} ({model}): the headline metric '{headline}' is not among its metrics.")
    clusters, rank = _count(row.get("clusters")), row.get("rank")
    return Cell(
        run=run.name,
        machine=(NETWORK if row.get("remote") else "") + machine_name(run.machine),
        model=model,
        label=f"{model} @ {run.name}" if model in shared else model,
        origin=origin,
        group=group,
        part=0,
        route=row.get("route") or "",
        status=status,
        reason=row.get("reason") or "",
        samples=_count(row.get("samples")),
        dtype=str(row.get("dtype") or ""),
        rows_left_out=int(row.get("rows_left_out") or 0),
        failed=_count(row.get("failed")),
        failed_reason=row.get("failed_reason") or "",
        coverage=_coverage(row),
        text_cut=number(row.get("text_cut")),
        cut_off=number(row.get("cut_off")),
        refused=number(row.get("refused")),
        empty=number(row.get("empty")),
        unfinished=number(row.get("unfinished")),
        max_new_tokens=_count(row.get("max_new_tokens")),
        tokens_in=_count(row.get("tokens_in")),
        tokens_out=_count(row.get("tokens_out")),
        reasoning_tokens=_count(row.get("reasoning_tokens")),
        cost=number(row.get("cost")),
        served_by=row.get("served_by") or {},
        headline=headline,
        metrics=metrics,
        definitions=_definitions(row),
        slices=_slices(row, where),
        of_answered=number(row.get("of_answered")),
        latency=row.get("latency") or {},
        clusters=clusters,
        reliable=_reliable(row.get("reliable"), clusters),
        doubt=row.get("doubt") or "",
        rank=(int(rank[0]), int(rank[1])) if isinstance(rank, list) and len(rank) == 2 else None,
        best=bool(row.get("best")),
        unranked_reason=row.get("unranked_reason") or "",
        note=row.get("note") or "",
        folder=run.folder / "cells" / model / group.name if run.folder else None,
    )


def _count(value: Any) -> int | None:
    whole = number(value)
    return None if whole is None else int(whole)


def _coverage(row: Mapping[str, Any]) -> float | None:
    """The share of samples that were answered: as it stands there, else from the counts."""
    samples, failed = _count(row.get("samples")), _count(row.get("failed"))
    coverage = number(row.get("coverage"))
    if coverage is None and samples and failed is not None:
        return (samples - failed) / samples
    return coverage


def _reliable(told: Any, clusters: int | None) -> bool:
    """Whether the interval is to be relied on: as it stands there, else by the number of clusters."""
    return bool(told) if told is not None else clusters is None or clusters >= FEW_CLUSTERS


def _numbers(metrics: Mapping[str, Any], where: str) -> dict[str, Number]:
    for name, value in metrics.items():
        if not isinstance(value, Mapping):
            raise UserError(f"{where}: metric '{name}' should be an object with value, low and high, but is {value!r}.")
    return {
        name: Number(
            number(value.get("value")),
            number(value.get("low")),
            number(value.get("high")),
            bool(value.get("larger_is_better", True)),
        )
        for name, value in metrics.items()
    }


def _definitions(row: Mapping[str, Any]) -> dict[str, str]:
    """The metrics' definitions; a summary of an earlier version has them in a map of their own."""
    stated = {name: value.get("definition") for name, value in (row.get("metrics") or {}).items()}
    return {**(row.get("definition") or {}), **{name: text for name, text in stated.items() if text}}


def _slices(row: Mapping[str, Any], where: str) -> dict[str, dict[str, Slice]]:
    return {
        str(name): {
            str(value): Slice(_count(part.get("n")) or 0, _numbers(part.get("metrics") or {}, where))
            for value, part in values.items()
        }
        for name, values in (row.get("slices") or {}).items()
    }


def _placed(cells: Sequence[Cell], names: Sequence[str], joined: Sequence[Mapping[str, Any]]) -> list[Cell]:
    """The cells in the table that they share with those of other runs, with their places there."""
    tables = {(CellGroup.of(table), names[run]): table for table in joined for run in table["runs"]}
    places = {(CellGroup.of(table), names[row["run"]], row["model"]): row for table in joined for row in table["cells"]}
    found = []
    for cell in cells:
        if (table := tables.get((cell.group, cell.run))) is not None:
            cell = replace(cell, part=table["part"])
        if (place := places.get((cell.group, cell.run, cell.model))) is not None:
            cell = replace(cell, rank=place["rank"] and tuple(place["rank"]), best=place["best"])
        found.append(cell)
    return found


def _merged(cells: Sequence[Cell]) -> list[Cell]:
    """The cells, but a reference row that several runs have with the same score only once and without its run's
    name."""
    kept: dict[tuple[Any, ...], Cell] = {}
    for cell in cells:
        key = (cell.group, cell.part, cell.model)
        if not cell.reference or not cell.complete:
            kept[*key, cell.run] = cell
            continue
        same = (*key, cell.samples, cell.score)
        kept[same] = replace(kept[same], label=cell.model) if same in kept else cell
    return list(kept.values())


def _groups(
    cells: Iterable[Cell],
    comparisons: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    joined: Sequence[Mapping[str, Any]],
) -> tuple[Group, ...]:
    """The groups, those of a task together, else in the order in which the runs have them."""
    found: dict[tuple[CellGroup, int], list[Cell]] = {}
    for cell in cells:
        found.setdefault((cell.group, cell.part), []).append(cell)
    order = {task: position for position, task in enumerate(dict.fromkeys(key.task for key, _ in found))}
    tables = {(CellGroup.of(table), table["part"]): table for table in joined}
    groups = []
    for (key, part), members in sorted(found.items(), key=lambda item: order[item[0][0].task]):
        table = tables.get((key, part))
        runs = {cell.run for cell in members}
        tests = [row for row in comparisons if _belongs(row, key) and row.get("a_run") in (None, *runs)]
        if table is not None and len(table["runs"]) > 1:
            tests = [
                {**row, "a_run": names[row["a_run"]], "b_run": names[row["b_run"]]} for row in table["comparisons"]
            ]
        groups.append(
            Group(
                key=key,
                cells=tuple(sorted((cell for cell in members if cell.complete), key=_place)),
                missing=tuple(cell for cell in members if not cell.complete),
                comparisons=tuple(tests),
                part=part,
                joint=None if table is None else _joint(table, split=(key, 1) in tables),
            )
        )
    return tuple(groups)


def _joint(table: Mapping[str, Any], split: bool) -> Joint:
    return Joint(table["by_id"], table["by_words"], table["other"], table["samples"], split)


def _belongs(row: Mapping[str, Any], key: CellGroup) -> bool:
    return all((row.get(name) or "") == value for name, value in key._asdict().items())


def _place(cell: Cell) -> tuple[bool, float, str]:
    """The order within a group: models first, then reference rows, each with the best headline first and undefined ones
    last."""
    value, sign = cell.score.value, -1 if cell.larger_is_better else 1
    return cell.reference, math.inf if value is None else sign * value, cell.label
