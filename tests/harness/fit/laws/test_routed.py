from dataclasses import replace

import jax
import numpy as np
import pandas as pd
import pytest
from scipy.optimize import curve_fit

from harness.fit.fitting import fit
from harness.fit.laws.mixtures_of_experts import effective_parameters, routing_cutoff
from harness.fit.laws.registry import get_law

pytestmark = pytest.mark.slow

ROUTED = get_law("routed")
PUBLISHED = {p.name: p.published for p in ROUTED.parameters}
ROUTERS = ("S-Base", "RL-R", "Hash")


def _separable(parameters, scales):
    assert ROUTED.raw is not None
    return ROUTED.raw(dict(parameters) | {"c": 0.0}, scales)


SEPARABLE = replace(
    ROUTED,
    id="routed_separable",
    parameters=tuple(p for p in ROUTED.parameters if p.name != "c"),
    predict=lambda parameters, columns: ROUTED.predict(dict(parameters) | {"c": 0.0}, columns),
    raw=_separable,
    combinations=(),
)


def published_loss(n, experts):
    columns = {"N": np.asarray(n, float), "E": np.asarray(experts, float)}
    assert ROUTED.derive is not None
    with jax.enable_x64(True):
        return np.asarray(ROUTED.predict(PUBLISHED, columns | ROUTED.derive(columns)))


@pytest.fixture(scope="module")
def runs(public):
    table = public("routed_lm_clark_final.csv").query("k == 1 and routing_frequency == 0.5")
    return table.assign(N=table["dense_parameter_count"], E=table["num_experts"], L=table["loss_validation"])


def test_what_the_published_constants_say():
    """A dense model of 1.3B has 2.237 nats; 5M parameters with 128 experts are worth 48M to 60M (paper: 55M)."""
    assert published_loss([1.3e9], [1.0])[0] == pytest.approx(2.237, abs=1e-3)
    with jax.enable_x64(True):
        assert 48e6 < float(effective_parameters(PUBLISHED, 5e6, 128.0)) < 60e6
        # The constants are printed with two digits or three; the paper's cutoff is 937B.
        assert float(np.log10(routing_cutoff(PUBLISHED))) == pytest.approx(np.log10(937e9), abs=0.05)


def test_a_dense_model_is_worth_itself():
    with jax.enable_x64(True):
        assert float(effective_parameters(PUBLISHED, 3e8, 1.0)) == pytest.approx(3e8, rel=1e-9)


def test_constants_are_recovered():
    n, experts = (axis.ravel() for axis in np.meshgrid(np.geomspace(15e6, 1.3e9, 6), 2.0 ** np.arange(10)))
    noise = np.exp(0.003 * np.random.default_rng(1).standard_normal(len(n)))
    found = fit(
        "routed",
        pd.DataFrame({"N": n, "E": experts, "L": published_loss(n, experts) * noise}),
        bootstrap=0,
        sensitivity=False,
    )
    for name, within in (("a", 0.004), ("c", 0.0025)):
        assert found.parameters[name].estimate == pytest.approx(PUBLISHED[name], abs=within)
    assert found.scatter.log_residual_sd == pytest.approx(0.003, rel=0.3)


@pytest.mark.public_data
@pytest.mark.parametrize("router", ROUTERS)
def test_public_runs_agree_with_the_published_fit(runs, router):
    """Within .0034 of log10 L, with experts that help less in large models."""
    table = runs.query("router_type == @router and E > 1")
    found = fit("routed", table, bootstrap=0, sensitivity=False)
    assert found.scatter.log_residual_sd / np.log(10) < 0.0034
    b, c = (np.float64(found.parameters[name].estimate) for name in ("b", "c"))
    assert b < 0 < c


@pytest.mark.public_data
def test_sizes_and_experts_do_not_separate(runs):
    """The bilinear term gains more than 10 in AICc, two of them for its constant."""
    table = runs.query("router_type == 'Hash' and E > 1")
    bilinear, separable = (fit(law, table, bootstrap=0, sensitivity=False) for law in (ROUTED, SEPARABLE))
    assert 2 * (bilinear.log_likelihood - separable.log_likelihood) - 2 > 10


@pytest.mark.public_data
def test_a_floor_predicts_larger_models_better(runs):
    """Base models of 370M from those up to 130M: R2 above .93, where the law without a floor has .83."""
    table = runs.query("router_type in ['S-Base', 'Dense']")
    floor = fit("routed_floor", table, holdout="N > 3e8", bootstrap=0, sensitivity=False)
    without = fit("routed", table, holdout="N > 3e8", bootstrap=0, sensitivity=False)
    assert floor.holdout.r2 > 0.93
    assert floor.holdout.rmse < 0.7 * without.holdout.rmse


@pytest.mark.public_data
def test_one_router_identifies_what_least_squares_of_scipy_does(runs):
    """44 runs of S-Base: the law is fitted to logs by least squares, so its estimates are those of scipy."""
    table = runs.query("router_type == 'S-Base'").reset_index(drop=True)

    def log_loss(columns, a, b, c, d, log_start, log_max):
        n, experts = columns
        start, most = np.exp(log_start), np.exp(log_max)
        effective = 1.0 / (1.0 / (experts - 1.0 + 1.0 / (1.0 / start - 1.0 / most)) + 1.0 / most)
        return a * np.log10(n) + b * np.log10(effective) + c * np.log10(n) * np.log10(effective) + d

    columns = table.N.to_numpy(float), table.E.to_numpy(float)
    start = [-0.08, -0.1, 0.01, 1.1, np.log(2.0), np.log(300.0)]
    values, covariance = curve_fit(log_loss, columns, np.log10(table.L), p0=start, maxfev=100_000)
    result = fit("routed", table, bootstrap=0, sensitivity=False)
    for name, value, error in zip("abcd", values, np.sqrt(np.diag(covariance)), strict=False):
        found = result.parameters[name]
        assert found.identified and found.estimate == pytest.approx(value, abs=0.1 * error)
        assert found.se == pytest.approx(error, rel=0.25)
