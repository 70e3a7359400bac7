"""The sums over the rates and the fit of the study of annealing, against loops over the steps and the harness's law."""

import numpy as np
import pandas as pd
import pytest

from harness.fit.fitting import solve
from harness.fit.problem.raw_units import raw_point
from harness.study.methods.annealed_curves import AnnealedCurve, fit_annealing
from harness.study.methods.rate_traces import rate_sums, rates_of

# steps, lr, warmup, schedule, final_lr_ratio, decay_fraction
CONSTANT = (400, 0.01, 0.05, "constant", 0.1, 0.2)
COSINE, WSD = (400, 0.01, 0.05, "cosine", 0.1, 0.2), (400, 0.01, 0.05, "wsd", 0.1, 0.2)
TWO_STAGE = (400, 0.01, 0.05, "two_stage", 0.1, 0.7)


def test_the_rates_are_those_of_training():
    rates = rates_of(WSD)
    assert rates[:3] == pytest.approx([0.01 / 20, 0.02 / 20, 0.03 / 20])
    assert rates[19:319] == pytest.approx(0.01) and rates[-1] == pytest.approx(0.001)
    assert rates_of(TWO_STAGE)[[118, 119, 120, 399]] == pytest.approx([0.01, 0.01, 0.001, 0.001])


@pytest.mark.parametrize("settings", [COSINE, WSD, TWO_STAGE])
def test_the_sums_are_those_of_a_loop_over_the_steps(settings):
    rates, decay = rates_of(settings), 0.97
    momentum, s1, s2, expected = 0.0, 0.0, 0.0, []
    for step, rate in enumerate(rates):
        momentum = decay * momentum + (rates[step - 1] - rate if step >= 20 else 0.0)
        s1, s2 = s1 + rate, s2 + momentum
        expected.append((s1, s2))
    np.testing.assert_allclose(np.stack(rate_sums(settings, decay), axis=1), expected, rtol=1e-6, atol=1e-9)


def test_long_after_a_fall_its_sum_is_the_fall_times_the_memory():
    assert rate_sums(TWO_STAGE, 0.97).s2[-1] == pytest.approx(0.009 / 0.03, rel=1e-3)


def curve(settings, memory, rng=None):
    at = np.unique(np.geomspace(40, 400, 30).astype(int))
    s1, s2 = rate_sums(settings, 1 - 1 / memory)
    loss = (2.0 + 1.1 * s1**-0.5 - 0.3 * s2)[at - 1]
    return AnnealedCurve(
        at, loss if rng is None else loss * np.exp(0.001 * rng.standard_normal(len(at))), loss[-1], settings
    )


def test_exact_curves_give_back_the_constants_and_the_memory():
    found = fit_annealing([curve(each, 60) for each in (CONSTANT, COSINE, TWO_STAGE)], None)
    assert 1 / (1 - found.decay) == pytest.approx(60, rel=0.05)
    assert found.constants == pytest.approx([2.0, 1.1, 0.3], rel=0.05) and found.alpha == pytest.approx(0.5, rel=0.02)
    assert np.abs(found.errors(curve(WSD, 60))).max() < 1e-3


@pytest.mark.slow
def test_the_fit_is_that_of_the_law_in_the_table_of_laws():
    # The law of the harness reads rates at rows: so many rows that its sums are those of all steps.
    rng = np.random.default_rng(0)
    curves = [curve(each, 1000, rng) for each in (CONSTANT, COSINE)]
    rows = []
    for each in curves:
        steps = np.arange(20, 401)
        loss = np.interp(steps, each.at, each.loss)
        held = ~np.isin(steps, each.at)
        name = each.settings[3]
        rows.append(pd.DataFrame(
            {"run": name, "step": steps, "lr": rates_of(each.settings)[steps - 1], "L": loss, "holdout": held}
        ))  # fmt: skip
    solved = solve("lr_anneal", pd.concat(rows, ignore_index=True))
    law = raw_point(solved.problem, solved.identified.theta)
    found = fit_annealing(curves, 0.999)
    assert [found.alpha, *found.constants] == pytest.approx([law[k] for k in ("alpha", "L0", "A", "C")], rel=0.02)
