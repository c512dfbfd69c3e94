"""Keys: they are refused in settings, and the values of the variables that hold them are written nowhere."""

import json

import numpy as np
import pytest
from rich.console import Console

from harness.cli.main import main
from harness.config.compose import compose
from harness.errors import UserError
from harness.records import Record
from harness.run.faults import describe
from harness.run.progress import Progress
from harness.store import secrets
from harness.store.cells import CellStore
from harness.store.files import write_json

KEY = "0123456789abcdef"
MODEL = "# @package models.mine\ndefaults: [/spec/model@_here_, _self_]\n_target_: mine.Model\norigin: in-house\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    "options",
    [
        {"api_key": KEY},
        {"client": {"headers": [{"Authorization": f"Bearer {KEY}"}]}},
        {"apiKey": KEY},
        {"clientSecret": KEY},
        {"db_password": KEY},
        {"api_key": [KEY]},
        {"anything": "sk-short"},
        {"list": [["hf_short"]]},
        {"login": "ghp_short"},
    ],
)
def test_a_file_that_holds_a_key_is_refused_at_its_line_without_showing_it(folder, options):
    (folder / "model" / "mine.yaml").write_text(MODEL + f"options: {json.dumps(options)}\n")
    with pytest.raises(UserError, match=r"mine\.yaml, line 5, column \d+: .*api_key_env") as raised:
        compose(["model=mine"], [folder])
    assert KEY not in str(raised.value)
    assert "short" not in str(raised.value)


@pytest.mark.parametrize(
    "setting",
    [
        f"models.mine.options.api_key={KEY}",
        f"+models.mine.options.x.token='{KEY}'",
        f"models.mine.options={{api_key: {KEY}}}",
        "models.mine.options.anything=hf_short",
        f"models.mine.api_key={KEY}",
    ],
)
def test_a_key_on_the_command_line_is_refused_before_anything_is_written(folder, capsys, setting):
    (folder / "model" / "mine.yaml").write_text(MODEL)
    words = ["run", "model=mine", setting, f"results_dir={folder / 'results'}", "--config-dir", str(folder)]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "api_key_env" in said
    assert KEY not in said
    assert not (folder / "results").exists()


def test_what_only_sounds_like_a_key_is_none(folder):
    options = {
        "api_key_env": "A_VARIABLE_WITH_A_LONG_NAME", "tokenizer": KEY, "max_new_tokens": 4096, "fixed_tokens": KEY,
        "key": "too short", "eos_token": "<|end_of_the_text|>", "name": "task-sk-hf_", "keys": {"a": KEY},
    }  # fmt: skip
    (folder / "model" / "mine.yaml").write_text(MODEL + f"options: {json.dumps(options)}\n")
    assert compose(["model=mine"], [folder]).run.models["mine"].options == options
    assert compose(["model=mine", "models.mine.options.api_key_env=''"], [folder]).run.models


@pytest.fixture
def named(monkeypatch):
    """A value of a variable that settings name, deep in them, with characters that JSON writes in another way."""
    value = 'long "secret" \\ value ü'
    monkeypatch.setattr(secrets, "_NAMED", {"HF_TOKEN"})
    monkeypatch.setenv("MY_SERVICE", value)
    monkeypatch.setenv("MY_SHORT", "short")
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_machine")
    secrets.name_variables({"options": {"servers": [{"api_key_env": "MY_SERVICE"}, {"api_key_env": "MY_SHORT"}]}})
    secrets.name_variables({"api_key_env": ""})
    return value


def test_values_of_named_variables_are_in_no_error_log_or_record(named, tmp_path, capsys):
    assert describe(ValueError(f"401 for {named}, hf_of_the_machine and short")) == (
        "ValueError: 401 for ***, *** and short"
    )
    console = Console(stderr=True, width=200)
    Progress(console).warn(f"w {named}")
    Progress(console).say(f"s {named}")
    assert capsys.readouterr().err == "w ***\ns ***\n"
    store = CellStore(tmp_path / "cell")
    store.append([Record("1", "1", "q", answer=f"my key is {named}")])
    store.append_vectors("text", ["a"], np.zeros((1, 2)), {"a": named})
    store.fail("failed", named)
    write_json(tmp_path / "run.json", {named: [named, "hf_of_the_machine"]})
    written = "".join(path.read_text() for path in tmp_path.rglob("*.json*"))
    assert written.count("***") >= 5
    assert "secret" not in written
    assert "of_the_machine" not in written
    assert [record.answer for record in store.records()] == ["my key is ***"]
