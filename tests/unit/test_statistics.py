"""Intervals, paired tests and ranks, held against closed forms and libraries."""

import math

import numpy as np
import pytest
from scipy import sparse

from harness.analysis import statistics
from harness.analysis.statistics import (
    best_group,
    compare,
    compare_all,
    detectable,
    estimate,
    estimates,
    holm,
    rank_intervals,
    slices,
    standings,
)
from harness.metrics import Metric, Scored, averaged, mean
from harness.metrics.classification import classification_scores


def accuracy(values, name="accuracy"):
    return averaged(name, "", values)


def names(clusters):
    return [f"image {c}" for c in clusters]


def test_an_interval_of_a_mean_is_that_of_the_textbook():
    values = np.random.default_rng(0).random(400)
    found = estimate(accuracy(values), names(range(400)))
    se = values.std(ddof=1) / 20
    assert found.value == pytest.approx(values.mean())
    assert found.se == pytest.approx(se, rel=0.05)
    assert found.high - found.value == pytest.approx(1.966 * se, rel=0.05)
    assert found.clusters == 400
    assert found.reliable


def test_samples_that_share_an_image_count_as_one():
    per_image = np.random.default_rng(1).random(200) < 0.5
    repeated = estimate(accuracy(np.repeat(per_image, 5)), names(np.repeat(range(200), 5)))
    once = estimate(accuracy(per_image), names(range(200)))
    assert repeated.se == pytest.approx(once.se, rel=1e-9)
    naive = estimate(accuracy(np.repeat(per_image, 5)), names(range(1000)))
    assert naive.se < 0.6 * repeated.se


def test_the_same_seed_gives_the_same_interval_whatever_else_is_estimated():
    values = np.random.default_rng(2).random(100) < 0.4
    wide = Scored(Metric("wide", "", lambda s: s[..., 0]), np.ones((100, 50)))
    clusters = names(range(100))
    assert estimates([wide, accuracy(values)], clusters)[1] == estimate(accuracy(values), clusters)
    assert estimate(accuracy(values), clusters, seed=1) != estimate(accuracy(values), clusters)


def test_sparse_and_dense_statistics_give_one_interval():
    rng = np.random.default_rng(3)
    dense = rng.integers(0, 2, (60, 2)).astype(float)
    metric = Metric("ratio", "", mean)
    clusters = names(rng.integers(0, 30, 60))
    one, other = (estimate(Scored(metric, s), clusters) for s in (dense, sparse.csr_array(dense)))
    assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high))


def wilson(right, n):
    """The interval of statsmodels with the quantile of Student's t in the place of the normal one."""
    from scipy.stats import norm, t
    from statsmodels.stats.proportion import proportion_confint

    return proportion_confint(right, n, alpha=2 * norm.sf(t.ppf(0.975, n - 1)), method="wilson")


@pytest.mark.parametrize("right", [30, 55, 58, 59, 60, 1, 0])
def test_an_interval_of_a_share_is_wilsons_where_each_sample_is_its_own_cluster(right):
    found = estimate(accuracy([1.0] * right + [0.0] * (60 - right)), names(range(60)))
    low, high = wilson(right, 60)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.004)
    assert found.reliable  # it holds at the ends too


def test_a_share_without_an_error_has_a_width():
    perfect = estimate(accuracy(np.ones(80)), names(range(80)))
    assert (perfect.low, perfect.high) == pytest.approx(wilson(80, 80))
    labels = [("a", "b", "c")[i % 3] for i in range(90)]
    for scored in classification_scores(labels, labels, ("a", "b", "c")):
        found = estimate(scored, names(range(90)))
        if scored.metric.name != "unmapped_rate":
            assert found.value == found.high == 1.0
            assert found.low == pytest.approx(wilson(90, 90)[0])
    part = slices([accuracy(np.ones(80))], names(range(80)), [{"kind": "a"}] * 40 + [{"kind": "b"}] * 40)
    assert part["kind"]["a"][1][0].low == pytest.approx(wilson(40, 40)[0])
    alike = estimate(accuracy([0.5] * 40), names(range(40)))
    assert alike.low < 0.5 < alike.high


