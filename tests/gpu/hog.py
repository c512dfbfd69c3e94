"""A model whose requests each take 15 % of the GPU's free memory: six fit in a batch, eight do not."""

from __future__ import annotations

from collections.abc import Sequence

from harness.adapter import Adapter
from harness.clock import Clock
from harness.records import Answer, Request


class Hog(Adapter):
    imports = ("torch",)

    def load(self, device: str, clock: Clock) -> None:
        import torch

        self.device = device
        self.share = int(0.15 * torch.cuda.mem_get_info(device)[0])

    def generate(self, inputs: Sequence[Request]) -> list[Answer]:
        import torch

        held = torch.empty(len(inputs) * self.share, dtype=torch.uint8, device=self.device)
        held[:1].fill_(1)
        return [Answer(f"answer {int(held[0])}") for _ in inputs]
