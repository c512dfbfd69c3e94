"""Two drivers never write to one run folder, and a lock that nobody holds any more is in nobody's way."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.store import lock

ROOT = Path(__file__).parents[2]
HOLD = "import sys, time; from pathlib import Path; from harness.store import lock\nwith lock.hold(Path(sys.argv[1])): "


@pytest.fixture
def other(tmp_path):
    """Another process that holds the lock of the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD + "print('held', flush=True); time.sleep(60)", str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_process_is_refused_and_told_who_is_at_work(tmp_path, other):
    with (
        pytest.raises(UserError, match=rf"process {other.pid} on {socket.gethostname()}, since 20"),
        lock.hold(tmp_path),
    ):
        pass
    assert json.loads((tmp_path / "lock").read_text())["pid"] == other.pid


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path, other):
    other.kill()
    other.wait()
    assert (tmp_path / "lock").exists()
    with lock.hold(tmp_path):
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()
    assert not (tmp_path / "lock").exists()


def test_a_torn_lock_is_taken_over(tmp_path):
    (tmp_path / "lock").write_text('{"pid": 1')
    with lock.hold(tmp_path):
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()


def test_a_lock_of_another_host_is_believed_until_it_is_deleted(tmp_path):
    (tmp_path / "lock").write_text(json.dumps({"pid": 1, "host": "elsewhere", "since": "2026-01-01 00:00:00"}))
    with pytest.raises(UserError, match=r"process 1 on elsewhere.*delete .*lock"), lock.hold(tmp_path):
        pass
    (tmp_path / "lock").unlink()
    with lock.hold(tmp_path):
        pass


def test_without_locks_of_the_file_system_the_name_in_the_file_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "_locked", lambda file: None)
    with lock.hold(tmp_path), pytest.raises(UserError, match=rf"process {os.getpid()} .*delete"), lock.hold(tmp_path):
        pass
    with lock.hold(tmp_path):
        pass


def test_the_lock_is_free_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), lock.hold(tmp_path):
        _ = 1 / 0
    with lock.hold(tmp_path):
        pass
