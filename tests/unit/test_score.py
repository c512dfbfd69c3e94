"""Scores of predictions in files: right numbers, and errors that name file and line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harness.analysis.score_files import render, score_files
from harness.errors import UserError
from harness.metrics import meteor
from harness.tasks.captioning import Captioning
from harness.tasks.classification import Classification
from harness.tasks.retrieval import Retrieval
from harness.tasks.vqa import Vqa


@pytest.fixture(autouse=True)
def no_meteor(monkeypatch):
    """Starting METEOR takes seconds; it has tests of its own."""
    monkeypatch.setattr(meteor, "_jar", lambda: None)


def write(file, rows):
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    file.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return file


@pytest.fixture
def files(tmp_path):
    """Makes a pair of files from rows."""

    def make(prediction_lines, reference_lines):
        first, second = tmp_path / "predictions.jsonl", tmp_path / "references.jsonl"
        return write(first, prediction_lines), write(second, reference_lines)

    return make


def predictions(*answers):
    return [{"id": str(i), "prediction": answer} for i, answer in enumerate(answers)]


def references(*answers, **more):
    lists = [list(a) if isinstance(a, tuple) else [a] for a in answers]
    return [{"id": str(i), "references": texts} | more for i, texts in enumerate(lists)]


def test_vqa_without_ten_answers_is_exact_match_first(files):
    result = score_files("vqa", *files(predictions("a cat", "Two", None), references("cat", "2", "dog")))
    assert next(iter(result["metrics"])) == "exact_match"
    assert result["metrics"]["exact_match"]["value"] == pytest.approx(2 / 3)
    assert set(result["metrics"]["exact_match"]) >= {"value", "low", "high", "definition"}
    assert (result["task"], result["n"]) == ("vqa", 3)
    assert "vqa_accuracy" not in result["metrics"]


def test_vqa_with_ten_answers_is_vqa_accuracy_first(files):
    result = score_files("vqa", *files(predictions("red"), references(("red",) * 3 + ("blue",) * 7)))
    assert next(iter(result["metrics"])) == "vqa_accuracy"
    assert result["metrics"]["vqa_accuracy"]["value"] == pytest.approx(0.9)


def test_choices_in_the_references_add_multiple_choice(files):
    pair = files(predictions("答案是B。", "不知道"), references("狗", "猫", choices=["猫", "狗"]))
    metrics = score_files("vqa", *pair, language="zh")["metrics"]
    assert metrics["choice_accuracy"]["value"] == 0.5
    assert metrics["extraction_failure_rate"]["value"] == 0.5


def test_captions_have_cider_first_and_only_what_was_asked_for(files):
    pair = files(predictions("a cat on a mat", "a dog"), references(("a cat on the mat", "cat"), ("the dog",)))
    assert next(iter(score_files("captioning", *pair)["metrics"])) == "cider"
    assert list(score_files("captioning", *pair, metrics=["bleu4"])["metrics"]) == ["bleu4"]


def test_labels_come_from_scores_choices_or_both_sides(files):
    pair = files(predictions("cat", "dog", "bird"), references("cat", "cat", "dog"))
    assert "3 labels" in score_files("classification", *pair)["metrics"]["f1_macro"]["definition"]
    pair = files(predictions("It's a cat.", "no idea", "dog"), references("cat", "cat", "dog", choices=["cat", "dog"]))
    metrics = score_files("classification", *pair)["metrics"]
    assert metrics["accuracy"]["value"] == pytest.approx(2 / 3)
    assert metrics["unmapped_rate"]["value"] == pytest.approx(1 / 3)
    scored = [{"id": str(i), "scores": s} for i, s in enumerate([{"cat": 0.9, "dog": 0.1}, {"dog": 0.6, "cat": 0.4}])]
    metrics = score_files("classification", *files(scored, references("cat", "cat")))["metrics"]
    assert metrics["accuracy"]["value"] == 0.5
    assert metrics["ece"]["value"] == pytest.approx((0.1 + 0.6) / 2)
    assert metrics["ece"]["low"] is None


def test_clusters_widen_the_interval_and_categories_are_slices(files):
    answers = [("yes", "no")[i // 3 % 2] for i in range(90)]
    alone = score_files("vqa", *files(predictions(*["yes"] * 90), references(*answers)))
    rows = [
        row | {"cluster": f"image {i // 3}", "category": f"kind {i % 2}"} for i, row in enumerate(references(*answers))
    ]
    together = score_files("vqa", *files(predictions(*["yes"] * 90), rows))

    def width(result):
        return result["metrics"]["exact_match"]["high"] - result["metrics"]["exact_match"]["low"]

    assert width(together) > 1.5 * width(alone)
    assert together["clusters"] == 30
    assert {k: v["n"] for k, v in together["slices"]["category"].items()} == {"kind 0": 45, "kind 1": 45}


def test_retrieval_reads_vectors(tmp_path):
    file = tmp_path / "vectors.npz"
    eye = np.eye(30, dtype=np.float32)
    np.savez(file, image=eye, text=np.repeat(eye, 2, axis=0), text_image=np.arange(60) // 2)
    metrics = score_files("retrieval", file)["metrics"]
    assert list(metrics)[:2] == ["i2t_recall@1", "t2i_recall@1"]
    assert metrics["t2i_recall@1"]["value"] == 1.0
    assert metrics["i2t_median_rank"]["value"] == 1.0
    pairs = np.stack([np.arange(60) // 2, np.arange(60)], axis=1)
    other = tmp_path / "pairs.npz"
    np.savez(other, positives=pairs)
    np.savez(file, image=eye * 3, text=np.repeat(eye, 2, axis=0))
    result = score_files("retrieval", file, other)
    assert result["metrics"]["i2t_recall@1"]["value"] == 1.0


def test_retrieval_compares_by_cosine_unless_told_otherwise_and_says_which(tmp_path):
    # Image 0 points where text 0 does; text 1 is ten times as long, which a cosine does not see.
    image = np.array([[1.0, 0.1], [0.0, 1.0]])
    text = np.array([[1.0, 0.0], [10.0, 10.0]])
    file = tmp_path / "vectors.npz"
    np.savez(file, image=image, text=text, text_image=np.arange(2))
    cosine, dot = score_files("retrieval", file), score_files("retrieval", file, similarity="dot")
    assert (cosine["similarity"], cosine["metrics"]["i2t_recall@1"]["value"]) == ("cosine", 1.0)
    assert (dot["similarity"], dot["metrics"]["i2t_recall@1"]["value"]) == ("dot", 0.5)
    assert "Note: compared by cosine" in render(cosine)
    assert "Note: compared by the dot product of the rows as they are" in render(dot)
    np.savez(file, image=image, text=text * [[1.0], [0.0]], text_image=np.arange(2))
    with pytest.raises(UserError, match=r"vectors\.npz: 'text' row 1 is all zeros"):
        score_files("retrieval", file)
    assert score_files("retrieval", file, similarity="dot")["n"] == 4


def test_images_that_share_a_text_are_one_cluster(tmp_path):
    pairs = np.array([[0, 0], [1, 0], [2, 1], [3, 2]])
    np.savez(tmp_path / "v.npz", image=np.eye(5), text=np.eye(4, 5), positives=pairs)
    # {images 0 and 1, text 0}, {image 2, text 1}, {image 3, text 2}, image 4 and text 3 alone
    assert score_files("retrieval", tmp_path / "v.npz")["clusters"] == 5


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"text": np.eye(3)}, "no array 'image'; it has text"),
        ({"image": np.eye(3), "text": np.ones((3, 2))}, "3 columns and text 2"),
        ({"image": np.eye(3), "text": np.eye(3)}, "needs 'text_image'"),
        ({"image": np.eye(3), "text": np.eye(3), "text_image": np.array([0, 1, 3])}, "row 2 is 3.* from 0 to 2"),
        ({"image": np.eye(3), "text": np.eye(3), "text_image": np.array([0, 1])}, "2 entries for 3 texts"),
        ({"image": np.eye(3), "text": np.eye(3), "positives": np.eye(3)}, r"whole numbers \[k, 2\]"),
        ({"image": np.full((3, 3), np.nan), "text": np.eye(3)}, "not finite: row 0"),
        ({"image": np.array([["a"]]), "text": np.eye(3)}, "must be floats"),
    ],
)
def test_vectors_that_do_not_fit_are_named(tmp_path, arrays, message):
    np.savez(tmp_path / "v.npz", **arrays)
    with pytest.raises(UserError, match=message):
        score_files("retrieval", tmp_path / "v.npz")


def test_a_file_that_is_no_npz_or_holds_objects_is_refused(tmp_path):
    (tmp_path / "v.npz").write_text("hello")
    with pytest.raises(UserError, match=r"is not an \.npz"):
        score_files("retrieval", tmp_path / "v.npz")
    np.savez(tmp_path / "v.npz", image=np.array([{}], dtype=object))
    with pytest.raises(UserError, match=r"is not an \.npz archive of plain arrays"):
        score_files("retrieval", tmp_path / "v.npz")


PREDICTION = {"id": "1", "prediction": "x"}
REFERENCE = {"id": "1", "references": ["x"]}


@pytest.mark.parametrize(
    ("prediction_lines", "reference_lines", "message"),
    [
        ([PREDICTION, "{oops"], [REFERENCE], r"predictions\.jsonl:2: this line is not JSON"),
        ([PREDICTION, "", "[]"], [REFERENCE], r"predictions\.jsonl:3: a line must be a JSON object"),
        ([PREDICTION, PREDICTION], [REFERENCE], r"predictions\.jsonl:2: id '1' stands in line 1 already"),
        ([PREDICTION], [REFERENCE, REFERENCE], r"references\.jsonl:2: id '1' stands in line 1"),
        ([{"prediction": "x"}], [REFERENCE], r"predictions\.jsonl:1: 'id' is missing"),
        (
            [PREDICTION, {"id": "2", "prediction": "y"}],
            [REFERENCE],
            r"predictions\.jsonl:2: id '2' is not in .*references",
        ),
        (
            [PREDICTION],
            [REFERENCE, REFERENCE | {"id": "2"}],
            r"references\.jsonl:2: id '2' has no prediction in .*predictions.*null",
        ),
        ([{"id": "1"}], [REFERENCE], r"predictions\.jsonl:1: 'prediction' is missing"),
        (
            [{"id": "1", "prediction": 3}],
            [REFERENCE],
            r"predictions\.jsonl:1: 'prediction' must be a text or null, not 3",
        ),
        ([PREDICTION], [{"id": "1", "references": "x"}], r"references\.jsonl:1: 'references' must be a list"),
        (
            [PREDICTION],
            [{"id": "1", "references": []}],
            r"references\.jsonl:1: 'references' must be a list of at least one",
        ),
        (
            [PREDICTION],
            [{"id": "1", "refrences": ["x"]}],
            r"references\.jsonl:1: unknown key 'refrences'.*'references'",
        ),
        ([PREDICTION | {"scores": {"a": "b"}}], [REFERENCE], r"predictions\.jsonl:1: 'scores' must be"),
        ([], [], r"references\.jsonl has no lines"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_line(files, prediction_lines, reference_lines, message):
    with pytest.raises(UserError, match=message):
        score_files("vqa", *files(prediction_lines, reference_lines))


def test_a_line_separator_within_a_text_is_no_new_line(files):
    predictions_file, references_file = files([], [REFERENCE])
    predictions_file.write_text('{"id": "1", "prediction": "x\u2028"}\n', encoding="utf-8")
    assert score_files("vqa", predictions_file, references_file)["n"] == 1


def test_wrong_names_get_the_nearest_right_one(files):
    pair = files([PREDICTION], [REFERENCE])
    with pytest.raises(UserError, match=r"no task 'vqaa'.*'vqa'"):
        score_files("vqaa", *pair)
    with pytest.raises(UserError, match=r"no metric 'exact_mach'.*'exact_match'"):
        score_files("vqa", *pair, metrics=["exact_mach"])
    with pytest.raises(UserError, match="ten references a question"):
        score_files("vqa", *pair, metrics=["vqa_accuracy"])
    with pytest.raises(UserError, match="needs --references"):
        score_files("vqa", pair[0])
    with pytest.raises(UserError, match=r"none\.jsonl cannot be read"):
        score_files("vqa", pair[0], Path("none.jsonl"))


TASKS = {"vqa": Vqa, "captioning": Captioning, "classification": Classification, "retrieval": Retrieval}


def test_the_metrics_that_can_be_named_are_those_that_are_computed(files, tmp_path):
    labels = [f"c{i}" for i in range(6)]
    rows = [{"id": "0", "prediction": "c0", "scores": dict.fromkeys(labels, 0.1)}]
    found = {
        "vqa": score_files("vqa", *files(predictions("c0"), references(("c0",) * 10, choices=labels))),
        "captioning": score_files("captioning", *files(predictions("c0"), references("c0"))),
        "classification": score_files("classification", *files(rows, references("c0"))),
    }
    np.savez(tmp_path / "v.npz", image=np.eye(3), text=np.eye(3), text_image=np.arange(3))
    found["retrieval"] = score_files("retrieval", tmp_path / "v.npz")
    for task, result in found.items():
        assert set(result["metrics"]) == set(TASKS[task].metrics) - {"meteor"}, task


def test_the_result_is_json_and_readable(files):
    result = score_files("vqa", *files(predictions("a", "b"), references("a", "a", category="x")))
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    lines = render(result).splitlines()
    assert lines[0] == "vqa: 2 samples, 2 clusters"
    assert any(line.startswith("exact_match") and "0.5000" in line and "only 2 clusters" in line for line in lines)
    assert any("category=x" in line for line in lines)
    result = score_files("vqa", *files(predictions("a"), references("a")))
    assert render(result).splitlines()[0] == "vqa: 1 sample, 1 cluster"


def test_scoring_imports_neither_torch_nor_transformers(files):
    pair = files(predictions("a"), references("a"))
    code = (
        "import sys; from pathlib import Path; from harness.analysis.score_files import score_files; "
        f"[score_files(t, Path({str(pair[0])!r}), Path({str(pair[1])!r}), m) for t, m in "
        "(('vqa', []), ('captioning', ['cider']), ('classification', []))]; "
        "print([m for m in ('torch', 'transformers', 'pandas', 'matplotlib') if m in sys.modules])"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.strip() == "[]", done.stderr
