"""A few tables of every world; `scripts/worlds.py` takes hundreds."""

import numpy as np
import pytest

from harness.fit.gap_law.worlds import WORLDS, draw, draw_groups, get_world, trial


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.id)
def test_the_rule_knows_every_world(world):
    found = trial(world, 2, seed=500)
    assert found.said == {world.expected.value: 2}
    assert found.right == 1.0
    if world.expected == "no_detectable_gap":
        assert found.slope_claimed == 0.0


def test_the_design_sees_both_branches():
    table = draw(get_world("law"), 0)
    u = table.D / table.N**0.74
    assert len(table) == 174 and np.mean(u < 0.3) > 0.2 and np.mean(u > 3) > 0.3


def test_groups_differ_as_they_are_told():
    same, other = draw_groups(1), draw_groups(1, ratio=1.6, apart=0.1)
    last = other.group == "b"
    np.testing.assert_array_equal(same.G[~last], other.G[~last])
    np.testing.assert_allclose((other.G / same.G)[last], 1.6 * (other.N[last] / 1e7) ** -0.1)
