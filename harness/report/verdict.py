"""The report in a few sentences, made from the tests: who is best, by how much, at what cost, and what is missing.

Nothing is tested or estimated here. A model is called best, or not told apart from the best, by the marks of its table;
a gap between two models is shown, or is not, by their paired test, corrected over all pairs of the table.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.report import comparisons, formats, tables
from harness.report.strings import Strings
from harness.report.summary import Cell, Group, Number, Summary, number

NAMED = 3
"""So many models, tables or gaps are named one by one; where there are at least two more, those are counted."""


def sentences(summary: Summary, strings: Strings) -> list[str]:
    """The statements of the verdict, the most important first; empty for a report without a cell of any model.

    Groups from which something was taken away are left out: that a model does best without what was asked about does
    not make it the best.
    """
    groups = [group for group in summary.groups if not group.key.ablate]
    groups = [group for group in groups if any(not cell.reference for cell in (*group.cells, *group.missing))]
    teller = _Teller(summary, groups, strings)
    found = [teller.task(task) for task in dict.fromkeys(group.key.task for group in groups)]
    found += [teller.gaps(origin) for origin in ("domestic", "international")]
    found += [teller.blind(), teller.costs(), teller.missing()]
    return [text for text in found if text]


def legend(summary: Summary, strings: Strings) -> str:
    """What the marks in this report's tables mean, in one line; empty where they have none."""
    drawn = [tables.results(group, strings) for group in summary.groups if group.cells]
    marks = {word for table in drawn for row in table.rows for word in row.cells[0].split()}
    known = {"best": tables.BEST, "alike": tables.ALIKE, "unreliable": tables.UNRELIABLE, "cut_off": tables.CUT_OFF}
    return strings("semicolon").join(strings(f"mark_{name}") for name, mark in known.items() if mark in marks)


