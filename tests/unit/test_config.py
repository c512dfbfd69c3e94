"""The command line becomes typed settings, or one message that names the place and the nearest right name."""

import math
from dataclasses import fields, replace
from itertools import cycle
from pathlib import Path
from typing import get_type_hints

import pytest

from harness.adapters.transformers import TransformersSpec
from harness.config.compose import compose
from harness.config.files import CONF, ConfigFiles
from harness.config.specs import ModelSpec, from_json, to_json
from harness.config.values import faults
from harness.errors import UserError

MINE = """# @package models.mine
defaults: [/spec/transformers@_here_, _self_]
_target_: somewhere.Mine
origin: international
checkpoint: /weights
"""

ODD_NAMES = ["nan", "null", "true", "yes", "1e3", "1_000", "-1", "007", "inf", "模型", "a+b"]


def own_folder(folder: Path, names: list[str]) -> Path:
    """A user's own config folder with these models."""
    (folder / "model").mkdir()
    for name in names:
        (folder / "model" / f"{name}.yaml").write_text(MINE.replace("models.mine", f"models.{name}"))
    return folder


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A user's own config folder with one model."""
    return own_folder(tmp_path, ["mine"])


@pytest.fixture(scope="module")
def odd(tmp_path_factory) -> Path:
    """A user's own config folder with models of odd names."""
    return own_folder(tmp_path_factory.mktemp("odd"), ["mine", *ODD_NAMES])


@pytest.fixture(scope="module")
def everything(odd):
    """All that is bundled and the user's own, composed once: it takes a second."""
    return settings("model=[all,served]", "task=all", "dataset=all", config_dir=odd)


def settings(*overrides: str, config_dir: Path | None = None):
    return compose(list(overrides), [config_dir] if config_dir else [], absent=True).run


def refused(*overrides: str, config_dir: Path | None = None) -> str:
    with pytest.raises(UserError) as raised:
        compose(list(overrides), [config_dir] if config_dir else [])
    return str(raised.value)


def test_every_model_task_and_dataset_in_conf_composes(everything):
    assert set(everything.models) == {*ConfigFiles().members("model"), "mine", *ODD_NAMES}
    assert set(everything.tasks) == {"vqa", "captioning", "retrieval", "classification"}
    assert set(everything.datasets) == set(ConfigFiles().members("dataset"))
    assert all(isinstance(spec, ModelSpec) for spec in everything.models.values())


def test_a_model_of_the_users_own_is_found_beside_ours(mine, everything):
    run = settings("model=mine", "models.mine.batch_size=4", config_dir=mine)
    assert isinstance(run.models["mine"], TransformersSpec)
    assert run.models["mine"].batch_size == 4
    assert {"mine", "pocket-clip"} < set(everything.models)


def test_a_list_may_be_written_with_or_without_brackets():
    for tasks in ("vqa,captioning", "[vqa,captioning]"):
        assert list(settings("model=pocket-clip", f"task={tasks}").tasks) == ["vqa", "captioning"]


def test_a_model_is_taken_out_with_a_tilde(mine):
    assert list(settings("model=[mine,pocket-clip]", "~models.mine", config_dir=mine).models) == ["pocket-clip"]


def test_an_origin_names_its_models(mine):
    run = settings("model=international", config_dir=mine)
    assert "mine" in run.models
    assert {spec.origin for spec in run.models.values()} == {"international"}


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_name_that_could_be_read_as_a_number_or_as_nothing_is_a_name(odd, everything, name):
    run = settings(f"model={name},mine", f"run={name}", config_dir=odd)
    assert list(run.models) == [name, "mine"]
    assert run.run == (name if name != "null" else None)
    assert name in everything.models


def test_a_setting_that_cannot_be_taken_apart_is_named(mine):
    said = refused("model=mine", "models.mine.options.depth=[", config_dir=mine)
    assert said.startswith("models.mine.options.depth=[: this cannot be read as a value: ")


