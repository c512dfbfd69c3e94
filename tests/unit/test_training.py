"""The training loop on a model of eight numbers: what it saves, how it continues, how it stops."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.training import Schedule, train

torch = pytest.importorskip("torch")
ROOT = Path(__file__).parents[2]


class Line:
    """Fits y = 3x + noise through a dropout layer, so that the generator's state matters."""

    def __init__(self, pause: float = 0.0, at: dict[int, object] | None = None) -> None:
        torch.manual_seed(0)
        self.pause, self.at, self.calls = pause, at or {}, 0
        self.module = Loss()

    def batch(self, rng):
        action = self.at.get(self.calls)
        self.calls += 1
        if callable(action):
            action()
        time.sleep(self.pause)
        x = torch.from_numpy(rng.normal(size=(16, 4))).float()
        return {"x": x, "y": 3 * x.sum(1, keepdim=True) + torch.from_numpy(rng.normal(size=(16, 1))).float()}

    def validate(self, device):
        return {"closeness": -float((self.module.line.weight - 3).abs().mean())}

    def save(self, folder):
        (folder / "weights.txt").write_text(repr(self.module.line.weight.tolist()))


class Loss(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.line = torch.nn.Linear(4, 1)
        self.drop = torch.nn.Dropout(0.2)

    def forward(self, x, y):
        return {"square": (self.line(self.drop(x)) - y).square().mean()}


def schedule(**changes) -> Schedule:
    usual = {"steps": 24, "learning_rate": 0.05, "warmup": 4, "validate_every": 6, "save_every": 4, "precision": "no"}
    return Schedule(**{**usual, **changes})


def fitted(folder: Path, **changes) -> torch.Tensor:
    line = Line(**changes)
    outcome = train(line, schedule(), folder, device="cpu")
    assert outcome.complete
    return line.module.line.weight.detach()


def test_the_rate_warms_up_and_then_falls_to_its_last_value():
    plan = schedule(learning_rate=1.0, final=0.1)
    assert [plan.rate(step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert plan.rate(24) == pytest.approx(0.1)
    assert all(plan.rate(a) > plan.rate(a + 1) for a in range(4, 24))


def test_a_run_that_is_told_to_stop_saves_and_continues_to_the_same_weights(tmp_path):
    straight = fitted(tmp_path / "straight")
    stopped = Line(at={9: lambda: os.kill(os.getpid(), signal.SIGTERM)})
    outcome = train(stopped, schedule(), tmp_path / "stopped", device="cpu")
    assert (outcome.step, outcome.complete) == (10, False)
    torch.manual_seed(99)
    assert torch.equal(fitted(tmp_path / "stopped"), straight)


def test_a_run_killed_without_warning_continues_to_the_same_weights(tmp_path):
    straight = fitted(tmp_path / "straight")
    script = (
        "import sys, torch; from pathlib import Path; sys.path[:0] = [sys.argv[1], sys.argv[2]]\n"
        "torch.set_num_threads(1)\n"
        "from test_training import Line, schedule; from harness.training import train\n"
        "train(Line(pause=0.2), schedule(), Path(sys.argv[3]), device='cpu')\n"
    )
    killed = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", script, str(ROOT), str(Path(__file__).parent), str(killed)])
    while not list(killed.glob("state-*[0-9]")):
        assert process.poll() is None, "the run ended before it saved"
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert torch.equal(fitted(killed), straight)


def test_gradients_are_accumulated_over_batches_of_one_step(tmp_path):
    line = Line()
    train(line, schedule(steps=3, accumulate=4), tmp_path, device="cpu")
    assert line.calls == 12


def test_the_best_checkpoint_is_kept_and_not_the_last(tmp_path):
    line = Line()
    scores = iter([1.0, 3.0, 2.0, 0.0])
    line.validate = lambda device: {"score": next(scores), "step": float(line.calls)}
    outcome = train(line, schedule(), tmp_path, device="cpu")
    assert outcome.best == {"score": 3.0, "step": 12.0}
    assert (tmp_path / "best" / "weights.txt").exists()


def test_curves_have_a_row_for_each_validation_and_a_chart(tmp_path):
    fitted(tmp_path)
    with (tmp_path / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["6", "12", "18", "24"]
    assert float(rows[-1]["loss_square"]) < float(rows[0]["loss_square"])
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_frozen_parameters_stay_as_they_are_after_a_resume(tmp_path):
    line = Line(at={9: lambda: os.kill(os.getpid(), signal.SIGTERM)})
    line.module.line.bias.requires_grad_(False)
    before = line.module.line.bias.clone()
    train(line, schedule(), tmp_path, device="cpu")
    again = Line()
    again.module.line.bias.requires_grad_(False)
    assert train(again, schedule(), tmp_path, device="cpu").complete
    assert torch.equal(again.module.line.bias, before)


def test_another_schedule_does_not_continue_a_run(tmp_path):
    fitted(tmp_path)
    with pytest.raises(UserError, match="learning_rate"):
        train(Line(), schedule(learning_rate=0.01), tmp_path, device="cpu")


def test_a_corrupt_state_is_one_clear_error(tmp_path):
    fitted(tmp_path)
    (tmp_path / "state-24" / "optimizer.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(UserError, match=r"Cannot continue from .*state-24"):
        train(Line(), schedule(), tmp_path, device="cpu")


def test_a_run_that_diverges_says_so(tmp_path):
    line = Line()
    with torch.no_grad():
        line.module.line.weight.fill_(float("nan"))
    with pytest.raises(UserError, match="diverged at step 0"):
        train(line, schedule(), tmp_path, device="cpu")


def recipes(folder: Path, monkeypatch) -> None:
    from harness import recipes as module

    folder.mkdir()
    for name, more in (("first", "publish: false"), ("second", "needs: {start: first}")):
        text = f"_target_: recipe_target.Taught\nschedule: {{steps: 4, warmup: 1, validate_every: 2}}\n{more}\n"
        (folder / f"{name}.yaml").write_text(text)
    (folder / "recipe_target.py").write_text(
        "import sys, torch\nfrom safetensors.torch import save_file\nsys.path.insert(0, sys.argv[0])\n"
        "from test_training import Line\n"
        "class Taught(Line):\n"
        "    def __init__(self, start=None):\n        super().__init__()\n        self.start = start\n"
        "    def save(self, folder):\n"
        "        save_file({'w': torch.ones(2)}, folder / 'model.safetensors')\n"
        "        (folder / 'start.txt').write_text(str(self.start))\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setattr(module, "RECIPES", folder)
    monkeypatch.setattr(module, "WEIGHTS", folder / "weights")
    monkeypatch.setattr(module, "CURVES", folder / "curves")


def test_a_recipe_first_trains_what_it_needs_and_is_published_in_half_precision(tmp_path, monkeypatch):
    from safetensors.torch import load_file

    from harness.recipes import main

    recipes(tmp_path / "recipes", monkeypatch)
    assert main(["second", "--work", str(tmp_path / "work"), "--publish"]) == 0
    bundle = tmp_path / "recipes" / "weights" / "second"
    assert load_file(bundle / "model.safetensors")["w"].dtype == torch.float16
    assert (bundle / "start.txt").read_text() == str(tmp_path / "work" / "first" / "best")
    assert {p.name for p in (tmp_path / "recipes" / "curves" / "second").iterdir()} == {
        "command.txt", "curves.csv", "curves.png", "outcome.json",
    }  # fmt: skip
    assert not (tmp_path / "recipes" / "weights" / "first").exists()


def test_a_wrong_recipe_or_key_names_the_nearest_right_one(tmp_path, monkeypatch, capsys):
    from harness.recipes import main

    recipes(tmp_path / "recipes", monkeypatch)
    assert main(["secnd"]) == 2
    assert "Did you mean 'second'?" in capsys.readouterr().err
    path = tmp_path / "recipes" / "second.yaml"
    path.write_text(path.read_text().replace("warmup", "warmpu"))
    assert main(["second"]) == 2
    assert "unknown key 'schedule.warmpu'. Did you mean 'warmup'?" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted((ROOT / "conf" / "train").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_fits_its_class_and_names_recipes_that_exist(path):
    import importlib
    import inspect

    from harness.recipes import read_recipe

    recipe = read_recipe(path.stem)
    module, _, name = recipe.target.rpartition(".")
    inspect.signature(getattr(importlib.import_module(module), name)).bind(
        **recipe.options, **dict.fromkeys(recipe.needs)
    )
    for other in recipe.needs.values():
        read_recipe(other)
