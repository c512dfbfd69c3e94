"""Tiny chat models, one builder for each family."""

from __future__ import annotations

from pathlib import Path

from tiny_parts import PATCH, SIZE, WIDTH, save, square, text_settings, tokenizer, vision_settings

TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {% for c in m.content %}{% if c.type == 'text' %}{{ c.text }}"
    "{% else %}IMAGE{% endif %}{% endfor %}</s>{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)


def template(image: str) -> str:
    return TEMPLATE.replace("IMAGE", image)


def qwen2_vl(folder: Path, version: str = "2") -> None:
    import transformers as t

    tok = tokenizer("<|image_pad|>", video_token="<|video_pad|>", start="<|vision_start|>", end="<|vision_end|>")
    ids = {
        "image_token_id": tok.convert_tokens_to_ids("<|image_pad|>"),
        "video_token_id": tok.convert_tokens_to_ids("<|video_pad|>"),
        "vision_start_token_id": tok.convert_tokens_to_ids("<|vision_start|>"),
        "vision_end_token_id": tok.convert_tokens_to_ids("<|vision_end|>"),
    }
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0}
    text = text_settings(len(tok), rope_parameters=rope)
    vision = {"depth": 2, "num_heads": 2, "patch_size": PATCH, "spatial_merge_size": 2, "temporal_patch_size": 2}
    pixels = {"patch_size": PATCH, "size": {"shortest_edge": SIZE**2, "longest_edge": 4 * SIZE**2}}
    images, videos = t.Qwen2VLImageProcessor(**pixels), t.Qwen2VLVideoProcessor(**pixels)
    chat = template("<|vision_start|><|image_pad|><|vision_end|>")
    if version == "2":
        vision |= {"embed_dim": WIDTH, "hidden_size": WIDTH, "mlp_ratio": 2}
        config = t.Qwen2VLConfig(text_config=text, vision_config=vision, **ids)
        model, processor = t.Qwen2VLForConditionalGeneration(config), t.Qwen2VLProcessor
    elif version == "2.5":
        vision |= {
            "hidden_size": WIDTH,
            "out_hidden_size": WIDTH,
            "intermediate_size": 64,
            "window_size": 32,
            "fullatt_block_indexes": [1],
        }
        config = t.Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids)
        model, processor = t.Qwen2_5_VLForConditionalGeneration(config), t.Qwen2_5_VLProcessor
    else:
        vision |= {
            "hidden_size": WIDTH,
            "out_hidden_size": WIDTH,
            "intermediate_size": 64,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        }
        config = t.Qwen3VLConfig(text_config=text | {"head_dim": 16}, vision_config=vision, **ids)
        model, processor = t.Qwen3VLForConditionalGeneration(config), t.Qwen3VLProcessor
        videos = t.Qwen3VLVideoProcessor(**pixels)
    save(folder, model, processor(images, tok, videos, chat_template=chat))


def qwen2_5_vl(folder: Path) -> None:
    qwen2_vl(folder, "2.5")


def qwen3_vl(folder: Path) -> None:
    qwen2_vl(folder, "3")


def glm4v(folder: Path) -> None:
    import transformers as t

    marks = {f"{kind}_{end}": f"<|{end}_of_{kind}|>" for kind in ("image", "video") for end in ("begin", "end")}
    tok = tokenizer("<|image|>", video_token="<|video|>", **marks)
    ids = {"image_token_id": tok.convert_tokens_to_ids("<|image|>")}
    ids["video_token_id"] = tok.convert_tokens_to_ids("<|video|>")
    for name, mark in marks.items():
        ids[f"{name.replace('begin', 'start')}_token_id"] = tok.convert_tokens_to_ids(mark)
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
    vision = {"depth": 2, "hidden_size": WIDTH, "out_hidden_size": WIDTH, "intermediate_size": 64, "num_heads": 2}
    vision |= {"patch_size": PATCH, "image_size": SIZE}
    config = t.Glm4vConfig(
        text_config=text_settings(len(tok), rope_parameters=rope, head_dim=16), vision_config=vision, **ids
    )
    pixels = {"patch_size": PATCH, "size": {"shortest_edge": SIZE**2, "longest_edge": 4 * SIZE**2}}
    chat = template("<|begin_of_image|><|image|><|end_of_image|>")
    processor = t.Glm4vProcessor(
        t.Glm4vImageProcessor(**pixels), tok, t.Glm4vVideoProcessor(**pixels), chat_template=chat
    )
    save(folder, t.Glm4vForConditionalGeneration(config), processor)


