"""Losses L (nats per token) as functions of a model's shape: w is the width (d_model), d the number of layers."""

import jax.numpy as jnp

from harness.fit.laws.law import Parameter, law, power_terms

GEMSTONES = "McLeish et al. 2025 (arXiv 2502.06857), form as in their code"
GEMSTONE_EXPONENTS = (0.2, 0.5, 1.0)


@law(
    "L = E + A_w/w^alpha_w + A_d/d^alpha_d + B/D^beta",
    parameters=power_terms("A_w/w^alpha_w", "A_d/d^alpha_d", "B/D^beta", starts=GEMSTONE_EXPONENTS),
    source=GEMSTONES,
)
def width_depth_3(w, d, D, *, E, A_w, A_d, B, alpha_w, alpha_d, beta):
    """Loss as a sum of power laws in width, depth and tokens over a floor: Gemstones' three terms (arXiv 2502.06857).

    Width and depth stand for N. On the authors' rows E is not identified: their own fit ended at E = exp(-4555).
    """
    return E + A_w * w**-alpha_w + A_d * d**-alpha_d + B * D**-beta


@law(
    "L = E + A_w/w^alpha_w + A_d/d^alpha_d + A_N/N^alpha_N + B/D^beta",
    parameters=power_terms("A_w/w^alpha_w", "A_d/d^alpha_d", "A_N/N^alpha_N", "B/D^beta", starts=GEMSTONE_EXPONENTS),
    source=GEMSTONES,
)
def width_depth_4(w, d, N, D, *, E, A_w, A_d, A_N, B, alpha_w, alpha_d, alpha_N, beta):
    """`width_depth_3` and a power law in the count of parameters: Gemstones' four terms (arXiv 2502.06857).

    N is close to 12 w^2 d, so that at best two of the three exponents of size are identified.
    """
    return E + A_w * w**-alpha_w + A_d * d**-alpha_d + A_N * N**-alpha_N + B * D**-beta


_EXPONENTS = (0.15, 0.3, 0.6, 1.0)


@law(
    "L = (E + A/N^alpha + B/D^beta) (1 + eps R^gamma), R = w/d",
    parameters=(
        *power_terms("A/N^alpha", "B/D^beta", starts=_EXPONENTS),
        Parameter("eps", "log", 1e-6, 10.0, (0.003, 0.05), unit="d^gamma w^-gamma"),
        Parameter("gamma", "identity", -3.0, 3.0, (-0.8, 0.3, 1.0)),
    ),
    source="Scaling Inference-Efficient Language Models (arXiv 2501.18107), form; constants not at hand",
    objective="squares",
)
def aspect_ratio(N, D, w, d, *, E, A, B, alpha, beta, eps, gamma):
    """Chinchilla's loss times a factor of the shape R = w/d, width over number of layers (arXiv 2501.18107).

    The factor is monotone in R: the law cannot have a best shape, and residuals that are U-shaped in R speak against
    it. The paper sets alpha = beta = gamma (`aspect_ratio_tied`, from a secondary source).
    """
    return (E + A * N**-alpha + B * D**-beta) * (1.0 + eps * jnp.exp(gamma * (w.log - d.log)))


@law(
    "L = (E + A/N^alpha + B/D^alpha) (1 + eps R^alpha), R = w/d",
    like=aspect_ratio,
    parameters=(
        *power_terms("A/N^alpha", "B/D^alpha", starts=_EXPONENTS),
        Parameter("eps", "log", 1e-6, 10.0, (0.003, 0.05), unit="d^alpha w^-alpha"),
    ),
    source="Scaling Inference-Efficient Language Models (arXiv 2501.18107); tied exponents from a secondary source",
)
def aspect_ratio_tied(N, D, w, d, *, E, A, B, alpha, eps):
    """`aspect_ratio` with one exponent for parameters, tokens and shape, as its authors fit it (arXiv 2501.18107)."""
    return (E + A * N**-alpha + B * D**-alpha) * (1.0 + eps * jnp.exp(alpha * (w.log - d.log)))