def test_right_answers_that_share_images_say_less_than_as_many_on_their_own():
    own, shared = (estimate(accuracy(np.ones(100)), names(c)) for c in (np.arange(100), np.arange(100) // 5))
    copies = estimate(accuracy(np.ones(20)), names(range(20)))
    assert copies.low < shared.low < own.low
    effective = 100 / (1 + 0.2 * 4)  # 5 to an image, correlated by 0.2
    assert shared.low == pytest.approx(effective / (effective + 2.093024**2))


def test_one_answer_that_is_nearly_right_does_not_say_that_none_is_wrong():
    perfect = estimate(accuracy(np.ones(100)), names(range(100)))
    nearly = estimate(accuracy([0.9] + [1.0] * 99), names(range(100)))
    assert nearly.low == pytest.approx(perfect.low, abs=0.005)
    assert nearly.high < 1


@pytest.mark.parametrize("seed", range(20))
def test_an_interval_contains_its_value_and_stays_in_the_range(seed):
    rng = np.random.default_rng(seed)
    clusters = rng.integers(0, rng.integers(2, 40), 60)
    values = rng.choice([0.0, 0.3, 0.6, 0.9, 1.0], 60, p=rng.dirichlet(np.full(5, 0.3)))
    given = (rng.random(60) < 0.7).astype(float)
    rate = Scored(Metric("rate", "", mean), np.stack([values * given, given], axis=1))
    labels = [("a", "b")[int(v > 0.5)] for v in values]
    scored = [accuracy(values), rate, *classification_scores(labels, ["a"] * 30 + ["b"] * 30, ("a", "b"))]
    for found in estimates(scored, clusters):
        assert 0 <= found.low <= found.value <= found.high <= 1
        assert found.low < found.high


def test_a_rate_counts_the_clusters_in_which_something_was_given():
    given = np.repeat([1.0, 0.0], 40)
    rate = Scored(Metric("rate", "", mean), np.stack([np.zeros(80), given], axis=1))
    found = estimate(rate, names(range(80)))
    assert (found.low, found.high) == pytest.approx(wilson(0, 40))


def test_intervals_cover_shares_near_one_over_few_clusters_of_unequal_size():
    rng = np.random.default_rng(3)
    index = np.repeat(np.arange(20), rng.integers(1, 11, 20))
    chance = rng.beta(0.95 * 4, 0.05 * 4, (400, 20))  # an intra-cluster correlation of 0.2
    scored = [accuracy(row) for row in rng.random((400, len(index))) < chance[:, index]]
    found = estimates(scored, index)
    assert np.mean([e.low <= 0.95 <= e.high for e in found]) > 0.93
    assert np.mean([abs(e.value - 0.95) <= 2.093 * e.se for e in found]) < 0.88  # value ± t * SE


def test_another_range_keeps_an_interval_that_is_even_on_both_sides():
    values = 10 * np.random.default_rng(0).random(50)
    found = estimate(averaged("cider", "", values, high=10.0), names(range(50)))
    assert found.high - found.value == pytest.approx(found.value - found.low)
    assert found.high - found.value == pytest.approx(2.0096 * found.se, rel=1e-4)


def test_shares_are_marked_near_an_end_where_samples_share_clusters():
    clusters = names(np.arange(200) // 5)
    assert "end of its range" in estimate(accuracy([1.0] * 197 + [0.0] * 3), clusters).doubt
    assert "end of its range" in estimate(accuracy(np.ones(200)), clusters).doubt
    assert estimate(accuracy([0.0, 1.0] * 100), clusters).reliable
    wrong_together = np.where(np.arange(500) // 5 < 16, 0.0, 1.0)
    wrong_apart = np.where(np.arange(500) % 6 == 0, 0.0, 1.0)
    assert not estimate(accuracy(wrong_together), names(np.arange(500) // 5)).reliable
    assert estimate(accuracy(wrong_apart), names(np.arange(500) // 5)).reliable


def test_few_clusters_are_marked_and_one_has_no_interval():
    few = estimate(accuracy([0, 1] * 9), names(range(18)))
    assert few.doubt == "only 18 clusters"
    assert few.low < few.value < few.high
    one = estimate(accuracy([0, 1, 1]), names([0, 0, 0]))
    assert one.doubt == "only 1 cluster"
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert one.value == pytest.approx(2 / 3)


def test_a_metric_without_an_honest_interval_gets_none():
    values = np.random.default_rng(0).random((50, 1))
    found = estimate(Scored(Metric("ece", "", lambda s: s[..., 0], interval=False), values), names(range(50)))
    assert math.isnan(found.low)
    assert not math.isnan(found.value)


def test_nothing_scored_is_undefined_and_no_error():
    found = estimate(accuracy([]), [])
    assert math.isnan(found.value)
    assert math.isnan(found.low)


def test_very_many_clusters_have_the_same_standard_error_from_groups(monkeypatch):
    values = np.random.default_rng(4).random(20_000)
    whole = estimate(accuracy(values), names(range(20_000)))
    monkeypatch.setattr(statistics, "MANY_CLUSTERS", 10_000)
    grouped = estimate(accuracy(values), names(range(20_000)))
    assert grouped.se == pytest.approx(whole.se, rel=0.06)
    assert grouped.clusters == 20_000


def test_slices_have_their_own_size_and_interval():
    values = [1.0] * 30 + [0.0] * 30 + [1.0] * 10
    fields = [{"kind": "a"}] * 30 + [{"kind": "b"}] * 30 + [{}] * 10
    found = slices([accuracy(values)], names(range(70)), fields)
    assert {value: (n, part[0].value) for value, (n, part) in found["kind"].items()} == {"a": (30, 1.0), "b": (30, 0.0)}


def test_lengths_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="3 clusters for 2 samples"):
        estimate(accuracy([0, 1]), names(range(3)))
    with pytest.raises(ValueError, match="same samples"):
        compare(accuracy([0, 1]), accuracy([0, 1, 1]), names(range(3)))


# Pairs ----------------------------------------------------------------------------------------------------------------


def test_the_randomisation_p_is_the_exact_sign_flip_p():
    rng = np.random.default_rng(5)
    a, b = rng.integers(0, 2, (2, 12)).astype(float)
    differences = a - b
    signs = np.array(np.meshgrid(*[[-1, 1]] * 12)).reshape(12, -1)
    exact = np.mean(np.abs(differences @ signs) >= abs(differences.sum()) - 1e-9)
    found = compare(accuracy(a), accuracy(b), names(range(12)))
    assert found.p == pytest.approx(exact, abs=0.02)
    assert found.difference == pytest.approx((a - b).mean())
    assert found.n == 12


def test_a_paired_interval_is_that_of_the_differences():
    rng = np.random.default_rng(6)
    a = rng.random(300)
    b = a - 0.05 + 0.1 * rng.random(300)
    found = compare(accuracy(a), accuracy(b), names(range(300)))
    se = (a - b).std(ddof=1) / math.sqrt(300)
    assert found.high - found.difference == pytest.approx(1.968 * se, rel=0.05)


def test_equal_models_are_not_told_apart_and_very_unequal_ones_are():
    rng = np.random.default_rng(7)
    a = (rng.random(400) < 0.6).astype(float)
    clusters = names(np.arange(400) // 2)
    assert compare(accuracy(a), accuracy(a), clusters).p == 1.0
    worse = compare(accuracy(a), accuracy(a * (rng.random(400) < 0.7)), clusters)
    assert worse.significant
    assert worse.low > 0
    assert worse.p == pytest.approx(1 / 10_001, rel=0.5)


def test_clusters_are_exchanged_whole():
    a = np.repeat([1, 1, 1, 0], 25).astype(float)
    b = 1 - a
    apart = compare(accuracy(a), accuracy(b), names(range(100)))
    together = compare(accuracy(a), accuracy(b), names(np.repeat(range(4), 25)))
    assert apart.p < 0.001
    assert together.p > 0.3


def test_macro_f1_is_tested_by_exchanging_answers_not_scores():
    rng = np.random.default_rng(8)
    true = rng.choice(["a", "b", "c"], 300)
    good = np.where(rng.random(300) < 0.8, true, "a")
    bad = np.where(rng.random(300) < 0.3, true, "a")
    f1 = {}
    for name, predicted in (("good", good), ("bad", bad)):
        scored = classification_scores(list(predicted), list(true), ("a", "b", "c"))
        f1[name] = next(s for s in scored if s.metric.name == "f1_macro")
    (found,) = compare_all(f1, names(range(300)))
    assert found.difference == pytest.approx(f1["good"].value - f1["bad"].value)
    assert found.significant


def test_all_pairs_are_corrected_together_and_agree_with_a_single_comparison():
    rng = np.random.default_rng(9)
    models = {f"m{i}": accuracy(rng.random(150) < 0.4 + 0.1 * i) for i in range(4)}
    clusters = names(range(150))
    found = compare_all(models, clusters)
    assert [(c.a, c.b) for c in found] == [(f"m{i}", f"m{j}") for i in range(4) for j in range(i + 1, 4)]
    assert [c.p_adjusted for c in found] == pytest.approx(holm([c.p for c in found]))
    assert {c.correction for c in found} == {"holm"}
    alone = compare(models["m0"], models["m3"], clusters)
    assert (alone.p, alone.low, alone.high) == pytest.approx((found[2].p, found[2].low, found[2].high))


def test_holm_is_that_of_statsmodels():
    from statsmodels.stats.multitest import multipletests

    p = np.random.default_rng(10).random(20) ** 3
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    with_gap = holm([0.01, math.nan, 0.04])
    assert with_gap[0] == pytest.approx(0.02)
    assert math.isnan(with_gap[1])
    assert holm([]) == []


def test_the_detectable_difference_is_that_of_statsmodels_power():
    from statsmodels.stats.power import TTestPower

    found = detectable(se=1 / math.sqrt(80), clusters=80)
    assert found == pytest.approx(TTestPower().solve_power(nobs=80, alpha=0.05, power=0.8), rel=0.01)
    assert detectable(0.1, 80, pairs=10) > detectable(0.1, 80)


# Many models ----------------------------------------------------------------------------------------------------------


def step_down_by_hand(values, g_degrees):
    """Romano and Wolf's procedure as it is written down: in each step the largest statistic against the maxima of all
    that are left."""
    from scipy.stats import norm, t

    s = values.shape[1]
    pairs = [(i, j) for i in range(s) for j in range(i + 1, s)]
    away = {(i, j): values[:, i] - values[:, j] - (values[:, i] - values[:, j]).mean() for i, j in pairs}
    return pairs, away, lambda statistic: norm.isf(t.sf(statistic, g_degrees))


def test_the_step_down_is_that_of_the_book_on_a_small_case():
    rng = np.random.default_rng(0)
    values = rng.normal([0.1, 0.2, 0.35, 0.36, 0.36], 0.05, (300, 5)) + rng.normal(0, 0.02, (300, 1))
    first, second = np.triu_indices(5, 1)
    gamma = np.ones(12)
    points = np.array([0.1, 0.2, 0.35, 0.36, 0.36])
    difference = points[first] - points[second]
    pairs, away, to_normal = step_down_by_hand(values, 11)
    own = np.array([away[pair].std(ddof=1) for pair in pairs])
    se = own * math.sqrt(12 / 11)
    observed = to_normal(np.abs(difference) / se)
    left, expected, before = list(np.argsort(-observed)), np.zeros(len(pairs)), 0.0
    while left:
        largest = np.max([np.abs(away[pairs[k]]) / own[k] for k in left], axis=0)
        k = left.pop(0)
        before = expected[k] = max(before, (1 + (largest >= observed[k]).sum()) / 301)
    alone = [(1 + (np.abs(away[pair]) / own[k] >= observed[k]).sum()) / 301 for k, pair in enumerate(pairs)]
    p, adjusted = statistics._step_down(values, first, second, difference, se, gamma)
    assert adjusted == pytest.approx(expected)
    assert p == pytest.approx(alone)


def many_models(rng, kind, n=200):
    """Twelve models that know little, eleven that know more, a twin of the first, and one that is always 0.1 better."""
    ease = rng.normal(0, 1, n)
    values = [(rng.random(n) < 1 / (1 + np.exp(-(2 * (m >= 12) - 1 + ease)))).astype(float) for m in range(23)]
    if kind == "accuracy":
        values = [0.8 * v for v in values]
        return {f"m{m}": accuracy(v) for m, v in enumerate([*values, values[0], values[0] + 0.1])}
    true = rng.choice(["a", "b", "c"], n)
    found = {}
    for m, right in enumerate(values):
        predicted = np.where(right > 0, true, "a")
        scored = classification_scores(list(predicted), list(true), ("a", "b", "c"))
        found[f"m{m}"] = next(s for s in scored if s.metric.name == "f1_macro")
    return found


@pytest.mark.parametrize("kind", ["accuracy", "f1_macro"])
def test_many_models_are_told_apart_by_the_step_down_as_holm_would(kind, monkeypatch):
    models = many_models(np.random.default_rng(13), kind)
    clusters = np.arange(200) // 2
    found = compare_all(models, clusters)
    assert {c.correction for c in found} == {"romano-wolf"}
    assert [(c.a, c.b) for c in found] == [(a, b) for i, a in enumerate(models) for b in list(models)[i + 1 :]]
    monkeypatch.setattr(statistics, "MANY_MODELS", 100)
    monkeypatch.setattr(statistics, "DRAWS", 3_000)
    by_holm = compare_all(models, clusters)
    for c, other in zip(found, by_holm, strict=True):
        assert c.p_adjusted >= c.p
        assert (c.difference, c.n) == (other.difference, other.n)
        assert (c.low, c.high, c.detectable) == pytest.approx((other.low, other.high, other.detectable), abs=0.012)
    agree = np.mean([c.significant == o.significant for c, o in zip(found, by_holm, strict=True)])
    assert agree > 0.9
    assert sum(c.significant for c in found) > 50


def test_without_a_standard_error_nothing_is_shown():
    found = {(c.a, c.b): c for c in compare_all(many_models(np.random.default_rng(13), "accuracy"), np.arange(200))}
    twins, shifted = found["m0", "m23"], found["m0", "m24"]
    assert (twins.difference, twins.p, twins.p_adjusted) == (0, 1, 1)
    assert shifted.difference == pytest.approx(-0.1)
    assert (shifted.p, shifted.p_adjusted) == (1, 1)


def test_many_models_over_one_cluster_or_without_samples_have_no_test():
    models = many_models(np.random.default_rng(13), "accuracy")
    assert all(math.isnan(c.p) and math.isnan(c.p_adjusted) for c in compare_all(models, np.zeros(200, dtype=np.int64)))
    nothing = {name: accuracy([]) for name in models}
    assert all(math.isnan(c.p_adjusted) and not c.significant for c in compare_all(nothing, []))


def test_sparse_and_dense_statistics_are_compared_alike(monkeypatch):
    models = many_models(np.random.default_rng(13), "f1_macro")
    sparse_ones = {name: Scored(s.metric, sparse.csr_array(s.statistics)) for name, s in models.items()}
    dense, thin = compare_all(models, np.arange(200)), compare_all(sparse_ones, np.arange(200))
    monkeypatch.setattr(statistics, "_SLAB", 5)  # each model's sums are wider, and so stay sparse
    wide = compare_all(sparse_ones, np.arange(200))
    for a, b, c in zip(dense, thin, wide, strict=True):
        assert a.p_adjusted == pytest.approx(b.p_adjusted) == pytest.approx(c.p_adjusted, abs=0.02)


# Ranks ----------------------------------------------------------------------------------------------------------------


def three_models():
    rng = np.random.default_rng(11)
    low = (rng.random(500) < 0.3).astype(float)
    high = (rng.random(500) < 0.8).astype(float)
    near = np.where(np.arange(500) < 5, 1 - high, high)
    return {"low": accuracy(low), "high": accuracy(high), "near": accuracy(near)}


def test_ranks_span_what_the_tests_leave_open():
    found = compare_all(three_models(), names(range(500)))
    assert rank_intervals(["low", "high", "near"], found) == {"low": (3, 3), "high": (1, 2), "near": (1, 2)}
    assert rank_intervals(["low", "high", "near"], found, larger_is_better=False)["low"] == (1, 1)


def test_the_best_group_holds_what_is_not_told_from_the_best():
    models = three_models()
    values = {name: s.value for name, s in models.items()}
    found = compare_all(models, names(range(500)))
    assert best_group(values, found) == {"high", "near"}
    assert best_group(values, found, larger_is_better=False) == {"low"}
    assert best_group({"x": math.nan}, []) == set()


def test_standings_count_wins_and_never_average_metrics():
    rng = np.random.default_rng(12)
    clusters = names(range(200))
    cider = {m: averaged("cider", "", 10 * rng.random(200) * q, high=10.0) for m, q in (("x", 1), ("y", 0.1))}
    vqa = {m: accuracy(rng.random(200) < q) for m, q in (("x", 0.9), ("y", 0.2), ("z", 1.0))}
    first, second = standings([(cider, clusters), (vqa, clusters)])
    assert (first.model, first.win_rate, first.borda, first.tables) == ("x", 1.0, 1.0, 2)
    assert (second.model, second.win_rate, second.borda) == ("y", 0.0, 2.0)
    assert first.win_rate_low <= first.win_rate <= first.win_rate_high


def test_ties_share_their_rank_and_smaller_may_be_better():
    clusters = names(range(50))
    same = np.random.default_rng(0).random(50)
    tied = standings([({"x": accuracy(same), "y": accuracy(same)}, clusters)])
    assert [(s.win_rate, s.borda) for s in tied] == [(0.5, 1.5), (0.5, 1.5)]
    rank = [averaged("median_rank", "", same + k, high=99.0, larger_is_better=False) for k in (0, 5)]
    assert standings([({"near": rank[0], "far": rank[1]}, clusters)])[0].model == "near"