def internvl(folder: Path) -> None:
    import transformers as t

    tok = tokenizer(
        "<IMG_CONTEXT>",
        context_image_token="<IMG_CONTEXT>",
        start_image_token="<img>",
        end_image_token="</img>",
        video_token="<video>",
    )
    text = t.Qwen2Config(**text_settings(len(tok)))
    vision = t.InternVLVisionConfig(**vision_settings(image_size=[SIZE, SIZE], patch_size=[PATCH, PATCH]))
    image_id = tok.convert_tokens_to_ids("<IMG_CONTEXT>")
    config = t.InternVLConfig(vision_config=vision, text_config=text, image_token_id=image_id, image_seq_length=4)
    images = t.GotOcr2ImageProcessor(**square())
    videos = t.InternVLVideoProcessor(**square())
    chat = template("<IMG_CONTEXT>")
    processor = t.InternVLProcessor(images, tok, videos, image_seq_length=4, chat_template=chat)
    save(folder, t.InternVLForConditionalGeneration(config), processor)


def llava(folder: Path) -> None:
    import transformers as t

    tok = tokenizer()
    text = t.LlamaConfig(**text_settings(len(tok)))
    vision = t.CLIPVisionConfig(**vision_settings())
    image_id = tok.convert_tokens_to_ids("<image>")
    config = t.LlavaConfig(vision_config=vision, text_config=text, image_token_index=image_id)
    images = t.CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
    processor = t.LlavaProcessor(
        images,
        tok,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template("<image>"),
    )
    save(folder, t.LlavaForConditionalGeneration(config), processor)


