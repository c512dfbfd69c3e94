"""Weights of a hub repository that has them as pickles alone: read once, without running what a pickle may hold, and
kept as safetensors beside them. `torch.load(weights_only=True)` builds tensors and plain containers and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.store.files import replacing, write_json

if TYPE_CHECKING:
    import torch

PICKLES = "*pytorch_model*.bin"
"""How transformers and open_clip call weights that are pickled; other .bin files hold an optimizer or arguments."""


def convert(folder: Path) -> int:
    """Write each pickled file of weights in `folder` as safetensors, with the index where there are several; returns
    how many there were. A file that is there already is kept.

    Raises UserError for a file that holds anything else than tensors by name.
    """
    pickles = sorted(folder.glob(PICKLES))
    for path in pickles:
        safe = folder / _safe(path.name)
        if not safe.exists():
            _write(safe, _read(path))
    for path in folder.glob(f"{PICKLES}.index.json"):
        index = json.loads(path.read_text("utf-8"))
        index["weight_map"] = {name: _safe(file) for name, file in index["weight_map"].items()}
        write_json(folder / f"{_safe(path.name.removesuffix('.index.json'))}.index.json", index)
    return len(pickles)


def _safe(name: str) -> str:
    """What a file of weights is called as safetensors: pytorch_model-00001-of-00002.bin becomes
    model-00001-of-00002.safetensors."""
    return name.replace("pytorch_model", "model").removesuffix(".bin") + ".safetensors"


def _read(path: Path) -> dict[str, torch.Tensor]:
    import pickle

    import torch

    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"{path} is not read, as it holds more than tensors, or is damaged: {reason}") from error
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    if not isinstance(found, Mapping) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise UserError(f"{path} is not read: it holds something else than tensors by name.")
    return {str(name): tensor for name, tensor in found.items()}


def _write(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    from safetensors.torch import save

    seen: set[int] = set()
    own: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():  # safetensors refuses tensors that share their memory
        place = tensor.untyped_storage().data_ptr()
        own[name] = tensor.clone() if place in seen else tensor.contiguous()
        seen.add(place)
    with replacing(path, shared=True) as file:
        file.write(save(own, metadata={"format": "pt"}))
