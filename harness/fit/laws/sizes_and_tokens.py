"""Losses L (nats per token) as functions of parameters N and tokens D, both counts."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from harness.fit.laws.law import Combination, Parameter, Parameters, floor, law, power_terms

EXPONENTS = (0.05, 0.15, 0.3, 0.5, 0.8, 1.3, 2.0)


def _split(parameters: Parameters) -> Float[Array, ""]:
    """The exponent of compute in the best N of a sum of two power laws; nan where there is no such optimum."""
    return parameters["beta"] / (parameters["alpha"] + parameters["beta"])


def two_term_optimum(parameters: Parameters, product: Any) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """log N at the minimum of A/N^alpha + B/D^beta for a given product N D, and the exponent of N D in this N.

    N = g (N D)^(beta/s), with s = alpha + beta and g^s = alpha A/(beta B).
    """
    A, B, alpha, beta = (np.asarray(parameters[name]) for name in ("A", "B", "alpha", "beta"))
    exists = (alpha > 0) & (beta > 0) & (A > 0) & (B > 0)
    A, B, alpha, beta = (np.where(exists, value, np.nan) for value in (A, B, alpha, beta))
    share = beta / (alpha + beta)
    log_n = np.log(alpha * A / (beta * B)) / (alpha + beta) + share * np.log(product)
    return log_n, np.broadcast_to(share, log_n.shape)


@law(
    "L = E + A/N^alpha + B/D^beta",
    parameters=power_terms(
        "A/N^alpha", "B/D^beta", starts=EXPONENTS, E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658
    ),
    source="form: Hoffmann et al. 2022 (arXiv 2203.15556); constants: Besiroglu et al. 2024 (arXiv 2404.10102)",
    combinations=(Combination("beta/(alpha + beta)", _split, 0.3658 / (0.3478 + 0.3658)),),
    alternatives=("tied", "skaling", "kaplan"),
    optimum=two_term_optimum,
)
def chinchilla(N, D, *, E, A, B, alpha, beta):
    """The parametric loss of Hoffmann et al.: a floor, and the cost of few parameters and of few tokens."""
    return E + A * N**-alpha + B * D**-beta


@law(
    "L = E + A/N^alpha + B/D^alpha",
    parameters=power_terms("A/N^alpha", "B/D^alpha", starts=EXPONENTS),
    source="Gadre et al. 2024 (arXiv 2403.08540), form; their constants differ for each training and evaluation set",
    objective="squares",
    combinations=(
        Combination("h = -alpha", lambda p: -p["alpha"]),
        Combination("b = B*6^(alpha/2)", lambda p: p["B"] * jnp.exp(0.5 * p["alpha"] * jnp.log(6.0))),
    ),
)
def tied(N, D, *, E, A, B, alpha):
    """One exponent for parameters and tokens: Gadre et al. (arXiv 2403.08540), for models of more than 20 N tokens.

    With M = D/N the paper writes L(C, M) = E + (a M^eta + b M^-eta) C^-eta, C = 6 N D; its code L = E + a N^h +
    b 6^(h/2) (M N)^h. Both are this law: alpha = 2 eta = -h, A the code's a, B = b 6^(-alpha/2). Equal exponents make
    curves of constant M parallel straight lines of log (L - E) against log C. The paper fits them to few runs, on the
    loss itself.
    """
    return E + A * N**-alpha + B * D**-alpha


def joint_kaplan(log_capacity: Float[Array, "rows"], log_training: Float[Array, "rows"], alpha, beta):
    """(exp(log_capacity)^(alpha/beta) + exp(log_training))^beta, computed in logs so that it cannot overflow."""
    return jnp.exp(beta * jnp.logaddexp(alpha / beta * log_capacity, log_training))


@law(
    "L = ((N_c/N)^(alpha_N/alpha_D) + D_c/D)^alpha_D",
    parameters=(
        Parameter("N_c", "log", 1e-80, 1e80, (1e-3, 0.1), published=6.4e13, unit="N L^1/alpha_N"),
        Parameter("D_c", "log", 1e-80, 1e80, (1e-2, 0.3), published=1.8e13, unit="D L^1/alpha_D"),
        Parameter("alpha_N", "log", 0.005, 2.0, (0.05, 0.12, 0.3), published=0.076),
        Parameter("alpha_D", "log", 0.005, 2.0, (0.05, 0.12, 0.3), published=0.103),
    ),
    source="Kaplan et al. 2020 (arXiv 2001.08361), L(N, D): N without embeddings; no floor E",
    combinations=(Combination("alpha_N/alpha_D", lambda p: p["alpha_N"] / p["alpha_D"], 0.076 / 0.103),),
)
def kaplan(N, D, *, N_c, D_c, alpha_N, alpha_D):
    """Kaplan et al.'s loss in parameters and tokens (arXiv 2001.08361, equation 1.5).

    N is the count of parameters without embeddings, D the tokens of the training set. The law has no floor: with
    unlimited N and D its loss goes to zero. So it cannot hold for text of positive entropy, and beyond the range of its
    rows it predicts too low a loss. `skaling` is the same sum within a power, with a floor.
    """
    return joint_kaplan(jnp.log(N_c) - N.log, jnp.log(D_c) - D.log, alpha_N, alpha_D)


@law(
    "L = E + ((A/N)^(alpha/beta) + B/D)^beta",
    parameters=(
        floor(),
        Parameter("A", "log", 1e-40, 1e10, (1e-8, 1e-4, 1e-2, 1.0), unit="N L^1/alpha"),
        Parameter("B", "log", 1e-40, 1e10, (1e-8, 1e-4, 1e-2, 1.0), unit="D L^1/beta"),
        Parameter("alpha", "log", 0.01, 4.0, (0.1, 0.3, 0.7)),
        Parameter("beta", "log", 0.01, 4.0, (0.1, 0.3, 0.7)),
    ),
    source="form: Brandfonbrener et al. 2024 (arXiv 2411.12925) and their released code; constants are per corpus",
    combinations=(Combination("beta/(alpha + beta)", _split),),
)
def kaplan_floor(N, D, *, E, A, B, alpha, beta):
    """Kaplan's joint loss of parameters and tokens, with a floor.

    The base law of loss-to-loss prediction (Brandfonbrener et al., arXiv 2411.12925), in which capacity and data are
    coupled. With E = 0 it is L(N, D) of Kaplan et al. (arXiv 2001.08361), A and B being their N_c and D_c. The paper
    fits one set of constants per corpus.
    """
    return E + joint_kaplan(jnp.log(A) - N.log, jnp.log(B) - D.log, alpha, beta)


@law(
    "L = (A/N^alpha + B/D^beta)^k + E",
    parameters=(
        floor(),
        Parameter("A", "log", 1e-12, 1e6, (0.02, 0.2), unit="L^1/k N^alpha"),
        Parameter("B", "log", 1e-12, 1e6, (0.02, 0.2), unit="L^1/k D^beta"),
        Parameter("alpha", "identity", 0.0, 8.0, (0.3, 0.8, 1.5)),
        Parameter("beta", "identity", 0.0, 8.0, (0.3, 0.8, 1.5)),
        Parameter("k", "log", 0.05, 5.0, (0.3, 0.6, 1.0)),
    ),
    source="form: arXiv 2608.07222, which reports k of .31 to .45 (from a secondary source)",
    combinations=(
        Combination("alpha*k", lambda p: p["alpha"] * p["k"]),
        Combination("beta*k", lambda p: p["beta"] * p["k"]),
        Combination("beta/(alpha + beta)", _split),
    ),
)
def skaling(N, D, *, E, A, B, alpha, beta, k):
    """A power of the sum of two power laws, over a floor (arXiv 2608.07222; form from a secondary source).

    With k = 1 it is `chinchilla`; with beta = 1, E = 0 it is `kaplan`. k < 1 couples N and D: where one term is the
    larger one, more of the other helps less than in a plain sum. L in nats per token (or bits per character). Where one
    term is alone, the loss falls as N^-(alpha k) or D^-(beta k).
    """
    return E + jnp.exp(k * jnp.logaddexp(jnp.log(A) - alpha * N.log, jnp.log(B) - beta * D.log))


TYPICAL_N = 1e9


def _bent(log_n: Float[Array, "rows"], power: Float[Array, ""]) -> Float[Array, "rows"]:
    """(n^power - 1)/power, which is log n at power 0."""
    x = power * log_n
    small = jnp.abs(x) < 1e-5
    return log_n * jnp.where(small, 1.0 + 0.5 * x, jnp.expm1(x) / jnp.where(small, 1.0, x))


def _of_paper(label: str, name: str, constant: str) -> Combination:
    def value(p: Parameters) -> Float[Array, ""]:
        slope, bend = p[f"{name}_slope"], p[f"{name}_bend"]
        if constant == "a":
            return slope / bend * jnp.exp(-bend * jnp.log(TYPICAL_N))
        return jnp.log(p[name]) - slope / bend

    return Combination(label, value)


@law(
    "L = U(N) + B(N) D^-A(N), X(N) = X exp(X_slope ((N/1e9)^X_bend - 1)/X_bend) for X in U, B, A",
    parameters=(
        Parameter("U", "log", 1e-6, 1e3, (1.0,)),
        Parameter("U_slope", "identity", -1.0, 1.0, (-0.1,)),
        Parameter("U_bend", "identity", -2.0, 2.0, (-0.4, 0.2)),
        Parameter("B", "log", 1e-6, 1e20, (1e3,)),
        Parameter("B_slope", "identity", -5.0, 5.0, (-0.3, 0.3)),
        Parameter("B_bend", "identity", -2.0, 2.0, (-0.3, 0.3)),
        Parameter("A", "log", 0.01, 3.0, (0.25, 0.5, 0.8)),
        Parameter("A_slope", "identity", -1.0, 1.0, (-0.05, 0.05)),
        Parameter("A_bend", "identity", -2.0, 2.0, (-0.3, 0.3)),
    ),
    source="Farseer 2025 (arXiv 2506.10972), form from a secondary source; its constants were not at hand",
    objective="log_squares",
    linear=("U", "B"),
    combinations=tuple(
        _of_paper(f"{constant}{index}", name, constant)
        for index, name in ((1, "A"), (2, "B"), (3, "U"))
        for constant in ("a", "b")
    ),
)
def farseer(N, D, *, U, U_slope, U_bend, B, B_slope, B_bend, A, A_slope, A_bend):
    """A floor, a coefficient and an exponent of tokens that all depend on N: Farseer (arXiv 2506.10972).

        L = exp(a3 N^gamma + b3) + exp(a2 N^beta + b2) D^(-exp(a1 N^alpha + b1))

    N is the count of parameters without embeddings; the paper's L is in bits per character, any unit will do. Here each
    of the three functions of N is given by its value X and its slope x in log N at N = 1e9, and its bend g:

        a N^g + b = log X + x ((N/1e9)^g - 1)/g,  so  a = x 1e9^-g / g,  b = log X - x/g

    which is the same family, but regular at g = 0, where it is a power law and a is infinite. The exponent of D depends
    on N, so the form depends on the unit of D (tokens) and is fitted on raw columns.
    """
    log_n = N.log - jnp.log(TYPICAL_N)
    tokens_exponent = A * jnp.exp(A_slope * _bent(log_n, A_bend))
    least = U * jnp.exp(U_slope * _bent(log_n, U_bend))
    return least + B * jnp.exp(B_slope * _bent(log_n, B_bend) - tokens_exponent * D.log)
