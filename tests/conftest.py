"""For all tests: no network but loopback, no hub, one thread; and which of them are `quick`."""

from __future__ import annotations

import gc
import ipaddress
import os
import socket
from pathlib import Path

import pytest

HERE = Path(__file__).parent

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.pop("HARNESS_DATA", None)
# Hundreds of commands are started: without compiled files each would compile the whole package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

NOT_QUICK = {
    "test_data_folders.py",
    "test_fusion.py",
    "test_metrics_meteor.py",
    "test_pocket_zoo.py",
    "test_training.py",
}
"""Files of unit/ whose tests load models, train them, start METEOR or read whole data sets."""

_connect, _connect_ex = socket.socket.connect, socket.socket.connect_ex


def _refuse_strangers(sock: socket.socket, address: object) -> None:
    """Raises RuntimeError for an address that is neither a local socket file nor loopback."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or not isinstance(address, tuple):
        return
    host = address[0]
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback:
        raise RuntimeError(f"A test tried to reach {host}: tests use no network.")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def connect(sock, address):
        _refuse_strangers(sock, address)
        return _connect(sock, address)

    def connect_ex(sock, address):
        _refuse_strangers(sock, address)
        return _connect_ex(sock, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket.socket, "connect_ex", connect_ex)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m quick` alone, passes over what has no quick test: only to read it would import torch."""
    none_quick = collection_path.name in NOT_QUICK or collection_path == HERE / "conformance"
    return True if none_quick and config.option.markexpr == "quick" else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests of unit/ as `quick`, but for the files above. A few real commands carry the mark themselves."""
    for item in items:
        if item.path.is_relative_to(HERE / "unit") and item.path.name not in NOT_QUICK:
            item.add_marker("quick")


@pytest.fixture(scope="module", autouse=True)
def _imported_is_no_garbage() -> None:
    """Lets the collector pass over what is there before a file's first test: the libraries that other files imported.

    A latency pass collects garbage before each part, and would look through all of torch and transformers each time.
    """
    gc.collect()
    gc.freeze()
