"""Models with prices: what they will cost is said before, agreed to, and never more than a budget allows."""

from __future__ import annotations

import io
import sys
from collections import Counter

import pytest

from harness.config.compose import compose

ONE_EACH = "price_in: 1000000\nprice_out: 1000000"
"""A token costs 1, so that an answer of ToyStreamer, of 5 tokens in and 1 out, costs 6."""


def calls(world) -> Counter[str]:
    file = world.notes / "calls"
    return Counter(file.read_text().splitlines() if file.exists() else [])


def spent(world, run: str, *models: str) -> float:
    return sum(row.get("cost", 0) for model in models for row in world.records(run, model))


@pytest.fixture
def priced(world):
    """A model with prices, and thirty questions."""
    world.model("dear", "ToyStreamer", spec="endpoint", settings=ONE_EACH, notes=str(world.notes))
    return ["run", "model=dear", f"dataset={world.questions(30)}", "run=r", "latency=off"]


def test_without_a_terminal_nothing_is_asked_before_somebody_agrees(world, priced):
    done = world.harness(*priced, status=2)
    assert "dear must be paid for: give --yes, or budget=MOST" in done.stderr
    assert not (world.results / "r").exists()
    assert not calls(world)
    done = world.harness(*priced, "--yes")
    assert len(world.records("r", "dear")) == sum(calls(world).values()) == 30
    cell = world.cell("r", "dear")
    assert (cell["tokens_in"], cell["tokens_out"], cell["cost"]) == (150, 30, 180)


@pytest.mark.parametrize(("said", "status"), [("y\n", 0), ("\n", 2)])
def test_at_a_terminal_a_person_is_asked(world, priced, in_process, monkeypatch, said, status):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdin", Terminal(said))
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda _: True, raising=False)
    found, _, errors = in_process(*priced)
    assert found == status, errors
    assert "Go on? [y/N]" in errors
    assert sum(calls(world).values()) == (0 if status else 30)


def test_calls_tokens_and_cost_are_said_by_the_rule_before_the_first_call(world):
    """By hand: 16 letters are 4 tokens, four Chinese characters 4; 56 x 56 pixels are 4 tokens, 57 x 56 are 5."""
    from PIL import Image

    (world.folder / "data").mkdir()
    Image.new("RGB", (56, 56)).save(world.folder / "data" / "a.png")
    Image.new("RGB", (57, 56)).save(world.folder / "data" / "b.png")
    rows = [{"id": 1, "i": "a.png", "q": "x" * 16, "a": "y"}, {"id": 2, "i": "b.png", "q": "红红红红", "a": "y"}]
    world.dataset("two", "vqa", rows, {"id": "id", "image": "i", "question": "q", "references": "a"})
    world.model("dear", "ToyStreamer", spec="endpoint", settings=ONE_EACH + "\nmax_new_tokens: 7\nprompt: bare")
    done = world.harness("run", "model=dear", "dataset=two", "run=r", status=2)
    line = next(line for line in done.stderr.splitlines() if line.startswith("dear: "))
    assert "2 calls (and up to 4 to time it)" in line
    assert "at most 42 out" in line  # six answers of seven tokens
    assert "about 51 tokens in" in line  # (4 + 4 + 4 + 5) / 2 for each of six


def test_a_budget_is_never_passed_and_a_resume_with_a_larger_one_goes_on(world, priced):
    done = world.harness(*priced, "budget=100", status=1)
    assert "its budget is reached" in done.stderr
    assert "resume r" in done.stderr
    assert "budget=MOST" in done.stderr
    cell = world.cell("r", "dear")
    assert cell["status"] == "interrupted"
    assert "its budget is reached" in cell["reason"]
    assert 50 < spent(world, "r", "dear") == cell["cost"] <= 100
    before = sum(calls(world).values())
    assert before == len(world.records("r", "dear"))

    world.harness("resume", "r", status=1)  # with the same budget nothing more is asked
    assert sum(calls(world).values()) == before
    world.harness("resume", "r", "budget=1000")
    assert sum(calls(world).values()) == len(world.records("r", "dear")) == 30
    assert world.cell("r", "dear")["status"] == "complete"


def test_models_share_a_runs_budget_a_model_has_its_own_and_others_go_on(world):
    quiz = world.questions(30)
    for name in ("a", "b"):
        world.model(name, "ToyStreamer", spec="endpoint", settings=ONE_EACH, notes=str(world.notes))
    own = ONE_EACH + "\nbudget: 70"
    world.model("own", "ToyStreamer", spec="endpoint", settings=own, notes=str(world.notes))
    world.model("here")
    words = ["run", "model=[own,a,b,here]", f"dataset={quiz}", "run=r", "latency=off"]
    world.harness(*words, "budget=300", status=1)
    status = {name: world.cell("r", name)["status"] for name in ("a", "b", "own", "here")}
    assert status["here"] == "complete"
    assert status["own"] == "interrupted"
    assert 10 < spent(world, "r", "own") <= 70
    assert 230 < spent(world, "r", "a", "b", "own") <= 300


def test_timing_is_paid_from_the_budget_too(world, priced):
    words = [word for word in priced if word != "latency=off"]
    world.harness(*words, "budget=250")  # 30 answers cost 180; each further one may cost 41
    cell = world.cell("r", "dear")
    assert 0 < cell["latency"]["cost"] <= 70
    assert sum(calls(world).values()) == 30 + cell["latency"]["cost"] / 6


def test_no_set_but_served_has_models_that_are_asked_over_the_network(world):
    world.model("far", "ToyStreamer", spec="endpoint")
    world.model("near")

    def models(*words):
        run, *_ = compose([*words, "task=vqa"], [world.folder / "conf"])
        return set(run.models)

    for chosen in ("all", "domestic", "[domestic,international]"):
        assert "far" not in models(f"model={chosen}")
        assert "near" in models(f"model={chosen}")
    assert "far" in models("model=served")
    assert "near" not in models("model=served")
    assert {"far", "near"} <= models("model=[all,far]")


def test_a_key_that_is_not_set_is_noticed_before_anything_starts(world):
    settings = "api_key_env: NO_SUCH_VARIABLE_HERE"
    world.model("far", "ToyStreamer", spec="endpoint", settings=settings, notes=str(world.notes))
    quiz = world.questions(4)
    done = world.harness("run", "model=far", f"dataset={quiz}", "run=r", status=2)
    assert "far: the environment variable NO_SUCH_VARIABLE_HERE" in done.stderr
    world.model("here")
    no_server = "~models.served-local"  # the one that needs no key
    world.harness("run", "model=[served,here]", no_server, f"dataset={quiz}", "run=r", "latency=off")
    (left_out,) = [entry for entry in world.summary("r")["left_out"] if entry["model"] == "far"]
    assert "NO_SUCH_VARIABLE_HERE" in left_out["reason"]
