"""The study of pass rates: lines, bends and losses whose constants are known, and how often its intervals hold them."""

import numpy as np
import pandas as pd
import pytest

from harness.study.papers.domains.pass_until import (
    DIGITS,
    _all_wrong,
    _bends,
    _Cells,
    _cells,
    _foretell,
    _growth_of_rare,
    _spread,
)

SIZES = np.array([1e3, 2e3, 3e3, 5e3, 8e3, 2e4, 1e5])
# PU = exp(-c N^-alpha), for each of the levels.
C, ALPHA = np.array([30.0, 300.0]), np.array([0.3, 0.55])


def law(n: np.ndarray) -> np.ndarray:
    return np.exp(-C * np.asarray(n, float)[:, None] ** -ALPHA)


def exact(rates: np.ndarray, losses: np.ndarray | None = None) -> _Cells:
    losses = 0.5 + 3.0 * SIZES**-0.2 if losses is None else losses
    return _Cells(SIZES, np.stack([rates] * 3), np.stack([losses] * 3), 4)


def runs(rates: np.ndarray, **columns) -> pd.DataFrame:
    """One run for each row of sizes and their rates."""
    of_level = {f"pass_rate_{level}": rates[:, place] for place, level in enumerate(DIGITS)}
    n = np.resize(SIZES, len(rates))
    return pd.DataFrame({"N_nonembedding": n, "L": 0.5 + 3.0 * n**-0.2} | of_level | columns)


def test_the_line_of_small_sizes_foretells_exact_rates_of_the_law():
    foretold = _foretell(exact(law(SIZES)))
    assert foretold.alpha[0] == pytest.approx(ALPHA)
    assert np.exp(foretold.line[0]) == pytest.approx(law(SIZES))


def test_only_sizes_of_a_tenth_of_the_largest_are_fitted():
    rates = law(SIZES)
    rates[SIZES > 1e4] = 0.5
    foretold = _foretell(exact(rates))
    assert np.exp(foretold.line[0, -1]) == pytest.approx(law(SIZES)[-1])


def test_two_steps_foretell_rates_that_follow_the_loss():
    losses = 0.5 + 3.0 * SIZES**-0.2
    rates = 1 / (1 + np.exp(np.array([9.0, 14.0]) * (losses[:, None] - np.array([0.9, 0.8]))))
    assert np.exp(_foretell(exact(rates, losses)).steps[0]) == pytest.approx(rates, rel=1e-3)


@pytest.mark.parametrize("bend", [-0.3, 0.0, 0.5])
def test_a_bend_is_the_change_of_alpha_in_a_decade(bend):
    decades = np.log10(SIZES / 1e3)
    # alpha = 0.2 + bend x decades is -dy / d ln N.
    y = 2.0 - np.log(10) * (0.2 * decades + bend * decades**2 / 2)
    rates = np.exp(-np.exp(y))[:, None].repeat(len(DIGITS), 1)
    assert _bends(exact(rates))[0] == pytest.approx(bend, abs=1e-9)


def test_a_size_has_the_mean_rate_of_its_draws_and_copies_have_the_spread_of_means():
    rng = np.random.default_rng(0)
    rates = rng.uniform(0.1, 0.6, (6 * len(SIZES), len(DIGITS)))
    cells = _cells(runs(rates))
    assert cells is not None and cells.draws == 6
    by_size = rates.reshape(6, len(SIZES), len(DIGITS))
    assert cells.rates[0] == pytest.approx(by_size.mean(0))
    # The variance of means of draws taken with replacement is the mean square deviation over their number.
    assert cells.rates[1:].std(0) == pytest.approx(by_size.std(0) / np.sqrt(6), rel=0.15)


def test_intervals_of_the_foretold_rate_hold_the_truth():
    """Rates of draws scatter by a factor of about 1.5, about a mean that follows the law."""
    held, trials = 0, 40
    for seed in range(trials):
        rng = np.random.default_rng(seed)
        scatter = np.exp(0.4 * rng.standard_normal((6, len(SIZES), len(DIGITS))) - 0.08)
        cells = _cells(runs((law(SIZES) * scatter).reshape(-1, len(DIGITS))))
        assert cells is not None
        errors = _foretell(cells).line[:, -1] - np.log(cells.rates[:, -1])
        held += sum(_spread(errors[:, place], cells.draws).holds(0.0) for place in range(len(DIGITS)))
    # Of 80 intervals that hold the truth with probability 0.95, fewer than 70 do so once in 1,000 such tests.
    assert held >= 70


def test_growth_of_rare_rates_is_from_the_smallest_to_the_largest_size_below_a_hundredth():
    rates = np.full((len(SIZES), len(DIGITS)), 0.5)
    rates[:3, -1] = 0.001, 0.002, 0.008
    assert _growth_of_rare(exact(rates)).estimate == pytest.approx(np.log(8))
    rates[1:, -1] = 0.1
    assert _growth_of_rare(exact(rates)).estimate is None


def test_models_without_a_right_answer_are_counted_where_the_rate_is_rare():
    rates = np.array([[0.1, 0.001], [0.2, 0.002], [0.5, 0.003], [0.5, 0.6]])
    table = runs(rates, accuracy_3=[0.1, 0.0, 0.0, 0.0])
    share = _all_wrong(table)
    assert share.estimate == pytest.approx(2 / 3)
    assert share.low is not None and share.high is not None and share.low < 0.1 and share.high > 0.99
