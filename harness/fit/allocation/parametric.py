"""Approach 3: the N and D that minimise a fitted loss on a budget C = 6 N D, over the points of a confidence set."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from harness.fit.laws.law import Law, bind, stacked
from harness.fit.laws.registry import get_law
from harness.fit.problem.program import float64
from harness.fit.problem.sizes import FLOPS_PER_PARAMETER_TOKEN
from sweeps.errors import InputError

# The search for N has `ROUNDS` rounds. The first round tries `COARSE` sizes, from one parameter (N = 1) to one token
# (D = 1). Each later round tries `FINE` sizes between the two neighbours of the best size so far.
COARSE, FINE, ROUNDS = 512, 33, 6
# Half the step in log C over which a local exponent is taken.
STEP = 0.05

Values = dict[str, np.ndarray]  # parameter -> one value per draw


def loss_law(law_id: str, source: str) -> Law:
    """The law with this id. InputError if it is unknown, or if its loss depends on more than N and D."""
    law = get_law(law_id)
    if set(law.columns) != {"N", "D"} or law.vectors or law.labels or law.response != "L":
        raise InputError(source, "law", law_id, "a loss law that reads N and D alone, such as chinchilla")
    return law


def ranges(values: Float[np.ndarray, "points budgets"]) -> Float[np.ndarray, "2 budgets"]:
    """The least and the largest value over a confidence set; nan where some points of the set have none."""
    known = np.isfinite(values).all(axis=0)
    return np.where(known, np.stack([values.min(axis=0), values.max(axis=0)]), np.nan)


def optimum_on_budgets(law: Law, values: Values, budgets: Float[np.ndarray, "budgets"]) -> dict[str, np.ndarray]:
    """The optimal N, D, tokens_per_parameter, loss and N_exponent [draws, budgets]; nan if no N minimises the loss.

    N_exponent is d log N* / d log C at each budget: beta/(alpha+beta) everywhere for `chinchilla`.
    """
    if law.optimum:
        parameters = {name: value[:, None] for name, value in values.items()}
        log_n, exponent = law.optimum(parameters, budgets / FLOPS_PER_PARAMETER_TOKEN)
        exponent = np.broadcast_to(exponent, log_n.shape)
    else:
        around = np.concatenate([budgets, budgets * np.exp(-STEP), budgets * np.exp(STEP)])
        log_n, below, above = np.split(_lowest(law, values, around), 3, axis=1)
        exponent = (above - below) / (2 * STEP)
    n = np.exp(log_n)
    d = budgets / (FLOPS_PER_PARAMETER_TOKEN * n)
    loss = _losses(law, values, log_n, budgets[None])
    return {"N": n, "D": d, "tokens_per_parameter": d / n, "loss": loss, "N_exponent": exponent}


def _lowest(law: Law, values: Values, budgets: Float[np.ndarray, "budgets"]) -> Float[np.ndarray, "draws budgets"]:
    """log N of the lowest minimum between one parameter and one token; nan if the loss has none inside that range."""
    draws, count = len(next(iter(values.values()))), len(budgets)
    top = np.log(budgets / FLOPS_PER_PARAMETER_TOKEN)[None, :, None]
    low, width, points = np.zeros((draws, count, 1)), np.broadcast_to(top, (draws, count, 1)), COARSE
    has_minimum = np.full((draws, count), True)
    for turn in range(ROUNDS):
        grid = low + width * np.linspace(0.0, 1.0, points)
        loss = _losses(law, values, grid.reshape(draws, -1), np.repeat(budgets, points)[None]).reshape(grid.shape)
        loss = np.where(np.isfinite(loss), loss, np.inf)
        if turn == 0:
            inner = loss[..., 1:-1]
            minima = (inner <= loss[..., :-2]) & (inner <= loss[..., 2:]) & np.isfinite(inner)
            # A term that underflows leaves a plateau of equal losses, which does not count as a minimum.
            minima &= (inner < loss[..., :1]) | (inner < loss[..., -1:])
            has_minimum = minima.any(axis=-1)
            at = 1 + np.where(minima, inner, np.inf).argmin(axis=-1)
        else:
            at = loss.argmin(axis=-1)
        best = np.take_along_axis(grid, at[..., None], axis=-1)
        step = width / (points - 1)
        low, width, points = best - step, 2 * step, FINE
    return np.where(has_minimum, best[..., 0], np.nan)


def _losses(law: Law, values: Values, log_n: Float[np.ndarray, "draws points"], budgets) -> np.ndarray:
    """The losses of each draw of the parameters at that draw's sizes `log_n`, with D from the budgets."""
    n = np.exp(log_n)
    d = np.broadcast_to(budgets / FLOPS_PER_PARAMETER_TOKEN, n.shape) / n
    columns = {"N": n, "D": d}
    if law.derive:
        derived = law.derive({name: column.ravel() for name, column in columns.items()})
        columns |= {name: np.reshape(part, (*n.shape, *np.shape(part)[1:])) for name, part in derived.items()}
    parameters = bind(law, {}).parameters
    named = {p.name: values[p.name] for p in parameters}
    with float64():
        at = jax.vmap(lambda own, rows: law.predict(stacked(parameters, own), rows) + jnp.zeros(n.shape[1]))
        return np.asarray(at(named, columns))
