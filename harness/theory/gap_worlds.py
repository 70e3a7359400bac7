"""Worlds whose gap law is known: random features trained in three ways, and the source document's law.

The gaps are exact (`random_features.losses`: no time, distinct samples) at N from 10^6 on and 10^15 modes, so that the
limiting law holds better than a fit can tell. D counts distinct samples.

- `classical`: no ridge, D > N, the noise of the labels dominates: G = E (2v - v^2)/(1 - v), v = N/D. The gap grows
  with N and falls with D; z = 1, alpha = 0, beta = 1, and it is infinite at D = N.
- `optimal_ridge`: each run at its best ridge, no noise: G = N^-(a-1) f(D/N), f from u^-(a-1) to u^-1, without a peak.
- `crossover`: noise, and a ridge D (D/1000)^(-b/z), as if trained for a time that grows as D^(b/z):
  G = N^(1-z) f(D/N^z), f from u^-(1-1/z) to u^-1, for any z > 1.
- `source`: G = A N^-alpha f(D/N^z), f = 1 up to u* and then a power, with the constants of clawRxiv 2604.02022.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.fit.law import get_law
from harness.fit.predict import predict_gap
from harness.fit.truth import Truth
from harness.theory.oracle import runs_like
from harness.theory.random_features import Losses, best_ridge, losses
from harness.theory.spectrum import power_law
from sweeps.errors import InputError

MODES = 1e15
SIZES = np.geomspace(1e6, 1e9, 6)
# Exponents of the spectrum and of the task. At D/CROSSOVER_D samples' worth of ridge less than 1e-4 of the crossover's
# gaps is the finite number of samples' doing; without that factor z comes out low by 0.003.
CROSSOVER_B, CROSSOVER_A, CROSSOVER_D = 1.5, 2.0, 1e3
RIDGE_B, RIDGE_A = 2.0, 1.5
Rows = Float[np.ndarray, "rows"]


@dataclass(frozen=True)
class World:
    """A way to train, and the law that its gaps obey.

    Attributes:
        regime: what is exact, in a sentence.
        law: that has the right f.
        ratios: z -> the D/N^z of every size.
        solve: (N, D, z) -> losses; None where only the gap is defined.
        truth: z -> constants by name.
    """

    regime: str
    law: str
    ratios: Callable[[float], Rows]
    solve: Callable[[Rows, Rows, float], Losses] | None
    truth: Callable[[float], dict[str, float]]


def _classical(n: Rows, d: Rows, z: float) -> Losses:
    return losses(power_law(MODES, 1.5, 1.6), n, d, 0.0, noise=1.0)


def _optimal(n: Rows, d: Rows, z: float) -> Losses:
    return best_ridge(power_law(MODES, RIDGE_B, RIDGE_A), n, d)


def _stretch(z: float) -> float:
    """The share of features that is learned goes as D^(1/z): at a larger z the same shares take more decades of D."""
    return z / CROSSOVER_B


def _crossover(n: Rows, d: Rows, z: float) -> Losses:
    ridge = d * (d / CROSSOVER_D ** _stretch(z)) ** (-CROSSOVER_B / z)
    return losses(power_law(MODES, CROSSOVER_B, CROSSOVER_A), n, d, ridge, noise=1.0)


def _source(z: float) -> dict[str, float]:
    return {p.name: p.published for p in get_law("gap").parameters if p.published is not None}


def _two_slopes(alpha: float, z: float, beta_0: float) -> dict[str, float]:
    return {"alpha": alpha, "z": z, "beta": 1.0, "beta_0": beta_0, "alpha - z*beta": alpha - z}


WORLDS = {
    "classical": World(
        "ridgeless random features on noisy labels at D > N, to 1e-3 of the gap at these N", "gap_threshold",
        lambda z: np.geomspace(1.1, 1e3, 13), _classical,
        lambda z: {"A": 1.0, "alpha": 0.0, "z": 1.0, "beta": 1.0, "u_star": 1.0, "alpha - z*beta": -1.0},
    ),
    "optimal_ridge": World(
        "random features at the best ridge without noise; the exponents are those of the limits of D/N", "gap_broken",
        lambda z: np.geomspace(1e-3, 1e3, 13), _optimal, lambda z: _two_slopes(RIDGE_A - 1.0, 1.0, RIDGE_A - 1.0),
    ),
    "crossover": World(
        "random features with noise and a ridge ~ D^(1 - b/z); the exponents are those of the limits of D/N^z",
        "gap_ridge", lambda z: np.geomspace(1.0, 1e7, 15) ** _stretch(z), _crossover,
        lambda z: _two_slopes(z - 1.0, z, 1.0 - 1.0 / z),
    ),
    "source": World(
        "the law of clawRxiv 2604.02022 itself", "gap", lambda z: np.geomspace(1e-2, 1e3, 13), None, _source
    ),
}  # fmt: skip


def exact(name: str, z: float = 1.5) -> pd.DataFrame:
    """N, D, u = D/N^z, test, train and gap of a world on its grid; the source's law has no test and train losses."""
    world = WORLDS[name]
    true_z = world.truth(z)["z"]
    n, u = (values.ravel() for values in np.meshgrid(SIZES, world.ratios(z), indexing="ij"))
    d = u * n**true_z
    if world.solve is None:
        return pd.DataFrame({"N": n, "D": d, "u": u, "gap": predict_gap(n, d)})
    found = world.solve(n, d, true_z)
    return pd.DataFrame({"N": n, "D": d, "u": u, "test": found.test, "train": found.train, "gap": found.gap})


def simulate(name: str, *, z: float = 1.5, scatter: float = 0.05, seed: int = 0) -> tuple[pd.DataFrame, Truth]:
    """A table of runs whose gaps are the world's times e^(scatter x normal), and the truth about it.

    Args:
        z: of the world `crossover`; the others have their own.

    Raises:
        InputError: no such world, z not above 1, or a negative scatter.
    """
    if name not in WORLDS:
        raise InputError("simulate gap", "WORLD", name, f"one of {', '.join(WORLDS)}")
    if z <= 1.0:
        raise InputError("simulate gap", "--z", z, "a number above 1")
    if scatter < 0.0:
        raise InputError("simulate gap", "--scatter", scatter, "a number of at least 0")
    world, started = WORLDS[name], time.perf_counter()
    rows, rng = exact(name, z), np.random.default_rng(seed)
    measured = rows["gap"].to_numpy() * np.exp(scatter * rng.standard_normal(len(rows)))
    table = runs_like(
        f"gap_{name}", rows["N"].to_numpy(), rows["D"].to_numpy(), gap=measured, seed=seed,
        loss=None if world.solve is None else rows["test"].to_numpy(),
        train_loss=None if world.solve is None else rows["train"].to_numpy(),
        converged=True, u=rows["u"], gap_exact=rows["gap"],
    )  # fmt: skip
    settings = {"world": name, "z": world.truth(z)["z"], "scatter": scatter, "seed": seed}
    cost = f"{len(rows)} runs in {time.perf_counter() - started:.2f} s"
    return table, Truth(f"gap_{name}", world.regime, world.law, world.truth(z), settings, cost)
