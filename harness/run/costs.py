"""What a run will ask of models that run elsewhere, before the first call: calls, tokens and money."""

from __future__ import annotations

from dataclasses import dataclass

from harness.config.specs import ModelSpec
from harness.records import Request
from harness.run.items import items_of
from harness.run.plan import Cell, Plan
from harness.run.purse import price, tokens_of
from harness.store.runs import RunFolder
from harness.task import make_task

LOOKED_AT = 200
"""About so many requests of a cell, evenly over all, are looked at for the estimate."""


@dataclass(frozen=True)
class Estimate:
    """What is still to be asked of one model that runs elsewhere."""

    model: str
    calls: int
    timings: int
    """The most further calls of latency passes."""
    tokens_in: int
    tokens_out: int
    """The most that the answers may have."""
    cost: float | None

    def __str__(self) -> str:
        timed = f" (and up to {self.timings:,} to time it)" if self.timings else ""
        tokens = f"about {self.tokens_in:,} tokens in and at most {self.tokens_out:,} out"
        cost = ""
        if self.cost is not None:
            amount = f"{self.cost:,.2f}" if self.cost >= 1 else f"{self.cost:.2g}"
            cost = f": about {amount} at its prices"
        return f"{self.model}: {self.calls:,} {'call' if self.calls == 1 else 'calls'}{timed}, {tokens}{cost}"


def estimates(plan: Plan, folder: RunFolder | None = None) -> list[Estimate]:
    """What a plan will ask of each model that runs elsewhere; of a run that was begun, what is left."""
    found = []
    for name, spec in plan.run.models.items():
        cells = [cell for cell in plan.cells.values() if cell.job and cell.info["model"] == name]
        if not (spec.remote and cells):
            continue
        calls = timings = tokens_in = tokens_out = 0
        for cell in cells:
            left = cell.items - (sum(1 for _ in folder.cell(cell.key).ids()) if folder else 0)
            timed = _timings(plan, cell) if left > 0 else 0
            of_one = _tokens_of_one(plan, spec, cell)
            calls, timings = calls + left, timings + timed
            tokens_in += round((left + timed) * of_one[0])
            tokens_out += round((left + timed) * of_one[1])
        if calls:
            found.append(Estimate(name, calls, timings, tokens_in, tokens_out, price(spec, tokens_in, tokens_out)))
    return found


def _timings(plan: Plan, cell: Cell) -> int:
    latency = plan.run.latency
    return min(cell.items, latency.samples) + min(cell.items, latency.warmups) if latency.mode != "off" else 0


def _tokens_of_one(plan: Plan, spec: ModelSpec, cell: Cell) -> tuple[float, float]:
    """The mean tokens of a cell's requests, and the most of an answer."""
    assert cell.job is not None
    dataset = plan.asked(cell.group, cell.job.route)
    task = make_task(cell.job.task._target_, cell.job.task)
    items = items_of(task, dataset, cell.job.route, plan.run.prompts[spec.prompt])
    step = max(1, len(items) // LOOKED_AT)
    requests: list[Request] = []
    for item in range(0, len(items), step):
        extent = (item, item + 1)
        requests += [r for r in items.requests(extent, items.samples(extent)) if isinstance(r, Request)]
    if not requests:
        return 0.0, 0.0
    most = max(request.max_new_tokens for request in requests) if cell.job.route == "generate" else 0
    return sum(map(tokens_of, requests)) / len(requests), float(most)


def unagreed(plan: Plan) -> list[str]:
    """The models with prices to which no budget sets a bound, so that a person must agree to what they cost."""
    if plan.run.budget is not None:
        return []
    asked = {cell.info["model"] for cell in plan.cells.values() if cell.job}
    return [name for name, spec in plan.run.models.items() if name in asked and price(spec, 0, 0) is not None
            and spec.budget is None]  # fmt: skip
