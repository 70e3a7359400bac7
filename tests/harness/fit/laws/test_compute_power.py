"""L(C) along optima; and the saturation fits of Porian et al., whose optimiser never left its start."""

import jax
import numpy as np
import pandas as pd
import pytest

from harness.fit.fitting import solve
from harness.fit.laws.law import forward
from harness.fit.laws.registry import get_law
from harness.fit.problem.centred import centre
from harness.fit.problem.fit_status import FitStatus
from harness.fit.problem.model import features_of
from harness.fit.problem.objective import DEFAULT_OPTIONS
from harness.fit.problem.raw_units import raw_values
from harness.fit.search.solver import minimise, status_of
from harness.fit.search.starts import grid_of_starts

TRUTH = {"E": 1.8172, "A": 1070.0, "alpha": 0.1783}


def simulated(seed: int, scatter: float = 0.001, rows: int = 24) -> pd.DataFrame:
    flops = np.geomspace(1e17, 1e23, rows)
    loss = TRUTH["E"] + TRUTH["A"] * flops ** -TRUTH["alpha"]
    return pd.DataFrame(
        {"flops": flops, "L": loss * np.exp(scatter * np.random.default_rng(seed).standard_normal(rows))}
    )


def values_of(fitted) -> dict[str, float]:
    return {
        name: float(values[0]) for name, values in raw_values(fitted.problem, fitted.identified.theta[None]).items()
    }


def test_constants_are_recovered():
    found = [values_of(solve("compute_power", simulated(seed))) for seed in range(5)]
    assert np.mean([p["E"] for p in found]) == pytest.approx(TRUTH["E"], rel=0.01)
    assert np.mean([p["alpha"] for p in found]) == pytest.approx(TRUTH["alpha"], abs=0.005)
    exact = values_of(solve("compute_power", simulated(0, scatter=0.0)))
    assert exact == pytest.approx(TRUTH, rel=1e-4)


def test_centring_changes_units_and_nothing_else():
    law, scales = get_law("compute_power"), {"flops": 3e19, "L": 2.7}
    flops, values = np.array([1e17, 4e20]), {"E": 0.6, "A": 0.4, "alpha": 0.2}
    with jax.enable_x64(True):
        raw = law.predict(law.rescale(values, scales), {"flops": flops})
        centred = law.predict(values, {"flops": flops / 3e19})
    np.testing.assert_allclose(raw, 2.7 * np.asarray(centred), rtol=1e-9)


def stuck_start(problem, A: float, E: float, alpha: float) -> np.ndarray:
    """Raw constants in the coordinates of the search."""
    scale, unit = problem.scales["flops"], problem.scales["L"]
    centred = {"E": E / unit, "A": A * scale**-alpha / unit, "alpha": alpha}
    return np.array([[float(forward(p, centred[p.name])) for p in problem.law.parameters]])


def loss_at(problem, theta: np.ndarray) -> float:
    with jax.enable_x64(True):
        features = features_of(problem.model, theta, problem.columns, problem.noise)
        rows = problem.model.objective.rows(features, problem.target, problem.noise, DEFAULT_OPTIONS)
        return float(rows.sum())


@pytest.mark.public_data
def test_porians_saturation_fits_are_stuck_and_ours_are_not(public):
    """Nine of their weighted fits are the start A = e^5, E = 1 or e^.5, alpha = .1 of their grid."""
    keys = ["file", "hparams", "warmup", "decay", "param_count"]
    fits = public("porian_reference_fits.csv").query("fit == 'weighted'")
    stuck = fits.loc[np.isclose(fits.A, np.exp(5)) & np.isclose(fits.alpha, 0.1)]
    optima = (
        public("porian_isoflop_optima.csv").dropna(subset=["N_opt"]).rename(columns={"flops_C": "flops", "loss": "L"})
    )
    assert len(stuck) == 9
    for reference in stuck.to_dict("records"):
        rows = optima.loc[(optima[keys] == [reference[key] for key in keys]).all(axis=1)]
        problem = centre(get_law("compute_power"), rows)
        start = stuck_start(problem, *(reference[name] for name in ("A", "E", "alpha")))
        held = minimise(problem, start, free=np.zeros((1, 3), bool))
        assert status_of(problem, held) is FitStatus.DID_NOT_MOVE
        moved, found = minimise(problem, start), minimise(problem, grid_of_starts(problem))
        assert status_of(problem, moved) is not FitStatus.DID_NOT_MOVE
        assert status_of(problem, found) is FitStatus.CONVERGED
        assert found.loss.min() < 0.5 * loss_at(problem, start[0])
        assert found.loss.min() <= moved.loss[0] * (1 + 1e-6)
