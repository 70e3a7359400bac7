"""Trained networks beside the bound of Jeon and Van Roy: what width and data gain for a student of a known teacher.

A student of width n, f(x) = sum_i v_i relu(w_i.x)/sqrt(n), learns from T fresh samples of a teacher
(`harness.theory.teacher`) in one pass of Adam whose rate falls to zero. Its excess log-loss is computed exactly at
every input, as KL(teacher's Bernoulli || student's): after training on held-out inputs, and during training on each
sample before it is learned from. The average of the latter over the stream is L_T, which the theorem bounds.

Regime: the bound is about the best learner, which a trained student is not. Where a student's loss is below the bound,
the bound also holds for what can be trained. Where the bound exceeds the loss of always guessing 1/2 (`guessing`), it
says nothing: that is so on the whole default grid (K = 100), but not at K = 2, n >= 32 and T >= 16384.
`frontier_slope` is the slope over this range of widths and samples, not a limit. On the default grid T* grows as p*^2.1
(1.8 to 2.4), and as p*^1.7 at the optimum of the bound on this grid. A student's neurons are trained, not drawn, and do
better than K/n. At K = 2 width hardly matters.
"""

import math
import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Int, Key
from scipy.optimize import least_squares
from scipy.stats import t as student_t

from harness.fit.known_truth import Truth
from harness.theory import jeon_van_roy, teacher
from harness.theory.simulated_runs import check_settings, runs_like
from harness.theory.small_networks import Task, train_networks
from sweeps.errors import InputError

# Samples per step. At n = 32, T = 16384, K = 2 four times as many, or a quarter as many, gave a 10 % higher loss.
BATCH = 16
# Number of inputs on which the learning rate is chosen; the loss is reported on the same number of others.
HELD_OUT = 4096
# A step that training never reaches: held-out inputs are drawn as its batch.
NO_STEP = 2**32 - 1
# Range of the exponents in the fit of the frontier.
FLATTEST, STEEPEST = 0.01, 5.0


class Stream(NamedTuple):
    """A teacher and the random key of its samples."""

    key: Key[Array, "*streams"]
    teacher: teacher.Teacher


Batch = tuple[Float[Array, "samples d"], Float[Array, "samples"], Float[Array, "samples"]]


def student(params: dict[str, Array], x: Float[Array, "samples d"]) -> Float[Array, "samples"]:
    """Logits of the student with the weights w [d, n] and v [n]."""
    return jax.nn.relu(x @ params["w"]) @ params["v"] / math.sqrt(len(params["v"]))


def initial(key: Key[Array, ""], n: int, d: int) -> dict[str, Array]:
    """Initial weights: input weights as large as the teacher's, output weights 0, so that the first guess is 1/2."""
    return {"w": jax.random.normal(key, (d, n)) / math.sqrt(d), "v": jnp.zeros(n)}


def sample(stream: Stream, step: Int[Array, ""]) -> Batch:
    """A batch: inputs, labels, and the teacher's logits."""
    inputs, labels = jax.random.split(jax.random.fold_in(stream.key, step))
    x = jax.random.normal(inputs, (BATCH, stream.teacher.atoms.shape[-1]))
    truth = teacher.teacher_logits(stream.teacher, x)
    return x, jax.random.bernoulli(labels, jax.nn.sigmoid(truth)).astype(x.dtype), truth


def loss(params: dict[str, Array], batch: Batch) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean log-loss of the labels, and the exact mean excess over the teacher's."""
    x, label, truth = batch
    logits = student(params, x)
    return jnp.mean(jax.nn.softplus(logits) - label * logits), jnp.mean(teacher.bernoulli_kl(truth, logits))


TASK = Task(loss, sample)


class StudentCell(NamedTuple):
    """Students of one width on one number of samples, one per teacher.

    Attributes:
        loss: final excess, on test inputs, at the learning rate that is best for the cell.
        stream: average excess of the same students over the stream.
        rate: the learning rate chosen for the cell.
    """

    loss: Float[np.ndarray, "teachers"]
    stream: Float[np.ndarray, "teachers"]
    rate: float


