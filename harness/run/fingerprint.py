"""Digests of all that can change an answer: answers that were made under another fingerprint are never mixed in.

Not in it: the engine, paths, and how many GPUs there are. The source of an adapter or a task is that of its module and
of whatever it imports from its own package, followed from import to import: mending one family leaves the runs of all
others resumable, and mending what two families share does not.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from time import time_ns
from typing import Any

from harness import data
from harness.checkpoint import folder_of
from harness.config.specs import DatasetSpec, ModelSpec, PromptSpec, TaskSpec, to_json
from harness.data import hub
from harness.errors import UserError, counted
from harness.run.messages import CellJob
from harness.store.files import cache_folder, read_json, replacing
from harness.targets import find_module

FOLLOWED = ("harness.adapters", "harness.tasks", "harness.pocket")
"""Packages of ours whose source can change an answer. The engine must not change any, and the tests see to that."""


ELSEWHERE = ("checkpoint", "batch_size", "dtype", "developer", "license", "origin", "parameters", "server", "gpus")
"""Settings of a model that stand in a fingerprint by themselves, or that only tell people about it."""


TABLES = (".csv", ".tsv", ".parquet", ".json", ".jsonl", ".arrow", ".txt", ".gz", ".zst")
"""Endings of the files from which `datasets` reads rows."""


def fingerprint(
    model: ModelSpec, adapter: type, prompt: PromptSpec, job: CellJob, items: int, data_dir: str | None
) -> dict[str, Any]:
    """The fingerprint of a cell: digests by what they are of, for messages that say what has changed.

    `model` has its dtype resolved; `items` is how many items the cell asks about.
    """
    apart = {*ELSEWHERE, *model.not_in_fingerprint}
    settings = {key: value for key, value in to_json(model).items() if key not in apart}
    found = {
        "weights": weights_digest(model),
        "model settings": digest(settings),
        "prompts": digest(to_json(prompt)),
        "data set settings": digest(to_json(job.dataset)),
        "data": data_digest(job.dataset, data_dir),
        "samples": digest([job.indices, items]),
        "batch size": job.batch_size,
        "dtype": model.dtype,
        "adapter source": class_digest(adapter),
        "task settings": digest(to_json(job.task)),
        "task source": source_digest(_module_of(job.task)),
    }
    if launch := getattr(model, "launch", None):
        found["server"] = digest(launch.command)
    if job.ablate != "none":
        found["ablation"] = [job.ablate, job.seed]
    if job.stream:  # an answer does not depend on what is asked with it
        del found["batch size"]
    return found


def _module_of(task: TaskSpec) -> str:
    return task._target_.rpartition(".")[0]


def digest(value: Any) -> str:
    """The first 16 hex digits of the sha256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]


def _file_digest(path: Path) -> str:
    found = path.stat()
    return _digest_of(path, found.st_size, found.st_mtime_ns)


