"""`harness compare` as a gate: paired, failures counting as wrong, missing counting as worse."""

import json

import pytest


@pytest.fixture(scope="module")
def world(worlds):
    return worlds("compared")


@pytest.fixture(scope="module")
def two_runs(world):
    """The same questions to the same models, of which one got worse, one fails now and then, and one is gone."""
    quiz = world.questions(80)
    for name in ("steady", "worse", "gone"):
        world.model(name)
    words = ["run", f"dataset={quiz}", "latency=off"]
    world.harness(*words, "model=[steady,worse,gone]", "run=a")
    world.model("worse", fault="raise", trigger="Is")
    world.model("gone", fault="load")
    world.harness(*words, "model=[steady,worse,gone]", "run=b", status=1)
    return [str(world.results / name) for name in ("a", "b")]


def test_what_got_worse_is_named_and_fails_the_gate(world, two_runs):
    rows = {row["model"]: row for row in json.loads(world.harness("compare", *two_runs, "--json").stdout)}
    assert rows["steady"]["verdict"] == "same"
    assert (rows["steady"]["difference"], rows["steady"]["p"]) == (0.0, 1.0)
    assert rows["worse"]["verdict"] == "worse"
    assert rows["worse"]["difference"] == pytest.approx(-0.25)
    assert rows["worse"]["n"] == 80
    assert rows["gone"]["verdict"] == "failed"
    done = world.harness("compare", *two_runs, "--fail-if-worse", status=1)
    assert "worse on vqa" in done.stderr
    assert "steady on" not in done.stderr


def test_a_run_compared_with_itself_passes_the_gate(world, two_runs):
    world.harness("compare", two_runs[0], two_runs[0], "--fail-if-worse")


def test_what_the_second_run_was_not_asked_is_counted_in_a_line_and_fails_the_gate(world, two_runs):
    world.harness("run", "dataset=quiz", "model=steady", "latency=off", "run=alone")
    pair = [two_runs[0], str(world.results / "alone")]
    done = world.harness("compare", *pair)
    assert done.stderr.strip() == f"{pair[1]} lacks what {pair[0]} has: worse on vqa quiz en, gone on vqa quiz en"
    assert "missing" not in done.stdout
    rows = json.loads(world.harness("compare", *pair, "--json").stdout)
    assert [row["verdict"] for row in rows] == ["same", "missing", "missing"]
    world.harness("compare", *pair, "--fail-if-worse", status=1)


def test_other_samples_are_refused(world, two_runs):
    world.harness("run", "dataset=quiz", "model=steady", "limit=10", "latency=off", "run=part")
    done = world.harness("compare", two_runs[0], str(world.results / "part"), status=2)
    assert "not the same ones" in done.stderr
