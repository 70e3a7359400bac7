"""The outcome of a fit as frozen values, and as JSON. Every estimate says whether it is identified."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from harness.fit.problem.fit_status import FitStatus, FitWarning
from harness.fit.results.held_out import HeldOutErrors
from harness.fit.results.robustness import Robustness, SensitivityCase
from harness.fit.results.shown import Known, Showable, Shown, TextTable, number, share, span, warning_lines

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True)
class StrictJson:
    """A result that is written as JSON; numbers that are not finite do not occur in it."""

    def to_dict(self) -> dict[str, Any]:
        """Every field as plain dictionaries, lists, numbers and strings."""
        return json.loads(json.dumps(asdict(self)))

    def to_json(self) -> str:
        """Strict JSON of `to_dict`; ValueError for a number that is not finite: a fault of the program."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)


@dataclass(frozen=True)
class Estimate:
    """A parameter in raw units with its standard error and 95 % interval.

    The interval is that of the profile likelihood; `ci_low` or `ci_high` is None where the data set no limit. `se` is
    the standard error that would give an interval of this width (None for an open one), `se_fisher` that of the
    curvature. `bootstrap_low` and `bootstrap_high` are the interval of refits to resampled clusters, where it was asked
    for. `published` is the source's constant, for comparison only. `estimate` is the best fit, also where the parameter
    is not identified.
    """

    estimate: float | None
    se: float | None
    ci_low: float | None
    ci_high: float | None
    identified: bool
    published: float | None
    se_fisher: float | None = None
    bootstrap_low: float | None = None
    bootstrap_high: float | None = None

    def __str__(self) -> str:
        if not self.identified:
            return f"not identified {span(self.ci_low, self.ci_high)}".strip()
        return f"{number(self.estimate)} {span(self.ci_low, self.ci_high)}"


@dataclass(frozen=True)
class LikelihoodProfile:
    """The profile likelihood of a constant: the likelihood-ratio statistic at some of its values (raw units)."""

    values: tuple[float, ...]
    falls: tuple[float, ...]


@dataclass(frozen=True)
class Minimum:
    """The minimised objective, as the literature writes it, and how far the starts agree on it.

    Attributes:
        starts_within_1_percent: share of the starts that ended within 1 % of the best (0.01 of a log likelihood).
        distance_from_start: how far the best search went, in the coordinates of the search.
    """

    name: str
    value: float
    starts: int
    starts_within_1_percent: float
    distance_from_start: float


@dataclass(frozen=True)
class CombinationEstimate:
    """A combination of parameters that the rows identify, with its standard error and 95 % interval."""

    combination: str
    estimate: float
    se: float
    ci_low: Known
    ci_high: Known
    published: float | None
    identified: ClassVar[bool] = True


@dataclass(frozen=True)
class Identifiability:
    """What the rows identify of a law.

    Attributes:
        rank: number of directions that the rows determine, out of `parameters`.
        condition: the condition number of the whitened Jacobian; None if it is infinite.
        regime_rows: fitted rows in each regime of the law.
        unbounded_profiles: parameters whose profile likelihood does not fall before an end of their range.
    """

    rank: int
    parameters: int
    condition: float | None
    identified_combinations: tuple[CombinationEstimate, ...]
    regime_rows: Mapping[str, int]
    unbounded_profiles: tuple[str, ...]


@dataclass(frozen=True)
class Scatter:
    """The scatter of the fitted rows about the law under every definition in use; None where it does not apply.

    Attributes:
        tau: the multiplicative scatter beyond the measured noise, by maximum likelihood.
        tau_unbiased: tau times sqrt(n/(n - p)), the correction of a residual variance for p fitted directions.
        log_residual_sd: the standard deviation of log residuals, over rows with a positive response;
            `log_residual_sd_without_noise` has the part of the measured errors subtracted.
        residual_sd: the standard deviation of residuals, in the unit of the response.
    """

    tau: Known
    tau_unbiased: Known
    log_residual_sd: Known
    log_residual_sd_without_noise: Known
    residual_sd: Known
    median_abs_relative: float
    median_noise_relative: float
    rows_not_positive: int


@dataclass(frozen=True)
class ExtrapolationErrors:
    """How well fits to runs of smaller scale predict runs of larger scale.

    Attributes:
        reach: the largest scale in a window divided by the largest fitted scale; geometric mean over windows.
        mean_score: the mean score of the rows; `harness.fit.referee.extrapolation` says what a score is.
        excess: how much larger the errors are than the fits expect of themselves; in logs, or in the response's unit
            where the objective is not relative. Intervals of predictions beyond the rows carry it.
        largest: the largest scale of the fitted rows.
    """

    rows: int
    reach: float
    mean_abs_relative_error: float | None
    mean_score: float | None
    excess: float
    largest: float


