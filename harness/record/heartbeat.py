"""What each process that trains does now: one small file a process, replaced every two seconds.

A beat is no record: it is not flushed to disk, and what cannot be read is passed over. Seconds are differences of a
process's own monotonic clock, and whether a process lives is told from its serial number, so that no two clocks are
ever compared.
"""

import collections
import contextlib
import dataclasses
import json
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

BEAT_SECONDS = 2.0
# Speeds are those of this many seconds: many dispatches of the slowest programs, and still the present.
RATE_SECONDS = 30.0
# A process that has not beaten for so long is taken for dead. A shared file system may show an old file for a minute.
STALE_SECONDS = 120.0

What = Literal["training", "evaluation", "compile"]


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


class Pulse:
    """The beats of this process: a thread writes them, while one other, the one that trains, says what it does.

    Args:
        out: the sweep's folder.
        name: of the file; the host and the process id by default. One pulse serves all packs of a process.
    """

    def __init__(self, out: Path, name: str | None = None, clock: Callable[[], float] = time.monotonic):
        host = socket.gethostname()
        self._folder, self._clock = out / "workers", clock
        self._host, self._name = host, name or f"{host}-{os.getpid()}"
        self._serial = self._tokens = 0
        self._slots: tuple[InSlot, ...] = ()
        self._seconds: dict[What, float] = {"training": 0.0, "evaluation": 0.0, "compile": 0.0}
        self._what: What | None = None
        self._model: int | None = None
        self._speeds: dict[int, tuple[int, float]] = {}
        self._began = self._mark = clock()
        self._history = collections.deque([(self._began, 0, {})])
        self._lock, self._over = threading.RLock(), threading.Event()
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

    @contextlib.contextmanager
    def pack(self, flops_per_token: int, slots: Sequence[InSlot]) -> Iterator[None]:
        """From the beginning of a pack, its compilation included, to its end.

        Args:
            flops_per_token: `flops(model).train` of its model.
        """
        self._switch(model=flops_per_token)
        self._slots = tuple(slots)
        try:
            yield
        finally:
            self._switch(model=None)
            self._slots = ()
            self.beat()

    @contextlib.contextmanager
    def inside(self, what: What) -> Iterator[None]:
        """While a compiled program runs, or compilation is waited for. Inner uses are not counted in outer ones."""
        outer = self._what
        self._switch(what=what, model=self._model)
        try:
            yield
        finally:
            self._switch(what=outer, model=self._model)

    def trained(self, tokens: int, slots: Sequence[InSlot]) -> None:
        """Tokens just trained of all slots, and where each run stands that trains on."""
        with self._lock:
            self._tokens += tokens
            self._slots = tuple(slots)
            if self._model is not None:
                before, seconds = self._speeds.get(self._model, (0, 0.0))
                self._speeds[self._model] = (before + tokens, seconds)

    def beat(self) -> None:
        """Write the file now. A full or missing disk is no reason to stop training."""
        with self._lock, contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            temporary = self._folder / f".{self._name}.tmp"
            temporary.write_text(json.dumps(dataclasses.asdict(self._snapshot()), allow_nan=False))
            os.replace(temporary, self._folder / f"{self._name}.json")

    def _run(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            self.beat()

    def _switch(self, model: int | None, what: What | None = None) -> None:
        """Charge the time since the last switch to what was done, and go on with something else."""
        with self._lock:
            now = self._clock()
            elapsed, self._mark = now - self._mark, now
            if self._what is not None:
                self._seconds[self._what] += elapsed
            if self._model is not None and self._what != "compile":
                tokens, seconds = self._speeds.get(self._model, (0, 0.0))
                self._speeds[self._model] = (tokens, seconds + elapsed)
            self._what, self._model = what, model

    def _snapshot(self) -> Beat:
        self._switch(what=self._what, model=self._model)
        now, since = self._mark, self._mark - self._began
        self._serial += 1
        while len(self._history) > 1 and now - self._history[0][0] > RATE_SECONDS:
            self._history.popleft()
        compiled = self._seconds["training"] + self._seconds["evaluation"]
        rate = _rate(self._tokens, now, [(then, tokens) for then, tokens, _ in self._history])
        slots = []
        for slot in self._slots:
            earlier = [(then, runs[slot.run_id]) for then, _, runs in self._history if slot.run_id in runs]
            loss = slot.train_loss if slot.train_loss is not None and math.isfinite(slot.train_loss) else None
            speed = _rate(slot.tokens, now, earlier)
            slots.append(dataclasses.replace(slot, train_loss=loss, tokens_per_second=speed))
        self._history.append((now, self._tokens, {slot.run_id: slot.tokens for slot in slots}))
        return Beat(
            name=self._name,
            host=self._host,
            pid=os.getpid(),
            serial=self._serial,
            ended=self._over.is_set(),
            since=since,
            training_seconds=self._seconds["training"],
            evaluation_seconds=self._seconds["evaluation"],
            compile_seconds=self._seconds["compile"],
            utilisation=compiled / since if since > 0 else None,
            tokens=self._tokens,
            tokens_per_second=rate or 0.0,
            slots=tuple(slots),
            speeds=tuple(Speed(model, *speed) for model, speed in self._speeds.items()),
        )


def _rate(tokens: int, now: float, earlier: Sequence[tuple[float, int]]) -> float | None:
    if not earlier or now <= earlier[0][0]:
        return None
    return (tokens - earlier[0][1]) / (now - earlier[0][0])


_ADAPTER = TypeAdapter(Beat)


def _read(path: Path) -> Beat | None:
    try:
        return _ADAPTER.validate_json(path.read_bytes())
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


class Beats:
    """What the holder of the sweep's lock follows: files that have not changed are not read again.

    The file of a process that has died is removed, so that `isogap status` needs no clock to tell; a process taken for
    dead by mistake comes back with its next beat.
    """

    def __init__(self, out: Path, clock: Callable[[], float] = time.monotonic):
        self._out, self._clock = out, clock
        self._known: dict[str, tuple[tuple[int, int], Beat, float]] = {}

    def read(self) -> list[Beat]:
        """The last beat of every process there was; a dead one's sums stand, as `ended` and with no slots."""
        now = self._clock()
        for path in _paths(self._out):
            try:
                stat = path.stat()
            except OSError:
                continue
            key, known = (stat.st_ino, stat.st_mtime_ns), self._known.get(path.name)
            if known is not None and known[0] == key:
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
