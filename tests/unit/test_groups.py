"""Questions that count only together, rows of two kinds in one data set, and what becomes of what cannot be scored."""

import hashlib
import json
from collections.abc import Callable

import numpy as np
import pytest

import harness
from harness.adapter import Adapter
from harness.config.specs import ModelSpec
from harness.errors import UserError
from harness.records import Answer, Request

KNOWN = {"Which?": "cat", "Who?": "dog", "How many?": "3"}


class Speaker(Adapter):
    """Answers in words of its own."""

    def __init__(self, answer: Callable[[Request], str]) -> None:
        super().__init__(ModelSpec())
        self.answer = answer

    def load(self, device, clock):
        pass

    def generate(self, inputs):
        return [Answer(self.answer(request)) for request in inputs]


class Pointer(Adapter):
    """Finds the text that holds the animal on the picture, whose number is in the picture's colour."""

    def __init__(self) -> None:
        super().__init__(ModelSpec())

    def load(self, device, clock):
        pass

    def embed(self, inputs):
        from harness.media import open_image

        rows = np.zeros((len(inputs), 3), np.float32)
        for row, request in zip(rows, inputs, strict=True):
            if request.media("image"):
                row[np.asarray(open_image(request.media("image")[0]))[0, 0, 0]] = 1
            else:
                row[[name in request.text for name in ("cat", "dog", "cow")].index(True)] = 1
        return rows


def knows(request: Request) -> str:
    """The right letter, or the right words where there is none."""
    question, *lines = request.text.split("\n")
    letters = [line[0] for line in lines if line[1:] == f". {KNOWN[question]}"]
    return letters[0] if letters else KNOWN[question]


@pytest.fixture
def evaluate(tmp_path):
    """Asks models about rows: `evaluate(models, rows, settings)` gives the cells by model, and the run."""
    from PIL import Image

    (tmp_path / "conf" / "dataset").mkdir(parents=True)
    for number in range(3):
        Image.new("RGB", (2, 2), (number, 0, 0)).save(tmp_path / f"{number}.png")

    def run(models: dict, rows: list[dict], settings: str, **overrides):
        (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"id": i} | row) for i, row in enumerate(rows)))
        (tmp_path / "conf" / "dataset" / "mine.yaml").write_text(
            "# @package datasets.mine\ndefaults: [/spec/dataset@_here_, _self_]\nsource: jsonl\ntasks: [vqa]\n"
            "path: rows.jsonl\ncolumns: {id: id, image: image, question: q, choices: o, references: a}\n" + settings
        )
        made = harness.evaluate(
            models,
            task="vqa",
            dataset="mine",
            config_dir=tmp_path / "conf",
            data_dir=tmp_path,
            results_dir=tmp_path / "results",
            latency="off",
            **{"report.charts": False} | overrides,
        )
        return {cell["model"]: cell for cell in made.summary["cells"]}, made

    return run


ANIMALS = ["cat", "dog", "cow"]
ROWS = [
    {"image": "0.png", "q": "Which?", "o": ANIMALS, "a": "A"},
    {"image": "1.png", "q": "Who?", "o": ANIMALS, "a": "B"},
]


def value(cell: dict, metric: str = "choice_accuracy") -> float:
    return cell["metrics"][metric]["value"]


def test_a_circular_question_is_right_only_in_every_rotation(evaluate):
    def stumbles(request: Request) -> str:
        if request.text.startswith("Who?\n") and "A. cow" in request.text:
            raise RuntimeError("not this one")
        return knows(request)

    models = {
        "knows": Speaker(knows),
        "first": Speaker(lambda _: "A"),
        "points": Pointer(),
        "stumbles": Speaker(stumbles),
    }
    cells, run = evaluate(models, ROWS, "order: circular\nmetric: choice_accuracy\n")
    assert {name: value(cells[name]) for name in models} == {"knows": 1, "first": 0, "points": 1, "stumbles": 0.5}
    assert all(cells[name]["samples"] == 2 for name in models)
    assert cells["stumbles"]["failed"] == 1
    asked = run.records().groupby("model").size()
    assert (asked["knows"], asked["points"]) == (6, 2), "no order can change what an embedding chooses"
    assert value(cells["chance"]) == pytest.approx((1 / 3) ** 3)
    assert all(pair["n"] == 2 for pair in run.summary["comparisons"])


