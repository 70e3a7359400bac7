"""From a table with columns in roles to the arrays a fit works on: checked, and centred on their geometric means."""

import functools
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.fit.laws.law import Law, bind
from harness.fit.problem.objective import DEFAULTS, OBJECTIVES, Model, Options, one
from sweeps.errors import InputError


@dataclass(frozen=True)
class Warned:
    """Something a reader of the result has to know. `code` is for programs, `message` for people."""

    code: str
    message: str


@dataclass(frozen=True)
class Problem:
    """A law with its data, in centred units.

    Attributes:
        model: the law, bound to the columns of its vector roles, and the objective.
        columns: the law's columns, each divided by its scale, and what it derives from them.
        response, noise: the response and its standard error, divided by the response's scale.
        cluster: an integer per row; rows of one cluster (the seeds of one configuration) are resampled together.
        fitted: rows that are fitted; the others are held out.
        scales: geometric mean of every column and of the response.
    """

    model: Model
    columns: dict[str, Float[np.ndarray, "rows ..."]]
    response: Float[np.ndarray, "rows"]
    noise: Float[np.ndarray, "rows"]
    cluster: np.ndarray
    fitted: np.ndarray
    scales: dict[str, float]
    options: Options = DEFAULTS
    warnings: tuple[Warned, ...] = field(default=())

    @property
    def law(self) -> Law:
        return self.model.law

    @property
    def raw_columns(self) -> dict[str, Float[np.ndarray, "rows ..."]]:
        return {name: values * self.scales.get(name, 1.0) for name, values in self.columns.items()}

    @functools.cached_property
    def target(self) -> Float[np.ndarray, "rows"]:
        """What the features of the objective are compared with. Within a compiled step the log would be taken again
        for every entry of every product: it doubled the time of a step."""
        return np.log(self.response) if self.model.objective.log else self.response

    @property
    def weights(self) -> Float[np.ndarray, "rows"]:
        """One for fitted rows, zero for held-out ones."""
        return self.fitted.astype(float)

    @property
    def unit(self) -> float:
        """From the loss that is minimised to the objective as the literature writes it, in raw units."""
        objective = self.model.objective
        scale = 1.0 if objective.log or objective.id == "normal" else self.scales[self.law.response] ** 2
        return objective.unit(self.options) * scale


def column_of(frame: pd.DataFrame, role: str, source: str, signed: bool = False) -> Float[np.ndarray, "rows"]:
    """The numbers of a role.

    Args:
        signed: whether zero and negative numbers are allowed.

    Raises:
        InputError: the column is missing, not numeric, not finite, or not positive where it has to be.
    """
    if role not in frame.columns:
        raise InputError(
            source, role, ", ".join(map(str, frame.columns)), f"a column for the role {role} (--set {role}=...)"
        )
    try:
        values = frame[role].to_numpy(dtype=float, na_value=np.nan)
    except (TypeError, ValueError):
        raise InputError(source, role, str(frame[role].iloc[0]), "numbers") from None
    bad = ~np.isfinite(values) | (False if signed else values <= 0)
    if bad.any():
        expected = "finite numbers" if signed else "finite numbers above zero"
        raise InputError(source, role, float(values[np.argmax(bad)]), f"{expected} in every row ({bad.sum()} are not)")
    return values


def vector_columns(frame: pd.DataFrame, role: str) -> dict[str, str]:
    """Of a role of several columns, which a table holds as `role[name]`: name -> column."""
    start = f"{role}["
    return {c[len(start) : -1]: c for c in map(str, frame.columns) if c.startswith(start) and c.endswith("]")}


def read_columns(law: Law, frame: pd.DataFrame, source: str) -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
    """What a law reads of a table, in raw units, with what it derives; and the names of vectors' columns and groups.

    Raises:
        InputError: a column is missing or unusable.
    """
    columns = {role: column_of(frame, role, source, role in law.signed) for role in law.columns}
    names: dict[str, list[str]] = {}
    for role in law.vectors:
        found = vector_columns(frame, role)
        if not found:
            raise InputError(source, role, "none", f"columns for the role {role} (--set {role}=COLUMN,COLUMN,...)")
        parts = [column_of(frame, column, source, role in law.signed) for column in found.values()]
        columns[role], names[role] = np.stack(parts, axis=1), list(found)
    for role in law.labels:
        if role not in frame.columns:
            raise InputError(
                source, role, ", ".join(map(str, frame.columns)), f"a column for the role {role} (--set {role}=...)"
            )
        codes, labels = pd.factorize(frame[role].astype(str), sort=True)
        columns[role], names[role] = codes, list(labels)
    return columns | (law.derive(columns) if law.derive else {}), names


