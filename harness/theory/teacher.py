"""Teachers of the theory of Jeon and Van Roy (arXiv 2407.01456): random two-layer ReLU networks of infinite width.

P is drawn from a Dirichlet process of concentration K over the uniform distribution on the sphere of R^d: atoms w with
probabilities P(w), each with a random sign s_w. The logit of Y = 1 at x is F(x) = sqrt(K + 1) sum_w s_w P(w) relu(w.x),
and X ~ N(0, I_d). The mean of sum P(w)^2 is 1/(K + 1), so that E F(X)^2 = 1/2. The smaller K, the fewer neurons matter.

Regime: exact except for the atoms left out, whose probabilities sum to less than `LEFT_OUT`.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

LEFT_OUT = 1e-6
# Below this difference of logits `bernoulli_kl` takes the series up to the fifth cumulant, which is right to 1e-5. The
# closed form loses digits of float32 to cancellation: 1e-5 of its value at this difference, all of it at 1e-3.
NEAR = 0.25


class Teacher(NamedTuple):
    """One two-layer network, or several along a leading axis.

    Attributes:
        output: sqrt(K + 1) s_w P(w), zero in the places of the array that are not used.
        atoms: w, unit vectors.
    """

    output: Float[Array, "*teachers atoms"]
    atoms: Float[Array, "*teachers atoms d"]


def places(K: float) -> int:
    """How many atoms the arrays of a teacher hold.

    The mass left after m sticks has the mean (K/(K+1))^m; the size is the m at which this mean is LEFT_OUT/100.
    """
    return math.ceil(math.log(LEFT_OUT / 100.0) / math.log(K / (K + 1.0)))


def draw_teacher(key: Key[Array, ""], d: int, K: float) -> Teacher:
    """Draw a teacher by stick-breaking: each atom takes a Beta(1, K) share of what is left, until below LEFT_OUT."""
    sticks, directions = jax.random.split(key)
    size = places(K)
    # An atom that takes a Beta(1, K) share leaves the share U^(1/K), U uniform in (0, 1).
    left = jnp.exp(jnp.cumsum(jnp.log(jax.random.uniform(sticks, (size,), minval=1e-30))) / K)
    before = jnp.concatenate([jnp.ones(1), left[:-1]])
    probability = jnp.where(before < LEFT_OUT, 0.0, before - left)
    normal = jax.random.normal(directions, (size, d + 1))
    atoms = normal[:, :d] / jnp.linalg.norm(normal[:, :d], axis=1, keepdims=True)
    return Teacher(math.sqrt(K + 1.0) * jnp.sign(normal[:, d]) * probability, atoms)


def teacher_logits(teacher: Teacher, x: Float[Array, "samples d"]) -> Float[Array, "samples"]:
    """F at the inputs."""
    return jax.nn.relu(x @ teacher.atoms.T) @ teacher.output


def monte_carlo(key: Key[Array, ""], teacher: Teacher, n: int) -> Teacher:
    """F_n, the network of n atoms drawn from P with equal weights: what the bound assumes of a learner of width n.

    E (F - F_n)^2 = K/(2n) exactly, and the mean KL of its predictions is below K/(16n).
    """
    weight = jnp.abs(teacher.output)
    drawn = jax.random.choice(key, len(weight), (n,), p=weight / weight.sum())
    return Teacher(weight.sum() / n * jnp.sign(teacher.output[drawn]), teacher.atoms[drawn])


def bernoulli_kl(truth: Float[Array, "*rows"], guess: Float[Array, "*rows"]) -> Float[Array, "*rows"]:
    """KL(sigmoid truth || sigmoid guess) in nats, from logits: right to 1e-4 of its value in float32, however small.

    The two outcomes are exchanged where p > 1/2. Then KL = softplus(guess) - softplus(truth) - p (guess - truth), which
    is the remainder of the first-order expansion of softplus, whose derivatives are the Bernoulli's cumulants.
    """
    sign = jnp.where(truth > 0.0, -1.0, 1.0)
    truth, x = sign * truth, sign * (guess - truth)
    p, q = jax.nn.sigmoid(truth), jax.nn.sigmoid(-truth)
    whole = jax.nn.softplus(truth + x) - jax.nn.softplus(truth) - p * x
    skew, pq = q - p, p * q
    near = pq * x**2 * (1 / 2 + skew * x / 6 + (1 - 6 * pq) * x**2 / 24 + skew * (1 - 12 * pq) * x**3 / 120)
    return jnp.where(jnp.abs(x) < NEAR, near, whole)
