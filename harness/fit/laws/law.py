"""What a scaling law is here: a declaration. Solver, bootstrap, identifiability and report know no law by name.

A law lives in one file of `harness/fit/laws/`, which defines `LAW`; its name is the law's id.
"""

import functools
import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sweeps.errors import InputError

# Numbers, numpy arrays or traced JAX arrays alike: a law is the same formula for all of them.
Parameters = Mapping[str, Any]  # name -> scalar; one value per column of a role or per group where declared so
Columns = Mapping[str, Any]  # role -> Float[Array, "rows"]; a vector role -> Float[Array, "rows columns"]
Scales = Mapping[str, float]


@dataclass(frozen=True)
class Parameter:
    """One constant of a law. The search runs in log space for `log`, between `low` and `high`.

    Bounds and starts are those of the parameter in centred columns (each column and the response divided by its
    geometric mean) when the law has a `rescale`, so that they do not depend on the units of the table.
    `published` is the constant of the source in raw units; it is shown beside the estimate and never used in the fit.
    `each` names a vector role, or `group`: the law then has one such constant per column of that role, or per group,
    and `predict` gets them as an array. `bind` puts them in place; `of` and `index` say whose element one is.
    """

    name: str
    transform: Literal["log", "identity"]
    low: float
    high: float
    starts: tuple[float, ...]
    published: float | None = None
    each: str | None = None
    of: str | None = None
    index: int = 0


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
        response: the role it predicts, such as `G` (gap) or `L` (loss), both in nats per token.
        parameters: its constants, without those of the objective (`tau`).
        columns: the roles it reads, a number a row each.
        predict: (parameters, columns) -> the response in its own units, a JAX function.
        source: where the formula and the published constants come from.
        objective: the id of the objective (`harness.fit.problem.objective`) it is fitted by by default.
        vectors: roles of several columns (`--set h=web,code`), read as one array.
        labels: roles of names, such as the run a row belongs to; read as whole numbers from 0.
        signed: roles, the response among them if need be, whose values may be zero or negative.
        derive: raw columns -> further arrays with a leading axis of rows, computed once; `predict` gets them too.
        linear: parameters in which the response is linear; the search starts from their exact solution.
        rescale: turns parameters fitted on centred columns into those of the raw columns. `scales` has a value per
            column and one for the response. The law then obeys
            predict(rescale(p, s), columns) = s[response] * predict(p, columns / s).
        combinations: tested for being identified, and reported with their errors.
        regimes: (raw parameters, columns) -> row masks. Parameters that only a nearly empty regime pins down are not
            identified, however well the optimiser converged.
        alternatives: ids of laws that the sensitivity block fits beside this one.
        shapes: constants without a unit that are no exponents, such as the sharpness of a crossover: whether two groups
            share them is asked by likelihood, not by a margin on their difference.
        contrast: the response is a measured difference of two losses, as gaps are: it may have either sign, its rows
            have standard errors, and a fit means something only if the difference is shown to lie above zero first.
        optimum: of a loss in N and D, (parameters, N D) -> log N of the lowest loss where the product of N and D is
            given, and d log N / d log (N D), which is the same at every product. nan where there is no minimum. Laws
            without it have their minimum searched for.
    """

    id: str
    formula: str
    response: str
    parameters: tuple[Parameter, ...]
    columns: tuple[str, ...]
    predict: Callable[[Parameters, Columns], Float[Array, "rows"]]
    source: str
    objective: Literal["normal", "log_huber", "log_squares", "squares"]
    vectors: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    signed: tuple[str, ...] = ()
    derive: Callable[[Columns], dict[str, Any]] | None = None
    linear: tuple[str, ...] = ()
    rescale: Callable[[Parameters, Scales], dict[str, Float[Array, ""]]] | None = None
    combinations: tuple[Combination, ...] = ()
    regimes: Callable[[Parameters, Columns], dict[str, Float[Array, "rows"]]] | None = None
    alternatives: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()
    contrast: bool = False
    optimum: Callable[[Parameters, Any], tuple[Any, Any]] | None = None

    @property
    def signed_response(self) -> bool:
        """Whether the response may be zero or negative, so that it has no logarithm."""
        return self.contrast or self.response in self.signed

    @property
    def roles(self) -> tuple[str, ...]:
        """Every role it needs, the response last."""
        return (*self.columns, *self.vectors, *self.labels, self.response)


NOT_LAWS = ("law", "forgetting_bound", "gmse", "pass_rates")


def law_ids() -> list[str]:
    """The ids of all declared laws, in alphabetical order: one per file of `harness/fit/laws/`."""
    laws = importlib.import_module("harness.fit.laws")
    names = [module.name for module in pkgutil.iter_modules(laws.__path__)]
    return sorted(name for name in names if name not in NOT_LAWS and not name.startswith("_"))


def get_law(law_id: str) -> Law:
    """The law of that id.

    Raises:
        InputError: no file declares it.
    """
    if law_id not in law_ids():
        raise InputError("fit", "law", law_id, f"one of {', '.join(law_ids())}")
    return importlib.import_module(f"harness.fit.laws.{law_id}").LAW


def published_cases(law_id: str) -> list[dict[str, Any]]:
    """Constants published for several cases, a row a case: `PUBLISHED` in the file of a law that has such a table."""
    return list(getattr(importlib.import_module(f"harness.fit.laws.{law_id}"), "PUBLISHED", ()))


def bind(law: Law, names: Mapping[str, Sequence[str]]) -> Law:
    """`law` with one parameter per column of its vector roles, and per group; `names` has the columns' names."""
    parameters = []
    for p in law.parameters:
        if p.each is None:
            parameters.append(p)
            continue
        for index, name in enumerate(names[p.each]):
            parameters.append(replace(p, name=f"{p.name}[{name}]", each=None, of=p.name, index=index))
    return replace(law, parameters=tuple(parameters))


