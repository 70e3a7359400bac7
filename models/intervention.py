"""The declaration of an intervention: what changes training beyond the optimizer, without the engine knowing its name.

An intervention is one file in `models/interventions`, which defines a frozen dataclass of its fields and an
`Intervention` with the file's name in capitals. Sweeps read the fields, so that neither this file nor the top of
those files imports JAX; hooks import it.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_type_hints

from models.config import ModelConfig

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Array, Int, Int32, Key


class Moment(NamedTuple):
    """Where a run is: the number of updates that it has made, of how many, and its seed."""

    step: Int[Array, ""]
    steps: Int[Array, ""]
    seed: Int[Array, ""]

    def key(self) -> Key[Array, ""]:
        """A random key of this run and step."""
        import jax

        return jax.random.fold_in(jax.random.key(self.seed), self.step)


class TextRead(NamedTuple):
    """What a run reads, for interventions in its batches.

    Attributes:
        seed: of the run.
        total: the number of windows that the run reads, D over the context.
        windows: the windows of the intervention's own probes, by name.
    """

    seed: int
    total: int
    windows: Mapping[str, Int32[np.ndarray, "windows T+1"]]


# A tap sees activations on their way through the model, and returns those that go on. It is called in the order of the
# computation, at `embedded` (the rows of the embedding); for each block at `block_in`, for each of its two branches at
# `branch_in` (what enters its matrices; once where the branches are parallel) and `branch_out` (what is added to the
# residual stream), and at `block_out`; and at `final`, before the last norm.
Place = Literal["embedded", "block_in", "branch_in", "branch_out", "block_out", "final"]
Tap = Callable[[Place, Any], Any]


def no_tap(place: Place, activations: Any) -> Any:
    """Leave the activations as they are."""
    return activations


@dataclasses.dataclass(frozen=True)
class Intervention:
    """What an intervention does, as pure functions of one run. All hooks but `fields` may be absent.

    In hooks `fields` has arrays in the place of numbers (fields of type float), which may differ inside a pack; fields
    of other types are Python values, on which the compiled program depends. `own` is the intervention's state, a tree
    of arrays, as parameters and their gradient are. A turn calls the hooks in the order in which they stand here.

    Attributes:
        fields: a frozen dataclass of the settings, with defaults; the first field is at its default where the
            intervention is off.
        begin: (fields, the first state of the run without any `own`, key) -> own.
        around: (fields, own, state, tokens, moment, turn) -> (state, own, metrics), in the place of a turn, which it
            may call: turn(state, tokens) -> (state, metrics). Such an intervention is combined with no other.
        seen: (fields, own, params) -> the parameters that the forward pass sees, in training and in evaluation. The
            gradient is taken there, and applied to `params` themselves (the straight-through estimator).
        tap: (fields, key) -> what the activations go through in training (`Tap`). The key is of the run, the step, and
            the part of the batch that is computed at once.
        evaluation_tap: fields -> the same in evaluation; the numbers of the fields are not known there.
        gradient: (fields, own, gradient, moment) -> the gradient that the optimizer gets.
        after: (fields, own, params before the update, params after it, moment) -> (params, own).
        view: (fields, own) -> parameters that are evaluated beside the last ones, under the intervention's name.
        probes: fields -> name -> the number of held-out windows, beside those of the probe `heldout`, that are
            evaluated whenever the run is.
        batches: (fields, reading, the number of the first window, tokens [turns, m, T+1]) -> tokens. This and `probes`
            are of the host, in numpy.
        check: (fields, the number of windows that the run reads), which raises ValueError for fields that do not fit.
        counts: (fields, model, steps, D) -> columns of the table of runs, beside the fields or in the place of others.
        parts: fields -> the number of equal parts into which the sequences of a turn must be divisible.
        copies: fields -> the size of `own`, as a multiple of the parameters' bytes.
        cost: fields -> by how much longer a step takes, as a share of its time, as it was measured.
        late: whether its taps and `after` come after those of all others, because it uses what they have made of the
            activations or parameters. Else interventions are called in the order of their names.
    """

    fields: type
    begin: Callable[[Any, Any, Key[Array, ""]], Any] | None = None
    around: Callable[[Any, Any, Any, Array, Moment, Callable], tuple[Any, Any, Any]] | None = None
    seen: Callable[[Any, Any, Any], Any] | None = None
    tap: Callable[[Any, Key[Array, ""]], Tap] | None = None
    evaluation_tap: Callable[[Any], Tap] | None = None
    gradient: Callable[[Any, Any, Any, Moment], Any] | None = None
    after: Callable[[Any, Any, Any, Any, Moment], tuple[Any, Any]] | None = None
    view: Callable[[Any, Any], Any] | None = None
    probes: Callable[[Any], dict[str, int]] | None = None
    batches: Callable[[Any, TextRead, int, Any], Any] | None = None
    check: Callable[[Any, int], object] | None = None
    counts: Callable[[Any, ModelConfig, int, int], dict[str, float]] | None = None
    parts: Callable[[Any], int] = lambda _: 1
    copies: Callable[[Any], float] = lambda _: 0.0
    cost: Callable[[Any], float] = lambda _: 0.0
    late: bool = False


@functools.cache
def intervention_names() -> tuple[str, ...]:
    """The names of all interventions, which are those of their files."""
    folder = Path(__file__).with_name("interventions")
    return tuple(sorted(module.name for module in pkgutil.iter_modules([str(folder)])))


@functools.cache
def get_intervention(name: str) -> Intervention:
    """The intervention of this name, one of `intervention_names`."""
    return getattr(importlib.import_module(f"models.interventions.{name}"), name.upper())


def name_of(fields: Any) -> str:
    """The name of the intervention that these fields are of."""
    return type(fields).__module__.rpartition(".")[2]


@functools.cache
def field_types(name: str) -> dict[str, Any]:
    """The fields of an intervention with their types, of which `Annotated` ones have bounds."""
    return get_type_hints(get_intervention(name).fields, include_extras=True)


def defaults_of(name: str) -> Any:
    """The fields of an intervention that is off."""
    return get_intervention(name).fields()


def is_on(fields: Any) -> bool:
    """Whether an intervention with these fields changes anything: its first field is not at its default."""
    first = dataclasses.fields(fields)[0]
    return getattr(fields, first.name) != first.default


def on_device(fields: Any) -> bool:
    """Whether the compiled program depends on the intervention with these fields."""
    each = get_intervention(name_of(fields))
    hooks = (each.begin, each.around, each.seen, each.tap, each.evaluation_tap, each.gradient, each.after, each.view)
    return any(hook is not None for hook in hooks)


def probes_of(interventions: Iterable[Any]) -> dict[str, int]:
    """The number of windows of each probe that these interventions add."""
    found: dict[str, int] = {}
    for fields in interventions:
        probes = get_intervention(name_of(fields)).probes
        found |= probes(fields) if probes else {}
    return found


@functools.cache
def _float_names(kind: type) -> tuple[str, ...]:
    return tuple(name for name, hint in get_type_hints(kind).items() if hint is float)


def float_fields(fields: Any) -> tuple[Any, ...]:
    """The values of the fields of type float, in their order."""
    return tuple(getattr(fields, name) for name in _float_names(type(fields)))


def with_floats(fields: Any, numbers: tuple[Any, ...]) -> Any:
    """The fields with other values of those of type float."""
    return dataclasses.replace(fields, **dict(zip(_float_names(type(fields)), numbers, strict=True)))


def without_floats(fields: Any) -> Any:
    """The fields that a compiled program depends on; those of type float are 0."""
    return with_floats(fields, (0.0,) * len(_float_names(type(fields))))
