"""Time: how long a training step takes, and the loss (nats per token) that a time budget allows."""

import jax.numpy as jnp

from harness.fit.laws.law import Parameter, coefficient, floor, law


@law(
    "t = c0 + sum_i c[i] x[i]",
    response="t",
    vectors=("x",),
    parameters=(
        Parameter("c0", "log", 1e-12, 1e6, (1e-6,)),
        # In raw units (seconds per byte or per FLOP). The least-squares start replaces this one; 0.3 times this value
        # is only its lower limit.
        Parameter("c", "log", 1e-30, 1e6, (1e-22,), each="x"),
    ),
    source="form: abstract of arXiv 2406.18922 (linear in memory copies); which copies it counts could not be checked",
    objective="log_squares",
    linear=("c0", "c"),
)
def time_law(x, *, c0, c):
    """Time of a training step, linear in the memory that it copies.

    Inbar and Sernau (arXiv 2406.18922) predict step times by memory copies, not by FLOPs. t is seconds per step,
    without compilation; the vector role x holds what a step copies (bytes of parameters, of activations, of scores,
    ...): `--set x=parameter_bytes,activation_bytes`. With one column of FLOPs it is the rival law. Errors are relative.
    Constants are not negative, since a copy cannot take less than no time.
    """
    return c0 + jnp.sum(x * c, axis=-1)


ALPHA, BETA = 0.34, 0.28


@law(
    f"L = E + A/N^{ALPHA} + B/(T/t)^{BETA}",
    parameters=(floor(), coefficient("A", f"L N^{ALPHA}"), coefficient("B", f"L T^{BETA} t^-{BETA}")),
    source="arXiv 2406.18922; exponents: Hoffmann et al. 2022 (arXiv 2203.15556), rounded as published",
)
def time_loss(N, T, t, *, E, A, B):
    """Loss at a time budget: L = E + A/N^alpha + B/D^beta with D = T/t, exponents held fixed.

    Inbar and Sernau (arXiv 2406.18922) refit the three coefficients of Hoffmann's law with its exponents held, and take
    for D the tokens that a time allows. N parameters, T seconds of training, t seconds per token (a step's time, as
    `time_law` predicts it, over its tokens). A table with tokens instead of times has D = T and t = 1.
    """
    return E + A * N**-ALPHA + B * jnp.exp(-BETA * (T.log - t.log))
