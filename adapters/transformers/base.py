"""What every model loaded through transformers has in common: reading weights, and moving tensors to the device.

Weights are read from a folder (see `harness.checkpoint`), from safetensors alone, straight into the dtype that the spec
names. A parameter that the checkpoint does not have would silently be random, so that is an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.adapter import Adapter
from harness.checkpoint import weights_folder
from harness.errors import SampleError, UserError
from harness.records import Media, Request

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from PIL.Image import Image

    from harness.clock import Clock

    from . import TransformersSpec

Tensors = dict[str, Any]
"""Keyword arguments of a model's forward: tensors, on the host or on the device."""


class TransformersAdapter(Adapter):
    """Loads a processor and a model; families add what is done with them."""

    spec: TransformersSpec
    imports = (
        "torch",
        "transformers",
        "transformers.modeling_utils",
        "transformers.models.auto.modeling_auto",
        "transformers.models.auto.processing_auto",
        "transformers.generation.utils",
    )
    auto_class = "AutoModel"
    """The class of transformers that picks the architecture, unless the spec names one."""
    processor: Any
    model: Any
    device: torch.device
    dtype: torch.dtype
    clock: Clock

    def load(self, device: str, clock: Clock) -> None:
        """Read processor and weights; raises UserError when they are missing, incomplete or of another model."""
        import torch

        folder = weights_folder(self.spec.checkpoint, self.spec.revision)
        self.device, self.dtype, self.clock = torch.device(device), getattr(torch, self.spec.dtype), clock
        self.processor, self.model = self._read(folder)
        self.model.eval()
        if self.spec.compile:
            # `generate` and the features of the towers call the parts, so compiling the whole would miss them.
            for part in self.model.children():
                part.compile(dynamic=True)

    def close(self) -> None:
        self.model = self.processor = None

    def _read(self, folder: Path) -> tuple[Any, Any]:
        import transformers
        from safetensors import SafetensorError

        arguments: dict[str, Any] = {"local_files_only": True, "trust_remote_code": self.spec.trust_remote_code}
        bars = transformers.utils.logging.is_progress_bar_enabled()
        transformers.utils.logging.disable_progress_bar()
        try:
            model_class = self.model_class(folder, arguments)
            self._look_at(model_class, folder, arguments)
            processor = transformers.AutoProcessor.from_pretrained(folder, **arguments, **self.spec.processor)
            model, info = model_class.from_pretrained(
                folder,
                dtype=self.dtype,
                attn_implementation=self.spec.attention,
                use_safetensors=True,
                output_loading_info=True,
                device_map={"": self.device},
                **arguments,
            )
        except (OSError, ValueError, KeyError, TypeError, ImportError, SafetensorError) as error:
            raise UserError(f"{folder} does not load as a {type(self).__name__}: {error}") from error
        finally:
            if bars:
                transformers.utils.logging.enable_progress_bar()
        if info["missing_keys"]:
            missing = sorted(info["missing_keys"])
            raise UserError(
                f"{folder}: the weights lack {len(missing)} of the model's parameters, such as {missing[0]}. "
                "The file is incomplete or belongs to another architecture."
            )
        return processor, model

    def model_class(self, folder: Path, arguments: Mapping[str, Any]) -> Any:
        """The class whose `from_pretrained` builds the model."""
        import transformers

        name = self.spec.auto_class or self.auto_class
        found = getattr(transformers, name, None)
        if not hasattr(found, "from_pretrained"):
            raise ValueError(f"transformers {transformers.__version__} has no model class '{name}' (auto_class).")
        return found

    def _look_at(self, model_class: Any, folder: Path, arguments: Mapping[str, Any]) -> None:
        """Raise ValueError for a config of a model that the family cannot ask, before anything of its size is built."""
        import transformers

        if self.spec.trust_remote_code:  # the repository's own code says what is built
            return
        config = transformers.AutoConfig.from_pretrained(folder, **arguments)
        kind = config.model_type
        mapping = getattr(model_class, "_model_mapping", None)
        if mapping is None:  # one architecture, or a part of a larger model
            wanted = model_class.config_class.model_type
            if not wanted.startswith(kind):
                raise ValueError(f"it holds a model of type '{kind}', not '{wanted}'.")
            built = model_class
        elif type(config) not in mapping:
            raise ValueError(f"it holds a model of type '{kind}', and {model_class.__name__} builds none of these.")
        else:
            built = mapping[type(config)]
        self.check(built[0] if isinstance(built, tuple) else built)

    def check(self, built: type) -> None:
        """Raise ValueError for a model that lacks what the family needs; `built` is its class."""

    def to_host(self, tensors: Mapping[str, Any]) -> Tensors:
        """The tensors, floating ones in the model's dtype, in pinned memory where the device is a GPU; what is None is
        left out."""
        import torch

        host = {}
        for name, value in tensors.items():
            if isinstance(value, torch.Tensor):
                value = value.to(self.dtype) if value.is_floating_point() else value
                value = value.pin_memory() if self.device.type == "cuda" else value
            if value is not None:
                host[name] = value
        return host

    def to_device(self, tensors: Mapping[str, Any]) -> Tensors:
        """Copies on the device, for which the host does not wait."""
        import torch

        return {
            name: value.to(self.device, non_blocking=True) if isinstance(value, torch.Tensor) else value
            for name, value in tensors.items()
        }


def one_image_each(requests: Sequence[Request], family: str) -> list[Image]:
    """The single image of each request, decoded to RGB; raises SampleError for another number, for sound, and for an
    image that does not open."""
    from harness.media import in_parallel, open_image

    for request in requests:
        if len(request.media("image")) != 1 or request.media("audio"):
            kinds = ", ".join(part.kind for part in request.parts if isinstance(part, Media)) or "none"
            raise SampleError(f"{family} takes exactly one image and no sound; the request's media: {kinds}.")
    return in_parallel(open_image, [request.media("image")[0] for request in requests])


def context_length(tokenizer: Any, model: Any) -> int | None:
    """How many tokens of text the model takes: the tokenizer's limit or the number of positions, whichever is less.

    None where neither is known. RoBERTa-like encoders count positions from behind the id of padding, and have so many
    positions fewer.
    """
    limits = [tokenizer.model_max_length] if tokenizer.model_max_length < 1_000_000 else []
    if positions := getattr(model.config.get_text_config(), "max_position_embeddings", None):
        tables = (getattr(module, "position_embeddings", None) for module in model.modules())
        paddings = (getattr(table, "padding_idx", None) for table in tables)
        offsets = [index + 1 for index in paddings if index is not None]
        limits.append(positions - max(offsets, default=0))
    return min(limits, default=None)