def held_out(frame: pd.DataFrame, holdout: str | None, source: str) -> np.ndarray:
    """Which rows an expression holds out of the fit; without one, those that a column `holdout` marks."""
    if holdout is None:
        return frame["holdout"].to_numpy(dtype=bool) if "holdout" in frame.columns else np.zeros(len(frame), bool)
    return evaluate(frame, holdout, "--holdout", source)


def evaluate(frame: pd.DataFrame, expression: str, option: str, source: str) -> np.ndarray:
    """The rows for which a pandas expression over the column names holds.

    Raises:
        InputError: it does not parse, names no column, or gives no truth value per row.
    """
    columns = ", ".join(map(str, frame.columns))
    try:
        mask = frame.eval(expression)
    except Exception as error:  # pandas raises a dozen kinds: SyntaxError, UndefinedVariableError, TypeError, ...
        raise InputError(source, option, expression, f"a condition on the columns {columns} ({error})") from None
    if not isinstance(mask, pd.Series) or mask.dtype != bool:
        raise InputError(source, option, expression, f"a condition true or false in each row, on the columns {columns}")
    return mask.to_numpy()


def _noise(law: Law, frame: pd.DataFrame) -> tuple[np.ndarray, tuple[Warned, ...]]:
    """Standard errors of the response, zero where there are none; a gap without one is worth a warning."""
    column = f"{law.response}_se"
    missing = np.ones(len(frame), bool)
    noise = np.zeros(len(frame))
    if column in frame.columns:
        given = frame[column].to_numpy(dtype=float, na_value=np.nan)
        missing = ~np.isfinite(given) | (given < 0)
        noise = np.where(missing, 0.0, given)
    if not missing.any() or law.response != "G":
        return noise, ()
    message = f"{missing.sum()} of {len(frame)} rows have no standard error of the gap; taken as 0"
    return noise, (Warned("no_standard_error", message),)


def rows_needed(law: Law, objective: str | None = None) -> int:
    """Rows without which the law is not fitted: one more than there are parameters, the objective's among them."""
    return len(one(Model(law, OBJECTIVES[objective or law.objective])).parameters) + 1


def centre(
    law: Law, frame: pd.DataFrame, *, holdout: str | None = None, objective: str | None = None,
    options: Options = DEFAULTS, source: str = "table",
) -> Problem:  # fmt: skip
    """Checked and centred data of a law.

    Centring makes (A, alpha) well scaled: in raw counts log A and alpha are correlated to 0.99 and more, because
    log N is about 16 in every row.

    Args:
        objective: instead of the law's own.

    Raises:
        InputError: a column is missing or unusable, or there are fewer rows than the parameters need.
    """
    chosen = OBJECTIVES[objective or law.objective]
    columns, names = read_columns(law, frame, source)
    law = bind(law, names)
    signed = law.response in law.signed or law.response == "G"
    if chosen.log and signed:
        raise InputError(source, "--objective", chosen.id, f"normal or squares for {law.response}, which has no log")
    response = column_of(frame, law.response, source, signed)
    noise, warnings = _noise(law, frame) if chosen.id == "normal" else (np.zeros(len(frame)), ())
    fitted = ~held_out(frame, holdout, source)
    model, needed = one(Model(law, chosen)), rows_needed(law, objective)
    if fitted.sum() < needed:
        raise InputError(source, "rows", int(fitted.sum()), f"at least {needed} rows to fit the law {law.id}")
    scales = {name: 1.0 for name in (*law.columns, law.response)}
    if law.rescale is not None:
        positive = [name for name in law.columns if name not in law.signed]
        scales |= {name: float(np.exp(np.mean(np.log(columns[name][fitted])))) for name in positive}
        magnitude = np.abs(response[fitted & (response != 0)])
        scales[law.response] = float(np.exp(np.median(np.log(magnitude)))) if len(magnitude) else 1.0
    labels = frame["cluster"] if "cluster" in frame.columns else pd.Series(np.arange(len(frame)))
    return Problem(
        model,
        {name: values / scales[name] if name in scales else values for name, values in columns.items()},
        response / scales[law.response],
        noise / scales[law.response],
        pd.factorize(labels.astype(str))[0],
        fitted,
        scales,
        options,
        warnings,
    )
