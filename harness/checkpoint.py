"""Where a model's weights are on this machine: bundled with this package, in a local folder, or in the hub's cache.

Every adapter loads from a folder, so hub ids and local folders share all of the code. Loading never downloads; only
`harness fetch` does.
"""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from harness.errors import UserError

BUNDLED = Path(str(files("harness.adapters"))) / "pocket" / "weights"


def folder_of(checkpoint: str) -> Path:
    """The path that a checkpoint names: "bundled:NAME" is among this package's weights, wherever that is installed."""
    name = checkpoint.removeprefix("bundled:")
    return Path(checkpoint).expanduser() if name == checkpoint else BUNDLED / name


def hub_cache() -> Path:
    """The folder of the hub's cache, which need not be there. It is found without importing a hub library."""
    home = Path(os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    return Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()


def is_here(checkpoint: str) -> bool:
    """Whether the weights are in a folder or in the hub's cache (looked up without importing a hub library).

    A model without weights, whose checkpoint is empty, is always here.
    """
    if not checkpoint:
        return True
    folder = folder_of(checkpoint)
    if folder.is_absolute() or folder.exists():
        return folder.exists()
    snapshots = hub_cache() / ("models--" + checkpoint.replace("/", "--")) / "snapshots"
    return any(snapshots.rglob("*.safetensors")) if snapshots.is_dir() else False  # else a fetch was interrupted


def check_here(model: str, checkpoint: str, ours: bool) -> None:
    """Raise UserError where the weights of a model that was asked for by name are not on this machine.

    An adapter of `ours` has its weights in a folder or in the hub's cache. To another one, a checkpoint that is no path
    may mean anything.
    """
    path = _begins_as_path(checkpoint) or folder_of(checkpoint).is_absolute()
    if is_here(checkpoint) or not (path or ours):
        return
    if path or _is_path(checkpoint):
        raise UserError(
            f"Model '{model}': there is no checkpoint {checkpoint}. Set models.{model}.checkpoint to a folder."
        )
    raise UserError(f"Model '{model}': {checkpoint} is not on this machine. `harness fetch model={model}` brings it.")


def weights_folder(checkpoint: str, revision: str | None = None) -> Path:
    """The folder that holds `checkpoint`: "bundled:NAME", a path, or a hub id ("owner/name") that was fetched before.

    `revision` is a hub commit, branch or tag (None: main). Raises UserError when the weights are not on this machine.
    """
    if not checkpoint:
        raise UserError("The model has no 'checkpoint'. Set it to a folder or a hub id.")
    folder = folder_of(checkpoint)
    if folder.is_dir():
        return folder
    if _is_path(checkpoint) or folder.is_absolute():
        raise UserError(f"There is no folder {folder}. Set the model's 'checkpoint' to a folder or a hub id.")

    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(checkpoint, revision=revision, local_files_only=True))
    except HFValidationError as error:
        raise UserError(f"'{checkpoint}' is neither a folder nor a hub id ('owner/name'): {error}") from error
    except LocalEntryNotFoundError as error:
        at = f" at revision {revision}" if revision else ""
        raise UserError(
            f"{checkpoint}{at} is not on this machine. 'harness fetch model=NAME' brings it ('harness list models' "
            "has the names), or set the model's 'checkpoint' to a local folder."
        ) from error


def _is_path(checkpoint: str) -> bool:
    return _begins_as_path(checkpoint) or "\\" in checkpoint or checkpoint.count("/") != 1


def _begins_as_path(checkpoint: str) -> bool:
    return checkpoint.startswith(("/", "./", "../", "~", "bundled:"))
