"""A pair of twins whose gap is known: losses of documents with given spreads, measured as real runs are.

The loss of document i at the parameters after step s is a_i + drift(s), less the gap if the run has seen it. The
difficulty a_i has the standard deviation `document_sd` over documents. The twin's loss of the same document differs by
a lead that all documents share, and by a deviation of its own with standard deviation `paired_sd`.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from harness.gaps.document_losses import DocumentLosses, ProbeRows
from harness.gaps.estimators import effective_number
from harness.gaps.one_run import TextFacts, measure
from harness.gaps.twins import measure_pair
from harness.record.columns import ESTIMATORS
from models.config import make_config
from sweeps.config import DataConfig, OptimizerConfig, RunConfig, online_span

STEPS, BATCH, CONTEXT = 1000, 8, 128
# Standard deviation of the log of a document's length: one document in a hundred is ten times as long as the median.
LENGTH_SD = 1.0


@dataclass(frozen=True)
class TwinWorld:
    """The true losses of a run and its twin.

    Attributes:
        documents: number of documents seen by the run, as many by its twin, and as many held out.
        document_sd, paired_sd: spread of documents' losses, and of their differences between the twins, nats per token.
        gap: the true gap, nats per token.
        lead: how much lower the twin's loss is, nats per token.
        fall: how far the loss falls over the last 100 steps, nats per token.
    """

    documents: int = 2000
    document_sd: float = 0.5
    paired_sd: float = 0.07
    gap: float = 0.01
    lead: float = 0.02
    fall: float = 0.05


def measure_twins(world: TwinWorld, rng: np.random.Generator) -> dict[str, Any]:
    """Simulate one pair of twins and measure it: the contents of gap.json and pair.json of the run."""
    n = world.documents
    model = make_config("dense", vocab=257, context=CONTEXT, width=16, depth=1, heads=2)
    data = DataConfig(domain="simulated", tokenizer="bytes", unique_tokens=STEPS * BATCH * CONTEXT // 4, half="a")
    config = RunConfig(model=model, data=data, optimizer=OptimizerConfig(lr=1e-3), steps=STEPS, batch=BATCH)
    tokens = np.maximum(8, rng.lognormal(math.log(200.0), LENGTH_SD, (3, n))).astype(np.int64)
    difficulty = 3.0 + world.document_sd * rng.standard_normal((3, n))
    lead = world.lead + world.paired_sd * rng.standard_normal((3, n))
    seen_by_run, seen_by_twin = np.asarray([[1.0], [0.0], [0.0]]), np.asarray([[0.0], [1.0], [0.0]])
    steps = sorted({STEPS // 2, *online_span(STEPS), *online_span(config.first_epoch)})
    run = {s: difficulty + _drift(world, s) - world.gap * seen_by_run for s in steps}
    twin = {s: difficulty - lead + _drift(world, s) - world.gap * seen_by_twin for s in steps}
    start = online_span(STEPS)[0]
    # The sequences of a batch count alike, whatever the lengths of their documents; longer documents are drawn more
    # often.
    drawn = rng.choice(n, (STEPS, BATCH), p=tokens[0] / tokens[0].sum())
    drift = np.asarray([_drift(world, s) for s in range(STEPS)])
    losses = difficulty[0, drawn].mean(axis=1) + drift - world.gap
    counts = [np.bincount(drawn[first:end].ravel()) for first, end in ((start, STEPS), (0, config.first_epoch))]
    groups = [effective_number(count) for count in counts]
    of_run = _documents(run, tokens, ("seen", "other", "heldout"))
    of_twin = _documents(twin, tokens, ("other", "seen", "heldout"))
    series = pd.DataFrame({"train_loss": losses})
    return measure(config, TextFacts(1.0, 0.0, *groups), series, of_run) | measure_pair(of_run, of_twin, STEPS, 0)


def _drift(world: TwinWorld, step: float) -> float:
    """How far the loss at a step is above the final one: it falls by `fall` over the last 100 steps, ever slower."""
    left = (STEPS - step) / 100
    return world.fall * left * (1 + left / 20) / 1.05


def _documents(
    losses: dict[int, Float[np.ndarray, "sides n"]], tokens: Int[np.ndarray, "sides n"], names: tuple[str, ...]
) -> DocumentLosses:
    n = tokens.shape[1]
    parts = {}
    for step, values in losses.items():
        for place, name in enumerate(names):
            number, visits = place * n + np.arange(n), np.full(n, 0 if name == "heldout" else 2)
            same = np.zeros(n, int)
            sizes, sums = tokens[place], values[place] * tokens[place]
            parts[step, name] = ProbeRows(number, number, number, same, visits, same, sizes, sizes, sums)
    return DocumentLosses(parts)


def try_estimators(world: TwinWorld, replicates: int, seed: int) -> list[dict[str, Any]]:
    """How good each estimator is in a world.

    Returns:
        one row per estimator: estimator, gap (true), mean, bias and bias_se over the replicates, se (mean of the
        standard errors given), sd (of the estimates), coverage of the nominal 95 % intervals, se_of_probe (mean ratio
        of its standard error to the probe's), and placebo_alarms, the share of placebos beyond 1.96 standard errors.
    """
    rng = np.random.default_rng(seed)
    trials = pd.DataFrame([measure_twins(world, rng) for _ in range(replicates)])
    rows = []
    for name in ESTIMATORS:
        gaps, errors = trials[f"gap_{name}"].to_numpy(), trials[f"gap_{name}_se"].to_numpy()
        placebo = "placebo" if name == "probe" else f"placebo_{name}"
        alarms = np.abs(trials[placebo]) > 1.96 * trials[f"{placebo}_se"]
        rows.append(
            {
                "estimator": name,
                "gap": world.gap,
                "mean": float(gaps.mean()),
                "bias": float(gaps.mean() - world.gap),
                "bias_se": float(gaps.std(ddof=1) / math.sqrt(replicates)),
                "se": float(errors.mean()),
                "sd": float(gaps.std(ddof=1)),
                "coverage": float(np.mean(np.abs(gaps - world.gap) < 1.96 * errors)),
                "se_of_probe": float(np.mean(errors / trials["gap_probe_se"])),
                "placebo_alarms": float(alarms.mean()),
            }
        )
    return rows
