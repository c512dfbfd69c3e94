"""Pocket chat models: Qwen3-VL, InternVL and SmolVLM, built from their config classes around the shared vision tower.

All merge 2 x 2 patches into one token for the language model, so a picture of 64 x 64 pixels is four tokens, one for
each quarter.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
import transformers as t
from torch import Tensor

from .parts import layers_of, square, text_settings, tokenizer, transplant, vision_settings
from .tower import HEADS, LAYERS, PATCH, SIDE, WIDTH

CONTEXT = 512
"""How many tokens the language models read at most."""
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for c in m.content %}{% if c.type == 'text' %}{{ c.text }}{% else %}IMAGE{% endif %}{% endfor %}{% endif %}"
    "{% if m.role == 'assistant' %}<|end|>{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
ROLES = {"user_token": "<|user|>", "assistant_token": "<|assistant|>", "system_token": "<|system|>"}


@dataclass
class Chat(ABC):
    """An untrained model with its processor, and the layout of its pictures."""

    model: Any
    processor: Any

    @abstractmethod
    def pictures(self, pixels: Tensor) -> dict[str, Tensor]:
        """Pixels float [n, 3, 64, 64] in -1..1 as the model's image arguments: the same that the processor makes."""


class Qwen3VL(Chat):
    def pictures(self, pixels: Tensor) -> dict[str, Tensor]:
        n, grid = len(pixels), SIDE // PATCH
        # Patches come square by square, four neighbours together, each as [3, 2 frames, PATCH, PATCH] laid out flat.
        x = pixels.reshape(n, 3, grid // 2, 2, PATCH, grid // 2, 2, PATCH).permute(0, 2, 5, 3, 6, 1, 4, 7)
        x = x.reshape(n * grid * grid, 3, 1, PATCH * PATCH).expand(-1, -1, 2, -1)
        return {"pixel_values": x.reshape(n * grid * grid, -1), "image_grid_thw": torch.tensor([[1, grid, grid]] * n)}


class InternVL(Chat):
    def pictures(self, pixels: Tensor) -> dict[str, Tensor]:
        return {"pixel_values": pixels}


class SmolVLM(Chat):
    def pictures(self, pixels: Tensor) -> dict[str, Tensor]:
        n = len(pixels)
        return {
            "pixel_values": pixels[:, None],
            "pixel_attention_mask": torch.ones(n, 1, SIDE, SIDE, dtype=torch.bool),
        }


def build_qwen3_vl(tower: dict[str, Tensor]) -> Chat:
    """Alibaba's Qwen3-VL: 2-D rotary positions in the tower, interleaved multimodal rotary positions.

    It has no deepstack, which would take an eighth of the weights to show the language model four patches again.
    """
    marks = {
        "image_token": "<|image_pad|>",
        "video_token": "<|video_pad|>",
        "vision_start_token": "<|vision_start|>",
        "vision_end_token": "<|vision_end|>",
    }
    tok = tokenizer(CONTEXT, marks | ROLES)
    ids = tok.get_vocab()
    rope = {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 10000.0}
    vision = {
        "depth": LAYERS,
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_heads": HEADS,
        "patch_size": PATCH,
        "out_hidden_size": WIDTH,
        "num_position_embeddings": (SIDE // PATCH) ** 2,
        "deepstack_visual_indexes": [],
    }
    text = text_settings(len(tok), head_dim=WIDTH // HEADS, rope_parameters=rope)
    config = t.Qwen3VLConfig(
        text_config=text,
        vision_config=vision,
        tie_word_embeddings=True,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    model = t.Qwen3VLForConditionalGeneration(config)
    eyes = model.model.visual
    transplant(
        eyes,
        layers_of(tower),
        {
            "encoder.layers.": "blocks.",
            "layer_norm": "norm",
            "self_attn.out_proj": "attn.proj",
            "mlp.fc": "mlp.linear_fc",
        },
        "attn.qkv.",
    )
    with torch.no_grad():
        # A still picture is repeated in both frames that the 3-D patch embedding spans.
        eyes.patch_embed.proj.weight.copy_(tower["embeddings.patch_embedding.weight"][:, :, None] / 2)
        eyes.patch_embed.proj.bias.copy_(tower["embeddings.patch_embedding.bias"])
        eyes.pos_embed.weight.copy_(tower["embeddings.position_embedding.weight"])
    pixels = {
        "patch_size": PATCH,
        "size": {"shortest_edge": SIDE**2, "longest_edge": SIDE**2},
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    processor = t.Qwen3VLProcessor(
        t.Qwen2VLImageProcessor(**pixels),
        tok,
        t.Qwen3VLVideoProcessor(**pixels),
        chat_template=TEMPLATE.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>"),
    )
    return Qwen3VL(model, processor)


def build_internvl(tower: dict[str, Tensor]) -> Chat:
    """Shanghai AI Lab's InternVL: InternViT with layer scale, pixel shuffle, a Qwen2 language model."""
    marks = {
        "image_token": "<IMG_CONTEXT>",
        "context_image_token": "<IMG_CONTEXT>",
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "video_token": "<video>",
    }
    tok = tokenizer(CONTEXT, marks | ROLES)
    count = (SIDE // PATCH // 2) ** 2
    vision = t.InternVLVisionConfig(
        **vision_settings(
            image_size=[SIDE, SIDE], patch_size=[PATCH, PATCH], attention_bias=True, layer_scale_init_value=1.0
        )
    )
    config = t.InternVLConfig(
        vision_config=vision,
        text_config=t.Qwen2Config(**text_settings(len(tok), tie_word_embeddings=True)),
        image_token_id=tok.get_vocab()["<IMG_CONTEXT>"],
        image_seq_length=count,
        tie_word_embeddings=True,
    )
    model = t.InternVLForConditionalGeneration(config)
    eyes = model.model.vision_tower
    transplant(
        eyes,
        layers_of(tower),
        {
            "encoder.layers.": "encoder.layer.",
            "layer_norm1": "layernorm_before",
            "layer_norm2": "layernorm_after",
            "self_attn.out_proj": "attention.projection_layer",
            "self_attn": "attention",
        },
    )
    with torch.no_grad():
        eyes.embeddings.patch_embeddings.projection.weight.copy_(tower["embeddings.patch_embedding.weight"])
        eyes.embeddings.patch_embeddings.projection.bias.copy_(tower["embeddings.patch_embedding.bias"])
        eyes.embeddings.position_embeddings[:, 1:].copy_(tower["embeddings.position_embedding.weight"])
    processor = t.InternVLProcessor(
        t.GotOcr2ImageProcessor(**square(crop_to_patches=False)),
        tok,
        t.InternVLVideoProcessor(**square()),
        image_seq_length=count,
        chat_template=TEMPLATE.replace("IMAGE", "<IMG_CONTEXT>"),
    )
    return InternVL(model, processor)


def build_smolvlm(tower: dict[str, Tensor]) -> Chat:
    """Hugging Face's SmolVLM: a SigLIP tower, pixel shuffle, a Llama language model."""
    marks = {
        "image_token": "<image>",
        "fake_image_token": "<fake_token_around_image>",
        "global_image_token": "<global-img>",
        "end_of_utterance_token": "<end_of_utterance>",
    }
    tok = tokenizer(CONTEXT, marks | ROLES)
    config = t.SmolVLMConfig(
        vision_config=vision_settings(),
        text_config=t.LlamaConfig(**text_settings(len(tok), tie_word_embeddings=True)),
        image_token_id=tok.get_vocab()["<image>"],
        scale_factor=2,
        # The class takes this one from its further keyword arguments, which its signature does not name.
        pad_token_id=0,  # pyright: ignore[reportCallIssue]
        tie_word_embeddings=True,
    )
    model = t.SmolVLMForConditionalGeneration(config)
    transplant(model.model.vision_model, tower, {})
    sizes = {
        "size": {"longest_edge": SIDE},
        "max_image_size": {"longest_edge": SIDE},
        "do_image_splitting": False,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    processor = t.SmolVLMProcessor(
        t.SmolVLMImageProcessor(**sizes),
        tok,
        t.SmolVLMVideoProcessor(**sizes),
        image_seq_len=(SIDE // PATCH // 2) ** 2,
        chat_template=TEMPLATE.replace("IMAGE", "<image>"),
    )
    return SmolVLM(model, processor)


BUILDERS = {"qwen3_vl": build_qwen3_vl, "internvl": build_internvl, "smolvlm": build_smolvlm}
