"""What a person sees while a sweep trains: a display in a terminal, or a line now and then."""

import collections
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from harness.files import read_bytes
from harness.record.heartbeat import Heartbeat, HeartbeatReader, InSlot, clear_heartbeats
from harness.record.progress import Reached, Tally
from harness.record.status import ENDED, WITHOUT_RESULT, Status, read_status, run_folder
from harness.terminal import duration, lines
from models.count import count
from sweeps.config import RunConfig

# Half the time between two heartbeats (2 s), so that a new one is shown within a second.
LOOK_SECONDS = 1.0
# Seconds between two lines of progress if the output is not a terminal.
LINE_SECONDS = 15.0
# How many of the runs that ended last are shown, below those that train.
ENDED_SHOWN = 5
BAR_LENGTH = 20


class Watch:
    """What is known about a sweep's runs while they train, and the display of it.

    Args:
        out: the sweep's folder, whose lock this process holds.
        runs: all runs of the folder.
        statuses: the runs' statuses, by run id.
        following: as in `harness.train.session.Session`.
    """

    def __init__(
        self, console: Console, out: Path, runs: Sequence[RunConfig], statuses: Mapping[str, Status],
        clock: Callable[[], float] = time.monotonic, following: float | None = None,
    ):  # fmt: skip
        by_id = {run.run_id: run for run in runs}
        self._console, self._out, self._clock, self._following = console, out, clock, following
        self._reader, self._tally = HeartbeatReader(out, clock), Tally(by_id, [statuses[run_id] for run_id in by_id])
        # Runs that trained and whose status does not say yet that they ended: it is written one dispatch after they
        # leave their slots.
        self._open: set[str] = set()
        self._last: collections.deque[dict[str, Any]] = collections.deque(maxlen=ENDED_SHOWN)
        self._began = self._last_line = clock()
        self._lock = threading.Lock()
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def ended(self, run_ids: Iterable[str]) -> None:
        """Read the statuses of these runs again, because no process trains their pack any more."""
        with self._lock:
            left = set(run_ids)
            self._reread(left)
            self._open -= left

    def update(self) -> None:
        """Read the heartbeats and the statuses of runs that left their slots, and show them."""
        with self._lock:
            heartbeats, reached = self._look()
            if self._live is not None:
                self._live.update(self._display(heartbeats, reached), refresh=True)
            elif self._clock() - self._last_line > LINE_SECONDS:
                self._last_line = self._clock()
                self._print(header(reached, self._following))

    def open(self) -> None:
        """Start the display."""
        if self._live is not None:
            self._live.start()

    def close(self) -> None:
        """End the display with two lines that stay: how far it came, and where the time went."""
        with self._lock:
            if self._live is not None:
                self._live.stop()
            heartbeats, reached = self._look()
            self._print(header(reached, self._following))
            if shares := time_shares(heartbeats, self._clock() - self._began):
                self._print(shares)

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _look(self) -> tuple[list[Heartbeat], Reached]:
        heartbeats = self._reader.read()
        in_slots = {slot.run_id for heartbeat in heartbeats for slot in heartbeat.slots if slot.run_id in self._tally}
        left = {run_id for heartbeat in heartbeats for run_id in heartbeat.left if run_id in self._tally}
        self._open |= in_slots | {run_id for run_id in left if self._tally.status(run_id).state not in ENDED}
        self._reread(self._open - in_slots)
        self._tally.follow(heartbeats)
        return heartbeats, self._tally.reached(heartbeats, live=True)

    def _reread(self, run_ids: Iterable[str]) -> None:
        for run_id in run_ids:
            before, config = self._tally.status(run_id), self._tally.config(run_id)
            status = read_status(run_folder(self._out, run_id), config.steps)
            self._tally.move(run_id, status)
            if status.state in ENDED:
                self._open.discard(run_id)
                if status.state != before.state:
                    self._last.append(self._row(run_id, status.train_loss) | self._outcome(run_id, status))

    def _row(self, run_id: str, loss: float | None) -> dict[str, Any]:
        model = self._tally.config(run_id).model
        return {"run": run_id, "architecture": model.architecture, "N": count(model).total, "train loss": _loss(loss)}

    def _outcome(self, run_id: str, status: Status) -> dict[str, Any]:
        try:
            gap = json.loads(read_bytes(run_folder(self._out, run_id) / "gap.json"))["gap_probe"]
        except (OSError, ValueError, KeyError):
            gap = None
        return {"state": status.state, "gap": "" if gap is None else f"{gap:+.4f}"}

    def _display(self, heartbeats: Sequence[Heartbeat], reached: Reached) -> Text:
        slots = [slot for heartbeat in heartbeats for slot in heartbeat.slots if slot.run_id in self._tally]
        # Six lines show no runs: the header, which may wrap to two; the column names of two tables (runs that train and
        # runs that ended); `and ... more`; and the line of the cursor.
        room = max(self._console.size.height - 6 - len(self._last), 1)
        shown = [header(reached, self._following)]
        rows = [self._row(slot.run_id, slot.train_loss) | _moving(slot) for slot in slots[:room]]
        shown += lines(rows) if rows else ["nothing in a slot yet: programs are compiled"]
        shown += [f"and {len(slots) - room} more"] if len(slots) > room else []
        shown += lines(list(self._last)) if self._last else []
        # One text, because drawing a table of rich takes 20 ms, 2 % of a core when done each second. Lines longer than
        # the terminal are cut, except the header.
        width = self._console.size.width
        return Text("\n".join([shown[0], *(line[:width] for line in shown[1:])]))


