"""Recipes: what retrains one bundled model from nothing, as data in `conf/train/`, and the command that does it.

    python -m harness.recipes fusion-self-attention pocket-clip ...

A recipe names the trainable class and its options, the schedule, and the recipes whose result it begins with (a vision
tower that several models share). The work is kept in a folder of its own and continues after an interruption;
`--publish` then puts the weights in fp16 where the package bundles them and the curves under `results/training/`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from harness.errors import UserError, nearest
from harness.training import Schedule, train

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ROOT / "conf" / "train"
WEIGHTS = ROOT / "adapters" / "pocket" / "weights"
CURVES = ROOT / "results" / "training"


@dataclass(frozen=True)
class Recipe:
    """One file of conf/train/."""

    target: str
    """The trainable class, such as adapters.pocket.tower.Tower; imported when training begins."""
    schedule: dict[str, Any]
    """Arguments of harness.training.Schedule."""
    options: dict[str, Any] = field(default_factory=dict)
    """Arguments of the class."""
    needs: dict[str, str] = field(default_factory=dict)
    """Argument -> the recipe whose best checkpoint it is given as a folder."""
    publish: bool = True
    """False for a stage that only others begin with."""


def read_recipe(name: str) -> Recipe:
    """The recipe `name`; raises UserError for an unknown name or key."""
    import yaml

    known = {path.stem: path for path in RECIPES.glob("*.yaml")}
    if name not in known:
        raise UserError(f"There is no recipe '{name}' in {RECIPES}. {nearest(name, known)}")
    values = yaml.safe_load(known[name].read_text(encoding="utf-8"))
    values["target"] = values.pop("_target_", values.get("target"))
    for where, found, right in (
        ("", values, {f.name for f in fields(Recipe)}),
        ("schedule.", values.get("schedule", {}), {f.name for f in fields(Schedule)}),
    ):
        for key in found:
            if key not in right:
                raise UserError(f"{known[name]}: unknown key '{where}{key}'. {nearest(key, right)}")
    return Recipe(**values)


def work_folder() -> Path:
    """Where runs are kept: $HARNESS_CACHE/training, or ~/.cache/harness/training."""
    return Path(os.environ.get("HARNESS_CACHE") or Path.home() / ".cache" / "harness") / "training"


def run_recipe(
    name: str, *, work: Path | None = None, seed: int | None = None, steps: int | None = None, device: str = "auto"
) -> tuple[Path, bool]:
    """Train `name` (and first what it needs) or continue it.

    Returns its folder, whose `best/` is the checkpoint, and whether training is complete. `seed` and `steps` replace
    the recipe's own; another seed works in a folder of its own, `NAME-seed-N`.
    """
    work = work or work_folder()
    recipe = read_recipe(name)
    needed = {}
    for argument, other in recipe.needs.items():
        folder, complete = run_recipe(other, work=work, device=device)
        if not complete:
            return folder, False
        needed[argument] = folder / "best"
    settings = dict(recipe.schedule)
    settings |= {k: v for k, v in (("seed", seed), ("steps", steps)) if v is not None}
    schedule = Schedule(**settings)
    folder = work / (name if seed is None else f"{name}-seed-{seed}")
    if (folder / "outcome.json").exists():
        return folder, True
    import torch
    from accelerate.utils import set_seed

    set_seed(schedule.seed)
    if device != "cuda" and "OMP_NUM_THREADS" in os.environ:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    module, _, attribute = recipe.target.rpartition(".")
    trainable = getattr(importlib.import_module(module), attribute)(**recipe.options, **needed)
    outcome = train(trainable, schedule, folder, device=device)
    if outcome.complete:
        (folder / "outcome.json").write_text(json.dumps({"step": outcome.step, "best": outcome.best}, indent=1) + "\n")
    return folder, outcome.complete


def publish(name: str, folder: Path) -> None:
    """Copy the best checkpoint, in fp16, to the bundled weights, and the curves to `results/training/`."""
    import torch
    from safetensors.torch import load_file, save_file

    target = WEIGHTS / name
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder / "best", target)
    for path in target.glob("*.safetensors"):
        half = {k: v.half() if v.dtype == torch.float32 else v for k, v in load_file(path).items()}
        save_file(half, path, metadata={"format": "pt"})
        path.chmod(0o644)
    kept = CURVES / name
    kept.mkdir(parents=True, exist_ok=True)
    for file in ("curves.csv", "curves.png", "outcome.json"):
        shutil.copy(folder / file, kept / file)
    (kept / "command.txt").write_text(f"OMP_NUM_THREADS=1 python -m harness.recipes {name} --publish\n")


def main(arguments: list[str] | None = None) -> int:
    """The command; exit status 0 when all are complete, 2 for a wrong name, 130 when interrupted."""
    parser = argparse.ArgumentParser(prog="python -m harness.recipes", description="Retrain bundled models.")
    parser.add_argument("name", nargs="+", help="recipes in conf/train/")
    parser.add_argument("--work", type=Path, help="folder for the runs (default: $HARNESS_CACHE/training)")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--device", default="cpu", help="cpu or auto")
    parser.add_argument("--publish", action="store_true", help="replace the bundled weights and curves by the result")
    chosen = parser.parse_args(arguments)
    try:
        for name in chosen.name:
            folder, complete = run_recipe(
                name, work=chosen.work, seed=chosen.seed, steps=chosen.steps, device=chosen.device
            )
            if not complete:
                print(f"Interrupted; the same command continues {folder}.")
                return 130
            print(f"{name}: {folder / 'best'}")
            if chosen.publish and read_recipe(name).publish:
                publish(name, folder)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
