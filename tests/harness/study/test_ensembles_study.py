"""The law of ensembles and the ratio of two numbers, against known ones."""

import numpy as np
import pytest

from harness.study.contrasts import NOT_KNOWN, Interval95
from harness.study.papers.ensembles import members_law, ratio


@pytest.mark.parametrize("power", [0.5, 1.0, 1.7])
def test_the_law_of_ensembles_finds_its_constants(power):
    members = np.arange(1.0, 9.0)
    assert members_law(members, 2.4 + 0.2 * members**-power) == pytest.approx((2.4, 0.2, power), rel=1e-4)


def test_the_ratio_of_two_numbers_has_the_spread_of_many_draws():
    # Two numbers with standard errors of 2 and 4 %: those of their ratio add in squares.
    found = ratio(Interval95(0.08, 0.08 * (1 - 0.04), 0.08 * 1.04), Interval95(0.1, 0.1 * (1 - 0.08), 0.1 * 1.08))
    rng = np.random.default_rng(0)
    drawn = 0.08 * (1 + 0.02 * rng.standard_normal(100_000)) / (0.1 * (1 + 0.04 * rng.standard_normal(100_000)))
    assert found.estimate == pytest.approx(0.8)
    assert found.estimate is not None and found.low is not None
    assert found.estimate - found.low == pytest.approx(2 * drawn.std(), rel=0.02)


def test_a_ratio_to_what_may_be_zero_is_not_known():
    assert ratio(Interval95(1.0, 0.9, 1.1), Interval95(0.1, -0.1, 0.3)) == NOT_KNOWN
    assert ratio(Interval95(1.0, None, None), Interval95(2.0, 1.0, 3.0)) == (0.5, None, None)
