"""`harness doctor` tells what is there, what is not, and what to do, through the real command."""

import json
import re

import pytest

from harness.cli import doctor
from harness.measure import machine


def examined(world, monkeypatch, *words, status=0, **environment):
    for name in ("HARNESS_DATA", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(world.folder / "hub home"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    rows = json.loads(world.harness("doctor", "--json", *words, status=status).stdout)
    return {row["check"]: row for row in rows}


def test_every_lack_comes_with_what_to_do(world, monkeypatch):
    found = examined(world, monkeypatch)
    assert {"Python", "libraries", "device", "memory", "disk for results", "disk for models", "Chinese font", "METEOR",
            "bundled models", "data folder", "fetched models", "hub", "extra 'zh'"} <= set(found)  # fmt: skip
    lacks = {check: row["to_do"] for check, row in found.items() if row["state"] != "ok"}
    assert {"data folder", "fetched models"} <= set(lacks)  # whatever else this machine has
    assert all(lacks.values())
    assert found["Python"]["state"] == found["bundled models"]["state"] == "ok"
    assert "pocket-clip" in found["bundled models"]["found"]


def test_the_environment_is_read_as_a_run_would_read_it(world, monkeypatch):
    snapshot = world.folder / "hub home" / "hub" / "models--owner--name" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (world.folder / "data").mkdir()
    found = examined(world, monkeypatch, HARNESS_DATA=str(world.folder / "data"), HF_HUB_OFFLINE="1")
    assert found["data folder"]["state"] == "ok"
    assert found["fetched models"]["found"].startswith("1 in ")
    assert "HF_HUB_OFFLINE" in found["hub"]["to_do"]
    found = examined(world, monkeypatch, HARNESS_DATA=str(world.folder / "nowhere"))
    assert "is not a folder" in found["data folder"]["found"]


def test_a_token_is_never_shown(world, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    done = world.harness("doctor")
    assert "a token" in done.stdout
    assert "hf_secret" not in done.stdout


def test_a_place_that_cannot_be_written_is_broken_and_the_status_says_so(world, monkeypatch):
    (world.folder / "file").write_text("")
    found = examined(world, monkeypatch, f"results_dir={world.folder / 'file' / 'results'}", status=1)
    assert found["disk for results"]["state"] == "broken"
    assert "results_dir=" in found["disk for results"]["to_do"]


def test_the_table_is_readable_at_eighty_columns(world, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as at a terminal: what is piped is wider
    world.columns = 80
    text = re.sub(r"\x1b\[[\d;]*m", "", world.harness("doctor").stdout)
    assert "what to do" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text


@pytest.mark.parametrize(("version", "state"), [(None, "broken"), ("2.9.1", "broken"), ("2.11.0+cu128", "ok")])
def test_a_library_that_is_missing_or_too_old_is_named_with_its_remedy(monkeypatch, version, state):
    real = machine.version
    monkeypatch.setattr(machine, "version", lambda name: version if name == "torch" else real(name))
    (row,) = [row for row in doctor._software() if row.check == "libraries"]
    assert row.state == state
    assert ("pip install -U 'torch>=2.11'" in row.to_do) == (state == "broken")
