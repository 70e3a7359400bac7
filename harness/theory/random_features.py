"""Ridge regression on random features of power-law data: expected test loss, training loss and gap, exactly for large
N and P, beside the experiment itself.

A latent x of M modes with eigenvalues lambda_i; labels y = w*.x + noise; the student sees N random linear features A x,
A_ij ~ N(0, 1/N), and minimises sum over P samples of (y - w.A x)^2 + ridge |w|^2 (Maloney, Roberts and Sully 2022,
arXiv 2210.16859). The formulas are deterministic equivalents: their error against one draw is O(1/sqrt(P)) and
vanishes as N, P and the number of modes that matter grow; at N, P from 100 to 800 they agree with simulations within
two standard errors of twelve draws. Losses are mean squares, noise included. The gap of a run is test - train of
the same parameters, as in a sweep. P samples, read until they are learned, are D; time has no place here.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.optimize.elementwise import find_root

from harness.fit.known_truth import Truth
from harness.theory.minimum import argmin
from harness.theory.simulated_runs import check_settings, runs_like
from harness.theory.spectrum import Spectrum, degrees, every_mode, power_law_spectrum

_Rows = Float[np.ndarray, "rows"]
# So many rows are solved together, 6 MB a copy at 400 nodes. With fewer rows the root finder itself shows: blocks of
# 512 take 1.6 times as long.
BLOCK = 2048
# Places of the grid on which the best ridge is searched for first.
_RIDGES_TRIED = 60


class Losses(NamedTuple):
    """Expected losses of rows.

    Attributes:
        test, train: mean squared errors, noise included.
        gap: test - train.
        degrees: effective degrees of freedom z, at most min(N, P, M).
        ridge: the ridge that gives them.
    """

    test: _Rows
    train: _Rows
    gap: _Rows
    degrees: _Rows
    ridge: _Rows


def losses(spectrum: Spectrum, N: _Rows, P: _Rows, ridge: _Rows | float, noise: float = 0.0) -> Losses:
    """The losses at a ridge. Ridge 0 is the limit of small ones, in which N = P has an infinite test loss.

    Args:
        N, P: features and samples, each > 0; either may be math.inf, P only without a ridge.
        noise: variance of the labels' noise.
    """
    n, p, delta = (np.asarray(v, float) for v in np.broadcast_arrays(N, P, ridge))
    return _in_blocks(lambda n, p, r: _at(spectrum, n, p, r, noise, _solve(spectrum, n, p, r)), n, p, delta)


def best_ridge(spectrum: Spectrum, N: _Rows, P: _Rows, noise: float = 0.0) -> Losses:
    """The losses at each row's own best ridge, that of the smallest test loss; P is finite."""
    n, p = (np.asarray(v, float) for v in np.broadcast_arrays(N, P))
    return _in_blocks(lambda n, p: _best(spectrum, n, p, noise), n, p)


def _in_blocks(function, *columns: np.ndarray) -> Losses:
    shape = columns[0].shape
    flat = [column.ravel() for column in columns]
    parts = [function(*(column[i : i + BLOCK] for column in flat)) for i in range(0, flat[0].size, BLOCK)]
    return Losses(*(np.concatenate(column).reshape(shape) for column in zip(*parts, strict=True)))


def _unlearned(spectrum: Spectrum, g: _Rows):
    """(v^2 g/(lambda + g), v^2 lambda/(lambda + g)^2), summed over the modes."""
    inverse = 1.0 / (spectrum.eigenvalue + g[:, None])
    return g * (inverse @ spectrum.power), np.square(inverse) @ (spectrum.power * spectrum.eigenvalue)


def _solve(spectrum: Spectrum, n: np.ndarray, p: np.ndarray, ridge: np.ndarray) -> _Rows:
    """g with ridge = (P - z) kappa, kappa = g (1 - z/N).

    Without a ridge z is min(N, P), and g = 0 where the modes are fewer.
    """
    least = np.minimum(np.minimum(n, p), spectrum.modes)

    def beyond(log_g, n, p, ridge, least):
        """Positive above the root, and there rising with g."""
        g = np.exp(log_g)
        z = degrees(spectrum, g)[0]
        with np.errstate(invalid="ignore"):  # infinitely many samples have no ridge
            given = np.where(z < least, (p - z) * g * (1.0 - z / n), 0.0)
            return np.where(ridge == 0, np.log(least / z), given - ridge)

    low = np.full_like(n, np.log(spectrum.eigenvalue[-1]) - 30.0)
    # z < trace/g: from 2 trace/min(N, P) on both factors are above a half, and the rest is for the ridge.
    high = np.log(2 * spectrum.trace / least + 4 * ridge / p) + 1.0
    g = np.exp(find_root(beyond, (low, high), args=(n, p, ridge, least)).x)
    # Between `low` and no g at all, 1e-13 of the modes are left to learn.
    return np.where((ridge == 0) & (least >= spectrum.modes * (1.0 - 1e-12)), 0.0, g)


