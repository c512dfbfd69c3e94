"""The training loop: one for every model that is trained here.

A `Trainable` knows its model, its losses and its data; the loop knows optimiser, schedule, precision, devices, curves
and saving. Batches are a function of (seed, step, process), so that a resumed run needs no data position beyond the
step: it continues exactly, to equal weights on the CPU at a fixed thread count. Devices, mixed precision and several
GPUs are accelerate's business.
"""

from __future__ import annotations

import math
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from harness.config.specs import Schedule
from harness.errors import UserError
from harness.store.files import replacing_folder
from harness.train import state
from harness.train.curves import Curves, chart

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

Module = TypeVar("Module", bound="nn.Module")


class Trainable(ABC, Generic[Module]):
    """What can be trained: a module that turns a batch into losses, and where its batches come from.

    A recipe names a subclass. Its constructor makes the module and takes the recipe's options, and the folders of the
    checkpoints that the recipe needs.
    """

    module: Module
    """It is called with a batch as keyword arguments and returns {name: weighted loss}, whose sum is minimised."""

    @abstractmethod
    def batch(self, rng: np.random.Generator) -> Mapping[str, torch.Tensor]:
        """One batch of the train split on the CPU, drawn with `rng` alone."""

    @abstractmethod
    def validate(self, device: torch.device) -> dict[str, float]:
        """Scores on the validation split. The first one, larger being better, chooses the best checkpoint."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the checkpoint that the model's adapter loads into `folder`, which is there and empty."""


@dataclass
class Outcome:
    """How a call of `train` ended."""

    step: int
    complete: bool
    """False after SIGTERM or Ctrl-C; the same call continues it."""
    best: dict[str, float]
    """Validation scores of the best checkpoint."""


def train(trainable: Trainable[Any], schedule: Schedule, folder: Path, *, device: str = "auto") -> Outcome:
    """Train, or continue where the state in `folder` ends. Writes there:

    `best/` (the checkpoint with the best validation score), `state-N/` (to resume from), `curves.csv`, `curves.png`.
    Raises UserError when the state in `folder` is of another schedule or cannot be read, and when the loss is no longer
    a finite number.
    """
    run = _Run(trainable, schedule, folder, device)
    with _stop_requests() as stop, _Bar(folder.name, run.step, schedule.steps, shown=run.leads) as bar:
        while run.step < schedule.steps and not stop:
            losses = run.learn()
            bar.update(run.step, sum(losses.values()))
            if run.is_due(schedule.validate_every):
                run.validate()
            if run.is_due(schedule.save_every):
                run.save()
        if stop:
            run.save()
    if run.leads:
        chart(folder / "curves.csv", folder / "curves.png")
    return Outcome(run.step, run.step >= schedule.steps, run.best)


class _Run:
    """A run of training in this process: what is trained, with what, and how far it has come."""

    def __init__(self, trainable: Trainable[Any], schedule: Schedule, folder: Path, device: str) -> None:
        import torch
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
        from accelerate.utils import set_seed

        # accelerate keeps the precision of a process's first run; a second one may have its own.
        AcceleratorState._reset_state()
        self.trainable, self.schedule, self.folder = trainable, schedule, folder
        self.accelerator = Accelerator(cpu=device == "cpu", mixed_precision=schedule.precision)
        self.leads = self.accelerator.is_main_process
        """Whether this process, of those that train together, is the one that writes and prints."""
        set_seed(schedule.seed + self.accelerator.process_index)
        folder.mkdir(parents=True, exist_ok=True)
        groups = _parameter_groups(trainable.module, schedule.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=schedule.learning_rate, betas=(0.9, 0.98))
        # What accelerate wraps is used to compute; what it wrapped is what is saved and restored.
        self.wrapped, self.stepper = self.accelerator.prepare(trainable.module, self.optimizer)
        before = state.restore(folder, trainable.module, self.optimizer, schedule) or state.Progress()
        if self.accelerator.scaler is not None and before.scaler:
            self.accelerator.scaler.load_state_dict(before.scaler)
        self.step, self.best = before.step, before.best
        self.curves = Curves(folder / "curves.csv", self.step)
        self.began = time.monotonic() - before.seconds

    def is_due(self, every: int) -> bool:
        """Whether what is done at every so many steps is due after this one; at the last step everything is."""
        return self.step % every == 0 or self.step == self.schedule.steps

    def learn(self) -> dict[str, float]:
        """Take one step, over as many batches as the schedule accumulates; returns the mean losses by name."""
        for group in self.stepper.param_groups:
            group["lr"] = self.schedule.rate(self.step)
        self.wrapped.train()
        losses: dict[str, float] = {}
        for part in range(self.schedule.accumulate):
            for name, loss in self._gradients(part).items():
                losses[name] = losses.get(name, 0.0) + float(loss.detach()) / self.schedule.accumulate
        if not math.isfinite(sum(losses.values())):
            raise UserError(
                f"Training in {self.folder} diverged at step {self.step}: {losses}. Lower the learning rate."
            )
        self.accelerator.clip_grad_norm_(self.wrapped.parameters(), self.schedule.clip)
        self.stepper.step()
        self.stepper.zero_grad(set_to_none=True)
        self.step += 1
        self.curves.note(losses)
        return losses

    def _gradients(self, part: int) -> dict[str, torch.Tensor]:
        """Add the gradients of one batch, the step's `part`-th, to those that are there; returns its losses."""
        import numpy as np

        rng = np.random.default_rng((self.schedule.seed, self.step, part, self.accelerator.process_index))
        batch = {name: value.to(self.accelerator.device) for name, value in self.trainable.batch(rng).items()}
        with self.accelerator.autocast():
            losses = self.wrapped(**batch)
        self.accelerator.backward(sum(losses.values()) / self.schedule.accumulate)
        return losses

    def validate(self) -> None:
        """Validate, keep the checkpoint if none was better, and add a row to the curves."""
        import torch

        self.wrapped.eval()
        if self.leads:
            # Whatever validation draws at random, training goes on as without it.
            generator = torch.get_rng_state()
            with torch.no_grad():
                scores = self.trainable.validate(self.accelerator.device)
            torch.set_rng_state(generator)
            if not self.best or next(iter(scores.values())) >= next(iter(self.best.values())):
                self.best = scores
                with replacing_folder(self.folder / "best") as fresh:
                    self.trainable.save(fresh)
            self.curves.write(self.step, self.schedule, time.monotonic() - self.began, scores)
        self.accelerator.wait_for_everyone()

    def save(self) -> None:
        """Save this moment, to continue from."""
        if not self.leads:
            return
        scaler = None if self.accelerator.scaler is None else self.accelerator.scaler.state_dict()
        now = state.Progress(self.step, self.best, time.monotonic() - self.began, scaler)
        state.save(self.folder, self.trainable.module, self.optimizer, self.schedule, now)


def _parameter_groups(module: nn.Module, decay: float) -> list[dict[str, Any]]:
    """What is trained, for the optimiser: matrices decay; biases, norms and embeddings of one dimension do not."""
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


class _Bar:
    """Step, loss and remaining time on a terminal; silent elsewhere, where each validation prints a line."""

    def __init__(self, name: str, step: int, steps: int, *, shown: bool) -> None:
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
