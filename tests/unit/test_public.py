"""The surface that scripts and people depend on: a change of it is seen here first, and is meant."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import harness
from harness.cli.main import _parser

ROOT = Path(__file__).parents[2]

NAMES = [
    "Adapter", "Answer", "Media", "ModelSpec", "OutOfBudget", "Record", "Refused", "Request", "Run", "Sample",
    "SampleError", "TransientError", "UserError", "evaluate", "load_run",
]  # fmt: skip

COMMANDS = {
    "run": ["--cfg", "--config-dir", "--help", "--yes", "settings"],
    "resume": ["--config-dir", "--help", "words"],
    "report": ["--config-dir", "--help", "--lang", "--out", "words"],
    "compare": ["--config-dir", "--fail-if-worse", "--help", "--json", "words"],
    "score": [
        *("--config-dir", "--help", "--json", "--language", "--metric", "--predictions", "--references"),
        *("--similarity", "task"),
    ],
    "fetch": ["--config-dir", "--help", "settings"],
    "train": ["--cfg", "--config-dir", "--help", "--publish", "settings"],
    "doctor": ["--help", "--json", "settings"],
    "list": ["--config-dir", "--help", "--json", "settings", "what"],
}

SETTINGS = {
    "ablate", "batch_size", "budget", "data_dir", "datasets", "device", "dtype", "engine", "latency", "limit", "models",
    "prompts", "report", "results_dir", "run", "seed", "servers", "tasks",
}  # fmt: skip


def test_the_package_exports_these_names_and_each_is_there():
    assert sorted(harness.__all__) == NAMES
    assert set(dir(harness)) == {*NAMES, "__version__"}
    for name in NAMES:
        assert getattr(harness, name).__name__ == name


def test_a_name_that_is_not_exported_is_an_attribute_error():
    assert not hasattr(harness, "evalute")


def test_the_command_line_has_these_commands_and_words():
    (commands,) = [a for a in _parser()[0]._actions if isinstance(a, argparse._SubParsersAction)]
    found = {
        name: sorted((action.option_strings or [action.dest])[-1] for action in parser._actions)
        for name, parser in commands.choices.items()
    }
    assert found == COMMANDS


def test_a_run_has_these_settings():
    from dataclasses import fields

    from harness.config.specs import RunSpec

    assert {field.name for field in fields(RunSpec)} == SETTINGS


def test_importing_the_package_loads_little():
    code = "import sys; before = set(sys.modules); import harness; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) <= {"harness", "__future__"}
