"""What each process that trains does now: one small file a process, replaced every two seconds.

A beat is no record: it is not flushed to disk, and what cannot be read is passed over. Seconds are differences of a
process's own monotonic clock, and whether a process lives is told from its serial number, so that no two clocks are
ever compared.
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

from harness.files import is_local, read_bytes, write_json
from models.count import flops
from sweeps.config import RunConfig

BEAT_SECONDS = 2.0
# Speeds are those of this many seconds: many dispatches of the slowest programs, and still the present.
RATE_SECONDS = 30.0
# A process that has not beaten for so long is taken for dead. A shared file system may show an old file for a minute.
STALE_SECONDS = 120.0


@dataclasses.dataclass(frozen=True)
class InSlot:
    """A run that trains now.

    Attributes:
        tokens: D so far.
        train_loss: of the last finished step, nats; None before the first, and where it is not finite.
        tokens_per_second: over the last half minute; the pulse fills it in.
    """

    run_id: str
    step: int
    steps: int
    tokens: int
    train_loss: float | None = None
    tokens_per_second: float | None = None


@dataclasses.dataclass(frozen=True)
class Speed:
    """Attributes:
    flops_per_token: training FLOPs of a token; the model whose speed it is.
    tokens: trained of it by the process.
    seconds: the process spent on its packs, but for waiting on compilation.
    """

    flops_per_token: int
    tokens: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class Beat:
    """One process.

    Attributes:
        serial: rises with every beat.
        ended: the process has no more to do; its sums stand.
        since: seconds it has worked.
        training_seconds, evaluation_seconds: inside compiled programs.
        compile_seconds: waited for compilation.
        utilisation: share of `since` inside compiled programs.
        tokens: trained by it.
        tokens_per_second: over the last half minute.
        slots: the runs it trains now.
        speeds: one a model it has trained.
        left: runs that left their slots in the last half minute: many are shorter than the time between two beats.
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


class Spending(Protocol):
    """Where a process's time goes; kept up to date by whoever trains.

    Attributes:
        training, evaluation: seconds inside compiled programs.
        compiling: seconds waited for compilation.
        tokens: trained.
        total: seconds since it began.
    """

    training: float
    evaluation: float
    compiling: float
    tokens: int

    @property
    def total(self) -> float: ...


class Trained(Protocol):
    """A run in a slot: its configuration, and the last step that is known of it, with its loss in nats."""

    @property
    def config(self) -> RunConfig: ...
    @property
    def step(self) -> int: ...
    @property
    def last_loss(self) -> float | None: ...


