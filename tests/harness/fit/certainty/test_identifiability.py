import numpy as np
import pandas as pd
import pytest

from harness.fit.certainty.information import whitened_jacobian
from harness.fit.fitting import solve
from harness.fit.problem.raw_units import raw_values


def test_runs_on_both_sides_of_the_crossover_identify_everything(crossing):
    found = solve("gap", crossing(0)).identified
    assert found.identified.all() and found.rank == 5 and not found.unbounded
    assert min(found.regime_rows.values()) > 40


@pytest.mark.parametrize("seed", [0, 37, 50])
def test_ordinary_runs_identify_three_combinations_of_five_parameters(ordinary, seed):
    """Seeds 37 and 50 draw noise that a kink fits with a gain of 7 in 2 log L: evidence by chi-squared, not by BIC."""
    fitted = solve("gap", ordinary(seed))
    named = dict(zip(("A", "alpha", "z", "beta", "u_star", "tau"), fitted.identified.identified, strict=True))
    assert named == {"A": False, "alpha": False, "z": False, "beta": True, "u_star": False, "tau": True}
    assert fitted.identified.rank == 3
    assert fitted.status == "not_identified"


def test_the_null_directions_change_no_prediction(ordinary):
    """Along them alpha moves as z*beta and log A as -beta*log u_star: what G = A N^-alpha (D/N^z/u*)^-beta ignores."""
    fitted = solve("gap", ordinary(1))
    beta = raw_values(fitted.problem, fitted.identified.theta[None])["beta"][0]
    for log_a, alpha, z, free_beta, log_u in fitted.identified.null:
        assert alpha == pytest.approx(z * beta, abs=1e-3)
        assert log_a == pytest.approx(-beta * log_u, abs=1e-3)
        assert free_beta == pytest.approx(0.0, abs=1e-6)


def test_a_fixed_ratio_of_tokens_to_parameters_does_not_separate_their_powers(crossing):
    table = crossing(3)
    fitted = solve("gap_free_n", table.assign(D=20 * table.N, G=0.9 * (20 * table.N) ** -0.42))
    assert fitted.identified.identified.tolist() == [False, False, False, True]
    values = np.linalg.svd(whitened_jacobian(fitted.problem, fitted.identified.theta)[:, :3])[1]
    assert values[-1] < 1e-6 * values[0]


def test_three_rows_below_the_crossover_do_not_make_it_identified(ordinary, crossing):
    below = crossing(4)
    below = below[below.D / below.N**0.74 < 0.02].head(3)
    table = pd.concat([ordinary(4).iloc[: 174 - len(below)], below], ignore_index=True)
    found = solve("gap", table).identified
    assert 0 < len(below) <= 3
    assert not found.identified[2]
