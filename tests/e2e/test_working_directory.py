"""A folder full of files that are called like libraries: nothing in it takes a library's place, but a model's class."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from pathlib import Path

import pytest

TRAP = "raise SystemExit('a file of the working directory was imported in the place of a library')\n"
NAMES = ("tasks", "adapters", "conf", "random", "numpy", "torch", "harness", "yaml", "transformers", "jieba")
COMMAND = Path(sysconfig.get_path("scripts")) / "harness"

pytestmark = pytest.mark.skipif(not COMMAND.is_file(), reason="the package is not installed with its command here")


@pytest.fixture
def trap(world):
    """The command run by its name, in a folder of traps; `PYTHONPATH` does not name that folder."""
    for name in NAMES:
        (world.folder / f"{name}.py").write_text(TRAP)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"NO_COLOR": "1", "COLUMNS": "120"}
        return subprocess.run(
            [str(COMMAND), *words], cwd=world.folder, env=environment, capture_output=True, text=True, timeout=240
        )

    return run


def test_nothing_of_the_working_directory_is_imported_in_the_place_of_a_library(trap):
    words = ["model=pocket-clip", "task=classification", "limit=8", "latency=off"]
    done = trap("run", *words, "report.charts=false")
    assert done.returncode == 0, done.stdout + done.stderr


MODEL = """# @package models.{name}
defaults: [/spec/model@_here_, _self_]
_target_: {target}
origin: in-house
"""
CLASS = """
from harness.adapter import Adapter
from harness.records import Answer

class Local(Adapter):
    def load(self, device, clock):
        import local_words  # beside this file, and imported late
        self.word = local_words.WORD

    def generate(self, inputs):
        return [Answer(self.word) for _ in inputs]
"""


@pytest.mark.parametrize("place", [".", "my conf (1)"])
def test_an_adapter_lies_in_the_working_directory_or_beside_the_configs_that_name_it(trap, world, place):
    """Without weights it names no checkpoint."""
    config, folder = world.folder / "my conf (1)", world.folder / place
    (config / "model").mkdir(parents=True)
    (config / "model" / "local.yaml").write_text(MODEL.format(name="local", target="local_model.Local"))
    (folder / "local_model.py").write_text(CLASS)
    (folder / "local_words.py").write_text("WORD = 'yes'")
    words = ["model=local", "limit=8", "latency=full", "latency.samples=2", "report.charts=false", "run=here"]
    done = trap(
        "run", *words, "--config-dir", str(config)
    )  # a full latency pass spawns a process without a fork server
    assert done.returncode == 0, done.stdout + done.stderr
    cells = [cell for cell in world.summary("here")["cells"] if cell["model"] == "local"]
    assert [cell["status"] for cell in cells] == ["complete", "complete"]  # in English and in Chinese
    (world.results / "here" / "summary.json").unlink()
    done = trap("resume", "here", "--config-dir", str(config))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_target_of_former_times_works_and_is_told_its_new_name(trap, world):
    (world.folder / "mine" / "model").mkdir(parents=True)
    text = MODEL.format(name="former", target="adapters.transformers_chat.ChatModel")
    text = text.replace("/spec/model", "/spec/transformers") + "checkpoint: bundled:pocket-smolvlm\nprompt: pocket\n"
    (world.folder / "mine" / "model" / "former.yaml").write_text(text)
    words = ["model=former", "limit=8", "latency=off", "report.charts=false", "--config-dir", "mine"]
    done = trap("run", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.count("is now harness.adapters.transformers.chat.ChatModel") == 1
