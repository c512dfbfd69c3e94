"""Who may import whom: the storeys of the house, read from the source itself and through however many modules.

    __main__ → cli → api → run, analysis → tasks, adapters → train → data, task → pocket, measure, targets
        → adapter, config, report → metrics, store, media, checkpoint, dataset → records, clock, errors

A module imports only from storeys below its own, and within its own package. Each top-level file of `harness/` counts
as a package of its own. Imports for type checkers alone do not count: they are never carried out.
"""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {"harness.tasks": "tasks", "harness.adapters": "adapters", "harness.conf": "conf"}
"""Packages that stand elsewhere than their name says: setuptools maps them."""
HEAVY = ("torch", "transformers", "pandas", "hydra", "omegaconf", "open_clip", "matplotlib", "scipy", "datasets")
STOREYS = (
    ("__main__",),
    ("cli",),
    ("api",),
    ("run", "analysis"),
    ("tasks", "adapters"),
    ("train",),
    ("data", "task"),
    ("pocket", "measure", "targets"),
    ("adapter", "config", "report"),
    ("metrics", "store", "media", "checkpoint", "dataset"),
    ("records", "clock", "errors"),
)
DATA_ONLY = ("conf",)
"""Packages without code."""
SHARED_BY_ADAPTERS = (
    "harness.adapters.dual",
    "harness.adapters.text",
    "harness.adapters.transformers",
    "harness.adapters.transformers.base",
    "harness.adapters.transformers.decoding",
)
"""Modules that hold no adapter of their own, only what several families have in common."""


def path_of(name: str) -> Path:
    """Where a package of ours or a module (without its ending) stands."""
    for package, folder in FOLDERS.items():
        if within(name, package):
            return ROOT.joinpath(folder, *name.removeprefix(package).strip(".").split("."))
    return ROOT.joinpath(*name.split("."))


def source_of(module: str) -> Path:
    path = path_of(module)
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def modules(*places: str) -> list[str]:
    """Names of the modules in a package, or of the one module. A place that is not there is a failure."""
    found = []
    for place in places:
        path = path_of(place)
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
        assert files, f"{place} has no module"
        assert all(file.is_file() for file in files), f"there is no module {place}, of which a rule speaks"
        inner = [file.relative_to(path).with_suffix("").parts if path.is_dir() else () for file in files]
        found += [".".join([place, *parts]).removesuffix(".__init__") for parts in inner]
    return found


def all_modules() -> list[str]:
    return [*modules("harness"), *modules("harness.tasks"), *modules("harness.adapters")]


@cache
def imports_of(module: str) -> frozenset[str]:
    """Full names of what a module imports, anywhere in it. An import of ours that is not there is a failure."""
    tree = ast.parse(source_of(module).read_text(encoding="utf-8"))
    package = module if source_of(module).name == "__init__.py" else module.rpartition(".")[0]
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                visit(child)
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
            for alias in node.names:
                assert not within(alias.name, "harness") or source_of(alias.name).is_file(), f"{module}: {alias.name}"
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            ours = within(base, "harness")
            assert not ours or source_of(base).is_file(), f"{module} imports {base}, which is not there"
            for alias in node.names:
                deeper = f"{base}.{alias.name}"
                found.add(deeper if ours and source_of(deeper).is_file() else base)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    return frozenset(found)


def reached_from(module: str) -> dict[str, list[str]]:
    """Every name that a module imports, directly or through modules of ours, with the way that leads to it."""
    ways = {module: [module]}
    waiting = [module]
    while waiting:
        here = waiting.pop()
        for name in sorted(imports_of(here)):
            if name not in ways:
                ways[name] = [*ways[here], name]
                if within(name, "harness"):
                    waiting.append(name)
    del ways[module]
    return ways


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def offenders(names: list[str], forbidden: tuple[str, ...]) -> list[str]:
    """The ways that lead from one of `names` to something forbidden, through however many modules of ours."""
    assert names
    return [
        " -> ".join(way) for module in names for name, way in reached_from(module).items() if within(name, *forbidden)
    ]


def package_of(module: str) -> str:
    """The package below `harness` that a module belongs to; "" for `harness` itself, which is the public face."""
    return module.removeprefix("harness").strip(".").split(".")[0]


