"""The training loop: one for every model that is trained here, driven by a small Protocol.

A `Trainable` knows its model, its losses and its data; the loop knows optimiser, schedule, precision, devices, curves
and saving. Batches are a function of (seed, step, process), so that a resumed run needs no data position beyond the
step: it continues exactly, to equal weights on the CPU at a fixed thread count. State is kept in safetensors and JSON
only, each save in a folder of its own that appears by one rename, so that a kill at any moment leaves the previous one
whole. Devices, mixed precision and several GPUs are accelerate's business.
"""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from harness.config.specs import Schedule
from harness.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn


class Trainable(Protocol):
    """What can be trained: a module that turns a batch into losses, and where its batches come from."""

    module: nn.Module
    """Called with a batch as keyword arguments; returns {name: weighted loss}, whose sum is minimised."""

    def batch(self, rng: np.random.Generator) -> Mapping[str, torch.Tensor]:
        """One batch of the train split on the CPU, drawn with `rng` alone."""
        ...

    def validate(self, device: torch.device) -> dict[str, float]:
        """Scores on the validation split. The first one, larger being better, chooses the best checkpoint."""
        ...

    def save(self, folder: Path) -> None:
        """Write the checkpoint that the model's adapter loads."""
        ...


@dataclass
class Outcome:
    """How a call of `train` ended."""

    step: int
    complete: bool
    """False after SIGTERM or Ctrl-C; the same call continues it."""
    best: dict[str, float]
    """Validation scores of the best checkpoint."""


def train(trainable: Trainable, schedule: Schedule, folder: Path, *, device: str = "auto") -> Outcome:
    """Train, or continue where the state in `folder` ends. Writes there:

    `best/` (the checkpoint with the best validation score), `state-N/` (to resume from), `curves.csv`, `curves.png`.
    Raises UserError when the state in `folder` is of another schedule or cannot be read.
    """
    import numpy as np
    import torch
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import set_seed

    # accelerate keeps the precision of a process's first run; a second one may have its own.
    AcceleratorState._reset_state()
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision=schedule.precision)
    set_seed(schedule.seed + accelerator.process_index)
    folder.mkdir(parents=True, exist_ok=True)
    module = trainable.module
    optimizer = torch.optim.AdamW(_groups(module, schedule.weight_decay), lr=schedule.learning_rate, betas=(0.9, 0.98))
    wrapped, prepared = accelerator.prepare(module, optimizer)
    state = _State.newest(folder)
    progress: dict[str, Any] = {"step": 0, "best": {}, "seconds": 0.0}
    if state is not None:
        progress = state.restore(module, optimizer, schedule)
        if accelerator.scaler is not None and progress["scaler"]:
            accelerator.scaler.load_state_dict(progress["scaler"])
    curves = _Curves(folder / "curves.csv", progress["step"])
    started = time.monotonic() - progress["seconds"]
    step, best = progress["step"], progress["best"]

    def save() -> None:
        if accelerator.is_main_process:
            seconds = time.monotonic() - started
            scaler = None if accelerator.scaler is None else accelerator.scaler.state_dict()
            now = {"step": step, "best": best, "seconds": seconds, "scaler": scaler}
            _State.write(folder, module, optimizer, schedule, now)

    with _stop_requests() as stop, _Bar(folder.name, step, schedule.steps, accelerator.is_main_process) as bar:
        while step < schedule.steps and not stop:
            for group in prepared.param_groups:
                group["lr"] = schedule.rate(step)
            wrapped.train()
            sums: dict[str, float] = {}
            for part in range(schedule.accumulate):
                rng = np.random.default_rng((schedule.seed, step, part, accelerator.process_index))
                batch = {k: v.to(accelerator.device) for k, v in trainable.batch(rng).items()}
                with accelerator.autocast():
                    losses = wrapped(**batch)
                accelerator.backward(sum(losses.values()) / schedule.accumulate)
                for name, loss in losses.items():
                    sums[name] = sums.get(name, 0.0) + float(loss.detach()) / schedule.accumulate
            if not math.isfinite(sum(sums.values())):
                raise UserError(f"Training in {folder} diverged at step {step}: {sums}. Lower the learning rate.")
            accelerator.clip_grad_norm_(wrapped.parameters(), schedule.clip)
            prepared.step()
            prepared.zero_grad(set_to_none=True)
            step += 1
            curves.losses(sums)
            bar.update(step, sum(sums.values()))
            if step % schedule.validate_every == 0 or step == schedule.steps:
                wrapped.eval()
                if accelerator.is_main_process:
                    rng_state = torch.get_rng_state()
                    with torch.no_grad():
                        scores = trainable.validate(accelerator.device)
                    torch.set_rng_state(rng_state)
                    if not best or next(iter(scores.values())) >= next(iter(best.values())):
                        best = scores
                        _replace(folder / "best", trainable.save)
                    curves.write(step, schedule, time.monotonic() - started, scores)
                accelerator.wait_for_everyone()
            if step % schedule.save_every == 0 or step == schedule.steps:
                save()
        if stop:
            save()
    if accelerator.is_main_process:
        chart(folder / "curves.csv", folder / "curves.png")
    return Outcome(step, step >= schedule.steps, best)


def _groups(module: nn.Module, decay: float) -> list[dict[str, Any]]:
    trained = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]


@contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """A list that stays empty until SIGTERM or SIGINT arrives: the step in hand is finished and saved first."""
    seen: list[int] = []
    before = {s: signal.signal(s, lambda number, _frame: seen.append(number)) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _replace(folder: Path, write: Any) -> None:
    """Let `write` fill a new folder, then put it in the place of `folder`."""
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    write(fresh)
    if folder.exists():
        old = folder.with_name(folder.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        os.replace(folder, old)
        os.replace(fresh, folder)
        shutil.rmtree(old)
    else:
        os.replace(fresh, folder)


class _Bar:
    """Step, loss and remaining time on a terminal; silent elsewhere, where each validation prints a line."""

    def __init__(self, name: str, step: int, steps: int, shown: bool) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.name = name
        self.progress = Progress(*columns, disable=not (shown and sys.stdout.isatty()))
        self.task = self.progress.add_task(name, total=steps, completed=step)

    def __enter__(self) -> _Bar:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def update(self, step: int, loss: float) -> None:
        self.progress.update(self.task, completed=step, description=f"{self.name}  loss {loss:.3f}")


class _State:
    """One saved moment of a run: `state-N/` with model, optimiser and generators as safetensors, the rest as JSON."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def newest(cls, folder: Path) -> _State | None:
        steps = [int(p.name[6:]) for p in folder.glob("state-*") if p.name[6:].isdigit()]
        return cls(folder / f"state-{max(steps)}") if steps else None

    @staticmethod
    def write(
        folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, schedule: Schedule, progress: dict[str, Any]
    ) -> None:
        import torch
        from safetensors.torch import save_file

        target = folder / f"state-{progress['step']}"
        fresh = target.with_name(target.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        # Tied weights appear under several names; safetensors wants each tensor to own its memory.
        save_file(
            {k: v.detach().clone().contiguous() for k, v in module.state_dict().items()}, fresh / "model.safetensors"
        )
        moments = {
            f"{index}.{key}": value.contiguous()
            for index, values in optimizer.state_dict()["state"].items()
            for key, value in values.items()
        }
        save_file(moments, fresh / "optimizer.safetensors")
        generators = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            generators |= {f"cuda{i}": s for i, s in enumerate(torch.cuda.get_rng_state_all())}
        save_file(generators, fresh / "generators.safetensors")
        (fresh / "state.json").write_text(json.dumps({"schedule": asdict(schedule), **progress}, indent=1))
        shutil.rmtree(target, ignore_errors=True)
        os.replace(fresh, target)
        for old in folder.glob("state-*"):
            if old != target:
                shutil.rmtree(old)

    def restore(self, module: nn.Module, optimizer: torch.optim.Optimizer, schedule: Schedule) -> dict[str, Any]:
        """Load everything but the gradient scaler; returns {step, best, seconds, scaler}."""
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            progress = json.loads((self.folder / "state.json").read_text())
            saved = progress.pop("schedule")
            if saved != asdict(schedule):
                differ = sorted(k for k, v in asdict(schedule).items() if saved.get(k) != v)
                raise UserError(
                    f"{self.folder} holds a run with another {', '.join(differ)}. Continue with the same schedule, or "
                    "train into another folder."
                )
            module.load_state_dict(load_file(self.folder / "model.safetensors"))
            moments: dict[int, dict[str, torch.Tensor]] = {}
            for name, value in load_file(self.folder / "optimizer.safetensors").items():
                index, key = name.split(".", 1)
                moments.setdefault(int(index), {})[key] = value
            optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
            generators = load_file(self.folder / "generators.safetensors")
            torch.set_rng_state(generators["cpu"])
            if torch.cuda.is_available() and "cuda0" in generators:
                torch.cuda.set_rng_state_all([generators[f"cuda{i}"] for i in range(torch.cuda.device_count())])
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise UserError(f"Cannot continue from {self.folder}: {error}. Delete it to start again.") from error
        return progress


class _Curves:
    """`curves.csv`: a line at each validation, with the mean losses since the line before."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        if path.exists():
            with path.open(newline="") as file:
                # After a kill the file may be ahead of the state that is continued.
                self.rows = [row for row in csv.DictReader(file) if int(row["step"]) <= step]
        self.sums: dict[str, list[float]] = {}

    def losses(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.sums.setdefault(name, []).append(value)

    def write(self, step: int, schedule: Schedule, seconds: float, scores: Mapping[str, float]) -> None:
        row: dict[str, Any] = {"step": step, "seconds": round(seconds, 1), "learning_rate": schedule.rate(step - 1)}
        row |= {f"loss_{name}": sum(v) / len(v) for name, v in self.sums.items()}
        row |= dict(scores)
        self.sums = {}
        self.rows.append(row)
        columns = list(dict.fromkeys(key for r in self.rows for key in r))
        fresh = self.path.with_suffix(".new")
        with fresh.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in r.items()} for r in self.rows)
        os.replace(fresh, self.path)
        left = seconds / step * (schedule.steps - step)
        shown = "  ".join(f"{k} {v:.4g}" for k, v in row.items() if k not in ("step", "seconds", "learning_rate"))
        print(f"step {step}/{schedule.steps}  {seconds / 60:.1f} min, {left / 60:.1f} left  {shown}", flush=True)


def chart(source: Path, target: Path) -> None:
    """Draw a `curves.csv`: losses on the left, validation scores on the right, both over steps."""
    if not source.exists():
        return
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with source.open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name not in ("step", "seconds", "learning_rate")]
    figure, axes = pyplot.subplots(1, 2, figsize=(13, 4.4), layout="constrained")
    for axis, title in zip(axes, ("training loss", "validation"), strict=True):
        for i, name in enumerate(name for name in names if name.startswith("loss_") == (axis is axes[0])):
            points = [(int(row["step"]), float(row[name])) for row in rows if row.get(name)]
            style = ("-", "--", ":")[i // 10]  # the cycle of colours begins anew after ten
            axis.plot(*zip(*points, strict=True), style, label=name.removeprefix("loss_"), marker=".", lw=1)
        axis.set(xlabel="step", title=title)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    figure.savefig(target, dpi=110)
    pyplot.close(figure)
