"""The best batch of curves whose lowest point is known, and runs of blocks without replicas."""

import numpy as np
import pytest

from harness.study.loss_worlds import design_runs, draw_runs
from harness.study.papers.diloco import DILOCO, best_batch
from sweeps.grid import load

BATCHES = np.array([8.0, 9.0, 10.0, 11.0])


@pytest.mark.parametrize(("lowest", "found"), [(9.3, 9.3), (7.0, 8.0), (12.0, 11.0)])
def test_the_best_batch_is_the_lowest_point_of_a_parabola_or_the_nearest_end(lowest, found):
    assert best_batch(BATCHES, 0.9 + 0.01 * (BATCHES - lowest) ** 2) == pytest.approx(found)


def test_where_the_middle_is_highest_the_best_batch_is_the_lower_end():
    assert best_batch(BATCHES, 0.9 - 0.01 * (BATCHES - 9.7) ** 2) == 8.0


def test_blocks_without_replicas_have_none_of_their_settings():
    runs = draw_runs(DILOCO.worlds[0], design_runs([load("diloco")]), np.random.default_rng(0))
    settings = [name for name in runs if name.startswith("replicas_")]
    absent = runs.astype(dict.fromkeys(settings, float))
    absent.loc[absent["replicas_count"] == 0, settings] = np.nan
    assert DILOCO.judge(absent).to_dict() == DILOCO.judge(runs).to_dict()
