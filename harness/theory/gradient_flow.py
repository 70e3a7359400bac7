"""Random features by gradient flow, on the same samples again and again or on fresh ones: Bordelon et al. 2024 (arXiv
2402.01092).

The data have the variances lambda_i = i^-b; the targets w* . x have the power (w*_i)^2 lambda_i = i^-a (the signs of w*
are drawn) and label noise. Students of N random features (`harness.theory.resolvent`) start from 0. The loss is the
squared error with the noise, without a unit. Time t counts steps of full-batch descent on half that loss, times their
learning rate (at most ~1).

Regime: `reused_and_fresh` is exact at every t for each draw of features, samples and labels: one decomposition, without
stepping; its risks are those of the population, not estimates. M modes are drawn one by one. Those beyond M act as
noise of the labels and of every feature: losses are within 1 % of those with infinitely many modes (M = 500, N to M/2).

At N or P -> infinity (`resolvent.excess`, `random_features.losses` without a ridge) and large t, L ~ t^(-(a-1)/b),
N^-min(a-1, b) (the floor of arXiv 2405.15074) and P^-min(a-1, 2b), where each of them is the bottleneck. At compute
C = N t the optimum is N* ~ C^(1/(1+b)) with L* ~ C^(-(a-1)/(1+b)) where a - 1 < b. All of these are met to 1.5 % by
N or P = 10^4, t = 10^2, C = 10^4. Where N and t both matter, L(N, t) bends more sharply than a sum of two powers: a
fit of `chinchilla` finds twice the true exponent of t, a fit of `kaplan_floor` comes within 8 % of both. No closed
curve is known for finite N, P and t together: it is simulated.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.special import zeta

from harness.fit.known_truth import Truth
from harness.theory import resolvent
from harness.theory.minimum import Envelope, envelope
from harness.theory.simulated_runs import check_settings, runs_like
from harness.theory.spectrum import Spectrum

# Independent teachers, each with its own label noise, for each draw of features and samples. They share one
# decomposition, which is the expensive part.
TEACHERS = 8


@dataclass(frozen=True)
class FlowWorld:
    """The data and the targets that the students learn.

    Attributes:
        a, b: exponents of the task's power and of the data's variance, both above 1.
        modes: M; losses are those of infinitely many modes for N up to M/2.
        noise: variance of the label noise.
    """

    a: float = 1.5
    b: float = 1.25
    modes: int = 600
    noise: float = 0.0

    @property
    def unlearned(self) -> float:
        """The loss that no student removes: the noise's variance plus the power of the modes beyond M."""
        return self.noise + float(zeta(self.a, self.modes + 1))


@dataclass(frozen=True)
class FlowLosses:
    """Losses at the times asked for; each draw is the mean over TEACHERS teachers.

    Attributes:
        test: population loss.
        train: loss on the P samples at hand.
        gap: test - train; for reused samples, less the same difference of their twin (see `reused_and_fresh`).
        raw_gap: test - train.
    """

    test: Float[np.ndarray, "draws times"]
    train: Float[np.ndarray, "draws times"]
    gap: Float[np.ndarray, "draws times"]
    raw_gap: Float[np.ndarray, "draws times"]


def mean_and_error(values: Float[np.ndarray, "draws times"]) -> tuple[Float[np.ndarray, "times"], ...]:
    """The mean over draws, at least two, and its standard error."""
    return values.mean(axis=0), values.std(axis=0, ddof=1) / math.sqrt(len(values))


def _features(world: FlowWorld, N: int, rng: np.random.Generator) -> Float[np.ndarray, "N K"]:
    """The matrix of features, A Lambda^(1/2), over K = M + N modes.

    Each feature has one more mode of its own, for its sum over the modes beyond M: these sums differ between features
    as if drawn anew. At b = 1.25 and M = 2000 they are still 13 % of a feature's variance; without them a fit of losses
    at N = 16..256 gave alpha .54 instead of .46.
    """
    half = np.arange(1.0, world.modes + 1) ** (-world.b / 2)
    sums = math.sqrt(float(zeta(world.b, world.modes + 1)) / N) * np.eye(N)
    return np.hstack([rng.standard_normal((N, world.modes)) / math.sqrt(N) * half, sums])


