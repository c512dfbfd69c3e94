"""For all tests: no network but loopback, no hub, one thread."""

from __future__ import annotations

import ipaddress
import os
import socket

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
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