@pytest.mark.parametrize("name", ["对比 (一)", "it's", "1e3", "nan", "[a,b]", "{a: 1}", "a b", "null-ish", "100%"])
def test_run_names_and_paths_are_taken_as_they_are(mine, name):
    run = settings("model=mine", f"run={name}", f"data_dir=/数据 (1)/{name}", config_dir=mine)
    assert run.run == name
    assert run.data_dir == f"/数据 (1)/{name}"


def test_options_of_an_adapter_are_free(mine):
    assert settings("model=mine", "models.mine.options.depth=3", config_dir=mine).models["mine"].options == {"depth": 3}


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ([], 2),
        (["batch_size=4"], 4),
        (["batch_size=auto"], None),
        (["models.mine.batch_size=8"], 8),
        (["models.mine.batch_size=8", "batch_size=4"], 8),
    ],
)
def test_a_batch_size_on_the_command_line_beats_a_models_file_and_that_of_one_model_beats_that_of_all(
    mine, said, found
):
    file = mine / "model" / "mine.yaml"
    file.write_text(file.read_text("utf-8") + "batch_size: 2\n", "utf-8")
    run = settings("model=mine", *said, config_dir=mine)
    assert (run.models["mine"].batch_size or run.batch_size) == found


def test_auto_batch_size_is_no_number(mine):
    assert settings("model=mine", "batch_size=auto", config_dir=mine).batch_size is None
    assert settings("model=mine", "batch_size=7", config_dir=mine).batch_size == 7


def test_misspelt_names_are_told_the_nearest_right_one(mine):
    assert "Did you mean 'mine'?" in refused("model=mien", config_dir=mine)
    assert "Did you mean 'vqa'?" in refused("task=vqaa")
    assert "Did you mean 'pocket'?" in refused("dataset=poket")
    assert "Did you mean 'quick'?" in refused("latency=qick")
    assert "Did you mean 'models'?" in refused("modls.mine.batch_size=1")
    assert "Did you mean 'mine'?" in refused("model=mine", "models.mien.batch_size=1", config_dir=mine)


def test_a_misspelt_key_names_the_key_and_its_neighbour(mine):
    message = refused("model=mine", "models.mine.bach_size=3", config_dir=mine)
    assert "models.mine.bach_size" in message
    assert "Did you mean 'batch_size'?" in message


def test_a_bad_type_names_the_key_and_the_value(mine):
    message = refused("model=mine", "models.mine.batch_size=many", config_dir=mine)
    assert "models.mine.batch_size" in message
    assert "many" in message
    assert "limit" in refused("model=mine", "limit=few", config_dir=mine)
    assert "at least 1" in refused("model=mine", "limit=0", config_dir=mine)


NUMBERS = [
    *("limit", "batch_size", "seed"),
    *("models.mine.batch_size", "models.mine.max_new_tokens", "tasks.vqa.max_new_tokens"),
    *("engine.gpus", "engine.prepare_ahead", "engine.timeout_s", "models.mine.parameters"),
    *("latency.warmups", "latency.samples", "latency.seconds", "latency.fixed_tokens"),
]


NO_NUMBERS = ["-1", "nan", "inf", "1e400", "true", "", "[1]", "{a: 1}", "ten"]


@pytest.mark.parametrize(
    ("key", "value"), [*zip(NUMBERS, cycle(NO_NUMBERS)), *(("latency.seconds", value) for value in NO_NUMBERS)]
)
def test_a_number_that_cannot_be_is_told_with_what_it_may_be(mine, key, value):
    said = refused("model=mine", f"{key}={value}", config_dir=mine)
    assert said.startswith(f"{key}={value}: give a ")
    assert "number" in said


