"""Twins and controls of simulated documents with a known gap, and of hand-made recencies."""

import dataclasses
import json
import math
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from harness.gaps import twins
from harness.gaps.document_losses import DocumentLosses, documents_of
from harness.gaps.twins import measure_pair, midway_gaps, pair_files, placebo_gaps, recency, trajectory
from harness.theory.twin_worlds import TwinWorld, measure_twins, try_estimators
from models.config import make_config
from sweeps.config import DataConfig, OptimizerConfig, RunConfig

STEPS, BATCH, CONTEXT = 64, 2, 4


def config(epochs: int = 1) -> RunConfig:
    model = make_config("dense", vocab=257, context=CONTEXT, width=16, depth=1, heads=2)
    unique = STEPS * BATCH * CONTEXT // epochs + 1
    data = DataConfig(domain="", tokenizer="bytes", unique_tokens=unique, half="a")
    return RunConfig(model=model, data=data, optimizer=OptimizerConfig(lr=0.1), steps=STEPS, batch=BATCH)


def documents(losses: dict[str, np.ndarray], step: int = STEPS, since: Any = None, visits: Any = 1) -> DocumentLosses:
    starts = {"seen": 0, "other": 1000, "heldout": 2000}
    return documents_of(
        pd.concat([frame(name, starts[name], mean, step, since, visits) for name, mean in losses.items()])
    )


def frame(name: str, start: int, mean: np.ndarray, step: int, since: Any, visits: Any) -> pd.DataFrame:
    number = start + np.arange(len(mean))
    columns = {"step": step, "probe": name, "window": number, "document": number, "group": number, "source": 0}
    columns |= {"visits": 0 if name == "heldout" else visits, "since": 0 if since is None else since}
    return pd.DataFrame(columns | {"tokens": 10, "bytes": 20, "loss": 10 * mean})


def pair(gap: float, lead: float, n: int = 60) -> tuple[DocumentLosses, DocumentLosses]:
    random = np.random.default_rng(0)
    hard = {name: random.normal(3.0, 0.5, n) for name in ("seen", "other", "heldout")}
    apart = {name: random.normal(0.0, 0.05, n) for name in hard}
    own = {"seen": hard["seen"] - gap, "other": hard["other"], "heldout": hard["heldout"]}
    twin = {name: hard[name] - lead - apart[name] - gap * (name == "other") for name in hard}
    return documents(own), documents({"other": twin["seen"], "seen": twin["other"], "heldout": twin["heldout"]})


def swapped(its: DocumentLosses) -> DocumentLosses:
    """The twin's tables as they are recorded: its `seen` are the windows of the run's `other`."""
    moved = {"heldout": its.at(STEPS, "heldout")}
    for name, start in (("seen", 1000), ("other", 0)):
        rows = its.at(STEPS, name)
        number = start + np.arange(len(rows))
        moved[name] = dataclasses.replace(rows, window=number, document=number, group=number)
    return DocumentLosses({(STEPS, name): rows for name, rows in moved.items()})


@pytest.mark.parametrize(("gap", "lead"), [(0.3, 0.0), (0.3, 0.2), (0.0, 0.4), (-0.1, -0.2)])
def test_both_find_the_gap_whatever_the_lead(gap, lead):
    own, its = pair(gap, lead)
    its = swapped(its)
    mine, theirs = (cast(dict[str, float], measure_pair(*both, STEPS, 0)) for both in ((own, its), (its, own)))
    assert mine["gap_twin"] == pytest.approx(theirs["gap_twin"]) and mine["gap_twin_se"] == theirs["gap_twin_se"]
    for found in (mine, theirs):
        for name in ("gap_twin", "gap_control"):
            assert abs(found[name] - gap) < 4 * found[f"{name}_se"] < 0.06
        assert found["gap_twin_bpb"] == pytest.approx(found["gap_twin"] / 2 / math.log(2))
        assert abs(found["placebo_twin"]) < 4 * found["placebo_twin_se"]
        assert found["paired_sd"] == pytest.approx(0.05, rel=0.3) and found["document_sd"] == pytest.approx(
            0.5, rel=0.3
        )


def test_every_pair_has_halves_of_its_own_for_its_placebo(monkeypatch, tmp_path):
    """What single documents have, by chance, in common with one half of the text is no gap in the mean over pairs."""
    random = np.random.default_rng(0)
    closer = random.normal(0.0, 0.2, 60)  # every pair is evaluated on the same held-out documents
    placebos = []
    for seed in range(80):
        own = {name: np.full(60, 3.0) for name in ("seen", "other", "heldout")}
        twin = own | {"heldout": 3.0 - closer - random.normal(0.0, 0.02, 60)}
        losses = swapped(documents(twin))
        monkeypatch.setattr(twins, "read_documents", lambda _, losses=losses: losses)
        files = pair_files(tmp_path, config().model_copy(update={"seed": seed}), documents(own))
        first, second = (json.loads(content)["placebo_twin"] for content in files.values())
        assert first == pytest.approx(-second)
        placebos.append(first)
    assert abs(np.mean(placebos)) < 3 * np.std(placebos, ddof=1) / len(placebos) ** 0.5
    assert np.std(placebos, ddof=1) == pytest.approx(0.2 / 60**0.5, rel=0.3)


