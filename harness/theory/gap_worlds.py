"""Worlds whose gap law is known: random features trained in three ways, and the law of clawRxiv 2604.02022.

The gaps are exact (`random_features.losses`, for distinct samples learned without a limit of time). N is 10^6 or more
and the modes are 10^15 or more, so that the limiting law holds better than a fit can tell. D counts distinct samples.

- `classical`: no ridge, D > N, the noise of the labels dominates: G = E (2v - v^2)/(1 - v), v = N/D. The gap grows
  with N and falls with D; z = 1, alpha = 0, beta = 1, and it is infinite at D = N.
- `optimal_ridge`: each run at its best ridge, no noise: G = N^-(a-1) f(D/N). As u = D/N grows, f changes from
  u^-(a-1) to u^-1, without a peak.
- `crossover`: noise, and a ridge that does not grow with D. About D^(1/b) features are learned, until all N are:
  G = N^(1-z) f(D/N^z) with z = b. f changes from u^-(1-1/z) to u^-1, as in the law `gap_ridge`.
- `source`: G = A N^-alpha f(D/N^z), f = 1 up to u* and then a power, with the constants of clawRxiv 2604.02022.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.fit.gap_law.constants import predict_gap
from harness.fit.known_truth import Truth
from harness.theory.random_features import Losses, best_ridge, losses
from harness.theory.simulated_runs import check_settings, runs_like
from harness.theory.spectrum import power_law_spectrum
from sweeps.published_gap import PUBLISHED_GAP

MODES = 1e15
GAP_SIZES = np.geomspace(1e6, 1e9, 6)
# Exponents b of the spectrum and a of the task in `optimal_ridge`.
RIDGE_B, RIDGE_A = 2.0, 1.5
# The ridge of `crossover`, so large that D is large where the law bends: with a ridge of 1, too small a D would move z
# by 0.003.
RIDGE = 1e4
_Rows = Float[np.ndarray, "rows"]


@dataclass(frozen=True)
class GapWorld:
    """A way to train, and the law that its gaps obey.

    Attributes:
        regime: a sentence that says what is exact.
        law: the id of the law that has the right f.
        ratios: z -> the values of D/N^z that every size gets.
        solve: (N, D, z) -> losses; None where only the gap is defined.
        truth: z -> the law's constants by name.
    """

    regime: str
    law: str
    ratios: Callable[[float], _Rows]
    solve: Callable[[_Rows, _Rows, float], Losses] | None
    truth: Callable[[float], dict[str, float]]


def crossover_of(z: float) -> float:
    """The u* of `gap_ridge` for the world `crossover`: the D/N^z at which D samples can teach all N features.

    They can teach k (D/ridge)^(1/b) features, where b = z and k = (pi/b)/sin(pi/b).
    """
    k = (np.pi / z) / np.sin(np.pi / z)
    return RIDGE * k**-z


def _two_slopes(alpha: float, z: float, beta_0: float) -> dict[str, float]:
    return {"alpha": alpha, "z": z, "beta": 1.0, "beta_0": beta_0, "alpha - z*beta": alpha - z}


WORLDS = {
    "classical": GapWorld(
        "ridgeless random features on noisy labels at D > N, to 1e-3 of the gap at these N", "gap_threshold",
        lambda z: np.geomspace(1.1, 1e3, 13),
        lambda n, d, z: losses(power_law_spectrum(MODES, 1.5, 1.6), n, d, 0.0, noise=1.0),
        lambda z: {"A": 1.0, "alpha": 0.0, "z": 1.0, "beta": 1.0, "u_star": 1.0, "alpha - z*beta": -1.0},
    ),
    "optimal_ridge": GapWorld(
        "random features at the best ridge without noise; the exponents are those of the limits of D/N", "gap_broken",
        lambda z: np.geomspace(1e-3, 1e3, 13),
        lambda n, d, z: best_ridge(power_law_spectrum(MODES, RIDGE_B, RIDGE_A), n, d),
        lambda z: _two_slopes(RIDGE_A - 1.0, 1.0, RIDGE_A - 1.0),
    ),
    "crossover": GapWorld(
        "random features with noise and a fixed ridge, to 2e-5 of the gap from z = 1.5 on, 8e-4 at 1.1",
        # By the power z/1.5 the share of features that are learned has the same range at each z; a larger z takes more
        # decades of D.
        "gap_ridge", lambda z: crossover_of(z) * np.geomspace(1 / 300, 3e4, 15) ** (z / 1.5),
        # With a = 3 the power of what is not learned is 1e-8 of the noise, so that the noise dominates.
        lambda n, d, z: losses(power_law_spectrum(math.inf, z, 3.0), n, d, RIDGE, noise=1.0),
        lambda z: _two_slopes(z - 1.0, z, 1.0 - 1.0 / z),
    ),
    "source": GapWorld(
        "the law of clawRxiv 2604.02022 itself", "gap", lambda z: np.geomspace(1e-2, 1e3, 13), None,
        lambda z: PUBLISHED_GAP._asdict(),
    ),
}  # fmt: skip


def exact_gaps(name: str, z: float = 1.5) -> pd.DataFrame:
    """Columns N, D, u = D/N^z, test, train and gap of a world on its grid; `source` has no test and train losses."""
    world = WORLDS[name]
    true_z = world.truth(z)["z"]
    n, u = (values.ravel() for values in np.meshgrid(GAP_SIZES, world.ratios(z), indexing="ij"))
    d = u * n**true_z
    if world.solve is None:
        return pd.DataFrame({"N": n, "D": d, "u": u, "gap": predict_gap(n, d)})
    solution = world.solve(n, d, true_z)
    return pd.DataFrame({"N": n, "D": d, "u": u, "test": solution.test, "train": solution.train, "gap": solution.gap})


def simulate_gaps(world: str, *, z: float = 1.5, scatter: float = 0.05, seed: int = 0) -> tuple[pd.DataFrame, Truth]:
    """A table of runs whose gaps are the world's times e^(scatter x normal), and its known truth.

    Args:
        z: exponent of the world `crossover`; the others have their own.

    Raises:
        InputError: no such world, z outside of 1.1 to 4, or a scatter outside of 0 to 1.
    """
    check_settings(
        "simulate gap",
        ("WORLD", world, world in WORLDS, f"one of {', '.join(WORLDS)}"),
        ("--z", z, 1.1 <= z <= 4.0, "a number from 1.1 to 4"),
        ("--scatter", scatter, 0.0 <= scatter <= 1.0, "a number from 0 to 1"),
    )
    definition, started = WORLDS[world], time.perf_counter()
    rows, rng = exact_gaps(world, z), np.random.default_rng(seed)
    measured = rows["gap"].to_numpy() * np.exp(scatter * rng.standard_normal(len(rows)))
    table = runs_like(
        f"gap_{world}", rows["N"].to_numpy(), rows["D"].to_numpy(), gap=measured, seed=seed,
        loss=rows.get("test"), train_loss=rows.get("train"), converged=True, u=rows["u"], gap_exact=rows["gap"],
    )  # fmt: skip
    settings = {"world": world, "z": definition.truth(z)["z"], "scatter": scatter, "seed": seed}
    cost = f"{len(rows)} runs in {time.perf_counter() - started:.2f} s"
    return table, Truth(f"gap_{world}", definition.regime, definition.law, definition.truth(z), settings, cost)
