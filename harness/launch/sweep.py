"""`isogap run`: trains those runs of a sweep that have not ended, and records them in the sweep's folder."""

import dataclasses
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Set
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from harness.files import is_local
from harness.gaps.wanted import draws_wanted, errors_not_reached
from harness.launch.local import run_packs
from harness.launch.packing import Packing, memory_limit_of, read_packing, settle_packing
from harness.launch.queue import PackQueue, drop_checkpoints
from harness.launch.ray_cluster import run_packs_on_ray
from harness.launch.several import CPU_DEVICES, follow, joined, lead, order
from harness.launch.slurm import call_off, check_slurm, settle_for_jobs, submit
from harness.launch.slurm_job import check_gpus
from harness.launch.watch import watching
from harness.machine.calibration_file import known_calibration
from harness.record.lock import sweep_lock
from harness.record.status import ENDED, WITHOUT_RESULT, Status, read_status, read_statuses, run_folder, write_status
from harness.record.sweep_folder import check_data, lay_out, record_environment, texts_of, with_standing
from harness.track.mirror import check_trackers, tracking
from harness.train.session import Session, Stop
from sweeps.calibration import Calibration
from sweeps.cells import refusals
from sweeps.config import RunConfig
from sweeps.errors import InputError
from sweeps.grid import load, read_sweep_text
from sweeps.packs import Pack, packs
from sweeps.plan import divide, pays_for_another
from sweeps.shape import Shape

# Number of a signal -> the exit status after it.
STOPPED = {15: 143, 2: 130}


def run_sweep(sweep: str, session: Session, elsewhere: Set[str] = frozenset()) -> int:
    """Train all runs of the sweep that have not ended, and return the exit status.

    The status is 0; 3 if runs failed, diverged or were lost; 143 after SIGTERM, 130 after SIGINT.

    Args:
        elsewhere: ids of runs whose results are known from another folder, and which this one leaves out.

    Raises:
        InputError: a bad spec, a folder that another process runs, or a text that is not the one its runs began with.
        OSError: a folder that cannot be written.
        PeerError: another host failed.
    """
    if session.hosts is None:
        return _run(sweep, session, elsewhere)
    if session.executor != "local" or session.workers is not None:
        raise InputError("--hosts", "value", session.hosts, "no --executor and no --workers beside it")
    with joined(session.hosts):
        from harness.train.hosts import all_hosts

        if not all_hosts().lead:
            return follow(session)
        status = _run(sweep, session, elsewhere)
        order("status", status)
        return status


def _run(sweep: str, session: Session, elsewhere: Set[str]) -> int:
    console, out = Console(), session.out
    if unknown := set(session.retry) - set(WITHOUT_RESULT):
        raise InputError("--retry", "value", min(unknown), f"{', '.join(WITHOUT_RESULT)}, or several with commas")
    check_slurm(session)
    check_trackers(session.track)
    if session.track and not is_local(out):
        raise InputError("--track", "value", ", ".join(session.track), f"a local folder to mirror, not {out}")
    cells = load(sweep).cells
    for line in refusals((cell.block, str(cell.reason)) for cell in cells if cell.config is None):
        console.print(f"infeasible, not run: {line}", markup=False, soft_wrap=True)
    if not any(cell.config for cell in cells):
        raise InputError(sweep, "sweep", "no feasible cell", "at least one")
    with sweep_lock(out):
        call_off(out)
        minutes = session.max_minutes
        stop = Stop(None if minutes is None else time.monotonic() + 60 * minutes)
        (runs, waiting), retry = _wanted(sweep, out, elsewhere), session.retry
        while _trained(runs, waiting, sweep, session, stop, console, retry):
            following, waiting = _wanted(sweep, out, elsewhere)
            if stop() or {run.run_id for run in following} <= {run.run_id for run in runs}:
                if waiting and not stop():
                    console.print(f"{len(waiting)} runs have not begun: those that they start from have no result")
                for sentence in () if stop() else errors_not_reached(sweep, out):
                    console.print(sentence, markup=False, soft_wrap=True)
                return _summary(with_standing(out, runs), out, stop, console)
            console.print(f"{len(following) - len(runs)} more runs, which depend on those that have ended")
            runs, retry = following, ()
        return 0


