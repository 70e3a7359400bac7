"""The checklist of a scaling-law fit: what a referee asks, answered from the fit and its table.

The groups form, runs, collection and fit follow the checklist of (Mis)Fitting (arXiv 2502.18969). A question that the
table cannot answer gets the answer `not in the table`: it is for the author of the runs.
"""

from typing import Any

import numpy as np
import pandas as pd

from harness.fit.certainty.identifiability import Identified
from harness.fit.problem.centred import Problem
from harness.fit.problem.model import ends_of_range
from harness.fit.problem.raw_units import predictions
from harness.fit.search.solver import Solutions

UNKNOWN = "not in the table"
DESCRIBED = ("architecture", "tokenizer", "domain", "schedule", "optimizer", "lr", "batch_tokens", "warmup", "seed")
# The least correlation of a residual with a log size, or with its square, that a plot would show.
VISIBLE = 0.3


def checklist(
    problem: Problem, frame: pd.DataFrame, solutions: Solutions, identified: Identified, draws: int
) -> dict[str, dict[str, Any]]:
    """The answers: group -> question -> answer (a number, a text, or a list of them)."""
    return {
        "form": _form(problem, frame),
        "runs": _runs(problem, frame),
        "collection": _collection(problem, frame),
        "fit": _fit(problem, solutions, identified, draws),
        "residuals": _residuals(problem, identified),
    }


def _form(problem: Problem, frame: pd.DataFrame) -> dict[str, Any]:
    law = problem.law
    roles = frame.attrs.get("roles", {})
    return {
        "law": law.formula,
        "free parameters": len(law.parameters),
        "columns in roles": {role: roles.get(role, role) for role in law.roles if role in roles or role in frame},
        "response": law.response,
        "units": frame.attrs.get("units", UNKNOWN),
    }


def _decades(values: np.ndarray) -> float | None:
    """The range of positive values in decades; None if some are not positive."""
    return round(float(np.log10(values.max() / values.min())), 2) if values.min() > 0 else None


def _correlation(first: np.ndarray, second: np.ndarray) -> float | None:
    """The correlation of two columns; None if one of them is the same in all rows."""
    if min(np.ptp(first), np.ptp(second)) < 1e-9:
        return None
    return float(np.corrcoef(first, second)[0, 1])


def _runs(problem: Problem, frame: pd.DataFrame) -> dict[str, Any]:
    raw, fitted = problem.raw_columns, problem.fitted
    answers: dict[str, Any] = {
        "rows fitted": int(fitted.sum()),
        "clusters (resampled together)": len(np.unique(problem.cluster[fitted])),
    }
    for role in ("N", "D", "U", "flops"):
        if role in raw:
            values = raw[role][fitted]
            answers[f"distinct {role}"] = len(np.unique(values))
            answers[f"decades of {role}"] = _decades(values)
    if {"N", "D"} <= raw.keys() and not {"N", "D"} & set(problem.law.signed):
        n, d = raw["N"][fitted], raw["D"][fitted]
        answers["tokens per parameter"] = [float(f"{x:.3g}") for x in (np.min(d / n), np.median(d / n), np.max(d / n))]
        if (correlation := _correlation(np.log(n), np.log(d))) is not None:
            answers["correlation of log N and log D"] = round(correlation, 3)
    for column in DESCRIBED:
        if column in frame.columns:
            values = pd.unique(pd.Series(frame[column].to_numpy()[fitted]).dropna())
            answers[column] = [str(v) for v in values[:5]] + (
                [f"and {len(values) - 5} more"] if len(values) > 5 else []
            )
        else:
            answers[column] = UNKNOWN
    return answers


def _collection(problem: Problem, frame: pd.DataFrame) -> dict[str, Any]:
    answers: dict[str, Any] = {
        "rows held out": int((~problem.fitted).sum()),
        "rows dropped": list(frame.attrs.get("dropped", [])),
        "share of intermediate checkpoints": UNKNOWN,
        "known standard errors": bool(np.any(problem.noise > 0)),
    }
    if "run" in frame.columns and ("D" in problem.columns or "step" in problem.columns):
        order = problem.columns.get("D", problem.columns.get("step"))
        last = pd.Series(order).groupby(frame["run"].to_numpy()).transform("max").to_numpy(float)
        answers["share of intermediate checkpoints"] = round(float(np.mean((order < last)[problem.fitted])), 3)
    return answers


def _fit(problem: Problem, solutions: Solutions, identified: Identified, draws: int) -> dict[str, Any]:
    ends = zip(problem.law.parameters, ends_of_range(problem.model, identified.theta), strict=False)
    objective = problem.model.objective
    condition = float(f"{identified.condition:.3g}") if np.isfinite(identified.condition) else None
    return {
        "objective": objective.name + " (a sum, not a mean)",
        "Huber delta": problem.options.delta if objective.huber else None,
        "quantile": problem.options.quantile if objective.huber else None,
        "starts": len(solutions.loss),
        "share of the starts that ended": f"{np.mean(solutions.finished):.0%}",
        "distance of the solution from its start": float(f"{solutions.distance[solutions.best]:.3g}"),
        "parameters at a bound": [p.name for p, end in ends if end],
        "condition of the scaled Jacobian": condition,
        "intervals": "profile likelihood",
        "bootstrap": f"{draws} refits to resampled clusters" if draws else "none",
        "correlation of the errors of a cluster": _dependence(identified),
    }


def _dependence(identified: Identified) -> str:
    """How the errors of rows of one cluster were found to depend on each other."""
    found = identified.ratio.dependence
    if found.information is None:
        return "none"
    return f"{found.offset:g} shared, the rest times {found.decay:g} a row; as {found.rows:.3g} independent rows"


def _residuals(problem: Problem, identified: Identified) -> dict[str, Any]:
    """Correlations of the residuals with log sizes and with their squares: a trend is a missing term."""
    predicted = predictions(problem, identified.theta)
    residual = ((problem.observed - predicted) / np.maximum(np.abs(predicted), 1e-300))[problem.fitted]
    raw, answers, visible = problem.raw_columns, {}, []
    sizes = [name for name in ("N", "D", "U") if name in raw and name not in problem.law.signed]
    axes = {f"log {name}": np.log(raw[name][problem.fitted]) for name in sizes}
    if {"log N", "log D"} <= axes.keys():
        axes["log D/N"] = axes["log D"] - axes["log N"]
    ranks = pd.Series(residual).rank().to_numpy(float)
    for name, axis in axes.items():
        centred = axis - axis.mean()
        for label, feature in ((name, centred), (f"({name})^2", centred**2)):
            correlation = _correlation(ranks, feature)
            if correlation is None:
                continue
            answers[f"correlation with {label}"] = round(correlation, 3)
            if abs(correlation) > VISIBLE:
                visible.append(label)
    return answers | {"trends that a plot would show": visible}
