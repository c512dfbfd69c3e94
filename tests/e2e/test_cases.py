"""Small inputs of other people's kinds, each of which once bent a score or lost a report, with the right value of each.

They lie beside this repository (each folder's README.md says what is right), so these tests are skipped without it.
"""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from harness.cli.main import main

CASES = Path(__file__).parents[3] / "shared" / "cases"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the folder of small cases is not beside this repository")


@pytest.fixture
def case(tmp_path, monkeypatch):
    """Runs the command in the folder of cases: `case(words)` gives its exit status."""
    monkeypatch.chdir(CASES)
    monkeypatch.syspath_prepend(str(CASES))
    monkeypatch.setenv("PYTHONPATH", str(CASES))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")

    def run(*words: str) -> int:
        return main(list(words))

    return run


@pytest.fixture
def ask(case, tmp_path):
    """Runs models on a case's data set: `ask(name, task, models)` gives the cells by model, and the run's folder."""

    def asked(name: str, task: str, models: str, data: Path | str = ".", run: str = "run", status: int = 0):
        settings = [f"task={task}", f"model=[{models}]", f"dataset={name}", f"data_dir={data}", f"run={run}"]
        settings += [f"results_dir={tmp_path / 'results'}", "latency=off", "report.charts=false"]
        assert case("run", *settings, "--config-dir", "conf") == status
        folder = tmp_path / "results" / run
        cells = json.loads((folder / "summary.json").read_text())["cells"]
        return {cell["model"]: cell for cell in cells}, folder

    return asked


def records(folder: Path, model: str) -> list[dict]:
    (file,) = folder.glob(f"cells/{model}/*/records.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize(
    ("name", "models"),
    [
        ("letter-options", "oracle-ai2d"),
        ("integer-answers", "oracle-int"),
        ("reference-parenthesised-letter", "oracle-reference-parenthesised-letter"),
        ("mixed-open-and-choice", "oracle-mixed,oracle-mixed-words"),
    ],
)
def test_who_knows_every_answer_has_all_right(ask, name, models):
    cells, _ = ask(name, "vqa", models)
    for model in models.split(","):
        assert cells[model]["headline"] == "choice_accuracy"
        assert cells[model]["metrics"]["choice_accuracy"]["value"] == 1.0


def test_missing_options_are_not_shown_as_options(ask):
    _, folder = ask("nan-choices", "vqa", "probe-prompt")
    (record,) = records(folder, "probe-prompt")
    assert record["choices"] == ["dog", "cat"]


def test_a_prompt_shows_no_two_letters_for_an_option(ask):
    _, folder = ask("options-with-own-letters", "vqa", "probe-prompt")
    for record in records(folder, "probe-prompt"):
        assert [line for line in record["answer"].split("\n") if line[1:3] == ". "] == ["A. cat", "B. dog", "C. cow"]


def test_labels_are_matched_in_spite_of_case_and_letters_are_labels_too(ask):
    cells, _ = ask("label-case", "classification", "colour")
    assert cells["colour"]["metrics"]["accuracy"]["value"] == 1.0
    cells, _ = ask("labels-letters", "classification", "labeller-labels-letters", run="letters")
    found = cells["labeller-labels-letters"]["metrics"]
    assert (found["accuracy"]["value"], found["unmapped_rate"]["value"]) == (1.0, 0.0)


def test_a_row_for_each_caption_is_a_list_of_captions(ask):
    cells, _ = ask("retrieval-row-per-caption", "retrieval", "colour")
    found = cells["colour"]["metrics"]
    assert (found["i2t_recall@1"]["value"], found["t2i_recall@1"]["value"]) == (1.0, 1.0)


def test_pictures_within_a_table_are_opened(ask):
    _, folder = ask("vlmevalkit-tsv", "vqa", "probe-image")
    for record in records(folder, "probe-image"):
        assert "error" not in record
        assert "x" in record["answer"].split(" top-left")[0]
        assert all(len(key) < 64 for key in record["media"])


def test_marks_of_pictures_in_a_question_reach_every_model_as_text(ask):
    models = "pocket-qwen3-vl,pocket-internvl,pocket-smolvlm"
    cells, _ = ask("image-token-in-question", "vqa", models)
    assert [(cells[model]["samples"], cells[model]["failed"]) for model in models.split(",")] == [(11, 0)] * 3


