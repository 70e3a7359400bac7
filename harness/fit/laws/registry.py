"""All laws by id, family by family. A law is found here as soon as the module of a family declares it.

A new family is imported here and listed in `FAMILIES`.
"""

from types import ModuleType

from harness.fit.laws import (
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
from harness.fit.laws.law import Law
from sweeps.errors import InputError

FAMILIES: dict[str, ModuleType] = {
    "gaps that collapse": gap_collapse,
    "other gaps": gap_rivals,
    "parameters and tokens": sizes_and_tokens,
    "one axis": compute,
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


def get_law(law: str | Law) -> Law:
    """The law of that id, or the law itself; InputError if no family declares the id."""
    if isinstance(law, Law):
        return law
    if law not in LAWS:
        raise InputError("fit", "law", law, f"one of {', '.join(LAWS)}")
    return LAWS[law]
