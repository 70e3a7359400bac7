"""One step of a Levenberg-Marquardt search, for many searches at once (slots) in one compiled program.

Algorithm: a step solves

    (J' (c + damping * b) J) step = -J' s

J is the Jacobian of the objective's features, s are the slopes of the losses in the features, c their curvatures, and b
curvatures that bound the losses. With damping 1 that is iteratively reweighted least squares, which goes downhill from
far away; with damping 0 it is Newton's method on the rows inside Huber's corner, which ends in a few steps. A step that
lowers the loss is accepted and the damping divided by 5; otherwise the damping is multiplied by 4. A parameter at a
bound does not move if the loss falls outwards there. Huber's corner, where its loss turns from square to linear, starts
wide and is narrowed whenever the search has nearly ended.

Guarantee: at one corner width the loss never rises. The search ends where the next step promises to lower the loss by
less than 1e-10 of its size, or where no step lowers it at a damping of 1e9: at a stationary point within the bounds,
which need not be the lowest one. Take many starts.

Not for: more parameters than some dozens (the matrices are dense and solved without pivoting), losses that are not sums
over rows, and objectives without a bounding curvature.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.problem.model import StatisticalModel, features_at_values, in_logs, is_linear
from harness.fit.problem.objective import HuberOptions

# The largest step of a parameter, in the coordinates of the search: a factor of 20 for those in logs.
LARGEST_STEP = 3.0
# Huber's corner is divided by NARROWING when a step promises to lower the loss by less than the fraction NEARLY of it.
# The corner starts 1000 times too wide. As 31.7^2 is just above 1000, two narrowings bring it to its final width.
NARROWING = 31.7
NEARLY = 1e-2
# The damping after the corner was narrowed.
RESTART = 1.0


class Slots(NamedTuple):
    """The state of the searches, one per slot; every field has a leading axis of slots.

    Attributes:
        theta: the best point so far, in the coordinates of the search; its loss, gradient and two curvatures follow.
        proposal: the point that is evaluated next; `values` are its parameters in natural units.
        blur: the width of Huber's corner over its width in the objective.
    """

    theta: Any
    loss: Any
    gradient: Any
    curvature: Any
    majoriser: Any
    proposal: Any
    values: Any
    damping: Any
    blur: Any
    steps: Any
    finished: Any


def tangents(model: StatisticalModel, values, columns, noise, once):
    """Features of the rows, and their derivatives in the parameters (natural units).

    Each part runs in a loop of `once` = 1 iterations, since XLA does not fuse across loops. What the derivatives share
    is then computed once. If XLA fuses, it is computed again for each derivative and for each entry of the products
    they go into: a step takes 34 us instead of 5, with 240 rows and 5 parameters.
    """
    tree = []

    def shared(v):
        features, push = jax.linearize(lambda at: features_at_values(model, at, columns, noise), v)
        leaves, structure = jax.tree.flatten(push)
        tree.append(structure)
        return features, leaves

    features, leaves = _apart(shared, values, once)

    def each(parts):
        return jax.vmap(jax.tree.unflatten(tree[-1], parts))(jnp.eye(len(model.parameters)))

    return features, _apart(each, leaves, once)


def _apart(function: Callable, argument, once):
    """`function(argument)` in a loop of `once` iterations, so that XLA does not fuse it with what follows."""
    nothing = jax.tree.map(lambda part: jnp.zeros(part.shape, part.dtype), jax.eval_shape(function, argument))
    return jax.lax.fori_loop(0, once, lambda _, __: function(argument), nothing)


def _matrices(model: StatisticalModel, features, slopes, weight, target, noise, options: HuberOptions):
    """Loss, gradient, and the two curvature matrices; rows of weight zero do not count, even if they are not finite."""
    losses = model.objective.rows(features, target, noise, options)
    loss = jnp.sum(jnp.where(weight > 0, weight * losses, 0.0))
    count = len(model.parameters)
    total = jnp.zeros((2 * count + 1, count))
    for cost, tangent in zip(model.objective.costs(features, target, noise, options), slopes, strict=True):
        tangent = jnp.where(weight > 0, tangent, 0.0)
        parts = [tangent * (weight * cost.curvature), tangent * (weight * cost.majoriser), (weight * cost.slope)[None]]
        # One matrix product for all three: separate sums over the rows take twice the time on CPUs.
        total += jnp.concatenate(parts) @ tangent.T
    return loss, total[-1], total[:count], total[count : 2 * count]


def _solve(matrix: Float[Array, "p p"], right: Float[Array, "p"]) -> Float[Array, "p"]:
    """Gauss-Jordan without pivoting, for positive matrices. LAPACK goes slot by slot, which took most of a step."""
    rows = jnp.concatenate([matrix, right[:, None]], axis=1)
    for k in range(len(right)):
        pivot = rows[k] / rows[k, k]
        rows = (rows - rows[:, k : k + 1] * pivot).at[k].set(pivot)
    return rows[:, -1]


def take_step(
    model: StatisticalModel, slot: Slots, features, slopes, weight, free, target, noise, options, low, high
) -> Slots:
    """Accept or reject the proposal, given the features and their derivatives there, and propose the next point."""
    blurred = options._replace(delta=options.delta * slot.blur)
    loss, gradient, curvature, majoriser = _matrices(model, features, slopes, weight, target, noise, blurred)
    unit = jnp.where(in_logs(model), slot.values, 1.0)  # d value / d coordinate
    matrices = (gradient * unit, curvature * unit[:, None] * unit, majoriser * unit[:, None] * unit)
    usable = jnp.isfinite(loss) & jnp.all(jnp.stack([jnp.all(jnp.isfinite(m)) for m in matrices]))
    better = usable & (loss < slot.loss) & ~slot.finished
    old = (slot.loss, slot.gradient, slot.curvature, slot.majoriser)
    loss, gradient, curvature, majoriser = (
        jnp.where(better, new, before) for new, before in zip((loss, *matrices), old, strict=True)
    )
    theta = jnp.where(better, slot.proposal, slot.theta)
    damping = jnp.where(better, jnp.maximum(slot.damping / 5.0, 1e-7), slot.damping * 4.0)
    outward = ((theta <= low) & (gradient > 0)) | ((theta >= high) & (gradient < 0))
    active = free & ~outward
    gradient_ = jnp.where(active, gradient, 0.0)
    size = jnp.diagonal(majoriser)
    # The floor on the diagonal bounds the step along directions without curvature, such as those of a vanished term.
    diagonal = jnp.where(active, damping * 1e-8 * size + 1e-13 * jnp.max(size) + 1e-30, 1.0)
    matrix = jnp.where(active[:, None] & active[None, :], curvature + damping * majoriser, 0.0) + jnp.diag(diagonal)
    scale = jax.lax.rsqrt(jnp.maximum(jnp.diagonal(matrix), 1e-30))
    step = -scale * _solve(matrix * scale[:, None] * scale[None, :], scale * gradient_)
    step = jnp.where(jnp.isfinite(step), step, 0.0)
    promised = -jnp.sum(gradient_ * step)
    size, lost = model.objective.floor + jnp.abs(loss), ~jnp.isfinite(loss)
    ended = (promised < 1e-10 * size) | (damping > 1e9)
    step = jnp.clip(step, -LARGEST_STEP, LARGEST_STEP)
    # Where the response is linear in a constant, the step is exact for the constant itself, not for its log.
    step = jnp.where(in_logs(model) & is_linear(model), jnp.log1p(jnp.maximum(step, -0.9)), step)
    proposal = jnp.clip(theta + step, low, high)
    # A narrower corner is another objective. The old loss cannot be compared, so the next proposal is always accepted.
    narrow = ~slot.finished & (slot.blur > 1.0) & ((promised < NEARLY * size) | ended) & ~lost
    blur = jnp.where(narrow, jnp.maximum(slot.blur / NARROWING, 1.0), slot.blur)
    loss, damping = jnp.where(narrow, jnp.inf, loss), jnp.where(narrow, RESTART, damping)
    ended = slot.finished | lost | (ended & (slot.blur == 1.0))
    steps = slot.steps + ~slot.finished
    values = jnp.where(in_logs(model), jnp.exp(proposal), proposal)
    return Slots(theta, loss, gradient, curvature, majoriser, proposal, values, damping, blur, steps, ended)
