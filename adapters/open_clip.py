"""Models of open_clip: CLIP with ViT and ResNet towers (OpenAI, LAION, DataComp ...), and CoCa, which also captions.

Everything is loaded from a folder with `open_clip_config.json` and safetensors, as hub snapshots have them. An
architecture name with a `pretrained` tag is looked up in open_clip's own table of hub repositories.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.checkpoint import weights_folder
from harness.config.specs import MISSING, ModelSpec
from harness.errors import SampleError, UserError, nearest
from harness.records import Answer, Modality, Request, Route

from .dual import DualEncoder, Inputs
from .text import any_of, longer_texts, marks_of, plain

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from harness.clock import Clock


@dataclass
class OpenClipSpec(ModelSpec):
    """Settings of a model of open_clip: `checkpoint` is a hub id, a local folder, or the name of an architecture."""

    checkpoint: str = MISSING
    pretrained: str = ""
    """The tag of an architecture's weights in open_clip's own table."""
    compile: bool = False
    """Whether torch.compile is used: the first batches take longer, later ones less, and answers may differ in their
    last digits."""


class OpenClip(DualEncoder):
    """Embeds a text or an image; texts are cut at the model's context (77 tokens for CLIP)."""

    spec: OpenClipSpec
    imports = ("torch", "open_clip")
    model: Any
    tokenizer: Any
    preprocess: Any

    def load(self, device: str, clock: Clock) -> None:
        """Read the weights; raises UserError when they are missing, not safetensors, or of another model."""
        import open_clip
        import torch
        from safetensors import SafetensorError

        folder = weights_folder(self._checkpoint(), self.spec.revision)
        self._check(folder)
        self.device, self.dtype, self.clock = torch.device(device), getattr(torch, self.spec.dtype), clock
        name = f"local-dir:{folder}"
        try:
            self.model, _, self.preprocess = open_clip.create_model_and_transforms(name)
            self.tokenizer = open_clip.get_tokenizer(name)
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise UserError(f"{folder} does not load as an open_clip model: {error}") from error
        self.model.to(device=self.device, dtype=self.dtype).eval()
        if self.spec.compile:
            # The towers are called one by one, so compiling the whole would compile nothing that runs.
            for part in self.model.children():
                part.compile(dynamic=True)
        self.marks = self._marks()
        self.logit_scale = float(self.model.logit_scale.detach().exp())

    def close(self) -> None:
        self.model = None

    def _marks(self) -> re.Pattern[str] | None:
        inner = getattr(self.tokenizer, "tokenizer", None)
        if inner is not None:
            return marks_of(inner)
        return any_of((self.tokenizer.decoder[i] for i in self.tokenizer.all_special_ids), re.IGNORECASE)

    def _checkpoint(self) -> str:
        """The folder or hub id. An architecture with a `pretrained` tag has its hub id in open_clip's table."""
        if not self.spec.pretrained:
            return self.spec.checkpoint
        import open_clip

        tags = open_clip.list_pretrained_tags_by_model(self.spec.checkpoint)
        if self.spec.pretrained not in tags:
            hint = nearest(self.spec.pretrained, tags)
            raise UserError(f"open_clip knows no '{self.spec.pretrained}' weights of {self.spec.checkpoint}. {hint}")
        repository = open_clip.get_pretrained_cfg(self.spec.checkpoint, self.spec.pretrained).get("hf_hub", "")
        if not repository:
            raise UserError(
                f"open_clip has no hub repository for {self.spec.checkpoint} {self.spec.pretrained}; set 'checkpoint' "
                "to a folder or hub id with open_clip_config.json."
            )
        return repository.rstrip("/")

    def _check(self, folder: Path) -> None:
        """Raises UserError for a folder without safetensors: open_clip itself would fall back to pickles."""
        if not (folder / "open_clip_config.json").is_file():
            raise UserError(f"{folder} has no open_clip_config.json, so it is not an open_clip checkpoint.")
        if not any(folder.glob("*.safetensors")):
            raise UserError(f"{folder} has no .safetensors file. Weights in other formats are not read; convert them.")

    def host_inputs(self, kind: Modality, parts: Sequence[Any]) -> torch.Tensor:
        import torch

        if kind == "text":
            inputs = self.tokenizer(list(parts))
        else:
            from harness.media import in_parallel, open_image

            pixels = in_parallel(lambda part: self.preprocess(open_image(part)), parts)
            inputs = torch.stack(pixels).to(self.dtype)
        return inputs.pin_memory() if self.device.type == "cuda" else inputs

    def longer_than_context(self, texts: Sequence[str], inputs: torch.Tensor) -> list[bool]:
        from open_clip.tokenizer import HFTokenizer

        context, tokenizer = inputs.shape[1], self.tokenizer
        if isinstance(tokenizer, HFTokenizer) and tokenizer.tokenizer_mode != "clips":
            clean = [tokenizer.clean_fn(text) for text in texts]
            return longer_texts(tokenizer.tokenizer, clean, inputs, context, "max_length")
        # The others keep no settings: with room for one token more, a text that was cut has one more.
        full = [i for i, length in enumerate((inputs != 0).sum(dim=1).tolist()) if length >= context - 2]
        more = tokenizer([texts[i] for i in full], context_length=context + 1) if full else inputs[:0]
        longer = {i: bool((row != 0).sum() > (inputs[i] != 0).sum()) for i, row in zip(full, more, strict=True)}
        return [longer.get(i, False) for i in range(len(texts))]

    def features(self, kind: Modality, inputs: torch.Tensor) -> torch.Tensor:
        encode = self.model.encode_text if kind == "text" else self.model.encode_image
        return encode(inputs.to(self.device, non_blocking=True))


