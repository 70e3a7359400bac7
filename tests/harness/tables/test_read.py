import numpy as np
import pandas as pd
import pytest

from harness.fit.laws.registry import get_law
from harness.tables.read import assign_roles, read_table
from sweeps.errors import InputError


def test_a_file_gets_its_roles_and_keeps_its_columns(tmp_path):
    frame = pd.DataFrame({"params": [1e6, 2e6, 4e6], "tokens": [1e8, 1e9, 1e9], "loss": [4.0, 3.5, 3.2]})
    frame.to_csv(tmp_path / "runs.csv", index=False)
    frame.to_parquet(tmp_path / "runs.parquet")
    for name in ("runs.csv", "runs.parquet"):
        roles = {"N": "params", "D": "tokens", "L": "loss"}
        table, warnings = read_table(tmp_path / name, roles, where="tokens > 1e8", holdout="params > 3e6")
        assert table.N.tolist() == [2e6, 4e6]
        assert table.holdout.tolist() == [False, True]
        assert not warnings


def test_rows_without_a_role_are_dropped_and_counted():
    frame = pd.DataFrame({"N": [1.0, 2.0, 0.0, 4.0], "D": [1.0, np.nan, 1.0, 1.0]})
    table, warnings = assign_roles(frame, {"N": "N", "D": "D"})
    assert table.N.tolist() == [1.0, 4.0] and table.file_row.tolist() == [1, 4]
    assert [warning.code for warning in warnings] == ["rows_dropped", "rows_dropped"]
    assert warnings[0].message.startswith("1 of 4 rows dropped: N")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"roles": {"M": "N"}}, "one of the roles"),
        ({"roles": {"N": "size"}}, "--set N"),
        ({"roles": {"N": "N"}, "where": "N > 1e9"}, "leaves some rows"),
        ({"roles": {"N": "N"}, "where": "N >> 'a'"}, "--where"),
        ({"roles": {"N": "name"}}, "numbers"),
    ],
)
def test_unusable_requests_are_the_users_error(arguments, words):
    with pytest.raises(InputError, match=words):
        assign_roles(pd.DataFrame({"N": [1.0, 2.0], "name": ["a", "b"]}), **arguments)


def test_a_usual_name_of_a_column_of_words_is_passed_over():
    """A table of Porian et al. has the convention of counting in `param_count`, and the counts in another column."""
    frame = pd.DataFrame({"param_count": ["standard", "attention"], "params_N": [1e6, 2e6], "loss": [4.0, 3.0]})
    table, _ = assign_roles(frame, {}, laws=[get_law("henighan_n")])
    assert table.N.tolist() == [1e6, 2e6]
