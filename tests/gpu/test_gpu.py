"""What only a real GPU can show: dtypes, memory, the device's own clock, and the same answers as on the CPU."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import pytest

from harness.adapters.fusion import FusionSpec
from harness.adapters.open_clip import OpenClipSpec
from harness.adapters.transformers import TransformersSpec
from harness.clock import Clock, CudaTimer
from harness.measure import machine

MIB = 2**20


def loaded(target: str, spec: type, name: str, device: str, dtype: str = "float32"):
    from harness.adapter import Adapter
    from harness.targets import load_class

    adapter = load_class(target, Adapter)(
        spec(_target_=target, origin="in-house", checkpoint=f"bundled:{name}", dtype=dtype, prompt="pocket")
    )
    adapter.load(device, Clock())
    return adapter


def requests(n: int, route: str = "generate"):
    """Questions of the pocket data, with their images."""
    from harness.config.compose import compose
    from harness.run import plan

    run, *_ = compose(["model=fusion-self-attention", "task=vqa", "dataset=pocket", f"limit={2 * n}", "device=cpu"])
    planned = plan.make(run)
    (key, dataset) = next(iter(planned.datasets.items()))
    task, prompt = planned.task(key[0]), run.prompts["pocket"]
    return [task.request(dataset[i], route, dataset, prompt) for i in range(n)]


MODELS = {
    "fusion-self-attention": ("harness.adapters.fusion.adapter.FusionAdapter", FusionSpec),
    "pocket-qwen3-vl": ("harness.adapters.transformers.chat.ChatModel", TransformersSpec),
}


def test_the_dtype_chosen_for_the_gpu_is_one_that_it_has():
    import torch

    found = machine.pick_dtype("auto", "cuda")
    assert found == ("bfloat16" if torch.cuda.is_bf16_supported() else "float16")
    assert machine.pick_device("auto") == "cuda"
    assert machine.describe_device("cuda")["gpu"] == torch.cuda.get_device_name()


@pytest.mark.parametrize("name", MODELS)
def test_answers_on_the_gpu_are_those_of_the_cpu(name):
    asked = requests(32)
    said = []
    for device in ("cpu", "cuda"):
        adapter = loaded(*MODELS[name], name, device)
        said.append([answer.text for answer in adapter.generate(adapter.prepare(asked, "generate"))])
    same = sum(a == b for a, b in zip(*said, strict=True))
    assert same >= 30, f"{same} of 32 alike"  # a tie between two words may fall otherwise


@pytest.mark.parametrize(("dtype", "least"), [("float32", 0.999), ("bfloat16", 0.98)])
def test_embeddings_on_the_gpu_point_where_those_of_the_cpu_do(dtype, least):
    import torch

    if dtype == "bfloat16" and not torch.cuda.is_bf16_supported():
        pytest.skip("this GPU has no bfloat16")
    asked = [type(r)(r.parts[:1]) for r in requests(16)]
    target = "harness.adapters.open_clip.OpenClip"
    host = loaded(target, OpenClipSpec, "pocket-clip", "cpu")
    device = loaded(target, OpenClipSpec, "pocket-clip", "cuda", dtype)
    kinds = {(p.dtype, p.device.type) for p in device.model.parameters()}
    assert kinds == {(getattr(torch, dtype), "cuda")}
    a, b = (adapter.embed(adapter.prepare(asked, "embed")) for adapter in (host, device))
    assert b.dtype == np.float32
    assert float((a * b).sum(axis=1).min()) > least
    np.testing.assert_allclose(np.linalg.norm(b, axis=1), 1, atol=1e-5)


def test_running_out_of_memory_halves_the_batch_and_costs_no_answer(harness_run, tmp_path):
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "hog.yaml").write_text(
        "# @package models.hog\ndefaults: [/spec/model@_here_, _self_]\n_target_: hog.Hog\norigin: in-house\n"
        f"checkpoint: {tmp_path}\n"
    )
    words = ("model=hog", "task=captioning", "dataset=pocket", "limit=32", "device=cuda", "latency=off")
    cells = [c for c in harness_run(*words, "batch_size=16")["cells"] if c["model"] == "hog"]
    assert cells
    for cell in cells:
        assert (cell["status"], cell["failed"]) == ("complete", 0)
        assert "memory ran out" in cell["note"]


def work(rounds: int):
    """Some matrix products on the device, begun but not waited for."""
    import torch

    a = torch.randn(4096, 4096, device="cuda")
    out = torch.empty_like(a)
    torch.cuda.synchronize()
    return lambda: [torch.mm(a, a, out=out) for _ in range(rounds)]


def rounds_for(seconds: float) -> int:
    """How many products keep this GPU busy for about so long."""
    import torch

    begin_work = work(20)
    begin_work()
    torch.cuda.synchronize()
    start = time.perf_counter()
    begin_work()
    torch.cuda.synchronize()
    return max(20, int(20 * seconds / (time.perf_counter() - start)))


def test_events_agree_with_the_hosts_clock_and_are_not_waited_for():
    import torch

    begin_work, timer = work(rounds_for(0.5)), CudaTimer("cuda")
    begin_work()
    timer.wait()
    start = time.perf_counter()
    first = timer.stamp()
    begin_work()
    second = timer.stamp()
    stamped = time.perf_counter() - start
    busy = not torch.cuda.current_stream().query()
    timer.wait()
    host = time.perf_counter() - start
    assert busy, f"the host was held up for {stamped:.3f} of {host:.3f} s"
    assert timer.between(first, second) == pytest.approx(host, rel=0.1, abs=0.005)


def test_a_phase_counts_the_devices_work_and_not_its_launch():
    begin_work, clock = work(rounds_for(0.3)), Clock()
    clock.timer = CudaTimer("cuda")
    start = clock.read()
    with clock.phase("encode"):
        begin_work()
    total = clock.read() - start
    seconds, _ = clock.drain()
    assert seconds["encode"] == pytest.approx(total, rel=0.05, abs=0.005)


def test_each_token_is_stamped_in_order_within_its_call():
    adapter = loaded(*MODELS["pocket-qwen3-vl"], "pocket-qwen3-vl", "cuda")
    inputs = adapter.prepare([replace(requests(1)[0], min_new_tokens=8, max_new_tokens=8)], "generate")
    adapter.generate(inputs)
    adapter.clock.timer = CudaTimer("cuda")
    begin, stamp = adapter.clock.read(), adapter.clock.timer.stamp()
    (answer,) = adapter.generate(inputs)
    total = adapter.clock.read() - begin
    _, tokens = adapter.clock.drain()
    times = [adapter.clock.timer.between(stamp, token) for token in tokens]
    assert answer.tokens_out == len(times) == 8
    assert times == sorted(times)
    assert times[0] > 0
    assert times[-1] < total + 0.005


def test_memory_figures_are_what_was_taken():
    import torch

    torch.cuda.empty_cache()
    machine.forget_peak_memory("cuda")
    before = machine.peak_memory("cuda")
    held = torch.empty(256 * MIB, dtype=torch.uint8, device="cuda")
    after = machine.peak_memory("cuda")
    assert after["allocated"] - before["allocated"] == pytest.approx(256, abs=8)
    assert after["reserved"] >= after["allocated"]
    del held
    machine.forget_peak_memory("cuda")
    assert machine.peak_memory("cuda")["allocated"] < after["allocated"] - 200


def test_energy_and_neighbours_are_told_or_said_to_be_unknown():
    import torch

    before = machine.energy_joules("cuda")
    work(rounds_for(0.5))()
    torch.cuda.synchronize()
    after = machine.energy_joules("cuda")
    assert (before is None) == (after is None)
    assert before is None or after > before
    assert machine.gpu_shared("cuda") in (None, True, False)


def test_ranks_on_the_gpu_are_those_of_the_cpu(monkeypatch):
    import torch

    from harness.metrics.ranking import rank_both

    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((n, 64), dtype=np.float32) for n in (300, 900))
    owner = np.arange(900) // 3
    b += 0.7 * a[owner]
    for vectors in (a, b):
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = np.stack([owner, np.arange(900)], axis=1)
    device = rank_both(a, b, pairs)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    host = rank_both(a, b, pairs)
    for side_a, side_b in zip(device, host, strict=True):
        # Two scores closer than rounding may swap places: a few ranks by one.
        apart = np.abs(np.asarray(side_a.rank) - np.asarray(side_b.rank))
        assert apart.max() <= 2
        assert (apart > 0).mean() < 0.02


def test_a_full_pass_on_the_gpu_has_every_figure(harness_run):
    words = ("model=pocket-qwen3-vl", "task=vqa", "dataset=pocket", "limit=40", "device=cuda", "latency=full")
    summary = harness_run(*words, "latency.seconds=10")
    (cell, *_) = [c for c in summary["cells"] if c["model"] == "pocket-qwen3-vl"]
    found = cell["latency"]
    assert found["memory_mb"]["reserved"] >= found["memory_mb"]["allocated"] > 0
    assert 0 < found["first_token_ms"] < found["p90_ms"]
    assert found["fixed"]["tokens_out"] == 32
    assert found["fixed"]["per_token_ms"] > 0
    assert found["phases_ms"]["prefill"] > 0
    sizes = [row["batch_size"] for row in found["offline"]]
    assert sizes[:4] == [1, 2, 4, 8]
    assert found["offline"][-1]["peak_memory_mb"] >= found["offline"][0]["peak_memory_mb"]
    assert summary["machine"]["gpu"]
    print(json.dumps({"machine": summary["machine"], "latency": found}, indent=1))  # shown by -s, for the records
