import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.gaps.estimators import (
    Gap,
    Side,
    contrast,
    control_gap,
    effective_number,
    in_first_half,
    influences,
    probe_gap,
    spread,
    tokens_needed,
    twin_gap,
)


def one(sums, counts, clusters=None, weight: float = 1.0) -> Side:
    sums = np.asarray(sums, float)
    return Side(weight, sums, np.asarray(counts), np.arange(len(sums)) if clusters is None else np.asarray(clusters))


def simulate(random: np.random.Generator, clusters: int, shift: float = 0.0, first: int = 0) -> Side:
    """Token losses of documents of random difficulty (sd 0.5 nats) and random length, summed by document."""
    counts = random.integers(20, 400, size=clusters)
    difficulty = 3.0 + shift + 0.5 * random.standard_normal(clusters)
    sums = counts * difficulty + np.sqrt(counts) * 2.0 * random.standard_normal(clusters)
    return one(sums, counts, first + np.arange(clusters))


def test_with_one_token_a_cluster_it_is_the_mean_and_its_textbook_error():
    losses = np.random.default_rng(0).normal(3.0, 1.0, 50)
    mean = contrast(one(losses, np.ones(50, dtype=int)))
    assert mean.gap == pytest.approx(losses.mean(), rel=1e-12)
    assert mean.se == pytest.approx(losses.std(ddof=1) / np.sqrt(50), rel=1e-12)


def test_rows_of_one_cluster_count_as_its_sum():
    side = simulate(np.random.default_rng(1), 30)
    pieces = Side(1.0, np.repeat(side.sums / 4, 4), np.repeat(side.counts * 0.25, 4), np.repeat(side.clusters, 4))
    assert contrast(pieces) == pytest.approx(contrast(side))
    # Taken for independent they would seem to tell more.
    assert contrast(pieces._replace(clusters=np.arange(120))).se < 0.6 * contrast(side).se


def test_it_agrees_with_the_jackknife_over_clusters():
    side = simulate(np.random.default_rng(2), 400)
    left_out = (side.sums.sum() - side.sums) / (side.counts.sum() - side.counts)
    jackknife = np.sqrt(399 / 400 * np.sum((left_out - left_out.mean()) ** 2))
    assert contrast(side).se == pytest.approx(jackknife, rel=0.01)


def test_products_of_influences_are_the_covariance_of_two_gaps():
    """Two runs on 200 documents, of which the second reads the last 100 of the first and 100 of its own."""
    gaps, products = [], []
    for seed in range(400):
        random = np.random.default_rng(seed)
        hard = 0.5 * random.standard_normal(300)
        counts = random.integers(20, 60, 300)
        sides = [one(hard[read] * counts[read], counts[read], read) for read in (np.arange(200), np.arange(100, 300))]
        first, second = (influences(side) for side in sides)
        gaps.append((first.value, second.value))
        common, *places = np.intersect1d(first.clusters, second.clusters, return_indices=True)
        assert len(common) == 100
        products.append(np.sum(first.parts[places[0]] * second.parts[places[1]]))
    assert np.mean(products) == pytest.approx(np.cov(np.transpose(gaps))[0, 1], rel=0.2)
    assert np.std(products) < 0.3 * np.mean(products)


def test_of_sides_without_a_cluster_in_common_the_errors_add_in_squares():
    seen, held = (simulate(np.random.default_rng(k), 40, first=100 * k) for k in (3, 4))
    gap = probe_gap(seen, held)
    assert gap.gap == pytest.approx(contrast(held).gap - contrast(seen).gap)
    assert gap.se == pytest.approx(math.hypot(contrast(held).se, contrast(seen).se))
    assert gap.minimum_detectable == pytest.approx(2.8 * gap.se)


def test_what_clusters_share_cancels_between_the_sides():
    # 20 sources, each with its own level on both sides: differences within a source are exact.
    level = np.random.default_rng(5).normal(3.0, 1.0, 20)
    sources = np.arange(20)
    seen, held = one(100 * level, np.full(20, 100), sources), one(100 * (level + 0.1), np.full(20, 100), sources)
    assert probe_gap(seen, held).gap == pytest.approx(0.1) and probe_gap(seen, held).se < 1e-12
    assert probe_gap(seen, held._replace(clusters=100 + sources)).se > 0.2


def test_a_lone_cluster_has_no_finite_error_and_no_row_no_value():
    assert contrast(one([30.0], [10])) == Gap(3.0, math.inf)
    empty = contrast(one([], np.empty(0, int)))
    assert math.isnan(empty.gap) and empty.se == math.inf
    some = simulate(np.random.default_rng(6), 10)
    assert math.isnan(probe_gap(some.only(np.zeros(10, bool)), some).gap)


