"""What can change an answer is in a cell's fingerprint; what cannot is not."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from harness.adapter import Adapter
from harness.config.specs import DatasetSpec, ModelSpec
from harness.errors import UserError
from harness.run import fingerprint
from harness.run.fingerprint import class_digest, data_digest, source_digest, sources_of, weights_digest

ROOT = Path(__file__).parents[2]


def modules_of_models() -> list[str]:
    """The modules of all adapters that conf/model names."""
    texts = [path.read_text("utf-8") for path in sorted((ROOT / "conf" / "model").glob("*.yaml"))]
    return sorted({match.rpartition(".")[0] for text in texts for match in re.findall(r"^_target_: (\S+)", text, re.M)})


@pytest.fixture
def edited(monkeypatch):
    """Pretends that a file has other contents: only its digest is another."""
    digest = fingerprint._file_digest

    def edit(name: str) -> None:
        path = ROOT / name
        assert path.is_file()
        monkeypatch.setattr(
            fingerprint, "_file_digest", lambda file: digest(file) + "*" if file.samefile(path) else digest(file)
        )

    return edit


def changed(edit, name: str) -> set[str]:
    """The adapters' modules whose digests change when a file is edited."""
    before = {module: source_digest(module) for module in modules_of_models()}
    edit(name)
    return {module for module, digest in before.items() if source_digest(module) != digest}


def test_an_edit_of_what_the_clip_families_share_changes_both_and_no_other(edited):
    found = changed(edited, "adapters/dual.py")
    assert found == {"harness.adapters.open_clip", "harness.adapters.transformers.dual"}


def test_an_edit_of_one_family_changes_that_family_alone(edited):
    assert changed(edited, "adapters/transformers/chat.py") == {"harness.adapters.transformers.chat"}


def test_an_edit_of_a_helper_that_is_imported_late_counts(edited):
    assert changed(edited, "adapters/fusion/backbones.py") == {"harness.adapters.fusion.adapter"}


@pytest.mark.parametrize("name", ["harness/data/hub.py", "harness/run/worker.py", "harness/records.py"])
def test_an_edit_of_the_engine_changes_no_family(edited, name):
    assert changed(edited, name) == set()


def test_the_pocket_data_are_what_makes_them_and_no_lesson_of_theirs():
    names = set(sources_of("harness.pocket.samples"))
    assert {"harness.pocket.scenes", "harness.pocket.text", "harness.pocket.speech"} <= names
    assert not any("teaching" in name for name in names)


def test_an_adapter_of_ones_own_counts_with_what_it_imports_from_beside_it(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_model.py").write_text("import json\nimport own_helper\n")
    (tmp_path / "own_helper.py").write_text("x = 1\n")
    assert set(sources_of("own_model")) == {"own_model", "own_helper"}
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "__init__.py").write_text("")
    (tmp_path / "own_package" / "model.py").write_text("from . import layers\nfrom .parts import eye\n")
    (tmp_path / "own_package" / "layers.py").write_text("import torch\n")
    (tmp_path / "own_package" / "unused.py").write_text("")
    (tmp_path / "own_package" / "parts").mkdir()
    (tmp_path / "own_package" / "parts" / "__init__.py").write_text("")
    assert set(sources_of("own_package.model")) == {
        "own_package", "own_package.model", "own_package.layers", "own_package.parts"
    }  # fmt: skip


def test_a_class_whose_source_nobody_has_kept_is_like_no_other():
    typed = type("Typed", (Adapter,), {"__module__": "typed_into_an_interpreter"})
    assert class_digest(typed) != class_digest(typed)
    assert class_digest(typed).startswith("unknown")


def test_a_folder_of_tables_is_known_by_their_bytes_and_not_by_their_times(tmp_path):
    folder = tmp_path / "quiz"
    folder.mkdir()
    table = folder / "test.csv"
    table.write_text("id,answer\n1,red\n")
    (folder / "a.png").write_bytes(b"a picture is known by what was read of it")
    spec = DatasetSpec("hub", ["vqa"], path=str(folder))
    before = data_digest(spec, None)
    assert before.startswith("test.csv@")
    os.utime(table, ns=(1, 1))
    (folder / "a.png").write_bytes(b"another")
    assert data_digest(spec, None) == before
    table.write_text("id,answer\n1,tan\n")
    assert data_digest(spec, None) != before
    (folder / "more.parquet").write_bytes(b"")
    assert data_digest(spec, None).startswith("2 files in quiz@")


