"""Tiny dual encoders of transformers and open_clip (CoCa captions as well), one builder for each family."""

from __future__ import annotations

from pathlib import Path

from tiny_parts import (
    PATCH,
    SIZE,
    WIDTH,
    clip_images,
    save,
    square,
    text_settings,
    tokenizer,
    vision_settings,
    word_tokenizer,
)


def clip(folder: Path) -> None:
    import transformers as t

    tok = tokenizer()
    text = text_settings(len(tok), max_position_embeddings=64)
    config = t.CLIPConfig(text_config=text, vision_config=vision_settings(), projection_dim=16)
    save(folder, t.CLIPModel(config), t.CLIPProcessor(clip_images(), tok))


def metaclip_2(folder: Path) -> None:
    import transformers as t

    tok = tokenizer()
    text = text_settings(len(tok), max_position_embeddings=64)
    config = t.MetaClip2Config(text_config=text, vision_config=vision_settings(), projection_dim=16)
    save(folder, t.MetaClip2Model(config), t.CLIPProcessor(clip_images(), tok))


def chinese_clip(folder: Path) -> None:
    import transformers as t

    text = text_settings(len(word_tokenizer()), max_position_embeddings=64)
    config = t.ChineseCLIPConfig(text_config=text, vision_config=vision_settings(), projection_dim=16)
    images = t.ChineseCLIPImageProcessor(**square(do_center_crop=False))
    save(folder, t.ChineseCLIPModel(config), t.ChineseCLIPProcessor(images, word_tokenizer()))


def altclip(folder: Path) -> None:
    import transformers as t

    tok = tokenizer()
    text = text_settings(len(tok), max_position_embeddings=64, project_dim=16)
    config = t.AltCLIPConfig(text_config=text, vision_config=vision_settings(), projection_dim=16)
    save(folder, t.AltCLIPModel(config), t.AltCLIPProcessor(clip_images(), tok))


def siglip(folder: Path) -> None:
    import transformers as t

    tok = tokenizer()
    text = text_settings(len(tok), max_position_embeddings=64)
    config = t.SiglipConfig(text_config=text, vision_config=vision_settings())
    save(folder, t.SiglipModel(config), t.SiglipProcessor(t.SiglipImageProcessor(**square()), tok))


def siglip2(folder: Path) -> None:
    import transformers as t

    tok = tokenizer()
    text = text_settings(len(tok), max_position_embeddings=64)
    vision = vision_settings(num_patches=16)
    del vision["image_size"]
    config = t.Siglip2Config(text_config=text, vision_config=vision)
    images = t.Siglip2ImageProcessor(patch_size=PATCH, max_num_patches=16)
    save(folder, t.Siglip2Model(config), t.Siglip2Processor(images, tok))


def clap(folder: Path) -> None:
    import transformers as t

    tok = tokenizer()
    text = text_settings(len(tok), max_position_embeddings=64, projection_dim=16)
    audio = {
        "spec_size": 64,
        "num_mel_bins": 16,
        "window_size": 4,
        "patch_embeds_hidden_size": 16,
        "depths": [1, 1],
        "num_attention_heads": [2, 2],
        "num_hidden_layers": 2,
        "hidden_size": 32,
        "projection_dim": 16,
        "patch_size": 4,
        "patch_stride": [4, 4],
    }
    config = t.ClapConfig(text_config=text, audio_config=audio, projection_dim=16)
    extractor = t.ClapFeatureExtractor(
        feature_size=16,
        sampling_rate=16000,
        max_length_s=1,
        fft_window_size=256,
        hop_length=128,
        truncation="rand_trunc",
        padding="repeatpad",
    )
    save(folder, t.ClapModel(config), t.ClapProcessor(extractor, tok))


def open_clip_vit(folder: Path, vision: dict | None = None, **more) -> None:
    import json

    import open_clip
    import torch
    from safetensors.torch import save_file

    patches = {"image_size": SIZE, "layers": 2, "width": WIDTH, "head_width": 16, "patch_size": PATCH}
    settings = {
        "embed_dim": 16,
        "vision_cfg": vision or patches,
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": WIDTH, "heads": 2, "layers": 2},
        **more,
    }
    mean = {"mean": [0.5] * 3, "std": [0.5] * 3}
    captions = "multimodal_cfg" in settings
    config = {"model_cfg": settings | {"custom_text": captions}, "preprocess_cfg": mean}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    kind = open_clip.CoCa if captions else open_clip.CLIP
    model = kind(**settings)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.15)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / "model.safetensors")


def open_clip_rn(folder: Path) -> None:
    open_clip_vit(folder, {"image_size": SIZE, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None})


def open_clip_coca(folder: Path) -> None:
    open_clip_vit(
        folder,
        {
            "image_size": SIZE,
            "layers": 2,
            "width": WIDTH,
            "head_width": 16,
            "patch_size": PATCH,
            "attentional_pool": True,
            "attn_pooler_heads": 2,
            "output_tokens": True,
        },
        embed_dim=WIDTH,
        text_cfg={
            "context_length": 76,
            "vocab_size": 49408,
            "width": WIDTH,
            "heads": 2,
            "layers": 2,
            "embed_cls": True,
            "output_tokens": True,
        },
        multimodal_cfg={
            "context_length": 76,
            "vocab_size": 49408,
            "width": WIDTH,
            "heads": 2,
            "layers": 2,
            "attn_pooler_heads": 2,
        },
    )
