"""Digests of all that can change an answer: answers that were made under another fingerprint are never mixed in."""

from __future__ import annotations

import hashlib
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

from harness import data as sources
from harness.checkpoint import folder_of
from harness.config.specs import DatasetSpec, ModelSpec


def digest(value: Any) -> str:
    """The first 16 hex digits of the sha256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]


@cache
def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_digest(spec: ModelSpec) -> str:
    """Of a local folder, its files' sha256; of a hub id, the id and the commit in the cache."""
    folder = folder_of(spec.checkpoint)
    if folder.is_dir():
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return digest([(str(path.relative_to(folder)), _file_digest(path)) for path in files])
    if folder.is_file():
        return _file_digest(folder)[:16]
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(spec.checkpoint, "config.json", revision=spec.revision)
    commit = Path(found).parent.name if isinstance(found, str) else spec.revision
    return f"{spec.checkpoint}@{commit}"


def sources_digest(spec: DatasetSpec, data_dir: str | None) -> str:
    """Of a data file, its sha256; of generated data, its generator's source; of a hub's, its revision."""
    if spec.source == "jsonl":
        return _file_digest(sources.data_file(spec, data_dir))
    if spec.source == "pocket":
        return source_digest("harness.pocket.samples.load")
    return f"{spec.path}@{spec.revision}"


def source_digest(target: str) -> str:
    """Sha256 of the source that a target comes from: its file, and in a package the files beside it."""
    __import__(target.rpartition(".")[0])
    path = Path(sys.modules[target.rpartition(".")[0]].__file__ or "")
    files = sorted(path.parent.glob("*.py")) if (path.parent / "__init__.py").exists() else [path]
    return digest([(file.name, _file_digest(file)) for file in files])