def llava_onevision(folder: Path) -> None:
    import transformers as t

    tok = tokenizer(video_token="<video>")
    text = t.Qwen2Config(**text_settings(len(tok)))
    vision = t.SiglipVisionConfig(**vision_settings(vision_use_head=False))
    pins = [[SIZE, SIZE], [SIZE, 2 * SIZE]]
    config = t.LlavaOnevisionConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tok.convert_tokens_to_ids("<image>"),
        video_token_index=tok.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=pins,
    )
    images = t.LlavaOnevisionImageProcessor(**square(image_grid_pinpoints=pins))
    videos = t.LlavaOnevisionVideoProcessor(**square())
    processor = t.LlavaOnevisionProcessor(
        images,
        tok,
        videos,
        num_image_tokens=(SIZE // PATCH) ** 2,
        vision_feature_select_strategy="full",
        chat_template=template("<image>"),
    )
    save(folder, t.LlavaOnevisionForConditionalGeneration(config), processor)


def smolvlm(folder: Path) -> None:
    import transformers as t

    tok = tokenizer(
        fake_image_token="<fake_token_around_image>", global_image_token="<global-img>", end_of_utterance_token="<end>"
    )
    text = t.LlamaConfig(**text_settings(len(tok)))
    image_id = tok.convert_tokens_to_ids("<image>")
    config = t.SmolVLMConfig(
        vision_config=vision_settings(), text_config=text, image_token_id=image_id, scale_factor=2, pad_token_id=0
    )
    sizes = {"size": {"longest_edge": SIZE}, "max_image_size": {"longest_edge": SIZE}}
    images = t.SmolVLMImageProcessor(**sizes)
    videos = t.SmolVLMVideoProcessor(**sizes)
    processor = t.SmolVLMProcessor(images, tok, videos, image_seq_len=4, chat_template=template("<image>"))
    save(folder, t.SmolVLMForConditionalGeneration(config), processor)


def idefics3(folder: Path) -> None:
    import transformers as t

    tok = tokenizer()
    images = t.Idefics3ImageProcessor(size={"longest_edge": SIZE}, max_image_size={"longest_edge": SIZE})
    processor = t.Idefics3Processor(images, tok, image_seq_len=4, chat_template=template("<image>"))
    text = t.LlamaConfig(**text_settings(len(tok)))
    image_id = tok.convert_tokens_to_ids("<image>")
    config = t.Idefics3Config(
        vision_config=vision_settings(), text_config=text, image_token_id=image_id, scale_factor=2, pad_token_id=0
    )
    save(folder, t.Idefics3ForConditionalGeneration(config), processor)


def gemma3(folder: Path) -> None:
    import transformers as t

    tok = tokenizer("<image_soft_token>", boi_token="<start_of_image>", eoi_token="<end_of_image>")
    text = text_settings(len(tok), head_dim=16, query_pre_attn_scalar=16, sliding_window=16)
    vision = t.SiglipVisionConfig(**vision_settings(vision_use_head=False))
    config = t.Gemma3Config(
        text_config=t.Gemma3TextConfig(**text),
        vision_config=vision,
        mm_tokens_per_image=4,
        boi_token_index=tok.convert_tokens_to_ids("<start_of_image>"),
        eoi_token_index=tok.convert_tokens_to_ids("<end_of_image>"),
        image_token_index=tok.convert_tokens_to_ids("<image_soft_token>"),
    )
    images = t.Gemma3ImageProcessor(**square())
    processor = t.Gemma3Processor(images, tok, image_seq_length=4, chat_template=template("<start_of_image>"))
    save(folder, t.Gemma3ForConditionalGeneration(config), processor)


def janus(folder: Path) -> None:
    import transformers as t

    tok = tokenizer("<image_placeholder>", boi_token="<begin_of_image>", eoi_token="<end_of_image>")
    text = t.LlamaConfig(**text_settings(len(tok)))
    tokens = (SIZE // PATCH) ** 2
    vision = vision_settings(num_image_tokens=tokens, projection_dim=WIDTH, mlp_ratio=2.0)
    del vision["intermediate_size"]
    codes = {
        "embed_dim": 8,
        "num_embeddings": 16,
        "latent_channels": 8,
        "base_channels": 32,
        "channel_multiplier": [1, 1],
        "num_res_blocks": 1,
        "num_patches": SIZE // PATCH,
        "projection_dim": WIDTH,
        "image_token_embed_dim": WIDTH,
    }
    config = t.JanusConfig(
        text_config=text,
        vision_config=t.JanusVisionConfig(**vision),
        vq_config=t.JanusVQVAEConfig(**codes),
        image_token_id=tok.convert_tokens_to_ids("<image_placeholder>"),
    )
    processor = t.JanusProcessor(
        t.JanusImageProcessor(**square()),
        tok,
        chat_template=template("<image_placeholder>"),
        num_image_tokens=tokens,
    )
    save(folder, t.JanusForConditionalGeneration(config), processor)


def ovis2(folder: Path) -> None:
    import transformers as t

    marks = [f"<indicator_{i}>" for i in range(5)]
    more = ("IMG_START", "IMG_ATOM", "IMG_GRID", "IMG_COL", "IMG_ROW", "IMG_END")
    named = {f"indicator_{i}": mark for i, mark in enumerate(marks)} | {mark: f"<{mark}>" for mark in more}
    tok = tokenizer("<image>", **named)
    text = t.Qwen2Config(**text_settings(len(tok)))
    vision = t.Ovis2VisionConfig(**vision_settings(vocab_size=64, hidden_stride=2))
    config = t.Ovis2Config(
        vision_config=vision,
        text_config=text,
        image_token_id=tok.convert_tokens_to_ids("<IMG_ATOM>"),
        visual_indicator_token_ids=[tok.convert_tokens_to_ids(mark) for mark in marks],
        vocab_size=len(tok),
        hidden_size=WIDTH,
    )
    images = t.Ovis2ImageProcessor(**square())
    processor = t.Ovis2Processor(images, tok, image_seq_length=4, chat_template=template("<image>"))
    save(folder, t.Ovis2ForConditionalGeneration(config), processor)


def minicpmv4_6(folder: Path) -> None:
    import transformers as t

    marks = ("image_start", "image_end", "slice_start", "slice_end", "image_id_start", "image_id_end")
    tok = tokenizer("<image_pad>", video_token="<video_pad>", **{f"{mark}_token": f"<{mark}>" for mark in marks})
    text = t.Qwen3_5TextConfig(
        **text_settings(
            len(tok),
            head_dim=16,
            linear_key_head_dim=16,
            linear_value_head_dim=16,
            linear_num_key_heads=2,
            linear_num_value_heads=2,
            layer_types=["linear_attention", "full_attention"],
        )
    )
    config = t.MiniCPMV4_6Config(
        text_config=text,
        vision_config=vision_settings(insert_layer_id=0),
        insert_layer_id=0,
        image_size=SIZE,
        image_token_id=tok.convert_tokens_to_ids("<image_pad>"),
        video_token_id=tok.convert_tokens_to_ids("<video_pad>"),
    )
    sizes = {"scale_resolution": SIZE, "patch_size": PATCH, "max_slice_nums": 1}
    processor = t.MiniCPMV4_6Processor(
        t.MiniCPMV4_6ImageProcessor(**sizes),
        t.MiniCPMV4_6VideoProcessor(**sizes),
        tok,
        chat_template=template("<image_pad>"),
    )
    save(folder, t.MiniCPMV4_6ForConditionalGeneration(config), processor)


def ernie4_5_vl_moe(folder: Path) -> None:
    import transformers as t

    tok = tokenizer(
        "<|IMAGE_PLACEHOLDER|>",
        image_start_token="<|IMAGE_START|>",
        image_end_token="<|IMAGE_END|>",
        video_token="<|VIDEO_PLACEHOLDER|>",
        video_start_token="<|VIDEO_START|>",
        video_end_token="<|VIDEO_END|>",
    )
    text = text_settings(
        len(tok),
        moe_intermediate_size=[32, 32],
        moe_num_experts=4,
        moe_k=2,
        mlp_layer_types=["dense", "sparse"],
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [3, 3, 2]},
    )
    vision = {"depth": 2, "hidden_size": WIDTH, "num_heads": 2, "patch_size": PATCH, "intermediate_size": 64}
    names = ("image_start", "image_end", "image", "video_start", "video_end", "video")
    ids = {f"{name}_token_id": tok.convert_tokens_to_ids(getattr(tok, f"{name}_token")) for name in names}
    config = t.Ernie4_5_VLMoeConfig(text_config=text, vision_config=vision, **ids)
    sizes = {"patch_size": PATCH, "size": {"shortest_edge": SIZE**2, "longest_edge": 4 * SIZE**2}}
    processor = t.Ernie4_5_VLMoeProcessor(
        t.Ernie4_5_VLMoeImageProcessor(**sizes),
        tok,
        t.Ernie4_5_VLMoeVideoProcessor(**sizes, draw_on_frames=False),
        chat_template=template("<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>"),
    )
    save(folder, t.Ernie4_5_VLMoeForConditionalGeneration(config), processor)


def hunyuan_vl(folder: Path) -> None:
    import transformers as t

    tok = tokenizer(
        "<img_pad>", image_start_token="<img_start>", image_end_token="<img_end>", image_newline_token="<img_newline>"
    )
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 2, 2, 2]}
    text = text_settings(len(tok), head_dim=16, rope_parameters=rope)
    vision = {
        "hidden_size": WIDTH,
        "intermediate_size": 64,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "out_hidden_size": WIDTH,
        "text_hidden_size": WIDTH,
        "patch_size": PATCH,
        "max_image_size": 4 * SIZE,
        "min_image_size": SIZE,
    }
    config = t.HunYuanVLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=tok.convert_tokens_to_ids("<img_pad>"),
        im_start_id=tok.convert_tokens_to_ids("<img_start>"),
        im_end_id=tok.convert_tokens_to_ids("<img_end>"),
        im_newline_id=tok.convert_tokens_to_ids("<img_newline>"),
    )
    images = t.HunYuanVLImageProcessor(patch_size=PATCH, size={"shortest_edge": SIZE**2, "longest_edge": 4 * SIZE**2})
    chat = template("<img_start><img_pad><img_end>")
    save(folder, t.HunYuanVLForConditionalGeneration(config), t.HunYuanVLProcessor(images, tok, chat_template=chat))


