"""Random teachers by their moments, and the KL of two Bernoullis by float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from harness.theory.teacher import LEFT_OUT, bernoulli_kl, draw_teacher, monte_carlo, teacher_logits

pytestmark = pytest.mark.usefixtures("quick_compile")

D = 10


def test_moments_are_those_of_the_theory():
    K, n, teachers = 5.0, 20, 2500

    @jax.jit
    @jax.vmap
    def one(key):
        made, drawn, at = jax.random.split(key, 3)
        teacher = draw_teacher(made, D, K)
        x = jax.random.normal(at, (100, D))
        F, student = teacher_logits(teacher, x), teacher_logits(monte_carlo(drawn, teacher, n), x)
        weight = jnp.abs(teacher.output)
        moments = [F**2, (F - student) ** 2, bernoulli_kl(F, student)]
        return [m.mean() for m in moments] + [weight.sum(), (weight**2).sum()]

    energy, error, kl, mass, squares = (
        np.asarray(m, float) for m in one(jax.random.split(jax.random.key(0), teachers))
    )
    assert abs(energy.mean() - 0.5) < 0.03
    assert abs(error.mean() / (K / (2 * n)) - 1) < 0.06
    assert 0.7 * K / (16 * n) < kl.mean() < K / (16 * n)
    # sum of P is 1 but for what is left out; the mean of sum of P^2 is 1/(K + 1).
    np.testing.assert_allclose(mass / np.sqrt(K + 1), 1.0, atol=3 * LEFT_OUT)
    assert abs(squares.mean() - 1.0) < 4 * squares.std() / np.sqrt(teachers)


def test_kl_of_logits_is_that_of_float64():
    truth = np.array([0.0, 0.3, -0.3, 2.0, -5.0, 12.0, -30.0])[:, None]
    apart = np.array([1e-6, -1e-4, 1e-2, 0.2499, -0.2501, 1.0, -3.0, 20.0])
    told = truth + apart
    told32, truth32 = told.astype(np.float32), np.broadcast_to(truth, told.shape).astype(np.float32)
    x, a = (told32.astype(np.longdouble) - truth32), truth32.astype(np.longdouble)
    a, x = np.where(a > 0, -a, a), np.where(a > 0, -x, x)
    p = 1 / (1 + np.exp(-a))
    # ln E e^(xY) - x E Y, in 64 bits of mantissa.
    exact = np.log1p(p * np.expm1(x)) - p * x
    np.testing.assert_allclose(np.asarray(bernoulli_kl(jnp.asarray(truth32), jnp.asarray(told32))), exact, rtol=2e-4)
    assert np.all(np.asarray(bernoulli_kl(jnp.float32([90.0, -300.0]), jnp.float32([-90.0, 300.0]))) > [89, 299])