@pytest.mark.parametrize("clusters", [30, 200])
def test_intervals_cover_the_truth_as_often_as_they_say(clusters):
    random = np.random.default_rng(7)
    sides = [simulate(random, clusters) for _ in range(3000)]
    means = [contrast(side) for side in sides]
    covered = np.mean([abs(mean.gap - 3.0) < 1.96 * mean.se for mean in means])
    # 3000 repetitions: +-0.008 at two standard errors; with 30 clusters the normal quantile costs about 0.01.
    assert 0.92 < covered < 0.96
    # Errors that take tokens for independent (sd sqrt(2^2 + 0.5^2)) would cover far less often.
    naive = [math.sqrt(4.25 / side.counts.sum()) for side in sides]
    assert np.mean([abs(m.gap - 3.0) < 1.96 * se for m, se in zip(means, naive, strict=True)]) < 0.75


def test_a_placebo_gap_is_rejected_as_often_as_it_should():
    random = np.random.default_rng(8)
    gaps = [probe_gap(simulate(random, 100), simulate(random, 100, first=100)) for _ in range(3000)]
    assert 0.04 < np.mean([abs(gap.gap) > 1.96 * gap.se for gap in gaps]) < 0.07
    assert min(gap.gap for gap in gaps) < 0 < max(gap.gap for gap in gaps)  # negative gaps are kept


def test_a_gap_of_the_minimum_detectable_size_is_found_in_four_of_five_repetitions():
    random = np.random.default_rng(9)

    def measured(shift: float) -> list[Gap]:
        pairs = ((simulate(random, 100), simulate(random, 100, shift, first=100)) for _ in range(2500))
        return [probe_gap(seen, held) for seen, held in pairs]

    size = float(np.mean([gap.minimum_detectable for gap in measured(0.0)]))
    assert 0.77 < np.mean([abs(gap.gap) > 1.96 * gap.se for gap in measured(size)]) < 0.83


@settings(max_examples=30)
@given(st.floats(-1, 1), st.floats(-1, 1), st.integers(0, 1000))
def test_twins_and_control_find_the_gap_whatever_the_lead(gap, lead, seed):
    random = np.random.default_rng(seed)
    counts = random.integers(20, 400, 60)
    apart = 0.05 * random.standard_normal(60)
    seen, other, held = (
        one((apart[part] + lead + memory) * counts[part], counts[part], np.arange(60)[part])
        for part, memory in ((slice(0, 20), -gap), (slice(20, 40), gap), (slice(40, 60), 0.0))
    )
    for found in (twin_gap(seen, other), control_gap(seen, held)):
        assert abs(found.gap - gap) < 5 * found.se and found.se < 0.04
    # Exact where documents do not differ.
    flat = [side._replace(sums=(lead + m) * side.counts) for side, m in ((seen, -gap), (other, gap), (held, 0.0))]
    assert twin_gap(flat[0], flat[1]).gap == pytest.approx(gap, abs=1e-12)
    assert control_gap(flat[0], flat[2]).gap == pytest.approx(gap, abs=1e-12)


def test_halves_keep_clusters_whole_and_are_drawn_anew_by_every_seed():
    clusters = np.repeat(np.arange(4000), 3)
    drawn = np.stack([in_first_half(clusters, seed)[::3] for seed in range(20)])
    assert (np.repeat(drawn[0], 3) == in_first_half(clusters, 0)).all()
    assert (np.abs(drawn.mean(axis=1) - 0.5) < 4 * 0.5 / math.sqrt(4000)).all()
    correlations = np.corrcoef(drawn)[~np.eye(20, dtype=bool)]
    assert np.abs(correlations).max() < 5 / math.sqrt(4000)


def test_spread_is_that_of_the_documents_whatever_their_lengths():
    random = np.random.default_rng(10)
    counts = np.maximum(10, random.lognormal(5, 1, 20_000)).astype(int)
    side = one(counts * (3.0 + 0.5 * random.standard_normal(20_000)), counts)
    assert spread(side) == pytest.approx(0.5, rel=0.05)
    assert effective_number(np.full(7, 3)) == pytest.approx(7) and effective_number(np.asarray([1, 0, 0])) == 1


def test_tokens_needed_is_what_brings_the_error_down():
    random = np.random.default_rng(11)
    small, large = simulate(random, 500), simulate(random, 20_000)
    wanted = contrast(large).se
    needed = tokens_needed(int(small.counts.sum()), contrast(small).se, wanted)
    assert needed == pytest.approx(large.counts.sum(), rel=0.15)
