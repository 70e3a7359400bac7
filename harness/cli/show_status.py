"""`isogap status`: one line per run, how far the sweep is, and the time to go."""

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.files import open_folder
from harness.launch.slurm import queued_jobs
from harness.launch.watch import eta, header
from harness.record.heartbeat import read_killed
from harness.record.lock import is_live
from harness.record.progress import Reached, progress
from harness.record.status import read_status, run_folder
from harness.record.sweep_folder import blocks_to_come, folders_of_blocks, read_configs
from harness.terminal import lines


def show_status(out: str, json_: bool) -> None:
    """Print the runs and the progress of a sweep's folder; of a study's folder the progress of each block."""
    folder = open_folder(out)
    if not (folder / "manifest.json").is_file() and (blocks := folders_of_blocks(folder)):
        _show_blocks({str(block): sweep_status(block)[1] for block in blocks}, blocks_to_come(folder), json_)
        return
    rows, reached = sweep_status(folder)
    killed, jobs = killed_processes(folder, reached), queued_jobs(folder)
    if json_:
        told = {"runs": rows, "progress": dataclasses.asdict(reached), "killed": killed, "slurm": jobs}
        # Without indent, because with it Python's own encoder takes 0.8 s for 10,000 runs.
        print(json.dumps(told, allow_nan=False))
    else:
        _print_status(folder, rows, reached)
        _print_killed(killed)
        _print_jobs(jobs)


def _show_blocks(begun: Mapping[str, Reached], to_come: Sequence[Path], json_: bool) -> None:
    """Print how far each block of a study is; with JSON null for those that have not begun."""
    if json_:
        told = {block: dataclasses.asdict(reached) for block, reached in begun.items()}
        print(json.dumps(told | {str(block): None for block in to_come}, allow_nan=False))
        return
    for block, reached in begun.items():
        print(f"{block}: {header(reached) if reached.live else _states(reached)}")
    for block in to_come:
        print(f"{block}: not begun in this folder")


def sweep_status(out: Path) -> tuple[list[dict[str, Any]], Reached]:
    """One row per run (run_id, architecture, domain, tokenizer, state, step, steps, tokens, train_loss in nats,
    reason), and how far the whole sweep is; no rows while a new sweep is prepared.

    Raises:
        InputError: the folder holds no sweep.
    """
    live = is_live(out)
    if live and not (out / "manifest.json").is_file():
        return [], progress(out, {}, ())[0]
    runs = {config.run_id: config for config in read_configs(out)}  # computing an id, which is a hash, takes 20 us
    statuses = [read_status(run_folder(out, run_id), config.steps, live=live) for run_id, config in runs.items()]
    reached, statuses = progress(out, runs, statuses)
    rows = [
        {
            "run_id": run_id,
            "architecture": config.model.architecture,
            "domain": config.data.domain,
            "tokenizer": config.data.tokenizer,
            "state": status.state,
            "step": status.step,
            "steps": status.steps,
            "tokens": status.step * config.batch_tokens,
            "train_loss": status.train_loss,
            "reason": status.reason,
        }
        for (run_id, config), status in zip(runs.items(), statuses, strict=True)
    ]
    return rows, reached


def killed_processes(out: Path, reached: Reached) -> list[dict[str, Any]]:
    """One row per process that was killed: its name, host, and `lost_seconds`, the time from its last checkpoint to its
    last heartbeat, whose work has to be done again. A heartbeat comes every two seconds."""
    unnoticed = [] if reached.live else [worker for worker in reached.workers if not worker.ended]
    return [
        {"name": each.name, "host": each.host, "lost_seconds": each.unsaved_seconds}
        for each in (*read_killed(out), *unnoticed)
    ]


def _print_killed(killed: Sequence[dict[str, Any]]) -> None:
    if killed:
        lost = sum(row["lost_seconds"] for row in killed)
        each = ", ".join(f"{row['name']} on {row['host']} {row['lost_seconds']:.1f} s" for row in killed)
        print(f"lost to {len(killed)} killed processes: {lost:.1f} s of work since their last checkpoints: {each}")


def _print_jobs(jobs: Sequence[dict[str, str]] | None) -> None:
    """Print what Slurm's queue says; nothing if the sweep has no array, or where Slurm is not."""
    if jobs is None:
        return
    if not jobs:
        print("Slurm: no job of this sweep's array runs or waits")
        return
    counts = Counter(job["state"] for job in jobs)
    print(f"Slurm array {jobs[0]['array']}: {', '.join(f'{count} {state}' for state, count in counts.items())}")
    print("\n".join(lines([{name: job[name] for name in ("job", "state", "time", "reason")} for job in jobs])))


def _states(reached: Reached) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(reached.states.items()))


def _print_status(out: Path, rows: Sequence[dict[str, Any]], reached: Reached) -> None:
    """Print the rows, how much is done, how fast it goes, and the time to go."""
    if not rows:
        print(f"{out}: being prepared: its text is read, and its runs are not laid out yet")
        return
    print("\n".join(lines(rows)))
    share = reached.flops / reached.flops_total if reached.flops_total else 1.0
    to_go = "ETA: not running" if reached.eta_seconds is None and not reached.live else eta(reached)
    print(_states(reached))
    print(f"{reached.tokens:,} of {reached.tokens_total:,} tokens, {share:.0%} of the FLOPs; {to_go}")
    if reached.live:
        print(header(reached))
