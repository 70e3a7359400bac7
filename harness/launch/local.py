"""Running a sweep on this machine: one process, or several that take packs from one list."""

import concurrent.futures
import concurrent.futures.process
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.record.files import write_text
from harness.record.status import ENDED, State, Status, read_status, run_folder, write_status
from sweeps.config import RunConfig
from sweeps.packs import Pack

SAVE_SECONDS = 20.0


@dataclass
class Stop:
    """Why to stop between two dispatches: a signal, the time limit, or a failure under --fail-fast."""

    deadline: float | None = None
    signal_number: int | None = None
    failed: bool = False

    def __call__(self) -> bool:
        late = self.deadline is not None and time.monotonic() > self.deadline
        return late or self.failed or self.signal_number is not None

    def listen(self) -> None:
        """Let SIGTERM and SIGINT set the reason instead of ending the process."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.take)

    def take(self, number: int, _frame: object) -> None:
        """The handler of a signal."""
        self.signal_number = number


def run_packs(
    packs: Sequence[Pack],
    out: Path,
    cache: Path,
    workers: int,
    stop: Stop,
    fail_fast: bool,
    progress: Callable[[int], None],
) -> None:
    """Train all packs that hold a run that has not ended; statuses and records tell how it went.

    A worker process that dies fails the runs it may have been training; the packs not begun stay as they are.

    Args:
        workers: processes; each is pinned to its share of the cores when there are several.
        progress: called with tokens just trained.
    """  # fmt: skip
    todo = [pack for pack in packs if not all_ended(pack.runs, out)]
    if workers == 1:
        for pack in todo:
            if stop():
                break
            _train(pack, out, cache, stop, fail_fast, progress)
            stop.failed = fail_fast and _any_bad(pack.runs, out)
        return
    cores = sorted(os.sched_getaffinity(0))
    context = multiprocessing.get_context("spawn")
    shares = context.Queue()
    for worker in range(workers):
        shares.put(cores[worker::workers] or cores)
    with concurrent.futures.ProcessPoolExecutor(workers, context, _begin_worker, (shares, cache, len(cores))) as pool:
        futures = {pool.submit(_work, pack, out, cache, stop.deadline, fail_fast): pack for pack in todo}
        done_before = tokens_done(todo, out)
        while futures:
            finished, _ = concurrent.futures.wait(futures, timeout=1.0, return_when="FIRST_COMPLETED")
            for future in finished:
                pack = futures.pop(future)
                try:
                    future.result()
                except concurrent.futures.process.BrokenProcessPool:
                    _fail([run for run in pack.runs if _state(run, out) == "running"], out, "its process died")
                stop.failed |= fail_fast and _any_bad(pack.runs, out)
            now = tokens_done(todo, out)
            progress(now - done_before)
            done_before = now
            if stop():
                for future in list(futures):
                    if future.cancel():
                        del futures[future]
                for process in list(pool._processes.values()):  # the pool forwards no signals of its own
                    os.kill(process.pid or 0, signal.SIGTERM)
                concurrent.futures.wait(futures)
                break


# A worker's own, for all its packs: the pool hands a worker its next pack before the last has ended.
_worker_stop = Stop()


def _begin_worker(shares: "multiprocessing.Queue[list[int]]", cache: Path, devices: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one sends SIGTERM on
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.sched_setaffinity(0, shares.get())
    _configure(cache, devices)


def _end_with_parent() -> None:
    """Die with the process that holds the sweep's lock: whoever takes the lock next trains the same runs."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _configure(cache: Path, devices: int) -> None:
    from harness.train.platform import configure_jax

    # As many devices as one process for all cores would have: another split of the slots would round otherwise, and
    # the tables would depend on the number of workers. Two devices on one core cost no more than one; four, 15 %.
    configure_jax(cache, devices)


def _work(pack: Pack, out: Path, cache: Path, deadline: float | None, fail_fast: bool) -> None:
    _worker_stop.deadline = deadline
    signal.signal(signal.SIGTERM, _worker_stop.take)
    if not _worker_stop():
        _train(pack, out, cache, _worker_stop, fail_fast, lambda tokens: None)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # with nothing to save it ends the process, as the pool expects


def _train(pack: Pack, out: Path, cache: Path, stop: Stop, fail_fast: bool, progress: Callable[[int], None]) -> None:
    from harness.train.pack import Session, train_pack

    session = Session(out, cache, SAVE_SECONDS, stop, fail_fast, progress)
    try:
        train_pack(pack.pack_id, pack.runs, pack.slots, session)
    except Exception as error:  # one pack's fault must not end the others: it is written down and shown
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}".strip()
        standing = [run for run in pack.runs if _state(run, out) not in ENDED]
        for run in standing:
            write_text(run_folder(out, run.run_id) / "error.txt", traceback.format_exc())
        _fail(standing, out, reason)


def _state(run: RunConfig, out: Path) -> State:
    return read_status(run_folder(out, run.run_id), run.steps).state


def _fail(runs: Sequence[RunConfig], out: Path, reason: str) -> None:
    for run in runs:
        folder = run_folder(out, run.run_id)
        write_status(folder, Status("failed", read_status(folder, run.steps).step, run.steps, reason=reason))


def all_ended(runs: Sequence[RunConfig], out: Path) -> bool:
    """Whether every run is done, diverged or failed."""
    return all(_state(run, out) in ENDED for run in runs)


def _any_bad(runs: Sequence[RunConfig], out: Path) -> bool:
    return any(_state(run, out) in ("failed", "diverged") for run in runs)


def tokens_done(packs: Sequence[Pack], out: Path) -> int:
    """Tokens that the runs' statuses say are trained; all of a run's that has ended."""
    total = 0
    for run in (run for pack in packs for run in pack.runs):
        status = read_status(run_folder(out, run.run_id), run.steps)
        total += run.tokens if status.state in ENDED else status.step * run.batch_tokens
    return total
