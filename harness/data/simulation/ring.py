"""A linear partial differential equation, a wave that is carried round a ring and slowly spreads, seen at three places.

u_t + c u_x = d u_xx, with the derivatives as differences of neighbours on 32 places.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from harness.data.simulation.draws import draw_key, units
from harness.data.simulation.flows import FlowState, orbit_points

NAME = "advection"
_PLACES = 32
_SEEN = (0, 5, 16)
# Rounds of averaging with both neighbours, which leave the longer waves of random heights.
_SMOOTHED = 12


def ring_orbits(keys: Sequence[int], trajectories: int, points: int) -> Float[np.ndarray, "points 3 lanes"]:
    """What is seen at three places, for `trajectories` profiles on each of the rings; lanes are ring after ring.

    A ring's speed c is a quarter to three quarters of a place a point, in either direction, and its d is small enough
    for a third of a short wave to be left after 500 points.

    Args:
        keys: of each ring, by which its constants and its profiles are drawn.
    """
    constants = np.stack([units(draw_key(key, "constants"), 3) for key in keys])
    speed = np.where(constants[:, 0] < 0.5, -1.0, 1.0) * (0.25 + 0.5 * constants[:, 1])
    spreading = 0.002 + 0.006 * constants[:, 2]
    carry, spread = np.repeat(speed * 0.5, trajectories), np.repeat(spreading, trajectories)
    profiles = [units(draw_key(key, "profile", number), _PLACES) for key in keys for number in range(trajectories)]
    state = np.stack(profiles, axis=1)
    for _ in range(_SMOOTHED):
        state = (np.roll(state, 1, axis=0) + state + np.roll(state, -1, axis=0)) / 3.0

    def rate(state: FlowState) -> FlowState:
        before, after = np.roll(state, 1, axis=0), np.roll(state, -1, axis=0)
        return carry * (before - after) + spread * ((before - state) + (after - state))

    return np.stack([seen[list(_SEEN)] for seen in orbit_points(rate, state, np.ones(state.shape[1]) * 0.5, points, 2)])
