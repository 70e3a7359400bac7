"""Loss by size, steps and batch, as Su et al. 2024 (arXiv 2403.06563) fit OpenAI's form: a row is a point of a run.

    L = (N_c/N)^alpha_N + (S_c/S_min)^alpha_S, S_min = step/(1 + B_crit(L)/B), B_crit(L) = B_star/L^(1/alpha_B)

Columns `N` (parameters without embeddings), `step`, `B` (tokens); `L` in nats per token. S_min is what the run would
have needed with a batch without bound. L stands on both sides: as a function of log L their difference is increasing
and concave, so that Newton's steps from below climb to the one solution; a last step outside of the search carries the
derivative. The form has no irreducible loss.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws.law import Columns, Law, Parameter, Parameters, Scales

NEWTON_STEPS = 8


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    p = parameters
    capacity = jnp.exp(p["alpha_N"] * (jnp.log(p["N_c"]) - jnp.log(columns["N"])))
    many = p["alpha_S"] * (jnp.log(p["S_c"]) - jnp.log(columns["step"]))  # log of the second term if B were unbounded
    log_ratio = jnp.log(p["B_star"]) - jnp.log(columns["B"])

    def newton(log_loss, capacity, many, log_ratio, alpha_s, alpha_b):
        scarcity = log_ratio - log_loss / alpha_b  # log of B_crit(L)/B
        training = jnp.exp(many + alpha_s * jax.nn.softplus(scarcity))
        slope = 1.0 + alpha_s / alpha_b * jax.nn.sigmoid(scarcity) * training / (capacity + training)
        return log_loss - (log_loss - jnp.log(capacity + training)) / slope

    terms = (capacity, many, log_ratio, p["alpha_S"], p["alpha_B"])
    held = jax.lax.stop_gradient(terms)
    log_loss = jnp.log(held[0] + jnp.exp(held[1]))
    for _ in range(NEWTON_STEPS):
        log_loss = newton(log_loss, *held)
    return jnp.exp(newton(jax.lax.stop_gradient(log_loss), *terms))


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p = dict(parameters)
    return p | {
        "N_c": p["N_c"] * scales["N"] * scales["L"] ** (1.0 / p["alpha_N"]),
        "S_c": p["S_c"] * scales["step"] * scales["L"] ** (1.0 / p["alpha_S"]),
        "B_star": p["B_star"] * scales["B"] * scales["L"] ** (1.0 / p["alpha_B"]),
    }


LAW = Law(
    id="openai_sb",
    formula="L = (N_c/N)^alpha_N + (S_c (1 + B_crit/B)/step)^alpha_S, B_crit = B_star/L^(1/alpha_B)",
    response="L",
    parameters=(
        Parameter("N_c", "log", 1e-60, 1e60, (1e-4, 1e-1)),
        Parameter("alpha_N", "log", 0.005, 2.0, (0.05, 0.2)),
        Parameter("S_c", "log", 1e-30, 1e30, (1e-2, 1e-1)),
        Parameter("alpha_S", "log", 0.05, 4.0, (0.4, 1.0)),
        Parameter("B_star", "log", 1e-12, 1e12, (0.1, 3.0)),
        Parameter("alpha_B", "log", 0.02, 3.0, (0.1, 0.4)),
    ),
    columns=("N", "step", "B"),
    predict=predict,
    source="form: Su et al. 2024 (arXiv 2403.06563) after Kaplan et al. 2020 (arXiv 2001.08361); constants from memory",
    objective="log_huber",
    rescale=rescale,
)
