"""Rates against closed forms; updates against AdamW and SGD written out in numpy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from harness.train.optimizer import SCHEDULES, hyper_of, init_moments, learning_rate, transform
from models.config import make_config
from sweeps.config import DataConfig, OptimizerConfig, RunConfig

MODEL = make_config("dense", vocab=257, context=16, width=16, depth=1, heads=2)
STEPS = 40


def run_config(steps: int = STEPS, **optimizer) -> RunConfig:
    data = DataConfig(domain="", tokenizer="bytes", unique_tokens=1000)
    return RunConfig(model=MODEL, data=data, optimizer=OptimizerConfig(**optimizer), steps=steps, batch=2)


def rates(config: RunConfig) -> np.ndarray:
    hyper = jax.tree.map(jnp.asarray, hyper_of(config, 1))
    return np.asarray(jax.vmap(lambda step: learning_rate(hyper, step))(jnp.arange(config.steps)))


def expected_rate(step: int, steps: int, lr: float, warmup: int, schedule: str, ratio: float, fraction: float) -> float:
    """The rate of update number step + 1 of `steps`."""
    if step < warmup:
        return lr * (step + 1) / warmup
    last = steps - 1
    if schedule == "cosine":
        return lr * (ratio + (1 - ratio) * (1 + math.cos(math.pi * (step - warmup) / (last - warmup))) / 2)
    if schedule == "linear":
        return lr * (1 - (1 - ratio) * (step - warmup) / (last - warmup))
    if schedule == "inverse_sqrt":
        return lr * math.sqrt(max(warmup, 1) / (step + 1))
    decay = round(fraction * steps)
    done = max(0.0, (step - (last - decay)) / decay)
    if schedule == "wsd":
        return lr * (1 - (1 - ratio) * done)
    if schedule == "wsd_exponential":
        return lr * ratio**done
    if schedule == "two_stage":
        return lr * ratio if step > last - decay else lr
    if schedule == "multi_step":
        return lr * (1.0 if step <= last - decay else math.sqrt(ratio) if step <= last - decay / 2 else ratio)
    return lr


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("warmup", [0, 1, 8])
@pytest.mark.parametrize("ratio", [0.0, 0.1, 1.0])
def test_rate_of_every_step(schedule, warmup, ratio):
    config = run_config(lr=0.02, warmup_steps=warmup, schedule=schedule, final_lr_ratio=ratio, decay_fraction=0.25)
    expected = [expected_rate(s, STEPS, 0.02, warmup, schedule, ratio, 0.25) for s in range(STEPS)]
    np.testing.assert_allclose(rates(config), expected, rtol=2e-6, atol=1e-9)


def test_the_last_update_has_the_final_rate_and_warm_up_ends_at_the_peak():
    for schedule in ("cosine", "wsd"):
        got = rates(run_config(lr=1.0, warmup_steps=5, schedule=schedule, final_lr_ratio=0.2))
        assert got[4] == 1.0 and got[-1] == pytest.approx(0.2, abs=1e-6)
        assert np.all(np.diff(got[:5]) > 0) and np.all(np.diff(got[5:]) <= 1e-7)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_runs_of_one_step_have_a_finite_rate(schedule):
    assert np.isfinite(rates(run_config(steps=1, lr=0.5, schedule=schedule))).all()


def start(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"matrix": rng.normal(size=(3, 4)), "experts": rng.normal(size=(2, 3, 2)), "scale": rng.normal(size=5)}


def gradients(seed: int, steps: int) -> list[dict[str, np.ndarray]]:
    """Some of norm above 1, which are clipped, and some below."""
    rng = np.random.default_rng(seed)
    sizes = (0.05, 3.0, 0.2, 10.0, 0.1, 1.0)
    return [
        {name: sizes[step % 6] * rng.normal(size=leaf.shape) for name, leaf in start(0).items()}
        for step in range(steps)
    ]


def clipped(gradient: dict[str, np.ndarray], limit: float) -> dict[str, np.ndarray]:
    norm = math.sqrt(sum(float((g**2).sum()) for g in gradient.values()))
    return {name: g * min(1.0, limit / norm) for name, g in gradient.items()}


def trained(config: RunConfig, given: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    hyper = jax.tree.map(jnp.asarray, hyper_of(config, 1))
    params = jax.tree.map(jnp.float32, start(1))
    moments = init_moments(config.optimizer.kind, params)

    @jax.jit
    def update(params, moments, step, gradient):
        change = transform(config.optimizer.kind, hyper, learning_rate(hyper, step))
        updates, moments = change.update(gradient, moments, params, norm=optax.tree.norm(gradient))
        return jax.tree.map(jnp.add, params, updates), moments

    for step, gradient in enumerate(given):
        params, moments = update(params, moments, jnp.int32(step), jax.tree.map(jnp.float32, gradient))
    return jax.tree.map(np.asarray, params)


def test_adamw_is_adam_with_decoupled_decay_of_matrices():
    given = gradients(2, 12)
    lr, decay, b1, b2, eps, limit = 0.01, 0.3, 0.9, 0.95, 1e-6, 0.7
    kind = {"weight_decay": decay, "beta1": b1, "beta2": b2, "eps": eps, "clip": limit, "schedule": "cosine"}
    config = run_config(steps=12, lr=lr, **kind)
    params = start(1)
    first = {name: np.zeros_like(leaf) for name, leaf in params.items()}
    second = {name: np.zeros_like(leaf) for name, leaf in params.items()}
    for step, gradient in enumerate(given):
        rate = expected_rate(step, 12, lr, 0, "cosine", 0.1, 0.2)
        for name, g in clipped(gradient, limit).items():
            first[name] = b1 * first[name] + (1 - b1) * g
            second[name] = b2 * second[name] + (1 - b2) * g**2
            mean, square = first[name] / (1 - b1 ** (step + 1)), second[name] / (1 - b2 ** (step + 1))
            shrink = 0.0 if name == "scale" else decay
            params[name] = params[name] - rate * (mean / (np.sqrt(square) + eps) + shrink * params[name])
    got = trained(config, given)
    for name, leaf in params.items():
        np.testing.assert_allclose(got[name], leaf, rtol=2e-4, atol=2e-6, err_msg=name)


def test_sgd_is_heavy_ball_momentum_with_decoupled_decay_of_matrices():
    given = gradients(3, 10)
    lr, decay, momentum, limit = 0.05, 0.2, 0.8, 0.7
    config = run_config(steps=10, kind="sgd", lr=lr, weight_decay=decay, momentum=momentum, clip=limit)
    params = start(1)
    velocity = {name: np.zeros_like(leaf) for name, leaf in params.items()}
    for gradient in given:
        for name, g in clipped(gradient, limit).items():
            velocity[name] = momentum * velocity[name] + g
            shrink = 0.0 if name == "scale" else decay
            params[name] = params[name] - lr * (velocity[name] + shrink * params[name])
    got = trained(config, given)
    for name, leaf in params.items():
        np.testing.assert_allclose(got[name], leaf, rtol=2e-5, atol=2e-6, err_msg=name)


def orthogonal(matrix: np.ndarray) -> np.ndarray:
    """Five steps of the Newton-Schulz iteration of Jordan et al. 2024."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide / np.linalg.norm(wide)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x if wide is matrix else x.T


