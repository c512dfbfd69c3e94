"""The machine a run happens on: its card for the report, the device to use, and the dtype that device does well.

Rows measured on different machines are never ranked together, so every run folder carries the card.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any

from harness.errors import UserError, nearest

DEVICES = ("cuda", "mps", "cpu")


def card() -> dict[str, Any]:
    """Processor, memory and library versions; what a device adds comes from `describe_device`."""
    libraries = ("torch", "transformers", "open_clip_torch", "numpy")
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(memory_bytes() / 2**30, 1),
        "platform": platform.platform(),
        "python": platform.python_version(),
        **{name: _version(name) for name in libraries},
    }


def pick_device(wanted: str) -> str:
    """The device to run on. Imports torch only where a GPU may be there. Raises UserError for one that is not."""
    kind = wanted.split(":")[0]
    if wanted != "auto" and kind not in DEVICES:
        raise UserError(f"device={wanted} is unknown. {nearest(kind, [*DEVICES, 'auto'])}")
    if wanted == "cpu" or (wanted == "auto" and not _may_have_gpu()):
        return "cpu"
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return next(device for device in DEVICES if there[device])
    if not there[kind]:
        raise UserError(
            f"device={wanted}: this machine has none, or torch cannot use it. device=auto takes what there is."
        )
    return wanted


def pick_devices(device: str, gpus: int | None) -> list[str]:
    """The devices that models run on at the same time: every GPU for "cuda", at most `gpus` of them; else `device`.

    Raises UserError for more GPUs than there are.
    """
    found = [device]
    if device == "cuda":
        import torch

        found = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if gpus is not None and (gpus < 1 or gpus > len(found) or not device.startswith("cuda")):
        there = f"{len(found)} there for device={device}" if device.startswith("cuda") else f"none with device={device}"
        raise UserError(f"engine.gpus={gpus}: there are {there}. engine.gpus=auto takes what there is.")
    return found[:gpus]


def claim(device: str) -> str:
    """Let this process, which has not touched a GPU yet, see `device` alone, so that no library uses another one.

    Returns the device's name from then on.
    """
    kind, _, number = device.partition(":")
    if kind != "cuda" or not number:
        return device
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[int(number)].strip() if visible else number
    return "cuda"


def pick_dtype(wanted: str, device: str) -> str:
    """`auto` is bfloat16 on a CUDA device (every one since Ampere has it), float32 elsewhere."""
    if wanted != "auto":
        return wanted
    if device.startswith("cuda"):
        import torch

        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    return "float32"


def describe_device(device: str) -> dict[str, Any]:
    """GPU name and memory, for the card; empty on a CPU."""
    if not device.startswith("cuda"):
        return {"device": device}
    import torch

    properties = torch.cuda.get_device_properties(device)
    return {"device": device, "gpu": properties.name, "gpu_memory_gb": round(properties.total_memory / 2**30, 1)}


def free_bytes(device: str) -> int:
    """Memory a model may fill on `device`."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_properties(device).total_memory
    return memory_bytes()


def memory_bytes() -> int:
    """The machine's memory, in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def peak_memory_mb(device: str) -> float:
    """The largest memory this process has held: on a GPU what torch allocated there, else resident memory."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated(device) / 2**20
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def synchronise(device: str) -> None:
    """Wait until the device has done all it was given; nothing to wait for on a CPU."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)
    elif device == "mps":
        import torch

        torch.mps.synchronize()


def _may_have_gpu() -> bool:
    """Whether asking torch (two seconds of import) is worth it."""
    return sys.platform == "darwin" or any(Path(path).exists() for path in ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd"))


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
