"""SOURCE on the command line: whose columns become which roles."""

import pandas as pd
import pytest

from harness.fit.laws.registry import get_law
from harness.record.table import runs_table
from harness.source import parse_roles, read_points, read_runs
from sweeps.errors import InputError


def test_a_sweeps_folder_gives_its_finished_runs(finished, capsys):
    frame = read_runs(finished, "gap", estimator="probe", tell=print)
    runs = runs_table(finished)
    done = runs[runs["status"] == "done"]
    assert frame["G"].tolist() == done["gap_probe"].tolist() and frame["G_se"].tolist() == done["gap_probe_se"].tolist()
    assert frame["N"].tolist() == done["N_nonembedding"].tolist() and frame["D"].tolist() == done["D"].tolist()
    assert str(finished) in capsys.readouterr().out  # the diverged run's absence is told
    online = read_runs(finished, "gap", set={"N": "N_total"}, where="seed == 0", estimator="online", tell=print)
    chosen = done[done["seed"] == 0]
    assert online["N"].tolist() == chosen["N_total"].tolist()
    assert online["G"].tolist() == chosen["gap_online"].tolist()


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_tables_columns_named_as_roles_need_no_setting(tmp_path, ending):
    table = pd.DataFrame({"N": [1e6, 2e6, 3e6], "tokens": [1e8, 2e8, 4e8], "L": [3.0, 2.9, 2.7]})
    path = tmp_path / f"runs{ending}"
    table.to_csv(path, index=False) if ending == ".csv" else table.to_parquet(path)
    frame = read_runs(path, "chinchilla", set={"D": "tokens"}, holdout="N > 2.5e6")
    assert frame[["N", "D", "L"]].to_numpy().tolist() == table[["N", "tokens", "L"]].to_numpy().tolist()
    assert frame["holdout"].tolist() == [False, False, True]


def test_a_studys_folder_gives_its_table(tmp_path):
    pd.DataFrame({"N": [1e6, 2e6], "D": [1e7, 1e7], "L": [3.0, 2.9]}).to_parquet(tmp_path / "runs.parquet")
    folder, file = (read_runs(source, "chinchilla") for source in (tmp_path, tmp_path / "runs.parquet"))
    pd.testing.assert_frame_equal(folder, file)


def test_settings_and_points():
    assert parse_roles(["N=params", "G=a=b"]) == {"N": "params", "G": "a=b"}
    law = get_law("chinchilla")
    points = read_points(["N=1M, D=2e8", "N=3,D=4"], None, law)
    assert points.to_dict("records") == [{"N": 1e6, "D": 2e8}, {"N": 3.0, "D": 4.0}]
    for at in ([], ["N"], ["N=x"], ["N=1=2"]):
        with pytest.raises(InputError):
            read_points(at, None, law)
