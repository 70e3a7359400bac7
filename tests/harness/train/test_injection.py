"""Injected windows: which are read how often and when, and what a sweep records of them."""

import numpy as np
import pytest
import yaml

from harness.record.table import runs_table, segments_table
from harness.train.run_batches import opener
from models.interventions.inject import Inject
from sweeps.config import RunConfig
from sweeps.errors import InputError
from sweeps.grid import load
from sweeps.shape import shape_of

SETTINGS = {
    "context": 16, "width": 16, "depth": 1, "heads": 2, "batch": 2, "tokens": 28800, "probe_windows": 8, "epochs": 3,
    "lr": 0.01,
}  # fmt: skip
FIELDS = Inject(copies=20, windows=5, start=0.25, end=0.5)


@pytest.fixture
def plain(lab, tmp_path):
    """A run of the laboratory's text without injection."""
    spec = {"name": "x", "defaults": SETTINGS | {"domain": f"text:{lab.text}"}, "blocks": [{}]}
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(spec))
    (run,) = load(tmp_path / "plain.yaml").configs
    return run


def injected(run, fields: Inject = FIELDS, **changes):
    return run.model_copy(update={"interventions": (fields,), **changes})


def test_each_window_is_read_as_often_as_asked_within_its_time(lab, plain):
    run, opened = injected(plain), opener(lab.cache)
    batches, before = opened(run), opened(plain)
    total = run.steps * run.batch
    tokens, usual = (each.turns(0, run.steps, run.batch).reshape(total, -1) for each in (batches, before))
    windows = batches.own_probes["injected"].tokens
    changed = np.flatnonzero((tokens != usual).any(1))
    assert len(changed) == 100 and total / 4 <= changed.min() and changed.max() < total / 2
    for window in windows:
        assert (tokens[changed] == window).all(1).sum() == 20
    cut = [batches.turns(first, first + 90, run.batch) for first in range(0, run.steps, 90)]
    np.testing.assert_array_equal(np.concatenate(cut).reshape(total, -1), tokens)
    other = opened(injected(plain, seed=1)).turns(0, run.steps, run.batch).reshape(total, -1)
    assert set(np.flatnonzero((other == windows[0]).all(1))) != set(np.flatnonzero((tokens == windows[0]).all(1)))


def test_own_probes_are_held_out_windows_that_no_other_probe_has(lab, plain):
    batches = opener(lab.cache)(injected(plain))
    numbers = [set(batches.last_probes["heldout"].window), *(set(p.window) for p in batches.own_probes.values())]
    assert [len(part) for part in numbers[1:]] == [5, 5]
    assert len(set.union(*numbers)) == sum(map(len, numbers))
    draw = plain.data.model_copy(update={"draw": 1})
    another = opener(lab.cache)(injected(plain, data=draw)).own_probes["injected"]
    assert set(another.window) != numbers[1]


def test_what_is_not_there_is_refused(lab, plain):
    with pytest.raises(InputError, match="the held-out windows that are left"):
        opener(lab.cache)(injected(plain, Inject(copies=1, windows=10**6)))
    with pytest.raises(ValueError, match="inject_windows 5 times inject_copies 10000 is more than the 1800 windows"):
        RunConfig(**plain.model_dump(exclude={"interventions"}), interventions=(Inject(copies=10**4, windows=5),))


def test_injection_is_no_part_of_the_compiled_program_but_for_its_windows(plain):
    run = injected(plain)
    assert shape_of(run, 2048).interventions == ()
    assert shape_of(run, 2048).probe_windows == shape_of(plain, 2048).probe_windows + 10
    assert run.evaluated_windows(run.steps) == plain.evaluated_windows(run.steps) + 10


@pytest.mark.slow
def test_what_was_injected_often_is_remembered(lab, tmp_path, isogap):
    spec = {
        "name": "x", "defaults": SETTINGS | {"domain": f"text:{lab.text}", "inject_windows": 6},
        "blocks": [{"grid": {"inject_copies": [0, 1, 60]}}],
    }  # fmt: skip
    (tmp_path / "inject.yaml").write_text(yaml.safe_dump(spec))
    outcome = isogap("run", tmp_path / "inject.yaml", "--out", tmp_path / "out", "--cache", lab.cache)
    assert outcome.status == 0, outcome.err
    runs = runs_table(tmp_path / "out").set_index("inject_copies")
    gap = runs["control_loss"] - runs["injected_loss"]
    error = np.hypot(runs["control_loss_se"], runs["injected_loss_se"])
    assert np.isnan(gap[0]) and abs(gap[1]) < 4 * error[1] and gap[60] > 4 * error[60] > 0
    probes = segments_table(tmp_path / "out", "evals").groupby("run_id")["probe"].unique()
    assert {"injected", "control"} <= set(probes[runs.loc[60, "run_id"]])
    assert not {"injected", "control"} & set(probes[runs.loc[0, "run_id"]])