def _teachers(world: FlowWorld, K: int, rng: np.random.Generator) -> Float[np.ndarray, "K labels"]:
    """Lambda^(1/2) w* of each teacher, zero in the modes that stand for those beyond M."""
    power = np.zeros(K)
    power[: world.modes] = np.arange(1.0, world.modes + 1) ** (-world.a / 2)
    return power[:, None] * rng.choice([-1.0, 1.0], (K, TEACHERS))


def _samples(world: FlowWorld, P: int, K: int, rng: np.random.Generator):
    """White inputs (P x K), and the noise of each teacher's labels (P x labels)."""
    return rng.standard_normal((P, K)), math.sqrt(world.unlearned) * rng.standard_normal((P, TEACHERS))


def reused_and_fresh(
    world: FlowWorld, N: int, P: int, t: Float[np.ndarray, "times"], draws: int = 8, seed: int = 0
) -> tuple[FlowLosses, FlowLosses]:
    """The flow on P reused samples, by one SVD of their features (P x N) per draw, and its twin on fresh samples.

    Ever fresh samples give the flow of the population loss (P = infinity), whose true gap is 0. The twin has the same
    features and has not seen the P samples. Its `train` is the loss on them, so that its gap is the luck of these
    samples; it is subtracted from the gap of the reused samples, as a control variate. At N, P = 200, 800 this leaves a
    tenth of the standard error at t = 1, a quarter at t = 10 and all of it at t = 1000. Subtracting the gap of the
    initial model instead would raise the error 2, 9 and 10 times.
    """
    rng, curves = np.random.default_rng(seed), []
    for _ in range(draws):
        features = _features(world, N, rng)
        teachers = _teachers(world, features.shape[1], rng)
        inputs, noise = _samples(world, P, features.shape[1], rng)
        labels = inputs @ teachers + noise
        left, size, right = np.linalg.svd(inputs @ features.T, full_matrices=False)
        along, rate = left.T @ labels, size**2 / P
        unreached = np.sum((labels - left @ along) ** 2, axis=0)
        train = (unreached + np.exp(-2 * t[:, None] * rate) @ along**2) / P
        # Along a direction without data (size 0) nothing is learned, so that the floor of the divisor has no effect.
        learned = -np.expm1(-t[:, None] * rate) / np.maximum(size, 1e-150)
        reach = features.T @ right.T
        errors = (teachers - reach @ (weight[:, None] * along) for weight in learned)
        test = [world.unlearned + np.sum(error**2, axis=0) for error in errors]
        twin = _fresh_errors(features, teachers, t)
        products = (inputs @ np.concatenate(list(twin), axis=1)).reshape(len(inputs), len(twin), -1)
        twin_train = np.mean((products + noise[:, None]) ** 2, axis=0)
        curves.append((test, train, world.unlearned + np.sum(twin**2, axis=1), twin_train))
    test, train, twin_test, twin_train = (np.mean(values, axis=2) for values in zip(*curves, strict=True))
    raw, luck = test - train, twin_test - twin_train
    return FlowLosses(test, train, raw - luck, raw), FlowLosses(twin_test, twin_train, luck, luck)


def _fresh_errors(
    features: Float[np.ndarray, "N K"], teachers: Float[np.ndarray, "K labels"], t: Float[np.ndarray, "times"]
) -> Float[np.ndarray, "times K labels"]:
    """The error Lambda^(1/2) (w* - A^T w) of each teacher's student under the flow of the population loss."""
    rate, basis = np.linalg.eigh(features @ features.T)
    reach = features.T @ basis
    along = reach.T @ teachers
    learned = -np.expm1(-t[:, None] * rate) / rate
    return teachers - np.stack([reach @ (weight[:, None] * along) for weight in learned])


def ensemble(
    world: FlowWorld, N: int, models: int, t: Float[np.ndarray, "times"], draws: int = 8, seed: int = 0
) -> Float[np.ndarray, "draws times"]:
    """The loss of the mean prediction of several models of N features each, all trained on fresh samples."""
    rng, losses = np.random.default_rng(seed), []
    for _ in range(draws):
        teachers = _teachers(world, world.modes + N, rng)
        error = sum(_fresh_errors(_features(world, N, rng), teachers, t) for _ in range(models)) / models
        losses.append(world.unlearned + np.mean(np.sum(error**2, axis=1), axis=-1))
    return np.asarray(losses)


