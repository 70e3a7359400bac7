"""Checkpoints give back each run's state, by its slot, whatever else lies in the folder."""

import numpy as np
import pytest

from harness.files import write_json
from harness.train.checkpoint import PackCheckpoints, find_states, save_final


def state(seed: int, slots: int):
    """Leaves of several ranks and types; values far apart in size."""
    rng = np.random.default_rng(seed)
    values = np.float32(10.0 ** rng.uniform(-30, 30, (slots, 3, 4)))
    return {"w": values, "step": rng.integers(0, 99, slots).astype(np.int32), "alive": rng.random(slots) < 0.5}


def saved(folder, pack: str, leaves, places: dict[str, tuple[int, int]]) -> None:
    checkpoints = PackCheckpoints(folder / pack, places)
    checkpoints.save(leaves, places)
    checkpoints.wait()


def assert_slot(found: list[np.ndarray], leaves, slot: int):
    for got, leaf in zip(found, (leaves["alive"], leaves["step"], leaves["w"]), strict=True):  # in JAX's order
        assert got.dtype == leaf.dtype
        np.testing.assert_array_equal(got, leaf[slot])


def test_every_run_is_found_in_its_slot_to_the_bit(tmp_path):
    first, second = state(1, 4), state(2, 2)
    saved(tmp_path, "first", first, {"a": (0, 10), "b": (3, 10)})
    saved(tmp_path, "second", second, {"c": (1, 7)})
    found = find_states(tmp_path, {"a", "b", "c", "unknown"})
    assert {run: steps for run, (steps, _) in found.items()} == {"a": 10, "b": 10, "c": 7}
    assert_slot(found["a"][1], first, 0)
    assert_slot(found["b"][1], first, 3)
    assert_slot(found["c"][1], second, 1)
    assert find_states(tmp_path, {"unknown"}) == {} == find_states(tmp_path / "nowhere", {"a"})


def test_the_furthest_state_counts_within_a_pack_and_between_packs(tmp_path):
    states = [state(seed, 2) for seed in range(4)]
    checkpoints = PackCheckpoints(tmp_path / "old", ["a", "b"])
    for number, leaves in enumerate(states[:3]):
        checkpoints.save(leaves, {"a": (0, 10 * (number + 1)), "b": (1, 10 * (number + 1))})
    checkpoints.wait()
    saved(tmp_path, "new", states[3], {"b": (0, 45)})
    found = find_states(tmp_path, {"a", "b"})
    assert (found["a"][0], found["b"][0]) == (30, 45)
    assert_slot(found["a"][1], states[2], 0)
    assert_slot(found["b"][1], states[3], 0)
    # A pack that goes on does not overwrite what it has saved, and keeps its last two saves.
    again = PackCheckpoints(tmp_path / "old", ["a", "b"])
    again.save(states[0], {"a": (1, 50)})
    again.wait()
    assert find_states(tmp_path, {"a"})["a"][0] == 50
    assert len([path for path in (tmp_path / "old").iterdir() if path.is_dir()]) == 2


@pytest.mark.parametrize("torn", ["5.orbax-checkpoint-tmp-1729000000000000", "5.orbax-checkpoint-tmp"])
def test_an_unfinished_save_is_ignored_and_left_to_its_writer(tmp_path, torn):
    leaves = state(1, 2)
    saved(tmp_path, "pack", leaves, {"a": (0, 8)})
    unfinished = tmp_path / "pack" / torn
    (unfinished / "state").mkdir(parents=True)
    (unfinished / "state" / "junk").write_bytes(b"half")
    assert_slot(find_states(tmp_path, {"a"})["a"][1], leaves, 0)
    # Whoever only looks must not clear away what another process may be writing.
    assert (unfinished / "state" / "junk").exists()
    saved(tmp_path, "pack", state(2, 2), {"a": (0, 16)})
    assert find_states(tmp_path, {"a"})["a"][0] == 16


def test_a_pack_that_was_killed_before_its_first_save_holds_nothing(tmp_path):
    write_json(tmp_path / "pack.json", {"runs": ["a"]})
    assert find_states(tmp_path, {"a"}) == {}
    (tmp_path / "pack").mkdir()
    assert find_states(tmp_path, {"a"}) == {}


def test_a_pack_that_ended_leaves_nothing(tmp_path):
    checkpoints = PackCheckpoints(tmp_path / "pack", ["a"])
    checkpoints.save(state(1, 1), {"a": (0, 3)})
    checkpoints.remove()
    assert list(tmp_path.iterdir()) == []


def test_final_parameters_are_kept_in_order(tmp_path):
    import orbax.checkpoint as ocp

    tree = {"b": np.arange(3, dtype=np.float32), "a": np.ones((2, 2), np.float32)}
    save_final(tmp_path, tree, {"steps": 9})
    with ocp.StandardCheckpointer() as checkpointer:
        got = checkpointer.restore((tmp_path / "final").absolute())
    np.testing.assert_array_equal(got["0000"], tree["a"])
    np.testing.assert_array_equal(got["0001"], tree["b"])
    save_final(tmp_path, tree, {"steps": 9})  # a run that is finished twice, killed in between