class Pulse:
    """The beats of this process, for all its packs: a thread writes them while another trains.

    Args:
        out: the sweep's folder.
        spent: read at every beat.
        name: of the file; the host and the process id by default.
    """

    def __init__(self, out: Path, spent: Spending, name: str | None = None):
        self._host = socket.gethostname()
        self._folder, self._name, self.spent = out / "workers", name or f"{self._host}-{os.getpid()}", spent
        self._serial = 0
        self._slots: tuple[InSlot, ...] = ()
        self._left: collections.deque[tuple[float, str]] = collections.deque()
        self._model: int | None = None
        self._speeds: dict[int, Speed] = {}
        self._charged = self._sums()
        self._history = collections.deque([(spent.total, spent.tokens, {})])
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="heartbeat")

    def __enter__(self) -> "Pulse":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Begin to beat."""
        self.beat()
        self._thread.start()

    def close(self) -> None:
        """The last beat, which says that this process has ended."""
        self._over.set()
        self._thread.join()
        self.beat()

    def follow(self, slots: Sequence[Trained]) -> None:
        """The runs in the slots now, of one model; none when a pack has ended.

        What was trained since the last call was of this model, or of the last one's where there are no slots.
        """
        with self._lock:
            self._model = flops(slots[0].config.model).train if slots else self._model
            self._charge()
            self._model = self._model if slots else None
            staying = {slot.config.run_id for slot in slots}
            self._left += [(self.spent.total, slot.run_id) for slot in self._slots if slot.run_id not in staying]
            self._slots = tuple(_in_slot(slot) for slot in slots)

    def beat(self) -> None:
        """Write the file now. A full or missing disk is no reason to stop training."""
        with self._lock, contextlib.suppress(OSError):
            write_json(self._folder / f"{self._name}.json", dataclasses.asdict(self._snapshot()), durable=False)

    def _run(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            self.beat()

    def _sums(self) -> tuple[int, float]:
        """Tokens trained, and seconds but for those waited for compilation."""
        return self.spent.tokens, self.spent.total - self.spent.compiling

    def _charge(self) -> None:
        tokens, seconds = self._sums()
        if self._model is not None:
            before = self._speeds.get(self._model, Speed(self._model, 0, 0.0))
            new_tokens, new_seconds = tokens - self._charged[0], max(seconds - self._charged[1], 0.0)
            self._speeds[self._model] = Speed(self._model, before.tokens + new_tokens, before.seconds + new_seconds)
        self._charged = tokens, seconds

    def _snapshot(self) -> Beat:
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
        return Beat(
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
        )


def _in_slot(slot: Trained) -> InSlot:
    config = slot.config
    loss = slot.last_loss if slot.last_loss is not None and math.isfinite(slot.last_loss) else None
    return InSlot(config.run_id, slot.step, config.steps, slot.step * config.batch_tokens, loss)


def _rate(tokens: int, now: float, earlier: Sequence[tuple[float, int]]) -> float | None:
    if not earlier or now <= earlier[0][0]:
        return None
    return (tokens - earlier[0][1]) / (now - earlier[0][0])


_ADAPTER = TypeAdapter(Beat)


def _read(path: Path) -> Beat | None:
    try:
        return _ADAPTER.validate_json(read_bytes(path))
    except (OSError, ValidationError):
        return None


def _paths(out: Path) -> list[Path]:
    return sorted((out / "workers").glob("*.json"))


def read_beats(out: Path) -> list[Beat]:
    """The last beat of every process. Whether those are of processes that live, the sweep's lock tells."""
    return [beat for beat in map(_read, _paths(out)) if beat is not None]


def clear_beats(out: Path) -> None:
    """Forget the processes of an earlier `isogap run`: only for the holder of the sweep's lock."""
    for path in _paths(out):
        path.unlink(missing_ok=True)


def _key(path: Path) -> tuple[int, int] | None:
    """Changes with the file; None for an object, which is as quickly read as asked about."""
    if not is_local(path):
        return None
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns


class Beats:
    """What the holder of the sweep's lock follows: files that have not changed are not read again.

    The file of a process that has died is removed, so that `isogap status` needs no clock to tell; a process taken for
    dead by mistake comes back with its next beat.
    """

    def __init__(self, out: Path, clock: Callable[[], float] = time.monotonic):
        self._out, self._clock = out, clock
        self._known: dict[str, tuple[tuple[int, int] | None, Beat, float]] = {}

    def read(self) -> list[Beat]:
        """The last beat of every process there was; a dead one's sums stand, as `ended` and with no slots."""
        now = self._clock()
        for path in _paths(self._out):
            try:
                key = _key(path)
            except OSError:
                continue
            known = self._known.get(path.name)
            if key is not None and known is not None and known[0] == key:
                beat, changed = known[1], known[2]
            else:
                beat, changed = _read(path), now
                if beat is None:
                    continue
                if known is not None and known[1].serial == beat.serial:
                    changed = known[2]
            if not beat.ended and now - changed > STALE_SECONDS:
                beat = dataclasses.replace(beat, ended=True, slots=(), tokens_per_second=0.0)
                path.unlink(missing_ok=True)
            self._known[path.name] = (key, beat, changed)
        return [beat for _, beat, _ in self._known.values()]
