"""Tiny models that take a bare prompt, and ViLT, one builder for each family."""

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


def git(folder: Path) -> None:
    import transformers as t

    tok = word_tokenizer()
    settings = text_settings(len(tok), bos_token_id=1, eos_token_id=2)
    config = t.GitConfig(vision_config=vision_settings(), **settings)
    save(folder, t.GitForCausalLM(config), t.GitProcessor(clip_images(), tok))


def blip_settings(vocabulary: int) -> dict:
    text = text_settings(vocabulary, encoder_hidden_size=WIDTH, projection_dim=WIDTH, sep_token_id=2, is_decoder=True)
    return {"text_config": text, "vision_config": vision_settings(), "projection_dim": WIDTH}


def blip(folder: Path) -> None:
    import transformers as t

    tok = word_tokenizer()
    model = t.BlipForConditionalGeneration(t.BlipConfig(**blip_settings(len(tok))))
    save(folder, model, t.BlipProcessor(t.BlipImageProcessor(**square()), tok))


def blip_vqa(folder: Path) -> None:
    import transformers as t

    tok = word_tokenizer()
    model = t.BlipForQuestionAnswering(t.BlipConfig(**blip_settings(len(tok))))
    save(folder, model, t.BlipProcessor(t.BlipImageProcessor(**square()), tok))


def blip_2(folder: Path) -> None:
    import transformers as t

    tok = tokenizer(None)
    processor = t.Blip2Processor(t.BlipImageProcessor(**square()), tok, num_query_tokens=4)
    text = t.OPTConfig(**text_settings(len(tok), ffn_dim=64, word_embed_proj_dim=WIDTH))
    qformer = text_settings(32, encoder_hidden_size=WIDTH, cross_attention_frequency=1)
    config = t.Blip2Config(
        vision_config=vision_settings(),
        qformer_config=qformer,
        text_config=text,
        num_query_tokens=4,
        image_token_index=tok.convert_tokens_to_ids("<image>"),
    )
    save(folder, t.Blip2ForConditionalGeneration(config), processor)


def florence2(folder: Path) -> None:
    import transformers as t

    tok = tokenizer()
    text = t.BartConfig(
        vocab_size=len(tok),
        d_model=WIDTH,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=256,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=2,
        forced_eos_token_id=None,
    )
    vision = {
        "depths": [1, 1],
        "patch_size": [7, 3],
        "patch_stride": [4, 2],
        "patch_padding": [3, 1],
        "patch_prenorm": [False, True],
        "embed_dim": [16, WIDTH],
        "num_heads": [2, 2],
        "num_groups": [2, 2],
        "window_size": 4,
        "projection_dim": WIDTH,
    }
    image_id = tok.convert_tokens_to_ids("<image>")
    config = t.Florence2Config(text_config=text, vision_config=vision, image_token_id=image_id)
    images = t.CLIPImageProcessor(**square(do_center_crop=False, image_seq_length=17))
    save(folder, t.Florence2ForConditionalGeneration(config), t.Florence2Processor(images, tok), spread=0.4)


def paligemma(folder: Path) -> None:
    import transformers as t

    tok = tokenizer()
    images = t.SiglipImageProcessor(**square())
    images.image_seq_length = (SIZE // PATCH) ** 2
    processor = t.PaliGemmaProcessor(images, tok)
    text = t.GemmaConfig(**text_settings(len(tok), head_dim=16))
    vision = t.SiglipVisionConfig(**vision_settings(vision_use_head=False, projection_dim=WIDTH))
    config = t.PaliGemmaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tok.convert_tokens_to_ids("<image>"),
        projection_dim=WIDTH,
        hidden_size=WIDTH,
    )
    save(folder, t.PaliGemmaForConditionalGeneration(config), processor)


def kosmos2(folder: Path) -> None:
    import transformers as t

    marks = "</image> </chunk> </line> <phrase> </phrase> <object> </object> </delimiter_of_multi_objects/> <grounding>"
    tok = tokenizer(**{f"mark_{i}": mark for i, mark in enumerate(marks.split())})
    processor = t.Kosmos2Processor(clip_images(), tok, num_patch_index_tokens=4)
    text = {
        "vocab_size": len(tok),
        "embed_dim": WIDTH,
        "layers": 2,
        "ffn_dim": 64,
        "attention_heads": 2,
        "max_position_embeddings": 256,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    config = t.Kosmos2Config(text_config=text, vision_config=vision_settings(), latent_query_num=64)
    save(folder, t.Kosmos2ForConditionalGeneration(config), processor)


def vilt(folder: Path) -> None:
    import transformers as t

    labels = dict(enumerate(["yes", "no", "red", "blue", "2", "left", "right", "x", "yy", "a", "b", "one", "two", "1"]))
    tok = word_tokenizer()
    config = t.ViltConfig(
        **text_settings(len(tok), max_position_embeddings=40),
        image_size=SIZE,
        patch_size=PATCH,
        id2label=labels,
        label2id={label: i for i, label in labels.items()},
    )
    images = t.ViltImageProcessor(size={"shortest_edge": SIZE}, size_divisor=PATCH)
    save(folder, t.ViltForQuestionAnswering(config), t.ViltProcessor(images, tok))
