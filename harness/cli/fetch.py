"""`harness fetch`: the one command that downloads. Runs never do, so nothing is downloaded by surprise.

Models come as hub snapshots without files that could hold code to be unpickled; a repository that has its weights as
pickles alone is converted once, to safetensors. Data sets come whole. How much there is to download is said first. A
token for gated repositories is read from the environment (HF_TOKEN), and another hub's address (HF_ENDPOINT), by the
hub's own library, which also goes on with a download that was interrupted.
"""

from __future__ import annotations

import argparse
import socket
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli import terminal
from harness.cli.places import add_config_dir
from harness.errors import UserError, counted

if TYPE_CHECKING:
    from huggingface_hub.file_download import DryRunFileInfo

    from harness.config.specs import DatasetSpec, ModelSpec, RunSpec

PATIENCE = 10
"""Seconds in which the hub must answer a first request."""
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
    return 1 if fetch(run, "model" in asked, "dataset" in asked, terminal.out) else 0


def fetch(run: RunSpec, models: bool, datasets: bool, say: Callable[[str], None]) -> int:
    """Bring the hub models and data sets of `run` here; returns how many failed, each said with its reason."""
    wanted: list[tuple[str, Callable[[], str]]] = []
    if models:
        wanted += [(f"model {name}", lambda spec=spec: _model(spec, say)) for name, spec in run.models.items()]
    if datasets:
        wanted += [(f"data set {name}", lambda spec=spec: _dataset(spec, say)) for name, spec in run.datasets.items()]
    failed = 0
    for number, (name, bring) in enumerate(wanted, start=1):
        try:
            say(f"{name}: {bring()}")
        except _NoHub as error:
            left = len(wanted) - number
            say(f"{name}: failed: {error}" + (f" {left} more were not tried." if left else ""))
            return failed + 1 + left
        except Exception as error:
            failed += 1
            say(f"{name}: failed: {_reason(error)}")
    return failed


def _reason(error: Exception) -> str:
    """Why a download failed, in one line; where the hub was not reached, which address that was and what is wrong."""
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError

    chain: list[BaseException] = []
    step: BaseException | None = error
    while step is not None and step not in chain:
        chain.append(step)
        step = step.__cause__ or step.__context__
    cause = chain[-1]
    if isinstance(cause, ConnectionError | TimeoutError | socket.gaierror):
        return f"{constants.ENDPOINT} is not reached ({cause.strerror or cause}). Is there a network?"
    told = next((step for step in chain if isinstance(step, HfHubHTTPError)), error)  # what the hub itself says
    return next((line.strip() for line in str(told).split("\n") if line.strip()), type(told).__name__)


def _model(spec: ModelSpec, say: Callable[[str], None]) -> str:
    """Where a model's weights are now."""
    from harness.checkpoint import folder_of

    if not spec.checkpoint:
        return "has no weights"
    if folder_of(spec.checkpoint).exists():
        return f"is here: {spec.checkpoint}"
    if spec.checkpoint.count("/") != 1 or spec.checkpoint.startswith((".", "/", "~")):
        raise UserError(f"'{spec.checkpoint}' is neither a hub id ('owner/name') nor a folder that is here.")
    from harness.cli import weights

    files = _files(spec.checkpoint, spec.revision)
    names = [file.filename for file in files]
    unread = list(UNSAFE)
    if pickled := not any(fnmatch(name, "*.safetensors") for name in names):  # of its pickles then, the weights alone
        unread.remove("*.bin")
        unread += [
            name for name in names if name.endswith(".bin") and ("/" in name or not fnmatch(name, weights.PICKLES))
        ]
    folder = _bring(spec.checkpoint, spec.revision, files, say, unread=unread)
    if pickled and weights.convert(folder):
        say(f"  {spec.checkpoint} has its weights as pickles alone: they are safetensors now")
    if not any(folder.rglob("*.safetensors")):
        held = ", ".join(names[:6]) or "nothing"
        raise UserError(f"{spec.checkpoint} has no weights in a form that is read here (safetensors). It holds {held}.")
    return str(folder)


def _dataset(spec: DatasetSpec, say: Callable[[str], None]) -> str:
    """Where a data set's rows are now."""
    if spec.source == "pocket":
        return "is generated when it is needed"
    if spec.source != "hub":
        return f"is not on a hub: put {spec.path} below data_dir; {spec.homepage}".rstrip("; ")
    files = _files(spec.path, spec.revision, kind="dataset")
    return str(_bring(spec.path, spec.revision, files, say, kind="dataset"))


class _NoHub(Exception):
    """The hub cannot be reached, for anything."""


def _reach_hub() -> None:
    """Ask the hub for one page, so that without a network nothing is tried again for minutes. Raises _NoHub."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    if constants.is_offline_mode():
        raise _NoHub("HF_HUB_OFFLINE is set, so nothing is downloaded.")
    try:
        get_session().head(constants.ENDPOINT, timeout=PATIENCE)
    except Exception as error:
        raise _NoHub(_reason(error)) from error


def _files(repository: str, revision: str | None, kind: str | None = None) -> list[DryRunFileInfo]:
    """The files of a repository, with their sizes and whether they are here."""
    from huggingface_hub import snapshot_download

    _reach_hub()
    found = snapshot_download(repository, repo_type=kind, revision=revision, dry_run=True)
    assert isinstance(found, list)
    return found


def _bring(
    repository: str,
    revision: str | None,
    files: Sequence[DryRunFileInfo],
    say: Callable[[str], None],
    kind: str | None = None,
    unread: Sequence[str] = (),
) -> Path:
    """Download what is missing of a repository's files, but for the patterns `unread`; says before how much that is."""
    from huggingface_hub import snapshot_download

    read = [file for file in files if not any(fnmatch(file.filename, pattern) for pattern in unread)]
    missing = [file.file_size or 0 for file in read if file.will_download]
    if missing:
        say(f"  {repository}: {counted(len(missing), 'file')} of {_readable(sum(missing))} to download")
    return Path(snapshot_download(repository, repo_type=kind, revision=revision, ignore_patterns=list(unread)))


def _readable(size: float) -> str:
    """A number of bytes in the unit that people use: 12 kB, 3.4 GB."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
