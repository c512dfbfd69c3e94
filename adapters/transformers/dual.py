"""Dual encoders that transformers loads: CLIP, Chinese-CLIP, SigLIP, SigLIP 2, AltCLIP, MetaCLIP 2; CLAP for sound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.records import Modality

from ..dual import DualEncoder
from ..text import longer_texts, marks_of
from .base import Tensors, TransformersAdapter, context_length

if TYPE_CHECKING:
    import torch

    from harness.clock import Clock


class TransformersDual(DualEncoder, TransformersAdapter):
    """Embeds a text or an image; a text that is longer than the model's context is cut off at its end."""

    def load(self, device: str, clock: Clock) -> None:
        super().load(device, clock)
        # CLAP has a scale for each direction; the one that classifies a sound by texts is the audio's.
        scale = getattr(self.model, "logit_scale", None)
        self.logit_scale = float((self.model.logit_scale_a if scale is None else scale).detach().exp())
        self.marks = marks_of(self.processor.tokenizer)
        self.context = context_length(self.processor.tokenizer, self.model)
        # SigLIP was trained on texts padded on the right to full length, and reads the last position, whatever stands
        # there; SigLIP 2 on texts in small letters. Not every tokenizer that comes with a checkpoint does so by itself.
        kind = self.model.config.model_type
        self.padding = "max_length" if kind.startswith("siglip") else True
        if kind.startswith("siglip"):
            self.processor.tokenizer.padding_side = "right"
        self.small_letters = kind.startswith("siglip2")

    def check(self, built: type) -> None:
        for kind in self.encodes:
            if not hasattr(built, f"get_{kind}_features"):
                raise ValueError(f"it holds a {built.__name__}, which has no embedding of {kind} of its own.")

    def host_inputs(self, kind: Modality, parts: Sequence[Any]) -> Tensors:
        if kind == "text":
            return self.to_host(
                self.processor.tokenizer(
                    self._written(parts),
                    padding=self.padding,
                    truncation=True,
                    max_length=self.context,
                    return_tensors="pt",
                )
            )
        from harness.media import in_parallel, open_image

        images = in_parallel(open_image, parts)
        return self.to_host(self.processor.image_processor(images=images, return_tensors="pt"))

    def longer_than_context(self, texts: Sequence[str], inputs: Tensors) -> list[bool]:
        shown = self._written(texts)
        return longer_texts(self.processor.tokenizer, shown, inputs["input_ids"], self.context, self.padding)

    def _written(self, texts: Sequence[str]) -> list[str]:
        """The texts as the model was trained on them."""
        return [text.lower() for text in texts] if self.small_letters else list(texts)

    def features(self, kind: Modality, inputs: Tensors) -> torch.Tensor:
        encode = getattr(self.model, f"get_{kind}_features")
        output = encode(**self.to_device(inputs))
        return getattr(output, "pooler_output", output)


class Clap(TransformersDual):
    """Embeds a text or a sound. A clip that is longer than the model's window is cut off at its end: the feature
    extractor would cut out a random window, and an answer must not depend on chance."""

    encodes = ("text", "audio")

    def host_inputs(self, kind: Modality, parts: Sequence[Any]) -> Tensors:
        if kind == "text":
            return super().host_inputs(kind, parts)
        from harness.media import in_parallel, open_audio

        extractor = self.processor.feature_extractor
        sounds = in_parallel(lambda part: open_audio(part, extractor.sampling_rate), parts)
        clips = [sound[: extractor.nb_max_samples] for sound in sounds]
        inputs = extractor(clips, sampling_rate=extractor.sampling_rate, return_tensors="pt")
        # The extractor of "fused" checkpoints marks a random clip of the batch as longer, though none is.
        inputs["is_longer"] = inputs["is_longer"] & False
        return self.to_host(inputs)
