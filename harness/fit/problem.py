"""From a table with columns in roles to the arrays a fit works on: checked, and centred on their geometric means."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.fit.law import Law
from harness.fit.likelihood import HUBER_DELTA
from sweeps.errors import InputError

POSITIVE_ROLES = ("N", "D", "U", "L", "L_train", "B", "lr", "flops", "step", "epochs")


@dataclass(frozen=True)
class Warned:
    """Something a reader of the result has to know. `code` is for programs, `message` for people."""

    code: str
    message: str


@dataclass(frozen=True)
class Problem:
    """A law with its data, in centred units.

    Attributes:
        columns: the law's columns, each divided by its scale.
        response, noise: the response and its standard error, divided by the response's scale.
        cluster: an integer per row; rows of one cluster (the seeds of one configuration) are resampled together.
        fitted: rows that are fitted; the others are held out.
        scales: geometric mean of every column and of the response.
        delta: the corner of Huber's loss.
    """

    law: Law
    columns: dict[str, Float[np.ndarray, "rows"]]
    response: Float[np.ndarray, "rows"]
    noise: Float[np.ndarray, "rows"]
    cluster: np.ndarray
    fitted: np.ndarray
    scales: dict[str, float]
    delta: float = HUBER_DELTA
    warnings: tuple[Warned, ...] = field(default=())

    @property
    def raw_columns(self) -> dict[str, Float[np.ndarray, "rows"]]:
        return {name: values * self.scales[name] for name, values in self.columns.items()}

    @property
    def weights(self) -> Float[np.ndarray, "rows"]:
        """One for fitted rows, zero for held-out ones."""
        return self.fitted.astype(float)


def column_of(frame: pd.DataFrame, role: str, source: str) -> Float[np.ndarray, "rows"]:
    """The numbers of a role.

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
    bad = ~np.isfinite(values) | (values <= 0 if role in POSITIVE_ROLES else False)
    if bad.any():
        expected = "finite numbers above zero" if role in POSITIVE_ROLES else "finite numbers"
        raise InputError(source, role, float(values[np.argmax(bad)]), f"{expected} in every row ({bad.sum()} are not)")
    return values


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


def centre(
    law: Law, frame: pd.DataFrame, *, holdout: str | None = None, delta: float = HUBER_DELTA, source: str = "table"
) -> Problem:
    """Checked and centred data of a law.

    Centring makes (A, alpha) well scaled: in raw counts log A and alpha are correlated to 0.99 and more, because
    log N is about 16 in every row.

    Raises:
        InputError: a column is missing or unusable, or fewer rows than parameters are left.
    """
    columns = {role: column_of(frame, role, source) for role in law.columns}
    response = column_of(frame, law.response, source)
    warnings = []
    noise = np.zeros(len(frame))
    if law.likelihood == "gap":
        if "G_se" in frame.columns:
            given = frame["G_se"].to_numpy(dtype=float, na_value=np.nan)
            missing = ~np.isfinite(given) | (given < 0)
            noise = np.where(missing, 0.0, given)
        else:
            missing = np.ones(len(frame), bool)
        if missing.any():
            message = f"{missing.sum()} of {len(frame)} rows have no standard error of the gap; taken as 0"
            warnings.append(Warned("no_standard_error", message))
    fitted = ~held_out(frame, holdout, source)
    needed = len(law.parameters) + 2
    if fitted.sum() < needed:
        raise InputError(source, "rows", int(fitted.sum()), f"at least {needed} rows to fit the law {law.id}")
    scales = {name: 1.0 for name in (*law.columns, law.response)}
    if law.rescale is not None:
        scales = {name: float(np.exp(np.mean(np.log(values[fitted])))) for name, values in columns.items()}
        magnitude = np.abs(response[fitted & (response != 0)])
        scales[law.response] = float(np.exp(np.median(np.log(magnitude)))) if len(magnitude) else 1.0
    labels = frame["cluster"] if "cluster" in frame.columns else pd.Series(np.arange(len(frame)))
    return Problem(
        law,
        {name: values / scales[name] for name, values in columns.items()},
        response / scales[law.response],
        noise / scales[law.response],
        pd.factorize(labels.astype(str))[0],
        fitted,
        scales,
        delta,
        tuple(warnings),
    )
