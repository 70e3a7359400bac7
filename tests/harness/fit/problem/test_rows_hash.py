"""The hash of fitted rows: the same for the same rows, however the table is arranged."""

import hashlib
import struct

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.fit.laws.law import by_group
from harness.fit.laws.registry import get_law
from harness.fit.problem.rows_hash import hash_of_rows

ROWS = pd.DataFrame({"N": [2e6, 1e6, 3e6], "D": [1e8, 1e8, 2e8], "L": [3.0, 3.1, 2.9], "L_se": [0.1, np.nan, 0.2]})
LAW = get_law("chinchilla")


def test_the_hash_is_that_of_names_and_sorted_numbers():
    """Written out by hand for two rows: by name D, L, N, and by row those with the smaller D first."""
    two = pd.DataFrame({"N": [1e6, 3e6], "D": [2e8, 1e8], "L": [3.0, 3.1]})
    content = b"D,L,N" + struct.pack("<2d", 1e8, 2e8) + struct.pack("<2d", 3.1, 3.0) + struct.pack("<2d", 3e6, 1e6)
    assert hash_of_rows(LAW, two) == hashlib.sha256(content).hexdigest()


@settings(max_examples=20)
@given(st.permutations(range(3)), st.permutations(["N", "D", "L", "L_se", "seed"]))
def test_the_order_of_rows_and_columns_and_other_columns_do_not_matter(rows, columns):
    table = ROWS.assign(seed=[1, 2, 3]).iloc[list(rows)][list(columns)]
    assert hash_of_rows(LAW, table) == hash_of_rows(LAW, ROWS)


@pytest.mark.parametrize("column", ["N", "D", "L", "L_se"])
def test_the_last_digit_of_any_number_matters(column):
    changed = ROWS.copy()
    changed.loc[2, column] = np.nextafter(changed.loc[2, column], np.inf)
    assert hash_of_rows(LAW, changed) != hash_of_rows(LAW, ROWS)


def test_labels_and_numbers_as_text_are_read_as_the_law_reads_them():
    law = by_group(LAW, ("E",))
    first = ROWS.assign(group=["a", "b", "a"])
    assert hash_of_rows(law, first) != hash_of_rows(law, ROWS.assign(group=["a", "b", "b"]))
    text = first.assign(N=["2M", "1,000,000", "3e6"])
    assert hash_of_rows(law, text) == hash_of_rows(law, first)
