"""How far a sweep is, and when it will end at the speed of the process that runs it."""

import dataclasses
import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.record.files import write_json
from harness.record.status import ENDED, Status, is_live, read_status, run_folder
from models.count import flops
from sweeps.config import RunConfig


@dataclasses.dataclass(frozen=True)
class Reached:
    """Attributes:
    tokens, flops: trained so far; those of interrupted runs since their last checkpoint are counted, and done again.
    tokens_total, flops_total: of all runs, of those that diverged or failed only what was trained.
    eta_seconds: at the FLOPs per second since the running process began to train, its compiling included; small models
        run at fewer, so it is a guide. None while nothing runs or nothing was trained yet; 0 when all runs have ended.
    """

    tokens: int
    tokens_total: int
    flops: int
    flops_total: int
    eta_seconds: float | None


def mark_start(out: Path, runs: Iterable[RunConfig]) -> None:
    """Write running.json: when this process began to train, and how much had been trained before."""
    before = {run.run_id: read_status(run_folder(out, run.run_id), run.steps).step for run in runs}
    write_json(out / "running.json", {"since": time.time(), "steps": before})


def progress(out: Path, runs: Sequence[RunConfig], statuses: Sequence[Status]) -> Reached:
    """Sums over the runs, and the time to go.

    Args:
        statuses: of the runs, in their order.
    """
    ended = [status.state in ENDED for status in statuses]
    lengths = [s.step if over else run.steps for run, s, over in zip(runs, statuses, ended, strict=True)]
    costs = [flops(run.model).train * run.batch_tokens for run in runs]
    trained = sum(cost * status.step for cost, status in zip(costs, statuses, strict=True))
    total = sum(cost * length for cost, length in zip(costs, lengths, strict=True))
    eta = 0.0 if all(ended) else None
    if eta is None and is_live(out) and (out / "running.json").is_file():
        start = json.loads((out / "running.json").read_text())
        before = sum(cost * start["steps"].get(run.run_id, 0) for run, cost in zip(runs, costs, strict=True))
        seconds = time.time() - start["since"]
        if trained > before and seconds > 0:
            eta = (total - trained) * seconds / (trained - before)
    return Reached(
        tokens=sum(run.batch_tokens * status.step for run, status in zip(runs, statuses, strict=True)),
        tokens_total=sum(run.batch_tokens * length for run, length in zip(runs, lengths, strict=True)),
        flops=trained,
        flops_total=total,
        eta_seconds=eta,
    )
