"""What an answer means: the final answer in a model's text, refusals, answers that were cut off, and how they show."""

from __future__ import annotations

import json

import pytest

import harness
from harness.adapter import Adapter
from harness.analysis.scoring import score
from harness.analysis.summary import build
from harness.config.specs import CaptioningSpec, ModelSpec, TaskSpec
from harness.dataset import Dataset
from harness.errors import Refused
from harness.metrics.answers import final_answer
from harness.metrics.hygiene import refuses
from harness.records import Answer, Record, Sample
from harness.store.runs import RunFolder
from harness.task import Scoring
from harness.tasks.captioning import Captioning
from harness.tasks.classification import Classification
from harness.tasks.vqa import Vqa

FINAL = [
    # Traces: closed, without their opening tag, in any case, several, nested; Qwen's, Kimi's, Magistral's, Seed's.
    ("<think>Two dogs.</think>2", "2"), ("One, two ...</think>\n\n2", "2"), ("<think>\n\n</think>\n\nyes", "yes"),
    ("<THINKING>Red?</THINKING> red", "red"), ("◁think▷红色？◁/think▷红色", "红色"), ("红色？◁/think▷红色", "红色"),
    ("<think>a<think>b</think>c</think>d", "d"), ("<think>a</think>Let me check.<think>b</think>blue", "blue"),
    ("[THINK]hm[/THINK]red", "red"), ("<seed:think>hm</seed:think>red", "red"), ("red <think>why?</think>", "red"),
    # Marks that enclose text: the last one that holds something counts, also where it is not closed.
    ("It may be <answer>1</answer>, no: <answer> 2 </answer>", "2"), ("<answer>red", "red"), ("red</answer>", "red"),
    ("<answer>1</answer><answer></answer>", "1"), ("The answer is B. <answer></answer>", "The answer is B."),
    ("<|begin_of_box|>B<|end_of_box|>", "B"), ("So $\\boxed{B}$.", "B"), ("\\boxed{\\text{(B)}}", "(B)"),
    ("\\boxed{1} and \\boxed{\\frac{1}{2}}", "1/2"), ("\\boxed{f(x_{1}) + g_{2}}", "f(x_{1}) + g_{2}"),
    ("\\boxed{50\\%}", "50%"), ("<answer>\\boxed{B}</answer>", "B"), ("\\boxed{12", "12"),
    ("<think>Is it <answer>1</answer>?</think><answer>2</answer>", "2"),
    # The line behind "Final answer:".
    ("I count.\nFinal answer: two dogs\nThanks!", "two dogs"), ("**Final Answer:** B", "B"),
    ("**Final Answer: B**", "B"),
    ("### Final Answer\n\nB", "B"), ("最终答案：红色", "红色"), ("**最终答案**: 红色\n因为它是红的", "红色"),
    ("\\boxed{3} at first. Final answer: 5", "5"), ("Final answer: $\\boxed{2}$", "2"),
    # Paired ** around whole words.
    ("It is **dark red**.", "It is dark red."), ("2**3", "2**3"), ("2**3**4", "2**3**4"),
    ("答案是**红色**的", "答案是红色的"),
    # Nothing of all this: the text itself.
    ("yes", "yes"), (" a\n cat ", " a\n cat "), ("a < b > c", "a < b > c"),
    ("The final answer is red", "The final answer is red"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "final"), FINAL)
def test_the_final_answer_is_what_the_model_means_to_be_scored_by(text, final):
    assert final_answer(text) == (final, False)
    assert final_answer(final).text == final


@pytest.mark.parametrize("text", ["<think>One, two", "Sure. <think>One", "◁think▷一", "<think>a<think>b</think>c"])
def test_an_unfinished_trace_is_no_answer(text):
    assert final_answer(text) == ("", True)


@pytest.mark.parametrize("unit", ["<answer>B</answer>", "<answer>", "\\boxed{", "**a ", "Final answer:\n", "<think>"])
def test_a_text_that_repeats_a_mark_without_end_is_read_too(unit):
    assert len(final_answer(unit * 5_000).text) <= 5_000 * len(unit)


