"""Published backbones as encoders of the fusion model: a BERT-like text model, a timm or ViT image model, an AST.

Their architecture is kept in the fusion checkpoint's own config, so a trained model loads without a hub; pretrained
weights come from a folder or hub id once, at the beginning of training (`load_pretrained`).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from harness.errors import UserError

from .config import FusionConfig
from .encoders import Encoder, WordEncoder


def _build(settings: dict[str, Any]) -> tuple[nn.Module, Any]:
    """An untrained model of transformers for a config as a dict, and that config, whose fields no common type names."""
    from transformers import AutoConfig, AutoModel

    kept = dict(settings)
    config = AutoConfig.for_model(kept.pop("model_type"), **kept)
    return AutoModel.from_config(config), config


class TextBackbone(WordEncoder):
    """Token ids [b, n] to the last hidden states of a transformers encoder [b, n, channels]."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.backbone, settings = _build(config.text["backbone"])
        self.channels = settings.hidden_size
        # The decoder cannot share the backbone's own embedding, which is of another width.
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.backbone(input_ids=ids, attention_mask=mask.long()).last_hidden_state


class ImageBackbone(Encoder):
    """Pixels [b, 3, size, size] to the tokens of a timm model's or a transformers ViT's last grid [b, n, channels]."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        if "timm" in config.image:
            import timm

            made: Any = timm.create_model(config.image["timm"], pretrained=False, num_classes=0)
            self.backbone: nn.Module = made
            self.channels = made.num_features
            self.prefix: int = getattr(made, "num_prefix_tokens", 0)
        else:
            self.backbone, settings = _build(config.image["backbone"])
            self.channels = settings.hidden_size
            self.prefix = 1
        """How many tokens, such as [CLS], stand before those of the grid."""

    def forward(self, pixels: Tensor) -> Tensor:
        features = getattr(self.backbone, "forward_features", None)
        x = features(pixels) if features else self.backbone(pixel_values=pixels).last_hidden_state
        return x.flatten(2).transpose(1, 2) if x.ndim == 4 else x[:, self.prefix :]


class AudioBackbone(Encoder):
    """Log-mel frames [b, mels, t] to the tokens of an audio spectrogram transformer [b, n, channels] and their mask.

    The model reads windows of a fixed length: a shorter clip is padded, a longer one is read window by window.
    """

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.backbone, settings = _build(config.audio["backbone"])
        self.channels = settings.hidden_size
        self.window: int = settings.max_length

    def forward(self, frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        b, mels, t = frames.shape
        count = -(-t // self.window)
        extra = count * self.window - t
        frames = nn.functional.pad(frames * mask[:, None], (0, extra))
        heard = nn.functional.pad(mask, (0, extra)).view(b, count, self.window).any(2)
        windows = frames.view(b, mels, count, self.window).permute(0, 2, 3, 1).reshape(-1, self.window, mels)
        tokens = self.backbone(input_values=windows).last_hidden_state
        per_window = tokens.shape[1]
        return tokens.reshape(b, count * per_window, -1), heard.repeat_interleave(per_window, 1)


def base_config(text: str, image: str, audio: str, **settings: Any) -> FusionConfig:
    """The architecture around three backbones, each a local folder or a fetched hub id; `image` may be a timm name.

    Raises UserError when one is not on this machine.
    """
    from transformers import AutoConfig, AutoTokenizer

    from harness.checkpoint import weights_folder

    words, sounds = AutoConfig.from_pretrained(weights_folder(text)), AutoConfig.from_pretrained(weights_folder(audio))
    tok = AutoTokenizer.from_pretrained(weights_folder(text))
    if _is_timm(image):
        import timm
        from timm.data.config import resolve_data_config

        data = resolve_data_config(model=timm.create_model(image, pretrained=False))
        sight = {"timm": image, "size": data["input_size"][1], "mean": list(data["mean"]), "std": list(data["std"])}
    else:
        eyes = AutoConfig.from_pretrained(weights_folder(image))
        sight = {"backbone": eyes.to_dict(), "size": eyes.image_size}
    return FusionConfig(
        **{
            "width": 512,
            "heads": 8,
            "fusion_layers": 4,
            "decoder_layers": 6,
            "vocabulary": len(tok),
            "special": (tok.pad_token_id, tok.cls_token_id, tok.sep_token_id),
            "text": {"backbone": words.to_dict()},
            "image": sight,
            "audio": {"backbone": sounds.to_dict(), "rate": 16_000, "mels": sounds.num_mel_bins},
            **settings,
        }
    )


def load_pretrained(model: Any, text: str, image: str, audio: str) -> None:
    """Copy the pretrained weights of three backbones into a FusionModel that `base_config` made for them."""
    from transformers import AutoModel

    from harness.checkpoint import weights_folder

    for encoder, source in ((model.text, text), (model.image, image), (model.audio, audio)):
        if encoder is model.image and _is_timm(image):
            import timm

            weights = timm.create_model(image, pretrained=True, num_classes=0).state_dict()
        else:
            weights = AutoModel.from_pretrained(weights_folder(source), use_safetensors=True).state_dict()
        encoder.backbone.load_state_dict(weights)


def _is_timm(name: str) -> bool:
    """Whether `name` is an architecture of timm; a folder or a hub id ("owner/name") is not."""
    if "/" in name:
        return False
    try:
        import timm
    except ImportError as error:
        raise UserError(f"'{name}' is a timm model, and timm is not installed: pip install 'timm>=1'.") from error
    return name.split(".")[0] in timm.list_models()
