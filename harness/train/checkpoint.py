"""Checkpoints of packs: one save holds all slots, and a run is found by its slot whatever pack it goes on in.

DIR/checkpoints/PACK/SAVE/state holds the leaves of the pack's state (leading axis: slots) as orbax writes them; SAVE
counts the pack's saves. SAVE/manifest.json, written when all of them are on disk, makes the save one: it says which run
stands in which slot at which step, and the checksum of every leaf. DIR/checkpoints/PACK.json names the runs that the
pack may come to hold, so that a process that looks for others never opens a folder in which another is writing.
"""

import errno
import json
import logging
import os
import re
import shutil
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from harness.files import is_local, read_bytes, remove_tree, sync, write_json
from harness.record.segments import whole_ends
from harness.record.status import run_folder
from sweeps.config import RunConfig
from sweeps.errors import reason_of

# Orbax tells of its every choice, and of errors with their traces; what a user must know, isogap says itself.
logging.getLogger("absl").setLevel(logging.CRITICAL)

KEPT = 2
# Bytes beyond those of the arrays that a save must find free: for its descriptions, and those of each array.
MARGIN, MARGIN_PER_LEAF = 2**16, 2**12


class PackCheckpoints:
    """The checkpoints of one pack, written in the background; the last two are kept.

    Args:
        folder: DIR/checkpoints/PACK.
        runs: the ids of the runs that the pack may come to hold.
    """

    def __init__(self, folder: Path, runs: Iterable[str]):
        self.folder = folder.absolute() if is_local(folder) else folder
        write_json(_names(self.folder), {"runs": sorted(runs)})
        for save in _saves(self.folder):
            if _manifest(save) is None:  # left half written, or damaged: it must not count as one of those kept
                remove_tree(save)
        self.serial = max((int(save.name) for save in _saves(self.folder)), default=-1) + 1
        self.writer: threading.Thread | None = None
        self.error: Exception | None = None

    def save(self, state: Any, slots: dict[str, tuple[int, int]]) -> None:
        """Begin to save.

        Args:
            state: leaves with a leading axis of slots, nobody else's to change.
            slots: run id -> (slot, finished turns).

        Raises:
            OSError: the save before this one could not be written.
        """
        leaves = {f"{i:04d}": leaf for i, leaf in enumerate(jax.tree.leaves(state))}
        self._wait()
        self.writer = threading.Thread(target=self._write, args=(self.folder / str(self.serial), leaves, dict(slots)))
        self.serial += 1
        self.writer.start()

    def _write(self, save: Path, leaves: dict[str, np.ndarray], slots: dict[str, tuple[int, int]]) -> None:
        try:
            files = _write_leaves(save / "state", leaves)
            body = {
                "files": files,
                "slots": {run: list(place) for run, place in slots.items()},
                "leaves": {n: [list(leaf.shape), str(leaf.dtype), _checksum(leaf)] for n, leaf in leaves.items()},
            }
            write_json(save / "manifest.json", body | {"checksum": _checksum_of_manifest(body)})
            for old in _saves(self.folder)[:-KEPT]:
                remove_tree(old)
        except Exception as error:  # told by the next call, in the thread that trains
            remove_tree(save)
            self.error = error

    def _wait(self) -> None:
        if self.writer is not None:
            self.writer.join()
            self.writer = None
        error, self.error = self.error, None
        if error is not None:
            raise _of_folder(error, "a checkpoint", self.folder) from None

    def close(self) -> None:
        """Wait until the last save is on disk.

        Raises:
            OSError: it could not be written.
        """
        self._wait()

    def remove(self) -> None:
        """Drop all checkpoints of the pack: every run of it has ended."""
        if self.writer is not None:
            self.writer.join()
        remove_tree(self.folder)
        _names(self.folder).unlink(missing_ok=True)


def _of_folder(error: Exception, what: str, folder: Path) -> OSError:
    """An error that names the file: orbax tells of a full disk in errors of its own, of 500 letters."""
    if isinstance(error, OSError) and error.filename is not None:
        return error
    code = re.search(r"os_error_code='(\d+)'", str(error))
    number = int(code[1]) if code else error.errno if isinstance(error, OSError) else None
    reason = os.strerror(number) if number else reason_of(error)
    return OSError(number, f"{reason} ({what} could not be written)", str(folder))