def compute_optimal(
    modes: Spectrum, sizes: Float[np.ndarray, "sizes"], compute: Float[np.ndarray, "compute"]
) -> Envelope:
    """The best N on fresh samples at C = N t, in the limit of large N, and its loss without noise."""
    losses = np.stack([resolvent.excess(modes, N, compute / N) for N in sizes])
    return envelope(sizes, compute, losses)


def simulate_gradient_flow(
    *,
    a: float = 1.5,
    b: float = 1.25,
    noise: float = 0.0,
    modes: int = 600,
    sizes: Sequence[int] = (16, 32, 64, 128, 256),
    samples: Sequence[int] = (400, 800, 1600),
    times: Sequence[float] = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0),
    draws: int = 6,
    seed: int = 0,
) -> tuple[pd.DataFrame, Truth]:
    """Students of every size on every number of samples, read at every time, on the same samples and on fresh ones.

    Args:
        modes: M, twice the largest of `sizes` or more.
        times: values of t, 1 or more; a step of full-batch descent at rate 1 is one unit.
        draws: number of draws of features and samples, over which losses and gaps are averaged.

    Returns:
        rows: N; data = "reused" (U = P distinct samples, epochs = t, D = P t) or "fresh" (D = U = P t, one epoch); P;
        t; flops = N D; loss; train_loss (of fresh rows: on P samples not seen); gap and its standard error gap_se;
        raw_gap, without control variate.
        truth: the constants of `kaplan_floor` for the loss of fresh rows (`where`) in N and t, t in the role of D.
        Settings that are not usable raise InputError.
    """
    started, name = time.perf_counter(), "simulate gradient_flow"
    fitting = bool(sizes) and min(sizes) >= 1 and 2 * max(sizes) <= modes
    check_settings(
        name,
        ("--a", a, 1 < a <= 10, "a number above 1, of 10 at most"),
        ("--b", b, 1 < b <= 10, "a number above 1, of 10 at most"),
        ("--noise", noise, 0 <= noise <= 1e6, "a variance from 0 to 1e6"),
        ("--sizes", list(sizes), fitting, f"whole numbers from 1 to half of the {modes} modes"),
        ("--samples", list(samples), min(samples, default=0) >= 2, "whole numbers of at least 2"),
        ("times", list(times), min(times, default=0.0) >= 1, "numbers of at least 1"),
        ("--draws", draws, draws >= 2, "at least 2"),
    )
    world, t, tables = FlowWorld(a, b, modes, noise), np.asarray(times, float), []
    for size in sizes:
        for count in samples:
            both = reused_and_fresh(world, size, count, t, draws, seed)
            for data, curves in zip(("reused", "fresh"), both, strict=True):
                gap, gap_se = mean_and_error(curves.gap)
                means = {"loss": curves.test.mean(axis=0), "train_loss": curves.train.mean(axis=0), "gap": gap}
                means |= {"N": size, "P": count, "t": t, "data": data, "gap_se": gap_se}
                tables.append(pd.DataFrame(means | {"raw_gap": curves.raw_gap.mean(axis=0)}))
    rows = pd.concat(tables, ignore_index=True)
    columns = {column: rows[column].to_numpy() for column in rows}
    N, D = columns.pop("N"), columns["P"] * columns["t"]
    epochs = np.where(columns["data"] == "reused", columns["t"], 1.0)
    table = runs_like("gradient_flow", N, D, epochs=epochs, flops=N * D, seed=seed, **columns)
    alpha, beta = min(a - 1, b), (a - 1) / b
    return table, Truth(
        oracle="gradient_flow",
        regime=(
            f"exact for each draw, {modes} modes drawn and the rest as noise, the mean of {draws} draws; gaps of fresh "
            "rows are 0, and measured on P samples. The exponents are of large N or t where it is the bottleneck; fits "
            "at N of 16 to 256 and t to 1000 find them within 8 %, those of a sum of powers (chinchilla) twice the beta"
        ),
        law="kaplan_floor",
        parameters={"E": noise, "alpha": alpha, "beta": beta, "beta/(alpha + beta)": beta / (alpha + beta)},
        settings={"a": a, "b": b, "noise": noise, "modes": modes, "draws": draws, "seed": seed},
        cost=f"{time.perf_counter() - started:.1f} s for {len(table)} rows",
        where="data == 'fresh'",
        roles={"D": "t"},
    )
