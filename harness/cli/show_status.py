"""`isogap status`: one line per run, how far the sweep is, and the time to go."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.files import open_folder
from harness.launch.watch import eta, header
from harness.record.lock import is_live
from harness.record.progress import Reached, progress
from harness.record.status import read_status, run_folder
from harness.record.sweep_folder import read_configs
from harness.terminal import lines


def show_status(out: str, json_: bool) -> None:
    """Print the runs and the progress of a sweep's folder."""
    folder = open_folder(out)
    rows, reached = sweep_status(folder)
    if json_:
        # Without indent, because with it Python's own encoder takes 0.8 s for 10,000 runs.
        print(json.dumps({"runs": rows, "progress": dataclasses.asdict(reached)}, allow_nan=False))
    else:
        _print_status(folder, rows, reached)


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


def _print_status(out: Path, rows: Sequence[dict[str, Any]], reached: Reached) -> None:
    """Print the rows, how much is done, how fast it goes, and the time to go."""
    if not rows:
        print(f"{out}: being prepared: its text is read, and its runs are not laid out yet")
        return
    print("\n".join(lines(rows)))
    share = reached.flops / reached.flops_total if reached.flops_total else 1.0
    to_go = "ETA: not running" if reached.eta_seconds is None and not reached.live else eta(reached)
    print(", ".join(f"{count} {state}" for state, count in sorted(reached.states.items())))
    print(f"{reached.tokens:,} of {reached.tokens_total:,} tokens, {share:.0%} of the FLOPs; {to_go}")
    if reached.live:
        print(header(reached))
