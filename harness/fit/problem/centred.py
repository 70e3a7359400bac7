"""Turns a table with columns in roles into the arrays that a fit works on: checked, and centred."""

import functools
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.fit.laws.law import UNIT_OF, Law, bind
from harness.fit.problem.columns import SIZE_ROLES, check_roles, column_of, held_out, read_columns
from harness.fit.problem.curves import clusters_of
from harness.fit.problem.fit_status import FitWarning
from harness.fit.problem.model import StatisticalModel, interned
from harness.fit.problem.objective import DEFAULT_OPTIONS, OBJECTIVES, HuberOptions
from sweeps.errors import InputError


@dataclass(frozen=True)
class Problem:
    """A law with its data, in centred units.

    Attributes:
        model: the law, bound to the columns of its vector roles, and the objective.
        columns: the law's columns, each divided by its scale, and those that it derives from the raw ones.
        response, noise: the response and its standard error, divided by the response's scale.
        cluster: an integer per row; rows of one cluster (checkpoints of a run, seeds of a configuration) are resampled
            together (`curves`).
        fitted: which rows are fitted; the others are held out.
        shared: what each source of error moves each response by, in standard errors of the source, divided by the
            response's scale; rows that have a source in common depend on each other. None if they have none.
        scales: what each column is divided by, its geometric mean over the fitted rows; for the response, the median of
            its size. 1 for signed columns, and throughout for a law that is not centred.
    """

    model: StatisticalModel
    columns: dict[str, Float[np.ndarray, "rows ..."]]
    response: Float[np.ndarray, "rows"]
    noise: Float[np.ndarray, "rows"]
    cluster: np.ndarray
    fitted: np.ndarray
    scales: dict[str, float]
    shared: Float[np.ndarray, "rows sources"] | None = None
    options: HuberOptions = DEFAULT_OPTIONS
    warnings: tuple[FitWarning, ...] = field(default=())

    @property
    def law(self) -> Law:
        """The law, bound to the columns of its vector roles."""
        return self.model.law

    @property
    def raw_columns(self) -> dict[str, Float[np.ndarray, "rows ..."]]:
        """The columns in the units of the table; codes of labels stay whole numbers."""
        return {
            name: values * self.scales[name] if name in self.scales else values for name, values in self.columns.items()
        }

    @property
    def sizes(self) -> dict[str, Float[np.ndarray, "fitted"]]:
        """N, D, U and flops of the fitted rows, as far as the law reads them, in the units of the table."""
        known = [role for role in SIZE_ROLES if role in self.law.columns and role not in self.law.signed]
        return {role: (self.columns[role] * self.scales[role])[self.fitted] for role in known}

    @property
    def observed(self) -> Float[np.ndarray, "rows"]:
        """The response in the unit of the table."""
        return self.response * self.scales[self.law.response]

    @functools.cached_property
    def target(self) -> Float[np.ndarray, "rows"]:
        """The response, or its log where the objective works on logs. The log is taken here because a compiled step
        would take it again for every entry of every product, which doubled the time of a step."""
        return np.log(self.response) if self.model.objective.log else self.response

    @property
    def weights(self) -> Float[np.ndarray, "rows"]:
        """One for fitted rows, zero for held-out ones."""
        return self.fitted.astype(float)

    @property
    def unit(self) -> float:
        """The factor that turns the minimised loss, in centred units, into the objective in the table's units."""
        objective = self.model.objective
        return objective.factor * objective.unit(self.options) * self.scales[self.law.response] ** objective.power

    def select(self, rows: np.ndarray) -> "Problem":
        """The same problem with these rows only, in the same units."""
        return replace(
            self,
            columns={name: values[rows] for name, values in self.columns.items()},
            response=self.response[rows],
            noise=self.noise[rows],
            cluster=np.unique(self.cluster[rows], return_inverse=True)[1],
            fitted=self.fitted[rows],
            shared=None if self.shared is None else self.shared[rows],
        )


def _noise(law: Law, frame: pd.DataFrame) -> tuple[np.ndarray, tuple[FitWarning, ...]]:
    """The standard errors of the response, zero where there are none; a warning if a gap has none."""
    column = f"{law.response}_se"
    missing = np.ones(len(frame), bool)
    noise = np.zeros(len(frame))
    if column in frame.columns:
        given = frame[column].to_numpy(dtype=float, na_value=np.nan)
        missing = ~np.isfinite(given) | (given < 0)
        noise = np.where(missing, 0.0, given)
    if not missing.any() or not law.contrast:
        return noise, ()
    message = f"{missing.sum()} of {len(frame)} rows have no standard error of the gap; taken as 0"
    return noise, (FitWarning("no_standard_error", message),)


def _shared(law: Law, frame: pd.DataFrame, scale: float) -> Float[np.ndarray, "rows sources"] | None:
    """The vectors of the column `G_shared` (`harness.gaps.shared_documents`), divided by the scale of the response."""
    column = f"{law.response}_shared"
    return np.stack(frame[column].to_list()) / scale if column in frame.columns else None


def centre(
    law: Law, frame: pd.DataFrame, *, holdout: str | None = None, objective: str | None = None,
    options: HuberOptions = DEFAULT_OPTIONS, source: str = "table",
) -> Problem:  # fmt: skip
    """Check the data of a law, and divide every positive column by its geometric mean, the response by its median size.

    Centring makes (A, alpha) well scaled: in raw counts log A and alpha are correlated to 0.99 and more, because
    log N is about 16 in every row. `objective` is an id that replaces the law's own. Raises InputError if a column
    is missing or unusable, or there are fewer rows than the parameters need.
    """
    chosen = OBJECTIVES[objective or law.objective]
    check_roles(frame, law.roles, source, law.vectors)
    columns, names = read_columns(law, frame, source)
    law = bind(law, names)
    signed = law.signed_response
    if chosen.log and signed:
        plain = " or ".join(other.id for other in OBJECTIVES.values() if not other.log)
        raise InputError(source, "--objective", chosen.id, f"{plain} for {law.response}, which has no log")
    response = column_of(frame, law.response, source, signed)
    noise, warnings = _noise(law, frame) if chosen.variance is not None else (np.zeros(len(frame)), ())
    fitted = ~held_out(frame, holdout, source)
    model = interned(StatisticalModel(law, chosen))
    needed = len(model.parameters) + 1
    if fitted.sum() < needed:
        roles = ", ".join(law.roles)
        expected = f"at least {needed} rows with usable {roles}, for the constants of the law {law.id}"
        raise InputError(source, "rows", int(fitted.sum()), expected)
    scales = {name: 1.0 for name in (*law.columns, law.response)}
    if law.centred:
        positive = [name for name in law.columns if name not in law.signed]
        scales |= {name: float(np.exp(np.mean(np.log(columns[name][fitted])))) for name in positive}
        magnitude = np.abs(response[fitted & (response != 0)])
        scales[law.response] = float(np.exp(np.median(np.log(magnitude)))) if len(magnitude) else 1.0
    if law.held:
        columns |= {UNIT_OF + role: np.ones(len(frame)) for role in scales}
        scales |= {UNIT_OF + role: scale for role, scale in scales.items()}
    cluster, about_runs = clusters_of(law, frame)
    return Problem(
        model,
        {name: values / scales[name] if name in scales else values for name, values in columns.items()},
        response / scales[law.response],
        noise / scales[law.response],
        cluster,
        fitted,
        scales,
        None if chosen.variance is None else _shared(law, frame, scales[law.response]),
        options,
        (*warnings, *about_runs),
    )