def test_a_data_set_of_the_hub_is_known_by_its_commit_and_not_by_the_name_of_a_branch(tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprint.hub, "data_folder", lambda name, spec: tmp_path / "snapshots" / "0a1b2c")
    assert data_digest(DatasetSpec("hub", ["vqa"], path="owner/quiz", revision="main"), None) == "owner/quiz@0a1b2c"


def _folder_model(folder, **more):
    return ModelSpec(_target_="harness.adapters.open_clip.OpenClip", checkpoint=str(folder), **more)


def test_the_digest_of_weights_covers_what_the_family_reads_and_nothing_else(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    before = weights_digest(_folder_model(tmp_path))
    for name in ("README.md", "pytorch_model.bin", ".cache/x.json", "modeling.py", "__pycache__/x.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("other")
    assert weights_digest(_folder_model(tmp_path)) == before
    assert weights_digest(_folder_model(tmp_path, trust_remote_code=True)) != before
    (tmp_path / "config.json").write_text("{}")
    assert weights_digest(_folder_model(tmp_path)) != before


def test_an_adapter_from_outside_may_read_any_file_but_hidden_ones(tmp_path):
    model = ModelSpec(_target_="mine.Model", checkpoint=str(tmp_path))
    before = weights_digest(model)
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x").write_text("x")
    assert weights_digest(model) == before
    (tmp_path / "weights.npz").write_bytes(b"x")
    assert weights_digest(model) != before


@pytest.mark.parametrize(
    ("inside", "said"),
    [
        (["venv/pyvenv.cfg"], "a virtual environment"),
        (["results/a/run.json", "results/a/cells/x"], "a run's results"),
    ],
)
def test_a_folder_with_more_than_a_model_in_it_is_refused_with_advice(tmp_path, inside, said):
    for name in inside:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    with pytest.raises(UserError, match=rf"{said}.*leave checkpoint out"):
        weights_digest(ModelSpec(_target_="mine.Model", checkpoint=str(tmp_path)))


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A folder with a large file of weights, changed an hour ago; and `read`, the files that are read to the end."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fingerprint, "LARGE", 1_000)
    monkeypatch.setattr(fingerprint, "SETTLED_NS", -1)
    fingerprint._digest_of.cache_clear()
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "model.safetensors").write_bytes(b"a" * 2_000)
    read: list[str] = []
    whole = fingerprint._read_digest
    monkeypatch.setattr(fingerprint, "_read_digest", lambda path: (read.append(path.name), whole(path))[1])
    return tmp_path / "weights", read


def digested(folder: Path) -> str:
    """The digest as another process would find it."""
    fingerprint._digest_of.cache_clear()
    return weights_digest(ModelSpec("harness.adapters.open_clip.OpenClip", "domestic", checkpoint=str(folder)))


def test_a_large_file_is_read_once_and_by_no_later_process(weights):
    folder, read = weights
    assert digested(folder) == digested(folder)
    assert read == ["model.safetensors"]


def test_a_file_of_equal_size_and_time_that_has_other_content_is_read_again(weights):
    folder, read = weights
    before, file = digested(folder), folder / "model.safetensors"
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    file.write_bytes(b"b" * 2_000)
    os.utime(file, ns=times)
    assert digested(folder) != before
    assert len(read) == 2


def test_a_file_that_has_just_been_changed_may_change_again_and_is_not_kept(weights, monkeypatch):
    monkeypatch.setattr(fingerprint, "SETTLED_NS", 2 * 10**9)
    folder, read = weights
    assert digested(folder) == digested(folder)
    assert len(read) == 2


@pytest.mark.parametrize("note", ["", "[]", "{}", '{"state": 3, "sha256": "x"}', "folder"])
def test_a_cache_that_is_damaged_or_cannot_be_written_is_done_without(weights, note, tmp_path):
    folder, read = weights
    before = digested(folder)
    (kept,) = (tmp_path / "cache" / "digests").iterdir()
    if note == "folder":
        kept.unlink()
        kept.mkdir()
    else:
        kept.write_text(note)
    assert digested(folder) == before
    assert len(read) == 2
