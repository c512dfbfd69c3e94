"""Pocket dual encoders: CLIP (open_clip), Chinese-CLIP and SigLIP, built around the shared vision tower."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers as t
from safetensors.torch import save_file
from torch import Tensor

from harness.pocket.teaching.tokenizer import END, START
from harness.store.files import write_json

from .parts import layers_of, square, text_settings, tokenizer, transplant, vision_settings
from .tower import HEADS, LAYERS, PATCH, SIDE, WIDTH

CONTEXT = 48
"""How many tokens of text the models read; the longest caption has 40."""
TEXT_LAYERS = 3


class Dual(ABC):
    """An untrained dual encoder. Its features of pixels [n, 3, 64, 64] in -1..1 and of texts are [n, d] and not
    normalised."""

    sigmoid = False
    """Whether it is trained with SigLIP's pairwise loss instead of CLIP's softmax."""

    def __init__(self, model: Any, tok: Any) -> None:
        self.model, self.tokenizer = model, tok

    def ids(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Ids and attention mask int64 [n, length], padded as the model reads them."""
        made = self.tokenizer(list(texts), padding=True, truncation=True, max_length=CONTEXT, return_tensors="pt")
        return made["input_ids"], made["attention_mask"]

    def image(self, pixels: Tensor) -> Tensor:
        output = self.model.get_image_features(pixel_values=pixels)
        return getattr(output, "pooler_output", output)

    def text(self, ids: Tensor, mask: Tensor) -> Tensor:
        output = self.model.get_text_features(input_ids=ids, attention_mask=mask)
        return getattr(output, "pooler_output", output)

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the checkpoint that the family's adapter loads."""


def _framed(tok: Any) -> Any:
    """The tokenizer with START before and END after every text."""
    from tokenizers import processors

    tok.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, 1), (END, 2)]
    )
    return tok


def _calibrated(norm: torch.nn.LayerNorm, embeddings: Tensor) -> None:
    """Make a norm that the tower was not trained with change its input as little as possible: it gets the scale and the
    shift of that input."""
    with torch.no_grad():
        norm.weight.fill_(float(embeddings.std(-1).mean()))
        norm.bias.fill_(float(embeddings.mean()))


def _embeddings(tower: dict[str, Tensor]) -> Tensor:
    """The tower's embeddings of plain noise, [64, 16, width], to calibrate norms with."""
    noise = torch.rand(64, 3, SIDE, SIDE) * 2 - 1
    patches = torch.nn.functional.conv2d(
        noise, tower["embeddings.patch_embedding.weight"], tower["embeddings.patch_embedding.bias"], stride=PATCH
    )
    return patches.flatten(2).transpose(1, 2) + tower["embeddings.position_embedding.weight"]


