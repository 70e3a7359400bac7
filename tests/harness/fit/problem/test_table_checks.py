import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.fit.fitting import fit, solve
from harness.fit.laws.registry import get_law
from harness.tables.read import assign_roles, read_table
from sweeps.errors import InputError


def codes(frame):
    table, warnings = assign_roles(frame, {})
    result = fit("chinchilla", table, bootstrap=0, sensitivity=False)
    return {warning.code for warning in (*warnings, *result.warnings)}


def test_sound_rows_raise_no_suspicion(losses):
    assert codes(losses(1)) == set()


@pytest.mark.slow
def test_losses_per_byte_among_losses_per_token_are_seen_and_a_wide_range_is_not(losses):
    """A factor of 4.2 (bytes a token, in nats against nats); losses that merely span a decade are one group."""
    table = losses(2)
    mixed = table.assign(L=np.where(np.arange(len(table)) % 3 == 0, table.L / 4.2, table.L))
    assert "mixed_units" in codes(mixed)
    steep = table.assign(L=1e-3 + 482.01 * table.N**-0.3478 + 2085.43 * table.D**-0.3658)
    assert "mixed_units" not in codes(steep)


def test_one_size_is_said_and_leaves_its_exponent_open(losses):
    table = losses(3)
    result = fit("chinchilla", table.assign(N=1e8), bootstrap=0, sensitivity=False)
    assert {"one_value", "not_identified"} <= {warning.code for warning in result.warnings}
    assert not result.parameters["alpha"].identified


def test_rows_that_stand_twice_are_counted(losses):
    table = losses(4)
    fitted = solve("chinchilla", pd.concat([table, table.head(7)], ignore_index=True))
    assert [w.message[:7] for w in fitted.problem.warnings if w.code == "duplicated_rows"] == ["7 rows "]


@settings(max_examples=20)
@given(
    fault=st.sampled_from(["missing", "nan", "negative", "text", "one_n", "twice", "few", "units", "infinite", "zero"]),
    column=st.sampled_from(["N", "D", "L"]),
    row=st.integers(0, 59),
    seed=st.integers(0, 5),
)
@pytest.mark.slow
def test_every_fault_of_a_file_is_one_line_or_a_named_warning(losses, tmp_path_factory, fault, column, row, seed):
    table = losses(seed, rows=60)
    if fault == "missing":
        table = table.drop(columns=column)
    elif fault == "few":
        table = table.head(3)
    elif fault == "one_n":
        table["N"] = 1e8
    elif fault == "twice":
        table = pd.concat([table, table.iloc[[row]]])
    elif fault == "units":
        table.loc[table.index % 2 == 0, "L"] /= 4.2
    else:
        bad = {"nan": np.nan, "negative": -1.0, "text": "much", "infinite": np.inf, "zero": 0.0}[fault]
        table = table.astype({column: object})
        table.loc[row, column] = bad
    file = tmp_path_factory.mktemp("faults") / "runs.csv"
    table.to_csv(file, index=False)
    try:
        frame, warnings = read_table(file, laws=[get_law("chinchilla")])
        result = fit("chinchilla", frame, bootstrap=0, sensitivity=False, source=str(file))
    except InputError as error:
        assert "\n" not in str(error) and str(file) in str(error)
        assert fault in ("missing", "few", "text")
    else:
        named = {warning.code for warning in (*warnings, *result.warnings)}
        expected = {"one_n": "one_value", "twice": "duplicated_rows", "units": "mixed_units"}.get(fault, "rows_dropped")
        assert expected in named, (fault, named)


def test_what_a_law_needs_is_named(losses):
    with pytest.raises(InputError, match="at least"):
        fit("chinchilla", losses(0).head(5))
