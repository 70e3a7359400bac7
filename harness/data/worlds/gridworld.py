"""Walks through mazes to a goal: what an agent sees, and which step it takes.

A maze is a random spanning tree of a square of cells, with some further walls taken away. The agent sees the walls
around its cell and in which of the eight directions its goal lies. An expert takes a shortest way, and where there are
several the first of north, east, south and west; a mixed policy now and then takes a step at random, which a wall may
stop. A document is one walk: observation, action, observation, ..., up to the observation at the goal.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Le, Lt
from jaxtyping import Bool, Float, Int64, UInt8, UInt64
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree

from harness.data.simulation.draws import draw_key, each_word, units, words
from harness.data.world import Drawn, World

_TOGETHER = 512
# North, east, south, west: rows and columns that a step adds.
_ROWS, _COLUMNS = np.array([-1, 0, 1, 0]), np.array([0, 1, 0, -1])
_FAR = np.uint8(255)


@dataclass(frozen=True)
class GridworldOptions:
    """The options of the world.

    Attributes:
        size: cells on a side of a maze.
        policy: `expert`; or `mixed`, which takes a share `epsilon` of its steps at random.
        epsilon: of the mixed policy.
        openings: the share of the walls of a spanning tree's maze that are taken away.
        observations: `compact`, one id an observation; or `fine`, six, for each wall and for the goal's two directions.
        maps: how many mazes; more of them begin with those that fewer have.
        walks: in each maze.
        longest: the most steps of a walk.
        seed: other mazes and walks.
    """

    size: Annotated[int, Ge(2), Le(15)] = 9
    policy: Literal["expert", "mixed"] = "expert"
    epsilon: Annotated[float, Ge(0), Le(1)] = 0.2
    openings: Annotated[float, Ge(0), Le(1)] = 0.1
    observations: Literal["compact", "fine"] = "compact"
    maps: Annotated[int, Ge(2), Le(1_000_000)] = 8_000
    walks: Annotated[int, Ge(1), Le(10_000)] = 8
    longest: Annotated[int, Ge(1), Le(10_000)] = 96
    seed: Annotated[int, Ge(0), Lt(2**31)] = 0


def mazes(options: GridworldOptions, numbers: range) -> Bool[np.ndarray, "maps size size 4"]:
    """Whether a step to the north, east, south and west is free, in each cell of the mazes of these numbers."""
    n, maps = options.size, len(numbers)
    cells = np.arange(n * n).reshape(n, n)
    ends = np.concatenate([
        np.stack([cells[:, :-1].ravel(), cells[:, 1:].ravel()]), np.stack([cells[:-1].ravel(), cells[1:].ravel()])
    ], axis=1)  # fmt: skip

    def drawn(what: str) -> Float[np.ndarray, "maps ends"]:
        keys = [draw_key("gridworld", options.seed, number, what) for number in numbers]
        return np.stack([units(key, ends.shape[1]) for key in keys])

    weights = 1.0 + drawn("tree")  # of 52 bits: they differ from each other, so that there is one lightest tree
    offset = np.arange(maps)[:, None] * n * n
    graph = coo_array(
        (weights.ravel(), ((ends[0] + offset).ravel(), (ends[1] + offset).ravel())), shape=(maps * n * n,) * 2
    )
    tree = minimum_spanning_tree(graph.tocsr()).tocoo()
    free = drawn("openings") < options.openings
    order = {(int(a), int(b)): place for place, (a, b) in enumerate(ends.T)}
    places = np.array([order[int(a), int(b)] for a, b in zip(tree.row % (n * n), tree.col % (n * n), strict=True)])
    free[tree.row // (n * n), places] = True

    ways = np.zeros((maps, n, n, 4), bool)
    across = free[:, : n * (n - 1)].reshape(maps, n, n - 1)
    down = free[:, n * (n - 1) :].reshape(maps, n - 1, n)
    ways[:, :, :-1, 1], ways[:, :, 1:, 3] = across, across
    ways[:, :-1, :, 2], ways[:, 1:, :, 0] = down, down
    return ways


def distances(
    ways: Bool[np.ndarray, "walks size size 4"], goals: Int64[np.ndarray, "walks 2"]
) -> UInt8[np.ndarray, "walks size size"]:
    """The number of steps from each cell to the walk's goal, by breadth-first search in all mazes at once."""
    reached = np.full(ways.shape[:3], _FAR)
    reached[np.arange(len(goals)), goals[:, 0], goals[:, 1]] = 0
    blocked = np.where(ways, np.uint8(0), _FAR)
    while True:
        # One more than the neighbour's distance, where there is a way to it; 255 is farther than any cell.
        around = np.pad(reached, ((0, 0), (1, 1), (1, 1)), constant_values=_FAR)
        after = reached
        for way, (row, column) in enumerate(zip(_ROWS.tolist(), _COLUMNS.tolist(), strict=True)):
            size = ways.shape[1]
            neighbour = around[:, 1 + row : 1 + row + size, 1 + column : 1 + column + size]
            further = np.minimum(neighbour, _FAR - 1) + np.uint8(1)
            after = np.minimum(after, np.maximum(further, blocked[..., way]))
        if (after == reached).all():
            return reached
        reached = after