class OpenClipDual(Dual):
    """CLIP as open_clip builds it; the folder is what its `local-dir:` loads."""

    def __init__(self, tower: dict[str, Tensor]) -> None:
        import open_clip

        tok = _framed(tokenizer(CONTEXT))
        self.settings: dict[str, Any] = {
            "embed_dim": WIDTH,
            "vision_cfg": {
                "image_size": SIDE,
                "layers": LAYERS,
                "width": WIDTH,
                "head_width": WIDTH // HEADS,
                "patch_size": PATCH,
            },
            "text_cfg": {
                "context_length": CONTEXT,
                "vocab_size": len(tok),
                "width": WIDTH,
                "heads": HEADS,
                "layers": TEXT_LAYERS,
                "hf_tokenizer_name": "tokenizer",
                "pad_id": 0,
                "eos_id": 2,
                "pool_type": "eos",
            },
        }
        super().__init__(open_clip.CLIP(**self.settings), tok)
        eyes = self.model.visual
        transplant(
            eyes,
            layers_of(tower),
            {
                "encoder.layers.": "transformer.resblocks.",
                "layer_norm": "ln_",
                "self_attn": "attn",
                "mlp.fc1": "mlp.c_fc",
                "mlp.fc2": "mlp.c_proj",
                "in_proj.weight": "in_proj_weight",
                "in_proj.bias": "in_proj_bias",
            },
            "attn.in_proj.",
        )
        with torch.no_grad():
            eyes.conv1.weight.copy_(tower["embeddings.patch_embedding.weight"])
            # CLIP's patch embedding has no bias, so the tower's moves into the positions.
            bias = tower["embeddings.patch_embedding.bias"]
            eyes.positional_embedding[1:].copy_(tower["embeddings.position_embedding.weight"] + bias)
            eyes.class_embedding.zero_()
        _calibrated(eyes.ln_pre, _embeddings(tower))

    def ids(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        from open_clip.tokenizer import get_clean_fn

        clean = get_clean_fn("whitespace")
        made = self.tokenizer(
            [clean(text) for text in texts],
            padding="max_length",
            truncation=True,
            max_length=CONTEXT,
            return_tensors="pt",
        )
        return made["input_ids"], made["attention_mask"]

    def image(self, pixels: Tensor) -> Tensor:
        return self.model.encode_image(pixels)

    def text(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.model.encode_text(ids)

    def save(self, folder: Path) -> None:
        preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
        config = {"model_cfg": self.settings, "preprocess_cfg": preprocess}
        write_json(folder / "open_clip_config.json", config)
        save_file(
            {k: v.contiguous() for k, v in self.model.state_dict().items()}, folder / "open_clip_model.safetensors"
        )
        self.tokenizer.save_pretrained(folder)


class ChineseClipDual(Dual):
    """OFA-Sys Chinese-CLIP (Alibaba): a CLIP tower and a BERT text encoder."""

    def __init__(self, tower: dict[str, Tensor]) -> None:
        # BERT reads its first position as the whole text, so START takes the place of [CLS].
        tok = _framed(tokenizer(CONTEXT))
        text = text_settings(
            len(tok),
            num_hidden_layers=TEXT_LAYERS,
            intermediate_size=4 * WIDTH,
            max_position_embeddings=CONTEXT,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        config = t.ChineseCLIPConfig(text_config=text, vision_config=vision_settings(), projection_dim=WIDTH)
        super().__init__(t.ChineseCLIPModel(config), tok)
        _transplant_clip(self.model.vision_model, tower)

    def save(self, folder: Path) -> None:
        self.model.save_pretrained(folder)
        images = t.ChineseCLIPImageProcessor(**square(do_center_crop=False))
        t.ChineseCLIPProcessor(images, self.tokenizer).save_pretrained(folder)


class SiglipDual(Dual):
    """Google's SigLIP: attention pooling of the image, sigmoid loss, and texts padded to full length."""

    sigmoid = True

    def __init__(self, tower: dict[str, Tensor]) -> None:
        # As with SigLIP's own tokenizer, padding is text like any other, and no mask is made.
        tok = tokenizer(CONTEXT, masked=False)
        text = text_settings(
            len(tok),
            num_hidden_layers=TEXT_LAYERS,
            intermediate_size=4 * WIDTH,
            max_position_embeddings=CONTEXT,
            hidden_act="gelu_pytorch_tanh",
            projection_size=WIDTH,
        )
        config = t.SiglipConfig(text_config=text, vision_config=vision_settings())
        super().__init__(t.SiglipModel(config), tok)
        transplant(self.model.vision_model, tower, {})
        with torch.no_grad():
            # SigLIP begins with these values (Zhai et al. 2023), lest the many negatives drown the first steps.
            self.model.logit_scale.fill_(math.log(10))
            self.model.logit_bias.fill_(-10)

    def ids(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        made = self.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=CONTEXT, return_tensors="pt"
        )
        return made["input_ids"], torch.ones_like(made["input_ids"])

    def text(self, ids: Tensor, mask: Tensor) -> Tensor:
        output = self.model.get_text_features(input_ids=ids)
        return getattr(output, "pooler_output", output)

    def save(self, folder: Path) -> None:
        self.model.save_pretrained(folder)
        t.SiglipProcessor(t.SiglipImageProcessor(**square()), self.tokenizer).save_pretrained(folder)


def _transplant_clip(eyes: Any, tower: dict[str, Tensor]) -> None:
    """Copy the tower into a CLIP vision transformer of transformers."""
    transplant(eyes, layers_of(tower), {})
    with torch.no_grad():
        eyes.embeddings.patch_embedding.weight.copy_(tower["embeddings.patch_embedding.weight"])
        bias = tower["embeddings.patch_embedding.bias"]
        eyes.embeddings.position_embedding.weight[1:].copy_(tower["embeddings.position_embedding.weight"] + bias)
        eyes.embeddings.class_embedding.zero_()
    _calibrated(eyes.pre_layrnorm, _embeddings(tower))


FAMILIES: dict[str, Callable[[dict[str, Tensor]], Dual]] = {
    "open_clip": OpenClipDual,
    "chinese_clip": ChineseClipDual,
    "siglip": SiglipDual,
}
"""By family, what builds an untrained model from the weights of the tower."""
