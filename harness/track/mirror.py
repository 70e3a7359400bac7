"""Trackers: outside programs that show the record while it grows. They get only what a complete commit has saved."""

import contextlib
import importlib
import importlib.util
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console

from harness.record.status import run_folder
from sweeps.config import RunConfig
from sweeps.errors import InputError, reason_of

# A tracker is named like its package and like its module here; that module defines `mirror_to_NAME(out, run)`.
TRACKERS = ("mlflow", "tensorboard", "trackio", "wandb")
# Seconds between two updates of a tracker; a run has new rows every 20 s (`harness.train.pack.SAVE_SECONDS`).
UPDATE_SECONDS = 30.0
# The last update, when the training is over, may take this many seconds.
LAST_SECONDS = 300.0

Mirror = Callable[[Path, RunConfig], None]


def check_trackers(names: Sequence[str]) -> None:
    """Check the names of trackers.

    Raises:
        InputError: an unknown name, or a package that is not installed.
    """
    for name in names:
        if name not in TRACKERS:
            raise InputError("--track", "value", name, f"one of {', '.join(TRACKERS)}")
        if importlib.util.find_spec(name) is None:
            raise InputError("--track", "package", f"no {name}", f"that it is installed: pip install 'isogap[{name}]'")


class Follower:
    """One tracker, and the state of each run's folder when it was last mirrored."""

    def __init__(self, name: str, out: Path, runs: Sequence[RunConfig], warn: Callable[[str], None]):
        self.name, self._out, self._warn = name, out, warn
        self._runs = {run.run_id: run for run in runs}
        self._runs_folder = os.fspath(run_folder(out, ""))
        self._shown: dict[str, tuple[int, int]] = {}
        self._failing = False

    def update(self) -> bool:
        """Mirror the runs whose folders have changed; false if the tracker failed, which is reported once."""
        try:
            mirror: Mirror = getattr(importlib.import_module(f"harness.track.{self.name}"), f"mirror_to_{self.name}")
            for run_id, run in self._runs.items():
                stamp = self._stamp(run_id)
                if stamp is not None and stamp != self._shown.get(run_id):
                    mirror(self._out, run)
                    self._shown[run_id] = stamp
        except Exception as error:  # whatever a tracker raises, the sweep goes on, and the next update tries again
            if not self._failing:
                behind = f"{self.name} is behind, training goes on, later updates catch up"
                self._warn(f"isogap: {behind}: {reason_of(error)}")
            self._failing = True
            return False
        self._failing = False
        return True

    def _stamp(self, run_id: str) -> tuple[int, int] | None:
        """Modification times that every new status and commit changes; None before a run's first commit."""
        folder = f"{self._runs_folder}/{run_id}"  # for 10,000 runs strings take a third of the time of Path objects
        try:
            return os.stat(folder).st_mtime_ns, os.stat(f"{folder}/timing").st_mtime_ns
        except OSError:
            return None


@contextlib.contextmanager
def tracking(names: Sequence[str], out: Path, runs: Sequence[RunConfig], console: Console) -> Iterator[None]:
    """Mirror the record of a sweep from a thread of its own while the block trains it, and all of it at the end.

    For a sweep that has ended, whatever is missing is mirrored.

    Args:
        names: checked by `check_trackers`.
        runs: all runs of the folder.
    """

    def warn(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    over = threading.Event()
    followers = [Follower(name, out, runs, warn) for name in dict.fromkeys(names)]

    def follow(follower: Follower) -> None:
        while not over.wait(UPDATE_SECONDS):
            follower.update()
        if not follower.update():
            warn(f"isogap: {follower.name} does not have the whole record; the same command again sends the rest")

    threads = [threading.Thread(target=follow, args=(follower,), daemon=True) for follower in followers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for follower, thread in zip(followers, threads, strict=True):
            thread.join(LAST_SECONDS)
            if thread.is_alive():
                warn(f"isogap: {follower.name} does not answer; the same command again sends the rest of the record")