@dataclass(frozen=True)
class TruthCheck:
    """One true value of a simulated table beside what the fit says of it.

    Attributes:
        estimate: the fit's estimate; None where it does not identify the value.
        covered: whether the 95 % interval holds the truth; None where there is no interval.
        error: estimate minus truth.
    """

    name: str
    truth: float
    estimate: float | None
    se: float | None
    ci_low: float | None
    ci_high: float | None
    covered: bool | None
    error: float | None

    @property
    def identified(self) -> bool:
        """Whether the fit identifies this value."""
        return self.estimate is not None


# Group of questions -> question -> answer: a number, a text, or a list of them.
Checklist = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class FitResult(StrictJson, Showable):
    """Everything a fit says. `to_dict` is the JSON of a fit.

    Attributes:
        holdout: errors on the rows that were held out.
        sensitivity: the fit under other choices, the fit itself first; `robustness` sums them up.
        log_likelihood: the log likelihood of the fitted rows, in raw units.
        degrees: number of fitted directions, for AICc and BIC.
        extrapolation: how well fits to runs of smaller scale predict larger ones; None if there are too few scales.
        sizes: the smallest and the largest fitted N, D, U and flops, those that the law reads.
        rows_sha256: the hash of the fitted rows as the law reads them (`harness.fit.problem.rows_hash`); empty for the
            fit of a version that did not record it.
        checklist: answers to what a referee asks, by group.
        draws: bootstrap draws of every raw parameter.
        confidence_set: points of the 95 % confidence set by raw parameter, the best fit first. The 95 % interval of any
            function of the parameters, such as a prediction, is its range over these points.
        profiles: the profile likelihood of each constant of the law, from the best fit to the edge of its interval.
        limit: the likelihood-ratio statistic at the ends of a 95 % interval; None without a confidence set.
        truth: for a simulated table, each known constant beside its estimate (`harness.fit.known_truth`).
    """

    law: str
    formula: str
    source: str
    rows: int
    objective: Minimum
    status: FitStatus
    parameters: dict[str, Estimate]
    identifiability: Identifiability
    scatter: Scatter
    holdout: HeldOutErrors
    sensitivity: tuple[SensitivityCase, ...]
    warnings: tuple[FitWarning, ...]
    log_likelihood: float
    degrees: int
    robustness: Robustness | None = None
    extrapolation: ExtrapolationErrors | None = None
    checklist: Checklist = field(default_factory=dict)
    draws: dict[str, tuple[float, ...]] = field(default_factory=dict, repr=False)
    confidence_set: dict[str, tuple[float, ...]] = field(default_factory=dict, repr=False)
    profiles: dict[str, LikelihoodProfile] = field(default_factory=dict, repr=False)
    limit: float | None = None
    truth: tuple[TruthCheck, ...] = ()
    sizes: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    rows_sha256: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Every field as plain dictionaries, lists, numbers and strings; what was not asked for is left empty."""
        data = super().to_dict()
        for case in data["sensitivity"]:
            if case["aic_behind"] is None:
                del case["aic_behind"]
        return data | {name: data[name] or {} for name in ("robustness", "extrapolation")}

    @staticmethod
    def from_dict(data: dict) -> "FitResult":
        """The inverse of `to_dict`; TypeError, KeyError or ValueError if the data are not those of a fit."""
        identified = data["identifiability"]
        combinations = tuple(CombinationEstimate(**entry) for entry in identified["identified_combinations"])
        robustness, extrapolation = data.get("robustness"), data.get("extrapolation")
        return FitResult(
            **data
            | {
                "objective": Minimum(**data["objective"]),
                "status": FitStatus(data["status"]),
                "parameters": {name: Estimate(**value) for name, value in data["parameters"].items()},
                "identifiability": Identifiability(
                    **identified
                    | {
                        "identified_combinations": combinations,
                        "unbounded_profiles": tuple(identified["unbounded_profiles"]),
                    }
                ),
                "scatter": Scatter(**data["scatter"]),
                "holdout": HeldOutErrors.from_dict(data["holdout"]),
                "sensitivity": tuple(SensitivityCase(**case) for case in data["sensitivity"]),
                "warnings": tuple(FitWarning(**warning) for warning in data["warnings"]),
                "robustness": Robustness(**robustness) if robustness else None,
                "extrapolation": ExtrapolationErrors(**extrapolation) if extrapolation else None,
                "draws": {name: tuple(values) for name, values in data["draws"].items()},
                "profiles": {
                    name: LikelihoodProfile(tuple(part["values"]), tuple(part["falls"]))
                    for name, part in data["profiles"].items()
                },
                "confidence_set": {name: tuple(values) for name, values in data["confidence_set"].items()},
                "truth": tuple(TruthCheck(**check) for check in data.get("truth", ())),
                "sizes": {role: (low, high) for role, (low, high) in data.get("sizes", {}).items()},
            }
        )

    @property
    def largest(self) -> dict[str, float]:
        """The largest fitted value of each size."""
        return {role: high for role, (_, high) in self.sizes.items()}

    @property
    def combinations(self) -> dict[str, CombinationEstimate]:
        """The combinations of parameters that the rows identify, by label."""
        return {entry.combination: entry for entry in self.identifiability.identified_combinations}

    def shown(self) -> list[Shown]:
        """The estimates, how the search ended, the scatter, held-out rows, other choices, and the warnings."""
        minimum, beyond = self.objective, self.extrapolation
        told: list[Shown] = [
            self._estimates(),
            f"status {self.status}; {self.rows} rows; {minimum.name} {minimum.value:.6g}; "
            f"{minimum.starts_within_1_percent:.0%} of {minimum.starts} starts within 1 % of the best",
            f"scatter: {', '.join(f'{name} {number(v)}' for name, v in asdict(self.scatter).items() if v is not None)}",
        ]
        if self.holdout.rows:
            told.append(f"held out: {self.holdout}")
        if self.robustness is not None:
            robust = self.robustness
            why = f" ({'; '.join(robust.reasons)})" if robust.verdict == "undecided" else ""
            told.append(f"{robust.verdict} under {len(self.sensitivity) - 1} other choices{why}:")
            told += [f"  {line}" for line in robust.lines()]
        if beyond is not None and beyond.mean_abs_relative_error is not None:
            told.append(
                f"extrapolation: fits to the smaller runs miss {beyond.rows} rows, up to {beyond.reach:.3g} times "
                f"larger, by {share(beyond.mean_abs_relative_error)} on average"
            )
        return [*told, *warning_lines(self.warnings)]

    def _estimates(self) -> TextTable:
        """The estimates with their errors; `not identified` in place of a number that the rows do not give."""
        drawn = any(e.bootstrap_low is not None or e.bootstrap_high is not None for e in self.parameters.values())
        rows = []
        for name, e in (*self.parameters.items(), *self.combinations.items()):
            row = [name, *estimate_cells(e), number(e.published)]
            if drawn:
                row.append(span(e.bootstrap_low, e.bootstrap_high) if isinstance(e, Estimate) else "")
            rows.append(row)
        columns = ("parameter", "estimate", "s.e.", "95 % interval", "published", *(("bootstrap",) if drawn else ()))
        return TextTable(f"{self.law}: {self.formula}", columns, rows, {"parameter"})

    def figure(self) -> "Figure":
        """Draw the identified parameters with their 95 % intervals, divided by the estimates; published ones hollow."""
        from plotly.graph_objects import Figure

        known = {name: e for name, e in self.parameters.items() if e.identified and e.estimate}
        drawn = Figure()
        for name, e in known.items():
            assert e.estimate
            ends = [None if end is None else end / e.estimate for end in (e.ci_low, e.ci_high)]
            drawn.add_scatter(x=ends, y=[name, name], mode="lines", line_color="gray", showlegend=False)
            label = f"{name} = {number(e.estimate)} {span(e.ci_low, e.ci_high)}"
            drawn.add_scatter(x=[1.0], y=[name], marker_color="black", hovertext=label, showlegend=False)
            if e.published is not None:
                x = [e.published / e.estimate]
                drawn.add_scatter(x=x, y=[name], marker_symbol="circle-open", hovertext="published", showlegend=False)
        return drawn.update_layout(title=f"{self.law}: {self.formula}", xaxis_title="relative to the estimate")


def estimate_cells(entry: Estimate | CombinationEstimate | TruthCheck) -> tuple[str, str, str]:
    """The estimate, its standard error and its interval; `not identified` where the rows do not give them."""
    if not entry.identified:
        return "not identified", "", span(entry.ci_low, entry.ci_high)
    return number(entry.estimate), number(entry.se), span(entry.ci_low, entry.ci_high)


def covers(low: float | None, high: float | None, value: float) -> bool:
    """Whether an interval holds a value; a side that is None is open."""
    return (low is None or low <= value) and (high is None or value <= high)
