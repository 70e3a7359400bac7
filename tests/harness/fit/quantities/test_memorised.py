"""Bits memorised from a gap: text that was learned by heart, and text of which nothing is held."""

import math

import numpy as np
import pandas as pd
import pytest

from harness import memorised_bits
from harness.fit.quantities.memorised import memorised_bits as bits_of
from sweeps.errors import InputError


def test_random_text_learned_by_heart_is_memorised_to_the_last_bit():
    """Uniform text over V symbols has ln V nats a token unseen and none if known: U log2 V bits, its whole entropy."""
    assert bits_of(math.log(256), 1000) == pytest.approx(8 * 1000)
    assert bits_of(0.0, 1e9) == 0.0
    assert bits_of(-0.01, 1e6) < 0  # a gap below zero by chance is kept


def test_bits_of_a_table(tmp_path):
    table = pd.DataFrame({"params": [1e6, 1e6], "tokens": [1e8, 4e8], "unique_tokens": [1e6, 1e8]})
    table["gap"], table["G_se"] = [3.6 * math.log(2), 0.01], [0.001, 0.001]
    table.to_csv(tmp_path / "runs.csv", index=False)
    with pytest.warns(UserWarning, match="U = unique_tokens"):
        found = memorised_bits(tmp_path / "runs.csv")
    assert found["bits"].to_list() == pytest.approx([3.6e6, 0.01 * 1e8 / math.log(2)])
    assert found["bits_per_parameter"].to_list() == pytest.approx([3.6, 1.0 / math.log(2)])
    assert found["share_of_capacity"].to_list()[0] == pytest.approx(1.0)
    assert found["bits_se"].to_list() == pytest.approx([1e3 / math.log(2), 1e5 / math.log(2)])


def test_counts_are_above_zero():
    with pytest.raises(InputError, match="above zero"):
        bits_of(np.array([0.1]), np.array([0.0]))
