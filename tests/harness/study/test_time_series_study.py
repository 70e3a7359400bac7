"""The study of time series: exponents and their ratios are found, and both arms forecast the same tokens."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from harness.study.paper import get_paper
from models.objective import counted
from sweeps.grid import load

MEASURED = ("series in distribution", "real series", "chaotic systems")
SIZES, TOKENS = (3e3, 1e4, 5e4), (2**19, 2**20, 2**22)
EXPONENTS = "exponents of the loss, means over draws"


def runs(alpha: dict[tuple[str, str], list[float]], beta: dict[str, float]) -> pd.DataFrame:
    """Runs whose losses are exact powers.

    Args:
        alpha: (arm, what is measured) -> the exponent of N of each draw.
        beta: arm -> the exponent of D.
    """
    cells = [(n, TOKENS[-1]) for n in SIZES] + [(SIZES[-1], d) for d in TOKENS[:-1]]
    rows = []
    for arm, power in beta.items():
        for draw in range(len(alpha[arm, MEASURED[0]])):
            for n, d in cells:
                inside, real, chaos = (n ** -alpha[arm, loss][draw] * d**-power for loss in MEASURED)
                rows.append(
                    {"block": arm, "status": "done", "draw": draw, "N_nonembedding": n, "D": d, "heldout_loss": inside}
                    | {"loss_on_series:part=real": real, "loss_on_series:part=real_se": 9.0}
                    | {"loss_on_chaos:systems=8": chaos, "loss_on_chaos:systems=8_se": 9.0}
                )
    return pd.DataFrame(rows)


DRAWS = {
    ("decoder", MEASURED[0]): [0.10, 0.11, 0.12], ("decoder", MEASURED[1]): [0.05, 0.06, 0.05],
    ("decoder", MEASURED[2]): [0.09, 0.10, 0.13], ("encoder", MEASURED[0]): [0.14, 0.16, 0.15],
    ("encoder", MEASURED[1]): [0.08, 0.08, 0.09], ("encoder", MEASURED[2]): [0.12, 0.13, 0.14],
}  # fmt: skip
BETA = {"decoder": 0.05, "encoder": 0.07}


@pytest.fixture(scope="module")
def verdict():
    return get_paper("time_series").judge(runs(DRAWS, BETA))


def test_known_exponents_are_found_with_students_interval(verdict):
    found = {(row["of"], row["arm"], row["loss on"]): row for row in verdict.tables[EXPONENTS]}
    for (arm, loss), own in DRAWS.items():
        row = found["N", arm, loss]
        interval = ttest_1samp(own, 0.0).confidence_interval(0.95)
        assert row["exponent"] == pytest.approx(np.mean(own)) and row["draws"] == 3
        assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))
        assert found["D", arm, loss]["exponent"] == pytest.approx(BETA[arm])


def test_ratios_are_those_of_means_over_draws(verdict):
    evidence = {number.name: number for claim in verdict.claims for number in claim.evidence}
    real = evidence["exponent of N of the decoder on real series, over that in distribution"]
    assert real.estimate == pytest.approx(0.16 / 0.33) and (real.least, real.most) == (0.5, 1.5)
    inside = evidence["exponent of N of the encoder in distribution, over the decoder's"]
    one, two = (np.array(DRAWS[arm, MEASURED[0]]) for arm in ("encoder", "decoder"))
    assert inside.estimate == pytest.approx(0.45 / 0.33)
    assert ttest_1samp(one - inside.low * two, 0.0)[1] == pytest.approx(0.05)
    (clearer,) = verdict.claims[-1].evidence
    outside = [
        np.mean([DRAWS["encoder", loss][draw] - DRAWS["decoder", loss][draw] for loss in MEASURED[1:]])
        for draw in range(3)
    ]
    interval = ttest_1samp(one - two - outside, 0.0).confidence_interval(0.95)
    assert (clearer.low, clearer.high) == pytest.approx((interval.low, interval.high))


def test_levels_are_compared_at_equal_tokens_and_at_eight_times_as_many(verdict):
    equal, targets = list(verdict.tables.values())[1:3]
    row = next(row for row in equal if (row["N"], row["D"], row["loss on"]) == (10_000, TOKENS[-1], MEASURED[0]))
    assert row["mean"] == pytest.approx(-0.04 * np.log(1e4) - 0.02 * np.log(TOKENS[-1]))
    assert {row["D of the encoder"] for row in targets} == {2**22}
    row = next(row for row in targets if (row["D of the encoder"], row["loss on"]) == (2**22, MEASURED[0]))
    assert row["mean"] == pytest.approx(-0.04 * np.log(5e4) - 0.07 * np.log(2**22) + 0.05 * np.log(2**19))


def test_a_draw_that_lacks_a_run_has_no_exponent():
    table = runs(DRAWS, BETA)
    gone = (table["draw"] == 2) & (table["N_nonembedding"] == 3e3) & (table["block"] == "encoder")
    rows = get_paper("time_series").judge(table.loc[~gone]).tables[EXPONENTS]
    found = {(row["of"], row["arm"], row["loss on"]): row for row in rows}
    assert found["N", "encoder", MEASURED[0]]["exponent"] == pytest.approx(0.15)
    assert found["N", "encoder", MEASURED[0]]["draws"] == 2 and found["D", "encoder", MEASURED[0]]["draws"] == 3
    assert found["N", "decoder", MEASURED[0]]["exponent"] == pytest.approx(0.11)


def test_both_arms_forecast_the_same_tokens_with_the_same_model():
    sweep = load("time_series")
    arms = [
        [cell.config for cell in sweep.cells if cell.config and cell.block == block] for block in ("decoder", "encoder")
    ]
    assert len(arms[0]) == len(arms[1]) == 72
    windows = np.random.default_rng(0).integers(0, 65, (50, 65)).astype(np.int32)
    for decoder, encoder in zip(*arms, strict=True):
        assert (decoder.model.aim.kind, encoder.model.aim.kind) == ("next", "masked")
        assert dataclasses.replace(encoder.model, objective=None) == dataclasses.replace(decoder.model, objective=None)
        unlike = {"model", "optimizer"}  # rates may differ
        assert decoder.model_dump(exclude=unlike) == encoder.model_dump(exclude=unlike)
        np.testing.assert_array_equal(counted(encoder.model, windows), counted(decoder.model, windows))
    assert counted(arms[0][0].model, windows)[:, -8:].all() and counted(arms[0][0].model, windows).sum() == 50 * 8
