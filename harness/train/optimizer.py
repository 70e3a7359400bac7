"""Optimizers and schedules whose numbers are arrays, so that runs of one pack may differ in them."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int
from optax import contrib

from models.complete_p import Multipliers
from models.intervention import float_fields, on_device
from models.weights import is_table
from sweeps.config import RunConfig, Schedule

SCHEDULES = get_args(Schedule)


class Hyper(NamedTuple):
    """The numbers of one run's optimizer; with a leading axis, those of all runs of a pack.

    `schedule` is an index into SCHEDULES, `steps` the number of steps of the run, `turns` the number of turns per step.
    `interventions` holds the numbers of each intervention, in the order of the shape's.
    """

    lr: Float[Array, "*runs"]
    weight_decay: Float[Array, "*runs"]
    beta1: Float[Array, "*runs"]
    beta2: Float[Array, "*runs"]
    eps: Float[Array, "*runs"]
    momentum: Float[Array, "*runs"]
    clip: Float[Array, "*runs"]
    final_lr_ratio: Float[Array, "*runs"]
    decay_steps: Int[Array, "*runs"]
    warmup_steps: Int[Array, "*runs"]
    schedule: Int[Array, "*runs"]
    steps: Int[Array, "*runs"]
    turns: Int[Array, "*runs"]
    seed: Int[Array, "*runs"]
    interventions: tuple[tuple[Float[Array, "*runs"], ...], ...]


def hyper_of(config: RunConfig, turns: int) -> Hyper:
    """The numbers of a run's optimizer as numpy scalars, if each step takes `turns` turns."""
    o = config.optimizer
    floats = (o.lr, o.weight_decay, o.beta1, o.beta2, o.eps, o.momentum, o.clip, o.final_lr_ratio)
    decay_steps = max(1, round(o.decay_fraction * config.steps))
    integers = (decay_steps, o.warmup_steps, SCHEDULES.index(o.schedule), config.steps, turns, config.seed)
    own = tuple(tuple(map(np.float32, float_fields(fields))) for fields in filter(on_device, config.interventions))
    return Hyper._make([*map(np.float32, floats), *map(np.int32, integers), own])


def hyper_like(slots: int, interventions: Sequence[Any] = ()) -> Hyper:
    """The shapes and types of `stack_hyper`'s arrays, for runs with these interventions."""
    number, whole = (jax.ShapeDtypeStruct((slots,), kind) for kind in (jnp.float32, jnp.int32))
    own = tuple((number,) * len(float_fields(fields)) for fields in interventions)
    return Hyper._make([*[number] * 8, *[whole] * 6, own])


def stack_hyper(slots: Sequence[Hyper]) -> Hyper:
    """The numbers of all slots' runs, with a leading axis of slots."""
    return jax.tree.map(lambda *each: np.stack(each), *slots)


def learning_rate(hyper: Hyper, step: Int[Array, ""]) -> Float[Array, ""]:
    """The learning rate of the next update after `step` updates.

    A linear warm-up reaches the peak with update `warmup_steps`. All schedules but constant and inverse_sqrt reach
    `final_lr_ratio` x peak with the last update. `sweeps/README.md` says what each does.
    """
    position = step.astype(jnp.float32)
    warmup = hyper.warmup_steps.astype(jnp.float32)
    last = hyper.steps.astype(jnp.float32) - 1.0
    share = jnp.clip((position - warmup) / jnp.maximum(last - warmup, 1.0), 0.0, 1.0)
    ratio = hyper.final_lr_ratio
    cosine = ratio + (1.0 - ratio) * 0.5 * (1.0 + jnp.cos(jnp.pi * share))
    decay_steps = hyper.decay_steps.astype(jnp.float32)
    decayed = jnp.clip((position - last + decay_steps) / decay_steps, 0.0, 1.0)
    shapes = {
        "constant": jnp.ones_like(cosine),
        "cosine": cosine,
        "wsd": 1.0 - (1.0 - ratio) * decayed,
        "linear": 1.0 - (1.0 - ratio) * share,
        "inverse_sqrt": jnp.sqrt(jnp.maximum(warmup, 1.0) / jnp.maximum(position + 1.0, jnp.maximum(warmup, 1.0))),
        "wsd_exponential": ratio**decayed,
        "two_stage": jnp.where(decayed > 0.0, ratio, 1.0),
        "multi_step": jnp.where(decayed > 0.5, ratio, jnp.where(decayed > 0.0, jnp.sqrt(ratio), 1.0)),
    }
    shape = jnp.stack([shapes[name] for name in SCHEDULES])[hyper.schedule]
    return hyper.lr * shape * jnp.minimum(1.0, (position + 1.0) / jnp.maximum(warmup, 1.0))


