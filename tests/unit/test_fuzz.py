"""Mistakes by the thousand: made-up command lines and files of settings, in this process and from a seed.

Whatever is given, a command ends with one of its exit statuses and a short message in the project's own words. Nothing
here asks a model: a run stops where its models would be asked.
"""

from __future__ import annotations

import itertools
import json
import random
import re
import shutil
import string
import sys
from pathlib import Path

import pytest

from harness.cli import fetch
from harness.cli import run as run_command
from harness.cli.main import main

QUICK = 180, 20
SLOW = 3000, 300
"""So many command lines and files of settings."""
STATUSES = {0, 1, 2, 130}
LONGEST = 5000
"""Characters of the longest message."""
LIBRARY = re.compile(
    r"Traceback|Hydra|(?i:omegaconf|argparse|pyyaml|errno|huggingface_hub)|\$[A-Z]+_TYPE|DictConfig|ListConfig|NoneType"
    r"|full_key|object_type|<class|NodeNotFound|\b[A-Z][A-Za-z]*(Error|Exception)\b|Alt\w+Exception"
)
"""What only libraries say."""

COMMANDS = ("run", "run", "run", "run", "train", "list", "report", "compare", "score", "resume", "doctor", "fetch")
WORDS = {
    "run": "task=vqa task=[vqa,captioning] model=pocket-clip model=[pocket-clip,pocket-vlm] dataset=pocket limit=3 "
    "batch_size=4 batch_size=auto dtype=float32 latency=off latency.samples=40 seed=7 device=cpu run=mine "
    "results_dir=out data_dir=data ablate=[none,image] engine.gpus=1 engine.timeout_s=3.5 report.language=zh "
    "report.charts=false models.pocket-clip.batch_size=8 models.pocket-clip.options={} "
    "tasks.vqa.max_new_tokens=9 ~models.pocket-clip prompts.chat.vqa.en=x datasets.pocket.where={a:1} --config-dir own",
    "train": "model=pocket-clip model=fusion-concat seed=3 dataset=pocket device=cpu work_dir=w schedule.steps=5 "
    "schedule.learning_rate=1e-3 options.width=32 needs.text=bundled:x --config-dir own",
    "list": "models tasks datasets metrics recipes runs --json results_dir=out --config-dir own",
    "report": "RUN RUN results_dir=out --lang en zh --out away --config-dir own",
    "compare": "RUN RUN RUN:pocket-clip --json --fail-if-worse results_dir=out --config-dir own",
    "score": "vqa captioning classification --predictions FILE --references FILE --metric exact_match cider --json "
    "--language zh --similarity dot --config-dir own",
    "resume": "RUN results_dir=out --config-dir own",
    "doctor": "--json results_dir=out",
    "fetch": "model=pocket-clip model=mine dataset=pocket dataset=coco-363 --config-dir own",
}
VALUES = [
    "", "null", "nan", "inf", "-1", "0", "1e999", "1" * 400, "true", "~", "[]", "{}", "[", "]", "{", "}", "[[1]]",
    "{a:1}",
    "{a: {b: c}}", "a,b", ",", ":", "=", "a=b", "'", '"', "'a", "\\", "${x}", "${oc.env:HOME}", "${models}", "$(id)",
    "???", "*", "&a", "!!int", "%s", "{0}", "<a>", "模型", "é" * 300, "\x1b[31m", "\x9b2J", "\u202eabc", "\ud800", "\0",
    "\n", "a\nb", "\t", " ", "a b", "../..", "/", "/dev/null", "/etc/passwd", ".", "..", "~", "~nobody", "a/b",
    "a" * 5000,
    "/" + "b" * 5000, "a/" * 2500, "x" * 300, "bundled:", "bundled:none", "owner/name", "-", "--", "-x", "None",
    "False",
    "1_000", "0x10", "1.5", "+5", "@", "Z" + "\u0301" * 50, "[" * 200, "{a:" * 60, "sk-0123456789abcdef0123", "٣",
    "１",
]  # fmt: skip
KEYS = [
    "model", "task", "dataset", "limit", "batch_size", "dtype", "latency", "latency.mode", "seed", "device", "run",
    "report",
    "results_dir", "data_dir", "ablate", "engine", "engine.gpus", "engine.media_gib", "models", "models.pocket-clip",
    "models.",
    "models.pocket-clip.checkpoint", "models.pocket-clip.languages", "models.pocket-clip.options.a",
    "datasets.pocket.labels",
    "datasets.pocket.splits", "datasets.pocket.columns.id", "tasks", "tasks.vqa._target_", "prompts.chat.vqa",
    "hydra.run.dir",
    "hydra", "defaults", "+new", "++new", "", ".", "a.b", "schedule", "schedule.steps", "options", "needs",
    "recipes", "spec",
]  # fmt: skip
FLAGS = [
    "--cfg",
    "--json",
    "--lang",
    "--out",
    "--config-dir",
    "--limit",
    "--",
    "-h1",
    "--metric",
    "--predictions",
    "-",
    "--x=y",
]