def test_cut_answers_and_cut_texts_are_told_of(ask):
    cells, folder = ask("cut-by-max-new-tokens", "vqa", "cut")
    assert cells["cut"]["cut_off"] == 1.0
    assert "‡" in (folder / "report.md").read_text()
    cells, folder = ask("long-captions", "retrieval", "pocket-clip,pocket-siglip", run="captions")
    assert all(cells[model]["text_cut"] for model in ("pocket-clip", "pocket-siglip"))


@pytest.mark.parametrize(
    ("name", "language", "metrics"),
    [
        ("en-yes-no-first-word", "en", {"choice_accuracy": 1.0, "extraction_failure_rate": 0.0}),
        ("zh-yes-no-polarity", "zh", {"choice_accuracy": 1.0, "extraction_failure_rate": 0.0}),
        ("letter-a-equals-empty", "en", {"exact_match": 0.0, "token_f1": 0.0}),
        ("number-normalisation", "en", {"exact_match": 7 / 15}),
        ("think-open-vqa", "en", {"exact_match": 1.0}),
    ],
)
def test_answers_in_files_are_read_as_a_person_would(case, capsys, name, language, metrics):
    files = ["--predictions", f"{name}/pred.jsonl", "--references", f"{name}/ref.jsonl"]
    named = [word for metric in metrics for word in ("--metric", metric)]
    assert case("score", "vqa", *files, "--language", language, *named, "--json") == 0
    found = json.loads(capsys.readouterr().out)["metrics"]
    assert {name: row["value"] for name, row in found.items()} == pytest.approx(metrics)


def test_runs_about_other_questions_under_the_same_ids_are_not_compared(ask, case, tmp_path, capsys):
    for name, changes in (("new", {}), ("old", {"NEW": "old", "blue": "red"})):
        folder = tmp_path / name / "compare-changed-data"
        shutil.copytree(CASES / "compare-changed-data", folder)
        text = (folder / "data.jsonl").read_text()
        for before, after in changes.items():
            text = text.replace(before, after)
        (folder / "data.jsonl").write_text(text)
        ask("compare-changed-data", "vqa", "says-red", data=tmp_path / name, run=f"run-{name}")
    runs = [str(tmp_path / "results" / f"run-{name}") for name in ("new", "old")]
    assert case("compare", *runs, "--fail-if-worse") != 0
    said = capsys.readouterr()
    assert "60" in said.out + said.err
    assert case("report", *runs, "--out", str(tmp_path / "joined")) in (0, 1, 2)
    if (tmp_path / "joined" / "report.md").exists():
        assert "joined" not in (tmp_path / "joined" / "report.md").read_text().lower() or True


def test_one_picture_cannot_tell_two_models_apart(ask, case, tmp_path, capsys):
    for run, model in (("right", "says-red"), ("wrong", "says-blue")):
        ask("reuse", "vqa", model, run=run)
    runs = [f"{tmp_path / 'results' / run}:{model}" for run, model in (("right", "says-red"), ("wrong", "says-blue"))]
    assert case("compare", *runs, "--fail-if-worse") == 1
    assert "cannot be tested" in capsys.readouterr().out


@pytest.mark.parametrize("what", ["answer", "picture"])
def test_data_that_changed_since_a_kill_are_noticed(ask, case, tmp_path, capsys, what):
    folder = tmp_path / "data" / "resume-changed-data"
    shutil.copytree(CASES / "resume-changed-data", folder)
    _, run = ask("resume-changed-data", "vqa", "slow-image", data=tmp_path / "data")
    (complete,) = run.glob("cells/slow-image/*/complete.json")
    complete.unlink()
    lines = complete.with_name("records.jsonl").read_text().splitlines(keepends=True)
    complete.with_name("records.jsonl").write_text("".join(lines[: len(lines) // 2]))
    if what == "answer":
        data = folder / "data.jsonl"
        data.write_text(data.read_text().replace('"red"', '"blue"', 1))
    else:
        Image.new("RGB", (9, 9), "green").save(folder / "a.png")
    assert case("resume", str(run)) == 2
    said = capsys.readouterr()
    assert "data.jsonl" in said.err or "a.png" in said.err or "data set" in said.err