def _wanted(sweep: str, out: Path, elsewhere: Set[str]) -> tuple[list[RunConfig], list[RunConfig]]:
    """The runs of a sweep, with as many draws as the gaps in its folder ask for, less those that are `elsewhere`: those
    that may begin, and those that wait for a run that they start from."""
    runs = load(sweep, draws_wanted(out)).configs
    # What is elsewhere left no parameters here: a run that others start from is trained again.
    needed: set[str | None] = set()
    for run in reversed(runs):  # a start is before what starts from it
        if run.run_id not in elsewhere or run.run_id in needed:
            needed |= set() if run.start_from is None or _is_done(out, run.start_from) else {run.start_from}
    wanted = [run for run in runs if run.run_id not in elsewhere or run.run_id in needed]
    waiting = [run for run in wanted if run.start_from in needed]
    held = {run.run_id for run in waiting}
    return [run for run in wanted if run.run_id not in held], waiting


def _is_done(out: Path, run_id: str) -> bool:
    folder = run_folder(out, run_id)
    return (folder / "final.json").is_file() and read_status(folder, 0).state == "done"


def _trained(
    configs: list[RunConfig], waiting: list[RunConfig], sweep: str, session: Session, stop: Stop, console: Console,
    retry: Collection[str],
) -> bool:  # fmt: skip
    """Train those of the runs, and of others that the folder holds, that have not ended; false if jobs of a cluster
    will do so."""
    out = session.out
    runs = with_standing(out, configs)
    planned = [*runs, *waiting]  # together, so that packs do not depend on when the waiting ones begin
    statuses = read_statuses(out, runs)
    retried = [run for run in runs if statuses[run.run_id].state in retry]
    training = bool(retried) or any(status.state not in ENDED for status in statuses.values())
    # Text is prepared before anything in the folder changes, because it may be refused.
    hashes = _prepare_data(runs, session, console) if training else {}
    if training:
        from harness.launch.planning import without_text

        standing = [run for run in runs if run in retried or statuses[run.run_id].state not in ENDED]
        for reason, count in without_text(standing, session.cache).items():
            console.print(f"{count} of the runs will fail: {reason}", markup=False, soft_wrap=True)
    lay_out(out, read_sweep_text(sweep), configs)
    statuses |= _reset(retried, out)
    if training and session.executor == "slurm":
        ended_before = {run_id for run_id, status in statuses.items() if status.state in ENDED}
        packing, devices = settle_for_jobs(planned, session)
        record_environment(out, devices, hashes)
        remaining = _remaining(runs, ended_before, packing, session.workers or 1)
        submit(remaining, _elsewhere(session, packing), ended_before, console)
        return False
    if training or session.track:
        with tracking(session.track, out, runs, console):
            if training:
                _train(runs, planned, statuses, hashes, session, stop, console)
    return True


def _reset(runs: list[RunConfig], out: Path) -> dict[str, Status]:
    statuses = {run.run_id: Status("pending", 0, run.steps) for run in runs}
    for run_id, status in statuses.items():
        folder = run_folder(out, run_id)
        write_status(folder, status)
        (folder / "error.txt").unlink(missing_ok=True)
    return statuses


def _train(
    runs: list[RunConfig], planned: list[RunConfig], statuses: dict[str, Status], hashes: dict[str, dict[str, str]],
    session: Session, stop: Stop, console: Console,
) -> None:  # fmt: skip
    out, cache = session.out, session.cache
    recorded = read_packing(out)
    ended_before = {run_id for run_id, status in statuses.items() if status.state in ENDED}
    remaining = [run for run in runs if run.run_id not in ended_before]
    workers, calibration = _workers(remaining, recorded, known_calibration(cache), session)
    from harness.machine.platform import configure_jax

    if session.hosts is not None:
        order("devices", None)
    of_this_host = recorded.devices if recorded else calibration.devices
    configure_jax(cache, of_this_host if session.hosts is None else CPU_DEVICES)
    import jax

    check_gpus(jax.default_backend)
    record_environment(out, [f"{d.platform} {d.device_kind}" for d in jax.devices()], hashes)
    memory, processes = memory_limit_of(jax.default_backend(), workers), jax.process_count()
    if processes > 1:
        calibration, memory = calibration.together(processes, jax.device_count()), memory * processes
    packing = settle_packing(out, planned, calibration, memory)
    for run_id, status in statuses.items():
        if status.state == "interrupted":
            # A killed process left it as `running`, and runs that say so are suspected when a worker dies.
            write_status(run_folder(out, run_id), status)
    session = _elsewhere(session, packing)

    def queue_of(parts: int, pays: Callable[[Shape], float] = lambda _: 0.0) -> PackQueue:
        remaining = _remaining(runs, ended_before, packing, parts, pays)
        return PackQueue(session, stop, watch.ended, deque(remaining), ended_before)

    # Up to here a signal ends the process at once, because nothing trains that has to be saved.
    stop.listen()
    with watching(console, out, runs, statuses, session.following) as watch:
        if session.hosts is not None:
            lead(queue_of(1), packing.micro_tokens)
        elif session.executor == "ray":
            run_packs_on_ray(queue_of, session)
        else:
            run_packs(queue_of(workers, pays_for_another(calibration, packing.slots)), workers)