def mutated(word: str, dice: random.Random) -> str:
    """A word with a slip of the keyboard, or with another value."""
    key, sign, _ = word.partition("=")
    at = dice.randrange(len(word) + 1)
    return dice.choice(
        [
            f"{key}{sign}{dice.choice(VALUES)}",
            f"{key}{sign}{dice.choice(VALUES)}",
            f"{key}={dice.choice(VALUES)}",
            f"{dice.choice(KEYS)}={dice.choice(VALUES)}",
            f"{dice.choice(KEYS)}={dice.choice(VALUES)}",
            word[:at] + dice.choice(string.printable) + word[at:],
            word[:at] + word[at + 1 :],
            word[::-1],
            dice.choice(VALUES),
            dice.choice(FLAGS),
        ]
    )


def command_line(dice: random.Random, places: dict[str, str]) -> list[str]:
    """A command with a few words that belong to it, one to three of them wrong, in any order."""
    command = dice.choice(COMMANDS)
    pairs = [pair.strip() for pair in re.sub(r" (?!--|own|en |zh|away|FILE)", "\n", WORDS[command]).split("\n")]
    pairs = [word for pair in pairs for word in re.sub(r" (?=--)", "\n", pair).split("\n")]
    chosen = dice.sample(pairs, dice.randint(1, min(4, len(pairs))))
    words = [places.get(word, word) for pair in chosen for word in pair.split(" ")]
    for _ in range(dice.choice((0, 1, 1, 2, 3))):
        at = dice.randrange(len(words))
        words[at] = mutated(words[at], dice)
    if command in ("run", "train"):
        words.insert(dice.randrange(len(words) + 1), "--cfg")
    if command == "run" and not any(word.startswith("model=") for word in words):
        words.append("model=pocket-clip")  # all of them take a second
    if dice.random() < 0.03:
        command = mutated(command, dice)
    return [command, *words]


YAML = {
    "model": """# @package models.mine
defaults: [/spec/transformers@_here_, _self_]
_target_: harness.adapters.transformers.llava.Llava
origin: international
checkpoint: owner/name
parameters: 1000
languages: [en, zh]
dtype: float32
batch_size: 8
""",
    "dataset": """# @package datasets.mine
defaults: [/spec/dataset@_here_, _self_]
source: jsonl
tasks: [vqa]
languages: [en]
path: mine.jsonl
columns: {id: id, question: "{a} and {b}", references: r}
labels: {en: ["yes", "no"]}
where: {kind: [a, b]}
values: {kind: {1: a}}
""",
    "task": """# @package tasks.mine
defaults: [/spec/task@_here_, _self_]
_target_: harness.tasks.vqa.Vqa
max_new_tokens: 9
wording: {en: "{question}"}
""",
}


