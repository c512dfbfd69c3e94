"""How the pocket chat models learn: several questions and a caption packed behind one picture.

Each question sees the picture and itself, not its neighbours, and its positions start where the picture's end, so that
packing saves the picture's cost without changing what a single question looks like. Only answers are learned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from harness.pocket.scenes import SIDE, Scene, render
from harness.pocket.teaching import lessons as lessons
from harness.pocket.teaching.lessons import LANGUAGES, Lesson
from harness.pocket.teaching.readers import AboutReader, naming_loss
from harness.train.loop import Trainable

from .chat import BUILDERS
from .parts import tower_weights
from .tower import WIDTH

IGNORED = -100
"""The target of a token that is not learned."""


class _ChatLosses(nn.Module):
    """The model with its losses: on answers, on what image tokens show, and on what a question is about."""

    def __init__(self, model: Any, cells: Sequence[int]) -> None:
        """`model` is a chat model of transformers: its parts `model` and `lm_head` are in no type."""
        super().__init__()
        self.model = model
        self.cells = list(cells)
        """The places of the four image tokens in a row."""
        self.about = AboutReader(WIDTH)

    def forward(
        self,
        targets: Tensor,
        weights: Tensor,
        words: Tensor,
        asked: Tensor,
        about: Tensor,
        mask: Tensor,
        **inputs: Tensor,
    ) -> dict[str, Tensor]:
        # Eager attention (faster to train than the fused kernel at these lengths, on a CPU) adds its mask.
        mask = torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, torch.finfo(torch.float32).min)
        states = self.model.model(**inputs, attention_mask=mask, use_cache=False, output_hidden_states=True)
        hidden = states.last_hidden_state
        # Image tokens are read as they enter the language model and as they leave it: what one shows must be plain
        # from the first layer on.
        shown = F.rms_norm(states.hidden_states[0][:, self.cells], hidden.shape[-1:])
        # Halfway the question has found its object; the layers that are left compare, count and answer.
        middle = states.hidden_states[len(states.hidden_states) // 2]
        learned = targets != IGNORED
        loss = F.cross_entropy(self.model.lm_head(hidden[learned]).float(), targets[learned], reduction="none")
        return {
            "answer": (loss * weights[learned]).sum() / weights[learned].sum(),
            "name": 0.3 * naming_loss(self.model.lm_head(hidden[:, self.cells]), words),
            "show": 0.3 * naming_loss(self.model.lm_head(shown), words),
            "about": 0.5 * self.about(middle[asked[:, 0], asked[:, 1]], about),
        }


class ChatTraining(Trainable[_ChatLosses]):
    """Trains one chat model, beginning with the shared vision tower."""

    def __init__(
        self,
        tower: Path,
        family: str,
        scenes: int = 28,
        closeups: int = 6,
        questions: int = 6,
        more: Sequence[str] = (),
    ) -> None:
        self.chat = BUILDERS[family](tower_weights(tower))
        self.scenes, self.closeups, self.questions, self.more = scenes, closeups, questions, more
        self.chat.model.set_attn_implementation("eager")
        self.tokenizer = self.chat.processor.tokenizer
        blank = {"type": "image", "image": Image.new("RGB", (SIDE, SIDE))}
        made = self.chat.processor.apply_chat_template(
            [[{"role": "user", "content": [blank]}]], tokenize=True, return_dict=True, return_tensors="pt"
        )
        self.prefix: list[int] = made["input_ids"][0].tolist()
        image = self.tokenizer.convert_tokens_to_ids(self.tokenizer.image_token)
        self.module = _ChatLosses(self.chat.model, [i for i, token in enumerate(self.prefix) if token == image])
        self.multimodal = hasattr(self.chat.model.model, "get_rope_index")
        self.prefix_positions = torch.arange(len(self.prefix)).expand(3, -1)
        if self.multimodal:
            extra = {k: v for k, v in made.items() if k in ("image_grid_thw", "mm_token_type_ids")}
            found, _ = self.chat.model.model.get_rope_index(made["input_ids"], **extra)
            self.prefix_positions = found[:, 0]

    def batch(self, rng: np.random.Generator) -> Mapping[str, Tensor]:
        scenes = lessons.draw_scenes(rng, self.scenes - self.scenes // 4)
        scenes += lessons.draw_scenes(rng, self.scenes // 4, "listening")
        closeups = lessons.draw_scenes(rng, self.closeups, "closeups")
        taught: list[list[Lesson]] = []
        for row, scene in enumerate(scenes):
            caption = lessons.caption_lesson(scene, LANGUAGES[row % 2])
            taught.append([*lessons.question_lessons(scene, rng, self.questions, self.more), caption])
        taught += [[lessons.closeup_lesson(scene, language) for language in LANGUAGES] for scene in closeups]
        packed = self._pack(taught)
        packed["words"] = lessons.cell_words([*scenes, *closeups], self._ids)
        return packed | self.chat.pictures(lessons.pixels([*scenes, *closeups]))

    def _pack(self, taught: Sequence[Sequence[Lesson]]) -> dict[str, Tensor]:
        """A row for each picture: the prefix with its image, and then its lessons.

        Ids, positions, targets and weights are [b, n], the mask bool [b, 1, n, n]. `asked` [k, 2] says where the prompt
        of each of the k lessons ends (row, column), and `about` [k, 3] what it is about (see `about_labels`).
        """
        answer_mark = self.tokenizer.convert_tokens_to_ids("<|assistant|>")
        start = int(self.prefix_positions.max()) + 1
        rows = []
        ends: list[tuple[int, int]] = []
        for at, row in enumerate(taught):
            ids, segment = list(self.prefix), [0] * len(self.prefix)
            targets, weights = [IGNORED] * len(ids), [0.0] * len(ids)
            positions: list[int] = []
            for number, lesson in enumerate(row, 1):
                asked = [*self._ids(lesson.prompt), answer_mark]
                said = [*self._ids(lesson.answer), self.tokenizer.eos_token_id]
                ends.append((at, len(ids) + len(asked) - 1))
                ids += asked + said[:-1]
                targets += [IGNORED] * (len(asked) - 1) + said
                weights += [0.0] * (len(asked) - 1) + [0.25 if lesson.category == "caption" else 1.0] * len(said)
                length = len(asked) + len(said) - 1
                segment += [number] * length
                positions += range(start, start + length)
            rows.append((ids, segment, targets, weights, positions))
        n = max(len(ids) for ids, *_ in rows)
        made = {
            "input_ids": torch.zeros(len(rows), n, dtype=torch.long),
            "targets": torch.full((len(rows), n), IGNORED),
            "weights": torch.zeros(len(rows), n),
        }
        segments = torch.full((len(rows), n), -1)
        places = torch.zeros(3, len(rows), n, dtype=torch.long)
        for index, (ids, segment, targets, weights, positions) in enumerate(rows):
            made["input_ids"][index, : len(ids)] = torch.tensor(ids)
            made["targets"][index, : len(ids)] = torch.tensor(targets)
            made["weights"][index, : len(ids)] = torch.tensor(weights)
            segments[index, : len(ids)] = torch.tensor(segment)
            places[:, index, : len(self.prefix)] = self.prefix_positions
            places[:, index, len(self.prefix) : len(ids)] = torch.tensor(positions)
        alike = segments[:, :, None] == segments[:, None, :]
        seen = (alike | (segments == 0)[:, None, :]) & torch.ones(n, n, dtype=torch.bool).tril()
        made |= {"asked": torch.tensor(ends), "about": lessons.about_labels([one for row in taught for one in row])}
        return made | {"mask": seen[:, None], "position_ids": places if self.multimodal else places[0]}

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def validate(self, device: torch.device, count: int = 100) -> dict[str, float]:
        asked = lessons.examine(count)
        answers: list[str] = []
        for start in range(0, len(asked), 64):
            answers += self.answer(asked[start : start + 64], device)
        return lessons.mark(asked, answers)

    def answer(self, asked: Sequence[tuple[Scene, Lesson]], device: torch.device) -> list[str]:
        """Greedy answers through the processor and `generate`, as evaluation gets them."""
        self.tokenizer.padding_side = "left"
        conversations: list[Any] = [
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "image", "image": Image.fromarray(render(scene))},
                        {"type": "text", "text": lesson.prompt},
                    ],
                }
            ]
            for scene, lesson in asked
        ]
        inputs = self.chat.processor.apply_chat_template(
            conversations,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True},
        ).to(device)
        settings = {"do_sample": False, "eos_token_id": self.tokenizer.eos_token_id, "pad_token_id": 0}
        out = self.chat.model.generate(**inputs, max_new_tokens=64, **settings)
        return self.tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)

    def save(self, folder: Path) -> None:
        self.chat.model.generation_config.eos_token_id = self.tokenizer.eos_token_id
        self.chat.model.generation_config.pad_token_id = 0
        self.chat.model.save_pretrained(folder)
        self.chat.processor.save_pretrained(folder)
