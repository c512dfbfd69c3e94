"""`harness fetch` against a hub that is a server on this machine."""

import io
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from safetensors.torch import load_file, save

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TIED = torch.arange(6.0).reshape(2, 3)
WEIGHTS = {"head.weight": TIED, "embed.weight": TIED, "bias": torch.ones(3, dtype=torch.bfloat16)}


def pickled(value: object) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


class Runs:
    """What a pickle may hold: a call of any function."""

    def __reduce__(self):
        return print, ("a pickle was run",)


CONFIG = b'{"model_type": "toy"}'
INDEX = {
    "metadata": {},
    "weight_map": {"bias": "pytorch_model-00001-of-00002.bin", "head.weight": "pytorch_model-00002-of-00002.bin"},
}
REPOSITORIES = {
    "safe": {"config.json": CONFIG, "model.safetensors": save(WEIGHTS | {"embed.weight": TIED.clone()}),
             "pytorch_model.bin": b"pickle"},
    "pickled": {"config.json": CONFIG, "pytorch_model.bin": pickled(WEIGHTS), "training_args.bin": pickled(Runs()),
                "optimizer.pt": b"pickle"},
    "shards": {"config.json": CONFIG, "pytorch_model.bin.index.json": json.dumps(INDEX).encode(),
               "pytorch_model-00001-of-00002.bin": pickled({"bias": WEIGHTS["bias"]}),
               "pytorch_model-00002-of-00002.bin": pickled({"head.weight": TIED})},
    "hostile": {"config.json": CONFIG, "pytorch_model.bin": pickled({"a": Runs()})},
    "torn": {"config.json": CONFIG, "pytorch_model.bin": pickled(WEIGHTS)[:-50]},
    "other": {"config.json": CONFIG, "flax_model.msgpack": b"weights"},
}  # fmt: skip


class Hub(BaseHTTPRequestHandler):
    """The requests that a snapshot takes: its commit, its file list, and each file's facts and content."""

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path, name = self.path.split("?")[0], self.path.split("?")[0].rsplit("/", 1)[-1]
        owner = next((part for part in path.split("/") if part in REPOSITORIES), "")
        files = REPOSITORIES.get(owner, {})
        if files and "/tree/" in path:
            tree = [{"type": "file", "path": f, "size": len(c), "oid": f} for f, c in files.items()]
            content = json.dumps(tree).encode()
        elif files and path.startswith("/api/models/"):
            siblings = [{"rfilename": file} for file in files]
            content = json.dumps({"id": f"someone/{owner}", "sha": COMMIT, "siblings": siblings}).encode()
        elif "/resolve/" in path and name in files:
            content = files[name]
        else:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        etag = f'"{owner}-{name}"'
        for key, value in (("X-Repo-Commit", COMMIT), ("ETag", etag), ("Content-Length", str(len(content)))):
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def fetch(world, monkeypatch) -> Iterator:
    """Fetches the repository of this name: what is in its snapshot then, what was said, and a model's line in the list
    before and after."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_HOME", str(world.folder / "hf"))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")

    def bring(name: str, status: int = 0):
        world.model("toy")
        config = world.folder / "conf" / "model" / "toy.yaml"
        config.write_text(config.read_text().replace(f"{world.folder / 'weights'}", f"someone/{name}"))
        said = world.harness("fetch", "model=toy", status=status)
        snapshot = world.folder / "hf" / "hub" / f"models--someone--{name}" / "snapshots" / COMMIT
        return snapshot, said.stdout

    bring.here = lambda: next(  # pyright: ignore[reportFunctionMemberAccess]
        row["here"] for row in json.loads(world.harness("list", "models", "--json").stdout) if row["model"] == "toy"
    )
    yield bring
    server.shutdown()


def test_a_fetch_without_a_network_says_so_at_once(fetch, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    start = time.monotonic()
    _, said = fetch("safe", status=1)
    assert "failed: http://127.0.0.1:9 is not reached (" in said
    assert len(said.splitlines()) == 1
    assert time.monotonic() - start < 60


def test_without_a_network_data_sets_are_not_tried_one_by_one_for_minutes(world, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    start = time.monotonic()
    said = world.harness("fetch", "dataset=all", status=1).stdout
    (line,) = [line for line in said.splitlines() if "failed" in line]
    assert "is not reached (" in line
    assert "more were not tried" in line
    assert time.monotonic() - start < 60


def names(snapshot) -> set[str]:
    return {path.name for path in snapshot.iterdir()}


def test_fetch_brings_safetensors_and_leaves_pickles_and_says_first_how_much_it_will_bring(fetch):
    snapshot, said = fetch("safe")
    assert names(snapshot) == {"config.json", "model.safetensors"}
    assert said.index("2 files of ") < said.index("model toy: ")
    assert fetch.here()
    assert "to download" not in fetch("safe")[1]  # nothing is missing any more


def test_weights_that_are_pickled_alone_are_converted_without_running_what_they_may_hold(fetch):
    snapshot, said = fetch("pickled")
    assert names(snapshot) == {"config.json", "pytorch_model.bin", "model.safetensors"}
    assert "a pickle was run" not in said
    found = load_file(snapshot / "model.safetensors")
    assert set(found) == set(WEIGHTS)
    assert all(
        torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype for name, tensor in WEIGHTS.items()
    )
    assert fetch.here()


def test_shards_are_converted_one_by_one_and_their_index_with_them(fetch):
    snapshot, _ = fetch("shards")
    index = json.loads((snapshot / "model.safetensors.index.json").read_text())
    found = {name: load_file(snapshot / file)[name] for name, file in index["weight_map"].items()}
    assert torch.equal(found["head.weight"], TIED)
    assert torch.equal(found["bias"], WEIGHTS["bias"])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("hostile", "holds more than tensors"),
        ("torn", "or is damaged"),
        ("other", "no weights in a form that is read here"),
        ("absent", "failed"),
    ],
)
def test_a_fetch_that_brings_no_weights_says_why_and_leaves_with_status_1(fetch, name, reason):
    _, said = fetch(name, status=1)
    assert "model toy: failed" in said
    assert reason in said
    assert "a pickle was run" not in said
    assert not fetch.here()
