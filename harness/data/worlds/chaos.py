"""Trajectories of chaotic systems that nobody has written down, quantised: Panda's idea (arXiv 2505.13755) in ids.

A *single* system has the equations of a known kind, with all coefficients drawn anew around their values. A *skew*
product has two of these: the flow g of one drives another, f, whose coordinates are observed,

    y' = g(y),    x' = f(x) + kappa s_x g(y) / s_y,

in units of time in which f and g are equally fast, with s the standard deviations of the coordinates of each alone. A
system is kept if its orbit stays bounded and its largest Lyapunov exponent, by the tangent flow, is above 0.006 nats a
point; otherwise it is drawn again, nearer to the known values, and at last with these. The exponents of g are among
those of the product.

All systems are sampled at one pace: from point to point, coordinates move by a quarter of their standard deviation
(root mean square). A trajectory is standardised, and each coordinate is put into bins of equal width, from -3 to 3
standard deviations. The coordinates of a point follow one another, each with ids of its own.

Every operation before the bins is exact or rounded as IEEE 754 says (`harness.data.simulation.flows`), so that ids are
the same on machines that follow it, although chaos would make the last digit matter. Where a machine rounds otherwise,
ids differ, and with them the hash of the corpus.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import numpy as np
from annotated_types import Ge, Le, Lt
from jaxtyping import Bool, Float, Int64

from harness.data.simulation.chaotic import HELD, TRAINED
from harness.data.simulation.draws import below, draw_key, units
from harness.data.simulation.flows import (
    FlowRate,
    FlowState,
    Polynomial,
    lyapunov,
    orbit_points,
    polynomial,
    runge_kutta,
)
from harness.data.simulation.ring import NAME as RING
from harness.data.simulation.ring import ring_orbits
from harness.data.world import Drawn, World

_PACE, _BETWEEN = 0.25, 4
_CHAOTIC = 0.006
# In attempt k coefficients are drawn from this share of the wanted range about their values, at last the values
# themselves; the attempts of a round are made side by side. Couplings are made weaker likewise, down to none.
_SHARES = (1.0, 1.0, 0.8, 0.6, 0.4, 0.3, 0.2, 0.1, 0.05, 0.02, 0.0)
_ROUNDS = ((0, 1), (2, 3, 4, 5, 6, 7, 8, 9, 10))
# Steps in which a driven orbit must stay within so many standard deviations; coordinates are binned within fewer.
_PROVED = 3000
_BOUND, _BINNED = 30.0, 3.0
# Points that a trajectory runs before it is written. It begins within a fiftieth of a standard deviation of its
# system's orbit, which at 0.01 nats a point grows to the size of the attractor.
_SETTLE = 400
# How often a trajectory that leaves is begun.
_BEGUN = 4
# Systems that are found and solved side by side.
_TOGETHER = 512
_KINDS = TRAINED | HELD
_EQUATIONS = polynomial([kind.equations for kind in _KINDS.values()])


@dataclass(frozen=True)
class ChaosOptions:
    """The options of the world.

    Attributes:
        kinds: `single` or `skew` systems of kinds that are not held out, or `drawn`, both in turn; `held`, the kinds
            that are held out, in turn; or kinds by name, joined by `/`, of which `advection` is a linear partial
            differential equation.
        systems: how many systems; more of them begin with those that fewer have.
        trajectories: of each system.
        points: of a trajectory.
        coordinates: how many of the three are written.
        bins: ids of a coordinate.
        spread: by how much coefficients differ from their known values, at most, as a share of them.
        seed: other systems.
    """

    kinds: str = "drawn"
    systems: Annotated[int, Ge(2), Le(1_000_000)] = 256
    trajectories: Annotated[int, Ge(1), Le(10_000)] = 4
    points: Annotated[int, Ge(16), Le(100_000)] = 512
    coordinates: Annotated[int, Ge(1), Le(3)] = 3
    bins: Annotated[int, Ge(2), Le(4096)] = 64
    spread: Annotated[float, Ge(0), Le(1)] = 0.3
    seed: Annotated[int, Ge(0), Lt(2**31)] = 0

    def __post_init__(self) -> None:
        known = ("single", "skew", RING, *sorted(_KINDS))
        if not set(self.names) <= set(known):
            raise ValueError(f"kinds drawn or held, or some of these, joined by /: {', '.join(known)}")

    @property
    def names(self) -> tuple[str, ...]:
        """What the systems are, in turn."""
        groups = {"drawn": ("single", "skew"), "held": (*HELD, RING)}
        return groups.get(self.kinds) or tuple(self.kinds.split("/"))


class Systems(NamedTuple):
    """Systems on their attractors, one a lane, in units of time in which coordinates move by a standard deviation.

    Attributes:
        flow: the equations.
        state: a point of the orbit.
        mean, deviation: mean and standard deviation of each coordinate along the orbit.
        exponent: the largest Lyapunov exponent, nats per unit of time.
    """

    flow: Polynomial
    state: FlowState
    mean: FlowState
    deviation: FlowState
    exponent: Float[np.ndarray, "lanes"]

    def select(self, lanes: Int64[np.ndarray, "chosen"]) -> "Systems":
        """Some of the lanes."""
        return Systems(self.flow.select(lanes), *(part[..., lanes] for part in self[1:]))

    def rate(self) -> FlowRate:
        """The equations."""
        return self.flow


class Products(NamedTuple):
    """Skew products, one a lane; the coordinates of the response come before those of the driver.

    Attributes:
        response, driver: the two systems.
        gain: what the driver's rates are multiplied by where they drive.
        pace: what all rates are multiplied by, so that the response moves by a standard deviation in a unit of time.
        state, deviation: a point of the orbit, and standard deviations along it.
    """

    response: Systems
    driver: Systems
    gain: Float[np.ndarray, "3 lanes"]
    pace: Float[np.ndarray, "lanes"]
    state: Float[np.ndarray, "6 lanes"]
    deviation: Float[np.ndarray, "6 lanes"]

    def select(self, lanes: Int64[np.ndarray, "chosen"]) -> "Products":
        """Some of the lanes."""
        parts = (part[..., lanes] for part in self[2:])
        return Products(self.response.select(lanes), self.driver.select(lanes), *parts)

    def rate(self) -> FlowRate:
        """The equations."""

        def rate(state: FlowState) -> FlowState:
            driving = self.driver.flow(state[3:])
            return np.concatenate([self.response.flow(state[:3]) + self.gain * driving, driving]) * self.pace

        return rate


def find_systems(kinds: Sequence[str], keys: Sequence[int], spread: float) -> Systems:
    """A chaotic system of each of these kinds, with coefficients that its key draws."""
    numbers = np.array([list(_KINDS).index(name) for name in kinds])
    start = np.array([_KINDS[name].start for name in kinds], float).T
    step = np.array([_KINDS[name].step for name in kinds])
    shape = _EQUATIONS.coefficients.shape[:2]

    def attempt(lanes: Int64[np.ndarray, "lanes"], tries: Int64[np.ndarray, "lanes"]) -> tuple[Systems, np.ndarray]:
        drawn = [2.0 * units(draw_key(keys[lane], time), *shape) - 1.0 for lane, time in zip(lanes, tries, strict=True)]
        changed = 1.0 + spread * np.take(_SHARES, tries) * np.stack(drawn, axis=-1)
        flow = Polynomial(_EQUATIONS.factors, _EQUATIONS.select(numbers[lanes]).coefficients * changed)
        state, mean, deviation, speed = _measure(flow, start[:, lanes], step[lanes])
        flow = flow.scaled(1.0 / speed)
        # Twice, because some orbits are chaotic for a while before they become periodic.
        pace = np.full(len(lanes), _PACE / 3)
        (early,), state = lyapunov(flow, state, pace, 1000, 1, settle=400)
        (late,), state = lyapunov(flow, state, pace, 2000, 1, settle=200)
        # The known values are taken as they are: at Roessler's, which are chaotic, 0.005 nats a point are measured.
        chaotic = (np.minimum(early, late) * _PACE > _CHAOTIC) | (np.take(_SHARES, tries) == 0.0)
        good = chaotic & _bounded(state, mean, deviation)
        return Systems(flow, state, mean, deviation, late), good

    return _attempted(attempt, len(kinds))


def couple(response: Systems, driver: Systems, keys: Sequence[int]) -> Products:
    """The skew products of systems, a lane each, with couplings from 0.1 to 0.6 that the keys draw."""
    coupling = np.array([0.1 + 0.5 * float(units(draw_key(key, "coupling"), 1)[0]) for key in keys])

    def attempt(lanes: Int64[np.ndarray, "lanes"], tries: Int64[np.ndarray, "lanes"]) -> tuple[Products, np.ndarray]:
        one, other = response.select(lanes), driver.select(lanes)
        gain = coupling[lanes] * np.take(_SHARES, tries) * one.deviation / other.deviation
        state = np.concatenate([one.state, other.state])
        product = Products(one, other, gain, np.ones(len(lanes)), state, state)
        step = np.full(len(lanes), _PACE / _BETWEEN)
        state, mean, deviation, speed = _measure(product.rate(), state, step)
        (later,) = orbit_points(product.rate(), state, step, 1, _PROVED)
        # A response that leaves its attractor even alone, as one in several hundred does, has no trajectories.
        good = _bounded(later, mean, deviation) | (tries == len(_SHARES) - 1)
        return Products(one, other, gain, 1.0 / speed, state, deviation), good

    return _attempted(attempt, len(keys))


def _attempted(attempt: Callable[..., tuple[Any, Bool[np.ndarray, "lanes"]]], count: int) -> Any:
    """What the first good attempt for each of the lanes found."""
    found, owners, left = [], [], np.arange(count)
    for tries in _ROUNDS:
        lanes = np.repeat(left, len(tries))
        with np.errstate(all="ignore"):
            result, good = attempt(lanes, np.tile(tries, len(left)))
        chosen = np.flatnonzero(good)[np.unique(lanes[good], return_index=True)[1]]
        found.append(result.select(chosen))
        owners.append(lanes[chosen])
        left = np.setdiff1d(left, owners[-1])
        if not len(left):
            return _joined(found).select(np.argsort(np.concatenate(owners)))
    raise ArithmeticError(f"{len(left)} of {count} systems leave their attractors even at their known values")


def _joined(parts: list[Any]) -> Any:
    """Lanes behind one another, of arrays and of tuples of them."""
    first = parts[0]
    if isinstance(first, np.ndarray):
        return np.concatenate(parts, axis=-1)
    if isinstance(first, Polynomial):
        return Polynomial(first.factors, _joined([part.coefficients for part in parts]))
    return type(first)(*(_joined(list(each)) for each in zip(*parts, strict=True)))


def _measure(
    rate: FlowRate, state: FlowState, step: Float[np.ndarray, "lanes"]
) -> tuple[FlowState, FlowState, FlowState, np.ndarray]:
    """A later state; mean and standard deviation of the coordinates up to there; and the speed of the first three.

    The speed is the root mean square, over time and coordinates, of the rate over the coordinate's deviation.
    """
    (state,) = orbit_points(rate, state, step, 1, 600)
    first, total, squares, rates = state, np.zeros_like(state), np.zeros_like(state), np.zeros_like(state)
    for _ in range(1200):
        state = runge_kutta(rate, state, step)
        moved, change = state - first, rate(state)
        total, squares, rates = total + moved, squares + moved * moved, rates + change * change
    mean = total / 1200.0
    variance = squares / 1200.0 - mean * mean
    ratio = rates / 1200.0 / variance
    return state, first + mean, np.sqrt(variance), np.sqrt((ratio[0] + ratio[1] + ratio[2]) / 3.0)


def _bounded(state: FlowState, mean: FlowState, deviation: FlowState) -> Bool[np.ndarray, "lanes"]:
    return np.all(np.isfinite(state) & (np.abs(state - mean) < _BOUND * deviation), axis=0)


def _orbits(
    found: Systems | Products, keys: Sequence[int], options: ChaosOptions
) -> Float[np.ndarray, "points 3 systems*trajectories"]:
    """Trajectories that begin beside each system's orbit. One that leaves is begun again; nan if it always leaves."""
    owners = np.repeat(np.arange(len(keys)), options.trajectories)
    numbers = np.tile(np.arange(options.trajectories), len(keys))
    orbits = np.full((options.points, 3, len(owners)), np.nan)
    left = np.arange(len(owners))
    for time in range(_BEGUN):
        many = found.select(owners[left])
        places = [(keys[owners[lane]], int(numbers[lane])) for lane in left]
        aside = [2.0 * units(draw_key(key, "begin", number, time), len(many.state)) - 1.0 for key, number in places]
        state = many.state + 0.02 * many.deviation * np.stack(aside, axis=1)
        rate, step = many.rate(), np.full(len(left), _PACE / _BETWEEN)
        (state,) = orbit_points(rate, state, step, 1, _SETTLE * _BETWEEN)
        orbits[..., left] = np.stack([state[:3] for state in orbit_points(rate, state, step, options.points, _BETWEEN)])
        left = left[~np.isfinite(orbits[-1][:, left]).all(axis=0)]
        if not len(left):
            break
    return orbits


