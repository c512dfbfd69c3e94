"""Retrieval: ranks held against a full sort, ties against the model, both directions from one product."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from harness.metrics import ranking
from harness.metrics.ranking import rank_both
from harness.metrics.retrieval import retrieval_scores


def sorted_out(a, b, pairs):
    """Rank of the best positive, positives, found among 5 and 10, AP@10: by a full sort, ties against the model."""
    right = np.zeros((len(a), len(b)), bool)
    right[pairs[:, 0], pairs[:, 1]] = True
    rows = []
    for scores, own in zip(a.astype(float) @ b.T.astype(float), right, strict=True):
        position = np.flatnonzero(own[np.lexsort((own, -scores.round(9)))]) + 1
        k = len(position)
        precision = sum((i + 1) / x for i, x in enumerate(position) if x <= 10)
        found = [(position <= depth).sum() for depth in (5, 10)]
        rows.append([position[0] if k else 0, k, *found, precision / max(1, min(k, 10))])
    return np.array(rows)


def as_rows(r):
    return np.stack([r.rank, r.positives, r.found5, r.found10, r.average_precision10], axis=1)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_ranks_are_those_of_a_full_sort(seed, tied):
    rng = np.random.default_rng(seed)
    n, m, d = rng.integers(2, 600), rng.integers(2, 200), rng.integers(1, 8)

    def vectors(k):
        return (rng.integers(-2, 3, (k, d)) if tied else rng.standard_normal((k, d))).astype(np.float32)

    a, b = vectors(n), vectors(m)
    k = rng.integers(1, 4 * max(n, m))
    pairs = np.stack([rng.integers(0, n, k), rng.integers(0, m, k)], axis=1)
    forward, backward = rank_both(a, b, pairs, top=5)
    assert as_rows(forward) == pytest.approx(sorted_out(a, b, pairs))
    assert as_rows(backward) == pytest.approx(sorted_out(b, a, pairs[:, ::-1]))
    for r, scores in ((forward, a @ b.T), (backward, b @ a.T)):
        shown = np.take_along_axis(scores, r.top, axis=1)
        assert shown == pytest.approx(-np.sort(-scores, axis=1)[:, : shown.shape[1]], abs=1e-5)


def test_average_precision_is_scikit_learns_when_all_positives_are_near():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((20, 4)), rng.standard_normal((10, 4))
    three = rng.permuted(np.tile(np.arange(10), (20, 1)), axis=1)[:, :3]
    pairs = np.stack([np.repeat(np.arange(20), 3), three.ravel()], axis=1)
    right = np.zeros((20, 10))
    right[pairs[:, 0], pairs[:, 1]] = 1
    expected = [average_precision_score(y, s) for y, s in zip(right, a @ b.T, strict=True)]
    assert rank_both(a, b, pairs)[0].average_precision10 == pytest.approx(expected)


def test_a_model_that_maps_everything_to_one_point_finds_nothing():
    same = np.full((300, 4), 0.5, dtype=np.float32)
    both = rank_both(same, same, np.stack([np.arange(300)] * 2, axis=1))
    assert [set(r.rank) for r in both] == [{300}, {300}]


def test_a_duplicate_of_the_right_item_ties_with_it():
    a = np.random.default_rng(1).standard_normal((250, 512)).astype(np.float32)
    b = np.concatenate([a, a])
    forward, backward = rank_both(a, b, np.stack([np.arange(250)] * 2, axis=1))
    assert set(forward.rank) == {2}
    assert set(backward.rank[:250]) == {1}
    assert set(backward.rank[250:]) == {0}


def test_an_item_that_failed_is_behind_everything():
    eye = np.eye(4, dtype=np.float32)
    broken = eye.copy()
    broken[2] = np.nan
    forward, backward = rank_both(broken, eye, np.stack([np.arange(4)] * 2, axis=1))
    assert forward.rank.tolist() == [1, 1, 4, 1]
    assert backward.rank.tolist() == [1, 1, 4, 1]


def test_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((100, 16)), rng.standard_normal((300, 16))
    pairs = np.stack([np.arange(300) // 3, np.arange(300)], axis=1)
    whole = rank_both(a, b, pairs, top=10)
    monkeypatch.setattr(ranking, "ROWS", 7)
    for one, other in zip(whole, rank_both(a, b, pairs, top=10), strict=True):
        assert (as_rows(one) == as_rows(other)).all()
        assert (one.top == other.top).all()


def test_torch_is_not_imported_for_ranking():
    code = (
        "import sys; import numpy as np; from harness.metrics.ranking import rank_both\n"
        "rank_both(np.eye(3), np.eye(3), np.stack([np.arange(3)] * 2, axis=1))\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# Metrics --------------------------------------------------------------------------------------------------------------


def query(rank, positives=1, direction="i2t", **more):
    found = {"found@5": int(rank is not None and rank <= 5), "found@10": int(rank is not None and rank <= 10)}
    return {"direction": direction, "rank": rank, "positives": positives, **found, "ap@10": 0.5, "gallery": 40} | more


def by_name(queries):
    return {s.metric.name: s.value for s in retrieval_scores(queries)}


def test_metrics_of_hand_made_ranks():
    found = by_name([query(1), query(2), query(7), query(30)])
    assert found["i2t_recall@1"] == 0.25
    assert found["i2t_recall@5"] == 0.5
    assert found["i2t_recall@10"] == 0.75
    assert found["i2t_mrr"] == pytest.approx((1 + 1 / 2 + 1 / 7 + 1 / 30) / 4)
    assert found["i2t_median_rank"] == 4.5
    assert found["i2t_map@10"] == 0.5


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 10])
def test_the_median_rank_is_numpys(count):
    ranks = np.random.default_rng(count).integers(1, 41, count)
    assert by_name([query(int(r)) for r in ranks])["i2t_median_rank"] == np.median(ranks)


def test_recall_means_any_positive_and_found_means_the_share_of_all():
    found = by_name([query(1, positives=4, **{"found@5": 2, "found@10": 3})])
    assert found["i2t_recall@5"] == 1.0
    assert found["i2t_found@5"] == 0.5
    assert found["i2t_found@10"] == 0.75


def test_both_directions_share_their_rows_and_both_headlines_come_first():
    queries = [query(1), query(3, direction="t2i"), query(1, direction="t2i")]
    scored = retrieval_scores(queries)
    assert [s.metric.name for s in scored[:2]] == ["i2t_recall@1", "t2i_recall@1"]
    assert {s.statistics.shape[0] for s in scored} == {3}
    assert by_name(queries)["i2t_recall@1"] == 1.0
    assert by_name(queries)["t2i_recall@1"] == 0.5


def test_a_query_without_a_positive_is_left_out_and_counted():
    scored = retrieval_scores([query(1), query(0, positives=0)])
    assert scored[0].value == 1.0
    assert "1 query without a positive left out" in scored[0].metric.definition
    scored = retrieval_scores([query(1), query(0, positives=0), query(0, positives=0)])
    assert "2 queries without a positive left out" in scored[0].metric.definition


def test_a_query_that_failed_counts_as_worst():
    found = by_name([query(1), query(None)])
    assert found["i2t_recall@10"] == 0.5
    assert found["i2t_mrr"] == 0.5
    assert found["i2t_median_rank"] == 20.5
    assert found["i2t_map@10"] == 0.25
