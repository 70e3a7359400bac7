import numpy as np
import pandas as pd
import pytest

from harness.gaps.roles import roles_for_runs
from sweeps.errors import InputError


@pytest.fixture
def runs():
    return pd.DataFrame(
        {
            "run_id": list("abcdef"),
            "status": ["done", "done", "done", "failed", "diverged", "done"],
            "architecture": "dense",
            "domain": "api_docs",
            "seed": [0, 1, 0, 0, 0, 0],
            "N_total": [150, 150, 260, 150, 150, 400],
            "N_nonembedding": [100, 100, 200, 100, 100, 300],
            "D": [1000, 1000, 1000, 1000, 1000, 5000],
            "val_loss_final100": 3.0,
            "gap_probe": [0.02, 0.03, 0.01, np.nan, np.nan, np.nan],
            "gap_probe_se": 0.001,
        }
    )


def test_finished_runs_take_their_roles_and_seeds_share_a_cluster(runs):
    table, warnings = roles_for_runs(runs)
    assert table.N.tolist() == [100, 100, 200]
    assert table.G.tolist() == [0.02, 0.03, 0.01]
    assert table.L.tolist() == [3.0, 3.0, 3.0]
    assert table.cluster[0] == table.cluster[1] != table.cluster[2]
    told = " / ".join(warning.message for warning in warnings)
    assert "1 of 6 runs left out: failed" in told and "diverged" in told and "1 finished runs have no G" in told


@pytest.fixture
def twins(runs) -> pd.DataFrame:
    """Two halves of each of the first two runs; the others have no twin."""
    first = runs.iloc[:2].assign(half="a", gap_twin=[0.5, np.nan], gap_twin_se=[0.01, np.nan])
    second = first.assign(half="b", run_id=["x", "y"])
    table = pd.concat([first, second, runs.iloc[2:].assign(half=None)], ignore_index=True)
    return table.assign(
        gap_twin_bpb=table["gap_twin"] / 2, gap_twin_bpb_se=table["gap_twin_se"] / 2, contamination=0.0,
        gap_probe_bpb=table["gap_probe"] / 2, gap_probe_bpb_se=0.1, D_bytes=4.0 * table["D"], U_bytes=3.0,
    )  # fmt: skip


def test_a_pair_has_one_row_and_its_twin_gap_is_the_best(twins):
    table, _ = roles_for_runs(twins)
    # A pair that has not ended both is two runs with a probe gap each.
    assert table.G.tolist() == [0.5, 0.03, 0.03, 0.01]
    assert table.estimator.tolist() == ["twin", "probe", "probe", "probe"] and table.G_se.tolist()[0] == 0.01
    only, warnings = roles_for_runs(twins, "twin")
    assert only.G.tolist() == [0.5] and "have no gap_twin" in warnings[-1].message


def test_in_bytes_gaps_are_bits_and_tokens_are_the_bytes_of_text(twins):
    table, _ = roles_for_runs(twins, units="bytes")
    assert table.G.tolist() == [0.25, 0.015, 0.015, 0.005]
    tokens, _ = roles_for_runs(twins)
    assert table.D.tolist() == (4 * tokens.D).tolist() and set(table.U) == {3.0}


def test_text_that_leaks_is_a_warning_of_every_gap_on_it(twins):
    _, warnings = roles_for_runs(twins.assign(contamination=[0.02, 0.0, 0.02, 0.0, *[0.0] * (len(twins) - 4)]))
    (told,) = [warning.message for warning in warnings if warning.code == "contaminated"]
    assert told.startswith("1 of 4 gaps") and "more than 1 % of the held-out 13-grams" in told


def test_a_sweep_without_gaps_is_the_users_error(runs):
    with pytest.raises(InputError, match="estimator"):
        roles_for_runs(runs, "guess")
    with pytest.raises(InputError, match="bytes for any estimator but online"):
        roles_for_runs(runs, "online", "bytes")
    with pytest.raises(InputError, match="at least one finished run"):
        roles_for_runs(runs.assign(gap_probe=np.nan))