def test_a_record_keeps_what_the_model_wrote_beside_what_it_answered():
    sample, quiz = Sample("1", "1", "en", references=("2",)), Dataset("quiz", "en", [])
    record = Vqa(TaskSpec()).record(sample, Answer("<think>Two.</think>2", tokens_out=9, finish="length"), quiz)
    assert (record.answer, record.raw, record.cut_off) == ("2", "<think>Two.</think>2", True)
    assert Record.from_json(json.loads(json.dumps(record.to_json()))) == record
    plain = Vqa(TaskSpec()).record(sample, Answer("2"), quiz)
    assert (plain.answer, plain.raw, plain.cut_off) == ("2", None, False)


@pytest.mark.parametrize(
    "task", [Vqa(TaskSpec()), Classification(TaskSpec()), Captioning(CaptioningSpec(meteor=False))]
)
def test_every_task_scores_the_final_answer_whichever_version_wrote_the_record(task):
    trace = "<think>Not a dog.</think>a cat on a mat"
    scored = []
    for answer, raw in ((trace, None), ("by rules of then", trace), ("a cat on a mat", None)):
        records = [Record("1", "1", references=("a cat on a mat",), answer=answer, raw=raw)]
        found = score(task, records, Scoring("en", ("a cat on a mat", "a dog")))
        scored.append({item.metric.name: item.value for item in found.scored})
        assert found.counts["unfinished"] == 0.0
    assert scored[0] == pytest.approx(scored[2], nan_ok=True)
    assert scored[1] == pytest.approx(scored[2], nan_ok=True)
    assert scored[0].get("exact_match", scored[0].get("accuracy")) == 1.0


def test_a_choice_that_was_scored_is_no_text():
    record = Record("1", "1", references=("<think>",), choices=("<think>", "b"), answer="<think>", scores=(2.0, 1.0))
    found = score(Vqa(TaskSpec()), [record], Scoring("en", (), "choice_accuracy"))
    assert found.scored[0].value == 1.0
    assert {found.counts[name] for name in ("cut_off", "refused", "empty", "unfinished")} == {None}


REFUSED = [
    "I'm sorry, but I can't help with that.", "I’m sorry, I cannot assist.", "I cannot assist with that request.",
    "As an AI, I can't see images.", "Unfortunately, I am unable to view the picture.",
    "I apologize, but I won't do that.",
    "抱歉，我无法回答这个问题。", "很抱歉，我不能识别图中的人物。", "我不能提供这些信息。",
    "作为一个人工智能助手，我无法查看图片。",
]  # fmt: skip
ANSWERED = [
    "I cannot see any dog.", 'The sign says "I\'m sorry, but I can\'t help".', "A sorry sight", "No", "",
    "The man cannot help it.", "我不能确定是猫还是狗", "图中的人说：抱歉，我无法来", "抱歉的表情",
]  # fmt: skip


def test_a_refusal_is_how_an_answer_begins_and_not_what_it_mentions():
    assert [text for text in REFUSED if not refuses(text)] == []
    assert [text for text in ANSWERED if refuses(text)] == []


# Over a whole run -----------------------------------------------------------------------------------------------------

SAID = {"0": "red", "1": "<think>red or", "2": "", "3": "I'm sorry, but I can't help with that.", "4": "blue or"}


class Says(Adapter):
    """Gives the answer in SAID, all in as many tokens as are allowed. `truthful` says itself which were cut off."""

    def __init__(self, truthful: bool = False, limit: int | None = None) -> None:
        super().__init__(ModelSpec(max_new_tokens=limit))
        self.truthful, self.limits = truthful, set()

    def load(self, device, clock):
        pass

    def generate(self, inputs):
        self.limits |= {request.max_new_tokens for request in inputs}
        said = [(SAID[request.text[0]], request.max_new_tokens) for request in inputs]
        return [Answer(text, None, n, self._finish(text)) for text, n in said]

    def _finish(self, text):
        return ("length" if text.endswith("or") else "stop") if self.truthful else None


