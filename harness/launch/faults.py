"""What is done with a pack that could not be trained to its end: it is tried again without the run that failed."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from harness.files import write_text
from harness.record.status import ENDED, State, Status, read_status, run_folder, write_status
from sweeps.config import RunConfig
from sweeps.packs import Pack, make_pack


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How the training of a pack ended.

    Attributes:
        kind: `ended`: all runs of the pack ended, or it was stopped; `memory`: its programs lacked memory; `fault`:
            they raised, or the process died; `folder`: the sweep's folder cannot be written; `alarm`: another of the
            hosts that train together failed.
        reason: one line.
        trace: the traceback, if there is one.
        path: the file that could not be written.
    """

    kind: Literal["ended", "memory", "fault", "folder", "alarm"]
    reason: str = ""
    trace: str = ""
    path: str = ""


def after_fault(pack: Pack, outcome: Outcome, out: Path) -> list[Pack]:
    """The packs to train in place of one that failed; runs that cannot be trained are marked as failed.

    A pack that lacked memory is halved. After another fault it is not known which run caused it: each run that trained
    is tried alone in the same program, with the other slots empty, which leaves its numbers the same to the bit. A run
    that fails alone has failed. After a fault before any run trained all runs have failed.
    """
    if outcome.kind == "ended":
        return []
    states = list(zip(pack.runs, states_of(pack.runs, out), strict=True))
    standing = [run for run, state in states if state not in ENDED]
    trained = [run for run, state in states if state == "running"]
    if outcome.kind == "memory" and pack.slots > 1:
        return [make_pack(pack.shape, pack.slots // 2, standing)]
    if len(trained) > 1:
        _interrupt(trained, out)
        alone = [make_pack(pack.shape, pack.slots, [run]) for run in trained]
        rest = [run for run in standing if run not in trained]
        return alone + ([make_pack(pack.shape, pack.slots, rest)] if rest else [])
    failed = trained or standing
    for run in failed:
        folder = run_folder(out, run.run_id)
        if outcome.trace:
            write_text(folder / "error.txt", outcome.trace)
        write_status(folder, Status("failed", read_status(folder, run.steps).step, run.steps, reason=outcome.reason))
    rest = [run for run in standing if run not in failed]
    return [make_pack(pack.shape, pack.slots, rest)] if rest else []


def _interrupt(runs: Sequence[RunConfig], out: Path) -> None:
    """Mark runs as interrupted, so that a later fault is not taken for theirs."""
    for run in runs:
        folder = run_folder(out, run.run_id)
        write_status(folder, dataclasses.replace(read_status(folder, run.steps), state="interrupted"))


def states_of(runs: Sequence[RunConfig], out: Path) -> list[State]:
    """The states of runs as their statuses tell them now."""
    return [read_status(run_folder(out, run.run_id), run.steps).state for run in runs]
