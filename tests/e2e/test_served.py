"""Models behind endpoints and behind servers that the harness starts, by the real command."""

from __future__ import annotations

import json
import os
import signal
import sys
import textwrap
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from endpoint_app import App, answer, error, question

KEY = "a-key-that-must-stand-nowhere-0123"
MODEL = """# @package models.{name}
defaults: [/spec/served@_here_, _self_]
_target_: harness.adapters.served.chat.Served
origin: domestic
base_url: {url}
model: m
api_key_env: THE_KEY
{settings}
"""


@pytest.fixture(autouse=True)
def the_key(monkeypatch):
    monkeypatch.setenv("THE_KEY", KEY)


def endpoint(world, url: str, name: str = "far", settings: str = "") -> str:
    (world.folder / "conf" / "model").mkdir(parents=True, exist_ok=True)
    text = MODEL.format(name=name, url=url, settings=settings)
    (world.folder / "conf" / "model" / f"{name}.yaml").write_text(text)
    return name


def echo(body, number):
    return answer(question(body).split("\n")[0])


def key_is_nowhere(world) -> bool:
    files = [file for file in world.folder.rglob("*") if file.is_file()]
    assert files
    return not any(KEY.encode() in file.read_bytes() for file in files)


def test_every_seventh_call_throttled_loses_nothing_and_the_key_stands_nowhere(world):
    def script(body, number):
        busy = error(429, f"slow down, {KEY}", headers={"Retry-After": "0.05"})
        return busy if number % 7 == 6 else echo(body, number)

    with App(script) as app:
        endpoint(world, app.url)
        done = world.harness("run", "model=far", f"dataset={world.questions(30)}", "run=r", "latency=off")
        assert len(app.calls) <= 37
        assert {headers["Authorization"] for headers in app.headers} == {f"Bearer {KEY}"}
    records = world.records("r", "far")
    assert len(records) == 30
    assert all(record["answer"] == record["question"] for record in records)
    cell = world.cell("r", "far")
    assert (cell["tokens_in"], cell["tokens_out"], cell["remote"]) == (300, 60, True)
    assert key_is_nowhere(world)
    assert KEY not in done.stdout + done.stderr


def test_killed_at_five_moments_no_stored_answer_is_asked_again(world):
    with App(echo, delay=0.1) as app:
        endpoint(world, app.url, settings="concurrency: 4")
        words = ["run", "model=far", f"dataset={world.questions(120)}", "run=r", "latency=off"]
        for seen in (5, 25, 50, 75, 100):
            process = world.start(*words)
            world.wait_for(lambda seen=seen: len(app.calls) >= seen)
            process.kill()
            process.wait()
            world.wait_for(lambda: not world.at_work())
            words = ["resume", "r"]
        world.harness(*words)
        assert len(app.calls) <= 120 + 5 * 8
    assert len({record["id"] for record in world.records("r", "far")}) == 120


def faulty(status, message):
    return lambda *_: error(status, message)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (faulty(401, f"Incorrect API key provided: {KEY}"), "the endpoint said 401: Incorrect API key provided: ***"),
        (faulty(404, "The model does not exist"), "404: The model does not exist. Is there a model 'm'"),
        (None, "cannot be reached: Connection refused. Is the server up?"),
    ],
    ids=["a wrong key", "a wrong model", "no server"],
)
def test_what_fails_a_model_is_one_clear_line_and_the_others_go_on(world, script, said):
    app = App(script or echo)
    if script is None:
        app.__exit__()
    endpoint(world, app.url)
    world.model("here")
    quiz = world.questions(10)
    done = world.harness("run", "model=[far,here]", f"dataset={quiz}", "run=r", "latency=off", status=1)
    assert " ".join(done.stderr.split()).count(said) == 1
    assert world.cell("r", "far")["status"] == "failed"
    assert said in world.cell("r", "far")["reason"]
    assert world.cell("r", "here")["status"] == "complete"
    assert key_is_nowhere(world)
    if script is not None:
        app.script = echo
        world.harness("resume", "r")
        assert world.cell("r", "far")["status"] == "complete"
        app.__exit__()


def test_a_server_that_dies_half_way_fails_the_model_and_a_resume_goes_on(world):
    app = App(echo, delay=0.02)
    endpoint(world, app.url, settings="retries: 1\nconcurrency: 4")
    process = world.start("run", "model=far", f"dataset={world.questions(60)}", "run=r", "latency=off")
    world.wait_for(lambda: len(app.calls) >= 20)
    app.__exit__()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1, errors
    assert "is not there any more, after 2 tries: Connection refused" in " ".join(errors.split())
    kept = world.records("r", "far")
    assert kept
    assert not any("error" in record for record in kept)
    with App(echo) as other:
        endpoint(world, other.url, settings="retries: 1\nconcurrency: 4")  # another address is another model
        assert len(other.calls) == 0


