"""`harness fetch` against a hub that is a server on this machine."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {"config.json": b'{"model_type": "toy"}', "model.safetensors": b"weights", "pytorch_model.bin": b"pickle"}


class Hub(BaseHTTPRequestHandler):
    """The requests that a snapshot takes: its commit, its file list, and each file's facts and content."""

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path, name = self.path.split("?")[0], self.path.split("?")[0].rsplit("/", 1)[-1]
        if "/tree/" in path:
            tree = [{"type": "file", "path": f, "size": len(c), "oid": f} for f, c in FILES.items()]
            content = json.dumps(tree).encode()
        elif path.startswith("/api/models/someone/toy/"):
            siblings = [{"rfilename": file} for file in FILES]
            content = json.dumps({"id": "someone/toy", "sha": COMMIT, "siblings": siblings}).encode()
        elif path.startswith("/someone/toy/resolve/") and name in FILES:
            content = FILES[name]
        else:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        for key, value in (("X-Repo-Commit", COMMIT), ("ETag", f'"{name}"'), ("Content-Length", str(len(content)))):
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_fetch_brings_safetensors_and_leaves_pickles(world, hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", hub)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_HOME", str(world.folder / "hf"))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    world.model("toy")
    config = world.folder / "conf" / "model" / "toy.yaml"
    config.write_text(config.read_text().replace(f"checkpoint: {world.folder / 'weights'}", "checkpoint: someone/toy"))
    (before,) = [r for r in json.loads(world.harness("list", "models", "--json").stdout) if r["model"] == "toy"]
    world.harness("fetch", "model=toy")
    snapshot = world.folder / "hf" / "hub" / "models--someone--toy" / "snapshots" / COMMIT
    assert {path.name for path in snapshot.iterdir()} == {"config.json", "model.safetensors"}
    (after,) = [r for r in json.loads(world.harness("list", "models", "--json").stdout) if r["model"] == "toy"]
    assert (before["here"], after["here"]) == (False, True)


def test_a_fetch_that_fails_says_why_and_leaves_with_status_1(world, hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", hub)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_HOME", str(world.folder / "hf"))
    world.model("toy")
    config = world.folder / "conf" / "model" / "toy.yaml"
    config.write_text(config.read_text().replace(f"checkpoint: {world.folder / 'weights'}", "checkpoint: someone/else"))
    done = world.harness("fetch", "model=toy", status=1)
    assert "model toy: failed" in done.stdout