def _names(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")


def _saves(folder: Path) -> list[Path]:
    """The saves of a pack, oldest first."""
    # An object store has no folders: what is found there is the manifests.
    found = {path.parent for path in folder.glob("*/manifest.json")}
    if is_local(folder):
        found |= {path for path in folder.glob("*") if path.is_dir()}
    return sorted((path for path in found if path.name.isdigit()), key=lambda path: int(path.name))


def _checksum(leaf: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8).data)


def _checksum_of_manifest(body: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(body, sort_keys=True).encode())


def _manifest(save: Path) -> dict[str, Any] | None:
    """What a save holds; None for one that is not whole."""
    try:
        manifest = json.loads(read_bytes(save / "manifest.json"))
        checksum = manifest.pop("checksum")
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return manifest if checksum == _checksum_of_manifest(manifest) else None


@contextmanager
def _local(folder: Path):
    """The folder itself, or for an object store one that stands in for it: orbax 0.12 writes gs:// but not s3://."""
    if is_local(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="isogap-") as name:
        yield Path(name) / folder.name


def _checkpointer() -> ocp.Checkpointer:
    """Of this process alone, whether others train with it or not: orbax would have all of them meet, in a program for
    their devices that it runs from its own thread, amid the programs that train."""
    me = jax.process_index()
    options = ocp.options.MultiprocessingOptions(me, {me}, barrier_sync_key_prefix=f"process-{me}")
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=options)
    return ocp.Checkpointer(handler, multiprocessing_options=options)


def _write_leaves(folder: Path, leaves: dict[str, np.ndarray]) -> dict[str, int]:
    """Write leaves with orbax and wait until they are on disk: it flushes its data files, not their names and not its
    descriptions, and the save before must not go before this one is safe.

    Returns:
        the checksum of each file, by its name below the folder.

    Raises:
        OSError: there is no room for them.
    """
    checksums = {}
    with _local(folder) as target:
        # Before orbax begins: when the disk runs full below it, its threads print a trace for each other array.
        there = next(parent for parent in target.parents if parent.exists())
        if shutil.disk_usage(there).free < MARGIN + sum(leaf.nbytes + MARGIN_PER_LEAF for leaf in leaves.values()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with _checkpointer() as checkpointer:
            checkpointer.save(target, args=ocp.args.PyTreeSave(leaves), force=True)
        for path in [target, *target.rglob("*")]:
            if path.is_dir():
                if is_local(folder):
                    sync(path)
                continue
            name, content = path.relative_to(target).as_posix(), path.read_bytes()
            checksums[name] = zlib.crc32(content)
            if is_local(folder):
                with open(path, "rb") as file:
                    os.fsync(file.fileno())
            else:
                (folder / name).write_bytes(content)
        if is_local(folder):
            for parent in (folder.parent, folder.parent.parent, folder.parent.parent.parent):
                sync(parent)
    return checksums


def _read_leaves(save: Path, manifest: dict[str, Any]) -> list[np.ndarray]:
    """The leaves of a save; ValueError if they are not those that were saved."""
    with _local(save / "state") as target:
        if not is_local(save):
            _fetch(save / "state", target)
        # Before orbax sees them: of a damaged file its threads complain on standard error when nobody listens any more.
        for name, checksum in manifest["files"].items():
            if zlib.crc32((target / name).read_bytes()) != checksum:
                raise ValueError(f"state/{name} is not what was saved")
        arguments = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in manifest["leaves"]}
        with _checkpointer() as checkpointer:
            item = {name: np.empty(shape, dtype) for name, (shape, dtype, _) in manifest["leaves"].items()}
            leaves = checkpointer.restore(target, args=ocp.args.PyTreeRestore(item, restore_args=arguments))
    for name, (shape, dtype, checksum) in manifest["leaves"].items():
        leaf = leaves[name]
        if list(leaf.shape) != shape or str(leaf.dtype) != dtype or _checksum(leaf) != checksum:
            raise ValueError(f"leaf {name} is not what was saved")
    return [leaves[name] for name in sorted(manifest["leaves"])]


