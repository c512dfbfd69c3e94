"""`harness train`: train models by their recipes, and first what they begin with."""

from __future__ import annotations

import argparse
from typing import Any

from harness.cli import terminal
from harness.cli.places import add_config_dir, import_from_all


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "train",
        help="train the in-house fusion models and the pocket models",
        description="Train models by their recipes (conf/train/) and first what they begin with. The same command goes "
        "on with what was interrupted. Several GPUs: accelerate launch -m harness train …",
        epilog="settings: model= (a recipe, [a,b] or all: `harness list recipes`) dataset=pocket seed=N "
        "device=auto|cpu work_dir=DIR, and of the recipes named schedule.KEY= (steps, learning_rate, warmup, "
        "accumulate, precision=no|bf16|fp16, validate_every, save_every …), options.KEY= and needs.KEY= (a recipe, "
        "bundled:NAME or a checkpoint's folder to begin with); --cfg shows them all.",
    )
    settings = "settings, such as model=fusion-concat"
    parser.add_argument("settings", nargs="*", default=[], metavar="KEY=VALUE", help=settings)
    parser.add_argument("--cfg", action="store_true", help="print the resolved config and stop")
    add_config_dir(parser)
    parser.add_argument("--publish", action="store_true", help="replace the bundled weights and curves by the result")
    parser.set_defaults(command=train)


def train(arguments: argparse.Namespace) -> int:
    """Carry the command out; returns the exit status."""
    from harness.cli.run import show_config
    from harness.config.compose import compose_training
    from harness.config.files import ConfigFiles

    spec, named = compose_training(arguments.settings, arguments.config_dirs)
    if arguments.cfg:
        show_config(spec)
        return 0
    from harness.targets import rename_targets
    from harness.train.recipes import Recipes, publish

    import_from_all(arguments.config_dirs)
    for line in rename_targets(spec.recipes.values()):
        terminal.message(line)
    recipes = Recipes(spec, named)
    recipes.check()
    for name in named:
        if not recipes.train(name):
            terminal.message(f"Interrupted; everything is saved in {recipes.work}. The same command goes on.")
            return 130
        best = recipes.folder(name) / "best"
        terminal.out(f"{name}: {best}")
        if name in ConfigFiles(arguments.config_dirs).members("model"):
            terminal.out(f"  harness run model={name} models.{name}.checkpoint={best}")
        if arguments.publish and spec.recipes[name].publish:
            publish(name, recipes.folder(name))
    return 0
