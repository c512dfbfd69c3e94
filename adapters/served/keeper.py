"""Starts a server, and ends it with everything it has started when whoever wanted it is gone.

    python keeper.py PROGRAM ARGUMENT...

It reads its standard input, a pipe that nobody writes to: its end means that the other side has closed it, or was
killed. On Linux what a server's processes leave behind when they end becomes a child of the keeper, whatever session it
is in, so that nothing is missed; elsewhere the server's process group is ended. It runs by itself and imports nothing
of the harness.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
GRACE = 5.0
"""Seconds that a server has to end by itself after SIGTERM."""


def children(parent: int) -> list[int]:
    """The processes that are children of another, or children's children (Linux)."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            # The name, in brackets, may hold anything.
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    found: list[int] = []
    level = {parent}
    while level:
        level = {child for child, above in parents.items() if above in level and child not in found}
        found += level
    return found


def end_all(process: subprocess.Popen[bytes]) -> None:
    """End the server, and then whatever is left of it."""
    with suppress(OSError):
        process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    if hasattr(os, "killpg"):
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
    with suppress(OSError):
        process.kill()
    while found := children(os.getpid()):
        for pid in found:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.01)


def main(command: list[str]) -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # ignored here, and not in the server, which inherits no handler
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, restore_signals=True)
    except OSError as error:
        print(f"{command[0]} cannot be started: {error.strerror}", flush=True)
        return 1
    over = threading.Event()

    def wait_for_the_end() -> None:
        os.read(0, 1)
        over.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    while not over.wait(0.1) and process.poll() is None:
        pass
    end_all(process)
    return process.returncode or 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
