"""Losses L (nats per token) of models that act as if they had another size: pruned, frozen, compressed, or in parallel.

N counts parameters, D tokens.
"""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from harness.fit.laws import sizes_and_tokens
from harness.fit.laws.law import Columns, Parameter, PositiveColumn, coefficient, exponent, floor, law, power_terms

Numbers = float | Float[np.ndarray, "runs"]


def average_count(
    dense: Numbers, sparsity: Numbers, start: Numbers = 0.25, end: Numbers = 0.75, power: float = 3.0, kept: Numbers = 0
) -> Numbers:
    """N_bar of a run that is pruned from sparsity 0 at `start` to `sparsity` at `end`, both as shares of its tokens.

    Args:
        dense: parameters that may be pruned, counted before any is.
        power: shape of the ramp, sparsity(t) = sparsity * (1 - (1 - x)^power), x from 0 at `start` to 1 at `end`: 1 is
            a line, 3 the cubic ramp of Zhu and Gupta.
        kept: further parameters that are never pruned, such as embeddings.
    """
    ramp = (end - start) * (1.0 - 1.0 / (power + 1.0))
    return kept + dense * (1.0 - sparsity * (ramp + 1.0 - end))


@law(
    "L = E + A/N_bar^alpha + B/D^beta, N_bar the mean count of non-zero parameters over the training tokens",
    like=sizes_and_tokens.chinchilla,
    columns=("N_bar", "D"),
    parameters=power_terms("A/N_bar^alpha", "B/D^beta", starts=sizes_and_tokens.EXPONENTS),
    source="Jin et al. 2025 (arXiv 2501.12486), form; start at 25 % and end at 75 % of compute are near its best",
    combinations=tuple(replace(c, published=None) for c in sizes_and_tokens.chinchilla.combinations),
    optimum=None,
)
def average_parameter(N_bar, D, *, E, A, B, alpha, beta):
    """Loss of a network pruned while it trains: the average count of parameters stands for N (arXiv 2501.12486).

    N_bar is the mean over training tokens of the parameters that are not zero (`average_count`); a dense run has
    N_bar = N, and training costs 6 N_bar D FLOPs. The paper's own A, B and E were not at hand.
    """
    return E + A * N_bar**-alpha + B * D**-beta


@law(
    "L = E + A/(N_trainable + kappa N_frozen)^alpha + B/D^beta",
    columns=("N_trainable", "N_frozen", "D"),
    signed=("N_frozen",),
    parameters=(
        *power_terms("A/N_trainable^alpha", "B/D^beta", starts=sizes_and_tokens.EXPONENTS),
        Parameter("kappa", "identity", -1.0, 2.0, (0.0, 0.3)),
    ),
    source="claim of Hesslow and Poli 2021, kappa = 0; the form is a test of it",
    # kappa compares two raw counts, and columns centred one by one would change their ratio.
    derive=lambda columns: {"frozen_per_trainable": columns["N_frozen"] / columns["N_trainable"]},
)
def trainable_frozen(N_trainable, frozen_per_trainable, D, *, E, A, B, alpha, beta, kappa):
    """Loss where some parameters are frozen at random values: one of them counts as kappa trainable ones.

    N_trainable and N_frozen are counts (N_frozen may be zero). Hesslow and Poli ("Is the number of trainable parameters
    all that actually matters?") say that kappa = 0. A kappa a little above zero is plausible, for random features do
    help; a negative one says that frozen parameters do harm.
    """
    count = PositiveColumn(N_trainable * (1.0 + kappa * frozen_per_trainable))
    return E + A * count**-alpha + B * D**-beta


# Upper limit of the rate log_{1/4} gmse (bits of precision), so that gmse = 0, the uncompressed model, has a finite
# rate. 32-bit floats have a rate of about 23.
MOST_BITS = 24.0


def _derive_rate(columns: Columns) -> dict[str, Float[Array, "rows"]]:
    """The logarithm of the rate log_{1/4} gmse in bits."""
    rate = -np.log(np.maximum(columns["gmse"], 4.0**-MOST_BITS)) / np.log(4.0)
    return {"log_rate": np.log(np.maximum(rate, 1e-12))}


@law(
    "L = E + A/(N rho)^alpha + B/D^beta, rho = tanh(c r^s), r = log_{1/4} gmse",
    columns=("N", "D", "gmse"),
    signed=("gmse",),
    parameters=(
        *power_terms("A/N^alpha", "B/D^beta", starts=sizes_and_tokens.EXPONENTS),
        Parameter("c", "log", 1e-3, 10.0, (0.15, 0.5)),
        Parameter("s", "log", 0.05, 5.0, (0.6, 1.2)),
    ),
    source="Panferov et al. 2025 (arXiv 2506.01863): capacity of the GMSE; the form of rho is from memory",
    derive=_derive_rate,
)
def compressed(N, log_rate, D, *, E, A, B, alpha, beta, c, s):
    """Loss of a model trained in a compressed representation: its capacity stands for N (arXiv 2506.01863).

    gmse is the mean squared error of a standard normal number in the format (`harness.fit.quantities.gmse` has it for
    integers and for sparsity); 0 is the uncompressed model. log_{1/4} gmse is the format's rate in bits for such
    numbers, and the format keeps the share rho of N, which rises from 0 to 1 with the rate. The abstract says that the
    loss depends on rho, and rho on the GMSE. The form of rho is from memory, with its height set to 1: A would absorb
    any other height.
    """
    count = PositiveColumn(N * jnp.tanh(c * jnp.exp(s * log_rate)))
    return E + A * count**-alpha + B * D**-beta


@law(
    "L = E + (A/(N (k ln P + 1)))^alpha",
    columns=("N", "P"),
    parameters=(
        floor(),
        coefficient("A", "N L^1/alpha", (1e-4, 1e-2, 0.3), low=1e-12),
        exponent("alpha", (0.1, 0.25, 0.6), low=0.01),
        Parameter("k", "log", 1e-4, 1e3, (0.1, 0.6)),
    ),
    source="form: Chen et al. 2025 (arXiv 2505.10475); its constants were not at hand",
    derive=lambda columns: {"log_P": np.log(columns["P"])},  # streams are counted from one: P cannot be centred
    linear=("E",),
    alternatives=("parallel_additive",),
)
def parallel_scaling(N, log_P, *, E, A, alpha, k):
    """Parallel scaling: P streams of one model, combined, act as a model that is 1 + k ln P times as large.

    Chen et al. 2025 (arXiv 2505.10475). N: parameters without embeddings; P: parallel streams, 1 for an ordinary model.
    """
    return E + jnp.exp(alpha * (jnp.log(A) - (N.log + jnp.log1p(k * log_P))))


@law(
    "L = E + A/N^alpha + B/P^beta",
    parameters=(
        floor(),
        coefficient("A", "L N^alpha", (0.3,)),
        exponent("alpha", (0.1, 0.25, 0.6)),
        coefficient("B", "L P^beta", (0.03,)),
        Parameter("beta", "identity", 0.01, 6.0, (0.3, 0.8, 1.5)),
    ),
    source="form chosen here by held-out rows, beside `parallel_scaling`",
)
def parallel_additive(N, P, *, E, A, alpha, B, beta):
    """Parallel streams as a term of their own: what they gain does not depend on the model's size.

    Roles as in `parallel_scaling`. On the public runs (Chen et al. 2025, arXiv 2505.10475) it predicts more streams and
    larger models than were fitted better than the published form does, on both corpora.
    """
    return E + A * N**-alpha + B * P**-beta
