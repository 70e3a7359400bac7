"""Ridge regression on random features of power-law data: expected test loss, training loss and gap, exactly for large
N and P, and the experiment itself beside them.

A latent x has M modes with eigenvalues lambda_i, and labels are y = w*.x + noise. The student sees N random linear
features A x, A_ij ~ N(0, 1/N), and minimises sum over P samples of (y - w.A x)^2 + ridge |w|^2 (Maloney, Roberts and
Sully 2022, arXiv 2210.16859). The formulas are deterministic equivalents: their error against one draw is O(1/sqrt(P))
and vanishes as N, P and the number of modes that matter grow; at N, P from 100 to 800 they agree with simulations to
two standard errors of twelve draws. Losses are mean squared errors, noise included. The gap of a run is test - train of
the same parameters, as in a sweep. D is P, the number of samples; there is no time, as training goes on to the minimum.
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
# The number of rows that are solved together: 6 MB per array at 400 nodes of the spectrum. With smaller blocks the root
# finder's own overhead shows: blocks of 512 take 1.6 times as long.
BLOCK = 2048
# Points of the grid on which the best ridge is first searched for.
_RIDGES_TRIED = 60


class Losses(NamedTuple):
    """Expected losses, one value per row.

    Attributes:
        test, train: mean squared errors, noise included.
        gap: test - train.
        degrees: effective degrees of freedom z, at most min(N, P, M).
        ridge: the ridge with these losses.
    """

    test: _Rows
    train: _Rows
    gap: _Rows
    degrees: _Rows
    ridge: _Rows


def losses(spectrum: Spectrum, N: _Rows, P: _Rows, ridge: _Rows | float, noise: float = 0.0) -> Losses:
    """The losses at a ridge. Ridge 0 is the limit of small ridges, in which N = P has an infinite test loss.

    Args:
        N, P: numbers of features and samples, each > 0; either may be math.inf, P only without a ridge.
        noise: variance of the label noise.
    """
    n, p, delta = (np.asarray(v, float) for v in np.broadcast_arrays(N, P, ridge))
    return _in_blocks(lambda n, p, r: _at(spectrum, n, p, r, noise, _solve(spectrum, n, p, r)), n, p, delta)


def best_ridge(spectrum: Spectrum, N: _Rows, P: _Rows, noise: float = 0.0) -> Losses:
    """The losses at each row's best ridge, the one with the lowest test loss; P must be finite."""
    n, p = (np.asarray(v, float) for v in np.broadcast_arrays(N, P))
    return _in_blocks(lambda n, p: _best(spectrum, n, p, noise), n, p)


def _in_blocks(function, *columns: np.ndarray) -> Losses:
    shape = columns[0].shape
    flat = [column.ravel() for column in columns]
    parts = [function(*(column[i : i + BLOCK] for column in flat)) for i in range(0, flat[0].size, BLOCK)]
    return Losses(*(np.concatenate(column).reshape(shape) for column in zip(*parts, strict=True)))


def _unlearned(spectrum: Spectrum, g: _Rows):
    """The sums over the modes of power g/(lambda + g) and of power lambda/(lambda + g)^2."""
    inverse = 1.0 / (spectrum.eigenvalue + g[:, None])
    return g * (inverse @ spectrum.power), np.square(inverse) @ (spectrum.power * spectrum.eigenvalue)


def _solve(spectrum: Spectrum, n: np.ndarray, p: np.ndarray, ridge: np.ndarray) -> _Rows:
    """Solve ridge = (P - z(g)) kappa with kappa = g (1 - z(g)/N) for g; z(g) are the effective degrees of freedom.

    Without a ridge g is where z(g) = min(N, P), or 0 if there are at most as many modes as that.
    """
    least = np.minimum(np.minimum(n, p), spectrum.modes)

    def beyond(log_g, n, p, ridge, least):
        """A function of log g that is positive above the root, where it rises."""
        g = np.exp(log_g)
        z = degrees(spectrum, g)[0]
        with np.errstate(invalid="ignore"):  # at infinitely many samples, whose rows have no ridge and ignore `given`
            given = np.where(z < least, (p - z) * g * (1.0 - z / n), 0.0)
            return np.where(ridge == 0, np.log(least / z), given - ridge)

    low = np.full_like(n, np.log(spectrum.eigenvalue[-1]) - 30.0)
    # z < trace/g, so for g >= 2 trace/least both 1 - z/P and 1 - z/N exceed 1/2. Then (P - z) g (1 - z/N) > P g/4,
    # which exceeds the ridge once g >= 4 ridge/P.
    high = np.log(2 * spectrum.trace / least + 4 * ridge / p) + 1.0
    g = np.exp(find_root(beyond, (low, high), args=(n, p, ridge, least)).x)
    # With min(N, P) >= modes and no ridge the root is g = 0, outside the bracket: already at `low`, z is within 1e-13
    # (relative) of the number of modes.
    return np.where((ridge == 0) & (least >= spectrum.modes * (1.0 - 1e-12)), 0.0, g)


