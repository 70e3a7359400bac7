"""The hooks of a shape's interventions, as the step, the evaluation and the start of a run call them.

All functions are of one run; a pack vmaps over them. Without interventions each returns what it was given.
"""

from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Key

from harness.train.optimizer import Hyper
from models.intervention import (
    Intervention,
    Moment,
    Place,
    Tap,
    get_intervention,
    name_of,
    no_tap,
    with_floats,
)
from sweeps.shape import Shape

# The name of the parameters that training ends with, among the views of a run.
LAST = "last"


def active(shape: Shape, hyper: Hyper) -> list[tuple[Intervention, Any]]:
    """Each intervention with its fields, in which the run's numbers are."""
    pairs = zip(shape.interventions, hyper.interventions, strict=True)
    return [(get_intervention(name_of(fields)), with_floats(fields, numbers)) for fields, numbers in pairs]


def _late_ones_last(hooks: list[tuple[Intervention, Any]]) -> list[int]:
    """The places of interventions in the order in which what they see of each other is right."""
    return sorted(range(len(hooks)), key=lambda place: hooks[place][0].late)


def begin(shape: Shape, hyper: Hyper, state: Any, key: Key[Array, ""]) -> tuple[Any, ...]:
    """The state of each intervention before the first step; () for those without one.

    Args:
        state: the first `harness.train.step.TrainState` of the run.
    """
    states = []
    for place, (each, fields) in enumerate(active(shape, hyper)):
        own = each.begin(fields, state, jax.random.fold_in(key, place)) if each.begin else ()
        # Leaves of its own: a program may not be given one buffer twice where it is to reuse it.
        states.append(jax.tree.map(lambda leaf: leaf.copy(), own))
    return tuple(states)


def around(shape: Shape) -> bool:
    """Whether an intervention, the only one, takes the place of a turn."""
    return any(get_intervention(name_of(fields)).around for fields in shape.interventions)


def seen(shape: Shape, hyper: Hyper, own: tuple[Any, ...], params: nnx.State) -> nnx.State:
    """The parameters as the forward pass sees them."""
    for (each, fields), state in zip(active(shape, hyper), own, strict=True):
        if each.seen:
            params = each.seen(fields, state, params)
    return params


def taps(shape: Shape, hyper: Hyper, key: Key[Array, ""]) -> Tap:
    """What the activations go through in training, one intervention's tap after another's."""
    hooks, made = active(shape, hyper), []
    for place in _late_ones_last(hooks):
        each, fields = hooks[place]
        if each.tap:
            made.append(each.tap(fields, jax.random.fold_in(key, place)))
    return _one_after_another(made)


def has_taps(shape: Shape) -> bool:
    """Whether the activations go through anything in training."""
    return any(get_intervention(name_of(fields)).tap for fields in shape.interventions)


def evaluation_taps(shape: Shape) -> Tap:
    """What the activations go through in evaluation."""
    hooks = [(get_intervention(name_of(fields)).evaluation_tap, fields) for fields in shape.interventions]
    return _one_after_another([hook(fields) for hook, fields in hooks if hook])


def _one_after_another(made: list[Tap]) -> Tap:
    def tap(place: Place, activations: Any) -> Any:
        for each in made:
            activations = each(place, activations)
        return activations

    return tap if made else no_tap


def changed_gradient(
    shape: Shape, hyper: Hyper, own: tuple[Any, ...], gradient: nnx.State, moment: Moment
) -> nnx.State:
    """The gradient that the optimizer gets."""
    for (each, fields), state in zip(active(shape, hyper), own, strict=True):
        if each.gradient:
            gradient = each.gradient(fields, state, gradient, moment)
    return gradient


def after_update(
    shape: Shape, hyper: Hyper, own: tuple[Any, ...], before: nnx.State, params: nnx.State, moment: Moment
) -> tuple[nnx.State, tuple[Any, ...]]:
    """The parameters and the states of the interventions after an update."""
    hooks, states = active(shape, hyper), list(own)
    for place in _late_ones_last(hooks):
        each, fields = hooks[place]
        if each.after:
            params, states[place] = each.after(fields, states[place], before, params, moment)
    return params, tuple(states)


def view_names(shape: Shape) -> tuple[str, ...]:
    """The names of the parameters that are evaluated, the last ones first."""
    return LAST, *(name_of(fields) for fields in shape.interventions if get_intervention(name_of(fields)).view)


def has_views(shape: Shape) -> bool:
    """Whether other parameters are evaluated than those that the optimizer changes."""
    hooks = [get_intervention(name_of(fields)) for fields in shape.interventions]
    return any(each.view or each.seen for each in hooks)


def views(shape: Shape, hyper: Hyper, own: tuple[Any, ...], params: nnx.State) -> dict[str, nnx.State]:
    """The parameters that are evaluated, by the names of `view_names`, as the forward pass sees them."""
    found = {LAST: params}
    for (each, fields), state in zip(active(shape, hyper), own, strict=True):
        if each.view:
            found[name_of(fields)] = each.view(fields, state)
    return {name: seen(shape, hyper, own, each) for name, each in found.items()}
