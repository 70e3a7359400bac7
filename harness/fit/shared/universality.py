"""Is a law universal: do groups of runs share its exponents, while their prefactors may differ?

There are three questions, in this order. Do own exponents describe the rows better than shared ones (likelihood ratio
against its simulated distribution)? Are the exponents of every two groups equal to within a margin (two one-sided
tests)? How far are the prefactors apart? A "no" to the first question does not show equality: only the second
question can lead to `universal`.
"""

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from harness.fit.certainty.identifiability import identify
from harness.fit.certainty.sign_flip import no_gap
from harness.fit.fitting import SolvedFit, solve
from harness.fit.laws.law import Law
from harness.fit.laws.registry import get_law
from harness.fit.problem.centred import centre
from harness.fit.problem.fit_status import FitWarning
from harness.fit.referee.fit_warnings import FEWEST_CLUSTERS
from harness.fit.referee.scores import scatter_of
from harness.fit.results.no_gap import NoGap
from harness.fit.results.result import Estimate, StrictJson
from harness.fit.results.shown import Showable, Shown, TextTable, number, span, warning_lines
from harness.fit.shared.equivalence import Difference, Ratio, draw_group, group_differences, prefactor_ratios
from harness.fit.shared.nested import (
    ALL_OWN,
    ALL_SHARED,
    OWN_LEVEL,
    OWN_PREFACTORS,
    NestedModel,
    RatioTest,
    kinds_of_constants,
    nest,
    ratio_tests,
)
from sweeps.errors import InputError

if TYPE_CHECKING:
    import plotly.graph_objects as go

MARGIN = 0.05  # two exponents count as equal if they differ by less
SIGNIFICANT = 0.05  # shared exponents are rejected up to this p value
UNEQUAL = 1.5  # ratio of two scatters above which there is a warning
_COLUMNS_OF = {"batch": ("batch", "batch_tokens", "B")}


class Universal(enum.StrEnum):
    """Whether the groups share the exponents."""

    UNIVERSAL = "universal"
    """Every exponent of every two groups is shown to be equal to within the margin."""
    NOT_UNIVERSAL = "not_universal"
    """Shared exponents are rejected, and two groups differ in one of them by more than the margin."""
    NOT_RESOLVED = "not_resolved"
    """Neither is shown."""


@dataclass(frozen=True)
class ModelScore:
    """One of the nested models: which constants every group has of its own, and how well it describes the rows."""

    id: str
    own: tuple[str, ...]
    degrees: int
    log_likelihood: float
    aicc: float
    delta_aicc: float