def test_every_number_among_the_settings_is_finite_and_not_negative(mine):
    """Whatever is added to the settings later is checked too, because this test finds it by itself."""
    run = settings("model=mine", config_dir=mine)
    found = []
    for group in (run, run.engine, run.latency, run.report, *run.models.values(), *run.tasks.values()):
        kinds = get_type_hints(type(group))
        found += [(group, f.name) for f in fields(group) if kinds[f.name] in (int, float, int | None, float | None)]
    assert len(found) >= len(NUMBERS)
    for group, name in found:
        for value in (-1, math.nan, math.inf, 10**400):
            assert name in {key for key, *_ in faults(replace(group, **{name: value}))}, name


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["models.mine.options.depth=nan"], "models.mine.options.depth=nan: give a finite number."),
        (["latency.mode=fast"], "latency.mode=fast: this is unknown. Known: full, off, quick."),
        (["report.language=cn"], "report.language=cn: this is unknown. Known: en, zh."),
        (["report.charts=maybe"], "report.charts=maybe: give true or false."),
        (["models.mine.languages=en"], "models.mine.languages=en: give a list of en, zh."),
        (["models.mine.checkpoint.x=3"], "models.mine.checkpoint.x=3: give a text."),
        (["models=5"], "models=5: give a mapping, such as {key: value}."),
        (["models..x=3"], "'models..x' is not the name of a setting."),
        (["models.mine.revision=${nothing}"], "${nothing} stands for a setting, and there is none of that name"),
        (["~limit"], "~limit: this is not in the run."),
        (["engine@x=local"], "There is no setting 'engine@x'. Did you mean 'engine'?"),
        (["limit@x=3"], "There is no setting 'limit@x'. Did you mean 'limit'?"),
    ],
)
def test_what_a_library_would_say_in_words_of_its_own_is_said_in_ours(mine, words, said):
    assert said in refused("model=mine", *words, config_dir=mine)


def test_a_value_of_the_command_line_is_not_blamed_on_the_file(mine):
    assert refused("model=mine", "models.mine.batch_size=0", config_dir=mine).startswith("models.mine.batch_size=0: ")


def test_of_many_names_none_of_which_is_near_the_first_few_are_told_and_the_command_for_all():
    said = refused("model=xyzzy")
    assert len(said) < 200
    assert said.endswith(" more (`harness list models`).")


def test_a_missing_value_names_the_file(mine):
    file = mine / "model" / "mine.yaml"
    file.write_text(MINE.replace("checkpoint: /weights\n", ""))
    message = refused("model=mine", config_dir=mine)
    assert str(file) in message
    assert "checkpoint" in message


def test_an_unknown_key_in_a_file_names_the_file(mine):
    file = mine / "model" / "mine.yaml"
    file.write_text(MINE + "bach_size: 3\n")
    message = refused("model=mine", config_dir=mine)
    assert str(file) in message
    assert "Did you mean 'batch_size'?" in message


def test_unknown_origin_prompt_and_dtype_are_refused(mine):
    assert "Did you mean 'domestic'?" in refused("model=mine", "models.mine.origin=domestik", config_dir=mine)
    assert "no such prompt profile" in refused("model=mine", "models.mine.prompt=chaat", config_dir=mine)
    assert "Did you mean 'bfloat16'?" in refused("model=mine", "models.mine.dtype=bfloat", config_dir=mine)


def test_a_word_that_is_no_setting_says_how_to_write_one():
    assert "key=value" in refused("vqq")
    assert "did you mean task=vqa?" in refused("vqa")
    assert "did you mean model=pocket-clip?" in refused("pocket-clip")


def test_settings_survive_json(mine):
    run = settings("model=mine", "limit=3", config_dir=mine)
    assert from_json(to_json(run)) == run


def test_every_prompt_profile_speaks_both_languages(everything):
    assert set(everything.prompts) == set(ConfigFiles().members("prompt"))
    for name, prompt in everything.prompts.items():
        assert vars(prompt)
        for field, wording in vars(prompt).items():
            if field == "own":  # it is for tasks from outside, and there is none
                assert not wording
                continue
            assert set(wording) == {"en", "zh"}, f"{name}.{field}"