def transform(
    kind: str, hyper: Hyper, rate: Float[Array, ""] | float, scaling: Any = None
) -> optax.GradientTransformationExtraArgs:
    """An update: clip by the global norm, take the optimizer's direction, add weight decay, times -rate.

    Only matrices decay; norm scales, which have one axis, do not. `update` takes the gradient's norm as `norm`. Muon
    makes the momentum of a matrix orthogonal, with the root mean square of 0.2 that Adam's directions have about (Liu
    et al. 2025, arXiv 2502.16982); the vocabulary's tables and norm scales have Adam's.

    Args:
        scaling: for AdamW the `Multipliers` of every parameter, as a tree, or None for none. Adam's direction is
            multiplied before weight decay is added. An epsilon is multiplied by dividing the gradient, which comes to
            the same.
    """
    adam = optax.scale_by_adam(hyper.beta1, hyper.beta2, hyper.eps)
    if kind == "muon":
        axes = contrib.MuonDimensionNumbers(-2, -1)
        muon = optax.chain(
            contrib.scale_by_muon(beta=hyper.momentum, weight_dimension_numbers=_matrices(axes)),
            optax.stateless(lambda tree, _: jax.tree.map(lambda m: m * (0.2 * max(m.shape[-2:]) ** 0.5), tree)),
        )
        direction = optax.partition({"adam": adam, "muon": muon}, _optimizer_of)
    else:
        direction = adam if kind == "adamw" else optax.trace(hyper.momentum)
    decay = optax.add_decayed_weights(hyper.weight_decay, lambda tree: jax.tree.map(lambda leaf: leaf.ndim > 1, tree))
    if scaling is not None:
        direction = optax.chain(
            _each(scaling, lambda leaf, own: leaf / own.epsilon),
            direction,
            _each(scaling, lambda leaf, own: leaf * own.rate),
        )
    return optax.chain(_clip(hyper.clip), direction, decay, optax.scale(-rate))


def _optimizer_of(params: Any) -> Any:
    """`muon` for the matrices of the blocks and `adam` for all other parameters."""

    def of_leaf(path: tuple[Any, ...], leaf: Array) -> str:
        return "muon" if leaf.ndim > 1 and not is_table(path) else "adam"

    return jax.tree_util.tree_map_with_path(of_leaf, params)


def _matrices(axes: contrib.MuonDimensionNumbers) -> Callable[[Any], Any]:
    """The axes of the matrix in every parameter."""
    return lambda tree: jax.tree.map(lambda _: axes, tree)


def _clip(limit: Float[Array, ""]) -> optax.GradientTransformationExtraArgs:
    """Scale a gradient down to a norm of at most `limit`.

    `optax.clip_by_global_norm` measures the norm again and keeps the gradient over its norm, in two more passes: a turn
    of 8 slots of 2 layers of width 32 took 1.8 % longer.
    """

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        share = jnp.minimum(1.0, limit / extra["norm"])
        return jax.tree.map(lambda leaf: leaf * share, updates), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def _each(scaling: Any, change: Callable[[Array, Multipliers], Array]) -> optax.GradientTransformation:
    """A stateless change of every parameter's update by its own multipliers."""

    def update(updates: Any, _params: Any) -> Any:
        own = jax.tree.leaves(scaling, is_leaf=lambda node: isinstance(node, Multipliers))
        leaves, structure = jax.tree.flatten(updates)
        return jax.tree.unflatten(structure, map(change, leaves, own))

    return optax.stateless(update)


def init_moments(kind: str, params: nnx.State, scaling: Any = None) -> optax.OptState:
    """The optimizer's state before the first update; for `scaling` see `transform`."""
    zero = jax.tree.map(lambda _: jnp.float32(0.0), hyper_like(1))
    return transform(kind, zero, 0.0, scaling).init(params)