@dataclass(frozen=True)
class Universality(StrictJson, Showable):
    """What a table says about whether groups of its rows share the exponents of a law.

    Attributes:
        groups: group -> number of rows.
        prefactors, exponents, shapes: the law's constants, sorted by their unit.
        models: the nested models; `delta_aicc` is the difference to the best of them.
        tests: the tests of each model against larger ones.
        differences: the differences of exponents (and of identified combinations of them) between every two groups.
        ratios: the ratios of prefactors between groups that share the exponents.
        shared: constant -> estimate from all rows; `estimates` has those of every group fitted alone.
    """

    law: str
    by: str
    source: str
    rows: int
    groups: dict[str, int]
    verdict: Universal
    reason: str
    margin: float
    prefactors: tuple[str, ...]
    exponents: tuple[str, ...]
    shapes: tuple[str, ...]
    models: tuple[ModelScore, ...]
    tests: tuple[RatioTest, ...]
    differences: tuple[Difference, ...]
    ratios: tuple[Ratio, ...]
    shared: dict[str, Estimate]
    estimates: dict[str, dict[str, Estimate]]
    warnings: tuple[FitWarning, ...]

    def shown(self) -> list[Shown]:
        """The verdict, the fits of every group, the tests, the differences, the prefactors and the warnings."""
        tables = (self._fits(), self._models(), self._tests(), self._differences(), self._ratios())
        title = f"{self.law} by {self.by}: {self.verdict}: {self.reason}"
        return [title, *tables, *warning_lines(self.warnings)]

    def _fits(self) -> TextTable:
        together = {"(together)": (self.rows, self.shared)}
        groups = {name: (self.groups[name], estimates) for name, estimates in self.estimates.items()} | together
        rows = [(name, str(size), *map(str, estimates.values())) for name, (size, estimates) in groups.items()]
        return TextTable("fitted apart, with 95 % intervals", ("group", "rows", *self.shared), rows, {"group"})

    def _models(self) -> TextTable:
        columns = ("model", "own per group", "directions", "log L", "AICc above best")
        rows = [
            (m.id, ", ".join(m.own) or "nothing", str(m.degrees), f"{m.log_likelihood:.2f}", f"{m.delta_aicc:.1f}")
            for m in self.models
        ]
        return TextTable("nested models", columns, rows, {"model"})

    def _tests(self) -> TextTable:
        columns = ("smaller", "larger", "ratio", "mean", "p")
        rows = [
            (t.smaller, t.larger, f"{t.likelihood_ratio:.2f}", f"{t.reference:.2f}", f"{t.p_value:.2g}")
            for t in self.tests
        ]
        return TextTable("likelihood ratios against their simulated distributions", columns, rows, {"smaller"})

    def _differences(self) -> TextTable:
        title = f"differences: equal if the 90 % interval lies within {self.margin:g} of 0"
        columns = ("exponent", "groups", "difference", "90 % interval", "equal", "power", "margin shown")
        rows = []
        for d in self.differences:
            row = (d.quantity, " - ".join(d.groups))
            if d.identified:
                equal = "yes" if d.equivalent else "differs" if d.differs else "open"
                interval, power = span(d.ci_low, d.ci_high), f"{d.power:.0%}"
                rows.append((*row, number(d.difference), interval, equal, power, number(d.margin_shown)))
            else:
                rows.append((*row, "not identified", "", "", "", ""))
        return TextTable(title, columns, rows, {"exponent"})

    def _ratios(self) -> TextTable:
        rows = []
        for r in self.ratios:
            known = ("not identified", "") if r.ratio is None else (number(r.ratio), span(r.ci_low, r.ci_high))
            rows.append((r.model, f"{r.parameter}: {' / '.join(r.groups)}", *known))
        columns = ("model", "ratio", "", "95 % interval")
        return TextTable("prefactors, the exponents being shared", columns, rows, {"model"})

    def figure(self) -> "go.Figure":
        """Draw the difference of every exponent between two groups with its 90 % interval, and the margin."""
        import plotly.graph_objects as go

        known = [d for d in self.differences if d.identified]
        values = np.array([[d.difference, d.ci_low, d.ci_high] for d in known], float).reshape(-1, 3)
        center, low, high = values.T
        names = [f"{d.quantity}: {' - '.join(d.groups)}" for d in known]
        errors = {"array": high - center, "arrayminus": center - low}
        figure = go.Figure(go.Scatter(x=center, y=names, error_x=errors, mode="markers"))
        figure.add_vrect(x0=-self.margin, x1=self.margin, opacity=0.2, fillcolor="gray", line_width=0)
        return figure.update_xaxes(title="difference of the exponents; shaded: equal within the margin")


def _group_column(frame: pd.DataFrame, by: str, source: str) -> str:
    for column in _COLUMNS_OF.get(by, (by,)):
        if column in frame.columns:
            return column
    raise InputError(source, "--by", by, f"one of the columns {', '.join(map(str, frame.columns))}")


