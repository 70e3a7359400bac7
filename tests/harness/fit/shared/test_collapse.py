import json

import numpy as np
import pytest

from harness.fit.results.no_gap import NoGap
from harness.fit.shared.collapse import Collapse, LogCurves, curves_of, judge_collapse, quality, scan_of, shuffled
from sweeps.errors import InputError


def curves(table, scatter=0.08) -> LogCurves:
    n = table.N.to_numpy()
    variance = np.full(len(table), scatter**2)
    return LogCurves(np.log(n), np.log(table.D.to_numpy()), np.log(table.G.to_numpy()), variance, curves_of(n)[0])


def houdayer_hartmann(found: LogCurves, alpha: float, z: float) -> tuple[float, float]:
    """S as it is printed (Phys. Rev. B 70, 014418, eqs. (A.1) to (A.6)), point by point; and the overlap."""
    x = found.log_d - z * found.log_n
    y = found.log_g + alpha * found.log_n
    terms = []
    for i in range(len(x)):
        chosen = []
        for label in set(found.curve) - {found.curve[i]}:
            members = sorted(np.flatnonzero(found.curve == label), key=lambda j: x[j])
            for left, right in zip(members, members[1:], strict=False):
                if x[left] <= x[i] < x[right]:
                    chosen += [left, right]
        if not chosen:
            continue
        w = 1 / found.variance[chosen]
        k, kx, ky = w.sum(), (w * x[chosen]).sum(), (w * y[chosen]).sum()
        kxx, kxy = (w * x[chosen] ** 2).sum(), (w * x[chosen] * y[chosen]).sum()
        delta = k * kxx - kx**2
        master = (kxx * ky - kx * kxy) / delta + x[i] * (k * kxy - kx * ky) / delta
        error = (kxx - 2 * x[i] * kx + x[i] ** 2 * k) / delta
        terms.append((y[i] - master) ** 2 / (found.variance[i] + error))
    return float(np.mean(terms)), len(terms) / len(x)


@pytest.mark.parametrize(("alpha", "z"), [(0.31, 0.74), (0.1, 0.3), (0.5, 1.4)])
def test_s_is_houdayers_and_hartmanns(crossing, alpha, z):
    found = curves(crossing(0, 80))
    ours = quality(found, z, alpha)
    assert ours is not None
    assert (ours.s, ours.overlap) == pytest.approx(houdayer_hartmann(found, alpha, z), rel=1e-6)


def test_the_best_alpha_is_the_least_of_s(crossing):
    found = curves(crossing(1, 80))
    best = quality(found, 0.8)
    assert best is not None
    for other in (best.alpha - 0.01, best.alpha + 0.01):
        there = quality(found, 0.8, other)
        assert there is not None and there.s > best.s


def test_s_is_one_where_the_law_is_true_and_large_elsewhere(crossing):
    at = [quality(curves(crossing(seed)), 0.74, 0.31) for seed in range(8)]
    assert np.mean([found.s for found in at if found]) == pytest.approx(1.0, abs=0.12)
    away = quality(curves(crossing(0)), 0.2)
    assert away is not None and away.s > 5


def test_curves_are_the_values_of_n_or_bins_of_it():
    codes, binned = curves_of(np.repeat([1e6, 1e7, 1e8], 6))
    assert not binned and sorted(np.bincount(codes)) == [6, 6, 6]
    codes, binned = curves_of(10 ** np.linspace(5, 9, 96))
    assert binned and set(np.bincount(codes)) == {12}
    assert np.all(np.diff(codes) >= 0)


def test_a_shuffle_exchanges_whole_curves(crossing):
    found = curves(crossing(2))
    again = shuffled(found, np.random.default_rng(0))
    for label in np.unique(found.curve):
        mine = found.curve == label
        assert np.ptp(again.log_n[mine] - found.log_n[mine]) < 1e-9
    assert np.sort([again.log_n[found.curve == k].mean() for k in np.unique(found.curve)]) == pytest.approx(
        np.sort([found.log_n[found.curve == k].mean() for k in np.unique(found.curve)])
    )
    assert min(q.s for q in scan_of(again)) > 3 * min(q.s for q in scan_of(found))


@pytest.fixture(scope="module")
def crossed(crossing):
    return judge_collapse(crossing(0), permutations=99)


@pytest.mark.slow
def test_a_collapse_of_any_shape_finds_the_exponents(crossed):
    assert crossed.alpha.identified and crossed.alpha.estimate == pytest.approx(0.31, abs=0.02)
    assert crossed.z.identified and crossed.z.estimate == pytest.approx(0.74, abs=0.05)
    assert crossed.best.z == pytest.approx(0.74, abs=0.05)
    assert crossed.p_value == 0.01
    assert crossed.z_low > 0.4 and crossed.z_high < 1.1
    assert crossed.best.overlap > 0.9
    assert json.loads(crossed.to_json())["best"]["s"] == crossed.best.s and "points" not in crossed.to_dict()
    assert sum(len(curve.x) for curve in crossed.figure().data) == crossed.rows
    assert crossed.finding in crossed._repr_html_()


@pytest.mark.slow
def test_on_one_branch_a_collapse_is_no_evidence(ordinary):
    found = judge_collapse(ordinary(1), permutations=99)
    assert isinstance(found, Collapse) and found.p_value > 0.05
    assert (found.z_low, found.z_high) == (0.0, 2.0)
    assert not found.z.identified
    assert "do not identify" in found.finding and "not less than with N shuffled" in found.finding


@pytest.mark.slow
def test_gaps_that_are_not_positive_are_counted(crossing):
    table = crossing(3)
    table.loc[:4, "G"] = -1e-4
    found = judge_collapse(table.assign(G_se=1e-4 + 0.08 * table.G.abs()), permutations=19)
    assert isinstance(found, Collapse) and found.rows == 169 and found.errors == "measured"
    with pytest.raises(InputError, match="at least 12"):
        judge_collapse(table.head(16))
    assert "not_positive" in {warning.code for warning in found.warnings}


def test_gaps_that_are_zero_do_not_collapse(ordinary):
    table = ordinary(5, rows=430)
    noise = np.random.default_rng(5).normal(-0.0006, 0.004, len(table))
    found = judge_collapse(table.assign(G=noise), permutations=9)
    assert isinstance(found, NoGap) and "no gap detected, so no collapse" in found._repr_html_()
    assert json.loads(found.to_json())["verdict"] == "no_detectable_gap"
