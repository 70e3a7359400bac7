"""Checkpoints of packs. One save holds all slots; a run is read from its slot, and may go on in another pack.

DIR/checkpoints/PACK/SAVE/state holds the leaves of the pack's state (leading axis: slots) as orbax writes them; SAVE
counts the pack's saves. SAVE/manifest.json is written when all leaves are on disk, and makes the save valid: it tells
which run is in which slot after how many turns, and the checksum of every leaf. DIR/checkpoints/PACK.json names the
runs that the pack may come to hold, so that a process that looks for other runs never opens a folder in which another
process writes.
"""

import errno
import json
import logging
import os
import re
import shutil
import tempfile
import threading
import time
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

# Orbax logs every choice, and errors with their traces; isogap itself reports what a user must know.
logging.getLogger("absl").setLevel(logging.CRITICAL)

KEPT = 2
# Bytes that must be free for a save besides its arrays: for its own description, and for that of each array.
MARGIN, MARGIN_PER_LEAF = 2**16, 2**12


class PackCheckpoints:
    """The checkpoints of one pack, written in the background; the last two are kept.

    Args:
        folder: DIR/checkpoints/PACK.
        runs: the ids of the runs that the pack may come to hold.

    Attributes:
        saved: when the last save that is on disk began, by `time.monotonic`; before the first, when this was made.
    """

    def __init__(self, folder: Path, runs: Iterable[str]):
        self.folder = folder.absolute() if is_local(folder) else folder
        write_json(_names(self.folder), {"runs": sorted(runs)})
        for save in _saves(self.folder):
            if _manifest(save) is None:  # half written, or damaged: it must not count as one of the saves kept
                remove_tree(save)
        self.serial = max((int(save.name) for save in _saves(self.folder)), default=-1) + 1
        self.saved = time.monotonic()
        self.writer: threading.Thread | None = None
        self.error: Exception | None = None

    def save(self, state: Any, slots: dict[str, tuple[int, int]]) -> None:
        """Begin to save in the background; OSError if the previous save could not be written.

        Args:
            state: a tree of arrays with a leading axis of slots, which must not change any more.
            slots: run id -> (slot, finished turns).
        """
        leaves = {f"{i:04d}": leaf for i, leaf in enumerate(jax.tree.leaves(state))}
        self.wait()
        self.writer = threading.Thread(target=self._write, args=(self.folder / str(self.serial), leaves, dict(slots)))
        self.serial += 1
        self.writer.start()

    def _write(self, save: Path, leaves: dict[str, np.ndarray], slots: dict[str, tuple[int, int]]) -> None:
        began = time.monotonic()
        try:
            files = _write_leaves(save / "state", leaves)
            body = {
                "files": files,
                "slots": {run: list(place) for run, place in slots.items()},
                "leaves": {n: [list(leaf.shape), str(leaf.dtype), _checksum(leaf)] for n, leaf in leaves.items()},
            }
            write_json(save / "manifest.json", body | {"checksum": _checksum_of_manifest(body)})
            self.saved = began
            for old in _saves(self.folder)[:-KEPT]:
                remove_tree(old)
        except Exception as error:  # the next call raises it, in the thread that trains
            remove_tree(save)
            self.error = error

    def wait(self) -> None:
        """Wait until the last save is on disk; OSError if it could not be written."""
        if self.writer is not None:
            self.writer.join()
            self.writer = None
        error, self.error = self.error, None
        if error is not None:
            raise _of_folder(error, "a checkpoint", self.folder) from None

    def remove(self) -> None:
        """Remove all checkpoints of the pack, when all its runs have ended."""
        if self.writer is not None:
            self.writer.join()
        remove_tree(self.folder)
        _names(self.folder).unlink(missing_ok=True)


def _of_folder(error: Exception, what: str, folder: Path) -> OSError:
    """Turn an error into an OSError that names the file; orbax reports a full disk in errors of its own."""
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
    # An object store has no folders, so that there only the manifests are listed.
    saves = {path.parent for path in folder.glob("*/manifest.json")}
    if is_local(folder):
        saves |= {path for path in folder.glob("*") if path.is_dir()}
    return sorted((path for path in saves if path.name.isdigit()), key=lambda path: int(path.name))


def _checksum(leaf: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8).data)


def _checksum_of_manifest(body: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(body, sort_keys=True).encode())


def _manifest(save: Path) -> dict[str, Any] | None:
    """The manifest of a save; None if the save is incomplete or the manifest is damaged."""
    try:
        manifest = json.loads(read_bytes(save / "manifest.json"))
        checksum = manifest.pop("checksum")
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return manifest if checksum == _checksum_of_manifest(manifest) else None


@contextmanager
def _local(folder: Path):
    """The folder itself, or for an object store a temporary one, because orbax 0.12 writes gs:// but not s3://."""
    if is_local(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="isogap-") as name:
        yield Path(name) / folder.name


def _checkpointer() -> ocp.Checkpointer:
    """A checkpointer of this process alone. Otherwise orbax would synchronise all hosts by a program for their devices,
    which it runs from its own thread amid the programs that train."""
    me = jax.process_index()
    options = ocp.options.MultiprocessingOptions(me, {me}, barrier_sync_key_prefix=f"process-{me}")
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=options)
    return ocp.Checkpointer(handler, multiprocessing_options=options)