def storey(package: str) -> int:
    """How far down a package stands, from 0 at the top."""
    return next(i for i, storey in enumerate(STOREYS) if package in storey)


def test_every_package_has_its_storey():
    found = {package_of(module) for module in all_modules()} - {""}
    assert found == {package for storey in STOREYS for package in storey}


def test_no_storey_imports_from_itself_or_from_one_above():
    wrong = [
        f"{module} imports {name}"
        for module in all_modules()
        if (own := package_of(module))
        for name in sorted(imports_of(module))
        if within(name, "harness") and (other := package_of(name)) not in (own, *DATA_ONLY, "")
        if storey(other) <= storey(own)
    ]
    assert wrong == []


def test_the_public_face_of_the_package_imports_nothing_when_it_is_imported():
    done = subprocess.run(
        [sys.executable, "-c", "import harness, sys; print(*sys.modules)"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert [name for name in done.stdout.split() if within(name, "harness")] == ["harness"]


def test_files_import_one_another_in_one_direction():
    assert cycles({module: imports_of(module) for module in all_modules()}) == []


def test_packages_import_one_another_in_one_direction():
    graph: dict[str, set[str]] = {}
    for module in all_modules():
        own = package_of(module)
        known = graph.setdefault(own, set())
        known |= {package_of(name) for name in imports_of(module) if within(name, "harness")} - {own}
    graph.pop("")  # the face names what is inside, and nothing inside reads more of it than the version
    assert cycles({package: frozenset(names) for package, names in graph.items()}) == []


def cycles(graph: dict[str, frozenset[str]]) -> list[str]:
    """One cycle for each node from which a way leads back to it."""
    found = []
    for start in graph:
        ways, waiting = {start: [start]}, [start]
        while waiting:
            here = waiting.pop()
            for name in sorted(graph.get(here, ())):
                if name == start and here != start:
                    found.append(" -> ".join([*ways[here], start]))
                elif name in graph and name not in ways:
                    ways[name] = [*ways[here], name]
                    waiting.append(name)
    return found


@pytest.mark.parametrize("module", ["harness.records", "harness.errors", "harness.clock"])
def test_the_foundations_import_nothing_of_ours(module):
    assert [name for name in imports_of(module) if within(name, "harness")] == []


def test_what_measures_knows_no_adapter_and_no_task():
    measuring = modules("harness.metrics", "harness.analysis.statistics", "harness.media", "harness.clock")
    behind = ("harness.adapters", "harness.tasks", "harness.adapter", "harness.task")
    assert offenders(measuring, behind) == []
    assert offenders(modules("harness.data"), behind) == []


def test_the_harness_names_no_concrete_adapter_or_task():
    assert offenders(modules("harness"), ("harness.adapters", "harness.tasks")) == []


def test_tasks_import_the_harness_alone_and_not_each_other():
    assert offenders(modules("harness.tasks"), ("harness.adapters",)) == []
    names = [name for name in modules("harness.tasks") if name != "harness.tasks"]
    assert len(names) > 3
    assert [f"{m} imports {n}" for m in names for n in imports_of(m) if within(n, "harness.tasks") and n != m] == []


def test_adapters_know_no_task_and_no_other_family():
    found = []
    for module in modules("harness.adapters"):
        family = ".".join(module.split(".")[:3])
        for name in sorted(imports_of(module)):
            other = within(name, "harness.adapters") and not within(name, family) and name not in SHARED_BY_ADAPTERS
            if other or within(name, "harness.tasks"):
                found.append(f"{module} imports {name}")
    assert found == []


def test_inside_adapters_and_tasks_imports_of_one_another_are_relative():
    found = []
    for folder in ("adapters", "tasks"):
        sources = sorted((ROOT / folder).rglob("*.py"))
        assert sources
        for source in sources:
            found += re.findall(rf"^\s*(?:from|import) (?:harness\.)?{folder}\b.*", source.read_text("utf-8"), re.M)
    assert found == []


def test_what_adapters_share_holds_no_adapter_to_run():
    from harness.adapter import Adapter, routes_of

    for name in SHARED_BY_ADAPTERS:
        module = importlib.import_module(name)
        own = [value for value in vars(module).values() if isinstance(value, type) and value.__module__ == name]
        complete = [c for c in own if issubclass(c, Adapter) and routes_of(c) and c.load is not Adapter.load]
        assert complete == [], f"{name} holds an adapter; other families must not import it"


def test_reports_are_made_without_torch_and_transformers():
    assert offenders(modules("harness.report"), ("torch", "transformers", "open_clip")) == []


def test_a_run_makes_no_report():
    assert offenders(modules("harness.run"), ("harness.report",)) == []


def test_only_the_command_line_and_the_config_import_hydra():
    others = [name for name in all_modules() if not within(name, "harness.cli", "harness.config")]
    assert others
    assert [f"{m} imports {n}" for m in others for n in imports_of(m) if within(n, "hydra", "omegaconf")] == []


def test_the_classes_that_configurations_name_are_imported_without_anything_heavy():
    files = [*ROOT.glob("conf/model/*.yaml"), *ROOT.glob("conf/task/*.yaml")]
    targets = {match for file in files for match in re.findall(r"^_target_: ([\w.]+)", file.read_text("utf-8"), re.M)}
    names = sorted({target.rpartition(".")[0] for target in targets})
    assert names
    code = f"import sys, importlib\nfor name in {names!r}: importlib.import_module(name)\nprint(*sys.modules)"
    assert heavy_after(code) == []


def test_the_command_line_starts_without_anything_heavy():
    assert heavy_after("import sys, harness.cli.main\nprint(*sys.modules)", (*HEAVY, "numpy")) == []


def heavy_after(code: str, heavy: tuple[str, ...] = HEAVY) -> list[str]:
    """The heavy packages that are loaded in a fresh interpreter after `code`, which prints the loaded modules."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [name for name in heavy if name in done.stdout.split()]


def test_the_package_list_names_every_folder_with_modules():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["packages"]
    folders = {name for name in (*all_modules(), *modules("harness.conf")) if source_of(name).name == "__init__.py"}
    assert sorted(listed) == sorted(folders)
    bare = [
        folder
        for top in ("harness", "tasks", "adapters")
        for folder in sorted((ROOT / top).rglob("*"))
        if folder.is_dir() and any(folder.glob("*.py")) and not (folder / "__init__.py").exists()
    ]
    assert [folder.name for folder in bare] == ["spoken_digits"], "its make.py is a script beside data, no module"


def test_the_folder_of_the_package_shows_its_rooms_and_little_else():
    entries = {path.name for path in (ROOT / "harness").iterdir()} - {"__pycache__"}
    assert len(entries) <= 24, sorted(entries)


# The rules themselves ------------------------------------------------------------------------------------------------


@pytest.fixture
def house(tmp_path, monkeypatch) -> Iterator[Path]:
    """An empty tree in the place of ours."""
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    for folder in ("harness", "tasks", "adapters"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").write_text("")
    imports_of.cache_clear()
    yield tmp_path
    imports_of.cache_clear()


def test_a_forbidden_import_would_be_seen_through_another_module(house):
    (house / "tasks" / "vqa.py").write_text("from . import helpers\n")
    (house / "tasks" / "helpers.py").write_text("def f():\n    from harness.adapters import open_clip\n")
    found = offenders(modules("harness.tasks"), ("harness.adapters",))
    assert "harness.tasks.vqa -> harness.tasks.helpers -> harness.adapters" in found


def test_a_rule_about_a_module_that_is_not_there_fails():
    with pytest.raises(AssertionError, match="there is no module"):
        modules("harness.gone")


def test_an_import_of_a_module_that_is_not_there_fails(house):
    (house / "tasks" / "vqa.py").write_text("from harness.gone import thing\n")
    with pytest.raises(AssertionError, match=r"imports harness\.gone"):
        imports_of("harness.tasks.vqa")


def test_a_cycle_would_be_seen():
    assert cycles({"a": frozenset("b"), "b": frozenset("c"), "c": frozenset("a")})
    assert cycles({"a": frozenset("bc"), "b": frozenset("c"), "c": frozenset()}) == []
