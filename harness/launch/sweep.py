"""`isogap run`: a sweep from its spec to its tables, whatever was done of it before."""

import shutil
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from harness.data.cache import default_cache
from harness.launch.local import Stop, all_ended, run_packs, tokens_done
from harness.record.progress import mark_start
from harness.record.status import Status, read_status, run_folder, sweep_lock, write_status
from harness.record.sweep_folder import lay_out, record_environment
from sweeps.config import RunConfig
from sweeps.errors import InputError
from sweeps.grid import load, read_sweep_text
from sweeps.packs import packs

STOPPED = {15: 143, 2: 130}
# Between two lines on how far the training is, where no progress bar can be shown.
LINE_SECONDS = 15.0


def run_sweep(
    sweep: str, out: Path, cache: Path | None, workers: int, fail_fast: bool, max_minutes: float | None,
    retry_failed: bool,
) -> int:  # fmt: skip
    """Train all runs of the sweep that have not ended.

    Returns:
        the exit status: 0, 3 if runs failed or diverged, 143 or 130 after a signal.

    Raises:
        InputError: a bad spec, or a folder that another process runs.
        OSError: a folder that cannot be written.
    """
    console = Console()
    cells = load(sweep).cells
    for cell in (cell for cell in cells if cell.config is None):
        console.print(
            f"infeasible, not run: {cell.block} seed {cell.seed}: {cell.reason}", markup=False, soft_wrap=True
        )
    configs = [cell.config for cell in cells if cell.config is not None]
    if not configs:
        raise InputError(sweep, "sweep", "no feasible cell", "at least one")
    cache = default_cache() if cache is None else cache
    with sweep_lock(out):
        runs = lay_out(out, read_sweep_text(sweep), configs)
        if retry_failed:
            _reset_failed(runs, out)
        stop = Stop()
        if not all_ended(runs, out):
            stop = _train(runs, out, cache, workers, fail_fast, max_minutes, console)
        return _summary(runs, out, stop, console)


def _reset_failed(runs: list[RunConfig], out: Path) -> None:
    for run in runs:
        folder = run_folder(out, run.run_id)
        if read_status(folder, run.steps).state == "failed":
            write_status(folder, Status("pending", 0, run.steps))
            (folder / "error.txt").unlink(missing_ok=True)


def _train(
    runs: list[RunConfig], out: Path, cache: Path, workers: int, fail_fast: bool, max_minutes: float | None,
    console: Console,
) -> Stop:  # fmt: skip
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    stop = Stop(None if max_minutes is None else time.monotonic() + 60 * max_minutes)
    began = told = time.monotonic()

    def trained(tokens: int) -> None:
        nonlocal told
        progress.advance(task, tokens)
        # A file or pipe has no bar to look at.
        if not console.is_terminal and time.monotonic() - told > LINE_SECONDS:
            told = time.monotonic()
            done = f"{progress.tasks[task].completed:,.0f} of {progress.tasks[task].total:,.0f} tokens"
            console.print(f"training: {done}, {told - began:.0f} s", markup=False, highlight=False)

    with Progress(*columns, console=console) as progress:
        _prepare_data(runs, out, cache, progress)
        # Only now: until something trains there is nothing to save, and a signal may end the process at once.
        stop.listen()
        mark_start(out, runs)
        planned = packs(runs)
        task = progress.add_task("training, tokens", total=sum(run.tokens for run in runs))
        progress.update(task, completed=tokens_done(planned, out))
        run_packs(planned, out, cache, workers, stop, fail_fast, trained)
    return stop


def _prepare_data(runs: list[RunConfig], out: Path, cache: Path, progress: Progress) -> None:
    """Tokenize what the runs read, and record what it was. A corpus that cannot be had fails its runs later."""
    from harness.data.store import prepare
    from harness.train.platform import configure_jax

    pairs = sorted({(r.data.domain, r.data.tokenizer, r.data.heldout_fraction) for r in runs})
    task = progress.add_task("preparing text", total=len(pairs))
    hashes = {}
    for domain, tokenizer, fraction in pairs:
        try:
            store = prepare(domain, tokenizer, cache, fraction)
        except InputError as error:
            progress.console.print(f"isogap: {error}", markup=False)
        else:
            facts = {"corpus": store.corpus_hash, "tokenizer": store.tokenizer_hash, "tokens": store.hash}
            hashes[f"{domain} {tokenizer}"] = facts
        progress.advance(task)
    configure_jax(cache)
    import jax

    record_environment(out, [f"{d.platform} {d.device_kind}" for d in jax.devices()], hashes)


def _summary(runs: list[RunConfig], out: Path, stop: Stop, console: Console) -> int:
    statuses = {run.run_id: read_status(run_folder(out, run.run_id), run.steps, live=False) for run in runs}
    counts: dict[str, int] = {}
    for run_id, status in statuses.items():
        counts[status.state] = counts.get(status.state, 0) + 1
        if status.state in ("failed", "diverged"):
            console.print(f"{run_id} {status.state}: {status.reason}", markup=False, soft_wrap=True)
    told = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    console.print(f"{out}: {told}", markup=False, soft_wrap=True)
    if counts.keys() <= {"done", "diverged"}:
        # Packs clear up after themselves; those that a sweep's extension cut anew do not.
        shutil.rmtree(out / "checkpoints", ignore_errors=True)
    if stop.signal_number is not None:
        return STOPPED[stop.signal_number]
    return 3 if counts.keys() & {"failed", "diverged"} else 0
