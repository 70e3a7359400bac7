"""Heartbeats: what each training process does now, in one small file per process that is replaced every two seconds.

A heartbeat is not part of the record: it is not flushed to disk, and an unreadable one is ignored. Seconds are
differences of a process's own monotonic clock, and a process is alive if its serial number rises, so that the clocks of
two processes are never compared.
"""

import collections
import contextlib
import dataclasses
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from pydantic import TypeAdapter, ValidationError

from harness.files import read_bytes, write_json
from models.count import flops
from sweeps.config import RunConfig

HEARTBEAT_SECONDS = 2.0
# Speeds are averages over this time: long enough for many dispatches of the slowest programs, and still up to date.
RATE_SECONDS = 30.0
# A process without a heartbeat for this long counts as dead. A shared file system may show an old file for a minute.
STALE_SECONDS = 120.0


@dataclasses.dataclass(frozen=True)
class InSlot:
    """A run that is being trained.

    Attributes:
        tokens: tokens processed so far.
        train_loss: loss of the last finished step in nats; None before the first step, and where it is not finite.
        tokens_per_second: speed over the last half minute.
    """

    run_id: str
    step: int
    steps: int
    tokens: int
    train_loss: float | None = None
    tokens_per_second: float | None = None


@dataclasses.dataclass(frozen=True)
class Speed:
    """How fast a process trains a model.

    Attributes:
        flops_per_token: training FLOPs per token, which identify the model.
        tokens: tokens that the process has trained this model on.
        seconds: time that the process spent on packs of this model, without waiting for compilation.
    """

    flops_per_token: int
    tokens: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class Heartbeat:
    """What a process reports.

    Attributes:
        serial: a number that rises with every heartbeat.
        ended: whether the process has nothing more to do, so that its sums are final.
        since: seconds since the process began to work.
        training_seconds, evaluation_seconds: time inside compiled programs; its share of `since` is the `utilisation`.
        compile_seconds: time spent waiting for compilation.
        tokens: tokens trained so far; `tokens_per_second` is the speed over the last half minute.
        slots: the runs that the process trains now.
        speeds: one `Speed` per model that the process has trained.
        left: runs that left their slots in the last half minute; many are shorter than the time between heartbeats.
        unsaved_seconds: time since the last checkpoint, whose work is lost if the process is killed.
    """

    name: str
    host: str
    pid: int
    serial: int
    ended: bool
    since: float
    training_seconds: float
    evaluation_seconds: float
    compile_seconds: float
    utilisation: float | None
    tokens: int
    tokens_per_second: float
    slots: tuple[InSlot, ...]
    speeds: tuple[Speed, ...]
    left: tuple[str, ...]
    unsaved_seconds: float = 0.0


@dataclasses.dataclass
class Spent:
    """The work of a process since it began to train, which the code that trains keeps up to date.

    Attributes:
        began: the time of the beginning by `time.monotonic`.
        training, evaluation: seconds that the devices computed.
        compiling: seconds in which nothing could train, because a program was still compiled.
        tokens: the number of tokens trained.
        saved: the time at which the last checkpoint was taken, or the first run began.
    """

    began: float = dataclasses.field(default_factory=time.monotonic)
    training: float = 0.0
    evaluation: float = 0.0
    compiling: float = 0.0
    tokens: int = 0
    saved: float = dataclasses.field(default_factory=time.monotonic)

    @property
    def total(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.began


class Trained(Protocol):
    """A run in a slot: its configuration, the last step known, and the loss of that step in nats."""

    @property
    def config(self) -> RunConfig: ...
    @property
    def step(self) -> int: ...
    @property
    def last_loss(self) -> float | None: ...


class HeartbeatWriter:
    """Writes the heartbeats of this process, for all its packs, in a thread beside the one that trains.

    Args:
        spent: the sums that every heartbeat reports; by default a new `Spent`.
        name: the file's name; by default the host and the process id.
    """

    def __init__(self, out: Path, spent: Spent | None = None, name: str | None = None):
        self.spent = spent = Spent() if spent is None else spent
        self._host = socket.gethostname()
        self._folder, self._name = out / "workers", name or f"{self._host}-{os.getpid()}"
        self._serial = 0
        self._slots: tuple[InSlot, ...] = ()
        self._left: collections.deque[tuple[float, str]] = collections.deque()
        self._model: int | None = None
        self._speeds: dict[int, Speed] = {}
        self._charged = self._sums()
        self._history = collections.deque([(spent.total, spent.tokens, {})])
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="heartbeat")

    def __enter__(self) -> "HeartbeatWriter":
        keep_killed(self._folder.parent, self._name)  # of an earlier process that had this name
        self.write()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.write()  # the last heartbeat: it reports that this process has ended

    def set_slots(self, slots: Sequence[Trained]) -> None:
        """Set the runs that are now in the slots, all of one model; an empty sequence when a pack has ended.

        The tokens trained since the last call count for this model, or for the last model if there are no runs.
        """
        with self._lock:
            self._model = flops(slots[0].config.model).train if slots else self._model
            self._charge()
            self._model = self._model if slots else None
            staying = {slot.config.run_id for slot in slots}
            self._left += [(self.spent.total, slot.run_id) for slot in self._slots if slot.run_id not in staying]
            self._slots = tuple(_in_slot(slot) for slot in slots)

    def write(self) -> None:
        """Write a heartbeat now. A full or missing disk does not stop training."""
        with self._lock, contextlib.suppress(OSError):
            write_json(self._folder / f"{self._name}.json", dataclasses.asdict(self._snapshot()), durable=False)

    def _run(self) -> None:
        while not self._over.wait(HEARTBEAT_SECONDS):
            self.write()

    def _sums(self) -> tuple[int, float]:
        """Tokens trained, and seconds spent, without the time spent waiting for compilation."""
        return self.spent.tokens, self.spent.total - self.spent.compiling

    def _charge(self) -> None:
        tokens, seconds = self._sums()
        if self._model is not None:
            before = self._speeds.get(self._model, Speed(self._model, 0, 0.0))
            new_tokens, new_seconds = tokens - self._charged[0], max(seconds - self._charged[1], 0.0)
            self._speeds[self._model] = Speed(self._model, before.tokens + new_tokens, before.seconds + new_seconds)
        self._charged = tokens, seconds

    def _snapshot(self) -> Heartbeat:
        self._charge()
        spent, now, tokens = self.spent, self.spent.total, self.spent.tokens
        self._serial += 1
        while len(self._history) > 1 and now - self._history[0][0] > RATE_SECONDS:
            self._history.popleft()
        while self._left and now - self._left[0][0] > RATE_SECONDS:
            self._left.popleft()
        rate = _rate(tokens, now, [(then, before) for then, before, _ in self._history])
        slots = []
        for slot in self._slots:
            earlier = [(then, runs[slot.run_id]) for then, _, runs in self._history if slot.run_id in runs]
            slots.append(dataclasses.replace(slot, tokens_per_second=_rate(slot.tokens, now, earlier)))
        self._history.append((now, tokens, {slot.run_id: slot.tokens for slot in slots}))
        return Heartbeat(
            name=self._name,
            host=self._host,
            pid=os.getpid(),
            serial=self._serial,
            ended=self._over.is_set(),
            since=now,
            training_seconds=spent.training,
            evaluation_seconds=spent.evaluation,
            compile_seconds=spent.compiling,
            utilisation=(spent.training + spent.evaluation) / now if now > 0 else None,
            tokens=tokens,
            tokens_per_second=rate or 0.0,
            slots=tuple(slots),
            speeds=tuple(self._speeds.values()),
            left=tuple(run_id for _, run_id in self._left),
            unsaved_seconds=time.monotonic() - spent.saved if slots else 0.0,
        )


