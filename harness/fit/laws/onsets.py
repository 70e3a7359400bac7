"""Abilities that appear at a scale: passing against size, onsets at a value of any variable, accuracy against loss."""

import jax
import jax.numpy as jnp

from harness.fit.laws.law import Combination, Parameter, law


@law(
    "PU = exp(-c N^-alpha) = exp(-(N_c/N)^alpha)",
    response="PU",
    parameters=(
        Parameter("N_c", "log", 1e-6, 1e30, (1.0, 1e3, 1e6, 1e8, 1e10, 1e12)),
        Parameter("alpha", "log", 1e-3, 10.0, (0.1, 0.3, 1.0)),
    ),
    source="Hu et al. 2023 (arXiv 2310.03262); form from memory, no constants published that could be checked",
    objective="log_squares",
    combinations=(Combination("log c", lambda p: p["alpha"] * jnp.log(p["N_c"])),),
)
def pass_until(N, *, N_c, alpha):
    """Probability that a sampled answer passes, in model size: PU = exp(-c N^-alpha), written with c = N_c^alpha.

    Hu et al. (arXiv 2310.03262): sampling until r answers pass measures probabilities far below one in a hundred, and
    ln(-ln PU) is then a straight line in ln N: ln c - alpha ln N. N: parameters; PU: in (0, 1], from
    `harness.fit.quantities.pass_rates`. The fit is least squares on ln PU, whose error is the same at every N, about
    1/sqrt(r).

    N_c is the size at which PU is 1/e. Unlike c it can be searched for in raw counts: c and alpha would be correlated
    to .99 and more, and a probability cannot be centred.
    """
    return jnp.exp(-jnp.exp(alpha * (jnp.log(N_c) - N.log)))


@law(
    "PU = exp(-exp(s - q s^2)), s = alpha ln(N_c/N)",
    like=pass_until,
    parameters=(*pass_until.parameters, Parameter("q", "identity", -2.0, 2.0, (0.0,))),
    source="ours: a test of the straight line of `pass_until` (the definition of emergence in arXiv 2310.03262)",
    combinations=(),
)
def pass_until_bent(N, *, N_c, alpha, q):
    """`pass_until` with a bend: ln(-ln PU) = s - q s^2 with s = alpha ln(N_c/N), no longer a straight line in ln N.

    Hu et al. (arXiv 2310.03262) call an ability emergent if its curve accelerates against the straight line, which is a
    q above zero whose interval excludes zero.
    """
    s = alpha * (jnp.log(N_c) - N.log)
    return jnp.exp(-jnp.exp(s - q * s**2))


# Starts of x_c in units of the geometric mean of x. A start above the smallest x has no finite loss and ends at once.
ONSETS = (-1.0, 0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)


def _above(x, x_c):
    """The distance from the onset, or 1 for rows at or below it, and which rows lie above it."""
    distance = x - x_c
    return jnp.where(distance > 0.0, distance, 1.0), distance > 0.0


@law(
    "y = A exp(-c/(x - x_c)^(1/2)) above x_c, 0 below",
    response="y",
    parameters=(
        Parameter("A", "log", 1e-8, 1e12, (1.0,), unit="y"),
        Parameter("c", "log", 1e-6, 1e3, (0.1, 0.5, 2.0), unit="x^0.5"),
        Parameter("x_c", "identity", -10.0, 1.0, ONSETS, unit="x"),
    ),
    source="form: abstract of the source's physics paper on a transition with an essential singularity; no constants",
    objective="log_squares",
    linear=("A",),
    alternatives=("power_onset",),
)
def essential_singularity(x, *, A, c, x_c):
    """An onset slower than any power of x - x_c: y = A exp(-c/(x - x_c)^(1/2)) above x_c, 0 below.

    The abstract of a physics paper listed among the sources gives this form for an order parameter; here it is a
    candidate for abilities that appear at a scale, beside `power_onset`. x is any positive variable, y a response above
    zero.

    The fit is on log y, and a prediction of 0 has no log, so the fitted x_c stays below every row. Rows
    with y = 0 cannot be used (and are dropped with a warning); such a row shows only that x_c is not below its x. The
    published way is equivalent: (ln A/y)^-2 is a straight line in x, with its root at x_c.
    """
    distance, beyond = _above(x, x_c)
    return jnp.where(beyond, A * jnp.exp(-c / jnp.sqrt(distance)), 0.0)


@law(
    "y = A (x - x_c)^beta above x_c, 0 below",
    response="y",
    parameters=(
        Parameter("A", "log", 1e-12, 1e12, (1.0,), unit="y x^-beta"),
        Parameter("beta", "log", 0.01, 30.0, (0.3, 1.0, 3.0)),
        Parameter("x_c", "identity", -10.0, 1.0, ONSETS, unit="x"),
    ),
    source="the usual form of a continuous transition; the rival of `essential_singularity`",
    objective="log_squares",
    linear=("A",),
)
def power_onset(x, *, A, beta, x_c):
    """An onset with a power of the distance, y = A (x - x_c)^beta: the rival of `essential_singularity`.

    x is any positive variable, y a response above zero, fitted on logs. `essential_singularity` says what rows with
    y = 0 mean.
    """
    distance, beyond = _above(x, x_c)
    return jnp.where(beyond, A * jnp.exp(beta * jnp.log(distance)), 0.0)


@law(
    "acc = b + a/(1 + exp(k (L - L_half)))",
    response="acc",
    parameters=(
        Parameter("a", "log", 1e-3, 1e3, (1.0,), unit="acc", term=True),
        Parameter("L_half", "log", 1e-2, 1e2, (0.6, 0.8, 1.0, 1.2), unit="L"),
        Parameter("k", "log", 1e-2, 1e3, (3.0, 10.0, 30.0), unit="L^-1"),
        Parameter("b", "identity", 0.0, 10.0, (0.3,), unit="acc", term=True),
    ),
    signed=("acc",),
    objective="squares",
    source="Bhagia et al. 2024 (arXiv 2412.04403), step two; form as in the code of OLMo, where k and a change sign",
)
def accuracy(L, *, a, L_half, k, b):
    """Accuracy in a task as a sigmoid of the loss on it: the second of two steps from size to accuracy.

    Bhagia et al. (arXiv 2412.04403). The first step is a law of the loss L in N and D, such as `chinchilla`, fitted to
    the same runs. `isogap predict ACCURACY.json --through LOSS.json --at N=..,D=..` goes both steps and carries both
    errors. L: any loss, in nats or bits; acc: a share, from 0 to 1. b is the accuracy of a poor model (of guessing,
    which `--fix b=0.25` holds where it is known), b + a that of a perfect one, L_half the loss at which half of the
    rise is done. The fit is least squares on the accuracy itself.
    """
    return b + a * jax.nn.sigmoid(-k * (L.values - L_half))