def test_rows_of_a_group_count_once_and_only_if_all_are_right(evaluate):
    rows = [row | {"figure": "f", "o": ["yes", "no"], "a": answer} for row, answer in zip(ROWS, "AB", strict=True)]
    rows.append({"image": "2.png", "q": "Which?", "o": ["yes", "no"], "a": "A", "figure": "g"})
    models = {"yes": Speaker(lambda _: "A")}
    cells, _ = evaluate(models, rows, "group: figure\nright: all\nmetric: choice_accuracy\n")
    assert (value(cells["yes"]), cells["yes"]["samples"], cells["yes"]["clusters"]) == (0.5, 2, 2)
    assert value(cells["chance"]) == pytest.approx((1 / 4 + 1 / 2) / 2)


def test_open_questions_and_choices_in_one_set_are_each_scored_by_their_rule(evaluate):
    rows = [*ROWS, {"image": "2.png", "q": "How many?", "o": [], "a": "3"}]
    words = Speaker(lambda request: KNOWN[request.text.split("\n")[0]])
    cells, _ = evaluate(
        {"knows": Speaker(knows), "words": words, "points": Pointer()}, rows, "metric: choice_accuracy\n"
    )
    for name in ("knows", "words"):
        assert cells[name]["headline"] == "choice_accuracy"
        assert value(cells[name]) == 1.0
        assert value(cells[name], "exact_match") == 1.0, "a bare letter is the option that it names"
    assert cells["points"]["status"] == "skipped", "one open row is enough: nothing is left to choose from"


def test_a_metric_that_cannot_be_computed_is_refused_before_a_model_is_asked(evaluate):
    open_rows = [{"image": "0.png", "q": "How many?", "a": ["3"], "o": []}] * 2
    never = {"never": Speaker(lambda _: pytest.fail("it was asked"))}
    for metric, said in (
        ("choice_accuracy", "no row of mine has any"),
        ("vqa_accuracy", "2 of 2 rows"),
        ("textvqa_accuracy", "ten human answers"),
        ("exact_mach", "Did you mean 'exact_match'"),
    ):
        with pytest.raises(UserError, match=said):
            evaluate(never, open_rows, f"metric: {metric}\n")


def test_the_official_accuracy_takes_any_number_of_human_answers(evaluate):
    """Worked by hand: of five answers three are "3", so two of the annotators who said it see 2 / 3, and so on."""
    rows = [{"image": "0.png", "q": "How many?", "a": ["3", "3", "3", "4", "4"], "o": []}]
    cells, _ = evaluate({"knows": Speaker(knows)}, rows, "metric: vqa_accuracy\n")
    assert value(cells["knows"], "vqa_accuracy") == pytest.approx((3 * (2 / 3) + 2 * 1) / 5)


def test_more_options_than_letters_are_numbered_and_all_are_listed(evaluate):
    options = [f"thing {i}" for i in range(30)]
    asked: list[str] = []

    def says(request: Request) -> str:
        asked.append(request.text)
        return "28"

    rows = [{"image": "0.png", "q": "Which?", "o": options, "a": "thing 27"}]
    cells, _ = evaluate({"m": Speaker(says)}, rows, "metric: choice_accuracy\n")
    assert all(f"{i + 1}. thing {i}" in asked[0] for i in range(30))
    assert "number" in asked[0]
    assert value(cells["m"]) == 1.0


def test_rows_that_are_left_out_are_counted_for_the_reader(evaluate):
    rows = [*ROWS, {"image": "2.png", "q": "Which?", "o": ANIMALS, "a": "E"}]
    cells, run = evaluate({"knows": Speaker(knows)}, rows, "metric: choice_accuracy\nbad_rows: leave_out\n")
    assert cells["knows"]["samples"] == 2
    assert cells["knows"]["rows_left_out"] == 1
    assert "1 row of the data set is left out" in (run.path / "report.md").read_text()


def test_a_cell_that_cannot_be_scored_fails_alone_and_the_report_stands(evaluate):
    models = {"knows": Speaker(knows), "broken": Speaker(knows)}
    _, run = evaluate(models, ROWS, "metric: choice_accuracy\n", run="once")
    (records,) = run.path.glob("cells/broken/*/records.jsonl")
    lines = [json.loads(line) for line in records.read_text().splitlines()]
    records.write_text("".join(json.dumps(line | {"right": None, "references": ["ox"]}) + "\n" for line in lines))
    done = json.loads(records.with_name("complete.json").read_text())
    done["sha256"] = hashlib.sha256(records.read_bytes()).hexdigest()  # it is not damaged: it was written so
    records.with_name("complete.json").write_text(json.dumps(done))
    (run.path / "summary.json").unlink()
    cells = {cell["model"]: cell for cell in harness.load_run(run.path).summary["cells"]}
    assert (cells["broken"]["status"], cells["knows"]["status"]) == ("failed", "complete")
    assert "cannot be scored" in cells["broken"]["reason"]
    assert "'ox' is not among the choices" in cells["broken"]["reason"]
    assert value(cells["knows"]) == 1.0