def train_cell(streams: Stream, n: int, T: int, rates: Sequence[float], key: Key[Array, ""]) -> StudentCell:
    """Train a student for each teacher and learning rate.

    One learning rate is chosen for the cell, by the mean over teachers on the validation inputs. A run that stopped at
    a loss or gradient that was not finite is judged by its last parameters.
    """
    count, d = len(streams.key), streams.teacher.atoms.shape[-1]
    keys = jax.random.split(key, (count, 1))
    first = jax.vmap(jax.vmap(lambda key: initial(key, n, d)))(keys)
    # The students of a teacher start alike: only their learning rates differ.
    params = jax.tree.map(lambda leaf: jnp.repeat(leaf, len(rates), axis=1), first)
    peak = jnp.broadcast_to(jnp.asarray(rates, jnp.float32), (count, len(rates)))
    state, stream = train_networks(TASK, params, streams, peak, T // BATCH)
    validation, test = (np.asarray(side, float) for side in _held_out(streams, state.params))
    best = int(np.argmin(validation.mean(axis=0)))
    return StudentCell(test[:, best], np.asarray(stream, float)[:, best], float(rates[best]))


@jax.jit
def _held_out(streams: Stream, params) -> Float[Array, "sides teachers runs"]:
    """Excess of every student on validation and on test inputs."""

    def of_stream(pair):
        stream, runs = pair
        x = jax.random.normal(jax.random.fold_in(stream.key, NO_STEP), (2, HELD_OUT, stream.teacher.atoms.shape[-1]))
        truth = jax.vmap(lambda side: teacher.teacher_logits(stream.teacher, side))(x)
        logits = jax.vmap(lambda run: jax.vmap(lambda side: student(run, side))(x))(runs)
        return jnp.moveaxis(teacher.bernoulli_kl(truth, logits).mean(axis=-1), 1, 0)

    # One teacher after another: the activations of one teacher's 1851 neurons on these inputs (K = 100) take 60 MB.
    return jnp.moveaxis(jax.lax.map(of_stream, (streams, params)), 1, 0)


def simulate_students(
    widths: Sequence[int] = (4, 8, 16, 32, 64, 128, 256),
    samples: Sequence[int] = (1024, 4096, 16384, 65536, 262144),
    *,
    teachers: int = 8,
    d: int = 10,
    K: float = 100.0,
    rates: Sequence[float] = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3),
    seed: int = 0,
) -> tuple[pd.DataFrame, Truth]:
    """Students of every width on every number of samples, all with the same teachers.

    Args:
        samples: values of T, multiples of the 16 samples of a step.
        rates: learning rates, of which the best is chosen for each width and T.

    Returns:
        table: one row per student; `seed` is its teacher's number. N = d n, D = T, flops = d n T; the loss is its final
            excess, nats per sample; n, T; `stream_loss`, the average excess over the stream; `bound`, which holds for
            the means over teachers; `guessing`, the loss of the student that always says 1/2; `lr`.
        truth: that the excess has no floor. The slope of the frontier is not known; `frontier_slope` measures it.

    Raises:
        InputError: no width, teacher or learning rate, or a T that is not a multiple of 16.
    """
    name = "simulate students"
    jeon_van_roy.check_teacher(name, d, K, most=1e4)  # the teacher has about 18 K neurons, 180,000 at K = 10^4
    for option, values in (("--widths", widths), ("--samples", samples), ("rates", rates)):
        usable = len(set(values)) == len(values) > 0 and min(values) > 0
        check_settings(name, (option, list(values), usable, "at least one, all positive and different"))
    whole = all(T % BATCH == 0 for T in samples)
    check_settings(
        name,
        ("--samples", list(samples), whole, f"multiples of {BATCH}, the samples of a step"),
        ("--teachers", teachers, teachers >= 1, "at least one"),
    )
    began = time.perf_counter()
    teacher_key, data, start = jax.random.split(jax.random.key(seed), 3)
    networks = jax.jit(jax.vmap(lambda key: teacher.draw_teacher(key, d, K)))(jax.random.split(teacher_key, teachers))
    streams = Stream(jax.random.split(data, teachers), networks)
    nothing = {"w": jnp.zeros((teachers, 1, d, 1)), "v": jnp.zeros((teachers, 1, 1))}
    guessing = np.asarray(_held_out(streams, nothing), float)[1, :, 0]
    rows = []
    for n in widths:
        for T in samples:
            cell = train_cell(streams, n, T, rates, jax.random.fold_in(start, n))
            bound = float(jeon_van_roy.bound(n, T, d, K))
            rows += [
                {"n": n, "T": T, "seed": index, "loss": loss, "stream_loss": stream, "guessing": guess}
                | {"bound": bound, "lr": cell.rate}
                for index, (loss, stream, guess) in enumerate(zip(cell.loss, cell.stream, guessing, strict=True))
            ]
    columns = {name: np.asarray([row[name] for row in rows]) for name in rows[0]}
    n, T = columns["n"], columns["T"]
    table = runs_like("students", d * n, T, flops=d * n * T, batch_tokens=float(BATCH), **columns)
    settings = {"widths": " ".join(map(str, widths)), "samples": " ".join(map(str, samples))}
    settings |= {"rates": " ".join(f"{rate:g}" for rate in rates), "teachers": teachers, "d": d, "K": K, "seed": seed}
    return table, Truth(
        oracle="students",
        regime="Networks trained in one pass, not the best learners of which the bound speaks. The excess falls to "
        "zero as width and samples grow together, so that E = 0; its exponents depend on the range of either.",
        law="chinchilla",
        parameters={"E": 0.0},
        settings=settings,
        cost=f"{time.perf_counter() - began:.0f} s on {jax.default_backend()}",
    )


