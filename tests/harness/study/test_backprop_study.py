"""Curves with a floor and fronts of the study of direct feedback, against known ones."""

import numpy as np
import pandas as pd
import pytest

from harness.study.papers.backprop import _between, _on_front, _with_floor


def test_a_curve_with_a_floor_is_found_and_none_is_made_up():
    x = np.geomspace(0.05, 5, 8)
    rows = np.stack([1.2 + 1.5 * x**-0.25, 2.5 * x**-0.1])
    (floor, height, power), (none, all_of_it, slow) = _with_floor(x, rows)
    assert (floor, height, power) == pytest.approx((1.2, 1.5, 0.25), abs=0.03)
    assert (none, all_of_it, slow) == pytest.approx((0.0, 2.5, 0.1), abs=1e-6)


def test_a_front_leaves_out_what_costs_more_and_is_no_better():
    cells = pd.DataFrame({"flops": [1.0, 10.0, 20.0, 100.0], "log_loss": [1.0, 0.9, 0.95, 0.8], "runs": [4, 1, 1, 4]})
    kept = _on_front(cells)
    assert kept.tolist() == [True, True, False, True]
    loss, error = _between(cells.loc[kept], 0.02, np.array([1.0, 10**0.5, 100.0]))
    assert loss == pytest.approx([1.0, 0.95, 0.8])
    # Half of one cell of four runs and half of one of a single run.
    assert error == pytest.approx([0.01, np.hypot(0.005, 0.01), 0.01])