def ears() -> dict:
    """Settings of a small Whisper-like encoder."""
    return {
        "num_mel_bins": 16,
        "d_model": WIDTH,
        "encoder_layers": 2,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 64,
        "max_source_positions": 50,
    }


def whisper_features():
    import transformers as t

    return t.WhisperFeatureExtractor(feature_size=16, sampling_rate=16000, hop_length=160, chunk_length=1, n_fft=400)


def qwen2_audio(folder: Path) -> None:
    import transformers as t

    tok = tokenizer(None, audio_token="<|AUDIO|>", audio_bos_token="<|audio_bos|>", audio_eos_token="<|audio_eos|>")
    config = t.Qwen2AudioConfig(
        audio_config=t.Qwen2AudioEncoderConfig(**ears()),
        text_config=t.Qwen2Config(**text_settings(len(tok))),
        audio_token_index=tok.convert_tokens_to_ids("<|AUDIO|>"),
    )
    chat = template("<|audio_bos|><|AUDIO|><|audio_eos|>")
    processor = t.Qwen2AudioProcessor(whisper_features(), tok, chat_template=chat)
    save(folder, t.Qwen2AudioForConditionalGeneration(config), processor)


def qwen2_5_omni(folder: Path) -> None:
    import transformers as t

    names = ("audio", "image", "video", "audio_bos", "audio_eos", "vision_bos", "vision_eos")
    tok = tokenizer(None, **{f"{name}_token": f"<|{name}|>" for name in names})
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0}
    vision = {"depth": 2, "hidden_size": WIDTH, "out_hidden_size": WIDTH, "intermediate_size": 64, "num_heads": 2}
    vision |= {"patch_size": PATCH, "window_size": 32, "fullatt_block_indexes": [1]}
    config = t.Qwen2_5OmniThinkerConfig(
        text_config=text_settings(len(tok), rope_parameters=rope),
        vision_config=vision,
        audio_config=ears() | {"output_dim": WIDTH, "n_window": 20},
        audio_token_index=tok.convert_tokens_to_ids("<|audio|>"),
        image_token_index=tok.convert_tokens_to_ids("<|image|>"),
        video_token_index=tok.convert_tokens_to_ids("<|video|>"),
        audio_start_token_id=tok.convert_tokens_to_ids("<|audio_bos|>"),
        audio_end_token_id=tok.convert_tokens_to_ids("<|audio_eos|>"),
        vision_start_token_id=tok.convert_tokens_to_ids("<|vision_bos|>"),
        vision_end_token_id=tok.convert_tokens_to_ids("<|vision_eos|>"),
    )
    pixels = {"patch_size": PATCH, "size": {"shortest_edge": SIZE**2, "longest_edge": 4 * SIZE**2}}
    chat = template("<|vision_bos|><|image|><|vision_eos|>").replace(
        "{% else %}", "{% elif c.type == 'audio' %}<|audio_bos|><|audio|><|audio_eos|>{% else %}"
    )
    processor = t.Qwen2_5OmniProcessor(
        t.Qwen2VLImageProcessor(**pixels),
        t.Qwen2VLVideoProcessor(**pixels),
        whisper_features(),
        tok,
        chat_template=chat,
    )
    save(folder, t.Qwen2_5OmniThinkerForConditionalGeneration(config), processor)
