"""Batch and steps: what a larger batch saves at one loss, and the critical batch beyond which it saves little."""

import jax
import jax.numpy as jnp

from harness.fit.laws.law import Combination, Parameter, Parameters, coefficient, law


@law(
    "step = a + b/B",
    response="step",
    parameters=(coefficient("a", "step", (0.5,)), coefficient("b", "step B", (0.5,))),
    source="Zhang et al. 2024 (arXiv 2410.21676); a free exponent of B gave them the same forecasts",
    objective="log_squares",
    combinations=(Combination("b/a", lambda p: p["b"] / p["a"]),),
)
def cbs_steps(B, *, a, b):
    """Steps to a target loss as a function of the batch, Zhang et al. 2024 (arXiv 2410.21676): one target, one model.

    Rows: `step` (steps to the target), `B` (batch, in sequences or tokens). The paper's critical batch is the smallest
    one whose tokens exceed by 20 % those of linear scaling from a batch B_opt: a + b/B = 1.2 (a + b/B_opt) B_opt/B
    gives

        B_crit = 1.2 B_opt + b/(5a),

    which `critical_batch` computes; the paper has B_opt = 256 sequences. b/a, the combination reported here, is the
    batch at which steps are twice their minimum and tokens twice theirs (B_crit of `es_tradeoff`).
    """
    return a + b / B


def critical_batch(parameters: Parameters, optimal_batch: float, overhead: float = 0.2) -> float:
    """The batch at which tokens to the target exceed those at `optimal_batch` by `overhead`, in the unit of B.

    Solves (a + b/B) B = (1 + overhead) (a + b/B_opt) B_opt for the constants of a fit of `cbs_steps`.
    """
    return (1.0 + overhead) * optimal_batch + overhead * parameters["b"] / parameters["a"]


@law(
    "(step/S_min - 1)(E/E_min - 1) = 1 with E = B step, which is step = S_min + E_min/B",
    like=cbs_steps,
    parameters=(coefficient("S_min", "step", (0.5,)), coefficient("E_min", "step B", (0.5,))),
    source="form: McCandlish et al. 2018 (arXiv 1812.06162), used by Kaplan et al. 2020 (arXiv 2001.08361)",
    combinations=(Combination("B_crit", lambda p: p["E_min"] / p["S_min"]),),
)
def es_tradeoff(B, *, S_min, E_min):
    """Steps against examples at one target loss, McCandlish et al. 2018: (S/S_min - 1)(E/E_min - 1) = 1.

    Rows: `step` (steps to the target), `B` (batch, in sequences or tokens); E = B S is counted in the unit of B. At a
    given batch the trade-off is S = S_min + E_min/B. A relative error of S is an equal one of E.
    B_crit = E_min/S_min. The same curve as `cbs_steps`, in the constants of Kaplan et al. 2020 (arXiv 2001.08361) and
    Bergsma et al. 2025 (arXiv 2505.13738, where E are tokens, D).
    """
    return S_min + E_min / B


NEWTON_STEPS = 8


@law(
    "L = (N_c/N)^alpha_N + (S_c (1 + B_crit/B)/step)^alpha_S, B_crit = B_star/L^(1/alpha_B)",
    parameters=(
        Parameter("N_c", "log", 1e-60, 1e60, (1e-4, 1e-1), unit="N L^1/alpha_N"),
        Parameter("alpha_N", "log", 0.005, 2.0, (0.05, 0.2)),
        Parameter("S_c", "log", 1e-30, 1e30, (1e-2, 1e-1), unit="step L^1/alpha_S"),
        Parameter("alpha_S", "log", 0.05, 4.0, (0.4, 1.0)),
        Parameter("B_star", "log", 1e-12, 1e12, (0.1, 3.0), unit="B L^1/alpha_B"),
        Parameter("alpha_B", "log", 0.02, 3.0, (0.1, 0.4)),
    ),
    source="form: Su et al. 2024 (arXiv 2403.06563) after Kaplan et al. 2020 (arXiv 2001.08361); constants from memory",
)
def openai_sb(N, step, B, *, N_c, alpha_N, S_c, alpha_S, B_star, alpha_B):
    """Loss by size, steps and batch, as Su et al. 2024 (arXiv 2403.06563) fit OpenAI's form; a row is a point of a run.

        L = (N_c/N)^alpha_N + (S_c/S_min)^alpha_S, S_min = step/(1 + B_crit(L)/B), B_crit(L) = B_star/L^(1/alpha_B)

    Columns `N` (parameters without embeddings), `step`, `B` (tokens); `L` in nats per token. S_min is the number of
    steps that a batch without bound would have needed. L stands on both sides. The difference of the sides, as a
    function of log L, is increasing and concave, so that Newton's steps from below climb to its only root. The
    derivative is taken of one more Newton step after the search. The form has no irreducible loss.
    """
    capacity = jnp.exp(alpha_N * (jnp.log(N_c) - N.log))
    many = alpha_S * (jnp.log(S_c) - step.log)  # log of (S_c/step)^alpha_S, the second term of L for B to infinity
    log_ratio = jnp.log(B_star) - B.log

    def newton(log_loss, capacity, many, log_ratio, alpha_s, alpha_b):
        scarcity = log_ratio - log_loss / alpha_b  # log of B_crit(L)/B
        training = jnp.exp(many + alpha_s * jax.nn.softplus(scarcity))
        slope = 1.0 + alpha_s / alpha_b * jax.nn.sigmoid(scarcity) * training / (capacity + training)
        return log_loss - (log_loss - jnp.log(capacity + training)) / slope

    terms = (capacity, many, log_ratio, alpha_S, alpha_B)
    fixed = jax.lax.stop_gradient(terms)
    log_loss = jnp.log(fixed[0] + jnp.exp(fixed[1]))
    for _ in range(NEWTON_STEPS):
        log_loss = newton(log_loss, *fixed)
    return jnp.exp(newton(jax.lax.stop_gradient(log_loss), *terms))
