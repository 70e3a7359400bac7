"""From a run's losses to its gap: what is recorded at an evaluation, and what one run says by itself at its end.

`probe` compares the same final parameters on documents seen and held out. `online` is the source document's: the mean
training loss of the last 100 steps against the mean held-out loss of the same steps. In the first epoch both are losses
on windows not read before, and what is left is what other windows of the same documents had taught. Who takes the
held-out loss at the end instead, compares it with training losses at parameters 50 steps older: `online_lag` is what
that adds. Runs below 200 steps have their second half for the last 100 steps: the first losses lie far above.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.gaps.contrast import Gap, contrast, halves, probe_gap, spread
from harness.gaps.document_losses import Documents, Rows
from sweeps.config import SHORTEST_EPOCH, RunConfig, online_span

# A gap has settled when the second half of training moved it by no more than this share of itself.
SETTLED = 0.1


def evaluation_rows(step: int, batch_tokens: int, found: Mapping[str, Rows]) -> list[dict[str, Any]]:
    """Rows of the evals table: the mean loss of each probe of one evaluation, and of the held-out one's two halves.

    The halves `placebo_a` and `placebo_b` are both unseen: their difference is a gap that is truly zero.
    """
    parts = dict(found)
    if "heldout" in parts:
        first = halves(parts["heldout"].group, 0)
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
    """What a run's measurement needs to know of its text.

    Attributes:
        bytes_per_token: of the training text.
        contamination: share of the held-out 13-grams that stand in training text.
        groups, first_groups: effective number of groups of documents read in the last 100 steps, and in those of the
            first epoch.
    """

    bytes_per_token: float
    contamination: float
    groups: float
    first_groups: float


def measure(config: RunConfig, facts: TextFacts, series: pd.DataFrame, documents: Documents) -> dict[str, Any]:
    """What gap.json holds of a finished run; nats per token, bits per byte where the name ends in `_bpb`; None where a
    number does not exist (a gap whose standard error does not exist, because one side is a single group of documents,
    is none either).

    Returns:
        the losses; gap_online, gap_probe with standard errors; minimum_detectable_gap; what both estimators make of two
        halves of text that was truly unseen, placebo_online and placebo; gap_online_first, the online gap of the first
        epoch; and `converged`: whether the gap at the end differs from
        the gap at half the steps by less than 10 % of itself or, for a gap that was not detected, of the minimum
        detectable gap. `gap_drift` is that difference; both gaps are on the same windows, so it carries far less noise
        than either. noise_scale is the gradient noise scale of the last 100 steps in tokens.
    """
    final, steps = config.steps, online_span(config.steps)
    seen, held = documents.at(final, "seen"), documents.at(final, "heldout")
    measured = probe_gap(seen.side(), held.side())
    online, lag, held_mean = _online(steps, facts.groups, (final - steps[0]) * config.batch, series, documents)
    fresh = Gap(math.nan, math.inf)
    if config.first_epoch >= SHORTEST_EPOCH:
        span = online_span(config.first_epoch)
        fresh, _, _ = _online(span, facts.first_groups, (span[-1] - span[0]) * config.batch, series, documents)
    drift = _drift(documents, final // 2, final)
    values = {
        "train_loss_final100": float(series["train_loss"].to_numpy()[steps[0] :].mean()),
        "val_loss_final100": online.gap + float(series["train_loss"].to_numpy()[steps[0] :].mean()),
        "seen_loss": contrast(seen.side()).gap,
        "heldout_loss": contrast(held.side()).gap,
        "heldout_bpb": contrast(held.side(bits=True)).gap,
        **named("gap_online", online),
        **named("online_lag", lag),
        **named("gap_probe", measured),
        **named("gap_probe_bpb", probe_gap(seen.side(bits=True), held.side(bits=True))),
        "gap_probe_se_source": probe_gap(seen.side(by="source"), held.side(by="source")).se,
        "minimum_detectable_gap": measured.minimum_detectable,
        **named("placebo", _of_halves(held)),
        **named("placebo_online", _of_halves(held_mean)),
        **named("gap_online_first", fresh),
        **named("gap_drift", drift),
        "noise_scale": noise_scale(series.iloc[steps[0] :], config),
        "bytes_per_token": facts.bytes_per_token,
        "contamination": facts.contamination,
    }
    scale = max(abs(measured.gap), measured.minimum_detectable)
    converged = abs(drift.gap) <= SETTLED * scale if math.isfinite(drift.gap + scale) else False
    return finite(values) | {"converged": bool(converged)}


def finite(values: dict[str, float]) -> dict[str, float | None]:
    """None for what is not finite, and for a value whose standard error is not: text seen of one source file, say,
    tells nothing of files."""
    kept = {name: value if math.isfinite(value) else None for name, value in values.items()}
    return {name: None if kept.get(f"{name}_se", value) is None else value for name, value in kept.items()}


def named(name: str, gap: Gap) -> dict[str, float]:
    """A gap and its standard error as two columns."""
    return {name: gap.gap, f"{name}_se": gap.se}


def _drift(documents: Documents, earlier: int, later: int) -> Gap:
    """By how much the gap changed, on the windows that were seen at both steps."""
    seen, held = (documents.at(later, name) for name in ("seen", "heldout"))
    before_seen, before_held = (documents.at(earlier, name) for name in ("seen", "heldout"))
    if not len(before_held):
        return Gap(math.nan, math.inf)
    known = before_seen.visits > 0
    return probe_gap(seen.side(before_seen).only(known), held.side(before_held))


def _of_halves(held: Rows) -> Gap:
    first = halves(held.group, 0)
    return probe_gap(held.side().only(first), held.side().only(~first))


def _online(
    span: tuple[int, int, int], groups: float, windows: int, series: pd.DataFrame, documents: Documents
) -> tuple[Gap, Gap, Rows]:
    """(held-out less training loss, both means over the span; what the held-out loss at its end is lower; the held-out
    documents with their losses' means over the span).

    Training losses are not recorded document by document. Their scatter from step to step takes all windows for
    independent; that the windows of a group are alike is added from the held-out groups' spread.
    """
    start, end = span[0], span[-1]
    losses = series["train_loss"].to_numpy()[start:end].astype(np.float64)
    points = sorted(set(span))
    held = [documents.at(step, "heldout") for step in points]
    if not all(map(len, held)):
        return Gap(math.nan, math.inf), Gap(math.nan, math.inf), held[-1]
    weights = span_weights(points, start, end)
    losses_mean = np.sum([w * rows.loss for w, rows in zip(weights, held, strict=True)], axis=0)
    together = dataclasses.replace(held[-1], loss=losses_mean)
    mean = contrast(together.side())
    alike = spread(together.side()) * math.sqrt(max(0.0, 1 / groups - 1 / windows))
    online = Gap(mean.gap - float(losses.mean()), math.hypot(mean.se, _mean_se(losses), alike))
    return online, contrast(together.side(held[-1])), together


def span_weights(points: list[int], start: int, end: int) -> Float[np.ndarray, "points"]:
    """Weights with which a loss at some steps gives its mean over the parameters that the training losses of the steps
    start + 1 .. end are at, those after start .. end - 1 steps: exact for losses quadratic in the step."""
    at = np.arange(start, end, dtype=np.float64)
    weights = []
    for point in points:
        others = [other for other in points if other != point]
        weights.append(np.prod([(at - other) / (point - other) for other in others], axis=0).mean() if others else 1.0)
    return np.asarray(weights)


def _mean_se(losses: Float[np.ndarray, "steps"]) -> float:
    """Standard error of a mean of losses that fall along a parabola; infinite for a single one."""
    count = len(losses)
    if count < 2:
        return math.inf
    at = np.linspace(-1.0, 1.0, count)
    degree = 2 if count > 8 else 0
    residual = losses - np.polynomial.Polynomial.fit(at, losses, degree)(at)
    return math.sqrt(float(np.sum(residual**2)) / (count - degree - 1) / count)


def noise_scale(series: pd.DataFrame, config: RunConfig) -> float:
    """tr(Sigma) / |G|^2 in tokens, the batch at which noise and signal of a gradient are equal (McCandlish et al. 2018,
    2.2 and appendix A.1): the ratio of the means, both unbiased, of some steps; NaN where none were measured or the
    signal is lost in the noise."""
    if "gradient_noise" not in series:
        return math.nan
    noise, signal = (float(series[name].to_numpy(np.float64).mean()) for name in ("gradient_noise", "gradient_signal"))
    return noise / signal * config.model.context if signal > 0 else math.nan
