"""All laws by id, family by family. A law is found here as soon as the module of a family declares it.

A new family is imported here and listed in `FAMILIES`.
"""

import functools
import re
from collections.abc import Iterable
from types import ModuleType

from harness.fit.laws import (
    broken,
    compute,
    critical_batch,
    effective_size,
    fine_tuning,
    gap_collapse,
    gap_rivals,
    hyperparameters,
    mixtures,
    mixtures_of_experts,
    onsets,
    repetition,
    schedules,
    sizes_and_tokens,
    step_time,
    vocabularies,
    width_and_depth,
)
from harness.fit.laws.expression import is_expression, law_of_expression
from harness.fit.laws.held import AND, WITH, hold, parse_held
from harness.fit.laws.law import Law
from sweeps.complaints import nearest
from sweeps.errors import InputError

FAMILIES: dict[str, ModuleType] = {
    "gaps that collapse": gap_collapse,
    "other gaps": gap_rivals,
    "parameters and tokens": sizes_and_tokens,
    "one axis": compute,
    "broken power laws": broken,
    "width and depth": width_and_depth,
    "repeated tokens": repetition,
    "mixtures of experts": mixtures_of_experts,
    "effective size": effective_size,
    "vocabularies": vocabularies,
    "mixtures of text": mixtures,
    "batch and steps": critical_batch,
    "hyperparameters": hyperparameters,
    "schedules": schedules,
    "fine-tuning": fine_tuning,
    "onsets": onsets,
    "time": step_time,
}


def laws_of(family: str) -> list[Law]:
    """The laws of a family, in the order in which its module declares them."""
    return [law for law in vars(FAMILIES[family]).values() if isinstance(law, Law)]


LAWS: dict[str, Law] = {law.id: law for family in FAMILIES for law in laws_of(family)}


def law_ids() -> list[str]:
    """The ids of all laws, family by family."""
    return list(LAWS)


def get_law(law: str | Law, columns: Iterable[str] = ()) -> Law:
    """The law that a text names: `chinchilla`, `chinchilla with E=1.6` (`laws.held`), or an expression such as
    `E + A/N**alpha` (`laws.expression`); or the law itself.

    Args:
        columns: the columns of the table and the roles that are set, which an expression may read.

    Raises:
        InputError: a text that names no law, or a constant that cannot be held at this value.
    """
    if isinstance(law, Law):
        return law
    name, *held = law.split(WITH)
    if is_expression(name):
        found = law_of_expression(name, frozenset(map(str, columns)))
    elif name not in LAWS:
        raise InputError("fit", "law", name, f"an expression such as 'E + A/N**alpha', or {nearest(name, LAWS, 'law')}")
    else:
        found = LAWS[name]
    return _holding(found, AND.join(held)) if held else found


def listed(laws: str) -> list[str]:
    """The laws of a list with commas between them; a comma in brackets, as in `L(N, D) = ...`, parts none."""
    return [law.strip() for law in re.split(r",(?![^()]*\))", laws)]


@functools.cache
def _holding(law: Law, held: str) -> Law:
    """The law with constants held; the same object each time, so that its programs are compiled once."""
    return hold(law, parse_held(held.split(AND)))
