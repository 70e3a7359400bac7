from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata

from harness.fit.fitting import fit, solve
from harness.fit.laws.registry import get_law
from harness.fit.problem.raw_units import predictions

pytestmark = pytest.mark.slow

SIZES = 200.0 * 2.0 ** np.arange(14)
RECTIFIED = get_law("rectified")
# The law before it was rectified: nothing was learned before the first sample.
VANILLA = replace(
    RECTIFIED,
    id="vanilla",
    parameters=tuple(p for p in RECTIFIED.parameters if p.name != "D_l"),
    predict=lambda parameters, columns: RECTIFIED.predict(dict(parameters) | {"D_l": 0.0}, columns),
)


def curve(learned=60.0, beta=0.45, scale=200.0, floor=0.8, noise=0.01, seed=0):
    loss = floor + scale / (learned + SIZES**beta)
    return pd.DataFrame({"D": SIZES, "L": loss * np.exp(noise * np.random.default_rng(seed).standard_normal(14))})


def held_out(groups):
    """Observed and predicted losses of the rows marked in `holdout`, one fit a group."""
    observed, predicted = [], []
    for _, group in groups:
        found = solve("rectified", group.reset_index(drop=True))
        rows = ~found.problem.fitted
        observed.append(group["L"].to_numpy()[rows])
        predicted.append(np.asarray(predictions(found.problem, found.identified.theta))[rows])
    return np.concatenate(observed), np.concatenate(predicted)


def r2(observed, predicted):
    return 1 - np.sum((observed - predicted) ** 2) / np.sum((observed - observed.mean()) ** 2)


def test_constants_are_recovered_with_replicates():
    """1 % noise, 8 runs a size: beta within 10 %."""
    table = pd.concat([curve(seed=seed) for seed in range(8)])
    found = fit("rectified", table, bootstrap=0, sensitivity=False)
    assert found.parameters["beta"].estimate == pytest.approx(0.45, rel=0.1)
    assert found.parameters["D_l"].estimate == pytest.approx(60.0, rel=0.5)


def test_no_samples_are_the_pretrained_model():
    exact = pd.concat([curve(noise=0.0), pd.DataFrame({"D": [0.0], "L": [0.8 + 200 / 60]})])
    found = fit("rectified", exact, bootstrap=0, sensitivity=False)
    assert [found.parameters[name].estimate for name in ("B", "D_l", "beta", "E")] == pytest.approx(
        [200.0, 60.0, 0.45, 0.8], rel=1e-4
    )


def test_the_vanilla_law_is_told_apart():
    """With knowledge from before, its residuals are twice as large or more; without, it is the better of the two."""
    found, vanilla = (fit(law, curve(), bootstrap=0, sensitivity=False) for law in ("rectified", VANILLA))
    assert found.scatter.log_residual_sd <= 0.5 * vanilla.scatter.log_residual_sd
    plain = curve(learned=0.0, scale=20.0, beta=0.3, seed=1)
    found, vanilla = (fit(law, plain, bootstrap=0, sensitivity=False) for law in ("rectified", VANILLA))
    assert found.log_likelihood - vanilla.log_likelihood < 1.0


def test_models_are_ranked_by_extrapolation():
    """Eight models, each tuned on up to 1/64 of the samples: their order at all of them, Spearman .8 or better."""
    rng = np.random.default_rng(3)
    models, truth = [], []
    for model in range(8):
        table = curve(
            rng.uniform(20, 90), rng.uniform(0.4, 0.55), rng.uniform(120, 260), rng.uniform(0.5, 1.2), 0.003, model
        )
        truth.append(table["L"].iloc[-1])
        rows = table.iloc[:-6].assign(holdout=False)
        models.append((model, pd.concat([rows, table.iloc[-1:].assign(holdout=True)])))
    _, predicted = held_out(models)
    assert np.corrcoef(rankdata(predicted), rankdata(truth))[0, 1] >= 0.8


@pytest.mark.public_data
def test_public_runs_of_fine_tuning(public):
    """14 models, 3 datasets: the loss with 819,200 samples from those with fewer; the best published is .993."""
    table = public("sft_rectified.csv").rename(columns={"sft_data_size": "D", "sft_loss": "L"}).query("D > 0")
    table = table.assign(holdout=table["D"] == 819200)
    assert r2(*held_out(table.groupby(["model", "dataset"]))) > 0.993
