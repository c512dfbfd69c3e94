"""Names of classes in configurations lead to adapters, tasks and trainables, wherever they lie, and to nothing else."""

from __future__ import annotations

import sys

import pytest

from harness.adapter import Adapter
from harness.errors import UserError
from harness.targets import current_target, find_module, import_from, load_class
from harness.task import Task

MINE = """
from harness.adapter import Adapter

class Mine(Adapter):
    def generate(self, inputs):
        return []
"""


@pytest.fixture(autouse=True)
def _path(monkeypatch, tmp_path):
    """Nothing that a test adds to the import path, or imports, outlives it."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("target", "base", "reason"),
    [
        ("subprocess.Popen", Adapter, "Popen is no Adapter"),
        ("os.system", Adapter, "has no class 'system'"),
        ("harness.tasks.vqa.Vqa", Adapter, "Vqa is no Adapter"),
        ("harness.adapters.open_clip.OpenClip", Task, "OpenClip is no Task"),
        ("harness.adapters.open_clip.OpenClop", Adapter, "Did you mean 'OpenClip'"),
        ("nowhere.at.all.Model", Adapter, "there is no module 'nowhere.at.all'"),
        ("Model", Adapter, "must be module.Class"),
        ("..Model", Adapter, "must be module.Class"),
    ],
)
def test_a_target_of_another_kind_is_refused(target, base, reason):
    with pytest.raises(UserError, match=reason):
        load_class(target, base)


def test_an_adapter_is_found_in_a_folder_that_was_named(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "named_adapter.py").write_text(MINE)
    assert find_module("named_adapter") is None
    import_from(tmp_path / "elsewhere")
    assert load_class("named_adapter.Mine", Adapter).__name__ == "Mine"


def test_the_working_directory_comes_last_and_is_looked_into_for_targets_alone(tmp_path):
    (tmp_path / "local_adapter.py").write_text("import local_helper\n" + MINE)
    (tmp_path / "local_helper.py").write_text("")
    (tmp_path / "random.py").write_text("raise SystemExit('the wrong random')")
    assert find_module("nothing_here") is None
    assert str(tmp_path) not in sys.path, "a name that is not there leaves the path alone"
    assert load_class("local_adapter.Mine", Adapter).__module__ == "local_adapter"
    assert sys.path[-1] == str(tmp_path), "what the adapter imports may lie beside it"
    assert str(tmp_path) not in str(find_module("random"))


@pytest.mark.parametrize(
    ("former", "now"),
    [
        ("adapters.open_clip.OpenClip", "harness.adapters.open_clip.OpenClip"),
        ("adapters.transformers_chat.ChatModel", "harness.adapters.transformers.chat.ChatModel"),
        ("adapters.fusion.adapter.FusionAdapter", "harness.adapters.fusion.adapter.FusionAdapter"),
        ("tasks.vqa.Vqa", "harness.tasks.vqa.Vqa"),
    ],
)
def test_a_target_of_the_time_when_adapters_stood_alone_still_works(former, now):
    assert current_target(former) == now
    assert load_class(former, object) is load_class(now, object)


@pytest.mark.parametrize(
    "target", ["adapters.Houlsby", "adapters.heads.base.Head", "tasks.Deploy", "my.adapters.open_clip.OpenClip"]
)
def test_a_target_in_somebody_elses_package_of_that_name_stays_theirs(target):
    assert current_target(target) == target
