"""Several devices at once, on a machine without GPUs: a device map that only pretends."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from rich.console import Console

from harness.analysis import summary
from harness.config.compose import compose
from harness.errors import UserError
from harness.measure import machine
from harness.run import driver, plan
from harness.run.progress import Progress
from harness.store.runs import RunFolder


@pytest.fixture
def run_on(world, monkeypatch):
    """Run the models on pretended devices; gives the summary and what ran where: (device, model, began, ended)."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))

    def run(models: list[str], dataset: str, devices: list[str]):
        words = ["task=vqa", f"model=[{','.join(models)}]", f"dataset={dataset}", "latency=off", "batch_size=4"]
        settings, *_ = compose([*words, f"data_dir={world.folder / 'data'}"], [world.folder / "conf"])
        planned = plan.make(settings)
        planned.devices = devices
        folder = RunFolder.create(world.results, "r")
        driver.begin(planned, folder)
        with open(os.devnull, "w") as nowhere:
            assert driver.run(planned, folder, Progress(Console(file=nowhere)))
        diary = [json.loads(line) for line in (world.folder / "diary").read_text().splitlines()]
        began = {name: (device, at) for what, name, device, at in diary if what == "load"}
        ended = {name: at for what, name, _, at in diary if what == "close"}
        cells = {cell["model"]: cell for cell in summary.build(folder)["cells"]}
        return cells, {name: (device, at, ended[name]) for name, (device, at) in began.items()}

    return run


def test_each_device_takes_the_next_model_that_waits(world, run_on):
    diary = str(world.folder / "diary")
    world.model("long", diary=diary, after="c")
    for name in ("a", "b", "c"):
        world.model(name, diary=diary)
    cells, ran = run_on(["long", "a", "b", "c"], world.questions(40), ["pretend:0", "pretend:1"])
    assert {name: device for name, (device, _, _) in ran.items()} == {
        "long": "pretend:0", "a": "pretend:1", "b": "pretend:1", "c": "pretend:1"
    }  # fmt: skip
    assert ran["c"][2] < ran["long"][2]  # the three short ones went through while the long one ran
    for one, other in (("a", "b"), ("b", "c")):
        assert ran[one][2] <= ran[other][1]  # one at a time on a device
    assert [cells[name]["failed"] for name in ran] == [0, 0, 0, 0]
    values = {cells[name]["metrics"]["exact_match"]["value"] for name in ran}
    assert len(values) == 1


def test_a_model_that_crashes_on_one_device_costs_the_others_nothing(world, run_on):
    diary = str(world.folder / "diary")
    world.model("bad", fault="crash", trigger="number 13?", diary=diary)
    for name in ("a", "b"):
        world.model(name, delay=0.02, diary=diary)
    cells, _ = run_on(["bad", "a", "b"], world.questions(40), ["pretend:0", "pretend:1"])
    assert [cells[name]["failed"] for name in ("bad", "a", "b")] == [1, 0, 0]


def test_more_gpus_than_there_are_is_an_error_in_one_line(world):
    world.model("toy")
    quiz = world.questions(4)
    done = world.harness("run", "model=toy", f"dataset={quiz}", "device=cpu", "engine.gpus=2", status=2)
    assert "engine.gpus=2" in done.stderr
    world.harness("run", "model=toy", f"dataset={quiz}", "device=cpu", "engine.gpus=auto", "latency=off", "run=r")


def test_a_process_sees_only_the_gpu_that_is_its_own(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert machine.claim("cuda:2") == "cuda"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 6")
    assert machine.claim("cuda:1") == "cuda"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "6"
    assert machine.claim("cpu") == "cpu"


def test_all_gpus_are_used_unless_fewer_are_asked_for(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert machine.pick_devices("cuda", None) == ["cuda:0", "cuda:1", "cuda:2"]
    assert machine.pick_devices("cuda", 2) == ["cuda:0", "cuda:1"]
    assert machine.pick_devices("cuda:1", None) == ["cuda:1"]
    assert machine.pick_devices("cpu", None) == ["cpu"]
    for device, gpus, has in (("cuda", 4, "3 GPUs"), ("cuda:1", 2, "1 GPU"), ("cpu", 1, "no GPU")):
        with pytest.raises(UserError, match=rf"engine\.gpus={gpus}: device={device} has {has}\. "):
            machine.pick_devices(device, gpus)