def test_muon_makes_the_momentum_of_matrices_orthogonal():
    given = gradients(4, 10)
    lr, decay, momentum, limit = 0.05, 0.2, 0.8, 0.7
    config = run_config(steps=10, kind="muon", lr=lr, weight_decay=decay, momentum=momentum, clip=limit)
    params, mean = start(1), {name: np.zeros_like(leaf) for name, leaf in start(1).items()}
    for step, gradient in enumerate(given):
        for name, g in clipped(gradient, limit).items():
            mean[name] = momentum * mean[name] + (1 - momentum) * g
            # Nesterov's momentum, whose size does not matter, with both parts corrected for their start at 0.
            ahead = momentum * mean[name] / (1 - momentum ** (step + 2)) + (1 - momentum) * g / (
                1 - momentum ** (step + 1)
            )
            if name != "scale":
                stacked = ahead.reshape(-1, *ahead.shape[-2:])
                direction = np.stack([0.2 * math.sqrt(max(m.shape)) * orthogonal(m) for m in stacked])
                params[name] = params[name] - lr * (direction.reshape(ahead.shape) + decay * params[name])
    got = trained(config, given)
    for name in ("matrix", "experts"):
        np.testing.assert_allclose(got[name], params[name], rtol=2e-4, atol=2e-5, err_msg=name)
    alike = trained(run_config(steps=10, kind="adamw", lr=lr, weight_decay=decay, clip=limit), given)
    np.testing.assert_allclose(got["scale"], alike["scale"], rtol=1e-5)


@pytest.mark.parametrize("kind", ["adamw", "sgd", "muon"])
def test_norm_scales_keep_their_value_without_a_gradient(kind):
    config = run_config(kind=kind, lr=0.1, weight_decay=0.5)
    still = [jax.tree.map(np.zeros_like, start(1))]
    got = trained(config, still)
    np.testing.assert_array_equal(got["scale"], np.float32(start(1)["scale"]))
    np.testing.assert_allclose(got["matrix"], start(1)["matrix"] * (1 - 0.1 * 0.5), rtol=1e-6)