def _fetch(source: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for path in source.iterdir():
        _fetch(path, target / path.name) if path.is_dir() else (target / path.name).write_bytes(read_bytes(path))


def find_states(
    checkpoints: Path, runs: set[str], usable: Callable[[str, int], bool] = lambda run, step: True
) -> dict[str, tuple[int, list[np.ndarray]]]:
    """The furthest state of each run that any pack's checkpoint holds whole: run id -> (turns, leaves of one slot).

    A save that is torn or damaged is passed over, with a warning that names it, for the one before it.

    Args:
        usable: asked from the furthest on whether a run may go on from a step.
    """
    candidates: dict[str, list[tuple[int, int, Path]]] = {}
    manifests: dict[Path, dict[str, Any]] = {}
    for save in (save for folder in _holding(checkpoints, runs) for save in _saves(folder)):
        manifest = _manifest(save)
        if manifest is None:
            if (save / "manifest.json").is_file():  # without one the save is being written, or its writer was killed
                logging.getLogger("isogap").warning("%s: manifest.json is damaged, not used", save)
            continue
        manifests[save] = manifest
        for run, (slot, steps) in manifest["slots"].items():
            if run in runs:
                candidates.setdefault(run, []).append((steps, slot, save))
    for run, found in candidates.items():
        found.sort(key=lambda candidate: (candidate[0], str(candidate[2])))
        while found and not usable(run, found[-1][0]):
            found.pop()
    states: dict[str, tuple[int, list[np.ndarray]]] = {}
    while wanted := {run: found for run, found in candidates.items() if found and run not in states}:
        # Each save is read once for all runs that go on from it.
        save = next(iter(wanted.values()))[-1][2]
        mine = {run: found for run, found in wanted.items() if found[-1][2] == save}
        try:
            leaves = _read_leaves(save, manifests[save])
        except Exception as error:  # whatever orbax makes of damaged files
            reason = (str(error).splitlines() or [""])[0][:200]
            logging.getLogger("isogap").warning("%s: damaged, not used (%s: %s)", save, type(error).__name__, reason)
            leaves = None
        for run, found in mine.items():
            steps, slot, _ = found.pop()
            if leaves is not None:
                states[run] = steps, [leaf[slot] for leaf in leaves]
            while leaves is None and found and not usable(run, found[-1][0]):
                found.pop()
    return states


def resume_states(
    out: Path, runs: Iterable[RunConfig], turns_per_step: Callable[[RunConfig], int]
) -> dict[str, tuple[int, list[np.ndarray]]]:
    """Where the runs of a sweep's folder go on: the furthest state up to which a run's segments are whole too, as
    `find_states` gives it. A run without one begins anew, and so does one saved within its first step, of which nothing
    is recorded.

    Args:
        turns_per_step: of a run; the positions in checkpoints are turns.
    """
    configs = {run.run_id: run for run in runs}
    ends: dict[str, set[int]] = {}

    def usable(run: str, turn: int) -> bool:
        if run not in ends:
            ends[run] = whole_ends(run_folder(out, run), configs[run].evaluation_steps())
        return turn // turns_per_step(configs[run]) in ends[run] - {0}

    return find_states(out / "checkpoints", set(configs), usable)


def _holding(checkpoints: Path, runs: set[str]) -> list[Path]:
    """The checkpoint folders of packs that share a run with these."""
    folders = []
    for names in sorted((checkpoints.absolute() if is_local(checkpoints) else checkpoints).glob("*.json")):
        try:
            held = json.loads(read_bytes(names))["runs"]
        except FileNotFoundError:  # another process has just finished that pack
            continue
        except (ValueError, LookupError, TypeError):
            logging.getLogger("isogap").warning("%s: damaged; its pack's checkpoints are looked through", names)
            held = list(runs)
        if runs & set(held):
            folders.append(names.with_suffix(""))
    return folders


def save_final(folder: Path, leaves: Any, facts: dict[str, Any]) -> None:
    """Keep a finished run's parameters in FOLDER/final, as a tree of its leaves in order, with facts beside them.

    Raises:
        OSError: they could not be written.
    """
    remove_tree(folder / "final")
    target = (folder / "final").absolute() if is_local(folder) else folder / "final"
    try:
        _write_leaves(target, {f"{i:04d}": np.array(leaf) for i, leaf in enumerate(jax.tree.leaves(leaves))})
    except Exception as error:
        raise _of_folder(error, "its final parameters", target) from None
    write_json(folder / "final.json", facts)
