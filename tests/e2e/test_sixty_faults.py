"""Many adapters in one run, each wrong in a way of its own, cost what they should: a sample, the model, or nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import pytest
from faulty import ANSWERS, AT_TRIGGER, LABELS, SCORES, TRIGGER, VECTORS

ROWS = 12
ONE, ALL = {str(TRIGGER)}, {str(i) for i in range(ROWS)}


class Case(NamedTuple):
    cls: str
    fault: str
    cost: set[str] | str
    """The samples that fail; or the reason for which the cell does."""
    reason: str = ""
    """What the errors of these samples hold."""


HARMLESS = (
    *("", "load: prints", "load: closes its outputs", "load: a thread without end", "load: a child without end"),
    *("load: another folder", "load: deaf to signals", "load: chance is seeded", "load: numpy raises"),
    *("close: raises", "close: sys.exit", "close: os._exit", "close: SIGKILL"),
    *("prepare: sorts", "prepare: empties", "memory for two", "2 million characters", "control characters"),
)
CASES = [
    *(Case("FaultyGenerator", fault, set()) for fault in HARMLESS),
    *(
        Case("FaultyEncoder", fault, set())
        for fault in ("", "prepare: sorts", "prepare: empties", "load: numpy raises")
    ),
    *(Case("FaultyRanker", fault, set()) for fault in ("", "prepare: sorts", "prepare: empties")),
    *(Case("FaultyGenerator", f"answer: {fault}", ONE) for fault in AT_TRIGGER),
    *(Case("FaultyRanker", f"answer: {fault}", ONE) for fault in ("ValueError", "os._exit", "recursion")),
    *(Case("FaultyEncoder", f"answer: {fault}", ONE) for fault in ("ValueError", "SIGSEGV", "error without words")),
    *(
        Case("FaultyGenerator", f"prepare: {fault}", ONE)
        for fault in ("ValueError", "sys.exit", "SIGSEGV", "MemoryError")
    ),
    *(Case("FaultyGenerator", f"gives: {fault}", ONE) for fault in (*ANSWERS, "too few", "too many")),
    *(Case("FaultyRanker", f"gives: {fault}", ONE) for fault in SCORES),
    *(Case("FaultyEncoder", f"gives: {fault}", ONE) for fault in VECTORS),
    Case("FaultyGenerator", "prepare: gives nothing", ALL, "NoneType"),
    Case("FaultyGenerator", "gives: a generator", ALL, "gave a generator"),
    Case("FaultyGenerator", "gives: a mapping", ALL, "must give Answers"),
    Case("FaultyGenerator", "text_cut: raises", ALL, "RuntimeError: no"),
    Case("FaultyGenerator", "text_cut: too few", ALL, "flags for"),
    Case("FaultyEncoder", "gives: width 0", ALL, "without a number"),
    Case("FaultyEncoder", "gives: labels of zeros", ALL, "zeros"),
    *(Case("FaultyEncoder", f"scale: {scale}", "logit_scale") for scale in ("inf", "nan", "text", "None")),
    Case("FaultyGenerator", "load: raises", "the weights are not there"),
    Case("FaultyGenerator", "load: sys.exit", "sys.exit(0)"),
    Case("FaultyGenerator", "load: os._exit", "did not load"),
    Case("FaultyGenerator", "load: KeyboardInterrupt", "did not load"),
    *(Case(f"{module}.Broken", "", "cannot be imported") for module in ("exits", "raises", "no_python")),
]
REASONS = {"os._exit": "process", "SIGKILL": "SIGKILL", "SIGSEGV": "SIGSEGV", "SIGTERM": "SIGTERM", "abort": "SIGABRT",
           "MemoryError": "MemoryError", "CUDA memory": "out of memory", "nan": "finite", "zeros": "zeros",
           "sys.exit": "sys.exit", "SampleError": "not this one"}  # fmt: skip


@pytest.fixture(scope="module")
def ran(worlds):
    """A run of all of them, and the name of each."""
    world = worlds("sixty faults")
    names = {}
    for i, case in enumerate(CASES):
        notes = str(world.folder / "child") if "child" in case.fault else ""
        names[f"m{i}"] = case
        world.model(f"m{i}", case.cls, fault=case.fault, notes=notes)
        file = world.folder / "conf" / "model" / f"m{i}.yaml"
        target = f"_target_: {case.cls if '.' in case.cls else f'faulty.{case.cls}'}\n"
        file.write_text(file.read_text().replace(f"_target_: toys.{case.cls}\n", target))
    (world.folder / "conf" / "exits.py").write_text("import sys\nsys.exit('no library')\n")
    (world.folder / "conf" / "raises.py").write_text("import no_such_library\n")
    (world.folder / "conf" / "no_python.py").write_text("class Broken(\n")
    rows = [
        {"id": i, "image": world.picture(f"{i}.png"), "q": f"Which animal, number {i}?", "a": LABELS[i % 2]}
        for i in range(ROWS)
    ]
    columns = {"id": "id", "image": "image", "question": "q", "references": "a"}
    closed = world.dataset("closed", "vqa", rows, columns, "labels: {en: [cat, dog]}")
    words = ["run", f"model=[{','.join(names)}]", f"dataset={closed}", "run=r", "batch_size=4", "latency=off"]
    world.harness(*words, status=1)
    return world, names


def test_each_of_many_faults_costs_what_it_should_and_nothing_else(ran):
    world, names = ran
    cells = {cell["model"]: cell for cell in world.summary("r")["cells"] if cell["origin"] != "reference"}
    assert set(cells) == set(names)
    wrong = {}
    for name, case in names.items():
        cell = cells[name]
        if isinstance(case.cost, str):
            if cell["status"] != "failed" or case.cost not in cell["reason"]:
                wrong[case.cls, case.fault] = cell["status"], cell["reason"]
            continue
        records = {row["id"]: row for row in world.records("r", name)}
        errors = {id_: row["error"] for id_, row in records.items() if "error" in row}
        answers = {id_: row["answer"] for id_, row in records.items() if id_ not in errors}
        reason = case.reason or REASONS.get(case.fault.rpartition(": ")[2], "")
        if (
            set(errors) != case.cost
            or any(answer.split("\0")[0].strip() != LABELS[int(id_) % 2] for id_, answer in answers.items())
            or not all(reason in error and 0 < len(error) < 800 for error in errors.values())
            or len(records) != ROWS
            or cell["status"] != "complete"
        ):
            wrong[case.cls, case.fault] = cell["status"], errors, answers
    assert not wrong, "\n".join(f"{key}: {what}" for key, what in wrong.items())


def test_none_of_them_leaves_a_process_behind(ran):
    world, _ = ran
    assert world.at_work() == []
    child = (world.folder / "child").read_text()
    assert not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text()


def test_the_report_of_them_holds_no_control_character(ran):
    world, _ = ran
    for name in ("report.html", "report.md", "summary.json"):
        text = (world.results / "r" / name).read_text(encoding="utf-8")
        assert not [c for c in text if ord(c) < 32 and c not in "\n\t\r"], name
    assert os.path.getsize(world.results / "r" / "report.html") < 20_000_000
