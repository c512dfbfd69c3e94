"""Does the stopwatch tell the truth? A model that takes exactly as long as it is told, timed by the full latency pass.

    python tests/benchmarks/stopwatch.py

Each of 120 questions costs given times of 5 to 50 ms in given phases, spent spinning. Measured p50, p90 and phases must
be within 2 % or 0.5 ms of them; a delay in `prepare` must show up in preprocess and nowhere else; a slow import and the
garbage that the model leaves must land on no timing. Beside the time asked for stands the time that the model's own
clock says it took: where these part, the machine was busy and the model was late, not the stopwatch wrong.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.adapter import Adapter
from harness.clock import Clock
from harness.config.compose import compose
from harness.measure.latency import percentile
from harness.records import Answer, Request
from harness.run import plan, worker
from harness.run.messages import Failed, Timed

SAMPLES, TOKENS, IMPORT_S = 120, 4, 0.4
PHASES = ("preprocess", "prefill", "decode", "postprocess")
VARYING = [5 + (45 * (37 * i % SAMPLES)) / (SAMPLES - 1) for i in range(SAMPLES)]  # ms: each of 5 .. 50, shuffled
WORKLOADS = {  # ms a question by phase
    "every phase": lambda i: {"preprocess": VARYING[i], "prefill": 20, "decode": 5 * (TOKENS - 1), "postprocess": 5},
    "prepare alone": lambda i: {"preprocess": VARYING[i]},
    "the device alone": lambda i: {"prefill": VARYING[i]},
}
CONFIG = {
    "model/delays.yaml": "# @package models.delays\ndefaults: [/spec/model@_here_, _self_]\n"
    "_target_: stopwatch.Delays\norigin: in-house\ncheckpoint: {folder}\n"
    "modalities: [text]\noptions: {{workload: '{workload}'}}\n",
    "dataset/list.yaml": "# @package datasets.list\ndefaults: [/spec/dataset@_here_, _self_]\nsource: jsonl\n"
    "tasks: [vqa]\nmodalities: [text]\npath: list.jsonl\ncolumns: {{id: id, question: q, references: a}}\n",
}


class Delays(Adapter):
    """Takes the time that the question's number asks for, and notes how long it really took."""

    took: dict[str, list[float]]
    collected: list[str]

    def __init__(self, spec, workload: str) -> None:
        super().__init__(spec)
        self.workload = WORKLOADS[workload]

    def load(self, device: str, clock: Clock) -> None:
        self.clock, self.inside = clock, False
        Delays.took, Delays.collected = {}, []
        gc.callbacks.append(self._collection)

    def close(self) -> None:
        gc.callbacks.remove(self._collection)

    def _collection(self, phase: str, info: dict) -> None:
        if self.inside and phase == "start":
            Delays.collected.append(str(info))

    def spin(self, number: int, phase: str) -> None:
        start = time.perf_counter()
        while time.perf_counter() - start < self.workload(number).get(phase, 0) / 1000:
            pass
        Delays.took.setdefault(phase, []).append(1000 * (time.perf_counter() - start))

    def prepare(self, requests: Sequence[Request], route) -> list[int]:
        self.inside = True
        numbers = [int(request.text.split("#")[1].split()[0]) for request in requests]
        self.spin(numbers[0], "preprocess")
        return numbers

    def generate(self, inputs: list[int]) -> list[Answer]:
        importlib.import_module("slow_to_import")
        for _ in range(300):  # cycles: only the collector frees them
            loop: list = []
            loop.append(loop)
        with self.clock.phase("prefill"):
            self.spin(inputs[0], "prefill")
            self.clock.token()
        with self.clock.phase("decode"):
            start = time.perf_counter()
            step = self.workload(inputs[0]).get("decode", 0) / 1000 / (TOKENS - 1)
            for token in range(1, TOKENS):
                while time.perf_counter() - start < token * step:
                    pass
                self.clock.token()
            Delays.took.setdefault("decode", []).append(1000 * (time.perf_counter() - start))
        with self.clock.phase("postprocess"):
            self.spin(inputs[0], "postprocess")
        self.inside = False
        return [Answer("yes", tokens_out=TOKENS) for _ in inputs]


def timed(workload: str, folder: Path) -> dict:
    """The single-stream figures of one workload, from the worker that a run would use."""
    for name, text in CONFIG.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text.format(folder=folder, workload=workload))
    rows = [{"id": i, "q": f"#{i} ?", "a": "yes"} for i in range(SAMPLES)]
    (folder / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "slow_to_import.py").write_text(f"import time\ntime.sleep({IMPORT_S})\n")
    sys.modules.pop("slow_to_import", None)
    words = ["model=delays", "dataset=list", "latency=full", f"data_dir={folder}", "device=cpu"]
    run, *_ = compose(words, [folder])
    (job,) = plan.make(run).jobs
    figures: dict = {}
    for event in worker.run(replace(job, timing=True)):
        if isinstance(event, Failed):
            raise SystemExit(event.reason)
        if isinstance(event, Timed) and "p50_ms" in event.figures:
            figures = event.figures
            break  # the single stream is all that is asked here
    return figures


def main() -> int:
    sys.modules["stopwatch"] = sys.modules["__main__"]
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        sys.path.append(name)
        for workload in WORKLOADS:
            found = timed(workload, Path(name))
            asked = [WORKLOADS[workload](i) for i in range(SAMPLES)]
            sums = [sum(phases.values()) for phases in asked]
            took = {phase: values[-SAMPLES:] for phase, values in Delays.took.items()}
            real = [sum(values) for values in zip(*took.values(), strict=True)]
            rows = [(f"p{p}", percentile(sums, p), percentile(real, p), found[f"p{p}_ms"]) for p in (50, 90, 95)]
            for phase in PHASES:
                wanted = percentile([phases.get(phase, 0) for phases in asked], 50)
                rows.append((phase, wanted, percentile(took[phase], 50), found["phases_ms"][phase]))
            rows.append(("device, unmarked", 0, 0, found["phases_ms"]["device"]))
            rows.append(("unaccounted", 0, 0, found["phases_ms"]["unaccounted"]))
            steps = percentile([value / (TOKENS - 1) for value in took["decode"]], 50)
            rows.append(("a further token", asked[0].get("decode", 0) / (TOKENS - 1), steps, found["per_token_ms"]))
            print(f"\n{workload}: n = {found['n']}, first answer {found['first_answer_ms']:.0f} ms (it imports for "
                  f"{1000 * IMPORT_S:.0f} ms), {found['warmups']} warm-ups, collections within a timing: "
                  f"{len(Delays.collected)}\n")  # fmt: skip
            print("| figure | asked for, ms | took, ms | measured, ms | off what it took |\n|---|---:|---:|---:|---:|")
            for figure, wanted, spent, measured in rows:
                off = measured - spent
                good = abs(off) <= max(0.5, 0.02 * spent)
                wrong += not good
                verdict = "" if good else " WRONG"
                print(f"| {figure} | {wanted:.2f} | {spent:.2f} | {measured:.2f} | {off:+.3f}{verdict} |")
            wrong += len(Delays.collected) + (found["first_answer_ms"] < 1000 * IMPORT_S)
    verdict = f"{wrong} wrong" if wrong else "all within 2 % or 0.5 ms"
    print(f"\nload average {os.getloadavg()[0]:.1f}; {verdict}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
