"""The outcome of a fit: frozen, as JSON, and as text for a terminal. No estimate goes without its status."""

import io
import json
from dataclasses import asdict, dataclass, field

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.fit.problem.fit_warning import FitWarning
from harness.fit.search.fit_status import FitStatus


@dataclass(frozen=True)
class Estimate:
    """A parameter in raw units with its standard error and 95 % interval.

    `ci_low` or `ci_high` is None where the data set no limit; `se_fisher` comes from the curvature, `se` from the
    bootstrap (from the curvature if there was none); `profile_low` and `profile_high` are the interval of the profile
    likelihood, where it was asked for. `published` is the source's constant, for comparison only.
    """

    estimate: float | None
    se: float | None
    ci_low: float | None
    ci_high: float | None
    identified: bool
    published: float | None
    se_fisher: float | None = None
    profile_low: float | None = None
    profile_high: float | None = None


@dataclass(frozen=True)
class FitResult:
    """Everything a fit says. `to_dict` is the JSON of a fit.

    Attributes:
        objective: name, value, the share of starts that ended within 1 % of the best, the number of starts.
        identifiability: rank, parameters, condition, identified_combinations, regimes, unbounded.
        sensitivity: the fit under other choices; robustness: what they amount to; extrapolation: how
            fits to the smaller runs meet the larger ones; checklist: what a referee asks.
        log_likelihood: of the fitted rows in raw units; `degrees`: directions fitted, for AICc and BIC.
        draws: bootstrap draws of every raw parameter; intervals of predictions come from them.
        truth: of a simulated table, each known constant beside its estimate (`harness.fit.known_truth`).
    """

    law: str
    formula: str
    source: str
    rows: int
    objective: dict
    status: FitStatus
    parameters: dict[str, Estimate]
    identifiability: dict
    scatter: dict
    holdout: dict
    sensitivity: tuple[dict, ...]
    warnings: tuple[FitWarning, ...]
    log_likelihood: float
    degrees: int
    robustness: dict = field(default_factory=dict)
    extrapolation: dict = field(default_factory=dict)
    checklist: dict = field(default_factory=dict)
    draws: dict[str, tuple[float, ...]] = field(default_factory=dict, repr=False)
    truth: tuple[dict, ...] = ()

    def to_dict(self) -> dict:
        """Plain dictionaries, lists, numbers and strings."""
        return json.loads(json.dumps(asdict(self)))

    def to_json(self) -> str:
        """Strict JSON: numbers that are not finite do not occur in a result."""
        return json.dumps(asdict(self), indent=1, allow_nan=False)

    @staticmethod
    def from_dict(data: dict) -> "FitResult":
        """The inverse of `to_dict`."""
        return FitResult(
            **data
            | {
                "status": FitStatus(data["status"]),
                "parameters": {name: Estimate(**value) for name, value in data["parameters"].items()},
                "sensitivity": tuple(data["sensitivity"]),
                "warnings": tuple(FitWarning(**warning) for warning in data["warnings"]),
                "draws": {name: tuple(values) for name, values in data["draws"].items()},
                "truth": tuple(data.get("truth", ())),
            }
        )


def number(value: float | None) -> str:
    """Four significant digits, or a dash for what is not known."""
    return "-" if value is None else f"{value:.4g}"


def span(low: float | None, high: float | None) -> str:
    """A 95 % interval; an open side is written as unbounded."""
    if low is None and high is None:
        return "unbounded"
    return f"[{'unbounded' if low is None else number(low)}, {'unbounded' if high is None else number(high)}]"


def parameter_table(result: FitResult) -> Table:
    """Estimates with errors; `not identified` stands in the place of a number that the data do not give."""
    table = Table(title=Text(f"{result.law}: {result.formula}", "italic"), title_justify="left")
    for heading in ("parameter", "estimate", "s.e.", "95 % interval", "published"):
        table.add_column(heading, justify="left" if heading == "parameter" else "right")
    profiled = any(
        value.profile_low is not None or value.profile_high is not None for value in result.parameters.values()
    )
    if profiled:
        table.add_column("profile", justify="right")
    for name, value in result.parameters.items():
        if value.identified:
            cells = (number(value.estimate), number(value.se), span(value.ci_low, value.ci_high))
        else:
            cells = ("not identified", "", "")
        more = (Text(span(value.profile_low, value.profile_high)),) if profiled else ()
        table.add_row(Text(name), *map(Text, cells), number(value.published), *more)  # markup would swallow an interval
    for combination in result.identifiability["identified_combinations"]:
        interval = span(combination["ci_low"], combination["ci_high"])
        numbers = (number(combination["estimate"]), number(combination["se"]), interval)
        table.add_row(*map(Text, (combination["combination"], *numbers)), number(combination["published"]))
    return table


def render(result: FitResult, width: int = 110) -> str:
    """A fit as text for a terminal."""
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(parameter_table(result))
    objective, scatter, holdout = result.objective, result.scatter, result.holdout
    console.print(
        f"status {result.status}; {result.rows} rows; {objective['name']} {objective['value']:.6g}; "
        f"{objective['starts_within_1_percent']:.0%} of {objective['starts']} starts within 1 % of the best"
    )
    described = ", ".join(f"{key} {number(value)}" for key, value in scatter.items() if value is not None)
    console.print(f"scatter: {described}")
    if holdout["rows"]:
        console.print("held out: " + ", ".join(f"{key} {number(value)}" for key, value in holdout.items()))
    if result.robustness:
        ranges = result.robustness["ranges"]
        console.print(
            f"{result.robustness['verdict']} under {len(result.sensitivity) - 1} other choices:", markup=False
        )
        for name, (low, at_low, high, at_high) in ranges.items():
            console.print(f"  {name}: {number(low)} ({at_low}) to {number(high)} ({at_high})", markup=False)
    if result.extrapolation and result.extrapolation["mean_abs_relative_error"] is not None:
        told = result.extrapolation
        console.print(
            f"extrapolation: fits to the smaller runs meet {told['rows']} up to {told['reach']:.3g} times larger to "
            f"{told['mean_abs_relative_error']:.2%} on average"
        )
    for warning in result.warnings:
        console.print(f"warning ({warning.code}): {warning.message}", markup=False)
    return console.export_text()


def render_groups(fits: dict[str, FitResult], pooled: dict, warnings: tuple[FitWarning, ...]) -> str:
    """Fits of several groups as text: a line a group, then the errors on all held-out rows together."""
    console = Console(width=160, record=True, file=io.StringIO())
    first = next(iter(fits.values()))
    table = Table(title=f"{first.law}: {first.formula}", title_justify="left")
    names = list(dict.fromkeys(name for result in fits.values() for name in result.parameters))
    for heading in ("group", "rows", "status", *names, "r2 held out"):
        table.add_column(heading, justify="left" if heading in ("group", "status") else "right")
    for group, result in fits.items():
        cells = []
        for name in names:
            value = result.parameters.get(name)
            known = value is not None and value.identified
            cells.append(f"{number(value.estimate)} +- {number(value.se)}" if known and value is not None else "-")
        table.add_row(Text(group), str(result.rows), result.status, *cells, number(result.holdout["r2"]))
    console.print(table)
    if pooled["rows"]:
        console.print("held out, all groups: " + ", ".join(f"{key} {number(value)}" for key, value in pooled.items()))
    for warning in warnings:
        console.print(f"warning ({warning.code}): {warning.message}", markup=False)
    return console.export_text()