def cell_means(table: pd.DataFrame) -> pd.DataFrame:
    """Means over teachers, one row for each n and T.

    Returns:
        columns: n, T, loss, loss_se, stream_loss, stream_loss_se (standard errors over teachers), guessing, bound, lr,
        violated: whether either mean exceeds the bound.
    """
    losses = {"loss": "val_loss_final100", "stream_loss": "stream_loss"}
    means = losses | {name: name for name in ("guessing", "bound", "lr")}
    aggregates = {name: (column, "mean") for name, column in means.items()}
    aggregates |= {f"{name}_se": (column, "sem") for name, column in losses.items()}
    means_by_cell = table.groupby(["n", "T"]).agg(**aggregates).reset_index()
    means_by_cell["violated"] = means_by_cell[list(losses)].max(axis=1) > means_by_cell["bound"]
    return means_by_cell


class StudentFrontier(NamedTuple):
    """The best split of compute by the trained students: L = A n^-a + B T^-b, so that T* grows as n*^(a/b).

    Attributes:
        slope: d ln T*/d ln p*, a/b.
        low, high: 95 % interval of the slope, by resampling teachers; 0 and infinity where an exponent ends at a limit,
            0.01 or 5, because width or samples hardly matter on this grid.
        residual: root mean square of the fit's error in ln L.
    """

    slope: float
    low: float
    high: float
    residual: float


def frontier_slope(table: pd.DataFrame, *, draws: int = 200, seed: int = 0) -> StudentFrontier:
    """The slope of the frontier by a fit, in logs, to the means over teachers of a table of `simulate_students`.

    Raises InputError for fewer than three widths, numbers of samples or teachers.
    """
    by = table.pivot(index=["n", "T"], columns="seed", values="val_loss_final100")
    n, T = (by.index.get_level_values(name).to_numpy(float) for name in ("n", "T"))
    for name, values in (("widths", n), ("samples", T), ("teachers", by.columns)):
        if len(np.unique(values)) < 3:
            raise InputError("simulate students", name, len(np.unique(values)), "at least three for a frontier")
    x, y = np.log(n), np.log(T)
    x, y = x - x.mean(), y - y.mean()
    losses = by.to_numpy(float)

    def fitted(mean: Float[np.ndarray, "cells"], start: Float[np.ndarray, "4"]):
        def error(p: Float[np.ndarray, "4"]) -> Float[np.ndarray, "cells"]:
            return np.logaddexp(p[0] - p[1] * x, p[2] - p[3] * y) - np.log(mean)

        return least_squares(error, start, bounds=([-np.inf, FLATTEST] * 2, [np.inf, STEEPEST] * 2))

    level = float(np.log(losses.mean())) - 1.0
    best = fitted(losses.mean(axis=1), np.array([level, 0.7, level, 0.7]))
    rng = np.random.default_rng(seed)
    a, b = float(best.x[1]), float(best.x[3])
    teachers = losses.shape[1]
    logs = []
    for _ in range(draws):
        p = fitted(losses[:, rng.integers(0, teachers, teachers)].mean(axis=1), best.x).x
        logs.append(math.log(p[1] / p[3]))
    # The mean of m resampled teachers has (m-1)/m of the true variance; with m = 8 the plain quantiles covered 85 %.
    half = student_t.ppf(0.975, teachers - 1) * np.std(logs) * math.sqrt(teachers / (teachers - 1))
    if max(a, b) > 0.99 * STEEPEST or min(a, b) < 1.01 * FLATTEST:
        half = math.inf
    residual = float(np.sqrt(np.mean(best.fun**2)))
    return StudentFrontier(a / b, a / b * math.exp(-half), a / b * math.exp(half), residual)
