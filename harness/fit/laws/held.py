"""Constants of a law that are held at given values: `chinchilla with E=1.6` is a law of the four other constants."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness.fit.laws.law import UNIT_OF, Columns, Combination, Law, Parameter, Parameters
from sweeps.errors import InputError

# What stands between a law and its held constants in the id `chinchilla with E=1.6 and alpha=0.35`.
WITH, AND = " with ", " and "
_FORM = "NAME=VALUE, such as E=1.6"


def parse_held(settings: Sequence[str]) -> dict[str, float]:
    """Turn options `NAME=VALUE` into name -> value; InputError for another form, or a name that is given twice."""
    values: dict[str, float] = {}
    for setting in settings:
        name, equals, number = (part.strip() for part in setting.partition("="))
        if not name or not equals:
            raise InputError("--fix", "value", setting, _FORM)
        if name in values:
            raise InputError("--fix", name, number, f"one value of {name}, and {values[name]:g} was given too")
        try:
            values[name] = float(number)
        except ValueError:
            raise InputError("--fix", name, number, f"a number ({_FORM})") from None
    return values


def with_held(law: str, values: Mapping[str, float]) -> str:
    """The id of a law with further constants held."""
    held = AND.join(f"{name}={value!r}" for name, value in values.items())
    return f"{law}{AND if WITH in law else WITH}{held}" if held else law


def hold(law: Law, values: Mapping[str, float]) -> Law:
    """The law with some constants held at values in raw units, the units in which estimates are printed.

    They are no parameters of the result: no search moves them, they cost no degree of freedom and have no error.

    Raises:
        InputError: a name that is none of the law's, a value outside its range, or no constant left to fit.
    """
    parameters = {p.name: p for p in law.parameters}
    for name, value in values.items():
        _check(law, parameters.get(name), name, value)
    free = tuple(p for p in law.parameters if p.name not in values)
    if not free:
        raise InputError("--fix", "constants", ", ".join(values), f"fewer than all {len(parameters)} of {law.id}")
    names, regimes, optimum = {p.name for p in free}, law.regimes, law.optimum
    held = {**law.held, **values}

    def every(given: Parameters) -> dict[str, float]:
        return {**held, **given}

    def predict(given: Parameters, columns: Columns):
        scales = {role: 1.0 / columns[UNIT_OF + role][0] for role in law.roles if UNIT_OF + role in columns}
        return whole.predict(found.completed(given, scales) if scales else every(given), columns)

    def combined(combination: Combination) -> Combination:
        return replace(combination, value=lambda given: combination.value(every(given)))

    whole = law.whole or law
    found = replace(
        law,
        id=with_held(law.id, values),
        formula=f"{law.formula}{WITH}{', '.join(f'{name} = {value:g}' for name, value in values.items())}",
        parameters=free,
        held=held,
        whole=whole,
        predict=predict,
        linear=tuple(name for name in law.linear if name in names),
        combinations=tuple(combined(c) for c in law.combinations if any(name in c.label for name in names)),
        regimes=None if regimes is None else lambda given, columns: regimes(every(given), columns),
        optimum=None if optimum is None else lambda given, product: optimum(every(given), product),
        # Another law's constant of the same name need not be the same constant.
        alternatives=(),
        shapes=tuple(name for name in law.shapes if name in names),
    )
    return found


def _check(law: Law, parameter: Parameter | None, name: str, value: float) -> None:
    """Raise InputError unless the value can be that of the constant. Bounds of one with a unit are not in raw units."""
    if parameter is None:
        known = ", ".join(p.name for p in law.parameters)
        raise InputError("--fix", name, value, f"one of the constants of {law.id}: {known}")
    if parameter.each is not None:
        raise InputError("--fix", name, value, f"a constant with one value, not one for each {parameter.each}")
    if parameter.unit or law.raw is not None:
        above = parameter.transform == "log"
        if not math.isfinite(value) or (above and value <= 0):
            raise InputError("--fix", name, value, "a finite number above zero" if above else "a finite number")
    elif not parameter.low <= value <= parameter.high:
        raise InputError("--fix", name, value, f"a number from {parameter.low:g} to {parameter.high:g}")
