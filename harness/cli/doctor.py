"""`harness doctor`: what this machine has for a run, and what to do about what it lacks.

Every check is one row and imports as little as it can: torch, for instance, only where there may be a GPU to ask about.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from harness.checkpoint import BUNDLED, hub_cache
from harness.cli import terminal
from harness.cli.places import results_dir
from harness.config.files import CONF
from harness.measure import machine

PACKAGE = "multimodal-harness"
PURPOSE = {
    "zh": "Chinese words and variants in metrics",
    "models": "tokenisers and image encoders of some families",
    "gpu": "energy, and whether others use the GPU",
    "test": "the tests",
}
"""What the optional extras are good for."""
LITTLE_DISK, LITTLE_MEMORY = 10, 4
"""Gibibytes below which a run is likely to end early."""


@dataclass(frozen=True)
class Finding:
    """One row. `broken` keeps runs from working, `lacking` is what some of them would want."""

    check: str
    state: Literal["ok", "lacking", "broken"]
    found: str
    to_do: str = ""


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("doctor", help="what this machine has and lacks, and what to do about it")
    parser.add_argument("settings", nargs="*", default=[], metavar="results_dir=DIR")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(command=command)


def command(arguments: argparse.Namespace) -> int:
    """Carry the command out; returns the exit status."""
    return show(examine(results_dir(arguments.settings)), arguments.json)


def examine(results: Path) -> list[Finding]:
    """All checks, in the order in which to mend what they find."""
    return [
        *_software(),
        *_device(),
        *_room(results),
        _chinese_font(),
        _java(),
        *_data(),
        *_hub(),
    ]


def show(findings: list[Finding], as_json: bool) -> int:
    """Print them; the exit status is 1 where something is broken."""
    if as_json:
        terminal.as_json([asdict(finding) for finding in findings])
    else:
        from rich.table import Table

        marks = {"ok": ("ok", "green"), "lacking": ("lacking", "yellow"), "broken": ("BROKEN", "bold red")}
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("check", "", "found", "what to do"):
            table.add_column(name, overflow="fold", no_wrap=name == "check")
        for finding in findings:
            texts = (finding.found, finding.to_do)
            table.add_row(finding.check, terminal.cell(*marks[finding.state]), *map(terminal.cell, texts))
        terminal.console(wide=160).print(table)
    return 1 if any(finding.state == "broken" for finding in findings) else 0


def _software() -> Iterator[Finding]:
    version = platform.python_version()
    old = sys.version_info < (3, 11)
    todo = "Install Python 3.11 or newer and make the environment anew." if old else ""
    yield Finding("Python", "broken" if old else "ok", f"{version} on {platform.system()}", todo)
    for extra, wanted in _requirements().items():
        missing = [lack for name, least in wanted if (lack := _lack(name, least))]
        if not extra:
            key = ", ".join(f"{n} {machine.version(n)}" for n in ("torch", "transformers", "open_clip_torch"))
            todo = f"pip install -U {' '.join(map(repr, missing))}" if missing else ""
            yield Finding("libraries", "broken" if missing else "ok", ", ".join(missing) or key, todo)
        else:
            found = f"without {', '.join(missing)}" if missing else "installed"
            todo = f"For {PURPOSE.get(extra, extra)}: pip install {' '.join(map(repr, missing))}" if missing else ""
            yield Finding(f"extra '{extra}'", "lacking" if missing else "ok", found, todo)


def _requirements() -> dict[str, list[tuple[str, str]]]:
    """What each extra needs, as (name, least version); the package's own needs stand under "".

    They are read from the installed package's metadata, or from pyproject.toml where it runs from a checkout.
    """
    project = CONF.parent / "pyproject.toml"
    if project.is_file():
        told = tomllib.loads(project.read_text("utf-8"))["project"]
        lists = {"": told["dependencies"], **told["optional-dependencies"]}
    else:
        lists = {"": []}
        for line in importlib.metadata.requires(PACKAGE) or []:
            need, _, condition = line.partition(";")
            extra = re.search(r"extra == ['\"](\w+)['\"]", condition)
            lists.setdefault(extra[1] if extra else "", []).append(need)
    need = re.compile(r"([\w.-]+)(?:\[[^]]*\])?\s*(?:>=\s*([\d.]+))?")
    matches = {extra: [need.match(line.strip()) for line in lines] for extra, lines in lists.items()}
    return {extra: [(m[1], m[2] or "") for m in found if m] for extra, found in matches.items()}


def _lack(name: str, least: str) -> str:
    """The requirement in words where it is not met; empty where it is."""
    found = machine.version(name)
    if found is not None and _release(found) >= _release(least):
        return ""
    return f"{name}>={least}" if least else name


def _release(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version.split("+")[0])[:3]]


def _device() -> Iterator[Finding]:
    try:
        device = machine.pick_device("auto")
        facts = machine.describe_device(device)
    except Exception as error:  # a torch that does not import is what this command is there to tell
        todo = "Reinstall torch: see https://pytorch.org/get-started"
        yield Finding("device", "broken", f"torch does not work: {type(error).__name__}: {error}", todo)
        return
    if device == "cpu":
        driver = shutil.which("nvidia-smi") is not None
        todo = "torch cannot use the GPU: is its CUDA build as new as the driver?" if driver else ""
        found = "cpu: no GPU that torch can use; small models run, large ones are slow"
        yield Finding("device", "lacking", found, todo or "Run large models on a machine with a GPU.")
        return
    gpu = f"{facts['gpu']}, {facts['gpu_memory_gb']} GiB, " if "gpu" in facts else ""
    yield Finding("device", "ok", f"{device}: {gpu}{machine.pick_dtype('auto', device)}")
    if machine.gpu_shared(device):
        yield Finding("GPU alone", "lacking", "other processes compute on it", "Latencies will suffer: end them first.")


def _room(results: Path) -> Iterator[Finding]:
    total, free = machine.memory_bytes() / 2**30, machine.available_bytes() / 2**30
    little = free < LITTLE_MEMORY
    found = f"{free:.1f} of {total:.1f} GiB free, {machine.host_facts()['cores']} cores"
    todo = "Close other programs; models that do not fit are left out." if little else ""
    yield Finding("memory", "lacking" if little else "ok", found, todo)
    for name, folder in (("disk for results", results), ("disk for models", hub_cache())):
        place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        room = shutil.disk_usage(place).free / 2**30
        found = f"{room:.1f} GiB free at {folder}"
        if not _writable(place):
            todo = "Choose another with results_dir=DIR." if folder == results else "Set HF_HOME to another folder."
            yield Finding(name, "broken", f"{place} cannot be written", todo)
        elif room < LITTLE_DISK:
            yield Finding(name, "lacking", found, "Make room: vectors and weights take gigabytes.")
        else:
            yield Finding(name, "ok", found)


def _writable(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _chinese_font() -> Finding:
    from harness.report.fonts import having

    font = having(frozenset("模型对比延迟"))
    if font:
        return Finding("Chinese font", "ok", font)
    todo = "For Chinese charts install one, such as Noto Sans CJK (apt install fonts-noto-cjk)."
    return Finding("Chinese font", "lacking", "none: charts are labelled in English", todo)


def _java() -> Finding:
    from harness.metrics import java
    from harness.metrics.meteor import meteor_available

    if meteor_available():
        return Finding("METEOR", "ok", "Java and its program")
    lacks = [name for name, there in (
        ("Java", java.works()), ("pycocoevalcap", importlib.util.find_spec("pycocoevalcap"))
    ) if not there]  # fmt: skip
    todo = (
        "Wanted for this one metric, and to cut captions by Stanford's own tokeniser instead of its rules in Python: "
        "install a Java runtime and pip install 'multimodal-harness[coco]'."
    )
    return Finding("METEOR", "lacking", f"without {' and '.join(lacks) or 'its program'}", todo)


def _data() -> Iterator[Finding]:
    bundled = sorted({path.parent.name for path in BUNDLED.glob("*/*.safetensors")})
    yield Finding(
        "bundled models",
        "ok" if bundled else "broken",
        f"{len(bundled)}: {', '.join(bundled)}" if bundled else f"none in {BUNDLED}",
        "" if bundled else "Install the package again: its weights are missing.",
    )
    base = os.environ.get("HARNESS_DATA")
    if base and Path(base).expanduser().is_dir():
        yield Finding("data folder", "ok", f"HARNESS_DATA={base}")
    else:
        found = f"HARNESS_DATA={base} is not a folder" if base else "HARNESS_DATA is not set"
        todo = "For data sets of your own: set it to their folder, or say data_dir=DIR. Pocket data need none."
        yield Finding("data folder", "lacking", found, todo)


def _hub() -> Iterator[Finding]:
    hub = hub_cache()
    models = sum(any(path.glob("snapshots/*/*")) for path in hub.glob("models--*")) if hub.is_dir() else 0
    todo = "" if models else "harness fetch model=NAME brings one; `harness list models` has the names."
    yield Finding("fetched models", "ok" if models else "lacking", f"{models} in {hub}", todo)
    flags = [name for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if _set(name)]
    token = "a token for gated models is set" if os.environ.get("HF_TOKEN") else "no token (HF_TOKEN) for gated models"
    if flags:
        found = f"{' and '.join(flags)} set: nothing is downloaded"
        yield Finding("hub", "lacking", found, f"Unset {' and '.join(flags)} before `harness fetch`.")
    else:
        yield Finding("hub", "ok", f"downloads are allowed (`harness fetch` alone does them); {token}")


def _set(name: str) -> bool:
    return os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE")
