"""From a run's losses to its gap: two estimators, their errors, a placebo, and whether the gap had settled.

`probe` compares the same final parameters on documents seen and held out. `online` is the source document's: the mean
training loss of the last 100 steps against the held-out loss; in the first epoch both are losses on unseen text, at
parameters about 50 steps apart, so it is expected slightly negative while the loss falls. The held-out loss is averaged
over the evaluations of those steps. Runs below 200 steps have their second half for them: the first losses lie far
above.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.data.probes import Probe
from harness.data.split import unit_hash
from harness.data.store import TokenStore
from harness.gaps import ClusteredMean, clustered_mean, gap
from sweeps.config import RunConfig

FINAL_STEPS = 100
# A gap has settled when the second half of training moved it by no more than this share of itself.
SETTLED = 0.1


def probe_rows(
    step: int, tokens: int, store: TokenStore, probes: dict[str, Probe], losses: dict[str, Float[np.ndarray, "W T"]]
) -> list[dict[str, Any]]:
    """Rows of the evals table after `step`: one a probe, and the held-out one again in two halves by source file.

    The halves `placebo_a` and `placebo_b` are both unseen: their difference is a gap that is truly zero.

    Args:
        tokens: D processed so far.
        losses: nats of each probe's targets.
    """
    rows = []
    for name, probe in probes.items():
        counts = probe.token_counts
        sums = np.bincount(probe.target_group.ravel(), losses[name].astype(np.float64).ravel(), len(counts))
        parts = {name: np.ones(len(counts), bool)}
        if name == "heldout":
            first = np.asarray([unit_hash("isogap-placebo", store.group_names[g]) < 0.5 for g in probe.groups])
            parts |= {"placebo_a": first, "placebo_b": ~first}
        for part, chosen in parts.items():
            if not chosen.any():
                continue
            mean = clustered_mean(sums[chosen], counts[chosen])
            share = counts[chosen].sum() / counts.sum()
            rows.append(
                {
                    "step": step,
                    "tokens": tokens,
                    "probe": part,
                    "documents": int(probe.documents[chosen].sum()),
                    "probe_tokens": int(counts[chosen].sum()),
                    "probe_bytes": round(probe.target_bytes * share),
                    "loss": float(mean.mean),
                    "loss_se": float(mean.se),
                }
            )
    return rows


def _means(evals: pd.DataFrame) -> Callable[[int, str], ClusteredMean]:
    """The mean of a probe after a step; NaN where it was not evaluated."""
    # Once as a dict: each look into the frame takes 1 ms, and a gap takes twelve.
    rows = evals[["step", "probe", "loss", "loss_se"]].itertuples(index=False)
    table = {(step, probe): (loss, loss_se) for step, probe, loss, loss_se in rows}

    def at(step: int, probe: str) -> ClusteredMean:
        loss, loss_se = table.get((step, probe), (math.nan, math.inf))
        return ClusteredMean(np.asarray(loss, np.float64), np.asarray(loss_se, np.float64))

    return at


def measure(config: RunConfig, store: TokenStore, series: pd.DataFrame, evals: pd.DataFrame) -> dict[str, Any]:
    """What gap.json holds of a finished run; nats per token, None where a number does not exist
    (a gap whose standard error does not exist, because one side is a single source file, is none either).

    Returns:
        the losses, gap_online, gap_probe and placebo with standard errors, minimum_detectable_gap, and `converged`:
        whether the gap at the end differs from the gap at half the steps by less than 10 % of itself or, for a gap
        that was not detected, of the minimum detectable gap. `gap_drift` is that difference; both gaps are on the same
        windows, so it carries far less noise than either.
    """
    at = _means(evals)
    since = max(config.steps - FINAL_STEPS, config.steps // 2)
    final = series["train_loss"].to_numpy()[since:]
    train_mean = float(final.mean())
    train_se = float(final.std(ddof=1) / math.sqrt(len(final))) if len(final) > 1 else math.inf
    recent = sorted({int(s) for s in evals["step"] if s > since})
    held = [at(step, "heldout") for step in recent]
    val_mean, val_se = float(np.mean([m.mean for m in held])), float(np.mean([m.se for m in held]))
    measured = gap(at(config.steps, "seen"), at(config.steps, "heldout"))
    placebo = gap(at(config.steps, "placebo_a"), at(config.steps, "placebo_b"))
    half = gap(at(config.steps // 2, "seen"), at(config.steps // 2, "heldout"))
    drift = float(measured.gap - half.gap)
    scale = max(abs(float(measured.gap)), float(measured.minimum_detectable))
    values = {
        "train_loss_final100": train_mean,
        "val_loss_final100": val_mean,
        "seen_loss": float(at(config.steps, "seen").mean),
        "heldout_loss": float(at(config.steps, "heldout").mean),
        "gap_online": val_mean - train_mean,
        "gap_online_se": math.hypot(train_se, val_se),
        "gap_probe": float(measured.gap),
        "gap_probe_se": float(measured.se),
        "minimum_detectable_gap": float(measured.minimum_detectable),
        "placebo": float(placebo.gap),
        "placebo_se": float(placebo.se),
        "gap_drift": drift,
        "bytes_per_token": store.bytes_per_token,
    }
    # A difference without an error is no measurement: text seen of one source file, say, tells nothing of files.
    for name in ("gap_online", "gap_probe", "placebo"):
        if not math.isfinite(values[f"{name}_se"]):
            values[name] = math.nan
    finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
    return finite | {"converged": bool(abs(drift) <= SETTLED * scale) if math.isfinite(drift + scale) else False}