def _grouped(law: Law, frame: pd.DataFrame, by: str, source: str) -> tuple[pd.DataFrame, list[FitWarning]]:
    """Add a column `group`, and drop rows in no group and groups too small for a fit of their own.

    Raises InputError if there is no such column, or fewer than two groups are large enough.
    """
    column = _group_column(frame, by, source)
    warnings = []
    known = frame.loc[frame[column].notna()]
    if len(known) < len(frame):
        warnings.append(FitWarning("rows_left_out", f"{len(frame) - len(known)} of {len(frame)} rows have no {column}"))
    known = known.assign(group=known[column].astype(str), holdout=False)
    needed = len(law.parameters) + 2
    sizes = known["group"].value_counts()
    for name, size in sizes[sizes < needed].items():
        message = f"{column} {name} left out: {size} rows, and a fit of its own takes {needed}"
        warnings.append(FitWarning("small_group", message))
    large = sizes.index[sizes >= needed]
    if len(large) < 2:
        each = ", ".join(f"{name} ({size} rows)" for name, size in sizes.items())
        raise InputError(source, "--by", each, f"at least two values of {column} with {needed} rows each")
    return known.loc[known["group"].isin(large)].reset_index(drop=True), warnings


def decide_universality(
    tests: Sequence[RatioTest], differences: Sequence[Difference], exponents: Sequence[str], margin: float
) -> tuple[Universal, str]:
    """The word of the verdict, and the reason in a clause."""
    step = next(test for test in tests if test.larger == ALL_OWN)
    test = f"likelihood ratio {step.likelihood_ratio:.1f}, p = {step.p_value:.2g} of {step.draws} simulated"
    rejected = step.p_value <= SIGNIFICANT
    apart = [d for d in differences if d.differs]
    if rejected and apart:
        worst = max(apart, key=lambda d: abs(d.difference or 0.0))
        return Universal.NOT_UNIVERSAL, f"shared exponents are rejected ({test}), and {_clause(worst)}"
    tested = [d for d in differences if d.quantity in exponents]
    unknown = list(dict.fromkeys(d.quantity for d in tested if not d.identified))
    open_ = [d for d in tested if d.identified and not d.equivalent]
    if not unknown and not open_:
        but = "; exact equality is rejected, but differs by less" if rejected else ""
        return Universal.UNIVERSAL, f"every exponent of every two groups is equal to within {margin:g}{but} ({test})"
    reasons = []
    if unknown:
        reasons.append(f"not every group identifies {', '.join(unknown)}")
        equal = list(dict.fromkeys(d.quantity for d in differences if d.equivalent))
        equal = [name for name in equal if all(d.equivalent for d in differences if d.quantity == name)]
        if equal:
            reasons.append(f"equal to within {margin:g} are {', '.join(equal)}")
    if open_:
        widest = max(open_, key=lambda d: d.margin_shown or 0.0)
        reasons.append(f"{_clause(widest)} (this design shows equality to within {widest.margin_shown:.2g})")
    end = "shared exponents are rejected" if rejected else "shared exponents are not rejected"
    return Universal.NOT_RESOLVED, f"{'; '.join(reasons)}; {end} ({test})"


def _clause(d: Difference) -> str:
    between = f"{d.groups[0]} and {d.groups[1]}"
    return f"{d.quantity} differs by {number(d.difference)} {span(d.ci_low, d.ci_high)} between {between}"


def _warnings_about(groups: dict[str, SolvedFit]) -> Iterator[FitWarning]:
    """Warn of groups with few clusters, and of unequal scatters: the tests simulate one scatter for all groups."""
    for name, fitted in groups.items():
        clusters = len(np.unique(fitted.problem.cluster[fitted.problem.fitted]))
        if clusters < FEWEST_CLUSTERS:
            message = f"{name}: {clusters} clusters; bootstrap intervals from so few are too narrow"
            yield FitWarning("few_clusters", message)
    spread = {name: scatter_of(f.problem, f.identified.theta, f.degrees) for name, f in groups.items()}
    taus = {name: scatter.tau for name, scatter in spread.items() if scatter.tau}
    if len(taus) > 1 and max(taus.values()) > UNEQUAL * min(taus.values()):
        each = ", ".join(f"{name} {tau:.3g}" for name, tau in taus.items())
        yield FitWarning("unequal_scatter", f"the tests take one scatter for all groups, which have {each}")


