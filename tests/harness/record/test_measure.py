"""The gap of hand-made tables against hand computation."""

import math
from types import SimpleNamespace
from typing import cast

import numpy as np
import pandas as pd
import pytest

from harness.data.probes import Probe
from harness.data.split import unit_hash
from harness.data.store import TokenStore
from harness.record.measure import measure, probe_rows
from models.config import make_config
from sweeps.config import DataConfig, OptimizerConfig, RunConfig

# The two facts of a token store that are asked for.
STORE = cast(TokenStore, SimpleNamespace(bytes_per_token=3.5, group_names=tuple(f"file{i}.py" for i in range(6))))


def run(steps: int) -> RunConfig:
    model = make_config("dense", vocab=257, context=4, width=16, depth=1, heads=2)
    data = DataConfig(domain="", tokenizer="bytes", unique_tokens=1000)
    return RunConfig(model=model, data=data, optimizer=OptimizerConfig(lr=0.1), steps=steps, batch=2)


def evaluations(rows: dict[int, dict[str, tuple[float, float]]]) -> pd.DataFrame:
    flat = [
        {"step": step, "probe": probe, "loss": loss, "loss_se": se}
        for step, probes in rows.items()
        for probe, (loss, se) in probes.items()
    ]
    return pd.DataFrame(flat)


LAST = {"seen": (2.0, 0.03), "heldout": (2.5, 0.04), "placebo_a": (2.45, 0.06), "placebo_b": (2.55, 0.08)}


