"""Recipes carried out: `harness train` trains what it is asked for, and first what that begins with.

A recipe (`conf/train/`) names the trainable class and its options, the schedule, and what it needs: other recipes, such
as a vision tower that several models share. Each run lies in a folder of its own, whose `best/` is a checkpoint that
the model's adapter loads, and goes on there after an interruption. `publish` puts the result where the package bundles
weights, in fp16, and its curves under `results/training/`.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.checkpoint import BUNDLED, folder_of
from harness.config.specs import RecipeSpec, TrainingSpec, to_json
from harness.errors import UserError, nearest
from harness.store.files import cache_folder, replacing, replacing_folder, write_json
from harness.targets import constructor_arguments, current_target, load_class
from harness.train.loop import Outcome, Trainable, train

ROOT = Path(__file__).resolve().parents[2]
CURVES = ROOT / "results" / "training"


class Recipes:
    """Carries out the recipes of one command, each at most once."""

    def __init__(self, spec: TrainingSpec, named: list[str]) -> None:
        self.spec, self.named = spec, named
        self.work = Path(spec.work_dir).expanduser() if spec.work_dir else work_folder()

    def check(self) -> None:
        """Raises UserError where a class, or an argument that it is given, does not exist; imports none of them."""
        for name, recipe in self.spec.recipes.items():
            try:
                known = constructor_arguments(recipe._target_)
            except UserError as error:
                raise UserError(f"Recipe {name}: {error}") from error
            for key in (*recipe.options, *recipe.needs):
                if known is not None and key not in known:
                    kind = "options" if key in recipe.options else "needs"
                    raise UserError(f"Recipe {name}: there is no key '{kind}.{key}'. {nearest(key, known)}")

    def folder(self, name: str) -> Path:
        """Where a recipe is trained: a seed asked for on the command line has a folder of its own."""
        other = self.spec.seed is not None and name in self.named
        return self.work / (f"{name}-seed-{self.spec.seed}" if other else name)

    def train(self, name: str) -> bool:
        """Train a recipe, and first what it needs, or go on with it; False if it was interrupted.

        Raises UserError when its folder holds a run with other settings.
        """
        recipe: RecipeSpec = self.spec.recipes[name]
        taught = _trainable_class(name, recipe._target_)  # before the hours that what it needs may take
        needed: dict[str, Any] = {}
        for argument, other in recipe.needs.items():
            if other in self.spec.recipes:
                if not self.train(other):
                    return False
                needed[argument] = self.folder(other) / "best"
            else:
                needed[argument] = _checkpoint(name, argument, other)
        folder = self.folder(name)
        if self.spec.seed is not None and name in self.named:
            recipe = replace(recipe, schedule=replace(recipe.schedule, seed=self.spec.seed))
        _same_recipe(folder, to_json(recipe))
        if (folder / "outcome.json").exists():
            return True
        outcome = self._carry_out(name, recipe, taught, recipe.options | needed, folder)
        if outcome.complete:
            # JSON has no word for a score that is not a number.
            best = {score: value if math.isfinite(value) else None for score, value in outcome.best.items()}
            write_json(folder / "outcome.json", {"step": outcome.step, "best": best})
        return outcome.complete

    def _carry_out(
        self, name: str, recipe: RecipeSpec, taught: type[Trainable], arguments: Mapping[str, Any], folder: Path
    ) -> Outcome:
        import torch
        from accelerate.utils import set_seed

        set_seed(recipe.schedule.seed)
        if self.spec.device == "cpu" and "OMP_NUM_THREADS" in os.environ:
            torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        print(f"{name}: training in {folder}", flush=True)
        try:
            trainable = taught(**arguments)
        except TypeError as error:
            if "argument" not in str(error):
                raise
            raise UserError(f"Recipe {name}: {error}. Its options are arguments of {recipe._target_}.") from error
        return train(trainable, recipe.schedule, folder, device=self.spec.device)


def work_folder() -> Path:
    """Where runs are kept unless `work_dir=` says otherwise: `training` in the folder for caches."""
    return cache_folder() / "training"


def _trainable_class(name: str, target: str) -> type[Trainable]:
    """The class that a recipe names; whatever goes wrong in importing someone's module is told as such."""
    try:
        found = load_class(target, Trainable)
    except UserError as error:
        raise UserError(f"Recipe {name}: {error}") from error
    except Exception as error:
        raise UserError(
            f"Recipe {name}: _target_ {target} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if lacking := sorted(found.__abstractmethods__):
        raise UserError(f"Recipe {name}: _target_ {target} has no {' and no '.join(lacking)}, which a Trainable needs.")
    return found


def _checkpoint(name: str, argument: str, place: str) -> Path:
    folder = folder_of(place)
    if not folder.is_dir():
        raise UserError(f"Recipe {name}: needs.{argument}: there is neither a recipe nor a folder '{place}'.")
    return folder


def _same_recipe(folder: Path, recipe: dict[str, Any]) -> None:
    """Note in `folder` what is trained there; raises UserError where it is something else."""
    note = folder / "recipe.json"
    if not note.exists():
        write_json(note, recipe)
        return
    noted = json.loads(note.read_text())
    # A run that was begun under a former name of its class goes on.
    before = _flat(noted | {"_target_": current_target(noted["_target_"])})
    now = _flat(recipe)
    differ = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
    if differ:
        raise UserError(
            f"{folder} holds a run with another {' and another '.join(differ)}. Give the same settings to "
            "go on with it, or another work_dir=DIR to begin anew."
        )


def _flat(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by their full key."""
    inner = {k: v for k, v in recipe.items() if isinstance(v, dict)}
    rest = {k: v for k, v in recipe.items() if not isinstance(v, dict)}
    return rest | {f"{key}.{name}": value for key, values in inner.items() for name, value in values.items()}


def publish(name: str, folder: Path) -> None:
    """Copy the best checkpoint, in fp16, to the bundled weights, and the curves to `results/training/`."""
    import torch
    from safetensors.torch import load_file, save_file

    with replacing_folder(BUNDLED / name) as fresh:
        shutil.copytree(folder / "best", fresh, dirs_exist_ok=True)
        for path in fresh.glob("*.safetensors"):
            half = {k: v.half() if v.dtype == torch.float32 else v for k, v in load_file(path).items()}
            save_file(half, path, metadata={"format": "pt"})
            path.chmod(0o644)
    command = f"OMP_NUM_THREADS=1 harness train model={name} device=cpu --publish\n"
    kept = {file: (folder / file).read_bytes() for file in ("curves.csv", "curves.png", "outcome.json")}
    (CURVES / name).mkdir(parents=True, exist_ok=True)
    for file, content in (kept | {"command.txt": command.encode()}).items():
        with replacing(CURVES / name / file) as out:
            out.write(content)
