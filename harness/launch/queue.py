"""The packs of a sweep that wait to be trained, whatever process trains them.

A pack that could not be trained to its end is tried again without the run that failed.
"""

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Sequence, Set
from pathlib import Path
from typing import Literal

from harness.files import remove_tree, write_text
from harness.launch.packing import read_packing, write_packing
from harness.record.status import ENDED, WITHOUT_RESULT, State, Status, read_status, run_folder, write_status
from harness.train.session import Session, Stop
from sweeps.config import RunConfig
from sweeps.packs import Pack, make_pack


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How the training of a pack ended.

    Attributes:
        kind: `ended`: all runs of the pack ended, or training was stopped; `memory`: its programs lacked memory;
            `fault`: they raised; `died`: the process died; `folder`: the sweep's folder cannot be written; `alarm`:
            another of the hosts that train together failed.
        reason: the reason in one line.
        trace: the traceback, if there is one.
        path: for `folder` the file that could not be written.
    """

    kind: Literal["ended", "memory", "fault", "died", "folder", "alarm"]
    reason: str = ""
    trace: str = ""
    path: str = ""


def after_fault(pack: Pack, outcome: Outcome, out: Path) -> list[Pack]:
    """The packs to train in place of one that failed; runs that cannot be trained are marked as failed or lost.

    A pack that lacked memory gets half the slots. After another fault it is not known which run caused it: each run
    that trained is tried alone in the same program, with the other slots empty, which does not change a bit of its
    numbers. A run that fails alone has failed; if its process died, it is lost. If no run had trained when the fault
    came, this holds for all.
    """
    if outcome.kind == "ended":
        return []
    states = list(zip(pack.runs, states_of(pack.runs, out), strict=True))
    standing = [run for run, state in states if state not in ENDED]
    trained = [run for run, state in states if state == "running"]
    if outcome.kind == "memory" and pack.slots > 1:
        return [make_pack(pack.shape, pack.slots // 2, standing)]
    if len(trained) > 1:
        interrupt(trained, out)
        alone = [make_pack(pack.shape, pack.slots, [run]) for run in trained]
        rest = [run for run in standing if run not in trained]
        return alone + ([make_pack(pack.shape, pack.slots, rest)] if rest else [])
    failed, state = trained or standing, "lost" if outcome.kind == "died" else "failed"
    for run in failed:
        folder = run_folder(out, run.run_id)
        if outcome.trace:
            write_text(folder / "error.txt", outcome.trace)
        write_status(folder, Status(state, read_status(folder, run.steps).step, run.steps, reason=outcome.reason))
    rest = [run for run in standing if run not in failed]
    return [make_pack(pack.shape, pack.slots, rest)] if rest else []


def interrupt(runs: Sequence[RunConfig], out: Path) -> None:
    """Mark those runs that say `running` as interrupted, so that a later fault is not attributed to them."""
    for run in runs:
        folder = run_folder(out, run.run_id)
        if (status := read_status(folder, run.steps)).state == "running":
            write_status(folder, dataclasses.replace(status, state="interrupted"))


def drop_checkpoints(out: Path, states: Iterable[str]) -> None:
    """Remove the sweep's checkpoints if its runs are in these states and none of them can go on from one.

    A pack removes its checkpoints when it ends, but not those of packs that an extension of the sweep replaced.
    """
    if set(states) <= {"done", "diverged"}:
        remove_tree(out / "checkpoints")


def states_of(runs: Sequence[RunConfig], out: Path) -> list[State]:
    """The states of runs, read from their status files."""
    return [read_status(run_folder(out, run.run_id), run.steps).state for run in runs]


@dataclasses.dataclass
class PackQueue:
    """Packs that are still to be trained, in order.

    Attributes:
        ended: called with the ids of a pack's runs when no process trains the pack any more.
        ended_before: the ids of runs that ended in an earlier invocation, which --fail-fast does not count.
        refill: gives further packs when none waits.
    """

    session: Session
    stop: Stop
    ended: Callable[[Iterable[str]], None]
    packs: deque[Pack]
    ended_before: Set[str]
    refill: Callable[[], Iterable[Pack]] = tuple

    def open(self) -> bool:
        """Whether another pack should be started."""
        if not self.packs and not self.stop():
            self.packs.extend(self.refill())
        return bool(self.packs) and not self.stop()

    def settle(self, pack: Pack, outcome: Outcome) -> None:
        """Process the outcome of a pack: put what remains of it first in the queue, and obey --fail-fast.

        Raises:
            OSError: the sweep's folder could not be written.
        """
        out = self.session.out
        if outcome.kind == "folder":
            raise OSError(None, outcome.reason, outcome.path)
        remaining = after_fault(pack, outcome, out)
        for other in remaining:
            if other.slots != pack.slots:
                self._halve(pack, other.slots)
        self.packs.extendleft(reversed(remaining))
        trained = [run for run in pack.runs if run.run_id not in self.ended_before]
        bad = set(WITHOUT_RESULT) & set(states_of(trained, out))
        self.stop.failed |= self.session.fail_fast and bool(bad)
        self.ended(run.run_id for run in pack.runs)

    def _halve(self, pack: Pack, slots: int) -> None:
        """Give the waiting packs of this shape fewer slots, and record the number in packing.json."""
        packing = read_packing(self.session.out)
        assert packing is not None  # it was settled before anything trained
        slots_of = packing.slots | {pack.shape.signature: slots}
        write_packing(self.session.out, dataclasses.replace(packing, slots=slots_of))
        for index, other in enumerate(self.packs):
            if other.shape == pack.shape:
                self.packs[index] = dataclasses.replace(other, slots=slots)
