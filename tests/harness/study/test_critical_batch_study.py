"""The mathematics of the critical batch: known constants of steps and batches are found from curves of losses."""

import numpy as np
import pandas as pd
import pytest

from harness.fit.laws.critical_batch import critical_batch
from harness.study.methods.trade_offs import fit_growth, smooth_curve, tokens_to, trade_offs

TARGETS = (2**16, 2**18)


def runs_of(ratio: float, n: float, rng: np.random.Generator | None = None, draws: int = 1) -> pd.DataFrame:
    """Curves of five batches whose steps to a loss are in proportion to 1 + ratio/B."""
    rows = []
    for draw in range(draws):
        for batch in (64, 256, 1024, 4096, 8192):
            tokens = np.geomspace(2**14, 2**22, 33)
            loss = 1.0 + 80 * (tokens / (1 + batch / ratio)) ** -0.35
            if rng is not None:
                loss = loss * np.exp(0.004 * rng.standard_normal())
            row = {"N": n, "draw": draw, "batch_tokens": batch, "D": 2**22, "curve": smooth_curve(tokens, loss)}
            rows.append(row)
    return pd.DataFrame(rows)


@pytest.mark.parametrize("ratio", [700.0, 3000.0])
def test_known_constants_give_the_critical_batch_to_five_percent(ratio):
    found = trade_offs(runs_of(ratio, 1e4, np.random.default_rng(0), draws=24), TARGETS, 5)
    assert [each.tokens for each in found] == list(TARGETS)
    for each in found:
        star = critical_batch({"a": each.s_min, "b": each.e_min}, 64)
        assert star == pytest.approx(1.2 * 64 + ratio / 5, rel=0.05)
        # Tokens at B* are 1.2 times those at B_opt.
        spent = [(each.s_min + each.e_min / batch) * batch for batch in (star, 64)]
        assert spent[0] / spent[1] == pytest.approx(1.2, rel=1e-6)


def test_a_target_that_a_draw_did_not_reach_is_left_out():
    own = runs_of(1000.0, 1e4, draws=2)
    own.loc[(own["draw"] == 1) & (own["batch_tokens"] == 64), "D"] = 2**17
    assert [each.tokens for each in trade_offs(own, TARGETS, 5)] == [2**16]


def test_a_batch_that_does_not_reach_a_loss_takes_infinite_tokens():
    tokens = np.geomspace(2**15, 2**20, 21)
    curve = smooth_curve(tokens, 1 + 80 * tokens**-0.35)
    assert curve is not None
    assert tokens_to(curve, 2**20, np.log(1 + 80 * 2.0 ** (-0.35 * 18))) == pytest.approx(2**18, rel=0.01)
    assert np.isinf(tokens_to(curve, 2**20, 0.0))


def test_the_powers_of_exact_critical_batches_are_found():
    n, d = (v.ravel() for v in np.meshgrid([1e4, 2e4, 4e4], [2.0**16, 2.0**18, 2.0**20]))
    fitted = fit_growth(n, d, 3 * n**0.1 * d**0.5)
    assert fitted is not None and fitted.powers == pytest.approx([0.1, 0.5])
    assert fitted.along((1, 1)).estimate == pytest.approx(0.6) and fitted.b_crit(1e4, 2.0**16) == pytest.approx(
        3 * 1e4**0.1 * 2.0**8
    )
