"""A million samples of an adapter that does nothing: the memory of driver, worker and report, and their time.

    python tests/benchmarks/memory.py [--n 1000000]        about ten minutes

The real command runs as a process of its own; the peak resident memory of each of its processes is read from /proc as
long as it lives. Then `harness report` is run over the same. Limits: 600 MB in the driver, 60 s for the report.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from loops import PLACE, ROOT, nothing


def watched(command: list[str]) -> tuple[float, dict[str, float], float]:
    """Run a command: its seconds, the peak memory in MB of the driver and of the largest other process, its CPU s."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "benchmarks")])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HARNESS_MARKS": str(PLACE / "marks")}
    began, used = time.monotonic(), os.times()
    process = subprocess.Popen(command, env=environment, cwd=PLACE, stdout=subprocess.DEVNULL, start_new_session=True)
    peaks = {"driver": 0.0, "worker": 0.0}
    while process.poll() is None:
        for pid in session(process.pid):
            name = "driver" if pid == process.pid else "worker"
            peaks[name] = max(peaks[name], peak_mb(pid))
        time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {process.returncode}")
    now = os.times()
    return time.monotonic() - began, peaks, now.children_user + now.children_system - sum(used[2:4])


def session(leader: int) -> list[int]:
    """The processes of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[3]) == leader:
                found.append(int(stat.parent.name))
        except OSError:
            continue
    return found


def peak_mb(pid: int) -> float:
    """The largest resident memory of a process so far, in MB; 0 once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM:")), 0.0)


def main(words: list[str]) -> None:
    n = int(words[words.index("--n") + 1]) if "--n" in words else 1_000_000
    print(f"{n:,} samples of an adapter that does nothing, batch 32")
    seconds, peaks, used = watched(nothing(n))
    print(f"  run: {seconds:.0f} s, {used:.0f} CPU s; driver {peaks['driver']:.0f} MB (limit 600), ", end="")
    print(f"worker {peaks['worker']:.0f} MB", flush=True)
    report = [sys.executable, "-m", "harness", "report", str(PLACE / "results/r"), "--out", "report"]
    seconds, peaks, used = watched(report)
    print(f"  report, with charts: {seconds:.0f} s, {used:.0f} CPU s (limit 60), {peaks['driver']:.0f} MB")


if __name__ == "__main__":
    main(sys.argv[1:])
