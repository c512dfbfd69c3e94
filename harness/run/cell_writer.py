"""What the driver keeps of one cell while it runs: what is missing, what came in, and how the cell is closed."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.run.messages import CellEnded, Died, Embedded, Job
from harness.run.plan import Plan
from harness.store.runs import RunFolder
from harness.task import Gallery, GalleryTask, blank_record


class CellWriter:
    """What the driver keeps of one cell while it runs."""

    def __init__(self, plan: Plan, folder: RunFolder, job: Job, key: str) -> None:
        self.cell = plan.cells[key]
        self.job = next(cell for cell in job.cells if cell.key == key)
        self.store = folder.cell(key)
        self.store.begin(self.cell.info)
        self.task = plan.task(self.cell.group.task)
        self.dataset = plan.asked(self.cell.group, self.job.route)
        self.gallery: Gallery | None = self.task.gallery(self.dataset) if isinstance(self.task, GalleryTask) else None
        self.load_s: float | None = None
        self.seconds = 0.0
        self.units = 0
        self.taken = 0
        """Batches that the process at work has handed over."""
        self.suspect = -1
        """The single unit that a process has died of already."""
        self.kills = 0
        """Processes that were killed while they had a batch in hand."""
        self.batch_size = int(self.store.info().get("batch_size_that_fits", self.job.batch_size))
        self.width = 0
        self.waiting: list[tuple[str, str, str]] = []
        self.done = sum(stop - start for start, stop in self.job.batches) if self.store.complete else 0

    def missing(self) -> tuple[tuple[int, int], ...]:
        """Batches still to run; what is on disk of a half-finished one is dropped, as it is run again whole."""
        if self.gallery is not None:
            return self._missing_vectors(self.gallery)
        have = self.store.ids()
        missing = self.job.batches
        if have:  # else no sample need be built to know it
            missing = []
            for start, stop in self.job.batches:
                ids = {self.dataset[i].id for i in range(start, stop)}
                if ids <= have:
                    self.done += stop - start
                else:
                    have -= ids
                    missing.append((start, stop))
        self.store.keep(have)
        return tuple(missing)

    def _missing_vectors(self, gallery: Gallery) -> tuple[tuple[int, int], ...]:
        images = len(gallery.images)
        missing = []
        for side, low in (("image", 0), ("text", images)):
            vectors = self.store.vectors(side)[1]
            have = low + len(vectors)
            self.width = self.width or vectors.shape[1]
            own = [b for b in self.job.batches if (b[0] >= images) == (side == "text")]
            whole = max((stop for _, stop in own if stop <= have), default=low)
            self.store.keep_vectors(side, whole - low)
            self.done += whole - low
            missing += [batch for batch in own if batch[1] > whole]
        return tuple(missing)

    def answered(self, records: list[Any], seconds: float) -> None:
        self.store.append(records)
        self.seconds += seconds
        self.units += len(records)
        self.taken += 1

    def embedded(self, event: Embedded) -> None:
        self._append(event.side, event.ids, event.rows, event.errors)
        self.seconds += event.seconds
        self.units += len(event.ids)
        self.taken += 1

    def shrink(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.store.shrink(batch_size)

    def died(self, death: Died, units: int) -> None:
        """Batches are halved once two processes were killed over them: for want of memory, most likely."""
        if death.cause != "kill":
            return
        self.kills += 1
        if self.kills > 1:
            self.shrink((min(units, self.batch_size) + 1) // 2)

    def _append(self, side: str, ids: list[str], rows: np.ndarray, errors: dict[str, str]) -> None:
        """Store vectors; items that failed before any had a width wait until one has. A process that was started anew
        cannot know the width of the vectors before: others are refused here."""
        if self.width and rows.shape[1] != self.width:
            reason = f"embed() gave vectors of width {rows.shape[1]}, not {self.width} as before"
            errors = dict.fromkeys(ids, reason) | errors  # of width 0 all have failed, each for a reason of its own
            rows = np.full((len(ids), self.width), np.nan)
        if not rows.shape[1]:
            self.waiting += [(side, name, errors[name]) for name in ids]
            return
        for early, name, reason in self.waiting:
            self.store.append_vectors(early, [name], np.full((1, rows.shape[1]), np.nan), {name: reason})
        self.waiting = []
        self.width = rows.shape[1]
        self.store.append_vectors(side, ids, rows, errors)

    def give_up(self, unit: int, reason: str) -> None:
        """Record that one unit killed the process."""
        if self.gallery is None:
            record = blank_record(self.dataset[unit])
            record.error = reason
            self.store.append([record])
            return
        images = list(self.gallery.images)
        side = "image" if unit < len(images) else "text"
        name = images[unit] if side == "image" else list(self.gallery.texts)[unit - len(images)]
        self._append(side, [name], np.zeros((1, 0)), {name: reason})

    def finish(self, event: CellEnded) -> None:
        """Rank a gallery whose vectors are all there, and close the cell."""
        if self.gallery is not None and isinstance(self.task, GalleryTask):
            sides = [self.store.vectors(side) for side in ("image", "text")]
            if [len(side[0]) for side in sides] != [len(self.gallery.images), len(self.gallery.texts)]:
                self.store.fail("failed", self.waiting[0][2] if self.waiting else "no vector came back")
                return
            records = self.task.rank(self.gallery, sides[0][1], sides[1][1])
            errors = sides[0][2] | sides[1][2]
            for record in records:
                record.error = errors.get(record.id.partition(":")[2])
            self.store.write_records(records)
        shrunk = ""
        if self.batch_size < self.job.batch_size:
            shrunk = f"batches of at most {self.batch_size}: memory ran out, or the process was killed, at larger ones"
        self.store.finish(
            {
                "load_s": self.load_s,
                "samples_per_s": round(self.units / self.seconds, 2) if self.seconds else None,
                "seconds": round(self.seconds, 3),
                "peak_memory_mb": event.peak_memory_mb and round(event.peak_memory_mb, 1),
                "latency": event.latency,
                "note": "; ".join(filter(None, [event.note, shrunk])),
            }
        )

    def close(self) -> None:
        self.store.close()
