"""What a scaling law is here: a declaration. Solver, bootstrap, identifiability and report do not know laws by name.

A law is a function of columns and constants under the decorator `law`, which says where its numbers come from and where
a search for them begins. The modules of this folder hold families of laws; `registry` finds a law by its id.
"""

import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# Numbers, numpy arrays or traced JAX arrays alike: a law is the same formula for all of them.
Parameters = Mapping[str, Any]  # name -> scalar, or an array: one value per column or group (`Parameter.each`)
Columns = Mapping[str, Any]  # role -> Float[Array, "rows"]; a vector role -> Float[Array, "rows columns"]
Scales = Mapping[str, float]
# The table of a law with held constants has a column of ones for each role, which is divided by the role's scale, too.
UNIT_OF = "unit of "


class PositiveColumn:
    """A column of positive numbers, whose powers are taken as exp(exponent * log column).

    XLA's own power is slower on a CPU: it takes 3.3 times as long for the value of `chinchilla`, 1.7 times for its
    derivatives (174 rows, 2,000 points). Under other operators the object acts as the array of its `values`.
    """

    __array_ufunc__ = None  # so that numpy leaves the operators to this class

    def __init__(self, values: Any):
        self.values = values

    @property
    def log(self) -> Array:
        """Natural logarithm of the column."""
        return jnp.log(self.values)

    def __pow__(self, exponent: Any) -> Array:
        return jnp.exp(exponent * self.log)

    def __jax_array__(self) -> Array:
        return jnp.asarray(self.values)

    def __add__(self, other: Any) -> Array:
        return self.__jax_array__() + other

    def __sub__(self, other: Any) -> Array:
        return self.__jax_array__() - other

    def __mul__(self, other: Any) -> Array:
        return self.__jax_array__() * other

    def __truediv__(self, other: Any) -> Array:
        return self.__jax_array__() / other

    def __rmul__(self, other: Any) -> Array:
        return other * self.__jax_array__()

    def __rtruediv__(self, other: Any) -> Array:
        return other / self.__jax_array__()


@dataclass(frozen=True)
class Parameter:
    """One constant of a law. The search moves it, or its logarithm for `log`, between `low` and `high`.

    If the law is centred, bounds and starts are those of the parameter in centred columns (each column and the response
    divided by its geometric mean), so that they do not depend on the units of the table.
    `published` is the constant of the source in raw units; it is shown beside the estimate and never used in the fit.
    `unit` is the constant's unit as a product of powers of columns and response, such as `L N^alpha`; an exponent is a
    number, a constant, or a product or quotient of them (`1/alpha_N`, `-z`, `phi*beta`).
    `each` names a vector role, or `group`: the law then has one such constant per column of that role, or per group,
    and `predict` gets them as an array. `bind` replaces it by single parameters; their `of` and `index` say of which
    constant each is which element.
    `term` says that the constant is a term of the response, or the factor of one, unless the law declares `linear`.
    """

    name: str
    transform: Literal["log", "identity"]
    low: float
    high: float
    starts: tuple[float, ...]
    published: float | None = None
    unit: str = ""
    each: str | None = None
    of: str | None = None
    index: int = 0
    term: bool = False


def floor(name: str = "E", starts: tuple[float, ...] = (0.5,), published: float | None = None) -> Parameter:
    """The floor of a loss, which no amount of parameters or data removes, as a share of the typical loss."""
    return Parameter(name, "log", 1e-8, 1.5, starts, published, "L", term=True)


def coefficient(
    name: str, unit: str, starts: tuple[float, ...] = (0.1,), published: float | None = None, low: float = 1e-8
) -> Parameter:
    """A positive factor of a term. For columns divided by their means it is the term's share of the typical loss."""
    return Parameter(name, "log", low, 1e4, starts, published, unit, term=True)


def exponent(name: str, starts: tuple[float, ...], published: float | None = None, low: float = 0.0) -> Parameter:
    """The exponent of a term that falls as its column grows."""
    return Parameter(name, "identity", low, 4.0, starts, published)


def power_terms(*terms: str, starts: tuple[float, ...], **published: float) -> tuple[Parameter, ...]:
    """The constants of a floor E and of terms such as `A/N^alpha`: E, the factors, the exponents.

    Terms may share an exponent. Every exponent has the same `starts`.
    """
    parts = [re.split("[/^]", term) for term in terms]
    return (
        floor(published=published.get("E")),
        *(coefficient(A, f"L {column}^{alpha}", published=published.get(A)) for A, column, alpha in parts),
        *(exponent(name, starts, published.get(name)) for name in dict.fromkeys(alpha for _, _, alpha in parts)),
    )


