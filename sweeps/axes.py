"""The axes of a block, and how one level of settings overrides another."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from sweeps.complaints import input_error, key_text, nearest
from sweeps.errors import InputError
from sweeps.spec import KNOWN_KEYS, SETTINGS, Block, Settings

# Two ways to say one thing. A level that uses one way makes what an earlier level said the other way void.
ALTERNATIVES: tuple[tuple[frozenset[str], frozenset[str]], ...] = (
    (frozenset({"batch"}), frozenset({"batch_tokens"})),
    (frozenset({"tokens"}), frozenset({"flops"})),
    (frozenset({"epochs"}), frozenset({"unique_tokens"})),
    (frozenset({"params", "aspect"}), frozenset({"width", "depth", "heads", "ffn_width"})),
)


def axes_of(block: Block, where: object, path: str) -> list[list[dict[str, Any]]]:
    """The axes of a block, each as the settings that it takes in turn; a zip group is one axis of several fields.

    Raises:
        InputError: an unknown field, a value the field does not take, lists of a zip group that differ in length, or a
            field in two axes.
    """
    axes = [_axis(values, key, where, f"{path}.grid.{key_text(key)}") for key, values in block.grid.items()]
    groups = block.zip if isinstance(block.zip, list) else [block.zip]
    for index, group in enumerate(groups):
        place = f"{path}.zip[{index}]" if isinstance(block.zip, list) else f"{path}.zip"
        columns = {key: _axis(values, key, where, f"{place}.{key_text(key)}") for key, values in group.items()}
        if len({len(column) for column in columns.values()}) > 1:
            told = ", ".join(f"{key} has {len(column)}" for key, column in columns.items())
            raise InputError(where, place, told, "lists of equal length")
        rows = zip(*columns.values(), strict=True)
        if columns:
            axes.append([{key: value for part in row for key, value in part.items()} for row in rows])
    names = [name for axis in axes for name in axis[0]]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise InputError(where, path, twice, "each field in one axis only")
    return axes


def _axis(values: object, field: str, where: object, path: str) -> list[dict[str, Any]]:
    """The settings that one field takes in turn. A value that is not a list counts as a list of one."""
    if field not in Settings.__annotations__:
        raise InputError(where, path, field, nearest(field, tuple(Settings.__annotations__)))
    values = values if isinstance(values, list) else [values]
    if not values:
        raise InputError(where, path, values, "at least one value")
    taken = []
    for index, value in enumerate(values):
        try:
            taken.append(dict(SETTINGS.validate_python({field: value})))
        except (ValidationError, RecursionError) as error:
            raise input_error(where, path, error, KNOWN_KEYS, index) from None
    return taken


def override(earlier: Mapping[str, Any], later: Mapping[str, Any], where: object, path: str) -> dict[str, Any]:
    """The settings of `earlier`, with those of `later` in their place.

    Raises:
        InputError: `later` says one thing in two ways.
    """
    void: set[str] = set()
    for one, other in ALTERNATIVES:
        for chosen, left in ((one, other), (other, one)):
            if chosen & later.keys():
                if left & later.keys():
                    both = sorted((chosen | left) & later.keys())
                    raise InputError(where, path, ", ".join(both), "one way of saying it, not both")
                void |= left
    return {**{key: value for key, value in earlier.items() if key not in void}, **later}
