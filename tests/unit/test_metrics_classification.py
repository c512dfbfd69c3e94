"""Classification, held against scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as sk

from harness.errors import UserError
from harness.metrics.classification import classification_scores, map_to_label

LABELS = tuple(f"class {i}" for i in range(8))


def drawn(seed, classes=8):
    rng = np.random.default_rng(seed)
    true = rng.choice(LABELS[:classes], 300).tolist()
    predicted = np.where(rng.random(300) < 0.6, true, rng.choice(LABELS, 300)).tolist()
    return predicted, true


def by_name(scored):
    return {s.metric.name: s.value for s in scored}


def scikit_learns(predicted, true):
    found = {"accuracy": sk.accuracy_score(true, predicted)}
    found |= {"balanced_accuracy": sk.balanced_accuracy_score(true, predicted)}
    for average in ("macro", "micro", "weighted"):
        options = {"labels": LABELS, "average": average, "zero_division": 0}
        p, r, f, _ = sk.precision_recall_fscore_support(true, predicted, **options)
        found[f"f1_{average}"] = f
        if average == "macro":
            found |= {"precision_macro": p, "recall_macro": r}
    return found


@pytest.mark.filterwarnings("ignore:y_pred contains classes")
@pytest.mark.parametrize("classes", [8, 5])
def test_every_average_is_scikit_learns_over_the_declared_labels(classes):
    predicted, true = drawn(0, classes)
    found = by_name(classification_scores(predicted, true, LABELS))
    expected = scikit_learns(predicted, true)
    assert {name: found[name] for name in expected} == pytest.approx(expected)


@pytest.mark.filterwarnings("ignore:y_pred contains classes")
def test_an_unmapped_answer_is_wrong_and_no_class():
    predicted, true = drawn(1)
    holes = [None if i % 10 == 0 else p for i, p in enumerate(predicted)]
    found = by_name(classification_scores(holes, true, LABELS))
    expected = scikit_learns(["?" if p is None else p for p in holes], true)
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert found["unmapped_rate"] == pytest.approx(0.1)


def test_without_a_declared_list_the_labels_are_the_union():
    predicted, true = drawn(2, 5)
    found = by_name(classification_scores(predicted, true))
    assert found["f1_macro"] == pytest.approx(sk.f1_score(true, predicted, average="macro"))


def test_many_classes_are_sparse_and_score_the_same():
    labels = tuple(f"c{i}" for i in range(80))
    rng = np.random.default_rng(3)
    true = rng.choice(labels, 4000).tolist()
    predicted = np.where(rng.random(4000) < 0.5, true, rng.choice(labels, 4000)).tolist()
    scored = classification_scores(predicted, true, labels)
    assert by_name(scored)["f1_macro"] == pytest.approx(sk.f1_score(true, predicted, average="macro"))
    assert "csr" in type(scored[3].statistics).__name__


def test_a_rare_class_is_a_doubt_about_macro_averages_only():
    true = ["a"] * 30 + ["b"] * 3
    doubts = {s.metric.name: s.metric.doubt for s in classification_scores(true, true, ("a", "b"))}
    assert doubts["f1_macro"] == "the rarest class has 3 samples"
    assert not doubts["accuracy"]
    (alone,) = {s.metric.doubt for s in classification_scores(true[:31], true[:31], ("a", "b"))} - {""}
    assert alone == "the rarest class has 1 sample"


def test_top5_is_scikit_learns_and_ties_go_against_the_model():
    rng = np.random.default_rng(4)
    scores, true = rng.random((200, 8)), rng.choice(LABELS, 200).tolist()
    best = [LABELS[i] for i in scores.argmax(axis=1)]
    found = by_name(classification_scores(best, true, LABELS, scores))
    assert found["top5_accuracy"] == pytest.approx(sk.top_k_accuracy_score(true, scores, k=5, labels=LABELS))
    flat = by_name(classification_scores(best, true, LABELS, np.zeros((200, 8))))
    assert flat["top5_accuracy"] == 0.0


def test_ece_is_the_gap_of_confidence_and_accuracy_in_15_bins():
    rng = np.random.default_rng(5)
    scores = rng.dirichlet(np.ones(8), 500)
    true = rng.integers(0, 8, 500)
    confidence, right = scores.max(axis=1), scores.argmax(axis=1) == true
    bins = np.ceil(confidence * 15)
    expected = sum(abs((right - confidence)[bins == b].sum()) for b in np.unique(bins)) / 500
    names = [LABELS[i] for i in true]
    scored = classification_scores(names, names, LABELS, scores)[-1]
    assert scored.metric.name == "ece"
    assert scored.value == pytest.approx(expected)
    assert not scored.metric.interval
    as_logits = classification_scores(names, names, LABELS, np.log(scores) + 3)[-1]
    assert as_logits.value == pytest.approx(expected)


def test_a_sample_that_failed_has_no_scores_and_is_wrong():
    scores = np.array([[0.1] * 7 + [0.3], [np.nan] * 8])
    found = by_name(classification_scores([LABELS[7], None], [LABELS[7], LABELS[0]], LABELS, scores))
    assert found["top5_accuracy"] == 0.5
    assert found["ece"] == pytest.approx(0.7)


def test_a_label_that_is_not_declared_is_refused():
    with pytest.raises(UserError, match=r"Sample 2.*'bird'.*2 declared"):
        classification_scores(["a", "a"], ["a", "bird"], ("a", "b"))


@pytest.mark.parametrize(
    ("text", "label"),
    [("A wild cat.", "wild cat"), ("It's a dog", "dog"), ("dog or cat", None), ("Not a dog but a cat", "cat"),
     ("DOG", "dog"), ("concatenate", None), ("", None)],
)  # fmt: skip
def test_free_text_is_mapped_to_the_one_label_it_names(text, label):
    assert map_to_label(text, ["cat", "wild cat", "dog"], "en") == label


def test_chinese_text_is_mapped_too():
    assert map_to_label("图中是一只野猫。", ["猫", "野猫", "狗"], "zh") == "野猫"
    assert map_to_label("猫或者狗", ["猫", "野猫", "狗"], "zh") is None