def _in_slot(slot: Trained) -> InSlot:
    config = slot.config
    loss = slot.last_loss if slot.last_loss is not None and math.isfinite(slot.last_loss) else None
    return InSlot(config.run_id, slot.step, config.steps, slot.step * config.batch_tokens, loss)


def _rate(tokens: int, now: float, earlier: Sequence[tuple[float, int]]) -> float | None:
    if not earlier or now <= earlier[0][0]:
        return None
    return (tokens - earlier[0][1]) / (now - earlier[0][0])


_ADAPTER = TypeAdapter(Heartbeat)


def _read(path: Path) -> Heartbeat | None:
    try:
        return _ADAPTER.validate_json(read_bytes(path))
    except (OSError, ValidationError):
        return None


def _paths(out: Path, pattern: str = "*") -> list[Path]:
    return sorted((out / "workers").glob(f"{pattern}.json"))


def read_heartbeats(out: Path) -> list[Heartbeat]:
    """The last heartbeat of every process. The sweep's lock tells whether those processes still run."""
    return [heartbeat for heartbeat in map(_read, _paths(out)) if heartbeat is not None]


def clear_heartbeats(out: Path) -> None:
    """Remove the heartbeats of an earlier `isogap run`; only the holder of the sweep's lock may."""
    keep_killed(out)
    for path in _paths(out):
        path.unlink(missing_ok=True)


def keep_killed(out: Path, pattern: str = "*") -> None:
    """Move the last heartbeats of processes that were killed to DIR/killed, where `read_killed` finds them.

    Args:
        pattern: matches the names of these processes, none of which runs any more. Those that ended in order stay.
    """
    for path in _paths(out, pattern):
        if (heartbeat := _read(path)) is not None and not heartbeat.ended:
            with contextlib.suppress(OSError):  # as `HeartbeatWriter.write`
                kept = out / "killed" / f"{heartbeat.name}-{heartbeat.pid}-{heartbeat.serial}.json"
                write_json(kept, dataclasses.asdict(heartbeat), durable=False)
                path.unlink(missing_ok=True)


def read_killed(out: Path) -> list[Heartbeat]:
    """The last heartbeats of the processes that were killed, as far as another process has noticed."""
    kept = sorted((out / "killed").glob("*.json"))
    return [heartbeat for heartbeat in map(_read, kept) if heartbeat is not None]


class HeartbeatReader:
    """Reads heartbeats again and again, for the holder of the sweep's lock.

    The file of a process that has died is removed, so that `isogap status` needs no clock. A process that
    was taken for dead by mistake comes back with its next heartbeat.
    """

    def __init__(self, out: Path, clock: Callable[[], float] = time.monotonic):
        self._out, self._clock = out, clock
        # File name -> its last heartbeat, and the time of the clock at which the serial number last changed.
        self._known: dict[str, tuple[Heartbeat, float]] = {}

    def read(self) -> list[Heartbeat]:
        """The last heartbeat of every process so far. That of a dead process keeps its sums, is `ended` and has
        no slots."""
        now = self._clock()
        for path in _paths(self._out):
            heartbeat = _read(path)
            if heartbeat is None:
                continue
            known = self._known.get(path.name)
            changed = known[1] if known is not None and known[0].serial == heartbeat.serial else now
            if not heartbeat.ended and now - changed > STALE_SECONDS:
                keep_killed(self._out, path.stem)
                heartbeat = dataclasses.replace(heartbeat, ended=True, slots=(), tokens_per_second=0.0)
            self._known[path.name] = (heartbeat, changed)
        return [heartbeat for heartbeat, _ in self._known.values()]