# Servers that are started -----------------------------------------------------------------------------------------

SERVER = """
import json, os, subprocess, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
port, notes, mode = int(sys.argv[1]), sys.argv[2], sys.argv[3]
child = [sys.executable, "-c", "import time; time.sleep(600)"]
subprocess.Popen(child, start_new_session=True)
if mode == "broken":
    print("CUDA is not there")
    sys.exit(3)
open(notes + "/" + str(os.getpid()), "w").close()
class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_): pass
    def do_GET(self):
        self.reply({"data": [{"id": "it"}]})
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(0.05)
        self.reply({"choices": [{"finish_reason": "stop", "message": {"content": "yes"}}]})
    def reply(self, found):
        body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def launched(world):
    """Settings of a run whose server is a small program, which starts a child with a session of its own."""
    (world.folder / "server.py").write_text(textwrap.dedent(SERVER))
    command(world, "sound")
    words = ["model=pocket-smolvlm", "models.pocket-smolvlm.server=small", "run=r", "latency=off"]
    return ["run", *words, f"dataset={world.questions(80)}"]


def command(world, mode: str) -> None:
    (world.folder / "conf" / "server").mkdir(parents=True, exist_ok=True)
    words = ["{python}", str(world.folder / "server.py"), "{port}", str(world.notes), mode]
    text = f"# @package servers.small\ndefaults: [/spec/server@_here_, _self_]\ncommand: {json.dumps(words)}\n"
    (world.folder / "conf" / "server" / "small.yaml").write_text(text)


def test_a_server_is_started_asked_and_ended_with_all_that_it_started(world, launched):
    world.harness(*launched)
    assert {record["answer"] for record in world.records("r", "pocket-smolvlm")} == {"yes"}
    cell = world.cell("r", "pocket-smolvlm")
    assert (cell["remote"], cell["status"]) == (False, "complete")
    world.wait_for(lambda: not world.at_work(), 10)


@pytest.mark.parametrize("victim", ["driver", "worker"])
def test_a_server_ends_when_whoever_wanted_it_is_killed(world, launched, victim):
    process = world.start(*launched)
    world.wait_for(lambda: list(world.notes.iterdir()))
    if victim == "driver":
        process.kill()
    else:
        keeper = parent(parent(int(next(world.notes.iterdir()).name)))
        os.kill(parent(keeper) if "keeper.py" in words_of(keeper) else keeper, signal.SIGKILL)
        time.sleep(0.5)
        process.kill()
    process.wait()
    world.wait_for(lambda: not world.at_work(), 10)


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def words_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def test_a_server_that_does_not_start_says_why_with_its_own_last_words(world, launched):
    command(world, "broken")
    done = world.harness(*launched, status=1)
    assert "ended before it was ready: CUDA is not there" in " ".join(done.stderr.split())
    assert world.cell("r", "pocket-smolvlm")["status"] == "failed"
    world.wait_for(lambda: not world.at_work(), 10)
    command(world, "sound")
    done = world.harness("resume", "r", status=2)  # the run's command was another
    assert "is not that of today's settings" in done.stderr


def test_no_command_is_taken_from_a_run_folder(world, launched):
    command(world, "broken")
    world.harness(*launched, status=1)
    file = world.results / "r" / "run.json"
    hostile = file.read_text().replace('"broken"', f'"; touch {world.folder}/hacked"').replace("server.py", "evil.py")
    (world.folder / "evil.py").write_text(f"open({str(world.folder / 'hacked')!r}, 'w')")
    file.write_text(hostile)
    done = world.harness("resume", "r", status=2)
    assert "is not that of today's settings" in done.stderr
    assert not (world.folder / "hacked").exists()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("uvicorn") is None, reason="pip install 'multimodal-harness[serving]' brings the server")
def test_a_model_answers_the_same_behind_a_real_server(world):
    words = ["task=[vqa,captioning]", "model=pocket-smolvlm", "limit=50", "latency=off"]
    world.harness("run", *words, "run=here")
    world.harness("run", *words, "models.pocket-smolvlm.server=transformers", "run=behind")
    pairs = []
    for file in (world.results / "here" / "cells" / "pocket-smolvlm").glob("*/records.jsonl"):
        other = Path(str(file).replace("/here/", "/behind/"))
        here, behind = ([json.loads(line) for line in path.read_text().splitlines()] for path in (file, other))
        assert [row["id"] for row in here] == [row["id"] for row in behind]
        pairs += [(a.get("answer"), b.get("answer")) for a, b in zip(here, behind, strict=True)]
    assert len(pairs) == 200
    assert sum(a == b for a, b in pairs) >= 0.99 * len(pairs)
    assert all(cell["tokens_in"] for cell in world.summary("behind")["cells"] if cell["model"] == "pocket-smolvlm")
