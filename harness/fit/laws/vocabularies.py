"""Losses of vocabularies: L is the loss minus the unigram model's on the same vocabulary, nats per token.

L is usually negative. The comparison is from Tao et al. 2024 (arXiv 2407.13623). N: parameters without those of the
vocabulary; V: entries of the vocabulary; D: characters of training text.
"""

import jax.numpy as jnp

from harness.fit.laws.law import Parameter, coefficient, exponent, law

SHARPNESS = 4.0


@law(
    "L = E + ((A/N^alpha)^4 + (B/(D V^phi)^beta)^4)^(1/4)",
    signed=("L",),
    parameters=(
        Parameter("E", "identity", -100.0, 10.0, (-1.5,), unit="L"),
        coefficient("A", "L N^alpha", (0.5,)),
        exponent("alpha", (0.05, 0.2, 0.5)),
        coefficient("B", "L D^beta V^phi*beta", (0.5,)),
        exponent("beta", (0.1, 0.3, 0.8), low=0.01),
        Parameter("phi", "identity", -5.0, 5.0, (-0.2,)),
    ),
    source="form chosen here by held-out vocabularies and sizes; normalised loss: Tao et al. 2024 (arXiv 2407.13623)",
    objective="squares",
    linear=("E",),
    alternatives=("vocabulary_tao",),
)
def vocabulary(N, V, D, *, E, A, alpha, B, beta, phi):
    """The loss of a vocabulary: each model size has a floor, and reaching it takes data, more for larger models.

    The costs of few parameters and of few data are joined by a power mean with the exponent 4, not a sum: small models
    stop gaining at once. The exponent is fixed; left free it moves with E along a valley without a minimum.
    """
    capacity = jnp.log(A) - alpha * N.log
    data = jnp.log(B) - beta * (D.log + phi * V.log)
    return E + jnp.exp(jnp.logaddexp(SHARPNESS * capacity, SHARPNESS * data) / SHARPNESS)


_EXPONENTS = (0.1, 0.3, 0.8)


@law(
    "L = -E + A1/N^alpha1 + A2/(V w)^alpha2 + B/D^beta",
    signed=("L",),
    parameters=(
        Parameter("E", "identity", -10.0, 100.0, (1.5,), unit="L"),
        coefficient("A1", "L N^alpha1", (0.3,)),
        exponent("alpha1", _EXPONENTS),
        coefficient("A2", "L V^alpha2 w^alpha2"),
        exponent("alpha2", _EXPONENTS),
        coefficient("B", "L D^beta", (0.3,)),
        exponent("beta", _EXPONENTS),
    ),
    source="Tao et al. 2024 (arXiv 2407.13623), the form from memory",
    objective="squares",
    linear=("E", "A1", "A2", "B"),
)
def vocabulary_tao(N, V, w, D, *, E, A1, alpha1, A2, alpha2, B, beta):
    """The loss of a vocabulary as a sum: parameters, parameters of the vocabulary, and data each have a term.

    Tao et al. 2024 (arXiv 2407.13623). w: width of an embedding, so that V w is the vocabulary's parameters.
    """
    vocabulary_term = A2 * jnp.exp(-alpha2 * (V.log + w.log))
    return A1 * N**-alpha1 + vocabulary_term + B * D**-beta - E