def _elsewhere(session: Session, packing: Packing) -> Session:
    """The session for other processes, with absolute paths: Ray's tasks have another working folder."""
    out = session.out.absolute() if is_local(session.out) else session.out
    return dataclasses.replace(session, out=out, cache=session.cache.absolute(), devices=packing.devices)


def _remaining(
    runs: list[RunConfig], ended_before: Set[str], packing: Packing, parts: int,
    pays: Callable[[Shape], float] = lambda _: 0.0,
) -> list[Pack]:  # fmt: skip
    """The packs for so many processes in which runs have not ended."""
    made = packs(runs, packing.micro_tokens, packing.slots, parts, pays)
    return [pack for pack in made if any(run.run_id not in ended_before for run in pack.runs)]


def _workers(
    runs: list[RunConfig], recorded: Packing | None, calibration: Calibration, session: Session
) -> tuple[int, Calibration]:
    """How many processes train these runs, and the calibration of each process.

    In a sweep that has begun, a process keeps the number of devices it began with, on which the last bits of the
    numbers depend.
    """
    elsewhere = session.hosts is not None or session.executor != "local"
    each, sharing = calibration, 1
    if recorded is not None and recorded.devices == 1 and calibration.platform == "cpu":
        sharing = len(os.sched_getaffinity(0))
        each = calibration if calibration.workers is None else calibration.one_worker()
    elif recorded is None and calibration.workers is not None and not elsewhere and session.workers is None:
        division = divide(runs, calibration, memory_limit_of(calibration.platform))
        each, sharing = division.calibration, division.processes
    return 1 if elsewhere else session.workers or sharing, each


def _prepare_data(runs: list[RunConfig], session: Session, console: Console) -> dict[str, dict[str, str]]:
    """Tokenize the text of the runs, check that it is the text they began with, and return its hashes.

    Runs whose corpus cannot be read fail later.
    """
    from harness.data.store import prepare

    texts = sorted({text for run in runs for text in texts_of(run)})
    hashes = {}
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("preparing text", total=len(texts))
        for name, split, domain, tokenizer in texts:
            try:
                store = prepare(domain, tokenizer, session.cache, **dict(split))
            except InputError as error:
                console.print(f"isogap: {error}", markup=False)
            else:
                facts = {"corpus": store.corpus_hash, "tokenizer": store.tokenizer_hash, "tokens": store.hash}
                hashes[name] = facts
            progress.advance(task)
    check_data(session.out, hashes)
    return hashes


def _summary(runs: list[RunConfig], out: Path, stop: Stop, console: Console) -> int:
    statuses = read_statuses(out, runs)
    counts = Counter(status.state for status in statuses.values())
    for run_id, status in statuses.items():
        if status.state in WITHOUT_RESULT:
            console.print(f"{run_id} {status.state}: {status.reason}", markup=False, soft_wrap=True)
    summary = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    left = stop() and any(status.state not in ENDED for status in statuses.values())
    console.print(f"{out}: {summary}{'; the same command goes on' * left}", markup=False, soft_wrap=True)
    drop_checkpoints(out, counts)
    if stop.signal_number is not None:
        return STOPPED[stop.signal_number]
    return 3 if counts.keys() & set(WITHOUT_RESULT) else 0
