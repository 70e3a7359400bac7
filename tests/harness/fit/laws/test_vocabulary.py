import jax
import numpy as np
import pandas as pd
import pytest

from harness.fit.fitting import fit
from harness.fit.laws.registry import get_law

pytestmark = pytest.mark.slow

TRUTH = {"E": -7.0, "A": 8.0, "alpha": 0.07, "B": 400.0, "beta": 0.24, "phi": -0.2}


def design(rows, seed):
    rng = np.random.default_rng(seed)
    n, v = 10 ** rng.uniform(7.5, 9.1, rows), 10 ** rng.uniform(3.6, 5, rows)
    return pd.DataFrame({"N": n, "V": v, "D": n * 10 ** rng.uniform(0.7, 2.2, rows)}), rng


def test_constants_are_recovered_from_negative_losses():
    table, rng = design(300, 0)
    with jax.enable_x64(True):
        loss = np.asarray(get_law("vocabulary").predict(TRUTH, {c: table[c].to_numpy() for c in table}))
    found = fit("vocabulary", table.assign(L=loss + 0.01 * rng.standard_normal(300)), bootstrap=0, sensitivity=False)
    assert loss.max() < 0 and found.status == "converged"
    for name, within in (("E", 0.4), ("alpha", 0.012), ("beta", 0.02), ("phi", 0.03)):
        assert found.parameters[name].estimate == pytest.approx(TRUTH[name], abs=within)


def test_the_sum_of_terms_is_recovered():
    table, rng = design(300, 1)
    table = table.assign(w=rng.choice([512.0, 1024.0, 2048.0], 300))
    terms = 60 * table["N"] ** -0.25 + 30 * (table["V"] * table["w"]) ** -0.3 + 500 * table["D"] ** -0.3
    loss = terms - 5.5 + 0.003 * rng.standard_normal(300)
    found = fit("vocabulary_tao", table.assign(L=loss), bootstrap=0, sensitivity=False)
    assert found.parameters["beta"].estimate == pytest.approx(0.3, abs=0.01)
    assert found.scatter.median_abs_relative < 0.002


@pytest.mark.public_data
def test_public_runs(public):
    """The largest vocabulary from the nine smaller ones (the best published is .987), and the largest three."""
    names = {"vocab_size": "V", "num_characters": "D", "non_vocab_params_N": "N", "unigram_normalized_loss": "L"}
    table = public("vocab_scaling.csv").rename(columns=names)
    found = fit("vocabulary", table, holdout="V > 9e4", bootstrap=0, sensitivity=False)
    assert found.holdout.r2 > 0.987
    three = fit("vocabulary", table, holdout="V > 4e4", bootstrap=0, sensitivity=False)
    assert three.holdout.r2 > 0.98
