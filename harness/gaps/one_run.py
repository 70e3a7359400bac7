"""The gap of one run: the rows that an evaluation records, and the measurement at the end of the run.

README.md explains the estimators `probe` and `online`. Training losses of the last 100 steps belong to parameters that
are on average 50 steps older than the final ones; `online_lag` is the difference that this makes to a held-out loss. In
runs below 200 steps the second half is used for the last 100 steps, because the first losses are far higher.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.gaps.document_losses import DocumentLosses, ProbeRows
from harness.gaps.estimators import NO_GAP, Gap, contrast, halves, in_first_half, probe_gap, spread
from harness.record.columns import domain_columns, domain_probe_name
from models.intervention import get_intervention, name_of, probes_of
from sweeps.config import SHORTEST_EPOCH, RunConfig, online_span

# A gap has converged if the second half of training moved it by no more than this share of its size.
SETTLED = 0.1


def evaluation_rows(step: int, batch_tokens: int, probes: Mapping[str, ProbeRows]) -> list[dict[str, Any]]:
    """Rows of the evals table: the mean loss of each probe of one evaluation, and of two halves of the held-out probe.

    The run has seen neither half (`placebo_a`, `placebo_b`): their difference is a gap whose true value is zero.
    """
    parts = dict(probes)
    if "heldout" in parts:
        first = in_first_half(parts["heldout"].group, 0)
        parts |= {"placebo_a": parts["heldout"].only(first), "placebo_b": parts["heldout"].only(~first)}
    rows = []
    for name, part in parts.items():
        if len(part):
            mean = contrast(part.side())
            rows.append(
                {
                    "step": step,
                    "tokens": step * batch_tokens,
                    "probe": name,
                    "documents": len(np.unique(part.document)),
                    "probe_tokens": int(part.tokens.sum()),
                    "probe_bytes": int(part.bytes.sum()),
                    "loss": mean.gap,
                    "loss_se": mean.se,
                }
            )
    return rows


@dataclasses.dataclass(frozen=True)
class TextFacts:
    """The facts about a run's text that its measurement needs.

    Attributes:
        bytes_per_token: UTF-8 bytes per token of the training text.
        contamination: share of the held-out 13-grams that stand in training text.
        groups, first_groups: effective number of groups of documents read in the last 100 steps of the run, and in the
            last 100 steps of its first epoch.
    """

    bytes_per_token: float
    contamination: float
    groups: float
    first_groups: float


def measure(config: RunConfig, facts: TextFacts, series: pd.DataFrame, documents: DocumentLosses) -> dict[str, Any]:
    """The content of gap.json for a finished run, whose numbers the page of the record lists (record/README.md).

    Values are in nats per token, or in bits per byte if the name ends in `_bpb`; noise_scale is in tokens. A number
    that does not exist is None, and so is a gap whose standard error does not exist, because one side is a single group
    of documents. gap_drift, the gap at the end less the gap at half the steps, is measured on the same windows, so that
    it carries far less noise than either gap. `converged` says whether it is at most 10 % of the gap or, for a gap that
    was not detected, of the minimum detectable gap.
    """
    final, steps = config.steps, online_span(config.steps)
    seen, heldout = documents.at(final, "seen"), documents.at(final, "heldout")
    measured = probe_gap(seen.side(), heldout.side())
    trained = training_losses(config, series)
    online = _online(steps, facts.groups, (final - steps[0]) * config.batch, trained, documents)
    fresh = NO_GAP
    if config.first_epoch >= SHORTEST_EPOCH:
        span = online_span(config.first_epoch)
        fresh = _online(span, facts.first_groups, (span[-1] - span[0]) * config.batch, trained, documents).gap
    drift = _drift(documents, final // 2, final)
    values = {
        "train_loss_final100": _mean(trained[steps[0] :]),
        "val_loss_final100": online.heldout_loss,
        "seen_loss": contrast(seen.side()).gap,
        "heldout_loss": contrast(heldout.side()).gap,
        "heldout_bpb": contrast(heldout.side(bits=True)).gap,
        **gap_columns("gap_online", online.gap),
        **gap_columns("online_lag", online.lag),
        **gap_columns("gap_probe", measured),
        **gap_columns("gap_probe_bpb", probe_gap(seen.side(bits=True), heldout.side(bits=True))),
        "gap_probe_se_source": probe_gap(seen.side(by="source"), heldout.side(by="source")).se,
        "minimum_detectable_gap": measured.minimum_detectable,
        **gap_columns("placebo", probe_gap(*halves(heldout.side(), 0))),
        **gap_columns("placebo_online", probe_gap(*halves(online.heldout.side(), 0))),
        **gap_columns("gap_online_first", fresh),
        **gap_columns("gap_drift", drift),
        "noise_scale": noise_scale(series.iloc[steps[0] :], config),
        "bytes_per_token": facts.bytes_per_token,
        "contamination": facts.contamination,
    }
    for name in probes_of(config.interventions):
        mean = contrast(documents.at(final, name).side())
        values |= {f"{name}_loss": mean.gap, f"{name}_loss_se": mean.se}
    for domain in config.probe.domains:
        for name, bits in zip(domain_columns(domain)[::2], (False, True), strict=True):
            values |= gap_columns(name, contrast(documents.at(final, domain_probe_name(domain)).side(bits=bits)))
    for view in views_of(config):
        seen, heldout = documents.at(final, f"seen_{view}"), documents.at(final, f"heldout_{view}")
        values |= {f"seen_loss_{view}": contrast(seen.side()).gap, f"heldout_loss_{view}": contrast(heldout.side()).gap}
        values |= gap_columns(f"gap_probe_{view}", probe_gap(seen.side(), heldout.side()))
    scale = max(abs(measured.gap), measured.minimum_detectable)
    converged = abs(drift.gap) <= SETTLED * scale if math.isfinite(drift.gap + scale) else False
    return finite_or_none(values) | {"converged": bool(converged)}


def views_of(config: RunConfig) -> list[str]:
    """The names of a run's parameters that are evaluated beside the last ones: of interventions that have some."""
    return [name for name in map(name_of, config.interventions) if get_intervention(name).view]