def test_losses_of_other_windows_are_not_compared():
    own, its = pair(0.1, 0.0)
    with pytest.raises(ValueError, match="other windows"):
        measure_pair(own, its, STEPS, 0)


def test_the_gap_by_recency_is_that_of_each_halving():
    n = 64
    since = np.arange(n) * (STEPS * BATCH * CONTEXT // n)  # evenly over the run
    memory = 0.5 * 2.0 ** -(since / 100)
    losses = {"seen": 3.0 - memory, "heldout": np.full(n, 3.0)}
    own = documents({"seen": losses["seen"]}, since=since)
    held = documents({"heldout": losses["heldout"]})
    rows = recency(config(), DocumentLosses({**own.parts, **held.parts}))
    assert [(row["since_from"], row["since_to"]) for row in rows] == [(256, 512), (128, 256), (0, 128)]
    for row in rows:
        inside = (since >= row["since_from"]) & (since < row["since_to"])
        assert row["documents"] == inside.sum()
        assert row["gap_probe"] == pytest.approx(memory[inside].mean())


def test_the_gap_by_visits_where_they_differ():
    visits = np.repeat([1, 2], 32)
    own = documents({"seen": 3.0 - 0.1 * visits}, visits=visits)
    held = documents({"heldout": np.full(30, 3.0)})
    rows = recency(config(2), DocumentLosses({**own.parts, **held.parts}))
    by_visits = {row["visits"]: row["gap_probe"] for row in rows if row["visits"] is not None}
    assert by_visits == {1: pytest.approx(0.1), 2: pytest.approx(0.2)}


def test_the_trajectory_has_what_was_seen_by_then():
    early = frame("seen", 0, np.full(20, 3.0), 32, None, np.repeat([1, 0], 10))
    early.loc[10:, "loss"] = 90.0
    late = frame("seen", 0, np.full(20, 2.5), 64, None, 1)
    held = [frame("heldout", 2000, np.full(20, 3.2), step, None, 0) for step in (32, 64)]
    rows = trajectory(config(), documents_of(pd.concat([early, late, *held])))
    assert [row["gap_probe"] for row in rows] == [pytest.approx(0.2), pytest.approx(0.7)]
    assert [row["epochs"] for row in rows] == [0.5, 1.0] and [row["tokens"] for row in rows] == [256, 512]


def test_midway_gaps_tell_documents_from_windows():
    """A run gains 0.2 on the windows that it has read, and 0.05 on other windows of their documents."""
    random = np.random.default_rng(1)
    hard = {name: random.normal(3.0, 0.5, 40) for name in ("seen", "other", "heldout")}
    visits = np.arange(40) % 2
    gain = np.where(visits, 0.2, 0.05)
    own = {"seen": hard["seen"] - gain, "other": hard["other"], "heldout": hard["heldout"]}
    lead = {"seen": hard["other"] - gain - 0.4, "other": hard["seen"] - 0.4, "heldout": hard["heldout"] - 0.4}
    later = {name: mean - 9 for name, mean in own.items()}
    of_own, of_twin = (
        pd.concat([
            *(frame(name, place, losses[name], STEPS // 2, None, visits) for name, place in places.items()),
            *(frame(name, place, later[name], STEPS, None, 1) for name, place in places.items()),
        ])
        for losses, places in (
            (own, {"seen": 0, "other": 1000, "heldout": 2000}),
            (lead, {"seen": 1000, "other": 0, "heldout": 2000}),
        )
    )  # fmt: skip
    read, unread = midway_gaps(config(), documents_of(of_own), documents_of(of_twin))
    assert read.gap == pytest.approx(0.2) and unread.gap == pytest.approx(0.05)
    # Of two epochs the middle of the first is at a quarter of the steps, where nothing was evaluated.
    assert math.isnan(midway_gaps(config(2), documents_of(of_own), documents_of(of_twin))[0].gap)


def test_placebos_are_differences_of_halves_that_nobody_saw():
    own, its = pair(0.3, 0.2)
    drawn = [placebo_gaps(own, swapped(its), STEPS, seed) for seed in range(20)]
    assert set(drawn[0]) == {"probe", "control", "twin"}
    for name in drawn[0]:
        assert len({gaps[name].gap for gaps in drawn}) == 20
        assert sum(abs(gaps[name].gap) > 1.96 * gaps[name].se for gaps in drawn) <= 4
    # Half the control's, error and all.
    assert drawn[0]["twin"].gap == pytest.approx(drawn[0]["control"].gap / 2)


def test_every_estimator_is_unbiased_and_covers_the_truth():
    rows = {row["estimator"]: row for row in try_estimators(TwinWorld(documents=800, gap=0.05), 200, seed=3)}
    for row in rows.values():
        assert abs(row["bias"]) < 3 * row["bias_se"]
        assert 0.9 < row["coverage"] < 0.99  # 200 replicates: 0.95 +- 0.03 at two standard errors
        assert row["placebo_alarms"] < 0.1
    assert rows["twin"]["se_of_probe"] < 1 / 8 and rows["control"]["se_of_probe"] < 1 / 4


def test_simulated_spreads_are_found():
    found = measure_twins(TwinWorld(documents=5000, document_sd=0.4, paired_sd=0.1), np.random.default_rng(0))
    assert found["document_sd"] == pytest.approx(0.4, rel=0.1) and found["paired_sd"] == pytest.approx(0.1, rel=0.1)
