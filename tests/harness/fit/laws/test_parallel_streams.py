import numpy as np
import pandas as pd
import pytest

from harness.fit.fitting import fit

pytestmark = pytest.mark.slow

# Refitted to the public runs by an independent program (Huber's loss, corner 1e-3): E, A, alpha, k, and R2.
REFERENCE = {"pile": (1.28859, 1.9752e8, 0.19628, 0.33444), "stack": (0.69121, 1.1307e7, 0.18936, 0.39346)}


@pytest.fixture(scope="module")
def runs(public):
    names = {"params_N_nonemb": "N", "parallel_streams_P": "P", "loss": "L"}
    return public("parscale.csv").rename(columns=names)


def test_constants_are_recovered():
    n, streams = (axis.ravel() for axis in np.meshgrid(np.geomspace(1e8, 1e10, 8), [1.0, 2.0, 4.0, 8.0, 16.0]))
    noise = np.exp(0.001 * np.random.default_rng(0).standard_normal(len(n)))
    loss = (1.29 + (2e8 / (n * (0.33 * np.log(streams) + 1))) ** 0.2) * noise
    found = fit("parallel_scaling", pd.DataFrame({"N": n, "P": streams, "L": loss}), bootstrap=0, sensitivity=False)
    assert found.status == "converged"
    for name, truth, within in (("E", 1.29, 0.05), ("alpha", 0.2, 0.02), ("k", 0.33, 0.03)):
        assert found.parameters[name].estimate == pytest.approx(truth, abs=within)


@pytest.mark.public_data
@pytest.mark.parametrize("corpus", ["pile", "stack"])
def test_public_runs(runs, corpus):
    """The optimum of an independent program, and the P = 8 runs from those with fewer streams."""
    table = runs.query("eval_corpus == @corpus")
    found = fit("parallel_scaling", table, bootstrap=0, sensitivity=False)
    for name, value in zip(("E", "A", "alpha", "k"), REFERENCE[corpus], strict=True):
        assert found.parameters[name].estimate == pytest.approx(value, rel=1e-3)
    for law, least in (("parallel_scaling", 0.996), ("parallel_additive", 0.9965)):
        assert fit(law, table, holdout="P == 8", bootstrap=0, sensitivity=False).holdout.r2 > least


@pytest.mark.public_data
@pytest.mark.parametrize("corpus", ["pile", "stack"])
@pytest.mark.parametrize("holdout", ["P == 8", "N > 4e9"])
def test_streams_as_a_term_predict_better(runs, corpus, holdout):
    table = runs.query("eval_corpus == @corpus")
    errors = [
        fit(law, table, holdout=holdout, bootstrap=0, sensitivity=False).holdout.rmse
        for law in ("parallel_additive", "parallel_scaling")
    ]
    assert errors[0] < errors[1]
