"""Score registered forecasts on runs: is each measured value in its interval, and which law forecasts best."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
from scipy.special import ndtri
from scipy.stats import binomtest

from harness.fit.problem.fit_status import FitWarning
from harness.fit.referee.scores import interval_score
from harness.fit.results.result import StrictJson
from harness.fit.results.shown import Showable, Shown, TextTable, number, span, warning_lines
from harness.forecasts.measured import MeasuredPoint, read_measured
from harness.forecasts.registry_file import RegisteredForecast
from harness.source import OpenRuns

NORMAL = float(ndtri(0.975))


@dataclass(frozen=True)
class ScoredForecast:
    """A forecast beside what was measured.

    Attributes:
        line: its line in the file, from 1.
        point: the forecast's point by role, with the group that it is of.
        registered: date and time in UTC.
        low, high: the forecast 95 % interval of a new run, widened by the error of the measured value; None for a
            forecast without an interval.
        measured, measured_se: the mean of the measured rows and its standard error (None if unknown).
        rows: the numbers of the measured rows in the source, from 1.
        error: prediction/measured - 1; None where nothing but 0 was measured.
        covered: whether the interval holds the measured value.
        score: the interval score (`harness.fit.referee.scores`), in the unit of the response; smaller is better.
        late: whether a measured run had ended when the forecast was registered; None if the source does not say.
    """

    line: int
    law: str
    response: str
    point: Mapping[str, float | str]
    registered: str
    prediction: float
    low: float | None
    high: float | None
    measured: float
    measured_se: float | None
    rows: tuple[int, ...]
    error: float | None
    covered: bool | None
    score: float | None
    late: bool | None


@dataclass(frozen=True)
class LawScore:
    """How well one law forecast one response.

    Attributes:
        scored: number of its forecasts whose points were measured; `missing` of the others.
        coverage: the share of the scored ones whose interval holds the measured value, with its 95 % binomial interval
            (Clopper-Pearson), which takes forecasts as independent; None without intervals.
        median_error, largest_error: of the absolute values of prediction/measured - 1.
        common: number of points that all laws of this response forecast and that were measured.
        interval_score: the mean interval score at these points; laws are ranked by it. None without such points.
        rank: from 1, the best.
    """

    law: str
    response: str
    scored: int
    missing: int
    coverage: float | None
    coverage_low: float | None
    coverage_high: float | None
    median_error: float | None
    largest_error: float | None
    common: int
    interval_score: float | None
    rank: int | None


@dataclass(frozen=True)
class MissingForecast:
    """A forecast whose point was not measured yet: its line in the file, law, response, point and prediction."""

    line: int
    law: str
    response: str
    point: Mapping[str, float | str]
    prediction: float


@dataclass(frozen=True)
class ForecastScores(StrictJson, Showable):
    """The forecasts of a file, scored on runs.

    Attributes:
        forecasts: those whose points were measured, in the order of the file.
        laws: by response, the best law first.
        missing: the forecasts whose points were not measured.
    """

    forecasts: tuple[ScoredForecast, ...]
    laws: tuple[LawScore, ...]
    missing: tuple[MissingForecast, ...]
    warnings: tuple[FitWarning, ...]

    def shown(self) -> list[Shown]:
        """Every forecast beside the measured value, the laws, what is not measured yet, and the warnings."""
        told: list[Shown] = [_forecasts_table(self.forecasts), laws_table(self.laws)]
        if self.missing:
            told.append(f"{len(self.missing)} of {len(self.missing) + len(self.forecasts)} forecasts not measured yet:")
            told += [
                f"  line {each.line}: {each.law}, {each.response} at {_words(each.point)}" for each in self.missing
            ]
        return [*told, *warning_lines(self.warnings)]


def score_lines(
    forecasts: Sequence[RegisteredForecast], runs: OpenRuns, *, set: Mapping[str, str] | None = None,
    where: str | None = None, estimator: str = "best", units: str = "tokens", tell: Callable[[str], object],
) -> ForecastScores:  # fmt: skip
    """Score forecasts on the rows that were measured at their points.

    A row is at a point if all numbers of the point that the runs have, too, agree within 2 %, and the group. Of several
    rows the mean is taken, with the larger of its errors from their standard errors and from their spread. The interval
    of a new run is widened by that error: on each side the squares of the distances are added.

    Args:
        forecasts: in the order of the file.
        set, where, estimator, units: as for `harness.source.read_runs`.
        tell: called with a sentence about rows that are left out, and about laws that cannot be scored.

    Raises:
        InputError: runs that no law can be scored on.
    """
    found = read_measured(runs, forecasts, set=set, where=where, estimator=estimator, units=units, tell=tell)
    scored = [
        _scored(line, forecast, measured)
        for line, (forecast, measured) in enumerate(zip(forecasts, found, strict=True), 1)
        if measured is not None
    ]
    missing = [
        MissingForecast(line, forecast.law, forecast.response, forecast.place, forecast.prediction)
        for line, (forecast, measured) in enumerate(zip(forecasts, found, strict=True), 1)
        if measured is None
    ]
    warnings = []
    if late := [each.line for each in scored if each.late]:
        message = (
            f"of {len(late)} forecasts a measured run had ended before they were registered: "
            f"line{'s' if len(late) > 1 else ''} {', '.join(map(str, late))}"
        )
        warnings.append(FitWarning("registered_late", message))
    responses = dict.fromkeys(forecast.response for forecast in forecasts)
    laws = [law for response in responses for law in _laws_of(response, scored, missing)]
    return ForecastScores(tuple(scored), tuple(laws), tuple(missing), tuple(warnings))


def _scored(line: int, forecast: RegisteredForecast, measured: MeasuredPoint) -> ScoredForecast:
    low = high = covered = score = None
    if forecast.run_low is not None and forecast.run_high is not None:
        error = NORMAL * (measured.se or 0.0)
        low = forecast.prediction - float(np.hypot(forecast.prediction - forecast.run_low, error))
        high = forecast.prediction + float(np.hypot(forecast.run_high - forecast.prediction, error))
        covered = low <= measured.value <= high
        score = float(interval_score(low, high, measured.value))
    return ScoredForecast(
        line=line,
        law=forecast.law,
        response=forecast.response,
        point=forecast.place,
        registered=f"{forecast.registered:%Y-%m-%dT%H:%M:%SZ}",
        prediction=forecast.prediction,
        low=low,
        high=high,
        measured=measured.value,
        measured_se=measured.se,
        rows=measured.rows,
        error=(forecast.prediction - measured.value) / abs(measured.value) if measured.value else None,
        covered=covered,
        score=score,
        late=None if measured.ended is None else bool(measured.ended <= forecast.registered),
    )


def _laws_of(response: str, scored: Iterable[ScoredForecast], missing: Iterable[MissingForecast]) -> list[LawScore]:
    """The laws of a response in the order of their mean interval scores at the points that all of them forecast."""
    own: dict[str, list[ScoredForecast]] = {}
    lacking: dict[str, int] = {}
    for each in scored:
        if each.response == response:
            own.setdefault(each.law, []).append(each)
    for each in missing:
        if each.response == response:
            lacking[each.law] = lacking.get(each.law, 0) + 1
    # Points may have been given by different roles: two forecasts are of one point if they meet the same rows.
    with_score = [{each.rows for each in rows if each.score is not None} for rows in own.values()]
    common = reduce(set.intersection, filter(None, with_score)) if any(with_score) else set()
    laws = [
        _law_score(law, response, own.get(law, []), lacking.get(law, 0), common)
        for law in dict.fromkeys((*own, *lacking))
    ]
    laws.sort(key=lambda law: np.inf if law.interval_score is None else law.interval_score)
    return [replace(law, rank=None if law.interval_score is None else place) for place, law in enumerate(laws, 1)]


def _law_score(
    law: str, response: str, rows: Sequence[ScoredForecast], missing: int, common: set[tuple[int, ...]]
) -> LawScore:
    covered = [each.covered for each in rows if each.covered is not None]
    errors = [abs(each.error) for each in rows if each.error is not None]
    scores = [each.score for each in rows if each.rows in common and each.score is not None]
    known = binomtest(sum(covered), len(covered)) if covered else None
    limits = None if known is None else known.proportion_ci(0.95)
    return LawScore(
        law=law,
        response=response,
        scored=len(rows),
        missing=missing,
        coverage=float(np.mean(covered)) if covered else None,
        coverage_low=None if limits is None else float(limits.low),
        coverage_high=None if limits is None else float(limits.high),
        median_error=float(np.median(errors)) if errors else None,
        largest_error=max(errors, default=None),
        common=len(common),
        interval_score=float(np.mean(scores)) if scores else None,
        rank=None,
    )


def _forecasts_table(rows: Sequence[ScoredForecast]) -> TextTable:
    columns = ("line", "law", "point", "response", "forecast", "95 % interval", "measured", "s.e.", "error", "covered")
    cells = [
        (str(row.line), row.law, _words(row.point), row.response, number(row.prediction), _interval(row.low, row.high),
         number(row.measured), number(row.measured_se), _percent(row.error), _said(row.covered))
        for row in rows
    ]  # fmt: skip
    words = {"law", "point", "response", "95 % interval", "covered"}
    return TextTable("forecasts and what was measured", columns, cells, words)


def laws_table(laws: Sequence[LawScore]) -> TextTable:
    """The laws as a table: coverage, errors and interval score, by response, the best first."""
    columns = ("response", "rank", "law", "scored", "covered", "95 % interval", "median error", "largest error",
               "interval score", "common points")  # fmt: skip
    cells = [
        (law.response, "-" if law.rank is None else str(law.rank), law.law, str(law.scored), _percent(law.coverage, ""),
         f"{_percent(law.coverage_low, '')} to {_percent(law.coverage_high, '')}", _percent(law.median_error, ""),
         _percent(law.largest_error, ""), number(law.interval_score), str(law.common))
        for law in laws
    ]  # fmt: skip
    return TextTable("laws, by their interval scores at the points that all of them forecast", columns, cells,
                     {"response", "law", "95 % interval"})  # fmt: skip


def _words(point: Mapping[str, float | str]) -> str:
    """A point as `--at` takes it: `N=1e+06,D=2e+07`."""
    return ",".join(f"{name}={v if isinstance(v, str) else number(v)}" for name, v in point.items())


def _interval(low: float | None, high: float | None) -> str:
    return "-" if low is None else span(low, high)


def _percent(share: float | None, sign: str = "+") -> str:
    return "-" if share is None else f"{share:{sign}.2%}"


def _said(covered: bool | None) -> str:
    return "-" if covered is None else "yes" if covered else "no"