def judge_universality(
    frame: pd.DataFrame,
    by: str,
    *,
    law: str | Law = "gap",
    margin: float = MARGIN,
    bootstrap: int = 200,
    seed: int = 0,
    objective: str | None = None,
    source: str = "table",
) -> Universality | NoGap:
    """Fit a law shared, with own prefactors, and all own per group, and judge whether its exponents are universal.

    Of gaps that are not shown to lie above zero there are no exponents to judge: that is what is returned then.

    Args:
        frame: columns by role, as for `fit`, and the column of the groups.
        by: the column of the groups; `batch` stands for the batch in tokens.
        margin: two exponents that differ by less count as equal.
        bootstrap: number of simulated tables for each test, and of resampled ones for each interval.

    Raises:
        InputError: unusable columns, fewer than two groups with enough rows, or a law that has constants per group.
    """
    law = get_law(law)
    if law.labels or any(p.each for p in law.parameters):
        raise InputError(source, "--law", law.id, "a law whose constants are single numbers")
    kinds = kinds_of_constants(law)
    if not kinds.exponents:
        raise InputError(source, "--law", law.id, "a law with an exponent: a constant that has no unit")
    frame, warnings = _grouped(law, frame, by, source)
    if nothing := no_gap(centre(law, frame, objective=objective, source=source), "exponents to share"):
        return nothing
    names = sorted(frame["group"].unique())
    whole = solve(law, frame, objective=objective, source=source)
    groups = {
        name: solve(law, frame.assign(holdout=frame["group"] != name), objective=objective, source=source)
        for name in names
    }
    models = nest(law, frame, objective, whole, list(groups.values()), source)
    tests, ratios = _tests_and_ratios(models, bootstrap, seed)
    spread = {name: draw_group(fitted, kinds, bootstrap, seed + i) for i, (name, fitted) in enumerate(groups.items())}
    quantities = list(kinds.exponents)
    if any(exponent not in group.point for exponent in kinds.exponents for group in spread.values()):
        known = {name for group in spread.values() for name in group.point}
        quantities += [name for name in kinds.combinations if name in known and name not in quantities]
    differences = group_differences(spread, quantities, margin)
    word, reason = decide_universality(tests, differences, kinds.exponents, margin)
    best = min(model.aicc for model in models.values())
    return Universality(
        law=law.id,
        by=by,
        source=source,
        rows=len(frame),
        groups={name: spread[name].rows for name in names},
        verdict=word,
        reason=reason,
        margin=margin,
        prefactors=kinds.prefactors,
        exponents=kinds.exponents,
        shapes=kinds.shapes,
        models=tuple(
            ModelScore(m.id, m.own, m.degrees, m.log_likelihood, m.aicc, m.aicc - best) for m in models.values()
        ),
        tests=tuple(tests),
        differences=differences,
        ratios=ratios,
        shared=draw_group(whole, kinds, bootstrap, seed + len(groups)).estimates,
        estimates={name: group.estimates for name, group in spread.items()},
        warnings=(*warnings, *_warnings_about(groups)),
    )


def _tests_and_ratios(
    models: dict[str, NestedModel], draws: int, seed: int
) -> tuple[list[RatioTest], tuple[Ratio, ...]]:
    """Test each model with shared exponents against the larger ones, and take the ratios of its prefactors."""
    base = [models[name] for name in (ALL_SHARED, OWN_LEVEL, OWN_PREFACTORS) if name in models]
    rest = [model for name, model in models.items() if name not in (ALL_SHARED, OWN_LEVEL, OWN_PREFACTORS)]
    tests, ratios = [], ()
    for index, model in enumerate(base):
        larger = base[index + 1 :] or rest
        steps, refits = ratio_tests(model, larger, draws, seed + index)
        tests += steps
        if model.own:
            ratios += prefactor_ratios(model, identify(model.problem, model.solutions).null, refits)
    return tests, ratios
