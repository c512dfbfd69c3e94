"""Image-text models without a chat template: each continues, or answers, a bare prompt behind one image.

`Prompted` serves those whose processor pads a batch rightly (BLIP-2, InstructBLIP, Florence-2 ...), `PromptedDecoder`
those whose language model is one with the whole (PaliGemma), so that choices can be ranked as well. `Git` and `Blip`
build their prompts themselves, because their processors add an end mark behind a prompt that is to be continued.

Some models attend to padding (BLIP's answer decoder takes no mask of the question, Kosmos-2 counts it as positions),
and then an answer depends on the batch it was in. For these, `unpadded` runs prompts of equal length together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.records import Answer, Request, Route

from ..text import marks_of, plain
from .base import Tensors, TransformersAdapter, context_length, one_image_each
from .decoding import (
    answer_lengths,
    choice_likelihoods,
    choice_tokens,
    count_tokens,
    finishes,
    generate_greedily,
    use_greedy_decoding,
)

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from harness.clock import Clock


@dataclass
class Group:
    """Requests that run together."""

    rows: list[int]
    """Where they stand in the batch."""
    tensors: Tensors
    choices: list[list[list[int]]] = field(default_factory=list)
    """The token ids of each choice of each request; empty for `generate`."""


@dataclass
class Prompts:
    """A prepared batch."""

    n: int
    """How many requests there are."""
    groups: list[Group]
    lengths: tuple[int, int]
    """The fewest and the most tokens of an answer."""
    texts: list[str]
    """The prompt of each request."""


class Prompted(TransformersAdapter):
    """Generates from one image and a prompt, worded by the prompt profile as the family was trained."""

    needs = ("image",)
    unpadded = False
    """Whether the model attends to padding, so that only prompts of equal length may share a batch."""
    room: int | None = None
    """How many tokens of a prompt are taken; None: all of them."""

    def model_class(self, folder: Path, arguments: Mapping[str, Any]) -> Any:
        """The architecture that the checkpoint names: one family may caption or answer, and only this tells which."""
        import transformers

        names = transformers.AutoConfig.from_pretrained(folder, **arguments).architectures or [""]
        found = getattr(transformers, names[0], transformers.AutoModelForImageTextToText)
        if not hasattr(found, "generate") and hasattr(found, "forward"):
            raise ValueError(f"it holds a {names[0]}, which does not generate text.")
        return found

    def load(self, device: str, clock: Clock) -> None:
        super().load(device, clock)
        self.tokenizer = self.processor.tokenizer
        self.marks = marks_of(self.tokenizer, self.processor)
        use_greedy_decoding(self.model, self.tokenizer.pad_token_id)
        decoder = _decoder(self.model)
        self.stop = decoder.generation_config.eos_token_id
        self.has_encoder = decoder.config.is_encoder_decoder
        # A decoder's answer follows its prompt in every row; an encoder counts positions from the left.
        self.tokenizer.padding_side = "right" if self.has_encoder else "left"

    def prepare(self, requests: Sequence[Request], route: Route) -> Prompts:
        """Decode, resize and tokenise; raises SampleError for a request without exactly one image."""
        images = one_image_each(requests, type(self.model).__name__)
        texts = [plain(request.text, self.marks) for request in requests]
        groups = []
        for rows in self._together(texts):
            tensors = self.to_host(self.encode([images[i] for i in rows], [texts[i] for i in rows]))
            choices = [self._choices(requests[i]) for i in rows] if route == "rank" else []
            groups.append(Group(rows, tensors, choices))
        return Prompts(len(requests), groups, answer_lengths(requests), texts)

    def text_cut(self, inputs: Prompts) -> list[bool]:
        """Whether each prompt has more tokens than are taken; only those of full length are tokenised again."""
        cut = [False] * inputs.n
        if self.room is None:
            return cut
        for group in inputs.groups:
            lengths = group.tensors["attention_mask"].sum(dim=1).tolist()
            for row, length in zip(group.rows, lengths, strict=True):
                if length > self.room:  # with the marks that frame the prompt
                    cut[row] = len(self.tokenizer(inputs.texts[row], add_special_tokens=False).input_ids) > self.room
        return cut

    def encode(self, images: list[Any], prompts: list[str]) -> Mapping[str, Any]:
        """The model's inputs for images and prompts, padded to one length."""
        inputs = self.processor(images=images, text=prompts, padding=True, return_tensors="pt")
        return {name: value for name, value in inputs.items() if name != "labels"}

    def _together(self, texts: Sequence[str]) -> list[list[int]]:
        """Indices of the requests that may share a batch, by their prompts."""
        if not self.unpadded:
            return [list(range(len(texts)))]
        lengths: dict[int, list[int]] = {}
        for i, text in enumerate(texts):
            lengths.setdefault(len(self.tokenizer(text).input_ids), []).append(i)
        return list(lengths.values())

    def _choices(self, request: Request) -> list[list[int]]:
        # The prompt ends in a word or a colon, so an answer in a spaced script begins with a space.
        space = "" if request.language == "zh" else " "
        return choice_tokens(self.tokenizer, [space + plain(choice, self.marks) for choice in request.choices])

    def generate(self, inputs: Prompts) -> list[Answer]:
        """Greedy answers. Families differ in whether `generate` repeats the prompt: where it does, it is cut off."""
        answers: list[Answer] = [Answer("")] * inputs.n
        for group in inputs.groups:
            tensors = self.to_device(group.tensors)
            output = generate_greedily(self.model.generate, tensors, inputs.lengths, self.clock)
            output = output[:, self.prompt_width(output, tensors["input_ids"]) :]
            with self.clock.phase("postprocess"):
                sent = group.tensors["attention_mask"].sum(dim=1).tolist()
                counts = zip(sent, count_tokens(output, self.stop), finishes(output, self.stop), strict=True)
                texts = self.tokenizer.batch_decode(output, skip_special_tokens=True)
                for row, text, told in zip(group.rows, texts, counts, strict=True):
                    answers[row] = Answer(text.strip(), *told)
        return answers

    def prompt_width(self, output: Any, prompt: Any) -> int:
        """How many columns of `output` come before the answer: the prompt, or an encoder-decoder's start mark."""
        if self.has_encoder:
            return 1
        width = prompt.shape[1]
        return width if output.shape[1] >= width and bool((output[:, :width] == prompt).all()) else 0