def test_a_set_composes_only_the_models_that_are_here_and_names_the_others(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    run, from_sets, _ = compose(["model=all"])
    assert set(run.models) == {
        name for name in ConfigFiles().members("model") if name.startswith(("pocket-", "fusion-"))
    }
    served = {name for name, file in ConfigFiles().members("model").items() if "/spec/served@" in file.read_text()}
    assert from_sets == set(ConfigFiles().members("model")) - served
    domestic, from_sets, _ = compose(["model=domestic"])
    assert set(domestic.models) == {"pocket-qwen3-vl", "pocket-internvl", "pocket-chinese-clip"}
    assert "ernie-4_5-vl-28b" in from_sets
    assert "gemma3-4b" not in from_sets


def test_a_model_of_a_set_that_a_setting_brings_here_is_composed(tmp_path):
    run, from_sets, _ = compose(["model=all", f"models.gemma3-4b.checkpoint={tmp_path}", "~models.pocket-clip"])
    assert run.models["gemma3-4b"].checkpoint == str(tmp_path)
    assert "gemma3-4b" in from_sets
    assert "pocket-clip" not in from_sets | set(run.models)


@pytest.mark.parametrize("name", ["a/b", "..", " ", "../x", "a\\b"])
def test_a_run_whose_name_cannot_be_a_folders_is_refused(name):
    assert "cannot be the name of a folder" in refused(f"run={name}")


def test_package_headers_match_the_files_names():
    for group in ("model", "task", "dataset", "prompt"):
        files = list((CONF / group).glob("*.yaml"))
        assert files
        for file in files:
            assert file.read_text().startswith(f"# @package {group}s.{file.stem}\n"), file


def test_meteor_is_asked_for_by_the_captioning_task_alone():
    run = compose(["task=all", "tasks.captioning.meteor=true"]).run
    assert [name for name, task in run.tasks.items() if getattr(task, "meteor", False)] == ["captioning"]
    with pytest.raises(UserError, match="meteor"):
        compose(["task=all", "tasks.vqa.meteor=true"])


def test_a_dtype_on_the_command_line_is_that_of_all_models_but_of_one_that_has_its_own_there(mine):
    words = ["model=[mine,pocket-clip]", "dtype=bfloat16", "models.mine.dtype=float16"]
    found = {name: spec.dtype for name, spec in settings(*words, config_dir=mine).models.items()}
    assert found == {"mine": "float16", "pocket-clip": "bfloat16"}
    assert "Did you mean 'bfloat16'" in refused("model=mine", "dtype=bfloat", config_dir=mine)


def test_bundled_models_compute_the_same_digits_everywhere(everything):
    bundled = {name: spec for name, spec in everything.models.items() if spec.checkpoint.startswith("bundled:")}
    assert len(bundled) > 5
    assert {spec.dtype for spec in bundled.values()} == {"float32"}


def test_a_data_set_without_a_task_brings_its_tasks(mine):
    assert set(settings("model=mine", "dataset=pocket", config_dir=mine).tasks) == {
        "vqa", "captioning", "retrieval", "classification"
    }  # fmt: skip
    assert set(settings("model=mine", "dataset=pocket-audio", config_dir=mine).tasks) == {"vqa"}
    assert set(settings("model=mine", config_dir=mine).tasks) == {"vqa"}
    assert set(settings("model=mine", "dataset=pocket", "task=captioning", config_dir=mine).tasks) == {"captioning"}


def test_a_chat_model_runs_behind_a_server_by_one_setting_and_others_are_refused():
    from harness.adapters.served import ServedSpec

    run = settings(
        "model=pocket-smolvlm", "models.pocket-smolvlm.server=transformers", "servers.transformers.ready_s=9"
    )
    spec = run.models["pocket-smolvlm"]
    assert isinstance(spec, ServedSpec)
    assert (spec._target_, spec.checkpoint) == ("harness.adapters.served.chat.Served", "bundled:pocket-smolvlm")
    assert (spec.launch.ready_s, spec.concurrency, spec.remote) == (9, 4, False)
    assert from_json(to_json(run)) == run
    assert "Did you mean 'vllm'" in refused("model=pocket-smolvlm", "models.pocket-smolvlm.server=vlm")
    assert "only chat models" in refused("model=pocket-clip", "models.pocket-clip.server=vllm")
    assert "a server alone" in refused("model=pocket-smolvlm", "models.pocket-smolvlm.gpus=2")
