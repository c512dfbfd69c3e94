"""The local engine: each job in a fresh process, so that memory is freed, load time is honest and a crash stays local.

Processes are forked from a server that has imported the heavy libraries once and has never touched a device; where
there is no fork server (Windows) they are spawned. They import neither the caller's main module, so that a script needs
no guard, nor anything from the working directory in the place of a library.

One duplex pipe joins driver and worker: events come up, "stop" goes down, and its end of file tells either side that
the other is gone. A second one, which carries nothing, ends a worker with its driver even where no Python can run, in
the middle of a library's call.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from types import ModuleType
from typing import Any

from harness.measure import machine
from harness.run.messages import Died, Event, Job

STOP, PAUSE, GO_ON = "stop", "pause", "go on"

PRELOADED = ("harness.run.worker",)
"""What the fork server imports beside the modules that adapters name. It is silent about one that does not exist."""

# Read by glibc as a process starts, unknown to other C libraries. By default it hands a freed activation back and has
# the kernel zero the same pages again for the next batch: a twelfth of a small chat model's CPU time. The first is the
# largest that glibc takes; either alone would switch off the adapting of the other, and cost more than the default.
_KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}


_SAFE_PATH = "PYTHONSAFEPATH"
_starting = threading.Lock()
"""What a new process inherits belongs to the whole process, and several devices may start one at a time."""


class LocalEngine:
    """Runs one job at a time. `stop()` ends it after the batch in hand, `kill()` at once.

    A worker that is silent for `timeout_s` seconds is taken to hang and is ended.
    """

    def __init__(self, preload: Sequence[str] = (), timeout_s: float = 900.0) -> None:
        self.timeout_s = timeout_s
        # Set before a worker imports it: its warnings are about its own default configs more often than about a model.
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        if not _KEEP_MEMORY.keys() & os.environ.keys():
            os.environ |= _KEEP_MEMORY
        method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        self._context: Any = multiprocessing.get_context(method)
        if method == "forkserver":
            self._context.set_forkserver_preload([*PRELOADED, *preload])
        self._process: Any = None
        self._connection: Connection | None = None
        self._stopping = self._paused = False
        self._sending = threading.Lock()

    @property
    def stopping(self) -> bool:
        """Whether `stop` or `kill` was called: no other job will run."""
        return self._stopping

    def run(self, job: Job) -> Generator[Event]:
        """The job's events; a process that ends without a word becomes a Died event that says how it ended."""
        if self._stopping:
            return
        ours, theirs = self._context.Pipe(duplex=True)
        leash, held = self._context.Pipe(duplex=False)
        arguments = (job, theirs, leash, list(sys.path), os.environ.get(_SAFE_PATH))
        # A latency pass begins cold: nothing is inherited, not even what the fork server has imported.
        context = multiprocessing.get_context("spawn") if job.timing else self._context
        process = context.Process(target=_work, args=arguments, daemon=True, name=job.name)
        with _nothing_of_the_callers():
            process.start()
        theirs.close()
        leash.close()
        self._process, self._connection = process, ours
        if self._paused:
            self._send(PAUSE)
        finished, hung = False, False
        limit = self.timeout_s + job.model.patience_s
        try:
            while True:
                try:
                    if not ours.poll(limit):
                        hung = True
                        _end(process)
                        break
                    event = ours.recv()
                except (EOFError, OSError):
                    break
                if event is None:
                    finished = True
                    break
                yield event
            process.join(10)
            if not finished and not self._stopping:
                if hung:
                    yield Died(f"the process gave no sign for {limit:g} s", "hang")
                else:
                    cause = "kill" if process.exitcode == -signal.SIGKILL else "crash"
                    yield Died(f"the process {_ending(process.exitcode)}", cause)
        finally:
            self._connection = None
            _end(process)
            process.join()
            ours.close()
            held.close()

    def stop(self) -> None:
        """Let the worker finish the batch in hand, and start no other job."""
        self._stopping = True
        self._send(STOP)

    def pause(self, pausing: bool) -> None:
        """Have the worker's stream ask nothing more while this is so, and that of the next job."""
        self._paused = pausing
        self._send(PAUSE if pausing else GO_ON)

    def _send(self, word: str) -> None:
        """Tell the worker, if there is one."""
        with self._sending, suppress(OSError):  # it may have ended already
            if self._connection is not None:
                self._connection.send(word)

    def kill(self) -> None:
        """End the worker now."""
        self._stopping = True
        if self._process is not None:
            _end(self._process)


def _end(process: Any) -> None:
    """End a worker and all processes that its adapter has started: they are one group, and would keep a GPU."""
    if process.pid is not None and hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()  # it may not have come to form its group


@contextmanager
def _nothing_of_the_callers() -> Iterator[None]:
    """While inside, a new process imports neither the caller's `__main__`, which would run a script again, nor anything
    from the working directory, where a `random.py` of the user's may lie."""
    with _starting:
        main, before = sys.modules["__main__"], os.environ.get(_SAFE_PATH)
        sys.modules["__main__"] = ModuleType("__main__")
        os.environ[_SAFE_PATH] = "1"
        try:
            yield
        finally:
            sys.modules["__main__"] = main
            _set(_SAFE_PATH, before)


def _set(variable: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(variable, None)
    else:
        os.environ[variable] = value


def _work(job: Job, connection: Connection, leash: Connection, path: list[str], safe_path: str | None) -> None:
    """The worker process: run the job, send its events, and end when the driver says so or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C may reach it; the driver alone decides
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    _die_with(leash)
    sys.path[:] = path
    _set(_SAFE_PATH, safe_path)  # for what an adapter may start, as the user has it
    from harness.run import worker

    stop, pause = threading.Event(), threading.Event()
    words = {STOP: stop.set, PAUSE: pause.set, GO_ON: pause.clear}

    def watch() -> None:
        try:
            while True:
                words[connection.recv()]()
        except (EOFError, OSError):  # the driver is gone
            _exit_with_children(1)

    threading.Thread(target=watch, daemon=True).start()
    job = replace(job, device=machine.claim(job.device))
    try:
        for event in worker.run(job, stop.is_set, paused=pause.is_set):
            connection.send(event)
    except KeyboardInterrupt:  # which no person can have sent here
        connection.send(Died("the adapter raised KeyboardInterrupt"))
    connection.send(None)
    connection.close()
    _exit_with_children(0)


def _exit_with_children(status: int) -> None:
    """End this process at once, as libraries' threads can take seconds to end, and whatever an adapter has started."""
    if hasattr(os, "killpg") and os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(status)


def _die_with(leash: Connection) -> None:
    """Have the kernel (Linux) end this process and its group when the other end of `leash` is closed. A thread that
    waits for that waits for the interpreter's lock too, which a library's call may hold for minutes."""
    if sys.platform != "linux":
        return
    import fcntl

    fcntl.fcntl(leash, fcntl.F_SETOWN, -os.getpid())  # negative: of the group of this number
    fcntl.fcntl(leash, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(leash, fcntl.F_SETFL, fcntl.fcntl(leash, fcntl.F_GETFL) | os.O_ASYNC)


def _ending(code: int | None) -> str:
    if code is None:
        return "hung"
    if code >= 0:
        return f"ended with status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = str(-code)
    hint = " (often: memory ran out)" if -code == signal.SIGKILL else ""
    return f"was ended by {name}{hint}"
