"""Flows against another solver, published exponents and closed forms; systems and trajectories of the world `chaos`."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from harness.data.simulation.chaotic import HELD, TRAINED
from harness.data.simulation.draws import draw_key
from harness.data.simulation.flows import lyapunov, orbit_points, polynomial
from harness.data.simulation.ring import ring_orbits
from harness.data.world import parse_world
from harness.data.worlds.chaos import couple, find_systems

SMALL = "chaos:systems=8,trajectories=2,points=200"
# Largest exponents: Sprott 2003 (Chaos and Time-Series Analysis, appendix A) of the first three, Sprott 1994 (Phys.
# Rev. E 50, R647) of the others.
PUBLISHED = {
    "lorenz": 0.9056,
    "rossler": 0.0714,
    "chen": 2.0272,
    "sprott_b": 0.210,
    "sprott_s": 0.188,
    "sprott_q": 0.109,
}


@pytest.fixture(scope="module")
def exponents() -> dict[str, np.ndarray]:
    """All three exponents of the systems above, as means over 48 orbits of each."""
    kinds = [(TRAINED | HELD)[name] for name in PUBLISHED]
    flow = polynomial([kind.equations for kind in kinds]).select(np.repeat(np.arange(len(kinds)), 48))
    state = np.repeat(np.array([kind.start for kind in kinds]).T, 48, axis=1)
    step = np.repeat([kind.step for kind in kinds], 48)
    # The orbits begin at places that are a few steps apart.
    state = state * (1 + 0.01 * np.sin(np.arange(state.shape[1])))
    found, _ = lyapunov(flow, state, step, 3000, 3, settle=2000)
    return dict(zip(PUBLISHED, found.reshape(3, len(kinds), 48).mean(axis=2).T, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_exponents_are_the_published_ones(exponents, name):
    assert exponents[name][0] == pytest.approx(PUBLISHED[name], rel=0.05)
    # One exponent of a flow is zero, along the orbit.
    assert abs(exponents[name][1]) < 0.01 * abs(exponents[name][2])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "divergence"), [("lorenz", -10 - 1 - 8 / 3), ("chen", -35 + 28 - 3), ("sprott_b", -1)]
)
def test_exponents_add_up_to_the_divergence_of_the_flow(exponents, name, divergence):
    assert exponents[name].sum() == pytest.approx(divergence, rel=1e-5)


def test_exponents_of_a_linear_flow_are_the_real_parts_of_its_eigenvalues():
    matrix = np.array([[-1.0, 2.0, 0.0], [-2.0, -1.0, 0.0], [1.0, 0.0, 0.5]])
    rows = [dict(zip("xyz", row, strict=True)) for row in matrix.tolist()]
    found, _ = lyapunov(polynomial([rows]), np.zeros((3, 1)), np.full(1, 0.05), 800, 3, settle=400)
    assert found[:, 0] == pytest.approx(sorted(np.linalg.eigvals(matrix).real, reverse=True), abs=2e-3)


@pytest.mark.parametrize("name", sorted(TRAINED | HELD))
def test_flows_and_their_solution_are_those_of_another_solver(name):
    kind = (TRAINED | HELD)[name]

    def rates(_, state: np.ndarray) -> list[float]:
        values = dict(zip("xyz", state, strict=True))
        return [sum(c * np.prod([values[v] for v in term]) for term, c in row.items()) for row in kind.equations]

    flow, start = polynomial([kind.equations]), np.array(kind.start, float)
    expected = solve_ivp(rates, (0, 40 * kind.step), start, rtol=1e-10, atol=1e-12).y[:, -1]
    (found,) = orbit_points(flow, start[:, None], np.full(1, kind.step / 4), 1, 160)
    assert found[:, 0] == pytest.approx(expected, rel=1e-5, abs=1e-5)
    direction, near = np.array([0.3, -0.5, 0.8]), 1e-6
    slope = (np.array(rates(0, start + near * direction)) - rates(0, start - near * direction)) / (2 * near)
    assert flow.tangent(start[:, None], direction[None, :, None])[0, :, 0] == pytest.approx(slope, rel=1e-6, abs=1e-6)


NAMES = list(TRAINED)


@pytest.fixture(scope="module")
def systems():
    return find_systems(NAMES, [draw_key(name) for name in NAMES], 0.3)


def test_drawn_systems_are_chaotic_and_move_at_one_pace(systems):
    step = np.full(len(NAMES), 0.0625)
    (state,) = orbit_points(systems.flow, systems.state, step, 1, 500)
    again, state = lyapunov(systems.flow, state, step, 3000, 1, settle=200)
    # Kept were those above 0.024; the measurement is short, and one in thirty becomes periodic later.
    assert np.mean(again[0] > 0.012) >= 0.9
    orbit = np.stack(list(orbit_points(systems.flow, state, step, 3000, 1)))
    speeds = np.array([systems.flow(point) for point in orbit]) / orbit.std(axis=0)
    pace = np.sqrt((speeds**2).mean(axis=(0, 1)))
    assert np.median(pace) == pytest.approx(1, rel=0.05) and np.mean(np.abs(pace - 1) < 0.2) >= 0.9
    assert np.median(orbit.std(axis=0) / systems.deviation) == pytest.approx(1, rel=0.05)


def test_known_systems_are_taken_as_they_are_although_one_is_hardly_chaotic_at_this_pace():
    found = find_systems(list(HELD), range(len(HELD)), 0.0)
    assert (found.exponent > 0).all()


def test_a_drawn_system_does_not_depend_on_those_beside_it(systems):
    alone, place = find_systems(["hadley"], [draw_key("hadley")], 0.3), NAMES.index("hadley")
    for one, other in zip(alone[1:], systems[1:], strict=True):
        assert (one[..., 0] == other[..., place]).all()


def test_in_a_skew_product_the_driver_goes_its_own_way(systems):
    response, driver = systems.select(np.array([0, 1])), systems.select(np.array([2, 4]))
    product = couple(response, driver, [1, 2])
    rates = product.rate()(product.state) / product.pace
    assert rates[3:] == pytest.approx(driver.flow(product.state[3:]))
    pull = rates[:3] - response.flow(product.state[:3])
    # Both are measured in standard deviations: the coupling is one number for the three coordinates, up to 0.6.
    coupling = (pull / response.deviation) / (rates[3:] / driver.deviation)
    assert coupling == pytest.approx(np.broadcast_to(coupling[0], coupling.shape)) and (coupling <= 0.6).all()


def test_trajectories_are_standard_and_each_coordinate_has_its_ids():
    world, options = parse_world(SMALL)
    for document in world.documents(options):
        point = document.ids.reshape(-1, 3)
        for number, (name, part) in enumerate(world.ranges(options).items()):
            assert name == "xyz"[number] and set(point[:, number].tolist()) <= set(part)
        # Bins from -3 to 3 deviations: the mean bin is the middle, and the deviation is 64/6 bins.
        assert (point - 64 * np.arange(3)).mean(axis=0) == pytest.approx(31.5, abs=1)
        assert point.std(axis=0) == pytest.approx(64 / 6, abs=0.7)


def test_one_coordinate_is_the_first_of_three():
    world, options = parse_world("chaos:kinds=single,systems=2,trajectories=1,points=50,bins=32")
    _, one = parse_world("chaos:kinds=single,systems=2,trajectories=1,points=50,bins=32,coordinates=1")
    for three, first in zip(world.documents(options), world.documents(one), strict=True):
        assert (three.ids[::3] == first.ids).all()


def test_groups_are_systems_and_held_kinds_are_their_own_sources():
    world, options = parse_world("chaos:kinds=held,systems=5,trajectories=3,points=32")
    drawn = list(world.documents(options))
    assert {(d.group, d.source) for d in drawn} == {
        (f"{name}/{number}", name) for number, name in enumerate([*HELD, "advection"])
    }
    assert len(drawn) == 15 and len({d.ids.tobytes() for d in drawn}) == 15
    assert not set(HELD) & set(TRAINED)


def test_what_is_seen_of_the_ring_obeys_one_linear_recurrence():
    # 32 places have 32 exponents, so that stretches of 40 points of all orbits span 32 dimensions at most.
    orbits = ring_orbits([draw_key("ring")], 6, 200)
    windows = np.lib.stride_tricks.sliding_window_view(orbits, 40, axis=0).reshape(-1, 40)
    values = np.linalg.svd(windows, compute_uv=False)
    assert values[33] < 1e-9 * values[0] < values[5]
