"""Models that are asked through a chat template: Qwen-VL, InternVL, MiniCPM-V, LLaVA, SmolVLM, Gemma 3 and their like.

One class serves all that `AutoModelForImageTextToText` knows (some 90 architectures): the processor's chat template
puts images and text in the order and wording that each model was trained on, so nothing here depends on which it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import SampleError, UserError
from harness.records import Answer, Media, Request, Route

from ..text import marks_of, plain
from .base import Tensors, TransformersAdapter
from .decoding import (
    answer_lengths,
    choice_likelihoods,
    choice_tokens,
    count_tokens,
    finishes,
    generate_greedily,
    plain_generate,
    use_greedy_decoding,
)

if TYPE_CHECKING:
    import numpy as np

    from harness.clock import Clock

    from . import TransformersSpec


@dataclass
class Prompts:
    """A prepared batch."""

    tensors: Tensors
    lengths: tuple[int, int]
    """The fewest and the most tokens of an answer."""
    choices: list[list[list[int]]]
    """The token ids of each choice of each request; empty for `generate`."""


class ChatModel(TransformersAdapter):
    """An image-text-to-text model with a chat template; generates, and ranks choices as the assistant's answer.

    `template` goes to the chat template, such as {enable_thinking: false}.
    """

    def __init__(self, spec: TransformersSpec, template: Mapping[str, Any] | None = None) -> None:
        super().__init__(spec)
        self.template = dict(template or {})
        self.auto_class = "AutoModelForMultimodalLM" if "audio" in spec.modalities else "AutoModelForImageTextToText"

    def load(self, device: str, clock: Clock) -> None:
        from transformers import PreTrainedTokenizerBase

        super().load(device, clock)
        # The template may stand in the tokenizer alone, or in code of the tokenizer's own (Voxtral's).
        tokenizer = self.processor.tokenizer
        template = getattr(self.processor, "chat_template", None) or getattr(tokenizer, "chat_template", None)
        if template:
            self.processor.chat_template = template
        elif type(tokenizer).apply_chat_template is PreTrainedTokenizerBase.apply_chat_template:
            raise UserError(
                f"{self.spec.checkpoint} has no chat template, so it cannot be asked as a chat model. "
                "Instruction-tuned variants have one; a model that takes a bare prompt is served by _target_ "
                "harness.adapters.transformers.prompted.Prompted."
            )
        self.tokenizer = self.processor.tokenizer
        self.marks = marks_of(self.tokenizer, self.processor)
        # An answer follows its prompt in every row. A tokenizer does not save this, so it is set after loading.
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        use_greedy_decoding(self.model, self.tokenizer.pad_token_id)

    def prepare(self, requests: Sequence[Request], route: Route) -> Prompts:
        """Decode the media, fill in the chat template, tokenise and pad; needs no device."""
        from harness.media import in_parallel

        conversations = [[{"role": "user", "content": content}] for content in in_parallel(self._content, requests)]
        tensors = self.processor.apply_chat_template(
            conversations,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True},
            **{"add_generation_prompt": True, **self.template},
        )
        choices = []
        if route == "rank":
            choices = [choice_tokens(self.tokenizer, [plain(c, self.marks) for c in r.choices]) for r in requests]
        return Prompts(self.to_host(tensors), answer_lengths(requests), choices)

    def _content(self, request: Request) -> list[dict[str, Any]]:
        """The parts in their order, in the form that chat templates read."""
        from harness.media import open_audio, open_image

        content: list[dict[str, Any]] = []
        for part in request.parts:
            if isinstance(part, str):
                content.append({"type": "text", "text": plain(part, self.marks)})
            elif part.kind == "image":
                content.append({"type": "image", "image": open_image(part)})
            else:
                content.append({"type": "audio", "audio": open_audio(part, self._sampling_rate(part))})
        return content

    def _sampling_rate(self, part: Media) -> int:
        extractor = getattr(self.processor, "feature_extractor", None)
        if extractor is None:
            raise SampleError(f"{self.spec.checkpoint} takes no sound ({part.where or part.key}).")
        return extractor.sampling_rate

    def generate(self, inputs: Prompts) -> list[Answer]:
        """Greedy answers, without the prompt that `generate` repeats."""
        tensors = self.to_device(inputs.tensors)
        width = tensors["input_ids"].shape[1]
        rows = generate_greedily(plain_generate(self.model), tensors, inputs.lengths, self.clock)[:, width:]
        sent = inputs.tensors["attention_mask"].sum(dim=1).tolist()
        with self.clock.phase("postprocess"):
            stop = self.model.generation_config.eos_token_id
            counts = zip(sent, count_tokens(rows, stop), finishes(rows, stop), strict=True)
            texts = self.tokenizer.batch_decode(rows, skip_special_tokens=True)
            return [Answer(text.strip(), *told) for text, told in zip(texts, counts, strict=True)]

    def rank(self, inputs: Prompts) -> list[np.ndarray]:
        """The mean log-likelihood of each choice's tokens as the answer's beginning: n arrays, float32 [choices]."""
        tensors = self.to_device(inputs.tensors)
        return choice_likelihoods(self.model, tensors, inputs.choices, self.clock)


class OneByOne(ChatModel):
    """A chat model whose answers depend on the batch, run one request at a time within each batch.

    HunYuan-VL is one: it numbers the images of a whole batch through, and that number enters their positions.

    What it prepares is of another type than its base class's, and only its own methods are given it: hence the comments
    for the type checker.
    """

    def prepare(self, requests: Sequence[Request], route: Route) -> list[Prompts]:  # pyright: ignore[reportIncompatibleMethodOverride]
        parent = super()
        return [parent.prepare([request], route) for request in requests]

    def generate(self, inputs: list[Prompts]) -> list[Answer]:  # pyright: ignore[reportIncompatibleMethodOverride]
        parent = super()
        return [answer for prompts in inputs for answer in parent.generate(prompts)]

    def rank(self, inputs: list[Prompts]) -> list[np.ndarray]:  # pyright: ignore[reportIncompatibleMethodOverride]
        parent = super()
        return [scores for prompts in inputs for scores in parent.rank(prompts)]