def _losses_at(spectrum: Spectrum, n, p, noise: float, g, z):
    """(test, train) at g and z(g), with q of `degrees`; the test loss is infinite where its denominator is 0.

    The denominator in arXiv 2210.16859, 1 - (q (N - 2z) + z^2)/(P (N - q)), is here 1/P times
    (P - z) + (z - q)(1 - z/N)/(1 - q/N), which has no cancellation: exactly 0 at N = P without a ridge.
    """
    q, (unlearned, slope) = np.minimum(degrees(spectrum, g)[1], z), _unlearned(spectrum, g)
    with np.errstate(divide="ignore", invalid="ignore"):
        free = np.where(z < n, (1.0 - z / n) / (1.0 - q / n), 0.0)
        share = 1.0 - z / p
        variance = share + (z - q) * free / p
        error = unlearned - g * slope * free + noise
        # 0/0 arises with as many samples as modes, and more features, which learn everything: the loss is 0.
        test = np.where(variance > 0, error / variance, np.where((error == 0) & (n != p), 0.0, np.inf))
        # Generalised cross-validation: train = (1 - z/P)^2 test.
        return test, np.where(share > 0, np.square(share) * test, 0.0)


def _at(spectrum: Spectrum, n, p, ridge, noise: float, g) -> Losses:
    # Without a ridge z is known exactly. Summed over the modes, it would give 1 - z/N or 1 - z/P = 1e-16 instead of 0.
    z = np.where(ridge == 0, np.minimum(np.minimum(n, p), spectrum.modes), degrees(spectrum, g)[0])
    test, train = _losses_at(spectrum, n, p, noise, g, z)
    share = z / p  # test - train would round to 0 where the gap is 1e-16 of the losses
    return Losses(test, train, test * share * (2.0 - share), z, np.asarray(ridge, float))


def _best(spectrum: Spectrum, n, p, noise: float) -> Losses:
    """Searches for the best ridge over g: each g has one ridge (see `_solve`), so that no root is needed."""

    def test(x):
        z = degrees(spectrum, np.exp(x))[0]
        return np.where(z < np.minimum(n, p), _losses_at(spectrum, n, p, noise, np.exp(x), z)[0], np.inf)

    lowest = _solve(spectrum, n, p, np.zeros_like(n))
    low = np.log(np.maximum(lowest, spectrum.eigenvalue[-1] * 1e-6))
    high = np.full_like(low, np.log(10 * spectrum.trace))
    g = np.exp(argmin(test, low, high, _RIDGES_TRIED))
    z = degrees(spectrum, g)[0]
    best = _at(spectrum, n, p, (p - z) * g * (1.0 - z / n), noise, g)
    # Without noise, and with features and samples for every mode, no ridge is best: g = 0, below all that are searched.
    ridgeless = _at(spectrum, n, p, np.zeros_like(n), noise, lowest)
    pairs = zip(ridgeless, best, strict=True)
    return Losses(*(np.where(ridgeless.test <= best.test, without, ridged) for without, ridged in pairs))


def experiment(
    spectrum: Spectrum, N: int, P: int, ridge: float, noise: float, draws: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "draws"], Float[np.ndarray, "draws"]]:
    """(test, train) losses of `draws` experiments, each with fresh features, samples and signs of the task.

    The test loss is exact given the student. The memory is 8 M max(N, P) bytes.

    Args:
        spectrum: as `every_mode` makes it.
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
    """The losses of every pair of sizes, and experiments beside them if asked for.

    Args:
        ridge: the ridge of all rows; each row's best if None.
        draws: experiments per row; each takes about 4 M N P floating-point operations and memory for (N + P) M numbers.

    Returns:
        table: N features, D = P samples, read once, losses and gap of the theory; `degrees`, `ridge`, `apart` (the
            larger of N/P and P/N), and with draws `simulated_test`, `simulated_train` and their standard errors.
        truth: what is known of L = E + A/N^alpha + B/D^beta in rows where one of N and P is far larger than the other.

    Raises:
        InputError: exponents of 1 or less, fewer than 2 modes, a size below 1, one draw, experiments on more than 10^5
            modes, or a number out of its range.
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
    """The known constants of L = E + A/N^alpha + B/D^beta.

    N features leave a loss ~ N^-min(a-1, b). Without noise, at the best ridge or none, D samples leave a loss ~ D^-s,
    s = min(a-1, 2b). With noise, the best ridge balances this bias, z^-s, and a variance z/D: D^(-s/(s+1)) is left. Two
    cases have no beta here: a fixed ridge is not the best one of many samples, and without a ridge noise does not
    vanish at N >> D.
    """
    s = min(a - 1.0, 2.0 * b)
    known = {"E": noise, "alpha": min(a - 1.0, b)}
    if ridge is None:
        return known | {"beta": s / (s + 1.0) if noise else s}
    return known | {"beta": s} if ridge == 0 and not noise else {"alpha": known["alpha"]}
