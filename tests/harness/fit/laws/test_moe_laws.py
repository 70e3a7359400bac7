import jax
import numpy as np
import pandas as pd
import pytest

from harness.fit.fitting import fit
from harness.fit.laws.registry import get_law

pytestmark = pytest.mark.slow


def simulated(law_id, truth, columns, noise, seed):
    law = get_law(law_id)
    with jax.enable_x64(True):
        loss = np.asarray(law.predict(truth, columns))
    rng = np.random.default_rng(seed)
    return pd.DataFrame(columns).assign(L=loss * np.exp(noise * rng.standard_normal(len(loss))))


def published(law_id):
    return {p.name: p.published for p in get_law(law_id).parameters}


def test_fine_grained_constants_are_recovered():
    rng = np.random.default_rng(0)
    columns = {"N": 10 ** rng.uniform(7.5, 10.5, 200), "granularity": 2.0 ** rng.integers(0, 5, 200)}
    columns["D"] = 10 ** rng.uniform(9, 11.5, 200)
    truth = published("moe_fine_grained")
    found = fit(
        "moe_fine_grained", simulated("moe_fine_grained", truth, columns, 0.0005, 1), bootstrap=0, sensitivity=False
    )
    for name, within in (("alpha", 0.03), ("beta", 0.03), ("gamma", 0.15)):
        assert found.parameters[name].estimate == pytest.approx(truth[name], abs=within)
    assert found.scatter.log_residual_sd == pytest.approx(0.0005, rel=0.2)


def test_abnars_law_at_its_published_constants():
    """Losses of a language model, that fall with sparsity at 1e9 total parameters only while the tokens allow."""
    law, truth = get_law("moe_sparsity_abnar"), published("moe_sparsity_abnar")
    ratios = np.array([1.0, 4.0, 16.0])
    with jax.enable_x64(True):
        total = np.asarray(law.predict(truth, {"N": np.full(3, 1e10), "D": np.full(3, 2e10), "P": ratios}))
        active = np.asarray(law.predict(truth, {"N": 1e9 * ratios, "D": np.full(3, 2e10), "P": ratios}))
    assert np.all((total > 2.0) & (total < 4.0)) and np.all(np.diff(total) > 0) and np.all(np.diff(active) < 0)


def test_abnars_law_predicts_larger_models():
    rng = np.random.default_rng(2)
    columns = {"N": 10 ** rng.uniform(8, 10.7, 240), "D": 10 ** rng.uniform(9.3, 11.3, 240)}
    columns["P"] = 10 ** rng.uniform(0, 1.7, 240)
    table = simulated("moe_sparsity_abnar", published("moe_sparsity_abnar"), columns, 0.003, 3)
    found = fit("moe_sparsity_abnar", table, holdout="N > 1.5e10", bootstrap=0, sensitivity=False)
    assert found.holdout.mean_abs_relative_error < 0.006


def test_the_effective_size_is_recovered():
    rng = np.random.default_rng(4)
    columns = {"N": 10 ** rng.uniform(7, 9.5, 150), "P": 10 ** rng.uniform(0, 1.3, 150)}
    columns["D"] = 10 ** rng.uniform(8.5, 11, 150)
    truth = {"E": 1.2, "A": 3e8, "alpha": 0.3, "rho": 0.35, "B": 2e9, "beta": 0.4}
    found = fit("moe_sparsity", simulated("moe_sparsity", truth, columns, 0.002, 5), bootstrap=0, sensitivity=False)
    for name, within in (("alpha", 0.03), ("rho", 0.05), ("beta", 0.04), ("E", 0.1)):
        assert found.parameters[name].estimate == pytest.approx(truth[name], abs=within)


@pytest.mark.public_data
def test_public_upcycled_models(public):
    """The largest base model from the three smaller ones; the best published is .37. All laws are too low there by .04:
    the step in size gains a third of what the one before it gained, which nothing in the smaller models says."""
    table = public("moe_sparsity_scalebench.csv").rename(columns={"N_active": "N", "loss": "L"})
    table = table.assign(D=table["D1"] + table["D2"])
    found = fit("moe_sparsity", table, holdout="split == 'test'", bootstrap=0, sensitivity=False)
    assert found.holdout.r2 > 0.55