def _loss(loss: float | None) -> str:
    return "" if loss is None else f"{loss:.4f}"


def _moving(slot: InSlot) -> dict[str, Any]:
    share = min(max(slot.step / slot.steps, 0.0), 1.0)
    bar = "━" * round(BAR_LENGTH * share) + "╌" * (BAR_LENGTH - round(BAR_LENGTH * share))
    rate = None if slot.tokens_per_second is None else round(slot.tokens_per_second)
    return {"tokens/s": rate, "step": f"{slot.step:,}/{slot.steps:,}", "": f"{bar} {share:4.0%}"}


def time_shares(heartbeats: Sequence[Heartbeat], seconds: float) -> str:
    """Where the processes' time went in `seconds` of the wall clock, in one line; empty if no process has worked."""
    total = sum(heartbeat.since for heartbeat in heartbeats)
    if not total:
        return ""
    spent = ((each.training_seconds, each.evaluation_seconds, each.compile_seconds) for each in heartbeats)
    training, evaluation, compiling = (sum(parts) / total for parts in zip(*spent, strict=True))
    rest = max(1 - training - evaluation - compiling, 0.0)
    return (
        f"of {duration(seconds)} {training:.0%} was training, {evaluation:.0%} evaluation, {compiling:.0%} waiting for"
        f" programs to compile, {rest:.0%} other work"
    )


@contextlib.contextmanager
def watching(
    console: Console, out: Path, runs: Sequence[RunConfig], statuses: Mapping[str, Status],
    following: float | None = None,
) -> Iterator[Watch]:  # fmt: skip
    """Show a sweep while it trains; a thread of its own looks once a second.

    The caller holds the sweep's lock and enters this before the first heartbeat is written.
    """
    clear_heartbeats(out)
    watch, over = Watch(console, out, runs, statuses, following=following), threading.Event()

    def look() -> None:
        while not over.wait(LOOK_SECONDS):
            watch.update()

    thread = threading.Thread(target=look, daemon=True, name="watch")
    watch.open()
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join()
        watch.close()


def eta(reached: Reached, following: float | None = None) -> str:
    """The estimated time that is left, as text; with `following`, of a study's block and of the study."""
    if reached.eta_seconds is None:
        return "ETA: not known yet"
    if following is None:
        return f"ETA: {duration(reached.eta_seconds)}"
    return f"ETA: {duration(reached.eta_seconds)} for this block, {duration(reached.eta_seconds + following)} for all"


def header(reached: Reached, following: float | None = None) -> str:
    """One line of progress: runs, speed, utilisation, time."""
    states = reached.states
    parts = [f"{states.get('done', 0):,} of {sum(states.values()):,} runs done"]
    parts += [f"{states[name]:,} {name}" for name in ("running", *WITHOUT_RESULT) if states.get(name)]
    parts.append(f"{reached.tokens_per_second or 0.0:,.0f} tokens/s")
    if reached.utilisation is not None:
        parts.append(f"{reached.utilisation:.0%} of the time computing")
    if reached.elapsed_seconds is not None:
        parts.append(f"{duration(reached.elapsed_seconds)} elapsed")
    return ", ".join([*parts, eta(reached, following)])
