"""What a design could find out, against fits of simulated sweeps by the whole machinery, and error propagation."""

import numpy as np
import pandas as pd
import pytest

from harness import fit
from harness.fit.compare import compare
from harness.fit.gap_law.constants import predict_gap
from harness.fit.gap_law.power import power_of
from harness.fit.gap_law.rule import CLEARLY_BETTER, RIVALS


def design(error: float) -> pd.DataFrame:
    """48 cells on both sides of u = 1, whose gaps are known to this share of their size."""
    n, u = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e4, 3e6, 6), np.geomspace(0.05, 100, 8)))
    d = u * n**0.74
    return pd.DataFrame({"N": n, "D": d, "U": d, "G_se": error * predict_gap(n, d)})


@pytest.mark.slow
def test_constants_are_known_as_well_as_the_curvature_says():
    cells = design(0.05)
    (own,) = power_of(cells, times=(1.0,)).foreseen
    exact = cells.assign(G=predict_gap(cells["N"], cells["D"]))
    curvature = fit(exact, "gap", sensitivity=False).parameters
    for name in ("alpha", "z", "beta"):
        assert own.constants[name].truth == pytest.approx(curvature[name].published)
        assert own.constants[name].half_width == pytest.approx(1.96 * (curvature[name].se_fisher or 0.0), rel=0.25)
        assert own.constants[name].low < own.constants[name].truth < own.constants[name].high


@pytest.mark.slow
def test_four_times_the_draws_halve_the_errors_and_answers_end_the_search():
    found = power_of(design(0.2), times=(1.0, 4.0, 16.0, 64.0), simulations=50)
    precise = [
        power_of(design(error), times=(factor,), simulations=50).foreseen[0]
        for error, factor in ((0.04, 1.0), (0.04, 4.0))
    ]
    widths = [each.constants["beta"].half_width for each in precise]
    assert widths[1] == pytest.approx(widths[0] / 2, rel=0.1)
    assert [each.answers for each in found.foreseen] == [False] * (len(found.foreseen) - 1) + [True]
    assert found.times_needed == found.foreseen[-1].times > 1.0
    assert f"{found.times_needed:g} times the draws would answer" in "\n".join(found.lines())


@pytest.mark.slow
def test_cells_on_a_line_cannot_answer_and_it_is_said_why():
    n = np.geomspace(1e4, 1e7, 24)
    cells = pd.DataFrame({"N": n, "D": 20 * n, "U": 20 * n, "G_se": 0.01 * predict_gap(n, 20 * n)})
    found = power_of(cells, simulations=20)
    assert found.correlation == pytest.approx(1.0) and found.times_needed is None
    assert "nearly proportional" in "\n".join(found.lines())


@pytest.mark.slow
def test_the_power_is_the_share_of_sweeps_that_tell_the_law_from_its_rivals():
    """40 sweeps, each compared by `compare` with its own searches."""
    cells = design(0.6)
    (own,) = power_of(cells, times=(1.0,)).foreseen
    rng, clear = np.random.default_rng(99), []
    for _ in range(40):
        gaps = predict_gap(cells["N"], cells["D"]) + cells["G_se"] * rng.standard_normal(len(cells))
        ranked = compare(["gap", *RIVALS], cells.assign(G=gaps).drop(columns="U"), resamplings=0)
        found = {law.law: law.aicc for law in ranked}
        clear.append(bool(found) and min(found[rival] for rival in RIVALS) - found["gap"] > CLEARLY_BETTER)
    # Three standard errors of a share of 40.
    assert np.mean(clear) == pytest.approx(own.power, abs=3 * np.sqrt(max(own.power * (1 - own.power), 0.02) / 40))