class _Teller:
    """Puts the outcomes of the tables `groups` into words."""

    def __init__(self, summary: Summary, groups: Sequence[Group], strings: Strings) -> None:
        self.summary, self.groups, self.strings = summary, groups, strings

    # Who is best

    def task(self, task: str) -> str:
        """Who is best at one task; tables with the same outcome are named together."""
        strings = self.strings
        outcomes: dict[tuple[str, ...], list[Group]] = {}
        for group in self._of(task):
            outcomes.setdefault(_outcome(group), []).append(group)
        parts = []
        for outcome, alike in outcomes.items():
            text = self._told(outcome, alike)
            where = strings("names").join(filter(None, map(self._where, alike)))
            parts.append(strings("told_where", where=where, text=text) if where else text)
        return strings("told_task", task=strings.name(task), text=strings("semicolon").join(parts))

    def _told(self, outcome: tuple[str, ...], groups: Sequence[Group]) -> str:
        """An outcome that all of `groups` have, with the values that the first of its models has in each."""
        strings, (name, *labels) = self.strings, outcome
        if name == "told_nobody":
            return strings(name, reasons=strings("semicolon").join(map(strings.name, labels)))
        if not labels:
            return strings(name)
        form = formats.with_interval if name.startswith("told_alone") else _value
        cells = [next(cell for cell in group.models if cell.label == labels[0]) for group in groups]
        values = strings("names").join(form(cell.score, cell.headline) for cell in cells)
        metric = tables.heading(groups[0].headline, groups[0])
        others = self._listed(labels[1:], "more_models")
        return strings(name, model=labels[0], metric=metric, values=values, others=others)

    # Gaps between origins

    def gaps(self, origin: str) -> str:
        """How the best in-house model stands to the best one of another origin, over the tables that test both."""
        strings = self.strings
        found: dict[str, list[str]] = {"gaps_ahead": [], "gaps_behind": [], "gaps_alike": []}
        for group in self.groups:
            best = comparisons.best_of_origins(group)
            if "in-house" not in best or origin not in best:
                continue
            own, other = best["in-house"], best[origin]
            test = comparisons.paired(group, own, other)
            if test is None or test.p is None or test.difference.value is None:
                continue
            values = {"table": self._table(group), "a": own.label, "b": other.label, "gap": test.text()}
            if test.shown:
                ahead = (test.difference.value > 0) == own.larger_is_better
                found["gaps_ahead" if ahead else "gaps_behind"].append(strings("gap", **values))
            elif test.detectable is None:
                found["gaps_alike"].append(strings("gap", **values))
            else:
                detectable = formats.metric(test.detectable)
                found["gaps_alike"].append(strings("gap_detectable", **values, detectable=detectable))
        parts = [
            strings(name, n=len(gaps), gaps=self._listed(gaps, "more_gaps", "semicolon"))
            for name, gaps in found.items()
            if gaps
        ]
        if not parts:
            return ""
        return strings("told_gaps", origin=strings.name(origin), parts=strings("semicolon").join(parts))

    # Doubts and costs

    def blind(self) -> str:
        """The models that were not shown to be better than prior and chance."""
        found: dict[str, list[str]] = {}
        for group in self.groups:
            for cell in group.models:
                if cell.unranked_reason == "not_above_blind":
                    found.setdefault(cell.label, []).append(self._table(group))
        models = [
            self.strings("named_in", name=label, tables=self._listed(where, "more_tables"))
            for label, where in found.items()
        ]
        return self.strings("told_blind", models=self._listed(models, "more_models")) if models else ""

    def costs(self) -> str:
        """What the fastest of the best models takes, in the first table of each task where such a model was timed."""
        strings, parts = self.strings, []
        for task in dict.fromkeys(group.key.task for group in self.groups):
            for group in self._of(task):
                if (cell := _fastest(group)) is not None:
                    costs = [strings("cost_p50", p50=formats.quantity(cell.latency["p50_ms"]))]
                    if (memory := number(cell.latency.get("peak_memory_mb"))) is not None:
                        costs.append(strings("cost_memory", memory=formats.count(memory)))
                    if cell.cost_of_thousand is not None:
                        costs.append(strings("cost_money", cost=formats.quantity(cell.cost_of_thousand)))
                    told = {"table": self._table(group), "model": cell.label, "costs": strings("comma").join(costs)}
                    parts.append(strings("cost_of", **told))
                    break
        return strings("told_costs", parts=strings("semicolon").join(parts)) if parts else ""

    # What is missing

    def missing(self) -> str:
        """What failed, was skipped or was left out."""
        strings, found = self.strings, []
        broken = [
            strings("named_in", name=cell.label, tables=self._table(group))
            for group in self.groups
            for cell in group.missing
            if cell.status != "skipped"
        ]
        if broken:
            found.append(strings("told_failed", cells=self._listed(broken, "more_cells")))
        samples = [
            strings(
                "failed_samples",
                model=cell.label,
                table=self._table(group),
                failed=formats.count(cell.failed),
                samples=formats.count(cell.samples),
            )
            for group in self.groups
            for cell in group.models
            if cell.failed
        ]
        if samples:
            found.append(strings("told_failed_samples", cells=self._listed(samples, "more_cells")))
        if skipped := {cell.label for group in self.groups for cell in group.missing if cell.status == "skipped"}:
            found.append(strings("told_skipped", n=len(skipped)))
        if left_out := {str(row.get("model")) for row in self.summary.left_out}:
            found.append(strings("told_left_out", n=len(left_out)))
        return strings("sentence_gap").join(found)

    # Names

    def _of(self, task: str) -> list[Group]:
        return [group for group in self.groups if group.key.task == task]

    def _where(self, group: Group) -> str:
        """What tells a table from the others of its task: data set, language or runs, as far as they differ."""
        others, key = self._of(group.key.task), group.key
        parts = [key.dataset] if len({other.key.dataset for other in others}) > 1 else []
        if len({other.key.language for other in others}) > 1:
            parts.append(self.strings.name(key.language))
        if sum(other.key == key for other in others) > 1:
            parts.append(" + ".join(group.runs))
        return " · ".join(parts)

    def _table(self, group: Group) -> str:
        """A table in words, such as "Captioning · English"."""
        return " · ".join(filter(None, (self.strings.name(group.key.task), self._where(group))))

    def _listed(self, names: Sequence[str], more: str, between: str = "names") -> str:
        """The first names, and how many more there are in the words of `more`; the string `between` divides them."""
        shown = names if len(names) <= NAMED + 1 else names[:NAMED]
        rest = [self.strings(more, n=len(names) - len(shown))] if len(shown) < len(names) else []
        return self.strings(between).join([*shown, *rest])


def _outcome(group: Group) -> tuple[str, ...]:
    """The name of the string that tells how a table ended, and what it names: models, or strings that tell reasons."""
    scored = [cell for cell in group.models if cell.score.value is not None]
    ranked = [cell for cell in scored if not cell.unranked_reason]
    if not scored:
        return ("told_nothing",)
    if len(scored) == 1:
        blind = scored[0].unranked_reason == "not_above_blind"
        return "told_alone_blind" if blind else "told_alone", scored[0].label
    if not ranked:
        return "told_nobody", *dict.fromkeys(cell.unranked_reason for cell in scored)
    marks = {cell.label: tables.mark(cell, group) for cell in ranked}
    best = next((label for label, mark in marks.items() if mark == tables.BEST), None)
    if best is None:
        return "told_untested", ranked[0].label
    tied = [label for label, mark in marks.items() if mark and label != best]
    if not tied:
        return "told_best", best
    return "told_all_tied" if len(tied) + 1 == len(scored) else "told_tied", best, *tied


def _fastest(group: Group) -> Cell | None:
    """The model with the least median latency of those that are best, or not told apart from the best; None where none
    was timed, or where they were timed on different machines."""
    leading = [cell for cell in group.models if tables.mark(cell, group) or len(group.models) == 1]
    timed = [cell for cell in leading if number(cell.latency.get("p50_ms")) is not None]
    if len(group.machines) != 1 or not timed:
        return None
    return min(timed, key=lambda cell: cell.latency["p50_ms"])


def _value(score: Number, metric: str) -> str:
    return formats.metric(score.value, metric)
