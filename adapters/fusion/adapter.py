"""The in-house fusion model behind the harness's interface: it embeds, generates, ranks and explains.

A checkpoint is a folder with config.json, model.safetensors and tokenizer.json, as training writes it. A request may
hold any subset of one text, one image and one clip; what is missing is masked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.adapter import Adapter
from harness.checkpoint import weights_folder
from harness.errors import SampleError, UserError
from harness.records import Answer, Media, Request, Route

from ..text import any_of, plain

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from harness.clock import Clock

    from . import FusionSpec
    from .model import Encoded, Memory


@dataclass
class Prepared:
    """A batch of requests on the host. The tensors of a modality that none of them has stay None."""

    requests: Sequence[Request]
    min_new_tokens: int
    max_new_tokens: int
    ids: Tensor | None = None
    """Token ids int64 [n, tokens]."""
    ids_mask: Tensor | None = None
    """Bool [n, tokens]: which ids are text and not padding."""
    pixels: Tensor | None = None
    """Float32 [n, 3, size, size]."""
    images_mask: Tensor | None = None
    """Bool [n]: which requests have an image."""
    frames: Tensor | None = None
    """Log-mel frames float32 [n, mels, t]."""
    frames_mask: Tensor | None = None
    """Bool [n, t]: which frames are sound and not padding."""
    choices: list[Tensor] = field(default_factory=list)
    """For `rank`, the choices of each request: ids int64 [choices, tokens], each row ended and padded."""

    @property
    def n(self) -> int:
        """How many requests there are."""
        return len(self.requests)

    def pinned(self) -> Prepared:
        """Move the tensors to pinned memory, from which they reach a GPU while the host goes on."""
        for name in ("ids", "ids_mask", "pixels", "images_mask", "frames", "frames_mask"):
            if (tensor := getattr(self, name)) is not None:
                setattr(self, name, tensor.pin_memory())
        return self


class FusionAdapter(Adapter):
    """Serves any checkpoint of the fusion model, whatever its fusion and size."""

    spec: FusionSpec
    imports = (
        "torch",
        "tokenizers",
        "safetensors.torch",
        "harness.adapters.fusion.model",
        "harness.adapters.fusion.processing",
    )

    def load(self, device: str, clock: Clock) -> None:
        """Read the checkpoint; raises UserError when it is missing, corrupt or of another model."""
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file
        from tokenizers import Tokenizer

        from .config import FusionConfig
        from .model import FusionModel

        folder = weights_folder(self.spec.checkpoint, self.spec.revision)
        self.config = FusionConfig.read(folder)
        for name in ("model.safetensors", "tokenizer.json"):
            if not (folder / name).is_file():
                raise UserError(f"{folder} is incomplete: it has no {name}. A fusion checkpoint holds config.json, "
                                "model.safetensors and tokenizer.json.")  # fmt: skip
        self.device, self.dtype, self.clock = torch.device(device), getattr(torch, self.spec.dtype), clock
        try:
            self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # tokenizers raises bare Exception
            raise UserError(f"{folder / 'tokenizer.json'} cannot be read: {error}.") from error
        try:
            model = FusionModel(self.config)
            model.load_state_dict(load_file(folder / "model.safetensors"))
        except (SafetensorError, OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
            message = str(error).splitlines()
            raise UserError(
                f"{folder / 'model.safetensors'} does not fit its config.json: {' '.join(message[:3]).strip()} "
                "The file is corrupt or belongs to another model."
            ) from error
        special = self.tokenizer.get_added_tokens_decoder().values()
        self.marks = any_of(token.content for token in special if token.special)
        self.model = model.to(device=self.device, dtype=self.dtype).eval()

    def close(self) -> None:
        del self.model

    def prepare(self, requests: Sequence[Request], route: Route) -> Prepared:
        """Decode, resize, resample and tokenise. Raises SampleError for two images or two clips in one request."""
        import torch

        from harness.media import in_parallel

        from . import processing

        texts = [self._plain(request.text) for request in requests]
        images = in_parallel(self._image, requests)
        clips = in_parallel(self._clip, requests)
        prepared = Prepared(
            requests=requests,
            min_new_tokens=min(r.min_new_tokens for r in requests),
            max_new_tokens=max(r.max_new_tokens for r in requests),
        )
        if any(text.strip() for text in texts):
            prepared.ids, prepared.ids_mask = processing.texts_to_ids(self.tokenizer, texts, self.config)
        if any(image is not None for image in images):
            size = self.config.image["size"]
            prepared.pixels = torch.stack([torch.zeros(3, size, size) if i is None else i for i in images])
            prepared.images_mask = torch.tensor([image is not None for image in images])
        if any(clip is not None for clip in clips):
            prepared.frames, prepared.frames_mask = processing.pad_frames(clips, self.config.audio["mels"])
        if route == "rank":
            choices = [[plain(choice, self.marks) for choice in request.choices] for request in requests]
            prepared.choices = [processing.answers_to_ids(self.tokenizer, some, self.config) for some in choices]
        return prepared.pinned() if self.device.type == "cuda" else prepared

    def _plain(self, text: str) -> str:
        """The text as the model reads it; in this form full-width marks are like the tokenizer's own."""
        from .processing import normalise

        return plain(normalise(text), self.marks)

    def text_cut(self, inputs: Prepared) -> list[bool]:
        """Whether the text of each request, or one of its choices, is longer than the model takes. Only what fills its
        room is tokenised again."""
        from .processing import longer

        texts = inputs.ids_mask.sum(dim=1).tolist() if inputs.ids_mask is not None else [0] * inputs.n
        choices = [ids.shape[1] for ids in inputs.choices] or [0] * inputs.n
        return [
            (text >= self.config.max_text or choice >= self.config.max_answer)
            and longer(self.tokenizer, self._plain(request.text), request.choices if choice else (), self.config)
            for request, text, choice in zip(inputs.requests, texts, choices, strict=True)
        ]

    def _image(self, request: Request) -> Tensor | None:
        from harness.media import open_image

        from .processing import image_to_pixels

        medium = self._only(request, "image")
        return None if medium is None else image_to_pixels(open_image(medium), self.config)

    def _clip(self, request: Request) -> Tensor | None:
        from harness.media import open_audio

        from .processing import sound_to_frames

        medium = self._only(request, "audio")
        return None if medium is None else sound_to_frames(open_audio(medium, self.config.audio["rate"]), self.config)

    @staticmethod
    def _only(request: Request, kind: Any) -> Media | None:
        media = request.media(kind)
        if len(media) > 1:
            raise SampleError(f"The fusion model takes one {kind} in a request; this one has {len(media)}.")
        return media[0] if media else None

    def _encode(self, inputs: Prepared) -> dict[str, Encoded]:
        parts: dict[str, Encoded] = {}
        if inputs.ids is not None:
            parts["text"] = self.model.encode_text(self._on(inputs.ids), self._on(inputs.ids_mask))
        if inputs.pixels is not None:
            parts["image"] = self.model.encode_image(self._on(inputs.pixels), self._on(inputs.images_mask))
        if inputs.frames is not None:
            parts["audio"] = self.model.encode_audio(self._on(inputs.frames), self._on(inputs.frames_mask))
        if not parts:
            raise SampleError("The request is empty: it has neither text nor image nor audio.")
        return parts

    def _on(self, tensor: Tensor | None) -> Any:
        if tensor is None:
            return None
        tensor = tensor.to(self.device, non_blocking=True)
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor

    def _memory(self, inputs: Prepared) -> Memory:
        with self.clock.phase("encode"):
            return self.model.fuse(self._encode(inputs))

    def embed(self, inputs: Prepared) -> np.ndarray:
        """A joint embedding of whatever parts a request has: float32 [n, width], each row of length one."""
        import torch

        with torch.no_grad():
            return self.model.embed(self._memory(inputs)).cpu().numpy()

    def generate(self, inputs: Prepared) -> list[Answer]:
        """Greedy answers. `tokens_in` counts the tokens of the text, `tokens_out` those of the answer with its end."""
        import torch

        with torch.no_grad():
            memory = self._memory(inputs)
            with self.clock.phase("decode"):
                least, most = inputs.min_new_tokens, min(inputs.max_new_tokens, self.config.max_answer)
                rows = self.model.generate(memory, most, least, self.clock.token)
        with self.clock.phase("postprocess"):
            sent = inputs.ids_mask.sum(1).tolist() if inputs.ids_mask is not None else [0] * inputs.n
            texts = self.tokenizer.decode_batch(rows)
            # A row holds neither its end nor what follows: one as long as the limit has no end.
            return [
                Answer(text.strip(), n, min(len(row) + 1, most), "length" if len(row) >= most else "stop")
                for text, n, row in zip(texts, sent, rows, strict=True)
            ]

    def rank(self, inputs: Prepared) -> list[np.ndarray]:
        """The mean log-likelihood of each choice as the decoder's answer: n arrays, float32 [choices]."""
        import torch

        from .model import Memory

        with torch.no_grad():
            memory = self._memory(inputs)
            scores = []
            with self.clock.phase("decode"):
                for row, ids in enumerate(inputs.choices):
                    one = Memory(memory.tokens[row].expand(len(ids), -1, -1), memory.mask[row].expand(len(ids), -1))
                    scores.append(self.model.likelihood(one, self._on(ids)).cpu().numpy())
        return scores

    def explain(self, inputs: Prepared) -> list[dict[str, np.ndarray]]:
        """What the embedding of each request attends to: "image_attention" [h, w] where it has an image,
        "audio_attention" [t] where it has a clip, and "modality_weights" [3] of text, image and audio.

        Those weights are weighted fusion's own; for another fusion, each modality's share of that attention.
        """
        import torch

        with torch.no_grad():
            parts = self._encode(inputs)
            found = {k: v.float().cpu().numpy() for k, v in self.model.weigh(parts, self.model.fuse(parts)).items()}
        rows = []
        for row in range(inputs.n):
            told = {"modality_weights": found["weights"][row]}
            if inputs.images_mask is not None and inputs.images_mask[row]:
                side = int(found["image"].shape[1] ** 0.5)
                told["image_attention"] = found["image"][row].reshape(side, side)
            if inputs.frames_mask is not None and inputs.frames_mask[row].any():
                kept = parts["audio"].mask[row].cpu().numpy()
                told["audio_attention"] = found["audio"][row][kept]
            rows.append(told)
        return rows
