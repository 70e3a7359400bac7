"""The sweep that tunes another one: the same cells, each at several learning rates."""

import math
from collections.abc import Sequence
from typing import Any

import yaml

from sweeps.cells import DEFAULTS
from sweeps.errors import InputError
from sweeps.rules import RateRule
from sweeps.spec import read_spec


def tuning_text(text: str, where: object, *, factors: Sequence[float] = (), rates: Sequence[float] = ()) -> str:
    """The YAML text of a sweep in which the learning rate is an axis of every block.

    Args:
        text: the YAML text of the sweep to tune.
        where: the file or preset it is from.
        factors: what the sweep's own rates, numbers or rules, are multiplied by.
        rates: the rates to try instead.

    Raises:
        InputError: a bad spec, or one whose learning rate is an axis already.
    """
    spec, raw = read_spec(text, where), yaml.safe_load(text)
    for index, (block, written) in enumerate(zip(spec.blocks, raw["blocks"], strict=True)):
        groups = block.zip if isinstance(block.zip, list) else [block.zip]
        if any("lr" in axes for axes in (block.grid, *groups)):
            expected = "a learning rate that is no axis, because `isogap tune` makes it one"
            raise InputError(where, f"blocks[{index}]", "an axis lr", expected)
        own = block.defaults.get("lr") or spec.defaults.get("lr") or DEFAULTS["lr"]
        written["grid"] = (written.get("grid") or {}) | {"lr": list(rates) or [_times(own, f) for f in factors]}
    return yaml.safe_dump(raw, sort_keys=False, allow_unicode=True)


def _times(rate: float | RateRule, factor: float) -> Any:
    """A rate times a factor as it stands in a spec, rounded to six digits as a rule's rates are."""
    if isinstance(rate, RateRule):
        return rate.model_dump(exclude_none=True) | {"c": _rounded(rate.c * factor)}
    return _rounded(rate * factor)


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def rates_between(low: float, high: float) -> list[float]:
    """Rates from `low` to `high` at equal ratios, each about twice the one before, rounded to six digits."""
    steps = max(1, round(math.log2(high / low)))
    return [_rounded(low * (high / low) ** (step / steps)) for step in range(steps + 1)]