@cache
def _digest_of(path: Path, size: int, time: int) -> str:
    """The sha256 of a file that has this size and was changed at this time.

    A process reads it once. Of a large file the digest is kept in the folder for caches, with all that the system says
    of the file: 16 GB of weights take ten seconds to read, in every run.
    """
    if size < LARGE:
        return _read_digest(path)
    found = path.stat()
    state = [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
    note = cache_folder() / "digests" / f"{digest(str(path.resolve()))}.json"
    with suppress(UserError, OSError):
        known = read_json(note, {"state": list, "sha256": str})
        if known["state"] == state:
            return known["sha256"]
    sha256 = _read_digest(path)
    if time_ns() - max(state[1:3]) > SETTLED_NS:
        with suppress(OSError):  # a cache that cannot be written is done without
            note.parent.mkdir(parents=True, exist_ok=True)
            with replacing(note, shared=True) as file:
                file.write(json.dumps({"state": state, "sha256": sha256}).encode())
    return sha256


LARGE = 2**24
"""The bytes from which on a file's digest is worth to be kept: 16 MiB, some 20 ms of reading."""
SETTLED_NS = 2 * 10**9
"""A file that was changed less than two seconds ago may be changed again within the same tick of the system's clock."""


def _read_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


READ = {".safetensors", ".json", ".txt", ".model", ".jinja", ".tiktoken", ".vocab", ".index"}
"""The endings of what our families read of a checkpoint; an adapter from outside may read any file."""


def weights_digest(spec: ModelSpec) -> str:
    """The digest of a local folder's files, or a hub id with its commit in the cache; "none" without weights.

    Hidden folders are left out, and what the model's family does not read. Raises UserError for a folder that holds
    more than weights: a virtual environment, or results, which change with every run.
    """
    if not spec.checkpoint:
        return "none"
    folder = folder_of(spec.checkpoint)
    if folder.is_dir():
        ours = spec._target_.startswith("harness.")
        files = [path for path in _visible(spec.checkpoint, folder) if not ours or _is_read(path, spec)]
        return digest([(str(path.relative_to(folder)), _file_digest(path)) for path in files])
    if folder.is_file():
        return _file_digest(folder)[:16]
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(spec.checkpoint, "config.json", revision=spec.revision)
    commit = Path(found).parent.name if isinstance(found, str) else spec.revision
    return f"{spec.checkpoint}@{commit}"


def _is_read(path: Path, spec: ModelSpec) -> bool:
    return path.suffix in READ or (spec.trust_remote_code and path.suffix == ".py")


def _visible(name: str, root: Path) -> list[Path]:
    """The files of a checkpoint's folder, sorted, without hidden ones and what Python compiles."""
    found: list[Path] = []
    for folder, inner, files in os.walk(root):
        inner[:] = [entry for entry in inner if not entry.startswith(".") and entry != "__pycache__"]
        here = Path(folder)
        for mark, beside, what in (
            ("pyvenv.cfg", "", "a virtual environment"),
            ("run.json", "cells", "a run's results"),
        ):
            if mark in files and (here / beside).exists():
                raise UserError(
                    f"checkpoint {name}: {here} is {what}, which is no part of a model. Name the folder of the weights "
                    "alone, or leave checkpoint out for a model without weights."
                )
        found += [here / file for file in files if not file.startswith(".")]
    return sorted(path for path in found if path.is_file())


def data_digest(spec: DatasetSpec, data_dir: str | None) -> str:
    """What is read: a data file, a generator, or a local folder, each with a digest; or a hub id with its commit.

    Media files in a folder are not read for it: the cell keeps what they were when they were opened.
    """
    if spec.source == "jsonl":
        file = data.data_file(spec, data_dir)
        return f"{file.name}@{_file_digest(file)[:16]}"
    if spec.source == "pocket":
        return f"pocket@{source_digest('harness.pocket.samples')}"
    folder = Path(spec.path).expanduser()
    if folder.is_dir():
        files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in TABLES and file.is_file())
        names = files[0].name if len(files) == 1 else f"{counted(len(files), 'file')} in {folder.name}"
        return f"{names}@{digest([(str(file.relative_to(folder)), _file_digest(file)) for file in files])}"
    return f"{spec.path}@{_commit(spec)}"


def _commit(spec: DatasetSpec) -> str | None:
    """The commit of a hub data set in the cache: a branch's name may stand for another one tomorrow."""
    try:
        return hub.data_folder(spec.path, spec).name
    except UserError:  # it is nowhere on this machine, and a run does not come so far
        return spec.revision


def class_digest(adapter: type) -> str:
    """The digest of an adapter's source: of its module, or of its own lines where it was typed into an interpreter.

    Where Python cannot find the source, the digest is one that no other run has, so that nothing goes on from it.
    """
    if adapter.__module__ != "__main__" and _source(adapter.__module__) is not None:
        return source_digest(adapter.__module__)
    try:
        return digest(inspect.getsource(adapter))
    except (OSError, TypeError):
        return f"unknown ({uuid.uuid4().hex[:8]})"


def source_digest(module: str) -> str:
    """The digest of a module's source and of all that it imports from its own package (or, of a module that stands
    alone, from beside it)."""
    return digest([(name, _file_digest(path)) for name, path in sorted(sources_of(module).items())])


def sources_of(module: str) -> dict[str, Path]:
    """The files that `source_digest` reads, by module name. Imports inside functions count, those for type checkers
    alone do not."""
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in found or (path := _source(name)) is None:
            continue
        found[name] = path
        waiting += [other for other in _imported(name, path) if _belongs(other, path, module)]
    if not found:
        raise UserError(f"The source of {module} is not there, so that no run could be resumed with it.")
    return found


def _belongs(name: str, path: Path, module: str) -> bool:
    """Whether what is imported is of the same making as the module that a digest is of."""
    top = module.partition(".")[0]
    if top == "harness":
        return any(f"{name}.".startswith(f"{package}.") for package in FOLLOWED)
    if name.partition(".")[0] == top:
        return True
    return "." not in module and "site-packages" not in path.parts and path.with_name(f"{name}.py").is_file()


def _source(name: str) -> Path | None:
    """The file of a module, found without importing it or a package above it that may be heavy."""
    top = next((package for package in FOLLOWED if f"{name}.".startswith(f"{package}.")), name.partition(".")[0])
    found = find_module(top)
    if found is None or not found.origin or not found.origin.endswith(".py"):
        return None
    inner = name.removeprefix(top).strip(".")
    if not inner:
        return Path(found.origin)
    place = Path(found.origin).parent.joinpath(*inner.split("."))
    return next((file for file in (place / "__init__.py", place.with_suffix(".py")) if file.is_file()), None)


def _imported(module: str, path: Path) -> Iterator[str]:
    """Names of the modules, and of what might be modules, that a file imports."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: package.count(".") + 2 - node.level] if node.level else []
            base = ".".join(filter(None, [*above, node.module or ""]))
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
