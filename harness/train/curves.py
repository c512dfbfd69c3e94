"""How training goes, as a table that grows and a chart of it: mean losses and validation scores over steps."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.config.specs import Schedule
from harness.store.files import replacing

_NOT_DRAWN = ("step", "seconds", "learning_rate")
_COLOURS = 10
"""How many colours matplotlib draws lines in before it begins anew."""


class Curves:
    """`curves.csv`: a row at each validation, with the mean losses since the row before."""

    def __init__(self, path: Path, step: int) -> None:
        """Go on with the file from `step`. After a kill it may be ahead of the state that is continued: what it says
        of later steps is left out."""
        self.path = path
        self.rows: list[dict[str, Any]] = []
        if path.exists():
            with path.open(newline="") as file:
                self.rows = [row for row in csv.DictReader(file) if int(row["step"]) <= step]
        self.since: dict[str, list[float]] = {}
        """The losses of each step since the last row, by name."""

    def note(self, losses: Mapping[str, float]) -> None:
        """Take the losses of one step into the next row."""
        for name, value in losses.items():
            self.since.setdefault(name, []).append(value)

    def write(self, step: int, schedule: Schedule, seconds: float, scores: Mapping[str, float]) -> None:
        """Add the row of a validation, write the file anew and print the row."""
        row: dict[str, Any] = {"step": step, "seconds": round(seconds, 1), "learning_rate": schedule.rate(step - 1)}
        row |= {f"loss_{name}": sum(values) / len(values) for name, values in self.since.items()}
        row |= dict(scores)
        self.since = {}
        self.rows.append(row)
        with replacing(self.path) as file:
            file.write(self._csv().encode())
        left = seconds / step * (schedule.steps - step)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in row.items() if name not in _NOT_DRAWN)
        print(f"step {step}/{schedule.steps}  {seconds / 60:.1f} min, {left / 60:.1f} left  {shown}", flush=True)

    def _csv(self) -> str:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(dict.fromkeys(name for row in self.rows for name in row)), restval="")
        writer.writeheader()
        for row in self.rows:
            writer.writerow({k: f"{value:.5g}" if isinstance(value, float) else value for k, value in row.items()})
        return text.getvalue()


def chart(source: Path, target: Path) -> None:
    """Draw a `curves.csv`: losses on the left, validation scores on the right, both over steps."""
    if not source.exists():
        return
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with source.open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name not in _NOT_DRAWN]
    figure, axes = pyplot.subplots(1, 2, figsize=(13, 4.4), layout="constrained")
    for axis, title in zip(axes, ("training loss", "validation"), strict=True):
        for i, name in enumerate(name for name in names if name.startswith("loss_") == (axis is axes[0])):
            points = [(int(row["step"]), float(row[name])) for row in rows if row.get(name)]
            style = ("-", "--", ":")[i // _COLOURS]
            axis.plot(*zip(*points, strict=True), style, label=name.removeprefix("loss_"), marker=".", lw=1)
        axis.set(xlabel="step", title=title)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    with replacing(target) as file:
        figure.savefig(file, format="png", dpi=110)
    pyplot.close(figure)
