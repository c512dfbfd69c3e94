"""Something quick to train, for tests of the command: a line, with dropout, so that every random draw counts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from harness.train.loop import Trainable


class _Loss(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 1))

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        return {"square": (self.line(x) - y).square().mean()}


class Line(Trainable[_Loss]):
    """Waits at the fifteenth batch of a process while there is a file `hold` in the folder `notes`, and says so by a
    file `held`, so that a test can stop it there."""

    def __init__(self, notes: str) -> None:
        self.module, self.notes, self.batches = _Loss(), Path(notes), 0

    def batch(self, rng: np.random.Generator) -> Mapping[str, Tensor]:
        self.batches += 1
        if self.batches == 15 and (self.notes / "hold").exists():
            (self.notes / "held").touch()
            while (self.notes / "hold").exists():
                time.sleep(0.01)
        x = torch.from_numpy(rng.normal(size=(16, 4))).float()
        return {"x": x, "y": 3 * x.sum(1, keepdim=True)}

    def validate(self, device: torch.device) -> dict[str, float]:
        return {"size": float(sum(p.norm() for p in self.module.parameters()))}

    def save(self, folder: Path) -> None:
        save_file(
            {name: value.clone() for name, value in self.module.state_dict().items()}, folder / "model.safetensors"
        )
