"""The worlds' gaps beside closed forms and limits, and fits that find their constants."""

import jax
import numpy as np
import pandas as pd
import pytest

from harness import predict_gap
from harness.fit.fitting import fit
from harness.fit.known_truth import compare_with_truth
from harness.fit.laws.registry import get_law
from harness.theory.gap_worlds import GAP_SIZES, exact_gaps, simulate_gaps
from harness.theory.random_features import losses
from harness.theory.spectrum import power_law_spectrum
from sweeps.errors import InputError

pytestmark = pytest.mark.slow


def by_size(name: str, z: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """u of a size, and gaps by size and u."""
    rows = exact_gaps(name, z)
    u, gap = (rows[name].to_numpy().reshape(len(GAP_SIZES), -1) for name in ("u", "gap"))
    return u[0], gap


def test_the_classical_gap_grows_with_n_and_falls_with_d():
    rows = exact_gaps("classical")
    v = rows["N"] / rows["D"]
    assert rows["gap"].to_numpy() == pytest.approx((2 * v - v**2) / (1 - v), rel=2e-3)
    n, d = np.geomspace(1e6, 1e8, 4), np.geomspace(3e10, 3e12, 4)
    grid = losses(power_law_spectrum(1e15, 1.5, 1.6), n[:, None], d[None, :], 0.0, noise=1.0).gap
    assert np.all(np.diff(grid, axis=0) > 0) and np.all(np.diff(grid, axis=1) < 0)
    assert np.diff(np.log(grid), axis=1) / np.log(d[1] / d[0]) == pytest.approx(-1.0, abs=0.01)


def test_the_best_ridge_has_no_peak_and_slopes_of_both_limits():
    u, gap = by_size("optimal_ridge")
    slopes = np.diff(np.log(gap), axis=1) / np.diff(np.log(u))
    assert slopes[:, 0] == pytest.approx(-0.5, abs=0.01) and slopes[:, -1] == pytest.approx(-1.0, abs=0.01)
    assert np.all(slopes < 0)
    collapsed = gap * GAP_SIZES[:, None] ** 0.5
    assert collapsed == pytest.approx(np.tile(collapsed[0], (len(GAP_SIZES), 1)), rel=0.01)


@pytest.mark.parametrize("z", [1.2, 1.5, 2.5])
def test_the_crossover_is_at_any_z(z):
    u, gap = by_size("crossover", z)
    slopes = np.diff(np.log(gap), axis=1) / np.diff(np.log(u))
    assert slopes[:, 0] == pytest.approx(-(1 - 1 / z), abs=0.04) and slopes[:, -1] == pytest.approx(-1.0, abs=0.01)
    collapsed = gap * GAP_SIZES[:, None] ** (z - 1)
    assert collapsed == pytest.approx(np.tile(collapsed[-1], (len(GAP_SIZES), 1)), rel=0.01)


@pytest.mark.parametrize(("z", "left"), [(1.1, 1e-3), (1.2, 2e-4), (1.5, 3e-5), (2.5, 3e-5), (4.0, 3e-5)])
def test_the_crossovers_f_is_that_of_gap_ridge(z, left):
    """The law with its constants in closed form, against the sums over the spectrum."""
    rows = exact_gaps("crossover", z)
    turn = 1e4 * ((np.pi / z) / np.sin(np.pi / z)) ** -z
    constants = {"A": 2 / turn, "alpha": z - 1, "z": z, "beta": 1.0, "u_star": turn, "beta_0": 1 - 1 / z}
    columns = {name: rows[name].to_numpy() for name in ("N", "D")}
    with jax.enable_x64(True):
        law = np.asarray(get_law("gap_ridge").predict(constants, columns))
    assert law == pytest.approx(rows["gap"].to_numpy(), rel=left)


def test_the_sources_world_is_the_published_law():
    table, truth = simulate_gaps("source", scatter=0.0)
    assert table["gap_probe"].to_numpy() == pytest.approx(
        predict_gap(table["N_total"].to_numpy(), table["D"].to_numpy())
    )
    assert truth.parameters == {"A": 0.86, "alpha": 0.31, "z": 0.74, "beta": 0.42, "u_star": 1.0}


def found(name: str, law: str, seed: int) -> dict:
    table, truth = simulate_gaps(name, seed=seed)
    rows = pd.DataFrame({"N": table["N_nonembedding"], "D": table["D"], "G": table["gap_probe"]})
    return {each.name: each for each in compare_with_truth(fit(law, rows, bootstrap=0, sensitivity=False), truth)}


@pytest.mark.parametrize(
    ("name", "law"), [("classical", "gap_threshold"), ("optimal_ridge", "gap_broken"), ("crossover", "gap_broken")]
)
def test_a_fit_finds_the_exponents_under_noise(name, law):
    for seed in (1, 2):
        rows = found(name, law, seed)
        for constant, tolerance in (("alpha", 0.1), ("z", 0.07), ("beta", 0.05)):
            error = rows[constant].error
            assert error is not None and abs(error) < tolerance * max(abs(rows[constant].truth), 0.5), (constant, error)


def test_the_classical_world_does_not_tell_alpha_from_z_by_slopes_alone():
    """Far above the threshold it is a power law in N and D: beta and alpha - z beta, and no more."""
    table, truth = simulate_gaps("classical", seed=3)
    far = table.loc[table["D"] > 30 * table["N_total"]]
    rows = pd.DataFrame({"N": far["N_total"], "D": far["D"], "G": far["gap_probe"]})
    known = {each.name: each for each in compare_with_truth(fit("gap", rows, bootstrap=60, sensitivity=False), truth)}
    assert known["alpha"].estimate is None and known["z"].estimate is None and known["A"].estimate is None
    for name in ("beta", "alpha - z*beta"):
        assert known[name].error == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize("asked", [("nowhere", 1.5, 0.05), ("crossover", 1.0, 0.05), ("source", 1.5, -0.1)])
def test_unusable_values_are_refused(asked):
    name, z, scatter = asked
    with pytest.raises(InputError, match="simulate gap"):
        simulate_gaps(name, z=z, scatter=scatter)
