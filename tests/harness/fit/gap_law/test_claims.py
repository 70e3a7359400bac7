"""The rules for the source's claims: on hand-made numbers, and on simulated studies with known answers."""

import math

import numpy as np
import pytest

from harness.fit.gap_law.claims import judge_claims
from harness.fit.gap_law.rulings import Measured, Ruling, common_ratio, together
from harness.gaps.pilot_errors import Expected
from harness.study.cells import design_blocks
from harness.theory.claim_worlds import CLAIM_WORLDS, draw_blocks
from sweeps.grid import load

YES, NO, OPEN = Ruling.SUPPORTED, Ruling.NOT_SUPPORTED, Ruling.NOT_RESOLVED


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(-0.09, 0.09, YES), (0.02, 0.04, YES), (0.11, 0.3, NO), (-0.5, -0.2, NO), (0.05, 0.2, OPEN), (-1, 1, OPEN),
     (None, 0.05, OPEN), (0.2, None, NO), (None, None, OPEN)],
)  # fmt: skip
def test_the_word_of_an_interval(low, high, word):
    assert Measured("a slope", 0.0, 0.1, 0.0, low, high).ruling is word


def test_a_claim_of_several_parts_falls_with_one_and_stands_with_all():
    assert together([YES, NO, OPEN]) is NO
    assert together([YES, OPEN]) is OPEN
    assert together([YES, YES]) is YES
    assert together([]) is OPEN


def test_a_common_ratio_is_the_weighted_mean_and_scatter_raises_its_error():
    assert common_ratio([1.0, 1.1], [0.1, 0.1]) == pytest.approx((1.05, 0.1 / math.sqrt(2)))
    # By hand: the sum of squares is 0.5 over the variance, one degree of freedom, so the variance is 0.01 + 0.49.
    assert common_ratio([1.0, 2.0], [0.1, 0.1]) == pytest.approx((1.5, math.sqrt((0.01 + 0.49) / 2)))
    assert common_ratio([3.0], [0.5]) == pytest.approx((3.0, 0.5))


def test_the_mean_of_ratios_whose_errors_grow_with_them_has_an_honest_error():
    """Log-normal ratios with errors of 5 %; by the weights of the errors alone half of the intervals miss the mean."""
    rng, hits = np.random.default_rng(0), 0
    for _ in range(300):
        ratio = np.exp(rng.normal(1.3, 0.8, 32))
        mean, se = common_ratio(ratio, 0.05 * ratio)
        hits += abs(mean - np.exp(1.3 + 0.8**2 / 2)) < 1.96 * se
    assert hits / 300 > 0.85


@pytest.fixture(scope="module")
def design():
    """The study's design with errors of 4 % of the gap, which is close to what the pilot expects."""
    return design_blocks([load("gap1000")], lambda run: Expected(0.02, 0.02 * 0.04 * 5))


@pytest.mark.parametrize("name", sorted(CLAIM_WORLDS))
@pytest.mark.slow
def test_a_simulated_study_gets_the_right_words(design, name):
    world = CLAIM_WORLDS[name]
    sharp = {block: rows.assign(G_se=0.0006) for block, rows in design.items()}
    judged = judge_claims(draw_blocks(world, sharp, np.random.default_rng(1)))
    assert [claim.id for claim in judged] == [f"S0-{number}" for number in range(1, 16)]
    wrong = {claim.id: claim.ruling for claim in judged if claim.ruling not in world.expected[claim.id]}
    assert {name: word for name, word in wrong.items() if word is not OPEN} == {}
    assert len(wrong) <= 2, wrong


def test_a_study_that_was_not_run_decides_nothing_but_arithmetic():
    judged = {claim.id: claim.ruling for claim in judge_claims({})}
    assert {name for name, word in judged.items() if word is not OPEN} == {"S0-12", "S0-14"}