@dataclass(frozen=True)
class Combination:
    """A function of the parameters, such as `alpha - z*beta`, that may be identified where they themselves are not."""

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
        columns: the roles it reads that have one number per row.
        predict: (parameters, columns) -> the response in its own units, a JAX function.
        source: where the formula and the published constants come from.
        objective: the id of the objective (`harness.fit.problem.objective`) that fits it by default.
        about: what is known of it beyond formula and source: units, where it holds, how it was chosen.
        vectors: roles of several columns (`--set h=web,code`), read as one array.
        labels: roles that hold names, such as the run a row belongs to; read as whole numbers from 0.
        signed: roles whose values may be zero or negative; the response may be one of them.
        derive: raw columns -> further arrays with a leading axis of rows, computed once; `predict` gets them too.
        linear: parameters in which the response is linear, by default those made by `floor` and `coefficient`. The
            search starts from their least-squares solution.
        raw: (parameters, scales) -> raw values of the constants whose change with the units no `unit` can
            express, such as an offset in a logarithm.
        combinations: functions of the parameters that are tested for being identified, and reported with their errors.
        regimes: (raw parameters, columns) -> masks of the rows in each regime. Parameters that only a nearly empty
            regime pins down are not identified, however well the optimiser converged.
        alternatives: ids of laws that the sensitivity block fits beside this one.
        shapes: constants without a unit that are not exponents, such as the sharpness of a crossover. Whether two
            groups share them is asked by likelihood, not by a margin on their difference.
        contrast: whether the response is a measured difference of two losses, as gaps are. Then it may have either
            sign, its rows have standard errors, and a fit means something only if the difference is shown to lie above
            zero first.
        optimum: for laws of a loss in N and D: (parameters, N D) -> log N of the lowest loss at that product of N and
            D, and d log N / d log (N D), which is the same at every product. nan where there is no minimum. For laws
            without this function the minimum is searched for.
        published_cases: constants published for several cases, such as kinds of data; one row per case.
        held: constants that are held at a value, in raw units; they are not among the parameters (`laws.held`).
        whole: the law in which they are parameters.
    """

    id: str
    formula: str
    response: str
    parameters: tuple[Parameter, ...]
    columns: tuple[str, ...]
    predict: Callable[[Parameters, Columns], Float[Array, "rows"]]
    source: str
    objective: Literal["normal", "log_huber", "log_squares", "squares"]
    about: str = ""
    vectors: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    signed: tuple[str, ...] = ()
    derive: Callable[[Columns], dict[str, Any]] | None = None
    linear: tuple[str, ...] = ()
    raw: Callable[[Parameters, Scales], dict[str, Any]] | None = None
    combinations: tuple[Combination, ...] = ()
    regimes: Callable[[Parameters, Columns], dict[str, Float[Array, "rows"]]] | None = None
    alternatives: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()
    contrast: bool = False
    optimum: Callable[[Parameters, Any], tuple[Any, Any]] | None = None
    published_cases: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    held: Mapping[str, float] = field(default_factory=dict, hash=False)
    whole: "Law | None" = None

    @property
    def signed_response(self) -> bool:
        """Whether the response may be zero or negative, so that it has no logarithm."""
        return self.contrast or self.response in self.signed

    @property
    def roles(self) -> tuple[str, ...]:
        """Every role the law needs, the response last."""
        return (*self.columns, *self.vectors, *self.labels, self.response)

    @property
    def centred(self) -> bool:
        """Whether the law is fitted to columns divided by their geometric means: true if any constant has a unit."""
        return self.raw is not None or any(p.unit for p in self.parameters)

    def rescale(self, parameters: Parameters, scales: Scales) -> dict[str, Any]:
        """Convert parameters fitted on centred columns to those of raw columns; unchanged if the law is not centred.

        `scales` has one value per column and one for the response, and
        predict(rescale(p, s), columns) = s[response] * predict(p, columns / s).
        """
        if self.whole is not None:
            return self.whole.rescale(self.completed(parameters, scales), scales)
        values = dict(parameters)
        for p in self.parameters:
            if p.unit:
                name = p.of or p.name
                values[name] = parameters[name] * _size_of(p.unit, parameters, scales)
        return values | self.raw(parameters, scales) if self.raw else values

    def completed(self, parameters: Parameters, scales: Scales) -> dict[str, Any]:
        """The parameters on centred columns with the held constants, converted from their raw values to these columns.

        What a constant converts to may depend on other constants, so that all are converted to raw units and back.
        """
        if self.whole is None:
            return dict(parameters)
        raw = {**self.whole.rescale({**self.held, **parameters}, scales), **self.held}
        back = self.whole.rescale(raw, {name: 1.0 / scale for name, scale in scales.items()})
        return {name: back[name] for name in self.held} | dict(parameters)

    def on_raw_columns(self, parameters: tuple[Parameter, ...]) -> "Law":
        """The same law with other ranges of its parameters, for a fit to the columns as they are."""
        return replace(self, parameters=tuple(replace(p, unit="") for p in parameters), raw=None)


def _size_of(unit: str, parameters: Parameters, scales: Scales) -> Any:
    """The size of a unit such as `L N^alpha` where columns and response are measured in `scales`."""
    size = 1.0
    for factor in unit.split():
        column, _, power = factor.partition("^")
        size = size * (scales[column] ** _exponent_of(power, parameters) if power else scales[column])
    return size


def _exponent_of(text: str, parameters: Parameters) -> Any:
    value = -1.0 if text.startswith("-") else 1.0
    for operator, atom in re.findall(r"([*/]?)([\w.]+)", text):
        number = parameters[atom] if atom in parameters else float(atom)
        value = value / number if operator == "/" else value * number
    return value


def law(formula: str, *, like: Law | None = None, **declared: Any) -> Callable[[Callable[..., Any]], Law]:
    """Declares the law that a function computes: its name is the id, its docstring the field `about`.

    The function's arguments before the star are what it reads: columns, then vectors (or what `derive` makes of them).
    Columns of positive numbers come as `PositiveColumn`, all else as arrays. Its arguments behind the star are the
    constants; one whose name is a word of Python has an underscore behind it.

    Args:
        formula: the formula in plain text.
        like: a law whose declarations hold here too, except where they are given again.
        declared: fields of `Law`. Without them the response is `L`, the objective `log_huber`, and the columns are the
            arguments before the star that are not vectors.
    """

    def declare(function: Callable[..., Any]) -> Law:
        arguments = inspect.signature(function).parameters.values()
        reads = tuple(a.name for a in arguments if a.kind is a.POSITIONAL_OR_KEYWORD)
        constants = {a.name: a.name.rstrip("_") for a in arguments if a.kind is a.KEYWORD_ONLY}
        known: dict[str, Any] = dict(vars(like)) if like else {"response": "L", "objective": "log_huber"}
        known |= {"id": function.__name__, "formula": formula, "about": inspect.getdoc(function) or ""} | declared
        known.setdefault("columns", tuple(name for name in reads if name not in known.get("vectors", ())))
        if "linear" not in declared:
            known["linear"] = tuple(p.name for p in known["parameters"] if p.term)
        positive = set(known["columns"]) - set(known.get("signed", ()))

        def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
            values = [PositiveColumn(columns[name]) if name in positive else columns[name] for name in reads]
            return function(*values, **{argument: parameters[name] for argument, name in constants.items()})

        known["predict"] = predict
        return Law(**known)

    return declare


# Measured gaps may have either sign, and have standard errors.
law_of_gaps = functools.partial(law, response="G", objective="normal", contrast=True)


def bind(law: Law, names: Mapping[str, Sequence[str]]) -> Law:
    """`law` with one parameter per column of each vector role, and per group; `names` has the names by role."""
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
    """`law` in which every group (role `group`) has its own constants `own`, and the others are shared."""

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

    The column is divided by its geometric mean, so the other parameters keep their meaning at a typical row.
    """
    name = f"rho_{column}"

    def derive(columns: Columns) -> dict[str, Any]:
        logs = np.log(columns[column])
        return (law.derive(columns) if law.derive else {}) | {f"centred_log_{column}": logs - logs.mean()}

    def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
        return law.predict(parameters, columns) * jnp.exp(parameters[name] * columns[f"centred_log_{column}"])

    return replace(
        law,
        id=f"{law.id}+{column}",
        formula=f"({law.formula}) * {column}^{name}",
        parameters=(*law.parameters, Parameter(name, "identity", -5.0, 5.0, (0.0,), published=0.0)),
        columns=tuple(dict.fromkeys((*law.columns, column))),
        predict=predict,
        derive=derive,
        linear=(),
        alternatives=(),
    )


