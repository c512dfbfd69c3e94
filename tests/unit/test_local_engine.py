"""What a process inherits from the local engine: measured in one started beside it, not read off a variable."""

import importlib.util
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.adapter import Adapter
from harness.run.engines.local import PRELOADED, _nothing_of_the_callers
from harness.targets import load_class

ROOT = Path(__file__).parents[2]

needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")

# Four activations of 20 MiB, made and freed ten times: what is kept is not faulted in again.
# Huge pages, which some kernels give without being asked, would make one fault of hundreds.
FAULTS = """
import ctypes, resource
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    activations = [bytes(b"x") * (20 << 20) for _ in range(4)]
    del activations
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
ENGINE = "import subprocess, sys; from harness.run.engines.local import LocalEngine; LocalEngine();"


def faults(code: str, **environment: str) -> int:
    """Pages that a child of `code` had to ask the kernel for."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    start = f"{code} subprocess.run([sys.executable, '-c', {FAULTS!r}], check=True)"
    done = subprocess.run([sys.executable, "-c", start], env=bare | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@needs_glibc
def test_a_batch_reuses_the_memory_of_the_one_before_it() -> None:
    pages = 4 * (20 << 20) // os.sysconf("SC_PAGE_SIZE")
    assert faults("import subprocess, sys;") > 5 * pages, "the C library keeps memory by itself: nothing to set"
    assert faults(ENGINE) < 1.5 * pages


@needs_glibc
def test_a_user_s_own_settings_of_the_allocator_stand() -> None:
    pages = 4 * (20 << 20) // os.sysconf("SC_PAGE_SIZE")
    assert faults(ENGINE, MALLOC_TRIM_THRESHOLD_="0") > 5 * pages


def test_every_module_that_the_fork_server_preloads_exists() -> None:
    """The server passes over a name that does not exist, and every worker then imports it anew."""
    files = [*ROOT.glob("conf/model/*.yaml")]
    targets = {match for file in files for match in re.findall(r"^_target_: (\S+)", file.read_text("utf-8"), re.M)}
    named = {name for target in targets for name in load_class(target, Adapter).imports}
    assert len(named) > 5
    assert [name for name in (*PRELOADED, *named) if importlib.util.find_spec(name) is None] == []


def test_a_worker_starts_without_the_callers_main_module_and_with_nothing_of_the_working_directory(monkeypatch) -> None:
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    before = sys.modules["__main__"]
    with _nothing_of_the_callers():
        assert vars(sys.modules["__main__"]).get("__file__") is None
        assert os.environ["PYTHONSAFEPATH"] == "1"
    assert sys.modules["__main__"] is before
    assert "PYTHONSAFEPATH" not in os.environ