def test_what_cannot_be_handled_fails_its_model_and_never_the_run(evaluate, monkeypatch):
    from harness.run.cell_writer import CellWriter

    received = CellWriter.received

    def stumbles(self, event):
        if self.key.startswith("broken/"):
            raise ValueError("nobody expected this")
        received(self, event)

    monkeypatch.setattr(CellWriter, "received", stumbles)
    cells, _ = evaluate({"broken": Speaker(knows), "knows": Speaker(knows)}, ROWS, "metric: choice_accuracy\n")
    assert cells["broken"]["status"] == "failed"
    assert "nobody expected this" in cells["broken"]["reason"]
    assert value(cells["knows"]) == 1.0


@pytest.mark.parametrize(("text", "reason"), [("half a \ud83d", "half a character")])
def test_an_answer_that_no_file_can_hold_is_that_samples_failure(evaluate, text, reason):
    odd = Speaker(lambda request: text if request.text.startswith("Who") else knows(request))
    cells, run = evaluate({"odd": odd}, ROWS, "metric: choice_accuracy\n")
    assert (cells["odd"]["failed"], value(cells["odd"])) == (1, 0.5)
    assert reason in run.records()["error"].dropna().iloc[0]


def test_the_dtype_is_resolved_as_a_run_begins_and_compared_runs_say_that_it_differs(evaluate, monkeypatch, capsys):
    from harness.cli.main import main
    from harness.measure import machine

    for run, native in (("first", True), ("second", False)):
        monkeypatch.setattr(machine, "_computes_bfloat16", lambda native=native: native)
        evaluate({"knows": Speaker(knows)}, ROWS, "metric: choice_accuracy\n", run=run)
    made = evaluate({"knows": Speaker(knows)}, ROWS, "metric: choice_accuracy\n", run="third")[1]
    results = made.path.parent
    said = {run: json.loads((results / run / "run.json").read_text()) for run in ("first", "second")}
    assert [facts["config"]["models"]["knows"]["dtype"] for facts in said.values()] == ["bfloat16", "float32"]
    assert main(["compare", str(results / "first"), str(results / "second")]) == 0
    assert "knows: computed in bfloat16 in A and in float32 in B" in capsys.readouterr().out


class Sorter(Speaker):
    """Takes its list of requests apart, and answers in the order in which it was given them."""

    def generate(self, inputs):
        first = list(inputs)
        inputs.sort(key=lambda request: request.text)
        while inputs:
            inputs.pop()
        return [Answer(self.answer(request)) for request in first]


def test_an_adapter_may_do_with_its_list_of_requests_what_it_likes(evaluate):
    rows = [row | {"q": question} for row in ROWS * 3 for question in KNOWN if question != "How many?"]
    rows = [row | {"a": KNOWN[row["q"]]} for row in rows]
    cells, _ = evaluate({"sorts": Sorter(knows)}, rows, "metric: choice_accuracy\n", batch_size=5)
    assert value(cells["sorts"]) == 1.0


def test_an_answer_without_end_is_cut_noted_and_counted_as_cut_off(evaluate):
    cells, run = evaluate({"endless": Speaker(lambda _: "A" * 3_000_000)}, ROWS, "metric: choice_accuracy\n")
    assert set(run.records()["answer"].str.len()) == {2**20}
    assert cells["endless"]["cut_off"] == 1.0
    assert "2 answers cut at 1,048,576 characters" in cells["endless"]["note"]


@pytest.mark.parametrize("where", ["prepare", "generate"])
def test_an_adapter_that_exits_costs_its_sample(evaluate, where, monkeypatch):
    import sys

    def exits(self, requests, *_):
        if any(request.text.startswith("Who") for request in requests):
            sys.exit(3)
        return requests if where == "prepare" else [Answer(knows(request)) for request in requests]

    quits = type("Quits", (Speaker,), {where: exits})
    cells, run = evaluate({"quits": quits(knows)}, ROWS, "metric: choice_accuracy\n")
    assert (cells["quits"]["failed"], value(cells["quits"])) == (1, 0.5)
    assert "sys.exit(3)" in run.records()["error"].dropna().iloc[0]
