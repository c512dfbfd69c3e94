"""A server that the harness starts for one model, on a free port of this machine that no other machine can reach."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from harness.checkpoint import weights_folder
from harness.config.specs import ModelSpec, ServerSpec
from harness.errors import UserError

HOST = "127.0.0.1"
LAST_LINES = 8
"""So many lines of its log stand in the error of a server that does not start."""
KEEPER = Path(__file__).with_name("keeper.py")


class Server:
    """A server's process, under a keeper that ends it and all it has started once this process is gone."""

    def __init__(self, launch: ServerSpec, model: ModelSpec, device: str) -> None:
        self.launch, self.model, self.device = launch, model, device
        self.process: subprocess.Popen[bytes] | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the server writes to it
        self._port = 0

    def start(self) -> str:
        """Start it and wait until it is ready; its base_url.

        Raises UserError, with the last lines of its log, where it ends or is not ready in time.
        """
        folder = weights_folder(self.model.checkpoint, self.model.revision).resolve()
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self._port = probe.getsockname()[1]
        values = {
            "{python}": sys.executable,
            "{checkpoint}": str(folder),
            "{port}": str(self._port),
            "{gpus}": str(self.model.gpus),
            "{dtype}": self.model.dtype,
        }
        command = [_filled(word, values) for word in self.launch.command]
        environment = os.environ | {"HF_HUB_OFFLINE": "1"}
        if self.device == "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = ""
        self.process = subprocess.Popen(
            [sys.executable, "-I", str(KEEPER), *command],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=os.name == "posix",  # it outlives this process's group, to end the server
        )
        try:
            self._wait(command[0])
        except BaseException:
            self.end()
            raise
        return f"http://{HOST}:{self._port}/v1"

    def _wait(self, program: str) -> None:
        assert self.process is not None
        end = time.monotonic() + self.launch.ready_s
        while not self._is_ready():
            if self.process.poll() is not None:
                raise UserError(f"its server ({program}) ended before it was ready: {self._last_lines()}")
            if time.monotonic() > end:
                limit = f"{self.launch.ready_s:g} s (servers.NAME.ready_s)"
                raise UserError(f"its server ({program}) was not ready within {limit}: {self._last_lines()}")
            time.sleep(0.2)

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=5)
        try:
            connection.request("GET", self.launch.health)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _last_lines(self) -> str:
        self._log.seek(max(0, os.fstat(self._log.fileno()).st_size - 10_000))
        lines = [line.strip() for line in self._log.read().decode("utf-8", "replace").splitlines() if line.strip()]
        return " | ".join(line[:200] for line in lines[-LAST_LINES:]) or "it wrote nothing"

    def end(self) -> None:
        """End the server and everything it has started; the keeper sees that nobody waits for it any more."""
        if self.process is not None and self.process.stdin is not None:
            with suppress(OSError):
                self.process.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(30)
        self._log.close()


def _filled(word: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        word = word.replace(name, value)
    return word
