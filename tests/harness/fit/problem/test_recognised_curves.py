"""Checkpoints of runs are told from separate runs: on made tables, and on public ones whose answer is known."""

import numpy as np
import pandas as pd
import pytest

from harness.fit.fitting import fit
from harness.fit.laws.registry import get_law
from harness.fit.problem.curves import clusters_of
from harness.tables.read import assign_roles

LAW = get_law("chinchilla")
SIZES = np.array([5e7, 1e8, 2e8, 4e8, 8e8, 1.6e9])


def loss(n, d):
    return 1.8172 + 482.01 * n**-0.3478 + 2085.43 * d**-0.3658


def checkpoints(seed: int = 0, rows: int = 40, sizes: np.ndarray = SIZES) -> pd.DataFrame:
    """Runs of several sizes with a loss at equal steps; a run's losses lie above or below the law together, by 1 %."""
    rng = np.random.default_rng(seed)
    n, d = np.repeat(sizes, rows), np.tile(np.arange(1, rows + 1) * 1e9, len(sizes))
    shift = np.repeat(rng.normal(0, 0.01, len(sizes)), rows)
    return pd.DataFrame({"N": n, "D": d, "L": loss(n, d) * np.exp(shift + 1e-3 * rng.standard_normal(len(n)))})


def grid(steps: np.ndarray) -> pd.DataFrame:
    n, d = np.repeat(SIZES, len(steps)), np.tile(steps, len(SIZES))
    return pd.DataFrame({"N": n, "D": d, "L": loss(n, d)})


def clusters(frame: pd.DataFrame) -> int:
    return len(np.unique(clusters_of(LAW, assign_roles(frame, {}, laws=[LAW])[0])[0]))


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (checkpoints(), 6),
        (checkpoints().sample(frac=1.0, random_state=1), 6),
        # Two runs of every size that differ in a setting; further columns grow with D or are measured.
        (pd.concat([checkpoints(0).assign(lr=1e-3), checkpoints(1).assign(lr=3e-3)]), 12),
        (checkpoints().assign(step=lambda t: t.D / 1e6, flops=lambda t: 6 * t.N * t.D, norm=np.linspace(1, 2, 240)), 6),
        (grid(np.geomspace(1e9, 1e12, 16)), 96),
        (grid(np.array([2.0, 4.0, 6.0, 8.0]) * 1e9), 24),
        (grid(np.array([1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0]) * 1e9), 54),
        # A column of the usual name for runs decides, whatever the spacing.
        (grid(np.geomspace(1e9, 1e12, 16)).assign(run_id=np.repeat(list("abcdef"), 16)), 6),
        (checkpoints().assign(run=np.arange(240)), 240),
        (checkpoints().assign(cluster=np.repeat([0, 1], 120)), 2),
    ],
)
def test_rows_of_one_run_are_found(frame, expected):
    assert clusters(frame) == expected


def test_it_is_said_and_can_be_said_otherwise():
    table, warned = assign_roles(checkpoints(), {}, laws=[LAW])
    assert not warned
    labels, (told,) = clusters_of(LAW, table)
    assert told.code == "checkpoints" and "240 rows are checkpoints of 6 runs" in told.message
    separate, _ = assign_roles(checkpoints(), {"run": "index"}, laws=[LAW])
    assert clusters_of(LAW, separate)[1] == () and len(np.unique(clusters_of(LAW, separate)[0])) == 240


@pytest.mark.slow
def test_intervals_of_curves_hold_the_truth_where_those_of_rows_do_not():
    """Six runs whose errors are shared by all of their rows: 40 rows of a run know no more than one."""
    frame = checkpoints(seed=3, sizes=np.geomspace(5e7, 5e9, 16))
    by_run = fit("chinchilla", frame, sensitivity=False, bootstrap=100).parameters["alpha"]
    by_row = fit("chinchilla", frame.assign(run=frame.index), sensitivity=False, bootstrap=100).parameters["alpha"]
    assert by_run.se is not None and by_row.se is not None and by_run.se > 3 * by_row.se
    assert by_run.estimate == pytest.approx(by_row.estimate)


# Table -> its columns in roles, and whether its rows are checkpoints; READMEs of the tables say so.
PUBLIC = {
    "toy_scaling_wikitext.csv": ({"N": "params_N", "D": "samples_seen", "L": "test_loss_wikitext"}, 10),
    "vocab_scaling.csv": ({"N": "non_vocab_params_N", "D": "num_characters", "L": "9+unigram_normalized_loss"}, 60),
    "chinchilla_epoch.csv": ({"N": "params_N", "D": "tokens_D", "L": "loss"}, 245),
    "datablations_val.csv": ({"N": "params_N", "D": "tokens_D", "L": "val_loss"}, 305),
    "farseer_subset.csv": ({"N": "params_N", "D": "tokens_D", "L": "loss_bpc"}, 404),
    "gadre_overtraining.csv": ({"N": "params_N", "D": "tokens_D", "L": "val_loss_c4_val"}, 95),
    "losstoloss_kempner_sweep.csv": ({"N": "params_N", "D": "tokens_D", "L": "val_loss_indist"}, 529),
    "porian_isoflop_points.csv": ({"N": "params_N", "D": "tokens_D", "L": "loss"}, 1745),
    "steplaw_dense.csv": ({"N": "params_N", "D": "tokens_D", "L": "train_loss_smooth"}, 1911),
}


@pytest.mark.public_data
@pytest.mark.parametrize("name", PUBLIC)
def test_public_tables(name, public):
    roles, expected = PUBLIC[name]
    frame, _ = assign_roles(public(name), roles, laws=[LAW])
    assert len(frame) == len(public(name))
    assert len(np.unique(clusters_of(LAW, frame)[0])) == expected


def test_the_warning_says_what_recognised_the_checkpoints():
    """By the column that fills the role `run`, under its own name; or by the rule of equal steps."""
    named = checkpoints().assign(exp_name=np.repeat(list("abcdef"), 40))
    rule = "alike but for D, which grows in equal steps"
    for frame, why in ((named, "(by the column exp_name)"), (checkpoints(), rule)):
        table, _ = assign_roles(frame, {}, laws=[LAW])
        (told,) = clusters_of(LAW, table)[1]
        assert "240 rows are checkpoints of 6 runs (by the " in told.message and why in told.message