def _losses_at(spectrum: Spectrum, n, p, noise: float, g, z):
    """(test, train) at g and its z; the test loss is infinite where the variance is.

    1/P times (P - z) + (z - q)(1 - z/N)/(1 - q/N) is what the source's 1 - (q (N - 2z) + z^2)/(P (N - q)) becomes
    without its cancellation: exactly 0 at N = P without a ridge.
    """
    q, (unlearned, slope) = np.minimum(degrees(spectrum, g)[1], z), _unlearned(spectrum, g)
    with np.errstate(divide="ignore", invalid="ignore"):
        free = np.where(z < n, (1.0 - z / n) / (1.0 - q / n), 0.0)
        share = 1.0 - z / p
        variance = share + (z - q) * free / p
        error = unlearned - g * slope * free + noise
        # As many samples as modes, and more features, learn everything.
        test = np.where(variance > 0, error / variance, np.where((error == 0) & (n != p), 0.0, np.inf))
        # The identity of generalised cross-validation.
        return test, np.where(share > 0, np.square(share) * test, 0.0)


def _at(spectrum: Spectrum, n, p, ridge, noise: float, g) -> Losses:
    # Without a ridge z is known; rounding would leave 1e-16 of either limit.
    z = np.where(ridge == 0, np.minimum(np.minimum(n, p), spectrum.modes), degrees(spectrum, g)[0])
    test, train = _losses_at(spectrum, n, p, noise, g, z)
    share = z / p  # the difference of the losses would leave 0 of a gap of 1e-16 of them
    return Losses(test, train, test * share * (2.0 - share), z, np.asarray(ridge, float))


def _best(spectrum: Spectrum, n, p, noise: float) -> Losses:
    """Each g belongs to one ridge, (P - z) kappa: the best is looked for over g, and nothing is solved."""

    def test(x):
        z = degrees(spectrum, np.exp(x))[0]
        return np.where(z < np.minimum(n, p), _losses_at(spectrum, n, p, noise, np.exp(x), z)[0], np.inf)

    lowest = _solve(spectrum, n, p, np.zeros_like(n))
    low = np.log(np.maximum(lowest, spectrum.eigenvalue[-1] * 1e-6))
    high = np.full_like(low, np.log(10 * spectrum.trace))
    g = np.exp(argmin(test, low, high, _RIDGES_TRIED))
    z = degrees(spectrum, g)[0]
    best = _at(spectrum, n, p, (p - z) * g * (1.0 - z / n), noise, g)
    # Without noise, and with features and samples for every mode, no ridge at all is best, and no g is as small.
    ridgeless = _at(spectrum, n, p, np.zeros_like(n), noise, lowest)
    pairs = zip(ridgeless, best, strict=True)
    return Losses(*(np.where(ridgeless.test <= best.test, without, ridged) for without, ridged in pairs))


def experiment(
    spectrum: Spectrum, N: int, P: int, ridge: float, noise: float, draws: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "draws"], Float[np.ndarray, "draws"]]:
    """(test, train) losses of as many experiments: fresh features, samples and signs of the task.

    The test loss is exact given the student; memory 8 M max(N, P) bytes.

    Args:
        spectrum: of `every_mode`.
    """
    scale = np.sqrt(spectrum.eigenvalue)
    test, train = np.empty(draws), np.empty(draws)
    for draw in range(draws):
        task = np.sqrt(spectrum.power) * rng.choice([-1.0, 1.0], scale.size)
        samples = rng.standard_normal((P, scale.size))
        features = rng.standard_normal((N, scale.size)) * (scale / np.sqrt(N))
        seen = samples @ features.T
        labels = samples @ task + np.sqrt(noise) * rng.standard_normal(P)
        if N <= P:
            student = np.linalg.solve(seen.T @ seen + ridge * np.eye(N), seen.T @ labels)
        else:
            student = seen.T @ np.linalg.solve(seen @ seen.T + ridge * np.eye(P), labels)
        test[draw] = np.sum(np.square(task - features.T @ student)) + noise
        train[draw] = np.mean(np.square(labels - seen @ student))
    return test, train


