"""`harness fetch`: the one command that downloads. Runs never do, so nothing is downloaded by surprise.

Models come as hub snapshots without files that could hold code to be unpickled; data sets come whole. A
token for gated repositories is read from the environment (HF_TOKEN) by the hub's own library.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from harness.cli.places import add_config_dir
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.config.specs import DatasetSpec, ModelSpec, RunSpec

UNSAFE = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack", "*.onnx", "*.ot", "original/*")
"""Formats that are not read here: pickles, and copies of the weights for other frameworks."""


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("fetch", help="download models and data sets from the hub, for later runs")
    parser.add_argument("settings", nargs="+", metavar="model=… dataset=…", help="a name, [a,b], all or an origin")
    add_config_dir(parser)
    parser.set_defaults(command=command)


def command(arguments: argparse.Namespace) -> int:
    """Carry the command out; returns the exit status."""
    from harness.config.compose import compose

    run = compose(arguments.settings, arguments.config_dirs, absent=True).run
    asked = {setting.partition("=")[0] for setting in arguments.settings}
    if not asked & {"model", "dataset"}:
        raise UserError("Say what to fetch: model=NAME, dataset=NAME or both.")
    return 1 if fetch(run, "model" in asked, "dataset" in asked, print) else 0


def fetch(run: RunSpec, models: bool, datasets: bool, say: Callable[[str], None]) -> int:
    """Bring the hub models and data sets of `run` here; returns how many failed, each said with its reason."""
    wanted: list[tuple[str, Callable[[], str]]] = []
    if models:
        wanted += [(f"model {name}", lambda spec=spec: _model(spec)) for name, spec in run.models.items()]
    if datasets:
        wanted += [(f"data set {name}", lambda spec=spec: _dataset(spec)) for name, spec in run.datasets.items()]
    failed = 0
    for name, bring in wanted:
        try:
            say(f"{name}: {bring()}")
        except Exception as error:
            failed += 1
            reason = str(error).strip().split("\n")[0] or type(error).__name__
            say(f"{name}: failed: {reason}")
    return failed


def _model(spec: ModelSpec) -> str:
    """Where a model's weights are now."""
    from harness.checkpoint import folder_of

    if not spec.checkpoint:
        return "has no weights"
    if folder_of(spec.checkpoint).exists():
        return f"is here: {spec.checkpoint}"
    if spec.checkpoint.count("/") != 1 or spec.checkpoint.startswith((".", "/", "~")):
        raise UserError(f"'{spec.checkpoint}' is neither a hub id ('owner/name') nor a folder that is here.")
    from huggingface_hub import snapshot_download

    return snapshot_download(spec.checkpoint, revision=spec.revision, ignore_patterns=list(UNSAFE))


def _dataset(spec: DatasetSpec) -> str:
    """Where a data set's rows are now."""
    if spec.source == "pocket":
        return "is generated when it is needed"
    if spec.source != "hub":
        return f"is not on a hub: put {spec.path} below data_dir; {spec.homepage}".rstrip("; ")
    from harness.data import hub

    return str(hub.fetch(spec))
