"""Wide networks as ensembles of narrow ones: the error of fitting y = x^2 by one hidden layer falls as width^-1.

Liu and Tegmark, A Neural Scaling Law from Lottery Ticket Ensembling (arXiv 2310.02258): the loss of SiLU
networks on this problem falls as N^-1, because width averages independent errors. The loss of ReLU networks falls as
N^-4, as approximation theory says. The N^-1 is empirical: the authors say on arXiv that their theory is questionable
and their measurements stand.

A network of n neurons, f(x) = sum_i v_i act(w_i x + b_i) + c, learns from the whole interval [-1, 1] at every step: its
loss is the mean squared error by Gauss's rule with `QUADRATURE_POINTS` nodes. The rate of Adam falls to zero. w and b
start as N(0, scale^2), v and c at zero, so that at first all seeds compute the same function.

Regime: an experiment, whose exponent depends on start, rate and steps. By default (scale 10, widths 16 to 512, 30
seeds) the mean loss falls as width^-1.13 (95 % interval 1.03 to 1.23), the median loss as width^-1.01. With three times
the steps at 0.3 of the rate they fall as width^-1.26 and width^-1.09: more steeply among narrow networks, and not at
all beyond 256 neurons. At scale 10 nearly all of the error is independent between networks; the part that they have in
common (`floor`) is 4 to 15 % of it. At scale 1, near to how PyTorch starts its layers, 75 to 92 % is common to all
seeds: averaging does not help, nor does width beyond some 30 neurons (slope +0.3). At scale 30 and the same steps the
slope is -1.7.
"""

import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Key

from harness.fit.known_truth import Truth
from harness.theory.simulated_runs import check_settings, runs_like
from harness.theory.small_networks import Task, train_networks
from sweeps.errors import InputError

# With 128 points instead of 32 the errors at scale 10 are the same within the noise of 6 seeds, at four times the cost.
QUADRATURE_POINTS = 32
# Number of evenly spaced points at which the error is measured.
MEASURED_POINTS = 1001
NONLINEARITIES = {"silu": jax.nn.silu, "relu": jax.nn.relu}
# The published exponent for SiLU; for ReLU the one of approximation by piecewise linear functions.
PUBLISHED_EXPONENTS = {"silu": 1.0, "relu": 4.0}
REGIMES = {
    "silu": "An experiment: loss ~ width^-1 of single networks is empirical, with no proof, and depends on the scale "
    "at the start (1 instead of 10: no law), and on rate and steps: 1.0 to 1.3 were found.",
    "relu": "Loss ~ width^-4 is the best approximation; training comes near it in networks of some 30 neurons at most.",
}


def network(activation: str, params: dict[str, Array], x: Float[Array, "samples"]) -> Float[Array, "samples"]:
    """f at the inputs; w, b and v have the axis n, c has none."""
    return NONLINEARITIES[activation](x[:, None] * params["w"] + params["b"]) @ params["v"] + params["c"]


@functools.cache
def _task(activation: str) -> Task:
    """The task of learning x^2 from all quadrature nodes at every step; cached, so that it is compiled once."""

    def loss(params: dict[str, Array], batch: tuple[Array, Array]) -> tuple[Float[Array, ""], tuple[()]]:
        x, weight = batch
        return weight @ (network(activation, params, x) - x**2) ** 2, ()

    return Task(loss, lambda stream, step: stream)