@functools.cache
def by_group(law: Law, own: tuple[str, ...]) -> Law:
    """`law` where every group (the role `group`) has its own constants `own`, and the others are shared."""

    def of_rows(parameters: Parameters, columns: Columns) -> Parameters:
        return dict(parameters) | {name: parameters[name][columns["group"]] for name in own}

    return replace(
        law,
        id=f"{law.id}/{','.join(own)} by group",
        parameters=tuple(replace(p, each="group") if p.name in own else p for p in law.parameters),
        labels=tuple(dict.fromkeys((*law.labels, "group"))),
        predict=lambda parameters, columns: law.predict(of_rows(parameters, columns), columns),
        combinations=(),
        regimes=None,
        alternatives=(),
    )


@functools.cache
def with_factor(law: Law, column: str) -> Law:
    """`law` times `column ** rho`: asks whether a variable that the law leaves out carries something of its own.

    The column is centred on its geometric mean, so the other parameters keep their meaning at a typical row.
    """
    name = f"rho_{column}"

    def derive(columns: Columns) -> dict[str, Any]:
        logs = np.log(columns[column])
        return (law.derive(columns) if law.derive else {}) | {f"centred_log_{column}": logs - logs.mean()}

    def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
        return law.predict(parameters, columns) * jnp.exp(parameters[name] * columns[f"centred_log_{column}"])

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
        derive=derive,
        rescale=rescale,
        linear=(),
        alternatives=(),
    )


def forward(parameter: Parameter, value: Float[Array, "..."]) -> Float[Array, "..."]:
    """Natural units to the coordinate the search runs in."""
    return jnp.log(value) if parameter.transform == "log" else jnp.asarray(value)


def backward(parameter: Parameter, coordinate: Float[Array, "..."]) -> Float[Array, "..."]:
    """The coordinate the search runs in to natural units."""
    return jnp.exp(coordinate) if parameter.transform == "log" else coordinate


def natural(parameters: tuple[Parameter, ...], theta: Float[Array, "parameters"]) -> dict[str, jax.Array]:
    """A coordinate vector as named values in natural units, as `predict` takes them."""
    return named(parameters, [backward(p, theta[i]) for i, p in enumerate(parameters)])


def named(parameters: tuple[Parameter, ...], values: Any) -> dict[str, Any]:
    """Values in natural units, in the order of the parameters, as `predict` takes them."""
    return stacked(parameters, {p.name: values[i] for i, p in enumerate(parameters)})


def stacked(parameters: tuple[Parameter, ...], values: Mapping[str, Any]) -> dict[str, Any]:
    """One value a parameter to what `predict` takes: the elements of one constant as one array, elements first."""
    found: dict[str, Any] = {}
    several: dict[str, list] = {}
    for p in parameters:
        if p.of is None:
            found[p.name] = values[p.name]
        else:
            several.setdefault(p.of, []).append(values[p.name])
    return found | {name: jnp.stack(jnp.broadcast_arrays(*elements)) for name, elements in several.items()}


def value_of(parameter: Parameter, values: Mapping[str, Any]) -> Any:
    """The inverse of `stacked`, one parameter at a time."""
    return values[parameter.name] if parameter.of is None else values[parameter.of][parameter.index]
