"""Every family of models, built tiny from its config class with random weights and saved as a checkpoint folder.

The adapters load these folders through the code that loads real weights, so the tests need neither a network nor large
files. A builder takes a folder and writes config, weights, tokenizer and processor; `FAMILIES` says how to load it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tiny_chat
import tiny_dual
import tiny_prompted

DUAL = "harness.adapters.transformers.dual"
PROMPTED = "harness.adapters.transformers.prompted"
OPEN_CLIP = "harness.adapters.open_clip"


@dataclass(frozen=True)
class Family:
    build: Callable[[Path], None]
    target: str = "harness.adapters.transformers.chat.ChatModel"
    routes: tuple[str, ...] = ("rank", "generate")
    attention: str = "sdpa"
    modality: str = "image"
    auto_class: str = ""


THINKER = "Qwen2_5OmniThinkerForConditionalGeneration"
EMBED, GENERATE = ("embed",), ("generate",)
CHAT = (
    "qwen2_vl qwen2_5_vl qwen3_vl glm4v internvl minicpmv4_6 ovis2 ernie4_5_vl_moe janus llava llava_onevision smolvlm "
    "idefics3 gemma3"
)
FAMILIES: dict[str, Family] = {name: Family(getattr(tiny_chat, name)) for name in CHAT.split()}
FAMILIES |= {
    "hunyuan_vl": Family(tiny_chat.hunyuan_vl, "harness.adapters.transformers.chat.OneByOne"),
    "qwen2_audio": Family(tiny_chat.qwen2_audio, modality="audio"),
    "qwen2_5_omni": Family(tiny_chat.qwen2_5_omni, auto_class=THINKER),
    "git": Family(tiny_prompted.git, f"{PROMPTED}.Git", attention="eager"),
    "paligemma": Family(tiny_prompted.paligemma, f"{PROMPTED}.PaliGemma"),
    "blip": Family(tiny_prompted.blip, f"{PROMPTED}.Blip", GENERATE, "eager"),
    "blip_vqa": Family(tiny_prompted.blip_vqa, f"{PROMPTED}.Blip", GENERATE, "eager"),
    "blip_2": Family(tiny_prompted.blip_2, f"{PROMPTED}.Prompted", GENERATE),
    "florence2": Family(tiny_prompted.florence2, f"{PROMPTED}.Prompted", GENERATE),
    "kosmos2": Family(tiny_prompted.kosmos2, f"{PROMPTED}.Kosmos2", GENERATE),
    "vilt": Family(tiny_prompted.vilt, "harness.adapters.transformers.labels.LabelAnswers", attention="eager"),
    "clap": Family(tiny_dual.clap, f"{DUAL}.Clap", EMBED, "eager", modality="audio"),
    "open_clip_vit": Family(tiny_dual.open_clip_vit, f"{OPEN_CLIP}.OpenClip", EMBED),
    "open_clip_rn": Family(tiny_dual.open_clip_rn, f"{OPEN_CLIP}.OpenClip", EMBED),
    "open_clip_coca": Family(tiny_dual.open_clip_coca, f"{OPEN_CLIP}.OpenClipCoCa", EMBED + GENERATE),
}
for _name in ["clip", "chinese_clip", "siglip", "siglip2", "altclip", "metaclip_2"]:
    FAMILIES[_name] = Family(getattr(tiny_dual, _name), f"{DUAL}.TransformersDual", EMBED)
