"""Saved moments of a training run: a folder `state-N/` from which it goes on after step N as if nothing had happened.

Model, optimiser and random generators are kept as safetensors, the rest as JSON, so that nothing in such a folder can
be executed. It appears by one rename, so that a kill at any moment leaves the moment saved before it whole.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.specs import Schedule
from harness.errors import UserError
from harness.store.files import replacing_folder

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass
class Progress:
    """How far a run has come."""

    step: int = 0
    """How many steps are done."""
    best: dict[str, float] = field(default_factory=dict)
    """Validation scores of the best checkpoint; empty before the first validation."""
    seconds: float = 0.0
    """How long it has taken, over all calls."""
    scaler: dict[str, Any] | None = None
    """The state of the gradient scaler, which fp16 alone has."""


def save(
    folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, schedule: Schedule, progress: Progress
) -> None:
    """Write `folder/state-N/` for step N, and remove the states before it."""
    import torch
    from safetensors.torch import save_file

    target = folder / f"state-{progress.step}"
    with replacing_folder(target) as fresh:
        # Tied weights appear under several names; safetensors wants each tensor to own its memory.
        weights = {name: value.detach().clone().contiguous() for name, value in module.state_dict().items()}
        save_file(weights, fresh / "model.safetensors")
        moments = {
            f"{index}.{name}": value.contiguous()
            for index, values in optimizer.state_dict()["state"].items()
            for name, value in values.items()
        }
        save_file(moments, fresh / "optimizer.safetensors")
        generators = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            generators |= {f"cuda{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
        save_file(generators, fresh / "generators.safetensors")
        # A score may be NaN, which write_json refuses. The rename of the folder makes this file whole or absent too.
        (fresh / "state.json").write_text(json.dumps({"schedule": asdict(schedule), **asdict(progress)}, indent=1))
    for old in folder.glob("state-*"):
        if old != target:
            shutil.rmtree(old)


def restore(folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, schedule: Schedule) -> Progress | None:
    """Load the newest state in `folder` into model, optimiser and generators; None where there is none.

    Raises UserError when it is of another schedule or cannot be read.
    """
    steps = [int(path.name[6:]) for path in folder.glob("state-*") if path.name[6:].isdigit()]
    if not steps:
        return None
    newest = folder / f"state-{max(steps)}"
    from safetensors import SafetensorError

    try:
        return _load(newest, module, optimizer, schedule)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise UserError(f"Cannot continue from {newest}: {error}. Delete it to start again.") from error


def _load(state: Path, module: nn.Module, optimizer: torch.optim.Optimizer, schedule: Schedule) -> Progress:
    import torch
    from safetensors.torch import load_file

    values = json.loads((state / "state.json").read_text())
    saved = values.pop("schedule")
    if saved != asdict(schedule):
        differ = sorted(key for key, value in asdict(schedule).items() if saved.get(key) != value)
        raise UserError(
            f"{state} holds a run with another {' and another '.join(differ)}. Continue with the same schedule, or "
            "train into another folder."
        )
    module.load_state_dict(load_file(state / "model.safetensors"))
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in load_file(state / "optimizer.safetensors").items():
        index, key = name.split(".", 1)
        moments.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    generators = load_file(state / "generators.safetensors")
    torch.set_rng_state(generators["cpu"])
    if torch.cuda.is_available() and "cuda0" in generators:
        torch.cuda.set_rng_state_all([generators[f"cuda{i}"] for i in range(torch.cuda.device_count())])
    return Progress(**values)