def errors(
    activation: str, n: int, seeds: int, *, scale: float, rate: float, steps: int, key: Key[Array, ""]
) -> Float[np.ndarray, "seeds places"]:
    """The errors f(x) - x^2 of trained networks, at MEASURED_POINTS evenly spaced points of [-1, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(QUADRATURE_POINTS)
    stream = jnp.asarray(nodes, jnp.float32)[None], jnp.asarray(weights / 2, jnp.float32)[None]
    inputs = scale * jax.random.normal(key, (2, 1, seeds, n))
    params = {"w": inputs[0], "b": inputs[1], "v": jnp.zeros((1, seeds, n)), "c": jnp.zeros((1, seeds))}
    state, _ = train_networks(_task(activation), params, stream, jnp.full((1, seeds), rate, jnp.float32), steps)
    x = jnp.linspace(-1.0, 1.0, MEASURED_POINTS)
    networks = jax.tree.map(lambda leaf: leaf[0], state.params)
    outputs = jax.lax.map(lambda params: network(activation, params, x), networks)
    return np.asarray(outputs - x**2, float)


def floor_of(residuals: Float[np.ndarray, "seeds places"]) -> float:
    """Unbiased mean square of the error that all networks have in common, which no average over networks removes.

    The mean square error of an average of k independent networks is this floor plus (error of one network - floor)/k.
    The estimate may be negative where the networks have next to nothing in common.
    """
    seeds = len(residuals)
    return float(np.mean(residuals.mean(axis=0) ** 2 - residuals.var(axis=0, ddof=1) / seeds))


def simulate_lottery(
    widths: Sequence[int] = (16, 32, 64, 128, 256, 512),
    *,
    seeds: int = 30,
    members: Sequence[int] | None = None,
    activation: str = "silu",
    scale: float = 10.0,
    rate: float = 0.01,
    steps: int = 10000,
    seed: int = 0,
) -> tuple[pd.DataFrame, Truth]:
    """Train networks of every width, and average some of them.

    Args:
        seeds: networks of each width.
        members: sizes of the ensembles, each of networks of one width; a network is in one ensemble per size. By
            default 2, 3 and 5, as far as there are enough seeds.
        activation: silu, or relu as the control (its law shows at widths 4 to 32).
        scale: standard deviation of the input weights and biases at the start.
        rate: learning rate of Adam at the first step.

    Returns:
        table: one row per network (`members` 1), then one row per ensemble. N counts parameters, 3 n + 1 per network; D
            counts the points its networks saw, all nodes at every step; the loss is the mean square of f(x) - x^2.
            Further columns: `width`; `floor`, the common error of all networks of this width (see `floor_of`).
        truth: the empirical exponent of single networks.

    Raises:
        InputError: an unknown activation; no width; fewer than two seeds; an ensemble of more members than seeds; a
            scale, rate or number of steps that is not positive.
    """
    members = [k for k in (2, 3, 5) if k <= seeds] if members is None else members
    several = len(set(widths)) == len(widths) > 1 and min(widths) >= 1
    positive = {"--scale": scale, "--rate": rate, "--steps": steps}
    check_settings(
        "simulate lottery",
        ("--activation", activation, activation in NONLINEARITIES, f"one of {', '.join(NONLINEARITIES)}"),
        ("--widths", list(widths), several, "two or more whole numbers of at least 1, all different"),
        ("--seeds", seeds, seeds >= 2, "at least two"),
        ("members", list(members), all(1 < k <= seeds for k in members), f"from 2 to {seeds}, the number of seeds"),
        *((name, value, 0 < value < math.inf, "a positive number") for name, value in positive.items()),
    )
    began = time.perf_counter()
    rows = []
    for n in widths:
        key = jax.random.fold_in(jax.random.key(seed), n)
        residuals = errors(activation, n, seeds, scale=scale, rate=rate, steps=steps, key=key)
        floor = floor_of(residuals)
        for k in (1, *members):
            count = seeds // k
            averages = residuals[: count * k].reshape(count, k, -1).mean(axis=1)
            losses = (averages**2).mean(axis=1)
            rows += [(n, k, index, loss, floor) for index, loss in enumerate(losses)]
    rows.sort(key=lambda row: row[1] > 1)
    width, together, number, loss, floors = (np.asarray(column) for column in zip(*rows, strict=True))
    size, seen = together * (3 * width + 1), together * float(steps * QUADRATURE_POINTS)
    more = {"width": width, "members": together, "floor": floors}
    table = runs_like("lottery", size, seen, loss=loss, seed=number, **more)
    settings = {"widths": " ".join(map(str, widths)), "members": " ".join(map(str, members)), "seeds": seeds}
    settings |= {"activation": activation, "scale": scale, "rate": rate, "steps": steps, "seed": seed}
    return table, Truth(
        oracle="lottery",
        regime=REGIMES[activation] + " Ensembles (members > 1) fall as members^-1 to the floor.",
        law="henighan_n",
        parameters={"alpha": PUBLISHED_EXPONENTS[activation]},
        settings=settings,
        cost=f"{time.perf_counter() - began:.0f} s on {jax.default_backend()}",
        where="members == 1",
    )


class Slope(NamedTuple):
    """How fast the loss falls along an axis of a table.

    Attributes:
        slope: d ln mean loss/d ln axis, by least squares.
        low, high: 95 % interval of the slope, by resampling seeds.
        medians: the same slope for median losses.
    """

    slope: float
    low: float
    high: float
    medians: float


def loss_slope(table: pd.DataFrame, axis: str = "width", *, draws: int = 1000, seed: int = 0) -> Slope:
    """How the loss falls along the column `width` or `members` of a table of `simulate_lottery`, or of a part of one.

    Raises InputError for fewer than two values along the axis.
    """
    values = np.unique(table[axis].to_numpy(float))
    if len(values) < 2:
        raise InputError("simulate lottery", axis, len(values), "at least two values")
    losses = [table.loc[table[axis] == at, "val_loss_final100"].to_numpy(float) for at in values]
    x = np.log(values)
    x -= x.mean()

    def fitted(of: Callable[[np.ndarray], float], losses: Sequence[np.ndarray]) -> float:
        return float(x @ np.log([of(rows) for rows in losses]) / (x @ x))

    rng = np.random.default_rng(seed)
    drawn = [fitted(np.mean, [rng.choice(rows, len(rows)) for rows in losses]) for _ in range(draws)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Slope(fitted(np.mean, losses), float(low), float(high), fitted(np.median, losses))
