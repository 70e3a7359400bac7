"""A few tables of every world; `scripts/worlds.py` takes hundreds."""

import numpy as np
import pytest

from harness.theory.verdict_worlds import VERDICT_WORLDS, draw_groups, draw_world, try_verdict


@pytest.mark.slow
@pytest.mark.parametrize("world", VERDICT_WORLDS.values(), ids=lambda world: world.id)
def test_the_rule_knows_every_world(world):
    trial = try_verdict(world, 2, seed=500)
    assert trial["words"] == {world.expected.value: 2}
    assert trial["right"] == 1.0
    if world.expected == "no_detectable_gap":
        assert trial["slope_claimed"] == 0.0


def test_the_design_sees_both_branches():
    table = draw_world(VERDICT_WORLDS["law"], 0)
    u = table.D / table.N**0.74
    assert len(table) == 174 and np.mean(u < 0.3) > 0.2 and np.mean(u > 3) > 0.3


def test_groups_differ_as_asked():
    same, other = draw_groups(1), draw_groups(1, ratio=1.6, apart=0.1)
    last = other.group == "b"
    np.testing.assert_array_equal(same.G[~last], other.G[~last])
    np.testing.assert_allclose((other.G / same.G)[last], 1.6 * (other.N[last] / 1e7) ** -0.1)
