"""How the fusion model is trained on the pocket data: encoders first, then everything together.

The image encoder learns from dense labels and the audio encoder from naming the digit (`Encoders`, once for all four
fusions). Then (`Fusion`) the decoder learns to answer several questions behind each image, to caption it, and to answer
what is asked about a clip, while embeddings of image, caption and both at once are drawn together across languages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from harness.checkpoint import weights_folder
from harness.pocket.scenes import Scene
from harness.pocket.speech import RATE
from harness.pocket.teaching import lessons as lessons
from harness.pocket.teaching.lessons import LANGUAGES, Lesson
from harness.pocket.teaching.readers import AboutReader, GridReader, VectorReader, naming_loss, read_accuracy
from harness.pocket.teaching.tokenizer import build_tokenizer, normalise
from harness.pocket.text import SPOKEN_CATEGORIES, caption
from harness.train.loop import Trainable

from .config import FusionConfig
from .model import Encoded, FusionModel, Memory
from .processing import answers_to_ids, normalise_pixels, pad_frames, sound_to_frames, texts_to_ids


def tokenizer_for(corpus: Sequence[str]) -> Any:
    """The tokenizer of a model trained on `corpus`, as written and as normalised."""
    return build_tokenizer([*corpus, *map(normalise, corpus)])


class _EncoderLosses(nn.Module):
    """The image and the audio encoder with their losses."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        model = FusionModel(config)
        self.image, self.audio = model.image, model.audio
        self.reader = GridReader(config.image["size"] // 2 ** len(config.image["widths"]), self.image.channels)
        self.digit = nn.Linear(self.audio.channels, 10)

    def forward(
        self, pixels: Tensor, labels: Tensor, frames: Tensor, mask: Tensor, digits: Tensor
    ) -> dict[str, Tensor]:
        return {
            "dense": self.reader(self.image(pixels), labels),
            "digit": F.cross_entropy(self.hear(frames, mask), digits),
        }

    def hear(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Logits [b, 10] of the digit that is said in each clip."""
        tokens, mask = self.audio(frames, mask)
        return self.digit((tokens * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)).float()


class Encoders(Trainable[_EncoderLosses]):
    """Trains the image and the audio encoder that the four fusions begin with."""

    def __init__(self, scenes: int = 48, closeups: int = 16, clips: int = 32) -> None:
        self.config = FusionConfig()
        self.scenes, self.closeups, self.clips = scenes, closeups, clips
        self.module = _EncoderLosses(self.config)
        self.module.image.to(memory_format=torch.channels_last)

    def _sounds(self, digits: Sequence[int], split: lessons.TaughtSplit, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        heard = [
            lessons.clip(Lesson("", "", "", LANGUAGES[seed % 2], int(digit)), split, int(seed))
            for digit, seed in zip(digits, seeds, strict=True)
        ]
        return pad_frames([sound_to_frames(sound, self.config) for sound in heard], self.config.audio["mels"])

    def batch(self, rng: np.random.Generator) -> Mapping[str, Tensor]:
        listening = self.scenes // 4
        drawn = lessons.draw_scenes(rng, self.scenes - listening) + lessons.draw_scenes(rng, listening, "listening")
        drawn += lessons.draw_scenes(rng, self.closeups, "closeups")
        digits = rng.integers(0, 10, self.clips)
        frames, mask = self._sounds(digits.tolist(), "train", rng.integers(0, 2**31, self.clips).tolist())
        return {
            "pixels": lessons.pixels(drawn),
            "labels": lessons.dense_labels(drawn),
            "frames": frames,
            "mask": mask,
            "digits": torch.from_numpy(digits),
        }

    def validate(self, device: torch.device) -> dict[str, float]:
        drawn = lessons.examination(400) + lessons.examination(200, "closeups")
        read = self.module.reader.read(self.module.image(lessons.pixels(drawn).to(device)))
        scores = read_accuracy(*read, lessons.dense_labels(drawn).to(device))
        digits = [i % 10 for i in range(400)]
        frames, mask = self._sounds(digits, "validation", range(400))
        heard = self.module.hear(frames.to(device), mask.to(device)).argmax(-1).cpu()
        scores["digit"] = float((heard == torch.tensor(digits)).float().mean())
        return {"mean": sum(scores.values()) / 3} | scores

    def save(self, folder: Path) -> None:
        kept = self.module.state_dict()
        save_file(
            {k: v.contiguous() for k, v in kept.items() if k.startswith(("image.", "audio."))},
            folder / "model.safetensors",
        )


class _FusionLosses(nn.Module):
    """The model with its losses. With `freeze` the encoders of image and audio stay as they come."""

    def __init__(self, config: FusionConfig, freeze: bool, weights: Mapping[str, float]) -> None:
        super().__init__()
        self.weights = weights
        self.model = FusionModel(config)
        self.reader = VectorReader(config.width)
        self.about = AboutReader(config.width)
        if freeze:
            self.model.image.requires_grad_(False)
            self.model.audio.requires_grad_(False)

    def train(self, mode: bool = True) -> _FusionLosses:
        super().train(mode)
        # Batch statistics of the few pictures in a step would blur what was learned on many.
        self.model.image.eval()
        return self

    def forward(self, **batch: Tensor) -> dict[str, Tensor]:
        image = self.model.encode_image(batch["pixels"])
        losses = {"name": naming_loss(self._cells(image), batch["words"])}
        for name in ("ask", "tell", "hear"):
            parts = {
                "text": self.model.encode_text(batch[f"{name}_ids"], batch[f"{name}_mask"]),
                "image": image.rows(batch[f"{name}_rows"]),
            }
            if name == "hear":
                parts["audio"] = self.model.encode_audio(batch["frames"], batch["frames_mask"])
            memory = self.model.fuse(parts if name == "tell" else self._drop(parts))
            losses[name] = self._answer(memory, batch[f"{name}_answers"])
            if name != "tell":
                losses[f"{name}_about"] = self.about(self._fused(memory), batch[f"{name}_about"])
        losses |= self._contrast(image.rows(batch["match_rows"]), batch)
        return {name: self.weights[name.removesuffix("_about")] * loss for name, loss in losses.items()}

    def _cells(self, image: Encoded) -> Tensor:
        """What the image's own tokens in each cell say in the decoder's words: logits [b, 4, vocabulary]."""
        side = int(image.tokens.shape[1] ** 0.5)
        grid = self.model.norm(image.tokens).transpose(1, 2).unflatten(2, (side, side))
        return F.adaptive_avg_pool2d(grid, 2).flatten(2).transpose(1, 2) @ self.model.text.embedding.weight.T

    def _fused(self, memory: Memory) -> Tensor:
        """The mean [b, width] of the tokens that come from the fusion, where question and picture have met."""
        mask = memory.mask[:, : memory.fused, None]
        return (memory.tokens[:, : memory.fused] * mask).sum(1) / mask.sum(1).clamp(min=1)

    def _drop(self, parts: dict[str, Encoded]) -> dict[str, Encoded]:
        """Mask a modality of some rows (modality dropout)."""
        rate = self.model.config.modality_dropout
        if not self.training or rate == 0:
            return parts
        kept = {}
        for name, part in parts.items():
            keep = torch.rand(len(part.tokens), 1, device=part.tokens.device) >= rate
            kept[name] = Encoded(part.tokens, part.mask & keep)
        return kept

    def _answer(self, memory: Memory, answers: Tensor) -> Tensor:
        logits = self.model.decode(memory, self.model.shifted(answers))
        return F.cross_entropy(logits.flatten(0, 1).float(), answers.flatten(), ignore_index=self.model.pad)

    def _contrast(self, image: Encoded, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The losses of matching an image, its caption in one language, or both at once, with the caption in the other
        language, and of telling the objects back from either embedding."""
        text = self.model.encode_text(batch["own_ids"], batch["own_mask"])
        draw = torch.rand(len(image.tokens), 1, device=image.tokens.device)
        asking = {
            "text": Encoded(text.tokens, text.mask & (draw > 0.65)),
            "image": Encoded(image.tokens, image.mask & (draw < 0.85)),
        }
        first = self.model.pooled(self.model.fuse(asking))
        second = self.model.pooled(
            self.model.fuse({"text": self.model.encode_text(batch["other_ids"], batch["other_mask"])})
        )
        scores = F.normalize(first.float(), dim=-1) @ F.normalize(second.float(), dim=-1).T
        scores = scores * self.model.scale.exp().clamp(max=100)
        # Rows that say the same (two close-ups of one kind) are not each other's negatives.
        same = batch["match_keys"][:, None] == batch["match_keys"]
        same.fill_diagonal_(False)
        scores = scores.masked_fill(same, -1e4)
        own = torch.arange(len(scores), device=scores.device)
        return {
            "match": F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own),
            "recall": self.reader(first, batch["labels"]) + self.reader(second, batch["labels"]),
        }


WEIGHTS = {"ask": 1.0, "tell": 1.0, "hear": 0.5, "name": 0.3, "match": 0.25, "recall": 0.25}
"""How much each loss counts: answers ("ask"), captions ("tell"), answers about a clip ("hear"), words for the tokens of
an image ("name"), the contrast between embeddings ("match") and telling the objects back from them ("recall")."""


class Fusion(Trainable[_FusionLosses]):
    """Trains one fusion model.

    The pocket size begins with the encoders in folder `encoders`, or with the checkpoint in `start`, without its fusion
    where `fresh_fusion` is true. The base size is built around pretrained `backbones` {"text", "image", "audio"}: each
    is a folder or a hub id, and that of the image may be a name that timm knows. `sizes` are fields of FusionConfig.
    """

    def __init__(
        self,
        fusion: str,
        encoders: Path | None = None,
        backbones: Mapping[str, str] | None = None,
        scenes: int = 24,
        closeups: int = 8,
        listening: int = 8,
        questions: int = 4,
        captions: int = 16,
        more: Sequence[str] = (),
        freeze: bool = True,
        start: Path | None = None,
        fresh_fusion: bool = True,
        weights: Mapping[str, float] | None = None,
        **sizes: Any,
    ) -> None:
        if backbones:
            from .backbones import base_config

            self.tokenizer = Tokenizer.from_file(str(weights_folder(backbones["text"]) / "tokenizer.json"))
            self.config = base_config(**backbones, fusion=fusion, **sizes)
        else:
            self.tokenizer = tokenizer_for(lessons.corpus())
            self.config = FusionConfig(fusion=fusion, vocabulary=self.tokenizer.get_vocab_size(), **sizes)  # type: ignore
        self.scenes, self.closeups, self.listening = scenes, closeups, listening
        self.questions, self.captions, self.more = questions, captions, more
        self.module = _FusionLosses(self.config, freeze, WEIGHTS | dict(weights or {}))
        if backbones:
            from .backbones import load_pretrained

            load_pretrained(self.module.model, **backbones)
        if start:
            kept = load_file(start / "model.safetensors")
            if fresh_fusion:
                kept = {name: value for name, value in kept.items() if not name.startswith("fusion.")}
            self.module.model.load_state_dict(kept, strict=False)
        if encoders:
            self.module.model.load_state_dict(load_file(encoders / "model.safetensors"), strict=False)
        self.module.model.image.to(memory_format=torch.channels_last)

    def batch(self, rng: np.random.Generator) -> Mapping[str, Tensor]:
        scenes = lessons.draw_scenes(rng, self.scenes)
        closeups = lessons.draw_scenes(rng, self.closeups, "closeups")
        listening = lessons.draw_scenes(rng, self.listening, "listening")
        ask: list[tuple[int, Lesson]] = []
        tell: list[tuple[int, Lesson]] = []
        hear: list[tuple[int, Lesson]] = []
        for row, scene in enumerate(scenes):
            ask += [(row, lesson) for lesson in lessons.question_lessons(scene, rng, self.questions, self.more)]
            if row < self.captions:
                tell.append((row, lessons.caption_lesson(scene, LANGUAGES[row % 2])))
        for row, scene in enumerate(closeups, len(scenes)):
            ask.append((row, lessons.closeup_lesson(scene, LANGUAGES[row % 2])))
        for row, scene in enumerate(listening, len(scenes) + len(closeups)):
            for category in rng.permutation(SPOKEN_CATEGORIES)[:3]:
                lesson = lessons.question_lesson(scene, LANGUAGES[int(rng.integers(2))], rng, str(category))
                if lesson is not None:
                    hear.append((row, lesson))
        shown = [*scenes, *closeups, *listening]
        made = {"pixels": self._pixels(shown), "words": lessons.cell_words(shown, self._tokens)}
        for name, members in (("ask", ask), ("tell", tell), ("hear", hear)):
            made[f"{name}_rows"] = torch.tensor([row for row, _ in members])
            made[f"{name}_about"] = lessons.about_labels([lesson for _, lesson in members])
            made[f"{name}_ids"], made[f"{name}_mask"] = self._ids([lesson.prompt for _, lesson in members])
            made[f"{name}_answers"] = answers_to_ids(
                self.tokenizer, [lesson.answer for _, lesson in members], self.config
            )
        clips = [lessons.clip(lesson, "train", int(rng.integers(2**31))) for _, lesson in hear]
        made["frames"], made["frames_mask"] = self._frames(clips)
        matched = [*scenes, *closeups]
        made["match_rows"] = torch.arange(len(matched))
        made["labels"] = lessons.dense_labels(matched)
        made["match_keys"] = torch.tensor(
            [int(k) if k else 1000 + i for i, k in enumerate(made["labels"][:, 4, 0].tolist())]
        )
        said = [[caption(scene, language) for scene in scenes] for language in LANGUAGES]
        for texts, language in zip(said, LANGUAGES, strict=True):
            texts += [(caption if rng.random() < 0.5 else lessons.label_text)(scene, language) for scene in closeups]
        turn = rng.random(len(matched)) < 0.5
        made["own_ids"], made["own_mask"] = self._ids([a if t else b for a, b, t in zip(*said, turn, strict=True)])
        made["other_ids"], made["other_mask"] = self._ids([b if t else a for a, b, t in zip(*said, turn, strict=True)])
        return made

    def _tokens(self, word: str) -> list[int]:
        return self.tokenizer.encode(word, add_special_tokens=False).ids

    def _ids(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        return texts_to_ids(self.tokenizer, texts, self.config)

    def _pixels(self, scenes: Sequence[Scene]) -> Tensor:
        return normalise_pixels((lessons.pixels(scenes) + 1) / 2, self.config)

    def _frames(self, clips: Sequence[np.ndarray | None]) -> tuple[Tensor, Tensor]:
        rate = self.config.audio["rate"]
        heard = [None if c is None else sound_to_frames(soxr.resample(c, RATE, rate), self.config) for c in clips]
        return pad_frames(heard, self.config.audio["mels"])

    def validate(self, device: torch.device, count: int = 64) -> dict[str, float]:
        asked = lessons.examine(count, spoken=True)
        answers: list[str] = []
        for start in range(0, len(asked), 128):
            answers += self.answer(asked[start : start + 128], device)
        scores = lessons.mark(asked, answers)
        scenes = lessons.examination(500)
        image = self.embed(device, scenes=scenes)
        for language in LANGUAGES:
            texts = self.embed(device, texts=[caption(scene, language) for scene in scenes])
            scores[f"i2t_{language}"] = lessons.recall_at_1(image, texts)
        closeups = lessons.examination(160, "closeups")
        image = self.embed(device, scenes=closeups)
        for language in LANGUAGES:
            texts = self.embed(device, texts=[lessons.label_text(scene, language) for scene in closeups[:16]])
            kinds = torch.arange(160) % 16
            scores[f"zero_shot_{language}"] = float(((image @ texts.T).argmax(1).cpu() == kinds).float().mean())
        return {"mean": sum(scores.values()) / len(scores)} | scores

    def answer(self, asked: Sequence[tuple[Any, Lesson]], device: torch.device) -> list[str]:
        """Greedy answers to lessons, for validation; a spoken lesson gets a clip of the validation voices."""
        model = self.module.model
        ids, mask = self._ids([lesson.prompt for _, lesson in asked])
        parts = {
            "text": model.encode_text(ids.to(device), mask.to(device)),
            "image": model.encode_image(self._pixels([scene for scene, _ in asked]).to(device)),
        }
        clips = [
            None if lesson.spoken is None else lessons.clip(lesson, "validation", number)
            for number, (_, lesson) in enumerate(asked)
        ]
        if any(clip is not None for clip in clips):
            frames, heard = self._frames(clips)
            parts["audio"] = model.encode_audio(frames.to(device), heard.to(device))
        return self.tokenizer.decode_batch(model.generate(model.fuse(parts), self.config.max_answer))

    def embed(
        self, device: torch.device, scenes: Sequence[Any] | None = None, texts: Sequence[str] | None = None
    ) -> Tensor:
        """Embeddings [n, width] of pictures, where `scenes` are given, or else of texts."""
        model = self.module.model
        if scenes is not None:
            return model.embed(model.fuse({"image": model.encode_image(self._pixels(scenes).to(device))}))
        ids, mask = self._ids(texts or [])
        return model.embed(model.fuse({"text": model.encode_text(ids.to(device), mask.to(device))}))

    def save(self, folder: Path) -> None:
        self.config.write(folder)
        self.tokenizer.save(str(folder / "tokenizer.json"))
        save_file({k: v.contiguous() for k, v in self.module.model.state_dict().items()}, folder / "model.safetensors")
