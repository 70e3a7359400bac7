"""The study of Panda: powers of systems and trajectories are found, and their intervals are those of a t test."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from harness.study.paper import get_paper

CELLS = [(16, 16), (32, 8), (64, 4), (128, 2), (256, 1), (16, 1), (64, 1), (16, 4)]
MEASURED = ("drawn", "chen/halvorsen/lorenz/rossler", "advection")
EQUAL, MORE, OTHERS = "systems, at equal data", "systems, one trajectory each", "trajectories, of 16 systems"


def runs(systems: dict[int, float], trajectories: float) -> pd.DataFrame:
    """Runs whose losses are powers of systems, by draw, and of trajectories; on advection the powers are halved."""
    rows = []
    for draw, power in systems.items():
        for count, each in CELLS:
            log_loss = power * np.log(count) + trajectories * np.log(each)
            losses = {
                f"loss_on_chaos:kinds={kinds},bins=32": np.exp(log_loss / (2 if kinds == "advection" else 1))
                for kinds in MEASURED
            }
            domain = f"chaos:systems={count},trajectories={each},bins=32,seed={draw}"
            rows.append(
                {
                    "block": f"draw{draw}",
                    "status": "done",
                    "heldout_loss": 1.0,
                    "domain": domain,
                    "U": 1125 * each * count,
                }
                | losses
            )
    return pd.DataFrame(rows)


def powers(table: pd.DataFrame) -> dict[tuple[str, str], dict]:
    rows = get_paper("panda").judge(table).tables["powers of the loss, means over draws"]
    return {(row["what grows"], row["loss on"]): row for row in rows}


def test_known_powers_are_found_on_every_axis():
    found = powers(runs({1: -0.1, 2: -0.1}, -0.03))
    # At equal data trajectories fall as systems grow.
    truth = {EQUAL: -0.07, MORE: -0.1, OTHERS: -0.03}
    for (grows, loss), row in found.items():
        assert row["power"] == pytest.approx(truth[grows] / (2 if loss == "linear equation" else 1))


def test_the_interval_is_that_of_a_t_test_over_draws():
    own = {1: -0.08, 2: -0.1, 3: -0.13, 4: -0.05}
    row = powers(runs(own, -0.03))[MORE, "drawn systems"]
    interval = ttest_1samp(list(own.values()), 0.0).confidence_interval(0.95)
    assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))


def test_a_draw_that_lacks_a_run_has_no_slope():
    table = runs({1: -0.1, 2: -0.2, 3: -0.3}, 0.0)
    lacking = table.loc[(table["block"] != "draw3") | ~table["domain"].str.contains("systems=64,trajectories=4")]
    assert powers(lacking)[EQUAL, "drawn systems"]["power"] == pytest.approx(-0.15)
    assert powers(lacking)[MORE, "drawn systems"]["power"] == pytest.approx(-0.2)
