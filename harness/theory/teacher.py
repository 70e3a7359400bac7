"""Teachers of the theory of Jeon and Van Roy (arXiv 2407.01456): random two-layer ReLU networks of infinite width.

P ~ DirichletProcess(K, uniform on the sphere of R^d): atoms w with probabilities P(w), each with a random sign s_w;
the logit of Y = 1 at x is F(x) = sqrt(K + 1) sum_w s_w P(w) relu(w.x), X ~ N(0, I_d). The mean of sum P(w)^2 is
1/(K + 1), so that E F(X)^2 = 1/2. The smaller K, the fewer neurons matter.

Regime: exact but for the atoms left out, whose probabilities sum to less than `LEFT_OUT`.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

LEFT_OUT = 1e-6
# Below this difference of logits, the closed form of the KL loses digits of float32 to cancellation (1e-5 of its value
# here, all of it at 1e-3), and the series of five cumulants is right to 1e-5.
NEAR = 0.25


class Teacher(NamedTuple):
    """One two-layer network; with a leading axis, several.

    Attributes:
        output: sqrt(K + 1) s_w P(w), zero in the places of the array that are not needed.
        atoms: w, unit vectors.
    """

    output: Float[Array, "*teachers atoms"]
    atoms: Float[Array, "*teachers atoms d"]


def places(K: float) -> int:
    """The size of a teacher's arrays.

    The mass that m sticks leave has the mean (K/(K+1))^m; the size is the m at which that is a hundredth of LEFT_OUT.
    """
    return math.ceil(math.log(LEFT_OUT / 100.0) / math.log(K / (K + 1.0)))


def draw_teacher(key: Key[Array, ""], d: int, K: float) -> Teacher:
    """A teacher by stick-breaking: an atom takes a Beta(1, K) share of what is left, until that is below LEFT_OUT."""
    sticks, directions = jax.random.split(key)
    size = places(K)
    # What a stick leaves is U^(1/K) of it.
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
    """F_n, the network of n atoms drawn from P with equal weights: what the bound supposes of width n.

    E (F - F_n)^2 = K/(2n) exactly, and the mean KL of its predictions is below K/(16n).
    """
    weight = jnp.abs(teacher.output)
    drawn = jax.random.choice(key, len(weight), (n,), p=weight / weight.sum())
    return Teacher(weight.sum() / n * jnp.sign(teacher.output[drawn]), teacher.atoms[drawn])


def bernoulli_kl(truth: Float[Array, "*rows"], guess: Float[Array, "*rows"]) -> Float[Array, "*rows"]:
    """KL(sigmoid truth || sigmoid guess) in nats, of logits: right to 1e-4 of its value in float32, however small.

    Both outcomes may change their names, so that p <= 1/2; then KL = softplus(guess) - softplus(truth) - p (guess -
    truth), the remainder of the first-order expansion of softplus, whose derivatives are the Bernoulli's cumulants.
    """
    sign = jnp.where(truth > 0.0, -1.0, 1.0)
    truth, x = sign * truth, sign * (guess - truth)
    p, q = jax.nn.sigmoid(truth), jax.nn.sigmoid(-truth)
    whole = jax.nn.softplus(truth + x) - jax.nn.softplus(truth) - p * x
    skew, pq = q - p, p * q
    near = pq * x**2 * (1 / 2 + skew * x / 6 + (1 - 6 * pq) * x**2 / 24 + skew * (1 - 12 * pq) * x**3 / 120)
    return jnp.where(jnp.abs(x) < NEAR, near, whole)