@dataclass
class Captions:
    """A prepared batch to caption."""

    pixels: torch.Tensor
    """Float [n, 3, h, w]."""
    prompts: list[list[int]]
    """The token ids of each request's prompt, which the caption continues."""
    cut: list[bool]
    """Whether each prompt is longer than the context."""
    min_new_tokens: int
    max_new_tokens: int


class OpenClipCoCa(OpenClip):
    """CoCa also has a text decoder: it captions an image, or continues a prompt about it, greedily."""

    needs = ("image",)

    def prepare(self, requests: Sequence[Request], route: Route) -> Inputs | Captions:
        if route != "generate":
            return super().prepare(requests, route)
        for request in requests:
            if len(request.media("image")) != 1 or request.media("audio"):
                raise SampleError(f"{self.spec.checkpoint} captions exactly one image at a time.")
        pixels = self.host_inputs("image", [request.media("image")[0] for request in requests])
        room = self.model.context_length - 1
        whole = [
            [self.tokenizer.sot_token_id, *self.tokenizer.encode(plain(request.text, self.marks))]
            for request in requests
        ]
        prompts, cut = [prompt[:room] for prompt in whole], [len(prompt) > room for prompt in whole]
        least, most = min(r.min_new_tokens for r in requests), max(r.max_new_tokens for r in requests)
        return Captions(pixels, prompts, cut, least, most)

    def text_cut(self, inputs: Inputs | Captions) -> Sequence[bool]:
        return inputs.cut if isinstance(inputs, Captions) else super().text_cut(inputs)

    def generate(self, inputs: Captions) -> list[Answer]:
        """Greedy captions, which end at the context's end at the latest. The decoder keeps no cache: each step runs the
        whole text."""
        import torch

        with torch.no_grad():
            with self.clock.phase("encode"):
                latent, tokens = self.model._encode_image(inputs.pixels.to(self.device, non_blocking=True))
            with self.clock.phase("decode"):
                texts = [list(prompt) for prompt in inputs.prompts]
                open_rows = list(range(len(texts)))
                for step in range(inputs.max_new_tokens):
                    open_rows = [i for i in open_rows if len(texts[i]) < self.model.context_length]
                    if not open_rows:
                        break
                    for i, token in zip(open_rows, self._next(latent, tokens, texts, open_rows), strict=True):
                        texts[i].append(token)
                    self.clock.token()
                    if step + 1 >= inputs.min_new_tokens:
                        open_rows = [i for i in open_rows if texts[i][-1] != self.tokenizer.eot_token_id]
        return [self._answer(text, prompt) for text, prompt in zip(texts, inputs.prompts, strict=True)]

    def _next(self, latent: Any, tokens: Any, texts: list[list[int]], rows: list[int]) -> list[int]:
        """The likeliest next token of each of `rows`. Padding on the right changes nothing: the decoder is causal."""
        import torch

        length = max(len(texts[i]) for i in rows)
        ids = torch.tensor([texts[i] + [self.model.pad_id] * (length - len(texts[i])) for i in rows])
        output = self.model(
            image=None,
            text=ids.to(self.device),
            image_latent=latent[rows],
            image_embs=tokens[rows],
            output_labels=False,
        )
        last = torch.tensor([len(texts[i]) - 1 for i in rows], device=self.device)
        logits = output["logits"][torch.arange(len(rows), device=self.device), last]
        return logits.argmax(dim=-1).tolist()

    def _answer(self, text: list[int], prompt: list[int]) -> Answer:
        new = text[len(prompt) :]
        words = [token for token in new if token != self.tokenizer.eot_token_id]
        finish = "stop" if text[-1] == self.tokenizer.eot_token_id else "length"
        return Answer(self.tokenizer.decode(words).strip(), len(prompt), len(new), finish)