def finite_or_none(values: dict[str, float]) -> dict[str, float | None]:
    """The values with None for those that are not finite, and for those whose standard error is not finite.

    A gap on text of a single source file, for example, has no standard error over files.
    """
    kept = {name: value if math.isfinite(value) else None for name, value in values.items()}
    return {name: None if kept.get(f"{name}_se", value) is None else value for name, value in kept.items()}


def gap_columns(name: str, gap: Gap) -> dict[str, float]:
    """A gap and its standard error as two columns."""
    return {name: gap.gap, f"{name}_se": gap.se}


def _drift(documents: DocumentLosses, earlier: int, later: int) -> Gap:
    """The change of the probe gap between two steps, on the windows that were evaluated and had been seen at both."""
    before_seen, before_heldout = (documents.at(earlier, name) for name in ("seen", "heldout"))
    if not len(before_heldout):
        return NO_GAP
    seen = documents.at(later, "seen").of_windows(before_seen)
    heldout = documents.at(later, "heldout").of_windows(before_heldout)
    known = before_seen.visits > 0
    return probe_gap(seen.side(before_seen).only(known), heldout.side(before_heldout))


def training_losses(config: RunConfig, series: pd.DataFrame) -> Float[np.ndarray, " steps"]:
    """The training loss of each step; NaN where none of its tokens counts, for which the series has 0."""
    losses = series["train_loss"].to_numpy().astype(np.float64)
    return np.where(losses == 0.0, np.nan, losses) if config.model.aim.counted else losses


def _mean(losses: Float[np.ndarray, " steps"]) -> float:
    """The mean of the losses that are not NaN; NaN without one."""
    known = losses[~np.isnan(losses)]
    return float(known.mean()) if len(known) else math.nan


