"""The training loop on a model of eight numbers: what it saves, how it continues, how it stops."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.config.specs import Schedule
from harness.errors import UserError
from harness.train.loop import Trainable, train

torch = pytest.importorskip("torch")
ROOT = Path(__file__).parents[2]


class Line(Trainable):
    """Fits y = 3x + noise through a dropout layer, so that the generator's state matters."""

    def __init__(self, at: dict[int, object] | None = None) -> None:
        torch.manual_seed(0)
        self.at, self.calls = at or {}, 0
        self.module = Loss()

    def batch(self, rng):
        action = self.at.get(self.calls)
        self.calls += 1
        if callable(action):
            action()
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


def test_a_run_that_broke_off_continues_from_what_it_had_saved_to_the_same_weights(tmp_path):
    """Here by an error, at step 9; by a kill in tests/e2e/test_train.py."""
    straight = fitted(tmp_path / "straight")
    with pytest.raises(ZeroDivisionError):
        train(Line(at={9: lambda: 1 / 0}), schedule(), tmp_path / "broken", device="cpu")
    assert [state.name for state in (tmp_path / "broken").glob("state-*")] == ["state-8"]
    torch.manual_seed(99)
    assert torch.equal(fitted(tmp_path / "broken"), straight)


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


@pytest.fixture
def recipes(tmp_path, monkeypatch) -> Iterator[Path]:
    """A user's own config folder with two recipes, the second of which needs the first."""
    from harness.train import recipes as module

    folder = tmp_path / "conf"
    (folder / "train").mkdir(parents=True)
    for name, more in (("first", "publish: false"), ("second", "needs: {start: first}")):
        text = f"_target_: recipe_target.Taught\nschedule: {{steps: 4, warmup: 1, validate_every: 2}}\n{more}\n"
        (folder / "train" / f"{name}.yaml").write_text(text)
    (tmp_path / "recipe_target.py").write_text(
        "import torch\nfrom safetensors.torch import save_file\nfrom test_training import Line\n"
        "class Taught(Line):\n"
        "    def __init__(self, start=None):\n        super().__init__()\n        self.start = start\n"
        "    def save(self, folder):\n"
        "        save_file({'w': torch.ones(2)}, folder / 'model.safetensors')\n"
        "        (folder / 'start.txt').write_text(str(self.start))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setattr(module, "BUNDLED", tmp_path / "weights")
    monkeypatch.setattr(module, "CURVES", tmp_path / "curves")
    yield tmp_path
    sys.modules.pop("recipe_target", None)


def trained(folder: Path, *words: str) -> int:
    from harness.cli.main import main

    return main(["train", *words, "device=cpu", f"work_dir={folder / 'work'}", "--config-dir", str(folder / "conf")])


def test_a_recipe_first_trains_what_it_needs_and_is_published_in_half_precision(recipes, capsys):
    from safetensors.torch import load_file

    assert trained(recipes, "model=second", "--publish") == 0
    assert f"second: {recipes / 'work' / 'second' / 'best'}" in capsys.readouterr().out
    bundle = recipes / "weights" / "second"
    assert load_file(bundle / "model.safetensors")["w"].dtype == torch.float16
    assert (bundle / "start.txt").read_text() == str(recipes / "work" / "first" / "best")
    assert {p.name for p in (recipes / "curves" / "second").iterdir()} == {
        "command.txt", "curves.csv", "curves.png", "outcome.json",
    }  # fmt: skip
    assert "harness train model=second" in (recipes / "curves" / "second" / "command.txt").read_text()
    assert not (recipes / "weights" / "first").exists()


def test_a_recipe_begins_with_a_checkpoint_that_is_given_instead(recipes):
    (recipes / "mine").mkdir()
    assert trained(recipes, "model=second", f"needs.start={recipes / 'mine'}") == 0
    assert (recipes / "work" / "second" / "best" / "start.txt").read_text() == str(recipes / "mine")
    assert not (recipes / "work" / "first").exists()


def test_a_folder_with_a_run_of_other_settings_is_left_alone(recipes, capsys):
    assert trained(recipes, "model=first") == 0
    assert trained(recipes, "model=first", "schedule.steps=6") == 2
    assert "holds a run with another schedule.steps" in capsys.readouterr().err
    assert trained(recipes, "model=first", "seed=7") == 0
    assert (recipes / "work" / "first-seed-7" / "outcome.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=secnd"], "There is no recipe 'secnd'. Did you mean 'second'?"),
        (["model=second", "schedule.warmpu=3"], "Did you mean 'warmup'?"),
        (["model=second", "schedule.steps=some"], "schedule.steps=some: give a whole number of at least 1"),
        (["model=second", "schedule.precision=fp61"], "Did you mean 'fp16'?"),
        (["model=second", "options.strat=1"], "Did you mean 'start'?"),
        (["model=second", "needs.start=/not/there"], "neither a recipe nor a folder '/not/there'"),
        (["model=second", "sede=3"], "Did you mean 'seed'?"),
        (["model=second", "dataset=coco-363"], "teach the pocket data"),
        ([], "Recipes: first, "),
    ],
)
def test_a_mistake_is_one_message_that_names_the_right_word(recipes, capsys, words, message):
    if not words:
        message = "Recipes: fusion-base, "
    assert trained(recipes, *words) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1
    assert not (recipes / "work").exists()


