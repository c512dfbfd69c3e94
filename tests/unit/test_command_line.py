"""The command line: words in any order, and mistakes that are told in one line which names the right word."""

from __future__ import annotations

import ast
import itertools
import json
from pathlib import Path

import pytest

from harness.cli.main import _read, main

HARNESS = Path(__file__).parents[2] / "harness"


def told(capsys, *words: str) -> str:
    """What a command says that is refused with status 2."""
    assert main(words) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1, said
    return said


def printed(capsys, words) -> str:
    assert main(words) == 0
    return capsys.readouterr().out


def test_flags_and_settings_stand_in_any_order(capsys, tmp_path):
    parts = (["--cfg"], ["task=vqa"], ["--config-dir", str(tmp_path)], ["model=pocket-clip"])
    orders = [list(itertools.chain(*order)) for order in itertools.permutations(parts)]
    first, *others = (printed(capsys, ["run", *order]) for order in orders[::5])
    assert "pocket-clip" in first
    assert set(others) == {first}


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        ("report", (["--lang", "zh"], ["a"], ["--out", "here"])),
        ("compare", (["--json"], ["a"], ["--config-dir", "own"], ["--fail-if-worse"])),
        ("list", (["--json"], ["models"], ["--config-dir", "own"])),
        ("score", (["vqa"], ["--predictions", "p"], ["--json"], ["--references", "r"])),
        ("resume", (["a"], ["--config-dir", "own"])),
        ("train", (["model=a"], ["--cfg"], ["--publish"])),
        ("doctor", (["results_dir=r"], ["--json"])),
        ("fetch", (["model=a"], ["--config-dir", "own"])),
    ],
)
def test_every_command_reads_its_words_in_any_order(command, parts):
    orders = [list(itertools.chain(*order)) for order in itertools.permutations(parts)]
    first, *others = (vars(_read([command, *order])) for order in orders)
    assert all(other == first for other in others)
    assert vars(_read([*parts[0], command, *itertools.chain(*parts[1:])])) == first


def test_a_task_may_stand_behind_the_metrics(capsys, tmp_path):
    file = tmp_path / "both.jsonl"
    file.write_text(json.dumps({"id": "a", "prediction": "x", "references": ["x"]}))
    files = ["--predictions", str(file), "--references", str(file)]
    orders = (["vqa", *files, "--metric", "exact_match"], [*files, "--metric", "exact_match", "vqa"])
    first, second = (printed(capsys, ["score", *order]) for order in orders)
    assert "exact_match" in first
    assert first == second


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["rnu"], "Did you mean 'run'?"),
        (["task=vqa"], "Did you mean `harness run task=vqa …`?"),
        (["run", "--limit", "5"], "without dashes: limit=VALUE"),
        (["run", "--model=pocket-clip"], "without dashes: model=VALUE"),
        (["list", "--jsn", "models"], "Did you mean '--json'?"),
        (["report", "--lang", "de", "a"], "choose from 'en', 'zh'"),
        (["report"], "required: RUN"),
        (["list"], "models|tasks|datasets"),
        ([], "COMMAND"),
    ],
)
def test_a_mistake_in_the_words_names_the_right_ones(capsys, words, hint):
    assert hint in told(capsys, *words)


def test_what_a_command_prints_steers_no_terminal(capsys):
    said = told(capsys, "run", "model=\x1b[31mred\x9b2J\u202e")
    assert not set("\x1b\x9b\u202e") & set(said)
    assert "\ufffd[31mred" in said


def test_one_module_prints():
    """`harness/cli/terminal.py` cleans what is printed, so no other module of the command line may print by itself."""
    for file in (HARNESS / "cli").glob("*.py"):
        calls = [node for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, ast.Call)]
        names = {ast.unparse(call.func) for call in calls}
        assert file.name == "terminal.py" or not names & {"print", "sys.stdout.write", "sys.stderr.write"}, file


LONG = "x" * 5000


@pytest.mark.parametrize(
    "words",
    [
        ["run", "model=pocket-clip", f"run={LONG}"],
        ["run", "model=pocket-clip", f"results_dir={LONG}"],
        ["run", "model=pocket-clip", f"device={LONG}"],
        ["run", "model=pocket-clip", f"models.pocket-clip.checkpoint={LONG}"],
        ["run", "model=pocket-clip", f"models.pocket-clip.checkpoint=/{LONG}"],
        ["run", "model=pocket-clip", "dataset=pocket", "datasets.pocket.source=jsonl", f"datasets.pocket.path={LONG}"],
        ["run", "model=pocket-clip", "dataset=pocket", "datasets.pocket.source=hub", f"datasets.pocket.path={LONG}"],
        ["run", "model=pocket-clip", "dataset=coco-363", f"data_dir={LONG}"],
        ["run", f"model={LONG}"],
        ["run", f"dataset={LONG}"],
        ["run", LONG],
        ["run", f"{LONG}=3"],
        ["run", "--config-dir", LONG],
        [LONG],
        ["list", LONG],
        ["list", "runs", f"results_dir={LONG}"],
        ["resume", LONG],
        ["resume", f"results_dir={LONG}"],
        ["report", LONG],
        ["compare", LONG, LONG],
        ["score", "vqa", "--predictions", LONG, "--references", LONG],
        ["score", "retrieval", "--predictions", LONG],
        ["fetch", "model=pocket-clip", f"models.pocket-clip.checkpoint={LONG}"],
        ["train", "model=pocket-clip", f"work_dir={LONG}"],
        ["doctor", f"results_dir={LONG}"],
    ],
    ids=lambda words: " ".join(word.replace(LONG, "LONG") for word in words),
)
def test_words_of_five_thousand_characters_cost_one_line(capsys, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    status = main(words)
    out, err = capsys.readouterr()
    assert status in (1, 2), out
    assert (err or out).count("\n") <= 2 or words[0] == "doctor"
    assert len(err) < 2000


@pytest.mark.parametrize(
    ("checkpoint", "said"),
    [
        ("./nowhere", "there is no checkpoint ./nowhere"),
        ("bundled:nothing", "there is no checkpoint bundled:nothing"),
        ("nobody/nothing", "nobody/nothing is not on this machine. `harness fetch model=pocket-clip` brings it."),
    ],
)
def test_a_checkpoint_that_is_not_there_is_told_before_anything_is_loaded(
    capsys, tmp_path, monkeypatch, checkpoint, said
):
    monkeypatch.chdir(tmp_path)
    words = ["run", "model=pocket-clip", f"models.pocket-clip.checkpoint={checkpoint}", "task=retrieval"]
    assert said in told(capsys, *words)
    assert list(tmp_path.iterdir()) == []


def test_a_list_of_tasks_reads_no_models_settings(capsys, monkeypatch):
    from harness.config import compose

    composed = []
    real = compose._hydra
    monkeypatch.setattr(compose, "_hydra", lambda lists, *rest: composed.append(lists) or real(lists, *rest))
    for what in ("tasks", "datasets"):
        printed(capsys, ["list", what])
    assert [[word for word in words if word.startswith("model=")] for words in composed] == [["model=[]"], ["model=[]"]]