@pytest.fixture
def evaluate(tmp_path):
    rows = [{"id": number, "q": f"{number}. What?", "a": "red"} for number in SAID]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "set.yaml").write_text(
        "# @package datasets.set\ndefaults: [/spec/dataset@_here_, _self_]\nsource: jsonl\npath: rows.jsonl\n"
        "tasks: [vqa]\nmodalities: [text]\ncolumns: {id: id, question: q, references: a}\n"
    )

    def run(model: Adapter, language: str = "en") -> tuple[harness.Run, dict]:
        found = harness.evaluate(
            model, task="vqa", dataset="set", config_dir=tmp_path, data_dir=str(tmp_path), latency="off",
            results_dir=str(tmp_path / "results"), **{"report.language": language},
        )  # fmt: skip
        (cell,) = [cell for cell in found.summary["cells"] if cell["origin"] != "reference"]
        return found, cell

    return run


def test_an_answer_as_long_as_the_limit_is_cut_off_unless_the_adapter_knows_better(evaluate):
    _, cell = evaluate(Says())
    assert (cell["cut_off"], cell["max_new_tokens"]) == (1.0, 32)
    run, cell = evaluate(Says(truthful=True))
    assert cell["cut_off"] == 0.4
    (file,) = run.path.glob("cells/says/*/records.jsonl")
    records = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert {record["id"] for record in records if record.get("cut_off")} == {"1", "4"}


@pytest.mark.parametrize(
    ("language", "words"), [("en", "cut off by the token limit"), ("zh", "因达到词元上限而被截断")]
)
def test_the_report_shows_what_was_amiss_with_the_answers(evaluate, language, words):
    run, cell = evaluate(Says(truthful=True), language)
    assert [cell[name] for name in ("cut_off", "refused", "empty", "unfinished")] == [0.4, 0.2, 0.4, 0.2]
    assert cell["metrics"]["empty_rate"]["value"] == cell["empty"]
    report = (run.path / "report.md").read_text("utf-8")
    assert "‡" in report
    assert words in report
    assert "40 %" in report


class Declines(Says):
    """Refuses the first question, has the second stopped by a filter, and says what every answer took."""

    def generate(self, inputs):
        def answer(number):
            if number == "1":
                return Refused("the filter stopped it")
            finish = "filter" if number == "2" else "stop"
            return Answer("red", 7, 5, finish, "Hm.", 3, 0.25, f"m-{int(number) % 2}")

        return [answer(request.text[0]) for request in inputs]


def test_a_refusal_is_wrong_and_not_failed_and_what_answers_took_is_summed(evaluate):
    run, cell = evaluate(Declines())
    assert (cell["samples"], cell["failed"], cell["coverage"], cell["refused"]) == (5, 0, 1.0, 0.4)
    assert cell["metrics"]["exact_match"]["value"] == pytest.approx(0.8)  # the refusal alone is wrong
    assert [cell[name] for name in ("tokens_in", "tokens_out", "reasoning_tokens", "cost")] == [28, 20, 12, 1.0]
    assert cell["served_by"] == {"m-0": 3, "m-1": 1}
    assert "the server named several models: m-0 (3), m-1 (1)" in cell["note"]
    (file,) = run.path.glob("cells/declines/*/records.jsonl")
    rows = {row["id"]: row for row in map(json.loads, file.read_text("utf-8").splitlines())}
    assert (rows["1"]["refused"], rows["1"]["error"]) == (True, "the filter stopped it")
    assert (rows["0"]["reasoning"], rows["0"]["finish"], rows["2"]["finish"]) == ("Hm.", "stop", "filter")


def test_a_model_may_write_more_than_its_task_allows(evaluate):
    model = Says(limit=64)
    _, cell = evaluate(model)
    assert model.limits == {64}
    assert cell["max_new_tokens"] == 64


def test_reference_rows_and_runs_that_did_not_count_say_nothing_of_answers_cut_off(evaluate):
    run, _ = evaluate(Says())
    (prior,) = [cell for cell in run.summary["cells"] if cell["model"] == "prior"]
    assert [prior[name] for name in ("cut_off", "refused", "empty", "unfinished")] == [None] * 4
    (file,) = run.path.glob("cells/says/*/cell.json")
    info = json.loads(file.read_text("utf-8"))
    del info["max_new_tokens"]  # as in a run of 0.1.0
    file.write_text(json.dumps(info), "utf-8")
    (cell,) = [cell for cell in build(RunFolder(run.path))["cells"] if cell["origin"] != "reference"]
    assert (cell["cut_off"], cell["empty"]) == (None, 0.4)
