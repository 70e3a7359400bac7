"""Laws of the gap G (nats per token) without a crossover in u = D/N^z: what else may explain it. N, D are counts."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws.law import Combination, Parameter, law, law_of_gaps


@law_of_gaps(
    "G = a D^-b (unique tokens instead of processed ones: --set D=U)",
    parameters=(
        Parameter("a", "log", 1e-8, 1e8, (1.0,), unit="G D^b"),
        Parameter("b", "identity", -3.0, 6.0, (0.2, 0.5, 1.0)),
    ),
    source="the simplest rival; `gap` reduces to it where alpha = z*beta and every u exceeds u_star",
)
def gap_n_free(D, *, a, b):
    """A gap that does not depend on N: a power law in tokens alone, as noise or memorisation would give it."""
    return jnp.exp(jnp.log(a) - b * D.log)


@law(
    "G = a N^c D^-b",
    like=gap_n_free,
    columns=("N", "D"),
    parameters=(
        Parameter("a", "log", 1e-8, 1e8, (1.0,), unit="G D^b N^-c"),
        Parameter("c", "identity", -5.0, 5.0, (-0.3, 0.0, 0.5)),
        Parameter("b", "identity", -3.0, 6.0, (0.2, 0.5, 1.0)),
    ),
    source="the crossover-free rival; `gap` with every u above u_star has c = z*beta - alpha and b = beta",
)
def gap_free_n(N, D, *, a, b, c):
    """A gap that is a product of a power of N and a power of tokens, without any crossover."""
    return jnp.exp(jnp.log(a) + c * N.log - b * D.log)


@law_of_gaps(
    "G = ((N_c/N)^(alpha_N/alpha_D) + D_c/D)^alpha_D - (N_c/N)^alpha_N",
    parameters=(
        Parameter("N_c", "log", 1e-80, 1e80, (1e-6, 1.0, 1e12), published=6.4e13, unit="N G^1/alpha_N"),
        Parameter("D_c", "log", 1e-80, 1e80, (1e-6, 1.0, 1e6), published=1.8e13, unit="D G^1/alpha_D"),
        Parameter("alpha_N", "log", 0.01, 2.0, (0.08, 0.4), published=0.076),
        Parameter("alpha_D", "log", 0.01, 2.0, (0.1, 0.5, 1.0), published=0.103),
    ),
    source="Kaplan et al. 2020 (arXiv 2001.08361), equation for L(N, D): N_c 6.4e13 non-embedding, D_c 1.8e13 tokens",
    combinations=(Combination("alpha_N/alpha_D", lambda p: p["alpha_N"] / p["alpha_D"], 0.076 / 0.103),),
)
def gap_kaplan(N, D, *, N_c, D_c, alpha_N, alpha_D):
    """Overfitting as Kaplan et al. describe it: how much a finite data set costs a model, L(N, D) - L(N, infinity).

    It is L(N, infinity) times expm1(alpha_D log1p(x)), as the difference of two nearly equal losses loses digits.
    """
    log_infinite = alpha_N * (jnp.log(N_c) - N.log)
    log_x = jnp.log(D_c) - D.log - log_infinite / alpha_D
    return jnp.exp(log_infinite) * jnp.expm1(alpha_D * jnp.logaddexp(0.0, log_x))


def degrees_of_freedom_gap(share: Float[Array, "rows"]) -> Float[Array, "rows"]:
    """(2u - u^2)/(1 - u), the gap over E, where u is degrees of freedom per sample; infinite from u = 1 on."""
    inside = jnp.where(share < 1.0, share, 0.5)  # the branch not taken must have a finite derivative too
    return jnp.where(share < 1.0, inside * (2.0 - inside) / (1.0 - inside), jnp.inf)


@law_of_gaps(
    "G = E (2u - u^2)/(1 - u), u = k N^p/D; -> 2 E k N^p/D for u << 1",
    parameters=(
        Parameter("E", "log", 1e-8, 1e8, (1.0, 30.0), unit="G"),
        Parameter("k", "log", 1e-12, 1e4, (1e-6, 1e-4, 1e-2), unit="D N^-p"),
        Parameter("p", "identity", -3.0, 5.0, (0.0, 0.4, 1.0)),
    ),
    source="degrees of freedom over rows (Akaike; Craven and Wahba's GCV); exact for ridgeless random features",
    combinations=(
        Combination("p", lambda p: p["p"], 1.0),
        Combination("log(2 E k)", lambda p: jnp.log(2.0) + jnp.log(p["E"]) + jnp.log(p["k"])),
    ),
)
def gap_classical(N, D, *, E, k, p):
    """The gap of classical theory: it grows with N, falls with D, and is infinite where any data set can be fitted.

    A model with z = k N^p effective degrees of freedom, fitted to D distinct samples, has u = z/D, a held-out loss of
    E/(1 - u) and a training loss of E (1 - u). For u << 1 the gap is 2 E k N^p/D, in which only the product E k is
    known. p = 1 where every parameter is a degree of freedom and noise dominates the loss; p = 2 - a for random
    features on a noiseless task whose error falls as N^-(a-1). With --set D=U the samples are unique tokens; G in nats
    per token. The law has no meaning at u >= 1, and a fit does not go there.
    """
    return E * degrees_of_freedom_gap(jnp.exp(jnp.log(k) + p * N.log - D.log))
