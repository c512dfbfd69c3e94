"""What is on disk is valid whatever happened: torn lines, half batches, other fingerprints."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from harness.errors import UserError
from harness.media import Read
from harness.records import Record
from harness.run.driver import resumed
from harness.store.cells import CellStore
from harness.store.files import cache_folder, replacing, write_json
from harness.store.runs import RunFolder, runs
from harness.train.recipes import work_folder

MANIFEST = {"harness": "0.2.0", "started": "", "seed": 0, "config": {}, "machine": {}, "models": {}, "datasets": {},
            "prompts": {}, "left_out": [], "cells": []}  # fmt: skip
"""The least that run.json may say."""


def record(name: str) -> Record:
    return Record(name, "c", references=("是",), answer="no\u2028yes", scores=(0.5, 1.0), slices={"kind": "a"})


@pytest.fixture
def cell(tmp_path) -> CellStore:
    return CellStore(tmp_path / "model" / "vqa.pocket.en")


def test_records_come_back_as_they_went(cell):
    cell.append([record("1"), record("2")])
    cell.close()
    assert list(cell.records()) == [record("1"), record("2")]


def test_an_empty_answer_is_not_the_same_as_none(cell):
    cell.append([Record("1", "c", answer=""), Record("2", "c", error="it crashed")])
    cell.close()
    assert [r.answer for r in cell.records()] == ["", None]


def test_a_torn_last_line_is_dropped(cell):
    cell.append([record("1"), record("2")])
    cell.close()
    whole = cell.records_path.read_bytes()
    for cut in range(len(whole) // 2 + 1, len(whole)):
        cell.records_path.write_bytes(whole[:cut])
        assert [r.id for r in cell.records()] == ["1"]


def test_only_the_kept_records_stay_and_appending_goes_on_after_them(cell):
    cell.append([record("1"), record("2")])
    cell.close()
    cell.records_path.write_bytes(cell.records_path.read_bytes()[:-5])
    cell.keep({"1"})
    cell.append([record("3")])
    cell.close()
    assert [r.id for r in cell.records()] == ["1", "3"]


def test_what_a_loss_of_power_left_of_records_is_dropped_and_each_is_kept_once(cell):
    cell.append([record("1"), record("2"), record("3")])
    cell.close()
    first, second, third = cell.records_path.read_bytes().splitlines(keepends=True)
    cell.records_path.write_bytes(first + b"\0" * 40 + second + first + b'{"id": "4"}\n' + third + third[:9])
    with pytest.raises(UserError, match=r"records\.jsonl, line 2, is damaged"):
        list(cell.records())
    assert cell.ids() == {"1", "3"}
    cell.keep({"1", "3"})
    assert list(cell.records()) == [record("1"), record("3")]


def test_a_cell_is_complete_only_after_finish_and_its_sum_is_that_of_the_file(cell):
    cell.append([record("1")])
    assert not cell.complete
    cell.finish({"load_s": 1.0})
    assert cell.complete
    assert cell.outcome()["count"] == 1


def test_another_fingerprint_is_refused_and_says_what_changed(cell):
    cell.begin({"fingerprint": {"weights": "a", "prompts": "b", "adapter": "d"}})
    cell.append([record("1")])
    with pytest.raises(UserError, match=r"another prompts \(was b, is now c\), adapter \(was d, is now None\)\."):
        cell.begin({"fingerprint": {"weights": "a", "prompts": "c"}})


def test_a_cell_without_answers_takes_another_fingerprint(cell):
    cell.begin({"fingerprint": {"weights": "a"}})
    cell.fail("failed", "the weights are not there")
    cell.begin({"fingerprint": {"weights": "b"}})
    assert cell.info() == {"fingerprint": {"weights": "b"}}
    assert not cell.failed


@pytest.fixture
def shown(cell, tmp_path) -> Path:
    """A picture that an answered sample of the cell showed."""
    path = tmp_path / "图 1.png"
    path.write_bytes(b"red")
    cell.begin({"fingerprint": {}})
    found = path.stat()
    digest = hashlib.sha256(b"red").hexdigest()[:16]
    cell.append_media([Read(str(path), digest, found.st_size, found.st_mtime_ns)])
    cell.append([record("1")])
    return path


def test_another_picture_in_the_place_of_one_that_was_answered_is_refused_by_name(cell, shown):
    shown.write_bytes(b"blu")
    os.utime(shown, ns=(1, 1))
    with pytest.raises(UserError, match=r"cannot go on, because files .* have changed, or are gone: .*图 1\.png\."):
        cell.begin({"fingerprint": {}})
    shown.unlink()
    with pytest.raises(UserError, match=r"图 1\.png"):
        cell.begin({"fingerprint": {}})


def test_a_picture_that_was_copied_or_touched_is_the_same_picture(cell, shown):
    os.utime(shown, ns=(1, 1))
    cell.begin({"fingerprint": {}})


def test_a_cell_that_was_given_up_drops_its_failures_and_takes_another_fingerprint_where_nothing_is_left(cell):
    cell.begin({"fingerprint": {"adapter": "a"}})
    failed = Record("1", "c", error="torn")
    cell.append([failed])
    cell.append_vectors("image", ["1"], np.full((1, 3), np.nan), {"1": "torn"})
    cell.fail("failed", "20 of 20 failed", again=True)
    cell.begin({"fingerprint": {"adapter": "b"}})
    assert cell.info() == {"fingerprint": {"adapter": "b"}}
    assert list(cell.records()) == []
    cell.append([failed, record("2")])
    cell.fail("failed", "20 of 20 failed", again=True)
    cell.begin({"fingerprint": {"adapter": "b"}})
    assert [r.id for r in cell.records()] == ["2"]


def test_vectors_come_back_and_are_cut_to_whole_batches(cell):
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    cell.append_vectors("image", list("abcd"), rows, {"b": "did not open"})
    ids, back, errors = cell.vectors("image")
    assert ids == list("abcd")
    assert np.array_equal(back, rows)
    assert errors == {"b": "did not open"}
    cell.keep_vectors("image", 2)
    assert cell.vectors("image")[0] == ["a", "b"]


def test_vectors_without_their_index_line_do_not_count(cell):
    rows = np.ones((2, 3), dtype=np.float32)
    cell.append_vectors("text", ["a", "b"], rows, {})
    index = cell.folder / "embeddings" / "text.jsonl"
    index.write_bytes(index.read_bytes()[:-4])
    assert cell.vectors("text")[0] == ["a"]


@pytest.mark.parametrize("side", ["image", "text"])
def test_vectors_that_a_loss_of_power_left_as_zeros_do_not_count_nor_what_follows(cell, side):
    rows = np.arange(1, 13, dtype=np.float32).reshape(4, 3)
    cell.append_vectors(side, list("abcd"), rows, {})
    data = cell.folder / "embeddings" / f"{side}.f32"
    whole = data.read_bytes()
    data.write_bytes(whole[:12] + bytes(12) + whole[24:])
    assert cell.vectors(side)[0] == ["a"]
    cell.keep_vectors(side, 1)
    cell.append_vectors(side, list("bcd"), rows[1:], {})
    ids, back, _ = cell.vectors(side)
    assert ids == list("abcd")
    assert np.array_equal(back, rows)


def test_a_run_name_that_is_taken_is_refused(tmp_path):
    write_json(RunFolder.create(tmp_path, "对比 (1)").path / "run.json", {})
    with pytest.raises(UserError, match=r"exists already.*harness resume '对比 \(1\)'"):
        RunFolder.create(tmp_path, "对比 (1)")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").touch()
    with pytest.raises(UserError, match="holds no run"):
        RunFolder.create(tmp_path, "notes")


def test_a_folder_left_by_a_run_that_was_killed_before_it_began_is_used(tmp_path):
    path = RunFolder.create(tmp_path, "early").path
    (path / "lock").touch()
    assert RunFolder.create(tmp_path, "early").path == path


def test_an_unknown_run_is_told_the_nearest(tmp_path):
    write_json(RunFolder.create(tmp_path, "monday").path / "run.json", {})
    assert [run.name for run in runs(tmp_path)] == ["monday"]
    with pytest.raises(UserError, match="Did you mean 'monday'"):
        RunFolder.open(tmp_path, "munday")


def test_a_run_of_a_version_with_other_settings_cannot_go_on_and_says_so(tmp_path):
    folder = RunFolder.create(tmp_path, "old")
    write_json(folder.path / "run.json", MANIFEST | {"harness": "0.3.0", "config": {"spec": "painting"}})
    with pytest.raises(UserError, match=r"begun by harness 0\.3\.0 .*'painting'"):
        resumed(folder)


def test_a_folder_without_a_run_is_told_so(tmp_path):
    with pytest.raises(UserError, match=r"run\.json is not there: .* is not a run folder"):
        RunFolder(tmp_path).manifest()


def test_json_is_replaced_whole(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="Out of range"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}


def test_a_run_of_the_first_version_cannot_go_on_and_is_told_so_in_a_sentence(tmp_path):
    folder = RunFolder.create(tmp_path, "first")
    write_json(folder.path / "run.json", MANIFEST | {"harness": "0.1.0", "config": {"spec": "run"}})
    with pytest.raises(UserError, match=r"begun by harness 0\.1\.0 .*fingerprints.*still reads the old one\.$"):
        resumed(folder)


@pytest.mark.parametrize(
    ("environment", "platform", "found"),
    [
        ({"HARNESS_CACHE": "/fast/cache", "XDG_CACHE_HOME": "/x"}, "linux", "/fast/cache"),
        ({"XDG_CACHE_HOME": "/x"}, "linux", "/x/harness"),
        ({}, "linux", "/home/me/.cache/harness"),
        ({}, "darwin", "/home/me/Library/Caches/harness"),
    ],
)
def test_there_is_one_folder_for_what_can_be_made_again(environment, platform, found, monkeypatch):
    for name in ("HARNESS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (environment | {"HOME": "/home/me"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.platform", platform)
    assert str(cache_folder()) == found
    assert str(work_folder()) == f"{found}/training"


def test_a_shared_file_has_a_name_of_its_own_until_it_is_whole_and_a_failure_leaves_nothing(tmp_path):
    path = tmp_path / "shared.bin"
    with replacing(path, shared=True) as first, replacing(path) as second:
        assert len(list(tmp_path.iterdir())) == 2
        first.write(b"first")
        second.write(b"second")
    assert path.read_bytes() == b"first"  # it was closed last
    with pytest.raises(ZeroDivisionError), replacing(path, shared=True):
        raise ZeroDivisionError
    assert [file.name for file in tmp_path.iterdir()] == ["shared.bin"]


def test_runs_without_a_name_that_begin_in_one_second_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr("time.strftime", lambda *_: "2026-01-02_03-04-05")
    names = []
    for _ in range(3):
        folder = RunFolder.create(tmp_path, None)
        write_json(folder.path / "run.json", MANIFEST)
        names.append(folder.name)
    assert names == ["2026-01-02_03-04-05", "2026-01-02_03-04-05-2", "2026-01-02_03-04-05-3"]
