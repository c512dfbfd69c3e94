"""A small world for the real command: pictures and questions in files, and toy models, below one folder."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))  # toys and faulty lie beside the tests

ROOT = Path(__file__).parents[2]

MODEL = """# @package models.{name}
defaults: [/spec/{spec}@_here_, _self_]
_target_: toys.{cls}
origin: {origin}
developer: {name}
checkpoint: {checkpoint}
options: {options}
{settings}
"""
DATASET = """# @package datasets.{name}
defaults: [/spec/dataset@_here_, _self_]
source: jsonl
tasks: [{task}]
languages: [{languages}]
path: {path}
columns: {columns}
{more}
"""


@dataclass
class World:
    """Where the files are, and the command that runs there."""

    folder: Path
    columns: int = 120
    """Width of the terminal that the command thinks it writes to."""

    @property
    def results(self) -> Path:
        return self.folder / "results"

    @property
    def notes(self) -> Path:
        """A folder where toys count what they did. While a file `hold` lies in it, they wait where `held_at` says."""
        folder = self.folder / "notes"
        folder.mkdir(exist_ok=True)
        return folder

    def model(
        self,
        name: str,
        cls: str = "ToyGenerator",
        origin: str = "domestic",
        spec: str = "model",
        settings: str = "",
        **options: Any,
    ) -> str:
        """A toy model's config, with `settings` as further lines of it; returns its name."""
        (self.folder / "conf" / "model").mkdir(parents=True, exist_ok=True)
        weights = self.folder / "weights"
        weights.mkdir(exist_ok=True)
        text = MODEL.format(
            name=name,
            cls=cls,
            origin=origin,
            checkpoint=weights,
            options=json.dumps(options),
            spec=spec,
            settings=settings,
        )
        (self.folder / "conf" / "model" / f"{name}.yaml").write_text(text)
        return name

    def dataset(self, name: str, task: str, rows: list[dict], columns: dict, more: str = "", languages="en") -> str:
        """A data file and its config; returns its name."""
        (self.folder / "conf" / "dataset").mkdir(parents=True, exist_ok=True)
        (self.folder / "data").mkdir(exist_ok=True)
        (self.folder / "data" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        text = DATASET.format(
            name=name, task=task, path=f"{name}.jsonl", columns=json.dumps(columns), more=more, languages=languages
        )
        (self.folder / "conf" / "dataset" / f"{name}.yaml").write_text(text)
        return name

    def picture(self, name: str, colour: tuple[int, int, int] = (200, 0, 0)) -> str:
        (self.folder / "data").mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), colour).save(self.folder / "data" / name)
        return name

    def questions(self, n: int = 40, name: str = "quiz") -> str:
        """n questions on n / 2 pictures, of two categories."""
        rows = []
        for i in range(n):
            yes = i % 2 == 0
            rows.append(
                {
                    "id": i,
                    "image": self.picture(f"{name}{i // 2}.png"),
                    "q": f"Is it red, number {i}?" if yes else f"How many, number {i}?",
                    "a": "yes" if i % 4 == 0 else "two" if i % 4 == 1 else "no",
                    "kind": "yes/no" if yes else "count",
                }
            )
        columns = {"id": "id", "image": "image", "cluster": "image", "question": "q", "references": "a"}
        return self.dataset(name, "vqa", rows, columns, "slices: {category: kind}")

    def captions(self, n: int = 12, name: str = "album", task: str = "retrieval") -> str:
        """n pictures, all different, with two captions each; a ToyEncoder finds a caption by chance only."""
        pictures = [self.picture(f"{name}{i}.png", (i % 256, i // 256, 0)) for i in range(n)]
        rows = [{"id": f"p{i}", "image": picture, "c": [f"a {i}", f"b {i}"]} for i, picture in enumerate(pictures)]
        return self.dataset(name, task, rows, {"id": "id", "image": "image", "references": "c"})

    def command(self, *words: str) -> list[str]:
        run = words[0] in ("run", "resume", "list", "fetch", "train") and (self.folder / "conf").is_dir()
        config = ["--config-dir", str(self.folder / "conf")] if run else []
        data = [f"data_dir={self.folder / 'data'}"] if words[0] == "run" else []
        where = [f"results_dir={self.results}"] if words[0] in ("run", "resume") else []
        quick = words[0] == "run" and not any(word.startswith("report.") for word in words)
        data += ["report.charts=false"] if quick else []
        return [sys.executable, "-m", "harness", *words, *data, *where, *config]

    def environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "e2e")])
        terminal = {"COLUMNS": str(self.columns), "NO_COLOR": "1"}
        no_gpu = {"CUDA_VISIBLE_DEVICES": ""}  # or the results would depend on the machine
        return os.environ | terminal | no_gpu | {"PYTHONPATH": path}

    def harness(self, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run the command and check its exit status."""
        done = subprocess.run(
            self.command(*words), capture_output=True, text=True, env=self.environment(), cwd=self.folder, timeout=240
        )
        assert done.returncode == status, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Starts the command; its standard error can be read."""
        return subprocess.Popen(
            self.command(*words), env=self.environment(), cwd=self.folder, stderr=subprocess.PIPE, text=True
        )

    @staticmethod
    def read_until(process: subprocess.Popen[str], words: str) -> None:
        """Reads the standard error of a command that was started until a line has the words."""
        assert process.stderr is not None
        while words not in (line := process.stderr.readline()):
            assert line, f"it ended without {words!r}"

    def at_work(self) -> list[str]:
        """The processes whose working directory is this folder."""
        found = []
        for link in Path("/proc").glob("[0-9]*/cwd"):
            with contextlib.suppress(OSError):
                if link.resolve() == self.folder.resolve():
                    found.append(link.parent.name)
        return found

    @staticmethod
    def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.02)

    def summary(self, run: str) -> dict[str, Any]:
        return json.loads((self.results / run / "summary.json").read_text())

    def cell(self, run: str, model: str) -> dict[str, Any]:
        """The run's only cell of a model."""
        (cell,) = [cell for cell in self.summary(run)["cells"] if cell["model"] == model]
        return cell

    def records(self, run: str, model: str) -> list[dict[str, Any]]:
        (path,) = (self.results / run / "cells" / model).glob("*/records.jsonl")
        return [json.loads(line) for line in path.read_text().split("\n") if line]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture(scope="session")
def worlds(tmp_path_factory) -> Callable[[str], World]:
    """Makes a world for several tests, which look at one run from several sides."""
    return lambda name: World(tmp_path_factory.mktemp(name))


@pytest.fixture
def in_process(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Carries out a command in this process, where what it starts is not the point: its status, output and errors."""
    from harness.cli.main import main

    monkeypatch.chdir(world.folder)
    monkeypatch.syspath_prepend(str(Path(__file__).parent))

    def run(*words: str) -> tuple[int, str, str]:
        status = main(world.command(*words)[3:])
        return status, *capsys.readouterr()

    return run
