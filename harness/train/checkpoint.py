"""Checkpoints of packs: one save holds all slots, and a run is found by its slot whatever pack it goes on in.

DIR/checkpoints/PACK/SAVE holds the leaves of the pack's State (leading axis: slots) and a manifest of which run stands
in which slot at which step; SAVE counts the pack's saves. DIR/checkpoints/PACK.json names the pack's runs, so that a
process that looks for others never opens a folder in which another process is writing.
"""

import json
import logging
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from harness.record.files import write_json

# Orbax tells of its every choice; what a user must know, isogap says itself.
logging.getLogger("absl").setLevel(logging.ERROR)


class PackCheckpoints:
    """The checkpoints of one pack, written in the background.

    Args:
        folder: DIR/checkpoints/PACK.
        runs: the ids of the pack's runs.
    """

    def __init__(self, folder: Path, runs: Iterable[str]):
        self.folder = folder.absolute()
        write_json(_names(self.folder), {"runs": sorted(runs)})
        options = ocp.CheckpointManagerOptions(max_to_keep=2, create=True, cleanup_tmp_directories=True)
        self.manager = ocp.CheckpointManager(self.folder, options=options)
        self.serial = max(self.manager.all_steps(), default=-1) + 1

    def save(self, state: Any, slots: dict[str, tuple[int, int]]) -> None:
        """Begin to save; the state may be donated as soon as this returns.

        Args:
            state: leaves with a leading axis of slots.
            slots: run id -> (slot, finished steps).
        """
        # Copies: a CPU array and its numpy view share memory, which the next dispatch is given to write into.
        leaves = {f"{i:04d}": np.array(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
        manifest = {
            "slots": {run: list(place) for run, place in slots.items()},
            "leaves": {name: [list(leaf.shape), str(leaf.dtype)] for name, leaf in leaves.items()},
        }
        arguments = ocp.args.Composite(
            state=ocp.args.StandardSave(leaves),
            manifest=ocp.args.JsonSave(manifest),
        )
        self.manager.save(self.serial, args=arguments)
        self.serial += 1

    def close(self) -> None:
        """Wait until the last save is on disk."""
        self.manager.wait_until_finished()
        self.manager.close()

    def remove(self) -> None:
        """Drop all checkpoints of the pack: every run of it has ended."""
        self.manager.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        _names(self.folder).unlink()


def _names(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")


def find_states(checkpoints: Path, runs: set[str]) -> dict[str, tuple[int, list[np.ndarray]]]:
    """The latest saved state of each run that any pack's checkpoint holds: run id -> (steps, leaves of one slot)."""
    found: dict[str, tuple[int, list[np.ndarray]]] = {}
    for folder in _holding(checkpoints, runs):
        with ocp.CheckpointManager(folder, options=ocp.CheckpointManagerOptions(read_only=True)) as manager:
            latest = manager.latest_step()
            if latest is None:
                continue
            only_manifest = ocp.args.Composite(manifest=ocp.args.JsonRestore())
            manifest = manager.restore(latest, args=only_manifest)["manifest"]
            slots = manifest["slots"]
            wanted = {
                run: place for run, place in slots.items() if run in runs and place[1] > found.get(run, (0, []))[0]
            }
            if not wanted:
                continue
            abstract = {name: np.empty(shape, dtype) for name, (shape, dtype) in manifest["leaves"].items()}
            arguments = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
            leaves = manager.restore(latest, args=arguments)["state"]
            for run, (slot, steps) in wanted.items():
                found[run] = steps, [np.asarray(leaves[name])[slot] for name in sorted(leaves)]
    return found


def _holding(checkpoints: Path, runs: set[str]) -> list[Path]:
    """The checkpoint folders of packs that share a run with these."""
    folders = []
    for names in sorted(checkpoints.absolute().glob("*.json")):
        try:
            held = json.loads(names.read_text())["runs"]
        except FileNotFoundError:  # another process has just finished that pack
            continue
        folder = names.with_suffix("")
        if runs & set(held) and folder.is_dir():
            folders.append(folder)
    return folders


def save_final(folder: Path, leaves: Any, facts: dict[str, Any]) -> None:
    """Keep a finished run's parameters in FOLDER/final, as a tree of its leaves in order, with facts beside them."""
    target = (folder / "final").absolute()
    shutil.rmtree(target, ignore_errors=True)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(target, {f"{i:04d}": np.array(leaf) for i, leaf in enumerate(jax.tree.leaves(leaves))})
        checkpointer.wait_until_finished()
    write_json(folder / "final.json", facts)
