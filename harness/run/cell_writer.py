"""What the driver keeps of one cell while it runs: what is missing, what came in, and how the cell is closed."""

from __future__ import annotations

from harness.run.items import items_of
from harness.run.messages import Answered, CellEnded, Died, Embedded, Extent, Job
from harness.run.plan import Plan
from harness.run.purse import price
from harness.store.runs import RunFolder


class CellWriter:
    """The one writer of a cell's folder."""

    def __init__(self, plan: Plan, folder: RunFolder, job: Job, key: str) -> None:
        self.key = key
        self.job = next(cell for cell in job.cells if cell.key == key)
        self.store = folder.cell(key)
        self.store.begin(plan.cells[key].info)
        group = plan.cells[key].group
        dataset = plan.asked(group, self.job.route)
        self.items = items_of(plan.task(group.task), dataset, self.job.route, job.prompt)
        self.load_s: float | None = None
        """Of a model that runs here."""
        self.seconds = 0.0
        self.items_received = 0
        self.batches_received = 0
        """Batches (of a stream: events) that the process at work has handed over."""
        self.waiting: set[int] = set()
        """Of a stream: the items without an outcome."""
        self.suspect = -1
        """The single item that a process has died of already."""
        self.kills = 0
        """Processes that were killed while they had a batch in hand."""
        self.batch_size = int(self.store.info().get("batch_size_that_fits", self.job.batch_size))
        self.spent = self.store.spent() if price(job.model, 0, 0) is not None else 0.0
        """What its answers have cost."""
        self.done = len(self.items) if self.store.complete else 0
        """Items that had their outcome in the store when the run went on."""

    @property
    def begun(self) -> bool:
        """Whether any item has been asked."""
        return self.done + self.items_received > 0

    def missing(self) -> tuple[Extent, ...]:
        """Batches still to run; what is on disk of a half-finished one is dropped, as it is run again whole."""
        missing = self.items.missing(self.store, self.job.batches)
        self.done = len(self.items) - sum(stop - start for start, stop in missing)
        if self.job.stream:
            self.waiting = {item for item, _ in missing}
        return tuple(missing)

    def received(self, event: Answered | Embedded) -> None:
        """A batch came back."""
        self.items.keep(self.store, event)
        self.seconds += event.seconds
        self.items_received += len(event)
        self.batches_received += 1
        if isinstance(event, Answered):
            self.waiting.difference_update(event.items)
            self.spent += sum(record.cost or 0.0 for record in event.records)

    def give_up(self, item: int, reason: str) -> None:
        """Record that one item killed the process."""
        self.items.keep(self.store, self.items.lost(self.key, item, reason))
        self.waiting.discard(item)

    def resize(self, batch_size: int) -> None:
        """Memory allows batches of this size; a resume is to know it."""
        self.batch_size = batch_size
        self.store.resize(batch_size)

    def died(self, death: Died, items: int) -> None:
        """A process died over a batch of so many items.

        Batches are halved once two processes were killed over them: for want of memory, most likely.
        """
        if death.cause != "kill":
            return
        self.kills += 1
        if self.kills > 1:
            self.resize((min(items, self.batch_size) + 1) // 2)

    def finish(self, event: CellEnded) -> None:
        """Close the cell, all of whose batches are done."""
        self.spent += event.latency.get("cost") or 0.0
        if reason := self.items.close(self.store, in_order=not self.job.stream):
            self.store.fail("failed", reason)
            return
        shrunk = ""
        if self.batch_size < self.job.batch_size:
            shrunk = f"batches of at most {self.batch_size}: memory ran out, or the process was killed, at larger ones"
        self.store.finish(
            {
                "load_s": self.load_s,
                "samples_per_s": round(self.items_received / self.seconds, 2) if self.seconds else None,
                "seconds": round(self.seconds, 3),
                "peak_memory_mb": event.peak_memory_mb and round(event.peak_memory_mb, 1),
                "latency": event.latency,
                "note": "; ".join(filter(None, [event.note, shrunk])),
            }
        )

    def close(self) -> None:
        """Close the files that are open."""
        self.store.close()
