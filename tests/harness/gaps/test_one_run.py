"""What is recorded at an evaluation, and the gap of hand-made tables, against hand computation."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.windows import window_index
from harness.gaps.document_losses import DocumentLosses, documents_of, probe_rows, segment_columns
from harness.gaps.estimators import in_first_half
from harness.gaps.one_run import TextFacts, evaluation_rows, measure, noise_scale, span_weights
from harness.gaps.probes import Probe
from models.config import TrainingObjective, make_config
from sweeps.config import DataConfig, OptimizerConfig, RunConfig

FACTS = TextFacts(bytes_per_token=3.5, contamination=0.004, groups=1e9, first_groups=1e9)
GROUPS = 40


def run(steps: int, unique: int = 1000) -> RunConfig:
    model = make_config("dense", vocab=257, context=4, width=16, depth=1, heads=2)
    data = DataConfig(domain="", tokenizer="bytes", unique_tokens=unique)
    return RunConfig(model=model, data=data, optimizer=OptimizerConfig(lr=0.1), steps=steps, batch=2)


def table(step: int, losses: dict[str, np.ndarray], tokens: int = 4, visits: int = 1) -> pd.DataFrame:
    """Documents of four tokens and eight bytes, each a group of its own; held-out ones come after the seen."""
    parts = []
    for name, mean in losses.items():
        number = np.arange(len(mean)) + (1000 if name == "heldout" else 0)
        columns = {"step": step, "probe": name, "window": number, "document": number, "group": number}
        columns |= {"source": number % 7, "visits": 0 if name == "heldout" else visits, "since": 0}
        parts.append(pd.DataFrame(columns | {"tokens": tokens, "bytes": 2 * tokens, "loss": mean * tokens}))
    return pd.concat(parts, ignore_index=True)


def spread(mean: float, sd: float) -> np.ndarray:
    values = np.random.default_rng(round(1000 * mean)).normal(0.0, 1.0, GROUPS)
    return mean + sd * (values - values.mean()) / values.std(ddof=1)


def flat(*levels: tuple[int, float, float]) -> DocumentLosses:
    """Evaluations with (step, seen, held-out) losses, the same for all documents."""
    return documents_of(
        pd.concat([table(s, {"seen": np.full(GROUPS, a), "heldout": np.full(GROUPS, b)}) for s, a, b in levels])
    )


def series(losses: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"train_loss": losses})


def test_the_probe_gap_by_hand():
    at_end = {"seen": spread(2.0, 0.3), "heldout": spread(2.5, 0.4)}
    half = {"seen": at_end["seen"] + 0.2, "heldout": at_end["heldout"] + 0.18}
    documents = documents_of(pd.concat([table(500, half), table(900, half), table(950, half), table(1000, at_end)]))
    got = measure(run(1000), FACTS, series(np.linspace(4.0, 2.0, 1000)), documents)
    assert got["seen_loss"] == pytest.approx(2.0) and got["heldout_loss"] == pytest.approx(2.5)
    assert got["gap_probe"] == pytest.approx(0.5)
    assert got["gap_probe_se"] == pytest.approx(math.hypot(0.3, 0.4) / math.sqrt(GROUPS))
    assert got["minimum_detectable_gap"] == pytest.approx(2.8 * got["gap_probe_se"])
    # Two bytes a token: bits per byte are half the nats over ln 2.
    assert got["heldout_bpb"] == pytest.approx(2.5 / 2 / math.log(2))
    assert got["gap_probe_bpb"] == pytest.approx(0.5 / 2 / math.log(2))
    # The same documents half-way: the change of the gap, 0.02, is known exactly.
    assert got["gap_drift"] == pytest.approx(0.02) and got["gap_drift_se"] == pytest.approx(0.0, abs=1e-9)
    assert got["bytes_per_token"] == 3.5 and got["contamination"] == 0.004
    held = at_end["heldout"]
    first = in_first_half(1000 + np.arange(GROUPS), 0)
    assert got["placebo"] == pytest.approx(held[~first].mean() - held[first].mean())
    # All held-out losses fall alike over the last 100 steps.
    assert got["placebo_online"] == pytest.approx(got["placebo"])


def test_steps_without_a_token_that_counts_are_left_out_of_the_training_loss():
    documents = flat((500, 2.0, 2.5), (900, 2.0, 2.5), (950, 2.0, 2.5), (1000, 2.0, 2.5))
    losses = np.where(np.arange(1000) % 3 == 0, 0.0, 2.2)
    config = run(1000)
    model = dataclasses.replace(config.model, objective=TrainingObjective(counted=((7, 7),)))
    rare = config.model_copy(update={"model": model})
    got = measure(rare, FACTS, series(losses), documents)
    assert got["train_loss_final100"] == pytest.approx(2.2) and got["val_loss_final100"] == pytest.approx(2.5)
    assert got["gap_online"] == pytest.approx(0.3)
    # Where every token counts, a loss of 0 is one.
    assert measure(config, FACTS, series(losses), documents)["train_loss_final100"] == pytest.approx(
        losses[900:].mean()
    )
    none = measure(rare, FACTS, series(np.zeros(1000)), documents)
    assert none["train_loss_final100"] is None and none["gap_online"] is None
    assert none["val_loss_final100"] == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("half_gap", "converged"),
    [(0.46, True), (0.54, True), (0.44, False), (0.56, False)],  # the gap is 0.5: ten percent of it is 0.05
)
def test_converged_is_a_drift_within_a_tenth_of_the_gap(half_gap, converged):
    documents = flat((500, 2.2, 2.2 + half_gap), (900, 2.0, 2.5), (950, 2.0, 2.5), (1000, 2.0, 2.5))
    assert measure(run(1000), FACTS, series(np.ones(1000)), documents)["converged"] is converged


def test_text_not_read_yet_is_not_seen():
    seen = np.concatenate([np.full(GROUPS, 2.0), np.full(GROUPS, 9.0)])
    half = table(500, {"seen": seen, "heldout": np.full(GROUPS, 2.4)})
    half.loc[GROUPS : 2 * GROUPS - 1, "visits"] = 0
    later = [table(s, {"seen": np.full(2 * GROUPS, 2.0), "heldout": np.full(GROUPS, 2.5)}) for s in (900, 950, 1000)]
    got = measure(run(1000), FACTS, series(np.ones(1000)), documents_of(pd.concat([half, *later])))
    assert got["gap_drift"] == pytest.approx(0.1)


@given(st.floats(-1, 1), st.floats(-0.01, 0.01), st.floats(-1e-4, 1e-4), st.sampled_from([(900, 1000), (73, 146)]))
def test_the_online_gap_is_that_of_two_means_at_the_same_steps(level, slope, bend, span):
    start, end = span
    held = {s: 3.0 + level + slope * s + bend * (s - start) ** 2 for s in (start, (start + end) // 2, end)}
    # The loss of step s is taken at the parameters after s - 1 steps; here the gap is 0.25.
    at = np.arange(end)
    train = 2.75 + level + slope * at + bend * (at - start) ** 2
    levels = [(s, 2.0, loss) for s, loss in held.items()]
    documents = flat(*levels) if end // 2 in held else flat((end // 2, 2.0, 2.0), *levels)
    got = measure(run(end, unique=10**6), FACTS, series(train), documents)
    assert got["gap_online"] == pytest.approx(0.25, abs=1e-9)
    assert got["val_loss_final100"] - got["train_loss_final100"] == pytest.approx(0.25, abs=1e-9)
    held_mean = np.mean(3.0 + level + slope * at[start:] + bend * (at[start:] - start) ** 2)
    assert got["online_lag"] == pytest.approx(held_mean - held[end], abs=1e-9)


def test_weights_of_a_span_average_over_its_steps():
    weights = span_weights([900, 950, 1000], 900, 1000)
    at = np.arange(900.0, 1000.0)
    for power in range(3):
        assert weights @ np.asarray([900.0, 950.0, 1000.0]) ** power == pytest.approx(
            np.mean(at.astype(float) ** power)
        )


def test_the_online_gap_of_the_first_epoch_stands_by_itself():
    levels = [(s, 2.0, 2.5) for s in (100, 150, 200, 900, 950, 1000, 500)]
    documents = flat(*levels)
    losses = np.where(np.arange(1000) < 200, 2.4, 2.1)
    once = measure(run(1000, unique=10**6), FACTS, series(losses), documents)
    assert once["gap_online_first"] == once["gap_online"] == pytest.approx(0.4)
    often = measure(run(1000, unique=200 * 2 * 4 + 1), FACTS, series(losses), documents)
    assert often["gap_online"] == pytest.approx(0.4) and often["gap_online_first"] == pytest.approx(0.1)


def test_the_error_of_the_online_gap_holds_what_windows_of_a_document_share():
    random = np.random.default_rng(0)
    noise = random.normal(0.0, 0.1, 1000)
    levels = {s: table(s, {"seen": spread(2.0, 0.3), "heldout": spread(2.5, 0.4)}) for s in (500, 900, 950, 1000)}
    documents = documents_of(pd.concat(levels.values()))
    alone = measure(run(1000), FACTS, series(2.0 + noise), documents)["gap_online_se"]
    held = 0.4 / math.sqrt(GROUPS)
    assert alone == pytest.approx(math.hypot(held, 0.1 / 10), rel=0.1)
    few = TextFacts(3.5, 0.0, groups=10.0, first_groups=10.0)
    shared = measure(run(1000), few, series(2.0 + noise), documents)["gap_online_se"]
    assert shared == pytest.approx(math.sqrt(alone**2 + 0.4**2 * (1 / 10 - 1 / 200)), rel=1e-6)


def test_a_run_of_one_step_has_a_gap_and_no_online_error():
    got = measure(run(1), FACTS, series(np.asarray([5.0])), flat((0, 5.0, 5.0), (1, 4.5, 5.0)))
    assert got["gap_probe"] == pytest.approx(0.5)
    assert got["gap_online_se"] is None and got["gap_online"] is None


def test_a_gap_without_an_error_is_none():
    lone = {"seen": np.full(1, 2.0), "heldout": spread(2.5, 0.1)}  # one source file
    documents = documents_of(pd.concat([table(s, lone) for s in (500, 900, 950, 1000)]))
    got = measure(run(1000), FACTS, series(np.ones(1000)), documents)
    assert got["gap_probe"] is None and got["minimum_detectable_gap"] is None and got["converged"] is False
    assert got["gap_online"] is not None and got["placebo"] is not None


def test_the_noise_scale_is_a_ratio_of_means_in_tokens():
    frame = pd.DataFrame({"gradient_signal": [1.0, 3.0], "gradient_noise": [10.0, 70.0]})
    assert noise_scale(frame, run(10)) == pytest.approx(80 / 4 * 4)
    assert math.isnan(noise_scale(frame.assign(gradient_signal=-1.0), run(10)))
    assert math.isnan(noise_scale(frame.assign(gradient_noise=-1.0), run(10)))
    assert math.isnan(noise_scale(pd.DataFrame({"lr": [0.1]}), run(10)))


def probe(window: list[int], document: list[int], group: list[int], target_row: list[list[int]]) -> Probe:
    rows, target = np.asarray(window, np.int32), np.asarray(target_row, np.int32)
    counts = np.bincount(target.ravel())
    return Probe(
        np.zeros((len(target), target.shape[1] + 1), np.int32), np.ones(target.shape, bool), target, rows,
        np.asarray(document, np.int32), np.asarray(group, np.int32), np.zeros(len(rows), np.int32), counts, 2 * counts,
    )  # fmt: skip


def test_rows_of_an_evaluation_by_hand():
    config = run(9, unique=41)  # ten windows of four tokens
    probes = {
        "seen": probe([3, 3, 8], [5, 6, 9], [0, 0, 3], [[0, 0, 1, 1], [2, 2, 2, 2]]),
        "heldout": probe([1, 2], [0, 4], [1, 2], [[0, 0, 0, 0], [1, 1, 1, 1]]),
    }
    losses = {"seen": np.asarray([[1, 3, 2, 4], [2, 2, 2, 2]], np.float32), "heldout": np.ones((2, 4), np.float32)}
    found = probe_rows(config, 7, probes, losses)
    seen, held = found["seen"], found["heldout"]
    assert seen.loss.tolist() == [4.0, 6.0, 8.0] and seen.tokens.tolist() == [2, 2, 4]
    read = window_index(np.arange(7 * 2), 10, config.seed)
    for window, visits, since in zip(seen.window, seen.visits, seen.since, strict=True):
        places = np.flatnonzero(read == window)
        assert visits == len(places)
        assert since == ((13 - places[-1]) * 4 if len(places) else -1)
    assert held.visits.tolist() == [0, 0] and held.since.tolist() == [-1, -1]
    table = pd.DataFrame(segment_columns([(7, found)]))
    assert len(table) == 5
    again = documents_of(table)
    assert again.steps == [7] and again.at(7, "seen").loss.tolist() == [4.0, 6.0, 8.0] and not len(again.at(7, "other"))
    evals = {row["probe"]: row for row in evaluation_rows(7, config.batch_tokens, found)}
    got = evals["seen"]
    assert (got["step"], got["tokens"], got["documents"], got["probe_tokens"], got["probe_bytes"]) == (7, 56, 3, 8, 16)
    # Two groups of four tokens, sums 10 and 8 about a mean of 2.25.
    assert got["loss"] == pytest.approx(2.25) and got["loss_se"] == pytest.approx(math.sqrt(2 * 2 * 1.0) / 8)
    parts = [evals[name] for name in ("placebo_a", "placebo_b") if name in evals]
    assert sum(part["probe_tokens"] for part in parts) == 8
