"""The numbers of the study of features against simulations and small tables."""

import numpy as np
import pandas as pd
import pytest

from harness.study.papers.features import FEATURES, _ranks, _share_of_last, uniform_energy


def test_the_energy_of_uniform_directions_is_that_of_drawn_ones():
    assert uniform_energy(3) == pytest.approx(1.0)  # the distance has the density d/2 up to 2
    rng = np.random.default_rng(0)
    for width in (8, 64):
        points = rng.standard_normal((3000, width))
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        square = 2 - 2 * points @ points.T
        drawn = (square[np.triu_indices(3000, 1)] ** -0.5).mean()
        assert uniform_energy(width) == pytest.approx(drawn, rel=0.003)


def table(energies: list[list[float]]) -> pd.DataFrame:
    """A finished run for each row, of widths 8, 16, ...; its energies by layer, nan beyond its depth."""
    rows = []
    for number, own in enumerate(energies):
        layers = {f"feature_energy_{layer}": value for layer, value in enumerate(own, 1)}
        rank = {f"feature_rank_{layer}": value for layer, value in enumerate(own, 1)}
        depth = int(np.isfinite(own).sum())
        rows.append({"block": "shapes", "status": "done", "heldout_loss": 2.0, "draw": 0, "depth": depth,
                     "width": 8 << number, "D": 1000} | layers | rank)  # fmt: skip
    return pd.DataFrame(rows)


def test_layers_beyond_a_models_depth_count_nowhere():
    runs = table([[3.0, 2.0, np.nan], [3.0, 1.0, np.nan], [2.0, 1.9, 1.95]])
    verdict = FEATURES.judge(runs)
    rows = verdict.tables["features of the longest runs"]
    assert [(row["width"], row["layer"]) for row in rows] == [
        (8, 1),
        (8, 2),
        (16, 1),
        (16, 2),
        (32, 1),
        (32, 2),
        (32, 3),
    ]
    share = verdict.claims[1].evidence[0]
    assert share.estimate == pytest.approx(2 / 3)  # the last of three layers is not the lowest


def test_ranks_are_spearmans_within_a_depth_and_the_share_has_clopper_and_pearsons_interval():
    runs = table([[4.0], [3.0], [2.0], [1.0]])
    ended = runs.assign(diversity=-runs["feature_energy_1"], most=1)
    assert _ranks(ended, "diversity") == [pytest.approx(1.0)]
    swapped = ended.assign(diversity=[1.0, 2.0, 4.0, 3.0])
    assert _ranks(swapped, "diversity") == [pytest.approx(0.8)]  # 1 - 6 * 2 / (4 * 15)
    share = _share_of_last(ended)
    assert share.estimate == 1.0 and share.low == pytest.approx(0.025**0.25)