def _documents(options: GridworldOptions) -> Iterator[Drawn]:
    for first in range(0, options.maps, _TOGETHER):
        numbers = range(first, min(first + _TOGETHER, options.maps))
        for place, ids in enumerate(_walks(options, numbers)):
            yield Drawn(str(numbers[place // options.walks]), options.policy, ids)


def _walks(options: GridworldOptions, numbers: range) -> list[Int64[np.ndarray, "tokens"]]:
    """The documents of some mazes, walk after walk."""
    n = options.size
    ways = np.repeat(mazes(options, numbers), options.walks, axis=0)
    walk = np.arange(len(ways))

    def drawn(what: str) -> UInt64[np.ndarray, "walks"]:
        keys = [draw_key("gridworld", options.seed, number, what) for number in numbers]
        return np.concatenate([words(key, options.walks) for key in keys])

    def up_to(what: str, limit: int) -> Int64[np.ndarray, "walks"]:
        return ((drawn(what) >> np.uint64(32)) * np.uint64(limit) >> np.uint64(32)).astype(np.int64)

    start = up_to("start", n * n)
    goal = (start + 1 + up_to("goal", n * n - 1)) % (n * n)  # another cell
    place, goals = (np.stack(np.divmod(cell, n), axis=1) for cell in (start, goal))
    away, luck = distances(ways, goals), drawn("luck")
    going = np.ones(len(walk), bool)
    columns = []
    for step in range(options.longest + 1):
        around = ways[walk, place[:, 0], place[:, 1]]
        columns += [np.where(going, part, -1) for part in _seen(options, around, goals - place)]
        going = going & (place != goals).any(axis=1)
        if step == options.longest or not going.any():
            break
        action = _expert(around, away, place)
        if options.policy == "mixed":
            luck_now = each_word(luck, step)
            wild = (luck_now >> np.uint64(32)) < np.uint64(int(options.epsilon * 2**32))
            action = np.where(wild, (luck_now & np.uint64(3)).astype(np.int64), action)
        columns.append(np.where(going, _actions(options)[action], -1))
        moves = (going & around[walk, action])[:, None]
        place = place + moves * np.stack([_ROWS[action], _COLUMNS[action]], axis=1)
    return [row[row >= 0] for row in np.stack(columns, axis=1)]


def _expert(
    around: Bool[np.ndarray, "walks 4"], away: UInt8[np.ndarray, "walks size size"], place: Int64[np.ndarray, "walks 2"]
) -> Int64[np.ndarray, "walks"]:
    """The first free step that leads nearer to the goal; north at the goal itself."""
    size, walk = away.shape[1], np.arange(len(place))
    here, nearer = away[walk, place[:, 0], place[:, 1]], np.zeros_like(around)
    for way in range(4):
        row = np.clip(place[:, 0] + _ROWS[way], 0, size - 1)
        column = np.clip(place[:, 1] + _COLUMNS[way], 0, size - 1)
        nearer[:, way] = around[:, way] & (away[walk, row, column] < here)
    return np.argmax(nearer, axis=1)


def _seen(
    options: GridworldOptions, around: Bool[np.ndarray, "walks 4"], towards: Int64[np.ndarray, "walks 2"]
) -> list[Int64[np.ndarray, "walks"]]:
    """The ids of an observation: free ways, and the signs of the rows and columns to the goal."""
    signs = 1 + np.sign(towards)
    if options.observations == "fine":
        return [*(2 * way + around[:, way] for way in range(4)), 8 + signs[:, 0], 11 + signs[:, 1]]
    return [9 * (around @ (1 << np.arange(4))) + 3 * signs[:, 0] + signs[:, 1]]


def _actions(options: GridworldOptions) -> Int64[np.ndarray, "4"]:
    """The ids of steps to the north, east, south and west, after those of observations."""
    return (14 if options.observations == "fine" else 144) + np.arange(4)


GRIDWORLD = World(
    "walks of an expert, or of one that errs, through random mazes: observations and actions",
    "none: it is computed",
    GridworldOptions,
    vocab=lambda options: int(_actions(options)[-1]) + 2,
    documents=_documents,
    ranges=lambda options: {
        "observations": range(int(_actions(options)[0])),
        "actions": range(int(_actions(options)[0]), int(_actions(options)[-1]) + 1),
    },
)
