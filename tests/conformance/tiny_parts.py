"""What the tiny models are built from: tokenizers, sizes, and how a checkpoint folder is written."""

from __future__ import annotations

from pathlib import Path

WIDTH = 32
SIZE = 32
"""Image width and height in pixels."""
PATCH = 8


def tokenizer(image: str | None = "<image>", **named: str):
    """A tokenizer of printable ASCII and special tokens; `named` become attributes such as `image_token`.

    One character a token, so that decoded text shows every token: a byte of half a character would hide behind "�".
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    named |= {"image_token": image} if image else {}
    basic = ["<pad>", "<s>", "</s>", "<unk>"]
    alphabet = sorted(letter for letter in pre_tokenizers.ByteLevel.alphabet() if letter.isascii() or letter == "Ġ")
    vocabulary = {token: i for i, token in enumerate([*basic, *alphabet])}
    core = Tokenizer(models.BPE(vocabulary, merges=[], unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        cls_token="<s>",
        sep_token="</s>",
        model_max_length=2048,
        model_specific_special_tokens=named,
    )


def save(folder: Path, model, processor, spread: float = 0.15) -> None:
    import torch

    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, spread)
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)


def text_settings(vocabulary: int, **more) -> dict:
    return {
        "vocab_size": vocabulary,
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        **more,
    }


def vision_settings(**more) -> dict:
    return {
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": SIZE,
        "patch_size": PATCH,
        **more,
    }


def square(**more) -> dict:
    return {"size": {"height": SIZE, "width": SIZE}, **more}


def word_tokenizer():
    """BERT's tokenizer over letters, for the families built on BERT."""
    import transformers as t

    letters = "abcdefghijklmnopqrstuvwxyz0123456789?.,"
    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    return t.BertTokenizer(vocab={word: i for i, word in enumerate(words)}, model_max_length=64)


def clip_images():
    import transformers as t

    return t.CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
