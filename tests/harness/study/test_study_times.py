"""Times of a study's shapes in its table of runs."""

import numpy as np
import pandas as pd
import pytest
import yaml

from harness.record.table import write_table
from harness.study import times
from harness.study.times import with_times
from sweeps.grid import load


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of each of two shapes."""
    spec = tmp_path_factory.mktemp("specs") / "two.yaml"
    defaults = {"context": 16, "depth": 1, "heads": 2, "batch": 2, "tokens": 64, "domain": "installed"}
    spec.write_text(
        yaml.safe_dump({"name": "two", "defaults": defaults, "blocks": [{"grid": {"width": [8, 16]}, "seeds": 2}]})
    )
    return load(spec).configs


@pytest.fixture
def table(runs):
    return pd.DataFrame([{"run_id": run.run_id, "width": run.model.width, "context": 16} for run in runs])


@pytest.mark.slow
def test_runs_of_one_shape_get_its_times_of_every_round(runs, table, lab):
    found = with_times(table, runs, lab.cache)
    assert found["run_id"].tolist() == table["run_id"].tolist() and found.columns.is_unique
    least = found[["step_seconds_least", "decode_seconds_per_token_least"]].to_numpy()
    assert (least > 0).all()
    for _, own in found.groupby("width"):
        one, other = own["step_seconds_rounds"]
        assert len(one) == times.TIMING_ROUNDS and np.array_equal(one, other)
        assert own["step_seconds_least"].iloc[0] == min(one)
    assert found.groupby("width")["step_seconds_least"].nunique().tolist() == [1, 1]
    assert len(set(found["flops_step"].to_numpy())) == 2 and set(found["devices"].to_numpy()) == {1}


@pytest.mark.slow
def test_a_shape_that_does_not_decode_has_no_times_of_decoding(lab, tmp_path):
    spec = tmp_path / "encoder.yaml"
    defaults = {"context": 16, "depth": 1, "heads": 2, "width": 8, "batch": 2, "tokens": 64, "domain": "installed"}
    blocks = [{"grid": {"objective": ["masked", "next"]}}]
    spec.write_text(yaml.safe_dump({"name": "encoder", "defaults": defaults, "blocks": blocks}))
    runs = load(spec).configs
    known = pd.DataFrame([{"run_id": run.run_id, "status": "done"} for run in runs])
    found = with_times(known, runs, lab.cache)
    write_table(found, tmp_path / "runs.parquet")
    again = pd.read_parquet(tmp_path / "runs.parquet")
    assert again["decode_seconds_per_token_rounds"].map(np.size).tolist() == [1, times.TIMING_ROUNDS]
    assert again["decode_seconds_per_token_least"].isna().tolist() == [True, False]
    assert again["prefill_seconds_rounds"].map(len).tolist() == [times.TIMING_ROUNDS] * 2
    assert with_times(again, runs, lab.cache) is again


def test_times_are_measured_together_or_not_at_all(runs, table, monkeypatch, tmp_path):
    measured = []

    def measure(wanted, cache):
        measured.append([run.run_id for run in wanted])
        return [
            {"run_id": run.run_id, "width": run.model.width, "step_seconds": float(len(measured)), "devices": 1}
            for run in wanted
        ]

    monkeypatch.setattr(times, "_measure_apart", measure)
    # A run that did not end is not in the table, and is not timed.
    first = with_times(table.head(3), runs, tmp_path)
    assert len(measured[0]) == 3 and first["step_seconds"].tolist() == [1.0] * 3
    assert with_times(first, runs, tmp_path) is first and len(measured) == 1
    grown = pd.concat([first, table.tail(1)], ignore_index=True)
    again = with_times(grown, runs, tmp_path)
    assert len(measured[1]) == 4 and again["step_seconds"].tolist() == [2.0] * 4 and "width" in again