class _Online(NamedTuple):
    """The online gap of a span of steps.

    Attributes:
        lag: the mean held-out loss over the span less that at its end.
        heldout_loss: the mean held-out loss over the span.
        heldout: held-out documents with their mean losses over the span.
    """

    gap: Gap
    lag: Gap
    heldout_loss: float
    heldout: ProbeRows


def _online(
    span: tuple[int, int, int],
    groups: float,
    windows: int,
    trained: Float[np.ndarray, " steps"],
    documents: DocumentLosses,
) -> _Online:
    """The online gap of a span of steps, its lag, and what was held out.

    The gap is the mean held-out loss over the span less the mean training loss. The lag is that mean held-out loss less
    the held-out loss at the end of the span, measured on the windows that were evaluated at all points; at the end
    there may be more, and the mean is the loss of them all plus the lag. Training losses are not recorded document by
    document: their scatter from step to step gives a standard error that treats windows as independent. Windows of one
    group are correlated; a second term for that, estimated from the spread of the held-out groups, is added in
    quadrature.
    """
    start, end = span[0], span[-1]
    losses = trained[start:end]
    points = sorted(set(span))
    heldout = [documents.at(step, "heldout") for step in points]
    if not all(map(len, heldout)):
        return _Online(NO_GAP, NO_GAP, math.nan, heldout[-1])
    weights, last = span_weights(points, start, end), heldout[-1]
    fewest = min(heldout, key=len)
    common = [rows.of_windows(fewest) for rows in heldout]
    losses_mean = np.sum([w * rows.loss for w, rows in zip(weights, common, strict=True)], axis=0)
    together = dataclasses.replace(common[-1], loss=losses_mean)
    later = together.side(common[-1])
    mean = contrast(last.side(), later)
    alike = spread(together.side()) * math.sqrt(max(0.0, 1 / groups - 1 / windows))
    online = Gap(mean.gap - _mean(losses), math.hypot(mean.se, _mean_se(losses), alike))
    return _Online(online, contrast(later), mean.gap, together)


def span_weights(points: list[int], start: int, end: int) -> Float[np.ndarray, "points"]:
    """Weights that turn the losses at some steps (`points`) into the mean loss over the parameters of a span.

    The training losses of the steps start + 1 .. end belong to the parameters after start .. end - 1 steps, so the mean
    is over these parameters. It is exact for a loss that is quadratic in the step.
    """
    at = np.arange(start, end, dtype=np.float64)
    weights = []
    for point in points:
        others = [other for other in points if other != point]
        weights.append(np.prod([(at - other) / (point - other) for other in others], axis=0).mean() if others else 1.0)
    return np.asarray(weights)


def _mean_se(losses: Float[np.ndarray, "steps"]) -> float:
    """Standard error of the mean of losses that scatter around a parabola; infinite for a single loss."""
    known = ~np.isnan(losses)
    at, losses, count = np.linspace(-1.0, 1.0, len(losses))[known], losses[known], int(known.sum())
    if count < 2:
        return math.inf
    degree = 2 if count > 8 else 0
    residual = losses - np.polynomial.Polynomial.fit(at, losses, degree)(at)
    return math.sqrt(float(np.sum(residual**2)) / (count - degree - 1) / count)


def noise_scale(series: pd.DataFrame, config: RunConfig) -> float:
    """The gradient noise scale tr(Sigma) / |G|^2 in tokens: the batch whose gradient has as much noise as signal.

    It is the ratio of two unbiased means over the steps of the series (McCandlish et al. 2018, 2.2 and appendix A.1).
    It is NaN if they were not measured, or if the mean of one of them is not positive, because it is too small beside
    the other to be seen.
    """
    if "gradient_noise" not in series:
        return math.nan
    noise, signal = (float(series[name].to_numpy(np.float64).mean()) for name in ("gradient_noise", "gradient_signal"))
    return noise / signal * config.model.context if signal > 0 and noise > 0 else math.nan
