"""The best batch of a curve of losses, against curves whose lowest point is known."""

import numpy as np
import pytest

from harness.study.papers.diloco import best_batch

BATCHES = np.array([8.0, 9.0, 10.0, 11.0])


@pytest.mark.parametrize(("lowest", "found"), [(9.3, 9.3), (7.0, 8.0), (12.0, 11.0)])
def test_the_best_batch_is_the_lowest_point_of_a_parabola_or_the_nearest_end(lowest, found):
    assert best_batch(BATCHES, 0.9 + 0.01 * (BATCHES - lowest) ** 2) == pytest.approx(found)


def test_where_the_middle_is_highest_the_best_batch_is_the_lower_end():
    assert best_batch(BATCHES, 0.9 - 0.01 * (BATCHES - 9.7) ** 2) == 8.0
