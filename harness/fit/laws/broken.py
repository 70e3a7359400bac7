"""Curves of any metric y, lower is better, over any positive variable x whose slope in logs changes on the way."""

import jax
import jax.numpy as jnp

from harness.fit.laws.law import Combination, Parameter, PositiveColumn, coefficient, law

# The least value of y.
_FLOOR = Parameter("E", "log", 1e-8, 1.5, (0.5,), unit="y", term=True)


def _break(place: int, starts: tuple[float, ...]) -> tuple[Parameter, ...]:
    """The constants of a break: the change of slope, its place and its width in log x."""
    return (
        Parameter(f"c_{place}", "identity", -4.0, 4.0, (-0.4, 0.3, 1.0)),
        Parameter(f"d_{place}", "log", 1e-4, 1e4, starts, unit="x"),
        Parameter(f"f_{place}", "log", 0.01, 10.0, (0.1, 0.5)),
    )


def _bent(x: PositiveColumn, c, d, f):
    """The log of (1 + (x/d)^(1/f))^(-c f)."""
    return -c * f * jax.nn.softplus((x.log - jnp.log(d)) / f)


@law(
    "y = E + b x^-c_0 (1 + (x/d_1)^(1/f_1))^(-c_1 f_1)",
    response="y",
    parameters=(
        _FLOOR,
        coefficient("b", "y x^c_0"),
        Parameter("c_0", "identity", -2.0, 4.0, (0.0, 0.2, 0.6)),
        *_break(1, (0.2, 1.0, 5.0)),
    ),
    source="Caballero et al. 2023 (arXiv 2210.14891); form as in the authors' code, where E is called a",
    shapes=("f_1",),
)
def broken(x, *, E, b, c_0, c_1, d_1, f_1):
    """A power law with one smooth break: slope -c_0 well below x = d_1 and -(c_0 + c_1) well above it.

    Caballero et al. (arXiv 2210.14891), a broken neural scaling law. x is parameters, tokens, compute, steps or any
    other positive variable (`--set x=flops`), y a loss or an error above zero. f_1 is the width of the break in log x;
    for f_1 to 0 it is a kink. With c_0 or c_1 below zero the curve may rise, as it does in double descent. A break that
    lies beyond the rows leaves no trace in them, so that it cannot be found by extrapolation.
    """
    return E + b * jnp.exp(-c_0 * x.log + _bent(x, c_1, d_1, f_1))


@law(
    "y = E + b x^-c_0 (1 + (x/d_1)^(1/f_1))^(-c_1 f_1) (1 + (x/d_2)^(1/f_2))^(-c_2 f_2)",
    like=broken,
    parameters=(*broken.parameters[:3], *_break(1, (0.1, 0.5)), *_break(2, (2.0, 10.0))),
    shapes=("f_1", "f_2"),
    alternatives=("broken",),
)
def broken_twice(x, *, E, b, c_0, c_1, d_1, f_1, c_2, d_2, f_2):
    """A power law with two smooth breaks: `broken` with a second one at x = d_2, where the slope changes by -c_2."""
    return E + b * jnp.exp(-c_0 * x.log + _bent(x, c_1, d_1, f_1) + _bent(x, c_2, d_2, f_2))


# Newton steps in `m4`. The function is increasing and close to two straight lines; started on the nearer one, 8 steps
# leave an error below 1e-13 for a from 0.05 to 20 (`tests/harness/fit/laws/test_broken.py`).
_STEPS = 8


@law(
    "(y - E)/(y_0 - y)^a = b x^-c, y_0 = E + span",
    response="y",
    parameters=(
        _FLOOR,
        Parameter("span", "log", 1e-3, 100.0, (0.5, 2.0, 8.0), unit="y"),
        Parameter("a", "log", 0.05, 20.0, (0.3, 1.0, 3.0)),
        Parameter("b", "log", 1e-8, 1e8, (0.1, 1.0), unit="y y^-a x^c"),
        Parameter("c", "identity", 0.0, 4.0, (0.2, 0.5, 1.0)),
    ),
    linear=("E",),
    source="Alabdulmohsin et al. 2022 (arXiv 2209.06640), estimator M4; form as in the authors' code",
    combinations=(Combination("log y_0 = log(E + span)", lambda p: jnp.log(p["E"] + p["span"])),),
)
def m4(x, *, E, span, a, b, c):
    """A power law that levels off at both ends: at y_0 for small x, where nothing is learned yet, and at E for large x.

    Alabdulmohsin et al. (arXiv 2209.06640), estimator M4. For large x, y - E falls as x^-c. In the authors' symbols a
    is alpha, b beta, c is -c, E and y_0 are eps_inf and eps_0. y_0 is what guessing gives, such as 1 - 1/K for the
    error among K classes. x is any positive variable, y a loss or an error above zero.
    """
    # With y - E = span s(v) and y_0 - y = span s(-v), s the logistic function, v solves
    # a softplus(v) - softplus(-v) = log(b x^-c) + (a - 1) log span. The steps up to the last one are not derived, which
    # the compiler takes 20 s for: Newton's step from the solution has its first derivatives.
    q = jnp.log(b) - c * x.log + (a - 1.0) * jnp.log(span)
    held_q, held_a = jax.lax.stop_gradient((q, jnp.asarray(a)))
    start = jnp.where(held_q < 0.0, held_q, held_q / held_a)
    v = jax.lax.fori_loop(0, _STEPS, lambda _, v: v - _surplus(v, held_a, held_q) / _slope(v, held_a), start)
    return E + span * jax.nn.sigmoid(v - _surplus(v, a, q) / _slope(v, held_a))


def _surplus(v, a, q):
    return a * jax.nn.softplus(v) - jax.nn.softplus(-v) - q


def _slope(v, a):
    return a * jax.nn.sigmoid(v) + jax.nn.sigmoid(-v)
