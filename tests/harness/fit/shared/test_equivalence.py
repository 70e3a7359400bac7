import numpy as np
import pytest

from harness.fit.shared.equivalence import GroupDraws, group_differences


def drawn(value: float, se: float, seed: int) -> GroupDraws:
    return GroupDraws(
        50, {}, {"alpha": value}, {"alpha": value + se * np.random.default_rng(seed).standard_normal(800)}
    )


def one(difference: float, se: float, margin: float = 0.05):
    """Two groups whose difference has the given standard error."""
    each = se / np.sqrt(2)
    (found,) = group_differences({"a": drawn(difference, each, 0), "b": drawn(0.0, each, 1)}, ["alpha"], margin)
    return found


def test_the_interval_is_of_ninety_percent():
    found = one(0.02, 0.01)
    assert found.se == pytest.approx(0.01, rel=0.08)
    assert (found.ci_low, found.ci_high) == pytest.approx((0.02 - 0.01645, 0.02 + 0.01645), abs=2e-3)


@pytest.mark.parametrize(
    ("difference", "se", "equivalent", "differs"),
    [
        (0.0, 0.01, True, False),
        (0.03, 0.01, True, False),
        (0.04, 0.01, False, False),  # small, but not shown to be
        (0.10, 0.01, False, True),
        (0.07, 0.06, False, False),  # large, but not shown to be
        (0.0, 0.04, False, False),
    ],
)
def test_equality_and_difference_both_have_to_be_shown(difference, se, equivalent, differs):
    found = one(difference, se)
    assert (found.equivalent, found.differs) == (equivalent, differs)


@pytest.mark.parametrize("se", [0.012, 0.018, 0.025])
def test_power_is_the_share_of_equal_groups_shown_to_be_equal(se):
    rng = np.random.default_rng(0)
    estimates = se * rng.standard_normal(20000)
    shown = np.mean(np.abs(estimates) + 1.645 * se <= 0.05)
    assert one(0.0, se).power == pytest.approx(shown, abs=0.03)


def test_the_margin_that_a_design_could_have_shown_has_a_power_of_80_percent():
    margin = one(0.0, 0.03).margin_shown
    assert margin is not None
    assert one(0.0, 0.03, margin).power == pytest.approx(0.8, abs=1e-6)
    assert one(0.0, 0.03, 0.04).power == 0.0


def test_what_a_group_does_not_identify_has_no_difference():
    blank = GroupDraws(50, {}, {}, {})
    (found,) = group_differences({"a": drawn(0.3, 0.01, 0), "b": blank}, ["alpha"], 0.05)
    assert not found.identified and not found.equivalent and found.margin_shown is None