class PromptedDecoder(Prompted):
    """One decoder reads image, prompt and answer, so that it also ranks choices as continuations of the prompt."""

    def rank(self, inputs: Prompts) -> list[np.ndarray]:
        """The mean log-likelihood of each choice's tokens behind the prompt: n arrays, float32 [choices]."""
        import numpy as np

        scores: list[np.ndarray] = [np.empty(0)] * inputs.n
        for group in inputs.groups:
            tensors = self.to_device(group.tensors)
            found = choice_likelihoods(self.model, tensors, group.choices, self.clock)
            for row, values in zip(group.rows, found, strict=True):
                scores[row] = values
        return scores


class PaliGemma(PromptedDecoder):
    """PaliGemma, whose processor wants the place of the image marked in the text."""

    def encode(self, images: list[Any], prompts: list[str]) -> Mapping[str, Any]:
        return super().encode(images, [self.processor.image_token + prompt for prompt in prompts])


class Kosmos2(Prompted):
    """Kosmos-2, which counts padding as positions."""

    unpadded = True


class Git(PromptedDecoder):
    """GIT, which continues [CLS] and the question, without an end mark, with the answer."""

    def load(self, device: str, clock: Clock) -> None:
        import transformers
        from packaging.version import Version

        if Version(transformers.__version__) < Version("5.18"):
            raise UserError(
                f"GIT decodes wrongly with its cache in transformers {transformers.__version__}: update transformers "
                "to 5.18 or later, or leave this model out."
            )
        super().load(device, clock)
        self.room = _room(self, marks=1)

    def encode(self, images: list[Any], prompts: list[str]) -> Mapping[str, Any]:
        return _open_prompts(self, images, prompts, self.tokenizer.cls_token_id, [])


class Blip(Prompted):
    """BLIP, for captions (it continues a prompt, mostly the empty one) or for questions (an encoder reads them)."""

    unpadded = True

    def load(self, device: str, clock: Clock) -> None:
        super().load(device, clock)
        self.stop = self.model.config.text_config.sep_token_id
        self.room = _room(self, marks=2)

    def encode(self, images: list[Any], prompts: list[str]) -> Mapping[str, Any]:
        start, end = self.tokenizer.cls_token_id, [self.tokenizer.sep_token_id]
        return _open_prompts(self, images, prompts, start, end)

    def prompt_width(self, output: Any, prompt: Any) -> int:
        # `generate` puts the decoder's own mark first and takes off the end mark; behind a question it repeats nothing.
        return super().prompt_width(output[:, 1:], prompt[:, 1:-1]) + 1


def _decoder(model: Any) -> Any:
    """The part of a model that writes, where the family's own `generate` hands over to it; otherwise the model."""
    parts = ("language_model", "text_model", "text_decoder") if "generate" in vars(type(model)) else ()
    return next((getattr(model, part) for part in parts if hasattr(model, part)), model)


def _room(adapter: Prompted, marks: int) -> int | None:
    """How many tokens of a prompt fit into the model's context beside the marks that frame it."""
    context = context_length(adapter.tokenizer, adapter.model)
    return None if context is None else context - marks


def _open_prompts(
    adapter: Prompted, images: list[Any], prompts: list[str], start: int, end: list[int]
) -> dict[str, Any]:
    """Pixels, and left-padded prompts between `start` and `end`, cut where the adapter has no more room."""
    tokenizer = adapter.tokenizer
    ids = [[start, *tokenizer(p, add_special_tokens=False).input_ids[: adapter.room], *end] for p in prompts]
    padded = tokenizer.pad({"input_ids": ids}, return_tensors="pt")
    pixels = adapter.processor.image_processor(images=images, return_tensors="pt")
    return {**pixels, "input_ids": padded["input_ids"], "attention_mask": padded["attention_mask"]}
