import numpy as np
import pandas as pd
import pytest

from harness.fit.fitting import fit
from harness.fit.laws.registry import get_law
from harness.fit.problem.columns import column_of, numbers_of
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


def test_the_cell_that_is_not_a_number_is_found():
    values, fault = numbers_of(pd.Series(["1", "2M", None, "crashed", "5"], dtype=object))
    assert fault == 3
    assert values[:2].tolist() == [1.0, 2e6]
    assert numbers_of(pd.Series([True, False], dtype=object))[1] == 0


SIZES = pd.DataFrame({"size (total)": ["20M", "70m", "0.5B", "1,200M"], "steps": ["1k", "2k", "4k", "8k"]})


@pytest.mark.parametrize(
    ("condition", "kept"),
    [
        ("`size (total)` > 1e8", [3, 4]), ("`size (total)` > 100M", [3, 4]), ("`size (total)` > '0.1B'", [3, 4]),
        ("`size (total)` == '0.5B'", [3]), ("`size (total)` in [20M, 5e8]", [1, 3]), ("N < 70M", [1]),
        ("`size (total)` / steps > 1e5", [3, 4]), ("20M < N <= .5B and steps != 2k", [3]),
    ],
)  # fmt: skip
def test_texts_of_numbers_are_numbers_in_conditions_and_expressions(condition, kept):
    """Sizes of 2e7, 7e7, 5e8 and 1.2e9, and steps of 1000 to 8000; a role may be named where no column has its name."""
    roles = {"N": "size (total)", "D": "1000 * steps"}
    assert assign_roles(SIZES, roles, where=condition)[0].file_row.tolist() == kept
    table = assign_roles(SIZES, roles, holdout=condition)[0]
    assert (np.flatnonzero(table.holdout) + 1).tolist() == kept
    assert table.D.tolist() == [1e6, 2e6, 4e6, 8e6]


def test_texts_of_numbers_are_numbers_without_a_role():
    assert column_of(SIZES, "size (total)", "t.csv").tolist() == [2e7, 7e7, 5e8, 1.2e9]
    with pytest.raises(InputError, match="name: got 'a', expected numbers"):
        column_of(pd.DataFrame({"name": ["1B", "a"]}), "name", "t.csv")


def test_a_column_of_the_table_comes_before_a_role_of_its_name():
    frame = pd.DataFrame({"N": [1.0, 2.0, 3.0], "params": [3e8, 2e8, 1e8]})
    assert assign_roles(frame, {"N": "params"}, where="N > 1.5")[0].N.tolist() == [2e8, 1e8]


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("name > 1e9", "'a' and 1000000000 cannot be compared"),
        ("size > 20MB", "a number is written 20M, 2e7 or 20000000"),
        ("size > 20,000,000", "a number is written 20M, 2e7 or 20000000"),
        ("size > 1,234,567", "a number is written 20M, 2e7 or 20000000"),
        ("name * 2 > 1", "'a' is not a number"),
    ],
)
def test_a_refused_condition_shows_plain_numbers(condition, words):
    frame = pd.DataFrame({"size": ["1M", "2M"], "name": ["1B", "a"]})
    with pytest.raises(InputError) as refused:
        assign_roles(frame, {"N": "size"}, where=condition)
    assert words in str(refused.value) and "float64" not in str(refused.value)


@pytest.mark.parametrize("lacking", ["N", "D"])
def test_the_size_that_a_table_lacks_is_computed_from_flops_and_the_other(lacking):
    """C = 6 N D, in whatever unit the columns have; the row whose size is missing is dropped."""
    n, d = np.array([1e7, 3e7, 1e8, np.nan]), np.array([2e9, 1e9, 5e8, 1e9])
    flops = 6 * np.nan_to_num(n, nan=1e8) * d
    frame = pd.DataFrame({"params (M)": n / 1e6, "tokens": d, "gflops": flops / 1e9, "loss": [4.0, 3.5, 3.2, 3.0]})
    frame = frame.drop(columns={"N": "params (M)", "D": "tokens"}[lacking])
    table, warnings = assign_roles(frame, {}, laws=[get_law("chinchilla")])
    assert table["N"].tolist()[:3] == pytest.approx(n[:3]) and table["D"].tolist()[:3] == pytest.approx(d[:3])
    assert len(table) == (4 if lacking == "N" else 3)
    told = {warning.code: warning.message for warning in warnings}["sizes_from_flops"]
    assert told.startswith(f"no column for {lacking}: {lacking} = flops/(6 {'D' if lacking == 'N' else 'N'}), ")


def test_a_size_with_a_column_is_not_computed():
    frame = pd.DataFrame({"N": [1e7, 2e7], "D": [1e9, 2e9], "flops": [1e18, 1e19], "L": [3.0, 2.9]})
    table, warnings = assign_roles(frame, {}, laws=[get_law("chinchilla")])
    assert table["D"].tolist() == [1e9, 2e9] and not warnings


def test_all_missing_roles_are_named_and_only_the_columns_of_the_file():
    frame = pd.DataFrame({"params": [1e7, 2e7], "speed": [1.0, 2.0]})
    table, _ = assign_roles(frame, {}, laws=[get_law("chinchilla")])
    with pytest.raises(InputError) as refused:
        fit("chinchilla", table, source="t.csv")
    told = "t.csv: D, L: got 'the columns params, speed', expected columns for the roles D, L (--set D=... --set L=...)"
    assert str(refused.value) == f"{told}, or for flops, of which D = flops/(6 N)"
