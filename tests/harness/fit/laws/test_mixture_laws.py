import jax
import numpy as np
import pandas as pd
import pytest

from harness.cli.render import render
from harness.fit.fitting import SolvedFit, fit, solve
from harness.fit.laws.registry import get_law
from harness.fit.referee.scores import HeldOutErrors, holdout_scores

pytestmark = pytest.mark.slow

SHAPE = {"C": np.array([2.0, 0.8, 1.2]), "g": np.array([0.4, 0.6, 0.3])}
ADDITIVE = SHAPE | {"E": 1.2, "A": 300.0, "alpha": 0.34, "B": 400.0, "beta": 0.3}
JOINT = SHAPE | {
    "E": 1.2, "alpha": 0.34, "beta": 0.28, "g_A": 0.9, "g_B": 0.8,
    "C_A": np.array([400.0, 900.0, 200.0]), "C_B": np.array([300.0, 200.0, 900.0]),
}  # fmt: skip


def loss_of(law_id, truth, columns):
    with jax.enable_x64(True):
        return np.asarray(get_law(law_id).predict(truth, columns))


def as_table(columns, loss):
    parts = {f"h[{i}]": columns["h"][:, i] for i in range(columns["h"].shape[1])}
    return pd.DataFrame({**{name: v for name, v in columns.items() if name != "h"}, **parts, "L": loss})


def design(rng, mixtures, sizes, tokens):
    weights = np.vstack([rng.dirichlet(np.ones(3), mixtures - 4), 0.9 * np.eye(3) + 0.1 / 3, np.full((1, 3), 1 / 3)])
    cells = [(h, n, d) for h in weights for n in sizes for d in tokens]
    h, n, d = (np.array(part) for part in zip(*cells, strict=True))
    return {"h": h, "N": n, "D": d}


def estimated(law_id, found):
    return {
        p.name: np.array([found.parameters[f"{p.name}[{i}]"].estimate for i in range(3)])
        if p.each
        else found.parameters[p.name].estimate
        for p in get_law(law_id).parameters
    }


def beyond(fitted: SolvedFit) -> HeldOutErrors:
    """The errors on held-out rows, without the errors of constants, which take most of the time of a fit."""
    return holdout_scores(fitted.problem, fitted.identified.theta)


def simplex():
    a, b = (axis.ravel() for axis in np.meshgrid(*2 * (np.linspace(0, 1, 101),)))
    return np.stack([a, b, 1 - a - b], axis=1)[a + b <= 1 + 1e-9].clip(0.0)


def test_the_best_mixture_is_found():
    """3 domains, 40 mixtures, .5 % noise: new mixtures at 3 times the size within 1 %, and the best within .05."""
    rng = np.random.default_rng(0)
    columns = design(rng, 40, [1e8, 3e8, 1e9], [2e9, 5e10])
    noise = np.exp(0.005 * rng.standard_normal(len(columns["N"])))
    found = fit(
        "mixture_additive",
        as_table(columns, loss_of("mixture_additive", ADDITIVE, columns) * noise),
        bootstrap=0,
        sensitivity=False,
    )
    values = estimated("mixture_additive", found)
    grid = simplex()
    large = {"h": grid, "N": np.full(len(grid), 3e9), "D": np.full(len(grid), 1e11)}
    truth, predicted = loss_of("mixture_additive", ADDITIVE, large), loss_of("mixture_additive", values, large)
    assert np.mean(np.abs(predicted / truth - 1)) < 0.01
    assert np.abs(grid[predicted.argmin()] - grid[truth.argmin()]).sum() <= 0.05


def test_where_mixture_and_scale_interact_the_joint_law_predicts_better():
    rng = np.random.default_rng(1)
    columns = design(rng, 20, [1e8, 3e8, 1e9, 3e9], [2e9, 5e10])
    noise = np.exp(0.002 * rng.standard_normal(len(columns["N"])))
    table = as_table(columns, loss_of("mixture_joint", JOINT, columns) * noise)
    joint, additive = (
        beyond(solve(law, table, holdout="N > 2e9")).mean_abs_relative_error
        for law in ("mixture_joint", "mixture_additive")
    )
    assert joint < 0.005 and joint < 0.6 * additive


def test_a_domain_without_a_share_has_a_finite_loss_and_slope():
    columns = {"h": np.array([[1.0, 0.0, 0.0]]), "N": np.array([1e9]), "D": np.array([1e10])}
    law = get_law("mixture_joint")
    with jax.enable_x64(True):
        slopes = jax.device_get(jax.grad(lambda parameters: law.predict(parameters, columns)[0])(JOINT))
    assert np.all(np.isfinite(np.concatenate([np.ravel(slope) for slope in slopes.values()])))
    assert slopes["C"][1] == 0.0 and slopes["C"][0] < 0.0


def test_exponential_mixing_is_recovered():
    rng = np.random.default_rng(2)
    weights = rng.dirichlet(np.ones(3), 40)
    loss = 1.8 + 0.9 * np.exp(weights @ np.array([-4.0, -0.5, 0.3]))
    table = as_table({"h": weights}, loss * np.exp(0.001 * rng.standard_normal(40)))
    found = fit("mixture_exponential", table, bootstrap=0, sensitivity=False)
    assert found.parameters["c"].estimate == pytest.approx(1.8, abs=0.02)
    assert "t[0]" in render(found.shown())
    steepness = np.array([found.parameters[f"t[{i}]"].estimate for i in range(3)], float)
    assert steepness - np.log(0.9) == pytest.approx([-4.0, -0.5, 0.3], abs=0.2)


@pytest.mark.public_data
def test_public_mixtures(public):
    """Losses on five domains for mixtures that were not fitted, at four sizes: mean R2; the best published is .988."""
    table = public("domain_mixture.csv")
    table = table.rename(columns={f"proportion_domain_{i}": f"h[{i}]" for i in range(1, 6)})
    table = table.assign(N=1e6 * table["model_size"].str[:-1].astype(float))
    scores = [
        beyond(solve("mixture_additive_n", table.assign(L=table[f"loss_domain_{i}"]), holdout="sld_split == 'test'")).r2
        for i in range(1, 6)
    ]
    assert np.mean(scores) > 0.988