def simulate_random_features(
    *, a: float = 1.5, b: float = 1.5, modes: float = 1e12, noise: float = 0.0, ridge: float | None = None,
    sizes: Sequence[int] = (100, 300, 1000, 3000, 10000, 30000, 100000, 300000, 1000000), draws: int = 0, seed: int = 0,
) -> tuple[pd.DataFrame, Truth]:  # fmt: skip
    """The losses of every pair of sizes, beside experiments if asked for.

    Args:
        ridge: of all rows; each row's best if None.
        draws: experiments of each row; each costs about 4 M N P floating-point operations and memory for (N + P) M.

    Returns:
        table: N features, D = P samples once each, losses and gap of the theory; `degrees`, `ridge`, `apart` (the
            larger of N/P and P/N), and with draws `simulated_test`, `simulated_train` and their standard errors.
        truth: L = E + A/N^alpha + B/D^beta where one of N and P is far larger than the other.

    Raises:
        InputError: exponents at most 1, fewer than 2 modes, a size below 1, one draw, experiments on more than 10^5
            modes, or numbers beyond all use.
    """
    check_settings(
        "simulate random_features",
        ("--a", a, 1 < a <= 10, "a number above 1, of 10 at most"),
        ("--b", b, 1 < b <= 10, "a number above 1, of 10 at most"),
        ("--modes", modes, 2 <= modes <= (1e5 if draws else 1e40), "from 2 to 1e40, with --draws to 1e5"),
        ("--noise", noise, 0 <= noise <= 1e6, "a variance from 0 to 1e6"),
        ("--ridge", ridge, ridge is None or 0 <= ridge <= 1e12, "from 0 to 1e12"),
        ("--sizes", list(sizes), min(sizes, default=0) >= 1, "whole numbers of at least 1"),
        ("--draws", draws, draws >= 0 and draws != 1, "0, or at least 2: one draw has no error"),
    )
    started = time.perf_counter()
    spectrum = power_law_spectrum(modes, b, a)
    n, p = (values.ravel() for values in np.meshgrid(np.asarray(sizes, float), np.asarray(sizes, float)))
    theory = best_ridge(spectrum, n, p, noise) if ridge is None else losses(spectrum, n, p, ridge, noise)
    cost = f"theory of {n.size} rows in {time.perf_counter() - started:.2f} s"
    measured: dict[str, np.ndarray] = {}
    if draws:
        started, rng, full = time.perf_counter(), np.random.default_rng(seed), every_mode(int(modes), b, a)
        results = np.asarray(
            [experiment(full, int(i), int(j), r, noise, draws, rng) for i, j, r in zip(n, p, theory.ridge, strict=True)]
        )
        for place, name in enumerate(("simulated_test", "simulated_train")):
            measured[name] = results[:, place].mean(axis=1)
            measured[f"{name}_se"] = results[:, place].std(axis=1, ddof=1) / np.sqrt(draws)
        cost += f", {draws} experiments of each in {time.perf_counter() - started:.1f} s"
    table = runs_like(
        "random_features", n, p, loss=theory.test, train_loss=theory.train, gap=theory.gap, seed=seed,
        degrees=theory.degrees, ridge=theory.ridge, apart=np.maximum(n / p, p / n), **measured,
    )  # fmt: skip
    regime = (
        "random features with ridge, exact for large N and P below the number of modes; the exponents are those of the"
        " limits N << D and N >> D: where N and D are alike the loss is not a sum of two powers"
    )
    settings = {"a": a, "b": b, "modes": modes, "noise": noise, "ridge": "best" if ridge is None else ridge}
    constants = _exponents(a, b, noise, ridge)
    return table, Truth(
        "random_features", regime, "chinchilla", constants, settings | {"seed": seed}, cost, "apart > 300"
    )


def _exponents(a: float, b: float, noise: float, ridge: float | None) -> dict[str, float]:
    """What is known of L = E + A/N^alpha + B/D^beta.

    N features leave N^-min(a-1, b). Samples leave D^-s, s = min(a-1, 2b), without noise at the best ridge or none; with
    noise, the best ridge trades this bias, z^-s, for a variance z/D, and D^-s/(s+1) is left; a fixed ridge is no best
    one of many samples, and noise without a ridge never leaves N >> D, so that neither has a beta here.
    """
    s = min(a - 1.0, 2.0 * b)
    known = {"E": noise, "alpha": min(a - 1.0, b)}
    if ridge is None:
        return known | {"beta": s / (s + 1.0) if noise else s}
    return known | {"beta": s} if ridge == 0 and not noise else {"alpha": known["alpha"]}
