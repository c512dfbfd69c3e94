"""What the machine says of memory, energy and neighbours; where it cannot say, None and no guess."""

import os
import sys
import types

import pytest

from harness.measure import machine


class NVMLError(Exception):
    pass


@pytest.fixture
def nvml(monkeypatch):
    """A stand-in for NVML, with one GPU whose processes and energy can be set."""
    import torch

    library = types.SimpleNamespace(NVMLError=NVMLError, pids=[os.getpid()], millijoules=1500)
    library.nvmlInit = lambda: None
    library.nvmlDeviceGetHandleByUUID = lambda uuid: uuid
    library.nvmlDeviceGetComputeRunningProcesses = lambda gpu: [types.SimpleNamespace(pid=p) for p in library.pids]
    library.nvmlDeviceGetTotalEnergyConsumption = lambda gpu: library.millijoules
    monkeypatch.setitem(sys.modules, "pynvml", library)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: types.SimpleNamespace(uuid="1-2-3"))
    return library


def test_a_gpu_is_shared_when_others_than_the_run_itself_compute_on_it(nvml):
    nvml.pids = [os.getpid(), os.getppid()]
    assert machine.gpu_shared("cuda") is False
    nvml.pids = [os.getpid(), 1_234_567]
    assert machine.gpu_shared("cuda") is True


def test_process_numbers_of_another_namespace_tell_nothing(nvml):
    nvml.pids = [1_234_567]
    assert machine.gpu_shared("cuda") is None


def test_energy_is_in_joules(nvml):
    assert machine.energy_joules("cuda") == 1.5


def test_a_figure_that_the_gpu_does_not_have_is_unknown(nvml):
    def refuse(gpu):
        raise NVMLError("Not Supported")

    nvml.nvmlDeviceGetTotalEnergyConsumption = refuse
    assert machine.energy_joules("cuda") is None


def test_without_a_gpu_or_its_library_energy_and_neighbours_are_unknown(monkeypatch):
    assert (machine.energy_joules("cpu"), machine.gpu_shared("cpu")) == (None, None)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert (machine.energy_joules("cuda"), machine.gpu_shared("cuda")) == (None, None)


def test_the_process_peak_counts_what_was_held_for_a_moment():
    before = machine.peak_memory("cpu")
    held = bytearray(os.urandom(1)) * (200 * 2**20)
    del held
    after = machine.peak_memory("cpu")
    assert after["process"] >= before["process"]
    assert after["process"] > 200
    assert (after["allocated"], after["reserved"]) == (None, None)
    assert machine.peak_memory_mb("cpu") == after["process"]


@pytest.mark.parametrize(
    ("limit", "used", "expected"), [("max", "7", 3), (str(2 * 2**30), str(2**30), 1), (None, None, 3)]
)
def test_a_containers_limit_bounds_the_memory_that_can_still_be_taken(monkeypatch, limit, used, expected):
    files = {"/proc/meminfo": [f"MemAvailable: {3 * 2**20} kB"]}
    if limit:
        files |= {"/sys/fs/cgroup/memory.max": [limit], "/sys/fs/cgroup/memory.current": [used]}
    monkeypatch.setattr(machine, "_lines", lambda path: files.get(path, []))
    assert machine.available_bytes() == expected * 2**30


def test_a_gpu_computes_float32_as_float32(monkeypatch):
    from torch.backends import cuda, cudnn

    for library in (cuda.matmul, cudnn):
        library.allow_tf32 = True
    machine.use_exact_float32("cpu")
    assert cuda.matmul.allow_tf32
    machine.use_exact_float32("cuda:1")
    assert not cuda.matmul.allow_tf32
    assert not cudnn.allow_tf32


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["flags\t\t: fpu avx512f avx512_bf16 sse"], "bfloat16"),
        (["flags\t\t: fpu amx_bf16 amx_tile"], "bfloat16"),
        (["Features\t: fp asimd bf16 i8mm"], "bfloat16"),
        (["flags\t\t: fpu avx2 avx512f"], "float32"),
        ([], "float32"),
    ],
)
def test_auto_is_bfloat16_where_the_processor_computes_it_by_itself(monkeypatch, lines, found):
    monkeypatch.setattr(machine, "_lines", lambda path: lines if path == "/proc/cpuinfo" else [])
    assert machine.pick_dtype("auto", "cpu") == found
    assert machine.pick_dtype("float32", "cpu") == "float32"
    assert machine.pick_dtype("auto", "mps") == "float32"
