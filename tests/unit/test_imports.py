"""Who may import whom: the directions that keep models, tasks and the engine apart, read from the source itself."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = ("harness", "tasks", "adapters", "conf")
HEAVY = ("torch", "transformers", "pandas", "hydra", "omegaconf", "open_clip", "matplotlib", "scipy", "datasets")
SHARED_BY_ADAPTERS = ("adapters.dual", "adapters.transformers_base", "adapters.transformers_decoding")
"""Modules that hold no adapter of their own, only what several families have in common."""


def modules(*places: str) -> list[str]:
    """Names of the modules in a package's folder, or of the one module. A place that is not there is a failure."""
    found = []
    for place in places:
        path = ROOT.joinpath(*place.split("."))
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
        assert files, f"{place} has no module"
        assert all(file.is_file() for file in files), f"there is no module {place}, of which a rule speaks"
        found += [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files]
    return [name.removesuffix(".__init__") for name in found]


def source_of(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def reached_from(module: str) -> dict[str, list[str]]:
    """Every name that a module imports, directly or through modules of ours, with the way that leads to it."""
    ways = {module: [module]}
    waiting = [module]
    while waiting:
        here = waiting.pop()
        for name in sorted(imports_of(here)):
            if name not in ways:
                ways[name] = [*ways[here], name]
                if name.startswith(OURS) and source_of(name).is_file():
                    waiting.append(name)
    del ways[module]
    return ways


def imports_of(module: str, *, at_start: bool = False) -> set[str]:
    """Full names of what a module imports; `at_start`: only what is imported when the module itself is.

    Imports for type checkers alone do not count: they are never carried out.
    """
    tree = ast.parse(source_of(module).read_text(encoding="utf-8"))
    package = module if source_of(module).name == "__init__.py" else module.rpartition(".")[0]
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                visit(child)
            return
        if at_start and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            ours = base.split(".")[0] in OURS
            assert not ours or source_of(base).is_file(), f"{module} imports {base}, which is not there"
            for alias in node.names:
                deeper = f"{base}.{alias.name}"
                found.add(deeper if ours and source_of(deeper).is_file() else base)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    return found


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def offenders(names: list[str], forbidden: tuple[str, ...]) -> list[str]:
    """The ways that lead from one of `names` to something forbidden, through however many modules of ours."""
    assert names
    return [
        " -> ".join(way)
        for module in names
        for name, way in reached_from(module).items()
        if within(name, *forbidden) and not within(module, *forbidden)
    ]


@pytest.mark.parametrize("module", ["harness.records", "harness.errors"])
def test_the_foundations_import_nothing_of_ours(module):
    assert offenders([module], OURS) == []


def test_what_measures_knows_no_adapter_and_no_task():
    measuring = modules(
        "harness.metrics", "harness.statistics", "harness.sources", "harness.media", "harness.clock", "harness.records"
    )
    assert offenders(measuring, ("adapters", "tasks", "harness.adapter", "harness.task")) == []


def test_the_harness_names_no_concrete_adapter_or_task():
    assert offenders(modules("harness"), ("adapters", "tasks")) == []


def test_tasks_import_the_harness_alone_and_not_each_other():
    assert offenders(modules("tasks"), ("adapters",)) == []
    names = [name for name in modules("tasks") if name != "tasks"]
    assert [f"{m} imports {n}" for m in names for n in imports_of(m) if within(n, "tasks") and n != m] == []


def test_adapters_know_no_task_and_no_other_family():
    found = []
    for module in modules("adapters"):
        family = ".".join(module.split(".")[:2])
        for name in sorted(imports_of(module)):
            other = within(name, "adapters") and not within(name, family, *SHARED_BY_ADAPTERS)
            if other or within(name, "tasks"):
                found.append(f"{module} imports {name}")
    assert found == []


def test_what_adapters_share_holds_no_adapter_to_run():
    from harness.adapter import Adapter, routes_of

    for name in SHARED_BY_ADAPTERS:
        module = __import__(name, fromlist=["_"])
        own = [value for value in vars(module).values() if isinstance(value, type) and value.__module__ == name]
        complete = [c for c in own if issubclass(c, Adapter) and routes_of(c) and c.load is not Adapter.load]
        assert complete == [], f"{name} holds an adapter; other families must not import it"


def test_reports_are_made_without_torch_and_transformers():
    assert offenders(modules("harness.report"), ("torch", "transformers", "open_clip")) == []


def test_only_the_command_line_and_the_config_import_hydra():
    names = modules("harness", "tasks", "adapters")
    others = [name for name in names if not within(name, "harness.cli", "harness.config")]
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
    assert heavy_after("import sys, harness.cli\nprint(*sys.modules)") == []


def heavy_after(code: str) -> list[str]:
    """The heavy packages that are loaded in a fresh interpreter after `code`, which prints the loaded modules."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [name for name in HEAVY if name in done.stdout.split()]


def test_a_forbidden_import_would_be_seen_through_another_module(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    (tmp_path / "tasks").mkdir()
    (tmp_path / "adapters").mkdir()
    (tmp_path / "adapters" / "__init__.py").write_text("")
    (tmp_path / "tasks" / "vqa.py").write_text("from tasks import helpers\n")
    (tmp_path / "tasks" / "__init__.py").write_text("")
    (tmp_path / "tasks" / "helpers.py").write_text("def f():\n    from adapters import open_clip\n")
    assert "tasks.vqa -> tasks.helpers -> adapters" in offenders(modules("tasks"), ("adapters",))


def test_a_rule_about_a_module_that_is_not_there_fails():
    with pytest.raises(AssertionError, match="there is no module"):
        modules("harness.gone")


def test_an_import_of_a_module_that_is_not_there_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    (tmp_path / "tasks.py").write_text("from harness.gone import thing\n")
    with pytest.raises(AssertionError, match=r"imports harness\.gone"):
        imports_of("tasks")