def _binned(orbits: Float[np.ndarray, "points 3 lanes"], bins: int) -> Int64[np.ndarray, "points 3 lanes"]:
    """The bin of each coordinate, after the trajectory's own mean and standard deviation."""
    with np.errstate(all="ignore"):
        total, squares = np.zeros_like(orbits[0]), np.zeros_like(orbits[0])
        for point in orbits:
            moved = point - orbits[0]
            total, squares = total + moved, squares + moved * moved
        mean = total / float(len(orbits))
        deviation = np.sqrt(squares / float(len(orbits)) - mean * mean)
        standard = (orbits - orbits[0] - mean) / deviation
        places = np.floor((standard + _BINNED) * (bins / (2.0 * _BINNED)))
    return np.clip(np.nan_to_num(places), 0, bins - 1).astype(np.int64)


def _documents(options: ChaosOptions) -> Iterator[Drawn]:
    for first in range(0, options.systems, _TOGETHER):
        numbers = range(first, min(first + _TOGETHER, options.systems))
        names = {number: options.names[number % len(options.names)] for number in numbers}
        keys = {number: draw_key("chaos", options.seed, number) for number in numbers}
        yield from _chunk(options, names, keys)


def _chunk(options: ChaosOptions, names: dict[int, str], keys: dict[int, int]) -> Iterator[Drawn]:
    """The documents of some systems, by their numbers, which are solved side by side."""
    trained = list(TRAINED)

    def drawn_kind(key: int) -> str:
        return trained[int(below(draw_key(key, "kind"), len(trained), 1)[0])]

    rings = [number for number, name in names.items() if name == RING]
    skew = [number for number, name in names.items() if name == "skew"]
    plain = [number for number, name in names.items() if name not in (RING, "skew")]
    parents = [draw_key(keys[number], part) for part in ("response", "driver") for number in skew]
    kinds = [drawn_kind(keys[number]) if names[number] == "single" else names[number] for number in plain]
    written: list[tuple[int, str, np.ndarray]] = []

    def write(numbers: list[int], labels: list[str], orbits: Float[np.ndarray, "points 3 lanes"]) -> None:
        places = _binned(orbits, options.bins) + options.bins * np.arange(3)[:, None]
        good = np.isfinite(orbits[-1]).all(axis=0)
        for place, (number, label) in enumerate(zip(numbers, labels, strict=True)):
            lanes = slice(place * options.trajectories, (place + 1) * options.trajectories)
            kept = places[:, : options.coordinates, lanes][..., good[lanes]]
            written.append((number, label, kept.reshape(options.points * options.coordinates, kept.shape[2])))

    if plain or skew:
        pool = find_systems(
            [*kinds, *map(drawn_kind, parents)], [*(keys[number] for number in plain), *parents], options.spread
        )
        if plain:
            own = [keys[number] for number in plain]
            write(plain, kinds, _orbits(pool.select(np.arange(len(plain))), own, options))
        if skew:
            own = [keys[number] for number in skew]
            response = pool.select(len(plain) + np.arange(len(skew)))
            driver = pool.select(len(plain) + len(skew) + np.arange(len(skew)))
            write(skew, ["skew"] * len(skew), _orbits(couple(response, driver, own), own, options))
    if rings:
        own = [keys[number] for number in rings]
        write(rings, [RING] * len(rings), ring_orbits(own, options.trajectories, options.points))
    for number, label, ids in sorted(written, key=lambda each: each[0]):
        source = label if names[number] == label != "skew" else "drawn"
        for trajectory in ids.T:
            yield Drawn(f"{label}/{number}", source, trajectory)


CHAOS = World(
    "trajectories of random chaotic systems and of skew products of two, quantised (as Panda's, arXiv 2505.13755)",
    "none: it is computed",
    ChaosOptions,
    vocab=lambda options: options.coordinates * options.bins + 1,
    documents=_documents,
    ranges=lambda options: {
        name: range(number * options.bins, (number + 1) * options.bins)
        for number, name in enumerate("xyz"[: options.coordinates])
    },
)
