"""Settings in files of the user's own: which file wins, and what a person is told of one that is wrong."""

import os
import re
from pathlib import Path

import pytest

from harness.config.compose import compose
from harness.errors import UserError

HEAD = "# @package models.bad\ndefaults: [/spec/model@_here_, _self_]\n_target_: mine.Model\norigin: in-house\n"
DATASET = "# @package datasets.bad\ndefaults: [/spec/dataset@_here_, _self_]\nsource: jsonl\ntasks: [classification]\n"


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder of settings whose path has every letter that careless code trips over."""
    made = tmp_path / "配置 (1) a+b@c, d=e it's"
    (made / "model").mkdir(parents=True)
    (made / "dataset").mkdir()
    return made


def told(folder: Path, group: str = "model") -> str:
    """What is said of the file `bad`, asked for by name, after its path."""
    with pytest.raises(UserError) as raised:
        compose([f"{group}=bad"] + (["model=pocket-clip"] if group != "model" else []), [folder])
    said = str(raised.value)
    assert "\n" not in said
    assert said.startswith(str(folder / group / "bad.yaml"))
    return said.removeprefix(str(folder / group / "bad.yaml"))


@pytest.mark.parametrize("slip", ["options:\n\tdepth: 3", "bach_size: 3", "dtype: float"])
def test_a_set_goes_on_without_the_file_that_is_wrong_and_names_it(folder, slip):
    (folder / "model" / "bad.yaml").write_text(HEAD + slip + "\n")
    (folder / "model" / "good.yaml").write_text(HEAD.replace("models.bad", "models.good"))
    composed = compose(["model=in-house"], [folder])
    assert "good" in composed.run.models
    assert "bad" not in composed.run.models
    assert composed.faults == [f"model 'bad' is left out: {folder / 'model' / 'bad.yaml'}{told(folder)}"]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("options:\n\tdepth: 3", ", line 6, column 1: .*no tabs"),
        ("options: {depth: 3", ", line 6, column 1: "),
        ('license: "MIT', ", line 6, column 1: .*quote"),
        ("license: MIT: yes", ", line 5, column 13: .*must be quoted"),
        ("  license: MIT", ", line 5, column"),
        ("license: MIT\nbatch_size: 2\nlicense: GPL", ", line 7, column 1: 'license' stands in line 5 already"),
        ("license: !!python/object/apply:os.system [true]", ", line 5, column 10: settings have no tags"),
        ("license: !mine x", ", line 5, column 10: settings have no tags"),
        ("license: *unknown", ", line 5, column 10: .*must be quoted"),
        ("options: &a {b: *a}", "alias here stands for what it is part of"),
        ("license: =", ", line 5, column 10: '=' alone must be quoted"),
        ("options: " + "[" * 60 + "]" * 60, "more than 50 levels deep"),
        ("---\nlicense: MIT", ", line 5, column 1: a file holds one document"),
        ("bach_size: 3", ", line 5, column 1: bach_size: there is no such key. Did you mean 'batch_size'"),
        ("batch_size: many", ", line 5, column 1: batch_size=many: give a whole number of at least 1"),
        ("batch_size: 0", ", line 5, column 1: batch_size=0: give a whole number of at least 1"),
        ("batch_size: true", ", line 5, column 1: batch_size=True: give a whole number of at least 1"),
        ("parameters: .nan", ", line 5, column 1: parameters=nan: give a number of at least 0"),
        ("options: {deep: [1, .inf]}", ", line 5, column 11: options.deep=inf: give a finite number"),
        ("developer: !!binary aGVsbG8=", ", line 5, column 12: settings have no tags, such as binary"),
        ('developer: "a\\0b"', ", line 5, column 1: developer=.*: a text holds no null character"),
        ("languages: [en, klingon]", ", line 5, column 1: languages=klingon: this is unknown"),
        ("modalities: [txt]", ", line 5, column 1: .*Did you mean 'text'"),
        ("dtype: float", ", line 5, column 1: dtype=float: this is unknown"),
    ],
)
def test_a_slip_is_one_message_with_file_line_and_column(folder, lines, said):
    (folder / "model" / "bad.yaml").write_text(HEAD + lines + "\n")
    found = told(folder)
    assert re.search(said, found), found


def test_aliases_that_multiply_are_refused_before_they_fill_the_memory(folder):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    (folder / "model" / "bad.yaml").write_text(HEAD + "options:\n" + "".join(f"  {line}\n" for line in lines))
    assert "more than 100,000 keys and values" in told(folder)


@pytest.mark.parametrize(("label", "kind"), [("yes", "true or false"), ("1", "a number"), ("null", "nothing")])
def test_a_label_that_yaml_reads_as_something_else_is_to_be_quoted(folder, label, kind):
    (folder / "dataset" / "bad.yaml").write_text(f"{DATASET}path: x\nlabels: {{en: [cat, {label}]}}\n")
    assert told(folder, "dataset") == f', line 6, column 20: labels: YAML reads {label} as {kind}; quote it: "{label}".'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("# @package models.bad\nlicense: ü\n".encode("utf-16"), ", line 1: this is not UTF-8 text"),
        (HEAD.encode() + b"license: \xff\n", ", line 5: this is not UTF-8 text"),
        (b"# @package models.bad\n\0\n", ", line 2: this is not text"),
        (b"x" * (2**20 + 1), "at most 1,048,576"),
        (b"", ", line 1: the first line must be `# @package models.bad`"),
        (b"# @package models.another\n", ", line 1: the first line must be"),
        (b"# @package models.bad\n- a\n", "settings are written as `key: value`"),
        (b"# @package models.bad\norigin: in-house\n", "the settings have no type"),
    ],
)
def test_what_is_not_a_file_of_settings_is_told_so(folder, content, said):
    (folder / "model" / "bad.yaml").write_bytes(content)
    assert said in told(folder)


@pytest.mark.parametrize("defaults", ["a", "{a: b}", "3"])
def test_defaults_that_are_no_list_are_told_with_their_place(folder, defaults):
    text = HEAD.replace("[/spec/model@_here_, _self_]", defaults)
    (folder / "model" / "bad.yaml").write_text(text)
    assert told(folder).startswith(", line 2, column 11: defaults is a list")


@pytest.mark.parametrize("kind", ["folder", "pipe", "broken link"])
def test_what_is_not_even_a_file_is_told_so(folder, kind):
    place = folder / "model" / "bad.yaml"
    {"folder": place.mkdir, "pipe": lambda: os.mkfifo(place), "broken link": lambda: place.symlink_to("nowhere")}[
        kind
    ]()
    assert "is not a file" in (said := told(folder)) or "cannot be read" in said


@pytest.mark.parametrize("name", ["a b", "a.b", "a,b", "a=b", "it's"])
def test_a_file_whose_name_is_no_name_is_left_out_and_told_of(folder, name):
    file = folder / "model" / f"{name}.yaml"
    file.write_text(HEAD.replace("models.bad", f"models.{name}"))
    (fault,) = compose(["model=all"], [folder]).faults
    assert f"{file}: '{name}' cannot be a name" in fault


def test_the_users_files_win_over_bundled_ones_and_the_last_folder_over_the_others(tmp_path):
    folders = []
    for number, licence in enumerate(("first", "second")):
        folders.append(tmp_path / f"文 ({number})")
        (folders[-1] / "model").mkdir(parents=True)
        for name in ("pocket-clip", f"own-{number}"):
            text = HEAD.replace("models.bad", f"models.{name}") + f"license: {licence}\n"
            (folders[-1] / "model" / f"{name}.yaml").write_text(text)
    run = compose(["model=[pocket-clip,own-0,own-1,pocket-siglip]"], folders).run
    assert {name: spec.license for name, spec in run.models.items() if name != "pocket-siglip"} == {
        "pocket-clip": "second",
        "own-0": "first",
        "own-1": "second",
    }
    assert run.models["pocket-siglip"]._target_ != "mine.Model"


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="there is no such folder"):
        compose(["model=all"], [tmp_path / "nowhere"])
