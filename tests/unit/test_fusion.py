"""The fusion model behind the adapter: all four fusions, every subset of modalities, real input preparation."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from harness.adapter import Embeds, Explains, Generates, Ranks
from harness.adapters.fusion import FusionSpec
from harness.clock import Clock
from harness.errors import SampleError, UserError
from harness.records import Media, Request

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file  # noqa: E402

from harness.adapters.fusion.adapter import FusionAdapter  # noqa: E402
from harness.adapters.fusion.config import FusionConfig  # noqa: E402
from harness.adapters.fusion.model import FUSIONS, FusionModel  # noqa: E402
from harness.adapters.fusion.processing import sound_to_frames, texts_to_ids  # noqa: E402
from harness.pocket.teaching.tokenizer import build_tokenizer, normalise  # noqa: E402

rng = np.random.default_rng(0)
TEXTS = ["What is the red object?", "红色的是什么？", "A text with words that no corpus had: Ünïcödé 🎉"]


def picture(seed: int = 0, size: tuple[int, int] = (64, 64)) -> Media:
    array = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    return Media("image", f"picture-{seed}-{size}", array)


def sound(seed: int = 0, seconds: float = 1.0, rate: int = 8000) -> Media:
    wave = np.random.default_rng(seed).normal(0, 0.1, int(seconds * rate)).astype(np.float32)
    return Media("audio", f"sound-{seed}-{seconds}-{rate}", wave, rate=rate)


def write(folder: Path, **settings) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer([*TEXTS[:2], "red circle", "blue"])
    config = FusionConfig(vocabulary=tokenizer.get_vocab_size(), width=32, heads=2, decoder_layers=2, **settings)
    torch.manual_seed(0)
    model = FusionModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.2)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
    config.write(folder)
    save_file(model.state_dict(), folder / "model.safetensors")
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def adapter(folder: Path) -> FusionAdapter:
    spec = FusionSpec(_target_="", origin="in-house", checkpoint=str(folder), dtype="float32", prompt="pocket")
    made = FusionAdapter(spec)
    made.load("cpu", Clock())
    return made


@pytest.fixture(scope="module", params=sorted(FUSIONS))
def model(request, tmp_path_factory) -> FusionAdapter:
    return adapter(write(tmp_path_factory.mktemp("fusion") / "m", fusion=request.param))


def subsets() -> list[tuple]:
    parts = (picture(), sound(), TEXTS[0])
    return [chosen for n in (1, 2, 3) for chosen in combinations(parts, n)]


def test_it_embeds_generates_ranks_and_explains(model):
    assert all(isinstance(model, capability) for capability in (Embeds, Generates, Ranks, Explains))


def test_every_subset_of_modalities_has_a_unit_embedding_of_its_own(model):
    requests = [Request(parts) for parts in subsets()]
    rows = model.embed(model.prepare(requests, "embed"))
    assert rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    likeness = rows @ rows.T - 2 * np.eye(len(rows))
    assert likeness.max() < 0.99999


def test_a_batch_answers_as_each_request_alone(model):
    texts = [*TEXTS, ""]
    requests = [
        Request(
            (*parts[:2], *([texts[i % 4]] if i % 2 else [])) if any(not isinstance(p, str) for p in parts) else parts
        )
        for i, parts in enumerate([*subsets(), (picture(1), sound(1, 0.3)), (sound(2, 2.5),)])
    ]
    together = model.embed(model.prepare(requests, "embed"))
    alone = np.concatenate([model.embed(model.prepare([request], "embed")) for request in requests])
    assert np.allclose(together, alone, atol=2e-5)
    said = [a.text for a in model.generate(model.prepare(requests, "generate"))]
    assert said == [model.generate(model.prepare([r], "generate"))[0].text for r in requests]


def test_choices_are_ranked_by_mean_log_likelihood(model):
    requests = [Request((picture(), TEXTS[0]), ("blue", "red circle", "蓝")), Request((picture(1),), ("red", "blue"))]
    scores = model.rank(model.prepare(requests, "rank"))
    assert [len(row) for row in scores] == [3, 2]
    inputs = model.prepare(requests[:1], "rank")
    with torch.no_grad():
        memory = model._memory(inputs)
        ids = [*model.tokenizer.encode("red circle").ids, 2]
        logits = model.model.decode(memory, torch.tensor([[1, *ids[:-1]]])).log_softmax(-1)[0]
    expected = float(logits[torch.arange(len(ids)), torch.tensor(ids)].mean())
    assert scores[0][1] == pytest.approx(expected, abs=1e-4)


def test_generation_with_a_cache_equals_reading_the_whole_answer_again(model):
    memory = model._memory(model.prepare([Request((picture(), TEXTS[0]))], "generate"))
    with torch.no_grad():
        tokens = [1]
        for _ in range(8):
            tokens.append(int(model.model.decode(memory, torch.tensor([tokens]))[0, -1].argmax()))
        fast = model.model.generate(memory, 8)[0]
    slow = tokens[1:]
    slow = slow[: slow.index(2)] if 2 in slow else slow
    assert fast == [token for token in slow if token != 0]


def test_explanations_have_the_shapes_of_what_was_shown(model):
    told = model.explain(model.prepare([Request((picture(), sound(), "blue")), Request(("blue",))], "embed"))
    assert told[0]["image_attention"].shape == (2, 2)
    assert told[0]["audio_attention"].shape == (13,)
    assert told[0]["modality_weights"].sum() == pytest.approx(1, abs=1e-5)
    assert set(told[1]) == {"modality_weights"}
    assert told[1]["modality_weights"].tolist() == pytest.approx([1, 0, 0], abs=1e-5)


def test_a_clip_may_have_any_rate_and_length(model):
    requests = [Request((sound(0, seconds, rate),)) for seconds, rate in ((0.05, 8000), (7, 8000), (1, 44100))]
    assert model.embed(model.prepare(requests, "embed")).shape == (3, 32)


def test_two_images_in_a_request_are_that_samples_error(model):
    with pytest.raises(SampleError, match="one image"):
        model.prepare([Request((picture(), picture(1)))], "embed")


def test_sizes_of_the_four_fusions_are_within_ten_per_cent():
    sizes = [sum(p.numel() for p in FusionModel(FusionConfig(fusion=name)).parameters()) for name in FUSIONS]
    assert max(sizes) / min(sizes) < 1.1
    assert 1e6 < max(sizes) < 3e6


def test_weighted_fusion_learns_its_weights_through_a_softmax_over_those_present():
    model = FusionModel(FusionConfig(fusion="weighted", width=32, heads=2))
    with torch.no_grad():
        model.fusion.logits.copy_(torch.tensor([0.0, 1.0, 2.0]))
    ids = torch.ones(1, 3, dtype=torch.long)
    parts = {"text": model.encode_text(ids, ids > 0), "image": model.encode_image(torch.zeros(1, 3, 64, 64))}
    memory = model.fuse(parts)
    expected = torch.tensor([0.0, 1.0]).softmax(0).tolist()
    assert memory.weights[0].tolist() == pytest.approx([*expected, 0.0], abs=1e-6)
    memory.tokens.sum().backward()
    assert model.fusion.logits.grad is not None


def test_weights_fixed_by_the_user_are_not_learned(tmp_path):
    fixed = adapter(write(tmp_path / "fixed", fusion="weighted", fixed_weights=(0.5, 0.3, 0.2)))
    told = fixed.explain(fixed.prepare([Request((picture(), sound(), "blue"))], "embed"))
    assert told[0]["modality_weights"].tolist() == pytest.approx([0.5, 0.3, 0.2], abs=1e-5)
    assert not fixed.model.fusion.logits.requires_grad


def test_a_modality_keeps_a_path_of_its_own_past_the_fusion():
    config = FusionConfig(fusion="concat", width=32, heads=2)
    model = FusionModel(config).eval()
    with torch.no_grad():
        for parameter in model.fusion.parameters():
            parameter.zero_()
        pictures = torch.randn(2, 3, 64, 64)
        rows = model.embed(model.fuse({"image": model.encode_image(pictures)}))
    assert not torch.allclose(rows[0], rows[1], atol=1e-4)


def test_half_precision_weights_run_in_bfloat16(tmp_path):
    folder = write(tmp_path / "half")
    save_file({k: v.half() if v.is_floating_point() else v for k, v in load_file(folder / "model.safetensors").items()},
              folder / "model.safetensors")  # fmt: skip
    spec = FusionSpec(_target_="", origin="", checkpoint=str(folder), dtype="bfloat16")
    half = FusionAdapter(spec)
    half.load("cpu", Clock())
    requests = [Request((picture(), sound(), "blue"), ("red", "blue"))]
    assert half.embed(half.prepare(requests, "embed")).dtype == np.float32
    assert np.isfinite(half.rank(half.prepare(requests, "rank"))[0]).all()


def test_text_is_normalised_and_unknown_text_falls_back_to_bytes():
    tokenizer = build_tokenizer(["red circle"])
    plain, _ = texts_to_ids(tokenizer, ["red circle?"], FusionConfig())
    wide, _ = texts_to_ids(tokenizer, ["  ｒｅｄ \n circle？"], FusionConfig())
    assert torch.equal(plain, wide)
    for text in TEXTS:
        assert tokenizer.decode(tokenizer.encode(normalise(text)).ids) == normalise(text)


def test_text_and_choices_that_are_cut_are_counted(model):
    room = model.config.max_text - (len(model.tokenizer.encode("").ids))
    texts = ["1" * n for n in (room, room + 1, 3 * room)]  # a digit is a token of its own
    assert [len(model.tokenizer.encode(text).ids) - model.config.max_text for text in texts[:2]] == [0, 1]
    asked = [Request((picture(), text), ("yes", "no")) for text in ("red", *texts)]
    for route in ("embed", "rank", "generate"):
        assert model.text_cut(model.prepare(asked, route)) == [False, False, True, True]
    long = "1" * model.config.max_answer
    asked = [Request((picture(), "red"), choices) for choices in (("yes", "no"), ("yes", long))]
    assert model.text_cut(model.prepare(asked, "rank")) == [False, True]
    assert model.text_cut(model.prepare(asked, "generate")) == [False, False]
    assert model.text_cut(model.prepare([Request((picture(),))], "embed")) == [False]


def test_chinese_characters_and_digits_are_tokens_of_their_own():
    tokenizer = build_tokenizer(["红色的圆形", "12"] * 50)
    assert len(tokenizer.encode("红色的圆形").ids) == 5
    assert len(tokenizer.encode("12").ids) == 2


def test_a_louder_tone_has_more_energy_in_its_own_band():
    config = FusionConfig()
    time = np.arange(8000) / 8000
    low, high = (sound_to_frames(np.sin(2 * np.pi * f * time).astype(np.float32), config) for f in (300, 3000))
    assert low.shape == (40, 101)
    assert int(low.mean(1).argmax()) < int(high.mean(1).argmax())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "model.safetensors").write_bytes(b"no weights"), "corrupt or belongs to another model"),
        (lambda f: (f / "model.safetensors").unlink(), "it has no model.safetensors"),
        (lambda f: save_file({"x": torch.zeros(1)}, f / "model.safetensors"), "does not fit its config.json"),
        (lambda f: (f / "tokenizer.json").write_text("{"), "tokenizer.json cannot be read"),
        (lambda f: (f / "config.json").write_text("{"), "cannot be read as a fusion checkpoint"),
        (lambda f: (f / "config.json").write_text(json.dumps({"model_type": "bert"})), "'bert'"),
        (lambda f: (f / "config.json").write_text(json.dumps({"model_type": "harness-fusion", "widht": 1})), "'width'"),
    ],
)
def test_a_corrupt_or_foreign_checkpoint_is_one_clear_error(tmp_path, spoil, message):
    folder = write(tmp_path / "spoilt")
    spoil(folder)
    with pytest.raises(UserError, match=message):
        adapter(folder)


def test_an_unknown_fusion_names_the_nearest():
    with pytest.raises(UserError, match="self-attention"):
        FusionConfig(fusion="self-atention")  # type: ignore[arg-type]


def tiny_backbones(folder: Path) -> dict[str, str]:
    import transformers as t

    torch.manual_seed(1)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz?.,", "red", "circle"]
    tokenizer = t.BertTokenizer(vocab={word: i for i, word in enumerate(words)})
    t.BertModel(t.BertConfig(vocab_size=len(words), **small)).save_pretrained(folder / "text")
    tokenizer.save_pretrained(folder / "text")
    t.ViTModel(t.ViTConfig(image_size=32, patch_size=8, **small)).save_pretrained(folder / "image")
    audio = t.ASTConfig(max_length=64, num_mel_bins=32, patch_size=16, frequency_stride=16, time_stride=16, **small)
    t.ASTModel(audio).save_pretrained(folder / "audio")
    return {kind: str(folder / kind) for kind in ("text", "image", "audio")}


@pytest.mark.parametrize("image", ["folder", "timm"])
def test_the_base_size_trains_around_published_backbones_and_loads_without_them(tmp_path, image, monkeypatch):
    from harness.adapters.fusion.training import Fusion
    from harness.train.loop import Schedule, train

    sources = tiny_backbones(tmp_path / "backbones")
    if image == "timm":
        timm = pytest.importorskip("timm")
        create = timm.create_model
        monkeypatch.setattr(timm, "create_model", lambda name, pretrained, **more: create(name, False, **more))
        sources["image"] = "test_resnet.r160_in1k"
    sizes = {"width": 32, "heads": 2, "fusion_layers": 1, "decoder_layers": 1}
    taught = Fusion("cross-attention", backbones=sources, freeze=False, scenes=3, closeups=2, listening=2, **sizes)
    monkeypatch.setattr(taught, "validate", lambda device: {"score": 1.0})
    before = taught.module.model.image.backbone.state_dict()
    before = {k: v.clone() for k, v in before.items() if v.is_floating_point()}
    plan = Schedule(steps=2, learning_rate=1e-3, warmup=1, validate_every=2, save_every=2, precision="no")
    assert train(taught, plan, tmp_path / "run", device="cpu").complete
    after = taught.module.model.image.backbone.state_dict()
    assert any(not torch.equal(after[name], value) for name, value in before.items())
    model = adapter(tmp_path / "run" / "best")
    requests = [Request((picture(), sound(0, seconds), "red circle?"), ("red", "circle")) for seconds in (0.2, 3)]
    alone = np.concatenate([model.embed(model.prepare([r], "embed")) for r in requests])
    assert np.allclose(model.embed(model.prepare(requests, "embed")), alone, atol=1e-4)
    assert len(model.rank(model.prepare(requests, "rank"))) == 2


def test_pretrained_backbone_weights_are_what_training_begins_with(tmp_path):
    import transformers as t

    from harness.adapters.fusion.training import Fusion

    sources = tiny_backbones(tmp_path)
    taught = Fusion("concat", backbones=sources, width=32, heads=2, fusion_layers=1, decoder_layers=1)
    for kind in sources:
        own = getattr(taught.module.model, kind).backbone.state_dict()
        for name, value in t.AutoModel.from_pretrained(sources[kind]).state_dict().items():
            assert torch.equal(own[name], value), (kind, name)