def measured(steps: int, half: tuple[float, float], extra=None, last=None):
    series = pd.DataFrame({"train_loss": np.linspace(4.0, 2.0, steps)})
    rows = {0: {"seen": (5.5, 0.1), "heldout": (5.5, 0.1)}, **(extra or {})}
    rows[steps // 2] = {"seen": (half[0], 0.03), "heldout": (half[1], 0.04)}
    return series, measure(run(steps), STORE, series, evaluations(rows | {steps: last or LAST}))


def test_both_estimators_by_hand():
    series, got = measured(1000, (2.2, 2.68))
    final = series["train_loss"].to_numpy()[900:]
    assert got["train_loss_final100"] == pytest.approx(sum(final) / 100)
    assert got["val_loss_final100"] == got["heldout_loss"] == 2.5 and got["seen_loss"] == 2.0
    assert got["gap_online"] == pytest.approx(2.5 - sum(final) / 100)
    squares = sum((x - sum(final) / 100) ** 2 for x in final)
    assert got["gap_online_se"] == pytest.approx(math.sqrt(squares / 99 / 100 + 0.04**2))
    assert got["gap_probe"] == pytest.approx(0.5) and got["gap_probe_se"] == pytest.approx(0.05)
    assert got["minimum_detectable_gap"] == pytest.approx(2.8 * 0.05)
    assert got["placebo"] == pytest.approx(0.1) and got["placebo_se"] == pytest.approx(0.1)
    assert got["gap_drift"] == pytest.approx(0.02) and got["bytes_per_token"] == 3.5


@pytest.mark.parametrize(
    ("half_gap", "converged"),
    [(0.46, True), (0.54, True), (0.44, False), (0.56, False)],  # the gap is 0.5: ten percent of it is 0.05
)
def test_converged_is_a_drift_within_a_tenth_of_the_gap(half_gap, converged):
    assert measured(1000, (2.2, 2.2 + half_gap))[1]["converged"] is converged


@pytest.mark.parametrize(("half_gap", "converged"), [(0.012, True), (-0.006, True), (0.02, False)])
def test_converged_is_a_drift_within_a_tenth_of_what_is_detectable_for_smaller_gaps(half_gap, converged):
    last = {"seen": (2.0, 0.03), "heldout": (2.001, 0.04)}  # detectable: 0.14
    got = measured(1000, (2.2, 2.2 + half_gap), last=last)[1]
    assert got["gap_probe"] == pytest.approx(0.001)
    assert got["converged"] is converged and got["placebo"] is None and got["placebo_se"] is None


def test_heldout_losses_of_the_last_hundred_steps_are_averaged():
    extra = {step: {"seen": (2.1, 0.1), "heldout": (loss, 0.1)} for step, loss in ((899, 9.0), (920, 2.9), (960, 2.7))}
    got = measured(1000, (2.2, 2.7), extra)[1]
    assert got["val_loss_final100"] == pytest.approx((2.9 + 2.7 + 2.5) / 3)


@pytest.mark.parametrize(("steps", "last"), [(2, 1), (37, 19), (146, 73)])
def test_both_losses_of_a_short_run_leave_out_its_first_half(steps, last):
    # The untrained model's 5.5 nats at step 0 are no loss of a trained one.
    series, got = measured(steps, (2.9, 3.0))
    assert got["val_loss_final100"] == 2.5
    assert got["train_loss_final100"] == pytest.approx(sum(series["train_loss"].tolist()[-last:]) / last)


def test_a_run_of_one_step_has_a_gap_and_no_online_error():
    series = pd.DataFrame({"train_loss": [5.0]})
    got = measure(run(1), STORE, series, evaluations({0: LAST, 1: LAST}))
    assert got["gap_probe"] == pytest.approx(0.5) and got["gap_online_se"] is None and got["converged"] is True


def probe(groups: list[int], target_group: list[list[int]]) -> Probe:
    target = np.asarray(target_group, np.int32)
    tokens = np.zeros((target.shape[0], target.shape[1] + 1), np.int32)
    return Probe(tokens, target, np.asarray(groups, np.int32), 2 + np.arange(len(groups)), target_bytes=100)


def test_rows_of_the_probes_by_hand():
    probes = {"seen": probe([0, 3], [[0, 0, 1], [1, 1, 1]]), "heldout": probe([1, 2, 4, 5], [[0, 1, 2], [3, 3, 2]])}
    losses = {
        "seen": np.asarray([[1.0, 3.0, 2.0], [2.0, 2.0, 2.0]], np.float32),
        "heldout": np.asarray([[1.0, 2.0, 4.0], [8.0, 6.0, 3.0]], np.float32),
    }
    rows = {row["probe"]: row for row in probe_rows(7, 56, STORE, probes, losses)}
    seen = rows["seen"]
    assert (seen["step"], seen["tokens"], seen["documents"], seen["probe_tokens"]) == (7, 56, 2 + 3, 6)
    assert seen["loss"] == pytest.approx(2.0) and seen["loss_se"] == pytest.approx(0.0)
    # Two clusters of unequal size: sums 1, 2, 7, 14 over 1, 1, 2, 2 tokens, mean 4.
    deviations = [1 - 4, 2 - 4, 7 - 8, 14 - 8]
    assert rows["heldout"]["loss"] == pytest.approx(4.0)
    assert rows["heldout"]["loss_se"] == pytest.approx(math.sqrt(4 / 3 * sum(d * d for d in deviations)) / 6)
    first = [g for g in (1, 2, 4, 5) if unit_hash("isogap-placebo", STORE.group_names[g]) < 0.5]
    halves = {name: rows[name] for name in ("placebo_a", "placebo_b") if name in rows}
    sums, tokens = {1: 1.0, 2: 2.0, 4: 7.0, 5: 14.0}, {1: 1, 2: 1, 4: 2, 5: 2}
    for name, groups in (("placebo_a", first), ("placebo_b", [g for g in (1, 2, 4, 5) if g not in first])):
        if groups:
            assert halves[name]["documents"] == sum({1: 2, 2: 3, 4: 4, 5: 5}[g] for g in groups)
            assert halves[name]["probe_tokens"] == sum(tokens[g] for g in groups)
            assert halves[name]["loss"] == pytest.approx(sum(sums[g] for g in groups) / sum(tokens[g] for g in groups))
    assert sum(half["probe_tokens"] for half in halves.values()) == 6
    assert sum(half["documents"] for half in halves.values()) == 2 + 3 + 4 + 5  # no source file is in both


def test_a_half_without_a_source_file_has_no_row():
    lone = {"heldout": probe([2], [[0, 0, 0]])}
    rows = probe_rows(1, 8, STORE, lone, {"heldout": np.ones((1, 3), np.float32)})
    assert len(rows) == 2 and {row["probe"] for row in rows} < {"heldout", "placebo_a", "placebo_b"}
    assert all(row["loss_se"] == math.inf for row in rows)


def test_a_gap_without_an_error_is_none():
    last = LAST | {"seen": (2.0, math.inf)}  # one source file
    got = measured(1000, (2.2, 2.7), last=last)[1]
    assert got["gap_probe"] is None and got["minimum_detectable_gap"] is None and got["converged"] is False
    assert got["placebo"] == pytest.approx(0.1) and got["gap_online"] is not None
