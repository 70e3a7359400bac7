"""Figures of twins show the numbers they were given."""

import numpy as np
import pytest

from harness.record.columns import ESTIMATORS
from harness.report.measured import by_recency, estimators_table, label, over_training, side_by_side


def cell(epochs: float, twin: float | None = 0.2):
    row = {"domain": "web", "N_nonembedding": 150_000, "U": 100_000, "epochs": epochs, "minimum_detectable_gap": 0.01}
    row |= {f"gap_{name}": 0.1 * place for place, name in enumerate(ESTIMATORS)} | {"gap_twin": twin}
    row |= {f"gap_{name}_se": 0.01 * (1 + place) for place, name in enumerate(ESTIMATORS)}
    row |= {f"placebo_{name}_z": -0.5 for name in ESTIMATORS}
    row |= {"online_lag": 0.03, "document_sd": 0.4, "paired_sd": 0.07, "noise_scale": 1e4}
    points = [{"epochs": e, "gap_twin": 0.1 * e, "gap_twin_se": 0.01} for e in (0.5, 1.0, 2.0)]
    bins = [
        {"since_from": None, "since_to": None, "visits": 1, "gap_twin": 0.9, "gap_twin_se": 0.1},
        {"since_from": 1000, "since_to": 2000, "visits": None, "gap_twin": 0.3, "gap_twin_se": 0.02},
        {"since_from": 0, "since_to": 1000, "visits": None, "gap_twin": 0.4, "gap_twin_se": 0.02},
    ]
    return row, {"trajectory": points, "recency": bins}


@pytest.fixture
def cells():
    return [cell(1.0), cell(2.0)]


def test_every_estimator_of_every_cell_stands_beside_its_label(cells):
    rows = [row for row, _ in cells]
    figure = side_by_side(rows)
    assert [trace.name for trace in figure.data] == list(ESTIMATORS)
    for trace in figure.data:
        assert list(trace.x) == [row[f"gap_{trace.name}"] for row in rows]
        np.testing.assert_allclose(trace.error_x.array, [1.96 * row[f"gap_{trace.name}_se"] for row in rows])
    assert list(figure.to_dict()["layout"]["yaxis"]["ticktext"]) == [label(row) for row in rows]


def test_a_gap_that_does_not_exist_has_no_mark():
    figure = side_by_side([cell(1.0)[0], cell(2.0, twin=None)[0]])
    assert [len(trace.x) for trace in figure.data] == [2, 2, 2, 1]
    assert "–" in estimators_table([cell(2.0, twin=None)[0]])


def test_lines_over_training_and_by_recency(cells):
    rows, found = zip(*cells, strict=True)
    for trace in over_training(rows, found).data:
        assert list(trace.x) == [0.5, 1.0, 2.0] and list(trace.y) == pytest.approx([0.05, 0.1, 0.2])
    for trace in by_recency(rows, found).data:
        assert list(trace.x) == [1500, 500] and list(trace.y) == [0.3, 0.4]  # not that of a number of visits


def test_the_table_has_every_number(cells):
    text = estimators_table([row for row, _ in cells])
    for number in ("0.1 ± 0.02", "0.2 ± 0.04", "0.01", "0.03", "0.07"):
        assert number in text
