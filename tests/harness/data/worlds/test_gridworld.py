"""Mazes and walks against shortest paths of scipy."""

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, shortest_path

from harness.data.world import parse_world
from harness.data.worlds.gridworld import distances, mazes

STEPS = [(-1, 0), (0, 1), (1, 0), (0, -1)]


def graph_of(ways: np.ndarray) -> csr_array:
    """The cells of one maze, and an edge for every free step."""
    size = len(ways)
    edges = [
        (row * size + column, (row + STEPS[way][0]) * size + column + STEPS[way][1])
        for row, column, way in np.argwhere(ways).tolist()
    ]
    assert all(0 <= cell < size * size for edge in edges for cell in edge)
    rows, columns = np.array(edges).T
    return csr_array((np.ones(len(edges)), (rows, columns)), shape=(size * size,) * 2)


@pytest.mark.parametrize(("openings", "edges"), [(0.0, 48), (1.0, 84)])
def test_mazes_are_trees_with_openings(openings, edges):
    _, options = parse_world(f"gridworld:size=7,openings={openings},maps=6")
    found = mazes(options, range(6))
    for ways in found:
        graph = graph_of(ways)
        assert connected_components(graph)[0] == 1 and (graph != graph.T).nnz == 0
        assert graph.nnz == 2 * edges
    assert len({ways.tobytes() for ways in found}) == (6 if openings == 0 else 1)


def test_every_tree_of_a_square_is_drawn():
    # A square of two by two has four spanning trees; by symmetry all are equally probable.
    _, options = parse_world("gridworld:size=2,openings=0")
    _, counts = np.unique(mazes(options, range(400)).reshape(400, -1), axis=0, return_counts=True)
    assert len(counts) == 4 and counts == pytest.approx(np.full(4, 100), abs=40)


def test_distances_are_those_of_breadth_first_search():
    _, options = parse_world("gridworld:size=6,openings=0.2,maps=12")
    ways = mazes(options, range(12))
    goals = np.array([divmod(7 * k % 36, 6) for k in range(12)])
    found = distances(ways, goals)
    for maze, goal, away in zip(ways, goals, found, strict=True):
        expected = shortest_path(graph_of(maze), unweighted=True, indices=goal[0] * 6 + goal[1])
        assert away.ravel().tolist() == expected.tolist()


def walks(text: str) -> list[tuple[int, list, list[int]]]:
    """The maze, the observations (four free ways, and the signs to the goal) and the actions of every document."""
    world, options = parse_world(f"gridworld:{text}")
    first = world.ranges(options)["actions"].start
    assert world.vocab(options) == first + 5 and list(world.ranges(options)["observations"]) == list(range(first))
    width, found = (6 if options.observations == "fine" else 1), []
    for document in world.documents(options):
        ids = document.ids.tolist()
        actions = ids[width :: width + 1]
        assert len(ids) == (width + 1) * len(actions) + width and document.source == options.policy
        seen = []
        for place in range(0, len(ids), width + 1):
            part = ids[place : place + width]
            if width == 1:
                free, signs = divmod(part[0], 9)
                seen.append(([free >> way & 1 for way in range(4)], (signs // 3 - 1, signs % 3 - 1)))
            else:
                assert [i // 2 for i in part[:4]] == [0, 1, 2, 3]
                seen.append(([i % 2 for i in part[:4]], (part[4] - 9, part[5] - 12)))
        found.append((int(document.group), seen, [action - first for action in actions]))
    return found


SIZES = "size=5,maps=30,walks=4"


def starts(options, number: int, seen: list, actions: list[int]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """All pairs of a start and a goal in the maze that fit what is seen on the way."""
    ways, size = mazes(options, range(number, number + 1))[0], options.size
    fitting = []
    for row, column in np.ndindex(size, size):
        at, path = (row, column), [(row, column)]
        for action in actions:
            if ways[at][action]:
                at = (at[0] + STEPS[action][0], at[1] + STEPS[action][1])
            path.append(at)
        if any(list(ways[cell].astype(int)) != free for cell, (free, _) in zip(path, seen, strict=True)):
            continue
        for goal in np.ndindex(size, size):
            signs = [tuple(int(np.sign(goal[k] - cell[k])) for k in range(2)) for cell in path]
            if signs == [towards for _, towards in seen]:
                fitting.append(((row, column), goal))
    return fitting


def test_an_expert_takes_a_shortest_way():
    _, options = parse_world(f"gridworld:{SIZES}")
    for number, seen, actions in walks(SIZES):
        assert seen[-1][1] == (0, 0) and all(towards != (0, 0) for _, towards in seen[:-1])
        fitting = starts(options, number, seen, actions)
        assert fitting, "what is seen is seen nowhere in the maze"
        away = shortest_path(graph_of(mazes(options, range(number, number + 1))[0]), unweighted=True)
        assert any(away[a[0] * 5 + a[1], b[0] * 5 + b[1]] == len(actions) for a, b in fitting)


def test_fine_and_compact_observations_say_the_same():
    assert walks(SIZES) == walks(f"{SIZES},observations=fine")


def test_a_mixed_policy_errs_as_often_as_it_is_told():
    text = "size=5,maps=300,walks=4,policy=mixed,openings=0.3"
    certain, wild = walks(f"{text},epsilon=0"), walks(f"{text},epsilon=1,longest=30")
    assert certain == walks(text.replace("mixed", "expert"))
    taken = np.bincount([action for _, _, actions in wild for action in actions])
    assert taken / taken.sum() == pytest.approx(np.full(4, 0.25), abs=0.02)
    assert max(len(actions) for _, _, actions in wild) == 30
    # A random step is into a wall unless it is free, and then the same is seen again.
    bumps = [
        seen[k] == seen[k + 1]
        for _, seen, actions in wild
        for k, action in enumerate(actions)
        if not seen[k][0][action]
    ]
    assert all(bumps) and len(bumps) > 1000
    some = walks(f"{text},epsilon=0.2")
    longer = np.mean([len(a) for *_, a in some]) / np.mean([len(a) for *_, a in certain])
    assert 1.1 < longer < 2