def forward(parameter: Parameter, value: Float[Array, "..."]) -> Float[Array, "..."]:
    """Convert a value in natural units to the coordinate that the search moves."""
    return jnp.log(value) if parameter.transform == "log" else jnp.asarray(value)


def backward(parameter: Parameter, coordinate: Float[Array, "..."]) -> Float[Array, "..."]:
    """Convert the coordinate that the search moves to natural units."""
    return jnp.exp(coordinate) if parameter.transform == "log" else coordinate


def natural(parameters: tuple[Parameter, ...], theta: Float[Array, "parameters"]) -> dict[str, jax.Array]:
    """Convert a vector of coordinates to named values in natural units, as `predict` takes them."""
    return named(parameters, [backward(p, theta[i]) for i, p in enumerate(parameters)])


def named(parameters: tuple[Parameter, ...], values: Any) -> dict[str, Any]:
    """Name values in natural units, given in the order of the parameters, as `predict` takes them."""
    return stacked(parameters, {p.name: values[i] for i, p in enumerate(parameters)})


def stacked(parameters: tuple[Parameter, ...], values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert one value per parameter to what `predict` takes: a constant's elements as one array, elements first."""
    several: dict[str, list] = {}
    for p in parameters:
        if p.of is not None:
            several.setdefault(p.of, []).append(values[p.name])
    single = {p.name: values[p.name] for p in parameters if p.of is None}
    return single | {name: jnp.stack(jnp.broadcast_arrays(*elements)) for name, elements in several.items()}


def value_of(parameter: Parameter, values: Mapping[str, Any]) -> Any:
    """The value of one parameter in what `stacked` returns."""
    return values[parameter.name] if parameter.of is None else values[parameter.of][parameter.index]