def settings_file(dice: random.Random) -> tuple[str, bytes]:
    """A group and the content of a member's file, in which something is wrong."""
    group = dice.choice(list(YAML))
    lines = YAML[group].splitlines()
    for _ in range(dice.randint(1, 3)):
        at = dice.randrange(len(lines))
        key = lines[at].partition(":")[0]
        value = dice.choice(VALUES)
        lines[at] = dice.choice(
            [
                f"{key}: {value}",
                f"{key}: {value}",
                f"{key}: {json.dumps(value)}",
                f"{mutated(key, dice)}: {value}",
                mutated(lines[at], dice),
                f"{lines[at]}\n{lines[at]}",
                f"\t{lines[at]}",
                f" {lines[at]}",
                f"{key}:\n  {value}",
                f"{key}: &a [*a]",
                f"{key}: {{{key}: {value}}}",
                f"{lines[at]}\n---",
                "",
            ]
        )
    content = "\n".join(lines).encode("utf-8", "surrogatepass")
    if dice.random() < 0.1:
        content = content[: dice.randrange(len(content))] + dice.randbytes(dice.randrange(20))
    return group, content


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> dict[str, str]:
    """A folder in which there is a run, a folder of settings and a file of answers."""
    folder = tmp_path_factory.mktemp("fuzz")
    reference = Path(__file__).parents[2] / "results" / "reference"
    shutil.copytree(reference, folder / "out" / "reference", ignore=shutil.ignore_patterns("charts", "media"))
    (folder / "own" / "model").mkdir(parents=True)
    (folder / "own" / "model" / "mine.yaml").write_text(YAML["model"])
    (folder / "answers.jsonl").write_text('{"id": "a", "prediction": "x", "references": ["x"]}\n')
    return {"here": str(folder), "RUN": "reference", "FILE": "answers.jsonl"}


@pytest.fixture
def here(places, monkeypatch) -> Path:
    monkeypatch.chdir(places["here"])
    monkeypatch.setattr(run_command, "_carry_out", lambda *_: 0)
    monkeypatch.setattr("harness.run.driver.resumed", lambda *_: None)
    monkeypatch.setattr("harness.run.plan.make", lambda *_: None)
    monkeypatch.setattr("harness.run.costs.estimates", lambda *_: [])
    monkeypatch.setattr("harness.run.costs.unagreed", lambda *_: [])
    monkeypatch.setattr(fetch, "_model", lambda *_: "is here")
    monkeypatch.setattr(fetch, "_dataset", lambda *_: "is here")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr("harness.targets._folders", [])
    return Path(places["here"])


def fault_of(words: list[str], capsys) -> str:
    """What is wrong with how a command ends; empty where nothing is."""
    try:
        status = main(words)
    except SystemExit as stop:  # --help
        status = stop.code or 0
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:300]}"
    said = capsys.readouterr().err.replace("hydra", "")  # what was given is repeated
    if status not in STATUSES:
        return f"status {status}"
    if found := LIBRARY.search(said):
        return f"it says {found[0]!r}: {said[:300]}"
    if status == 2 and not said.strip():
        return "it says nothing"
    if len(said) > LONGEST:
        return f"it says {len(said)} characters"
    return "control characters" if re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]", said) else ""


def faults_of_command_lines(count: int, places: dict[str, str], capsys) -> list[tuple[list[str], str]]:
    dice = random.Random(13)
    lines = [command_line(dice, places) for _ in range(count)]
    return [(line, fault) for line in lines if (fault := fault_of(line, capsys))]


def faults_of_files(count: int, here: Path, capsys) -> list[tuple[bytes, str]]:
    dice = random.Random(14)
    found = []
    for group, content in itertools.islice(iter(lambda: settings_file(dice), None), count):
        file = here / "faulty" / group / "mine.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        words = ["run", "--cfg", f"{group}=mine", "--config-dir", str(here / "faulty")]
        fault = fault_of(words if group == "model" else [*words, "model=pocket-clip"], capsys)
        found += [(content, fault)] if fault else []
        file.unlink()
    return found


def test_a_few_made_up_command_lines_end_as_they_should(here, places, capsys):
    assert faults_of_command_lines(QUICK[0], places, capsys) == []


def test_a_few_made_up_files_of_settings_end_as_they_should(here, capsys):
    assert faults_of_files(QUICK[1], here, capsys) == []


@pytest.mark.slow
def test_thousands_of_made_up_command_lines_end_as_they_should(here, places, capsys):
    assert faults_of_command_lines(SLOW[0], places, capsys) == []


@pytest.mark.slow
def test_hundreds_of_made_up_files_of_settings_end_as_they_should(here, capsys):
    assert faults_of_files(SLOW[1], here, capsys) == []
