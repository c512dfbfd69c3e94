"""The machine a run happens on: facts about it for the report, the device to use, and the dtype it does well.

Rows measured on different machines are never ranked together, so every run folder carries these facts.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.errors import UserError, counted, nearest

DEVICES = ("cuda", "mps", "cpu")


def host_facts() -> dict[str, Any]:
    """Facts about the host: processor, cores, memory (GiB), system and versions; `describe_device` has the device's."""
    libraries = ("torch", "transformers", "open_clip_torch", "numpy")
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(memory_bytes() / 2**30, 1),
        "platform": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in libraries},
    }


def pick_device(wanted: str) -> str:
    """The device to run on; raises UserError for one that is not there. Imports torch only where a GPU may be there."""
    kind = wanted.split(":")[0]
    if wanted != "auto" and kind not in DEVICES:
        hint = "A GPU is cuda, or mps on a Mac." if kind == "gpu" else nearest(kind, [*DEVICES, "auto"])
        raise UserError(f"device={wanted} is unknown. {hint}")
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
        there = counted(len(found), "GPU") if device.startswith("cuda") else "no GPU"
        raise UserError(f"engine.gpus={gpus}: device={device} has {there}. engine.gpus=auto takes what there is.")
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
    """The dtype to compute in: `auto` is bfloat16 on a CUDA device that has it (every one since Ampere) and on a
    processor that computes it by itself, float16 on an older CUDA device, and float32 elsewhere."""
    if wanted != "auto":
        return wanted
    if device.startswith("cuda"):
        import torch

        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    return "bfloat16" if device == "cpu" and _computes_bfloat16() else "float32"


_BFLOAT16 = {"amx_bf16", "avx512_bf16", "bf16"}
"""What processors that multiply bfloat16 numbers by themselves (x86, x86, Arm) call it. Others convert each of them to
float32 and back, and are slower for it."""


def _computes_bfloat16() -> bool:
    flags = (line.partition(":")[2] for line in _lines("/proc/cpuinfo") if line.startswith(("flags", "Features")))
    return not _BFLOAT16.isdisjoint(next(flags, "").split())


def use_exact_float32(device: str) -> None:
    """Have a GPU compute float32 as float32.

    Torch's default for convolutions is TensorFloat-32, which keeps ten bits of the mantissa, as half precision does.
    """
    if device.startswith("cuda"):
        import torch

        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False


def describe_device(device: str) -> dict[str, Any]:
    """Facts about a device: its name and, of a GPU, the model, memory (GiB) and how it computes float32."""
    if not device.startswith("cuda"):
        return {"device": device}
    import torch

    properties = torch.cuda.get_device_properties(device)
    memory = round(properties.total_memory / 2**30, 1)
    return {"device": device, "gpu": properties.name, "gpu_memory_gb": memory, "tf32": "off: float32 is exact"}


def free_bytes(device: str) -> int:
    """The memory, in bytes, that a model may fill on `device`."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_properties(device).total_memory
    return memory_bytes()


def memory_bytes() -> int:
    """The machine's memory, in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def available_bytes() -> int:
    """Host memory, in bytes, that can still be taken without swapping; a container's limit counts."""
    free = memory_bytes()
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    limit, used = (_lines(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    return min(free, int(limit[0]) - int(used[0])) if used and limit and limit[0] != "max" else free


def peak_memory_mb(device: str) -> float:
    """The most memory that this process has held, in MB: on a GPU what torch allocated there, else resident memory."""
    peaks = peak_memory(device)
    return peaks["process"] if peaks["allocated"] is None else peaks["allocated"]


def peak_memory(device: str) -> dict[str, Any]:
    """The most memory that was held, in MB: `allocated` and `reserved` are a GPU's since `forget_peak_memory`, and
    `process` is the process's resident memory since it began."""
    peaks: dict[str, Any] = {"allocated": None, "reserved": None, "process": _resident_peak_mb()}
    if device.startswith("cuda"):
        import torch

        peaks["allocated"] = torch.cuda.max_memory_allocated(device) / 2**20
        peaks["reserved"] = torch.cuda.max_memory_reserved(device) / 2**20
    return peaks


def forget_peak_memory(device: str) -> None:
    """Count a GPU's peaks from here on. The peak of a process's resident memory cannot be forgotten."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)


def _resident_peak_mb() -> float:
    for line in _lines("/proc/self/status"):  # getrusage's figure would count the process that started this one
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 2**10
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def energy_joules(device: str) -> float | None:
    """Energy (J) that a GPU has used since its driver was loaded; None where NVML (package nvidia-ml-py) cannot say."""
    return _ask_nvml(device, lambda nvml, gpu: nvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1000)


def gpu_shared(device: str) -> bool | None:
    """Whether processes other than this one and its driver compute on the GPU; None where NVML cannot say."""

    def others(nvml: Any, gpu: Any) -> bool | None:
        pids = {process.pid for process in nvml.nvmlDeviceGetComputeRunningProcesses(gpu)}
        if os.getpid() not in pids:  # numbers of another namespace (a container): nothing can be told from them
            return None
        return bool(pids - {os.getpid(), os.getppid()})

    return _ask_nvml(device, others)


def _ask_nvml(device: str, question: Callable[[Any, Any], Any]) -> Any:
    """NVML's answer about a CUDA device; None for any other, and where the library or the figure is missing."""
    if not device.startswith("cuda"):
        return None
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return None
    import torch

    try:
        nvml.nvmlInit()
        return question(nvml, nvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}"))
    except (nvml.NVMLError, AttributeError):  # a GPU, a driver or a torch that does not have it
        return None


def synchronise(device: str) -> None:
    """Wait until the device has done all it was given. On a CPU there is nothing to wait for."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)
    elif device == "mps":
        import torch

        torch.mps.synchronize()


def _may_have_gpu() -> bool:
    """Whether it is worth asking torch, whose import takes two seconds."""
    return sys.platform == "darwin" or any(Path(path).exists() for path in ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd"))


def _cpu_name() -> str:
    names = (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _lines(path: str) -> list[str]:
    """The lines of one of the kernel's files; none where there is no such file."""
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def version(name: str) -> str | None:
    """The version of a package; None where it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