def test_a_slip_in_a_recipe_file_names_the_file(recipes, capsys):
    path = recipes / "conf" / "train" / "second.yaml"
    path.write_text(path.read_text().replace("warmup", "warmpu"))
    assert trained(recipes, "model=second") == 2
    said = capsys.readouterr().err
    assert str(path) in said
    assert "Did you mean 'warmup'?" in said
    path.write_text(path.read_text().replace("warmpu", "warmup").replace("Taught", "Tought"))
    assert trained(recipes, "model=second") == 2
    assert "recipe_target has no class 'Tought'. Did you mean 'Taught'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("subprocess.Popen", "Recipe first: _target_ subprocess.Popen: Popen is no"),
        ("recipe_target.Half", "has no batch and no save, which a Trainable needs"),
        ("broken_target.Taught", "_target_ broken_target.Taught cannot be imported: ZeroDivisionError"),
        ("unfinished_target.Taught", "unfinished_target.py is not valid Python"),
        ("nowhere.Taught", "Recipe first: _target_ nowhere.Taught: there is no module 'nowhere'"),
        ("time.Taught", "time has no class 'Taught'"),
    ],
)
def test_a_recipe_leads_to_a_trainable_and_to_nothing_else(recipes, capsys, target, message):
    with (recipes / "recipe_target.py").open("a") as file:
        file.write(
            "from harness.train.loop import Trainable\n"
            "class Half(Trainable):\n"
            "    def validate(self, device):\n        return {'score': 0.0}\n"
        )
    (recipes / "broken_target.py").write_text("1 / 0\nclass Taught:\n    pass\n")
    (recipes / "unfinished_target.py").write_text("class Taught(:\n")
    path = recipes / "conf" / "train" / "first.yaml"
    path.write_text(path.read_text().replace("recipe_target.Taught", target))
    assert trained(recipes, "model=second") == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1
    assert not (recipes / "work").exists()


def test_a_target_by_its_former_name_is_trained_and_its_present_name_told(recipes, capsys, monkeypatch):
    from harness.adapters.pocket.tower import Tower

    monkeypatch.setattr(Tower, "validate", lambda self, device: {"score": 1.0})
    path = recipes / "conf" / "train" / "first.yaml"
    text = path.read_text().replace("recipe_target.Taught", "adapters.pocket.tower.Tower")
    path.write_text(text.replace("steps: 4", "steps: 1") + "options: {scenes: 2, closeups: 1}\n")
    assert trained(recipes, "model=first") == 0
    line = "_target_ adapters.pocket.tower.Tower is now harness.adapters.pocket.tower.Tower; please write it so."
    assert line in capsys.readouterr().err.splitlines()
    note = recipes / "work" / "first" / "recipe.json"
    note.write_text(note.read_text().replace("harness.adapters", "adapters"))
    path.write_text(path.read_text().replace("adapters", "harness.adapters"))
    assert trained(recipes, "model=first") == 0, "a run that was begun under the former name goes on"
    assert "is now" not in capsys.readouterr().err


def test_a_score_that_is_not_a_number_is_null_in_the_outcome(recipes):
    with (recipes / "recipe_target.py").open("a") as file:
        file.write("    def validate(self, device):\n        return {'score': 1.0, 'odd': float('nan')}\n")
    assert trained(recipes, "model=first") == 0
    outcome = json.loads((recipes / "work" / "first" / "outcome.json").read_text())
    assert outcome == {"step": 4, "best": {"score": 1.0, "odd": None}}


def test_a_mistake_is_told_without_torch():
    code = (
        "import sys\nfrom harness.cli.main import main\n"
        "status = main(['train', 'model=pocket-clip', 'options.scens=3'])\n"
        "print(status, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["2", "False"]
    assert "Did you mean 'scenes'?" in done.stderr


def test_every_recipe_fits_its_class_and_names_recipes_that_exist():
    import inspect

    from harness.config.compose import compose_training
    from harness.config.files import ConfigFiles
    from harness.targets import load_class

    spec, _ = compose_training([f"model=[{','.join(ConfigFiles().members('train'))}]"])
    assert set(spec.recipes) == set(ConfigFiles().members("train"))
    for name, recipe in spec.recipes.items():
        taught = load_class(recipe._target_, Trainable)
        inspect.signature(taught).bind(**recipe.options, **dict.fromkeys(recipe.needs))
        assert set(recipe.needs.values()) <= set(spec.recipes), name
