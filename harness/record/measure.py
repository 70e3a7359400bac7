"""From a run's losses to its gap: what is recorded at an evaluation, and what one run says by itself at its end.

`probe` compares the same final parameters on documents seen and held out. `online` is the source document's: the mean
training loss of the last 100 steps against the mean held-out loss of the same steps. In the first epoch both are losses
on unseen text: it is no gap then. Who takes the held-out loss at the end instead, compares it with training losses at
parameters 50 steps older: `online_lag` is what that adds. Runs below 200 steps have their second half for the last 100
steps: the first losses lie far above.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.data.batches import window_visits
from harness.data.probes import Probe
from harness.gaps import Gap, Side, contrast, halves, probe_gap, spread
from sweeps.config import SHORTEST_EPOCH, RunConfig, online_span

# A gap has settled when the second half of training moved it by no more than this share of itself.
SETTLED = 0.1
LN2 = math.log(2.0)


def document_rows(
    config: RunConfig, step: int, probes: dict[str, Probe], losses: dict[str, Float[np.ndarray, "W T"]]
) -> pd.DataFrame:
    """Rows of the documents table after `step`: what one document has in one evaluated window.

    Columns: step; probe; window, document, group, source by number; visits, how often the run (of `other`: its twin)
    has read the window so far; since, the tokens it has read since the last time, -1 for never; tokens and bytes of the
    targets; loss, nats of all of them.
    """
    return pd.concat([_rows(config, step, name, probe, losses[name]) for name, probe in probes.items()])


def _rows(config: RunConfig, step: int, name: str, probe: Probe, losses: Float[np.ndarray, "W T"]) -> pd.DataFrame:
    visits, since = np.zeros(len(probe.window), np.int32), np.full(len(probe.window), -1)
    if name != "heldout":
        # A twin reads in the same order: batch, seed and number of windows are the same.
        visits, last = window_visits(probe.window, step * config.batch, config.windows, config.seed)
        since = np.where(last >= 0, (step * config.batch - 1 - last) * config.model.context, -1)
    columns = {
        "step": np.full(len(probe.window), step, np.int64),
        "probe": name,
        "window": probe.window,
        "document": probe.document,
        "group": probe.group,
        "source": probe.source,
        "visits": visits.astype(np.int32),
        "since": since.astype(np.int64),
        "tokens": probe.token_counts.astype(np.int32),
        "bytes": probe.byte_counts.astype(np.int32),
        "loss": probe.sums(losses),
    }
    return pd.DataFrame(columns)


def evaluation_rows(documents: pd.DataFrame, batch_tokens: int) -> list[dict[str, Any]]:
    """Rows of the evals table: the mean loss of each probe of one evaluation, and of the held-out one's two halves.

    The halves `placebo_a` and `placebo_b` are both unseen: their difference is a gap that is truly zero.
    """
    rows = []
    for name in documents["probe"].unique():
        mine = documents[documents["probe"] == name]
        parts = {name: mine}
        if name == "heldout":
            first = halves(mine["group"].to_numpy(), 0)
            parts |= {"placebo_a": mine[first], "placebo_b": mine[~first]}
        for part, chosen in parts.items():
            if len(chosen):
                step = int(chosen["step"].iloc[0])
                mean = contrast(side(chosen))
                rows.append(
                    {
                        "step": step,
                        "tokens": step * batch_tokens,
                        "probe": part,
                        "documents": int(chosen["document"].nunique()),
                        "probe_tokens": int(chosen["tokens"].sum()),
                        "probe_bytes": int(chosen["bytes"].sum()),
                        "loss": mean.gap,
                        "loss_se": mean.se,
                    }
                )
    return rows


def side(rows: pd.DataFrame, less: pd.DataFrame | None = None, *, bits: bool = False, by: str = "group") -> Side:
    """The losses of some rows as one side of a contrast.

    Args:
        less: the same rows of another model or another step, whose losses are taken off.
        bits: per byte, in bits.
        by: the column of clusters.

    Raises:
        ValueError: the rows of `less` are others.
    """
    losses = rows["loss"].to_numpy()
    if less is not None:
        for name in ("window", "document", "tokens"):
            if not np.array_equal(rows[name], less[name]):
                raise ValueError("losses of other windows")
        losses = losses - less["loss"].to_numpy()
    counts = rows["bytes" if bits else "tokens"].to_numpy()
    return Side(1.0, losses / LN2 if bits else losses, counts, rows[by].to_numpy())


class Documents:
    """The documents table of a run, by step and probe."""

    def __init__(self, table: pd.DataFrame):
        self._parts = {key: part for key, part in table.groupby(["step", "probe"], sort=False)}
        self._empty = table.iloc[:0]
        self.steps = sorted(int(step) for step in table["step"].unique())

    def at(self, step: int, probe: str) -> pd.DataFrame:
        """The rows of one probe after a step; none where it was not evaluated."""
        return self._parts.get((step, probe), self._empty)


@dataclass(frozen=True)
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
        the losses; gap_online, gap_probe with standard errors; minimum_detectable_gap; what both estimators make of
        text that was truly unseen, placebo_online and placebo; and `converged`: whether the gap at the end differs from
        the gap at half the steps by less than 10 % of itself or, for a gap that was not detected, of the minimum
        detectable gap. `gap_drift` is that difference; both gaps are on the same windows, so it carries far less noise
        than either. noise_scale is the gradient noise scale of the last 100 steps in tokens.
    """
    final, steps = config.steps, online_span(config.steps)
    seen, held = documents.at(final, "seen"), documents.at(final, "heldout")
    measured = probe_gap(side(seen), side(held))
    online, lag = _online(steps, facts.groups, (final - steps[0]) * config.batch, series, documents)
    fresh = Gap(math.nan, math.inf)
    if config.first_epoch >= SHORTEST_EPOCH:
        span = online_span(config.first_epoch)
        fresh, _ = _online(span, facts.first_groups, (span[-1] - span[0]) * config.batch, series, documents)
    first = halves(held["group"].to_numpy(), 0)
    placebo = probe_gap(side(held[first]), side(held[~first]))
    drift = _drift(documents, final // 2, final)
    values = {
        "train_loss_final100": float(series["train_loss"].to_numpy()[steps[0] :].mean()),
        "val_loss_final100": online.gap + float(series["train_loss"].to_numpy()[steps[0] :].mean()),
        "seen_loss": contrast(side(seen)).gap,
        "heldout_loss": contrast(side(held)).gap,
        "heldout_bpb": contrast(side(held, bits=True)).gap,
        **_named("gap_online", online),
        **_named("online_lag", lag),
        **_named("gap_probe", measured),
        **_named("gap_probe_bpb", probe_gap(side(seen, bits=True), side(held, bits=True))),
        "gap_probe_se_source": probe_gap(side(seen, by="source"), side(held, by="source")).se,
        "minimum_detectable_gap": measured.minimum_detectable,
        **_named("placebo", placebo),
        **_named("placebo_online", fresh),
        **_named("gap_drift", drift),
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


def _named(name: str, gap: Gap) -> dict[str, float]:
    return {name: gap.gap, f"{name}_se": gap.se}


def _drift(documents: Documents, earlier: int, later: int) -> Gap:
    """By how much the gap changed, on the windows that were seen at both steps."""
    seen, held = (documents.at(later, name) for name in ("seen", "heldout"))
    before_seen, before_held = (documents.at(earlier, name) for name in ("seen", "heldout"))
    if not len(before_held):
        return Gap(math.nan, math.inf)
    known = before_seen["visits"].to_numpy() > 0
    return probe_gap(side(seen, before_seen).only(known), side(held, before_held))


def _online(
    span: tuple[int, int, int], groups: float, windows: int, series: pd.DataFrame, documents: Documents
) -> tuple[Gap, Gap]:
    """(held-out less training loss, both means over the span; what the held-out loss at its end is lower).

    Training losses are not recorded document by document. Their scatter from step to step takes all windows for
    independent; that the windows of a group are alike is added from the held-out groups' spread.
    """
    start, end = span[0], span[-1]
    losses = series["train_loss"].to_numpy()[start:end].astype(np.float64)
    points = sorted(set(span))
    held = [documents.at(step, "heldout") for step in points]
    if not all(map(len, held)):
        return Gap(math.nan, math.inf), Gap(math.nan, math.inf)
    weights = span_weights(points, start, end)
    together = held[-1].assign(loss=sum(w * rows["loss"].to_numpy() for w, rows in zip(weights, held, strict=True)))
    mean = contrast(side(together))
    alike = spread(side(together)) * math.sqrt(max(0.0, 1 / groups - 1 / windows))
    online = Gap(mean.gap - float(losses.mean()), math.hypot(mean.se, _mean_se(losses), alike))
    return online, contrast(side(together, held[-1]))


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
