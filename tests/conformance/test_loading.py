"""Weights that are missing, broken or of another model are one clear message; hub ids load like local folders."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import tiny_chat
import tiny_dual
from safetensors.torch import save

from harness.adapters.open_clip import OpenClip, OpenClipSpec
from harness.adapters.transformers import TransformersSpec
from harness.adapters.transformers.chat import ChatModel
from harness.adapters.transformers.dual import Clap, TransformersDual
from harness.adapters.transformers.labels import LabelAnswers
from harness.adapters.transformers.prompted import Git
from harness.clock import Clock
from harness.errors import UserError
from harness.records import Media, Request


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    tiny_dual.clip(folder)
    return folder


@pytest.fixture(scope="module")
def chat_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("smolvlm")
    tiny_chat.smolvlm(folder)
    return folder


@pytest.fixture
def copied(clip_folder, tmp_path):
    """A copy of the CLIP folder, to be damaged."""
    return shutil.copytree(clip_folder, tmp_path / "copy")


def load(adapter_class, checkpoint, *, dtype: str = "float32", **fields):
    spec_class = OpenClipSpec if adapter_class is OpenClip else TransformersSpec
    spec = spec_class(_target_="x", origin="domestic", checkpoint=str(checkpoint), dtype=dtype, **fields)
    adapter = adapter_class(spec)
    adapter.load("cpu", Clock())
    return adapter


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"There is no folder .*nowhere"):
        load(TransformersDual, tmp_path / "nowhere")


def test_a_hub_id_that_was_not_fetched_says_how_to_bring_it():
    with pytest.raises(
        UserError, match=r"nobody/nothing is not on this machine\. 'harness fetch model=NAME' brings it"
    ):
        load(TransformersDual, "nobody/nothing")


def test_a_revision_that_was_not_fetched_is_named():
    with pytest.raises(UserError, match="nobody/nothing at revision abc is not on this machine"):
        load(TransformersDual, "nobody/nothing", revision="abc")


def test_a_hub_id_loads_like_the_folder(clip_folder, tmp_path, monkeypatch):
    repository = tmp_path / "models--somebody--clip"
    shutil.copytree(clip_folder, repository / "snapshots" / "0123abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    hub, local = load(TransformersDual, "somebody/clip"), load(TransformersDual, clip_folder)
    requests = [Request(("a text",))]
    assert (hub.embed(hub.prepare(requests, "embed")) == local.embed(local.prepare(requests, "embed"))).all()


def test_weights_are_placed_in_the_dtype_of_the_spec(clip_folder):
    import torch

    adapter = load(TransformersDual, clip_folder, dtype="bfloat16")
    assert {parameter.dtype for parameter in adapter.model.parameters()} == {torch.bfloat16}
    vectors = adapter.embed(adapter.prepare([Request(("a text",))], "embed"))
    assert abs((vectors**2).sum() - 1) < 1e-5, "rows are normalised in float32 whatever the model's dtype"


def test_weights_without_a_parameter_are_refused_rather_than_filled_with_chance(copied):
    from safetensors.torch import load_file, save_file

    weights = load_file(copied / "model.safetensors")
    del weights["text_projection.weight"]
    save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lack 1 of the model's parameters, such as text_projection\.weight"):
        load(TransformersDual, copied)


def test_a_truncated_weights_file_is_an_error_that_names_the_folder(copied):
    file = copied / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match="copy does not load as a TransformersDual"):
        load(TransformersDual, copied)


def test_pickled_weights_are_not_read(copied):
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(copied / "model.safetensors"), copied / "pytorch_model.bin")
    (copied / "model.safetensors").unlink()
    with pytest.raises(UserError, match="does not load as a TransformersDual"):
        load(TransformersDual, copied)


def test_a_folder_of_something_else_is_an_error(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="does not load as a ChatModel"):
        load(ChatModel, tmp_path)


def test_a_chat_model_without_a_template_is_refused(chat_folder, tmp_path):
    folder = shutil.copytree(chat_folder, tmp_path / "base")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match="has no chat template"):
        load(ChatModel, folder)


def test_a_chat_template_that_the_tokenizer_alone_has_is_used(chat_folder, tmp_path):
    from transformers import AutoTokenizer

    folder = shutil.copytree(chat_folder, tmp_path / "base")
    (folder / "chat_template.jinja").rename(tmp_path / "template")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["chat_template"] = (tmp_path / "template").read_text()
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    assert not tokenizer.chat_template
    moved, whole = load(ChatModel, folder), load(ChatModel, chat_folder)
    request = [Request(("Is it red?",))]
    ids = [model.prepare(request, "generate").tensors["input_ids"].tolist() for model in (moved, whole)]
    assert ids[0] == ids[1]


def test_a_class_that_transformers_does_not_have_is_named(chat_folder):
    with pytest.raises(UserError, match=r"has no model class 'Qwen9' \(auto_class\)"):
        load(ChatModel, chat_folder, auto_class="Qwen9")


def test_a_checkpoint_of_another_family_is_an_error(clip_folder, chat_folder):
    with pytest.raises(UserError, match="does not load as a Git: it holds a CLIPModel, which does not generate text"):
        load(Git, clip_folder)
    with pytest.raises(UserError, match="a model of type 'clip', and AutoModelForImageTextToText builds none of these"):
        load(ChatModel, clip_folder)
    with pytest.raises(UserError, match="holds a SmolVLMModel, which has no embedding of text"):
        load(TransformersDual, chat_folder)


@pytest.mark.parametrize("adapter", [TransformersDual, ChatModel, Clap, LabelAnswers])
def test_a_config_of_a_foreign_model_is_refused_before_anything_of_its_size_is_built(adapter, tmp_path, monkeypatch):
    """A text model of 7 B parameters, of which the folder has the config and not the weights."""
    import torch

    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 4096,
        "num_hidden_layers": 32,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(save({"a": torch.ones(1)}, {"format": "pt"}))
    monkeypatch.setattr("transformers.PreTrainedModel.from_pretrained", lambda *_, **__: pytest.fail("it is built"))
    with pytest.raises(UserError, match=r"'llama'|LlamaModel"):
        load(adapter, tmp_path)


def test_git_is_refused_where_the_library_decodes_it_wrongly(chat_folder, monkeypatch):
    monkeypatch.setattr("transformers.__version__", "5.17.0")
    with pytest.raises(UserError, match=r"GIT decodes wrongly with its cache in transformers 5\.17\.0: update"):
        load(Git, chat_folder)


def test_decoding_settings_of_a_checkpoint_are_replaced_by_greedy_ones(chat_folder, tmp_path):
    folder = shutil.copytree(chat_folder, tmp_path / "sampling")
    settings = json.loads((folder / "generation_config.json").read_text())
    settings |= {"do_sample": True, "temperature": 5.0, "num_beams": 3, "repetition_penalty": 1.5, "eos_token_id": 2}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    sampling, plain = load(ChatModel, folder), load(ChatModel, chat_folder)
    requests = [Request(("what is it?",), max_new_tokens=12)]
    answers = [adapter.generate(adapter.prepare(requests, "generate"))[0].text for adapter in (sampling, plain)]
    assert answers[0] == answers[1]
    assert sampling.model.generation_config.eos_token_id == 2


def test_open_clip_needs_its_config(clip_folder):
    with pytest.raises(UserError, match=r"has no open_clip_config\.json"):
        load(OpenClip, clip_folder)


def test_open_clip_does_not_read_pickles(tmp_path):
    tiny_dual.open_clip_vit(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "open_clip_pytorch_model.bin")
    with pytest.raises(UserError, match=r"has no \.safetensors file"):
        load(OpenClip, tmp_path)


def test_open_clip_weights_of_another_width_are_an_error(tmp_path):
    tiny_dual.open_clip_vit(tmp_path)
    config = json.loads((tmp_path / "open_clip_config.json").read_text())
    config["model_cfg"]["embed_dim"] = 8
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="does not load as an open_clip model"):
        load(OpenClip, tmp_path)


def test_an_open_clip_tag_is_looked_up_in_its_table():
    with pytest.raises(UserError, match=r"timm/vit_base_patch32_clip_224\.openai is not on this machine"):
        load(OpenClip, "ViT-B-32", pretrained="openai")
    with pytest.raises(UserError, match=r"knows no 'opnai' weights of ViT-B-32\. Did you mean 'openai'\?"):
        load(OpenClip, "ViT-B-32", pretrained="opnai")


@pytest.fixture
def compiled(monkeypatch) -> list[str]:
    """The parts of models that were called compiled, without a compiler's minutes."""
    import torch

    called: list[str] = []

    def compile_(module, **options):
        assert options == {"dynamic": True}

        def call(*arguments, **named):
            called.append(type(module).__name__)
            return module._call_impl(*arguments, **named)

        module._compiled_call_impl = call

    monkeypatch.setattr(torch.nn.Module, "compile", compile_)
    return called


@pytest.mark.parametrize("build", ["clip", "open_clip_vit"])
def test_a_dual_encoder_that_is_to_be_compiled_runs_its_towers_compiled(build, tmp_path, compiled):
    getattr(tiny_dual, build)(tmp_path)
    family = TransformersDual if build == "clip" else OpenClip
    for wanted in (False, True):
        adapter = load(family, tmp_path, compile=wanted)
        for part in ("a text", Media("image", "red", np.full((8, 8, 3), 200, np.uint8))):
            adapter.embed(adapter.prepare([Request((part,))], "embed"))
            assert bool(compiled) == wanted
            compiled.clear()


def test_a_chat_model_that_is_to_be_compiled_generates_compiled(chat_folder, compiled):
    for wanted in (False, True):
        adapter = load(ChatModel, chat_folder, compile=wanted)
        adapter.generate(adapter.prepare([Request(("Why?",), max_new_tokens=3)], "generate"))
        assert bool(compiled) == wanted
