"""Runs made of records alone, without any model: what scoring, comparing and joining read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.config.specs import TaskSpec, to_json
from harness.metrics import Scored, averaged
from harness.records import Record
from harness.store.files import write_json
from harness.store.runs import RunFolder
from harness.task import Scoring, Task

VQA = "harness.tasks.vqa.Vqa"
GROUP = "vqa.quiz.en"


class Transcription(Task):
    """A task from outside whose headline is a character error rate: the smaller, the better."""

    name = "vqa"
    routes = ("generate",)

    def request(self, sample, route, dataset, prompt):
        raise NotImplementedError

    def score(self, records: Sequence[Record], scoring: Scoring) -> list[Scored]:
        rates = [_error_rate(record) for record in records]
        return [averaged("cer", "edits for each character", rates, high=math.inf, larger_is_better=False)]


def _error_rate(record: Record) -> float:
    """Edits over the length of the reference; these answers differ from it by exchanged letters alone."""
    pairs = zip(record.answer or "", record.references[0], strict=True)
    return sum(said != truth for said, truth in pairs) / len(record.references[0])


def write_run(
    folder: Path, name: str, models: Mapping[str, Sequence[Record]], task: str = VQA, prior: Sequence[Record] = ()
) -> RunFolder:
    """A finished run in which these models, and the prior where there is one, gave these records."""
    run = RunFolder(folder / name)
    cells = {**models, **({"prior": prior} if prior else {})}
    facts = {"harness": "0.2.0", "started": "2026-01-02T03:04:05Z", "seed": 0, "machine": {"cpu": "one"}}
    facts |= {"models": {}, "datasets": {}, "prompts": {}, "left_out": [], "config": {"report": {"language": "en"}}}
    run.path.mkdir(parents=True)
    write_json(run.path / "run.json", facts | {"cells": [f"{model}/{GROUP}" for model in cells]})
    for model, records in cells.items():
        store = run.cell(f"{model}/{GROUP}")
        store.begin(_info(model, len(records), task))
        store.write_records(records)
        store.finish({"latency": {"p50_ms": 10.0, "n": 40}})
    return run


def _info(model: str, samples: int, task: str) -> dict[str, Any]:
    info = {"model": model, "origin": "reference" if model == "prior" else "domestic", "route": "generate"}
    info |= {"task": "vqa", "dataset": "quiz", "language": "en", "ablate": "", "samples": samples, "seed": 0}
    info |= {"scoring": {"language": "en", "labels": [], "metric": ""}, "fingerprint": {}, "prior_split": "test"}
    return info | {"task_spec": to_json(TaskSpec(_target_=task))}


def answered(answers: Sequence[str | None], truth: Sequence[str], **more: Any) -> list[Record]:
    """A record for each answer, None being a failure, about pictures of their own."""
    records = []
    for i, (answer, right) in enumerate(zip(answers, truth, strict=True)):
        error = f"OSError: row {i} of the weights is torn" if answer is None else None
        record = Record(f"q{i}", f"p{i}", question=f"Question {i}?", references=(right,), answer=answer, error=error)
        for key, value in more.items():
            setattr(record, key, value)
        records.append(record)
    return records
