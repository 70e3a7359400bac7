"""What a scaling law is here: a declaration. Solver, bootstrap, identifiability and report know no law by name.

A law lives in one file of `harness/fit/laws/`, which defines `LAW`; its name is the law's id.
"""

import functools
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sweeps.errors import InputError

# Numbers, numpy arrays or traced JAX arrays alike: a law is the same formula for all of them.
Parameters = Mapping[str, Any]  # name -> scalar
Columns = Mapping[str, Any]  # role -> Float[Array, "rows"]
Scales = Mapping[str, float]


@dataclass(frozen=True)
class Parameter:
    """One constant of a law. The search runs in log space for `log`, between `low` and `high`.

    Bounds and starts are those of the parameter in centred columns (each column and the response divided by its
    geometric mean) when the law has a `rescale`, so that they do not depend on the units of the table.
    `published` is the constant of the source in raw units; it is shown beside the estimate and never used in the fit.
    """

    name: str
    transform: Literal["log", "identity"]
    low: float
    high: float
    starts: tuple[float, ...]
    published: float | None = None


@dataclass(frozen=True)
class Combination:
    """A function of a law's parameters that may be identified where they are not, such as `alpha - z*beta`."""

    label: str
    value: Callable[[Parameters], Float[Array, ""]]
    published: float | None = None


@dataclass(frozen=True)
class Law:
    """A scaling law.

    Attributes:
        id: its name on the command line; lower case.
        formula: the formula in plain text, with the parameters' names.
        response: the role it predicts: `G` (gap) or `L` (loss), both in nats per token.
        parameters: its constants, without those of the likelihood (`tau`).
        columns: the roles it reads.
        predict: (parameters, columns) -> the response in its own units, a JAX function.
        source: where the formula and the published constants come from.
        likelihood: `gap`: normal on G itself, which keeps negative gaps; `log_huber`: sum of Huber on log L.
        rescale: turns parameters fitted on centred columns into those of the raw columns. `scales` has a value per
            column and one for the response. The law then obeys
            predict(rescale(p, s), columns) = s[response] * predict(p, columns / s).
        combinations: tested for being identified, and reported with their errors.
        regimes: (raw parameters, columns) -> row masks. Parameters that only a nearly empty regime pins down are not
            identified, however well the optimiser converged.
        alternatives: ids of laws that the sensitivity block fits beside this one.
    """

    id: str
    formula: str
    response: Literal["G", "L"]
    parameters: tuple[Parameter, ...]
    columns: tuple[str, ...]
    predict: Callable[[Parameters, Columns], Float[Array, "rows"]]
    source: str
    likelihood: Literal["gap", "log_huber"]
    rescale: Callable[[Parameters, Scales], dict[str, Float[Array, ""]]] | None = None
    combinations: tuple[Combination, ...] = ()
    regimes: Callable[[Parameters, Columns], dict[str, Float[Array, "rows"]]] | None = None
    alternatives: tuple[str, ...] = ()


def law_ids() -> list[str]:
    """The ids of all declared laws, in alphabetical order: one per file of `harness/fit/laws/`."""
    laws = importlib.import_module("harness.fit.laws")
    return sorted(module.name for module in pkgutil.iter_modules(laws.__path__) if not module.name.startswith("_"))


def get_law(law_id: str) -> Law:
    """The law of that id.

    Raises:
        InputError: no file declares it.
    """
    if law_id not in law_ids():
        raise InputError("fit", "law", law_id, f"one of {', '.join(law_ids())}")
    return importlib.import_module(f"harness.fit.laws.{law_id}").LAW


@functools.cache
def with_factor(law: Law, column: str) -> Law:
    """`law` times `column ** rho`: asks whether a variable that the law leaves out carries something of its own.

    The column is centred on its geometric mean, so the other parameters keep their meaning at a typical row.
    """
    name = f"rho_{column}"

    def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
        log_column = jnp.log(columns[column])
        return law.predict(parameters, columns) * jnp.exp(parameters[name] * (log_column - jnp.mean(log_column)))

    def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
        raw = law.rescale(parameters, scales) if law.rescale else dict(parameters)
        return raw | {name: parameters[name]}

    return replace(
        law,
        id=f"{law.id}+{column}",
        formula=f"({law.formula}) * {column}^{name}",
        parameters=(*law.parameters, Parameter(name, "identity", -5.0, 5.0, (0.0,), published=0.0)),
        columns=tuple(dict.fromkeys((*law.columns, column))),
        predict=predict,
        rescale=rescale,
        alternatives=(),
    )


def forward(parameter: Parameter, value: Float[Array, "..."]) -> Float[Array, "..."]:
    """Natural units to the coordinate the search runs in."""
    return jnp.log(value) if parameter.transform == "log" else jnp.asarray(value)


def backward(parameter: Parameter, coordinate: Float[Array, "..."]) -> Float[Array, "..."]:
    """The coordinate the search runs in to natural units."""
    return jnp.exp(coordinate) if parameter.transform == "log" else coordinate


def natural(parameters: tuple[Parameter, ...], theta: Float[Array, "parameters"]) -> dict[str, jax.Array]:
    """A coordinate vector as named values in natural units."""
    return {p.name: backward(p, theta[i]) for i, p in enumerate(parameters)}
