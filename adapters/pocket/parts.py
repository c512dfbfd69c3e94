"""What the pocket models are built from: one tokenizer, the sizes they share, and the shared vision tower's weights."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from harness.pocket.teaching.lessons import corpus
from harness.pocket.teaching.tokenizer import END, PAD, START, build_tokenizer, normalise

from .tower import HEADS, LAYERS, PATCH, SIDE, WIDTH


@cache
def _corpus() -> tuple[str, ...]:
    texts = corpus()
    return (*texts, *map(normalise, texts))


def tokenizer(context: int, named: Mapping[str, str] | None = None, *, masked: bool = True) -> PreTrainedTokenizerFast:
    """The shared tokenizer; `named` special tokens become attributes such as `image_token`, and survive saving.

    `masked` is False for a family whose tokenizer makes no attention mask.
    """
    named = dict(named or {})
    return PreTrainedTokenizerFast(
        tokenizer_object=build_tokenizer(_corpus(), special=named.values()),
        pad_token=PAD,
        bos_token=START,
        eos_token=END,
        cls_token=START,
        sep_token=END,
        model_max_length=context,
        model_input_names=["input_ids", "attention_mask"] if masked else ["input_ids"],
        model_specific_special_tokens=named,
    )


def vision_settings(**more: Any) -> dict[str, Any]:
    """Arguments of a vision config like the tower's."""
    return {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "image_size": SIDE,
        "patch_size": PATCH,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
        **more,
    }


def text_settings(vocabulary: int, **more: Any) -> dict[str, Any]:
    """Arguments of the config of a small language model or text encoder."""
    return {
        "vocab_size": vocabulary,
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 4,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "max_position_embeddings": 512,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        **more,
    }


def square(**more: Any) -> dict[str, Any]:
    """Arguments of an image processor that squeezes to the tower's square and scales to -1..1, as the tower learned."""
    return {"size": {"height": SIDE, "width": SIDE}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, **more}


def tower_weights(folder: Path) -> dict[str, Tensor]:
    """The trained tower's tensors, under the names of SiglipVisionModel without its prefix."""
    return {k.removeprefix("vision_model."): v for k, v in load_file(folder / "model.safetensors").items()}


def transplant(module: nn.Module, weights: Mapping[str, Tensor], names: Mapping[str, str], stacked: str = "") -> None:
    """Copy the tower's `weights` into `module`. `names` maps pieces of the tower's names to the family's.

    `stacked` is the family's piece for self_attn.{q,k,v}_proj where it keeps the three in one. Raises KeyError for a
    name that the module does not have.
    """
    own = dict(module.named_parameters())

    def called(name: str) -> str:
        for old, new in names.items():
            name = name.replace(old, new)
        return name

    with torch.no_grad():
        for name, value in weights.items():
            if stacked and ".self_attn.q_proj." in name:
                parts = [weights[name.replace(".q_proj.", f".{p}_proj.")] for p in "qkv"]
                own[called(name.replace("self_attn.q_proj.", stacked))].copy_(torch.cat(parts))
            elif not (stacked and (".self_attn.k_proj." in name or ".self_attn.v_proj." in name)):
                own[called(name)].copy_(value)


def layers_of(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the tower's Transformer layers alone, without embeddings and last norm."""
    return {k: v for k, v in weights.items() if k.startswith("encoder.layers.")}
