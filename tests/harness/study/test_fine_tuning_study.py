"""The study of fine-tuning: its fits find known constants, and its ranks are those of lines."""

import numpy as np
import pytest

from harness.study.papers.fine_tuning import _Curve, _fit, _ranks

TOKENS = 2.0 ** np.arange(11, 21)


def curve(n, learned, *losses):
    return _Curve(n, learned, TOKENS, {draw: np.log(loss) for draw, loss in enumerate(losses)})


def test_the_rectified_law_is_found_where_it_holds_and_a_power_law_misses_it():
    loss = 1.4 + 600 / (700 + TOKENS**0.6)
    rng = np.random.default_rng(0)
    noisy = [loss * np.exp(0.01 * rng.standard_normal(len(loss))) for _ in range(100)]
    found = _fit(curve(1e4, 1e6, *noisy))
    assert found is not None and found.power == pytest.approx(0.6, rel=0.1)
    assert found.residual < 0.003 < found.vanilla and found.simpler < -9
    assert found.curve.bend > 0


def test_a_power_law_needs_nothing_that_was_learned_before():
    found = _fit(curve(1e4, 0.0, 1.4 + 40 * TOKENS**-0.35))
    assert found is not None and found.power == pytest.approx(0.35, abs=0.01)
    assert found.residual < 1e-4 and found.curve.bend < 0


def test_the_order_is_that_of_lines_through_the_short_lengths():
    # On exact power laws lines are exact; the second model is worse at all lengths up to a 64th, and best in the end.
    powers = {1: (4.0, 0.02), 2: (9.0, 0.1), 3: (6.0, 0.05)}
    curves = [curve(float(n), 1.0, level * TOKENS**-power) for n, (level, power) in powers.items()]
    ((line, plain),) = _ranks(curves).values()
    assert line == pytest.approx(1.0) and plain < 0.6