def _write_leaves(folder: Path, leaves: dict[str, np.ndarray]) -> dict[str, int]:
    """Write leaves with orbax, wait until they are on disk, and return the files: name below the folder -> checksum.

    OSError if there is no room. Orbax flushes its data files, but neither their names nor its descriptions. This
    function flushes them, too, because an older save is removed after this one.
    """
    checksums = {}
    with _local(folder) as target:
        # Checked before orbax begins: when the disk runs full, its threads print a trace for each remaining array.
        existing = next(parent for parent in target.parents if parent.exists())
        if shutil.disk_usage(existing).free < MARGIN + sum(leaf.nbytes + MARGIN_PER_LEAF for leaf in leaves.values()):
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
        # Checked before orbax reads the files, because its threads print errors for damaged ones after it has returned.
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
    checkpoints: Path, runs: set[str], usable: Callable[[str, int], bool] = lambda run, turns: True
) -> dict[str, tuple[int, list[np.ndarray]]]:
    """The furthest intact state of each run in the checkpoints of any pack: run id -> (turns, leaves of its slot).

    If a save is incomplete or damaged, a warning names it and the save before it is used. `usable(run id, turns)` tells
    whether a run may resume from a state.
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
        for run, (slot, turns) in manifest["slots"].items():
            if run in runs and usable(run, turns):
                candidates.setdefault(run, []).append((turns, slot, save))
    for places in candidates.values():
        places.sort(key=lambda place: (place[0], str(place[2])))
    states: dict[str, tuple[int, list[np.ndarray]]] = {}
    while wanted := {run: places for run, places in candidates.items() if places and run not in states}:
        # Each save is read once for all runs that resume from it.
        save = next(iter(wanted.values()))[-1][2]
        try:
            leaves = _read_leaves(save, manifests[save])
        except Exception as error:  # whatever orbax makes of damaged files
            reason = (str(error).splitlines() or [""])[0][:200]
            logging.getLogger("isogap").warning("%s: damaged, not used (%s: %s)", save, type(error).__name__, reason)
            leaves = None
        for run, places in wanted.items():
            if places[-1][2] == save:
                turns, slot, _ = places.pop()
                if leaves is not None:
                    states[run] = turns, [leaf[slot] for leaf in leaves]
    return states


def resume_states(
    out: Path, runs: Iterable[RunConfig], turns_per_step: Callable[[RunConfig], int]
) -> dict[str, tuple[int, list[np.ndarray]]]:
    """The state from which each run resumes, as `find_states` returns it.

    It is the run's latest checkpoint up to which its recorded segments are complete. A run without one starts over. So
    does a run that was saved within its first step, because nothing of it is recorded. Checkpoints count turns, and
    `turns_per_step` gives how many make a step.
    """
    configs = {run.run_id: run for run in runs}
    ends: dict[str, set[int]] = {}

    def usable(run: str, turn: int) -> bool:
        if run not in ends:
            ends[run] = whole_ends(run_folder(out, run), configs[run].evaluation_steps())
        return turn // turns_per_step(configs[run]) in ends[run] - {0}

    return find_states(out / "checkpoints", set(configs), usable)


def _holding(checkpoints: Path, runs: set[str]) -> list[Path]:
    """The checkpoint folders of packs that may hold one of these runs."""
    folders = []
    for names in sorted((checkpoints.absolute() if is_local(checkpoints) else checkpoints).glob("*.json")):
        try:
            run_ids = json.loads(read_bytes(names))["runs"]
        except FileNotFoundError:  # another process has just finished that pack
            continue
        except (ValueError, LookupError, TypeError):
            logging.getLogger("isogap").warning("%s: damaged; its pack's checkpoints are looked through", names)
            run_ids = list(runs)
        if runs & set(run_ids):
            folders.append(names.with_suffix(""))
    return folders


def read_final(folder: Path) -> list[np.ndarray]:
    """The leaves that `save_final` kept of a finished run; ValueError if there are none, or they cannot be read."""
    target = (folder / "final").absolute() if is_local(folder) else folder / "final"
    try:
        facts = json.loads(read_bytes(folder / "final.json"))
        with _local(target) as local:
            if not is_local(target):
                _fetch(target, local)
            with _checkpointer() as checkpointer:
                kept = checkpointer.restore(local)
    except Exception as error:  # whatever orbax makes of damaged files
        raise ValueError(f"the final parameters of {folder.name} cannot be read: {reason_of(error)}") from None
    assert facts["steps"]
    return [np.asarray(kept[name]) for name in sorted(kept)]


def save_final(folder: Path, leaves: Any, facts: dict[str, Any]) -> None:
    """Keep a finished run's parameters in FOLDER/final, as leaves numbered in order, and `facts` in FOLDER/final.json.

    OSError if they could not be written.
    """
    remove_tree(folder / "final")
    target = (folder / "final").absolute() if is_local(folder) else folder / "final"
    try:
        _write_leaves(target, {f"{i:04d}": np.array(leaf) for i, leaf in enumerate(jax.tree.leaves(leaves))})
    except Exception as error:
        raise _of_folder(error, "its final parameters", target) from None
    write_json(folder / "final.json", facts)
