"""A simulated cluster for scripts/simulate.py: processes, a clock and a shared disk, all of them steered by one seed.

Every thread of every process is a greenlet. It runs until its next operation on a file, sleep, lock or join; then the
scheduler draws who goes on. So the production code runs as it is, and two schedules of one seed are equal.

The files are real ones, best in a file system in memory. What fails, and how late a listing is, is simulated.
"""

import builtins
import contextlib
import errno
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet

# Virtual seconds: what an operation on a file takes at most; how old a listing of a network file system may be.
OPERATION_SECONDS, LATE_SECONDS = 0.05, 60.0
# Operations and virtual seconds after which a schedule counts as one that never ends.
MOST_OPERATIONS, MOST_SECONDS = 60_000, 1e6
KINDS = ("kill", "kill", "kill parent", "stand still", "stand still", "full disk", "power", "stop")


class Killed(GreenletExit):
    """Ends the threads of a process that was killed; production code must not catch it."""


class Endless(AssertionError):
    """A schedule did not come to its end."""


@dataclass(eq=False)
class Process:
    """A simulated process.

    Attributes:
        parent: the process that started it; they share a machine, which stands still as a whole.
        still: the virtual time until which it stands still.
        stood: whether it ever stood still.
        code: its exit status; the negative number of a signal; None while it lives.
        told: called with the number of a signal that it receives.
        listings: folder -> (when it was read, names), as the machine's cache holds them.
    """

    name: str
    parent: "Process | None" = None
    still: float = 0.0
    stood: bool = False
    code: int | None = None
    told: Callable[[int], None] | None = None
    listings: dict[str, tuple[float, list[str]]] = field(default_factory=dict)

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self.code is None

    @property
    def machine(self) -> "Process":
        """The first of the processes of its machine."""
        return self.parent or self


@dataclass(eq=False)
class Strand:
    """A thread of a process: it goes on at a time, or earlier when a condition holds."""

    thread: greenlet
    process: Process
    wakes: float
    condition: Callable[[], bool] | None = None


class Cluster:
    """The processes, their clock and their disk.

    Attributes:
        now: virtual seconds.
        faults: number of an operation -> the fault that comes with it.
        late: the share of listings that come from a machine's cache.
        trace: (virtual time, process, operation) in their order.
        unflushed: the inodes of files whose content a loss of power would take.
        full: the number of an operation until which the disk is full.
        lost_power: called when all machines but the user's have lost their power.
    """

    def __init__(self, seed: int):
        self.rng = random.Random(seed)
        self.scheduler = getcurrent()
        self.now = 0.0
        self.operations = 0
        self.strands: list[Strand] = []
        self.processes: list[Process] = []
        self.trace: list[tuple[float, str, str]] = []
        self.unflushed: set[int] = set()
        self.full = 0
        self.late = self.rng.choice((0.0, 0.3))
        self.faults: dict[int, str] = {}
        at, gap = 0, self.rng.choice((20, 100, 300))
        for _ in range(self.rng.randint(0, 8)):
            at += 1 + int(self.rng.expovariate(1 / gap))
            self.faults[at] = self.rng.choice(KINDS)

    # Processes and threads

    def start(self, name: str, work: Callable[[], None], parent: Process | None = None) -> Process:
        """Start a process. It ends when its work does; a child ends soon after its parent."""
        process = Process(name, parent, still=parent.still if parent else 0.0)
        self.processes.append(process)

        def main() -> None:
            work()
            self._end(process, 0)

        self.thread(main, process)
        if parent is not None:

            def end_with_parent() -> None:
                self.wait(lambda: not parent.alive)
                self.wait(None, self.rng.uniform(0.0, 0.5))
                self._end(process, 1)

            self.thread(end_with_parent, process)
        return process

    def thread(self, work: Callable[[], None], process: Process | None = None) -> Strand:
        """Start a thread of a process, by default of the one that runs now."""

        def guarded() -> None:
            with contextlib.suppress(Killed):
                work()

        strand = Strand(greenlet(guarded, self.scheduler), process or self.me(), self.now)
        self.strands.append(strand)
        return strand

    def _current(self) -> Strand:
        here = getcurrent()
        return next(strand for strand in self.strands if strand.thread is here)

    def me(self) -> Process:
        """The process that runs now."""
        return self._current().process

    def _end(self, process: Process, code: int) -> None:
        if process.alive:
            process.code = code
            self.trace.append((self.now, process.name, f"ends with {code}"))

    def exit(self, code: int) -> None:
        """End the process that runs now, as os._exit does."""
        self._end(self.me(), code)
        raise Killed

    def signal(self, process: Process, number: int) -> None:
        """Send a signal: 9 kills, others are for the process to hear, or end it if it does not."""
        if not self.me().alive:
            raise Killed
        if not process.alive:
            return
        self.trace.append((self.now, process.name, f"receives signal {number}"))
        if number == 9 or process.told is None:
            self._end(process, -number)
        else:
            process.told(number)

    def wait(self, condition: Callable[[], bool] | None, seconds: float = float("inf")) -> None:
        """Let others go on, until a condition holds or some seconds are over."""
        strand = self._current()
        if strand.process.alive:
            strand.wakes, strand.condition = self.now + seconds, condition
            self.scheduler.switch()
        if not strand.process.alive:
            raise Killed

    def run(self) -> None:
        """Let all go on, one at a time, until no thread is left.

        Raises:
            Endless: nothing can go on, or it takes too long.
        """
        while self.strands:
            dead = [strand for strand in self.strands if not strand.process.alive]
            for strand in dead:
                strand.thread.throw(Killed())
            self.strands = [strand for strand in self.strands if not strand.thread.dead and strand not in dead]
            ready = [strand for strand in self.strands if self._ready(strand)]
            if ready:
                self.rng.choice(ready).thread.switch()
            elif self.strands:
                following = min(max(strand.wakes, strand.process.machine.still) for strand in self.strands)
                waking = [s.process.machine.still for s in self.strands if s.process.machine.still > self.now]
                following = min([following, *waking])
                if following > MOST_SECONDS:
                    raise Endless(f"after {self.operations} operations and {self.now:.0f} s")
                self.now = following

    def _ready(self, strand: Strand) -> bool:
        if strand.process.machine.still > self.now:
            return False
        return strand.wakes <= self.now or (strand.condition is not None and strand.condition())

    # The disk

    def operation(self, what: str, path: object) -> None:
        """What happens before each operation on a file: others go on, time passes, a fault may come."""
        process = self.me()
        if not process.alive:
            raise Killed
        self.wait(None, 0.0)
        self.operations += 1
        self.now += self.rng.uniform(0.0, OPERATION_SECONDS)
        self.trace.append((self.now, process.name, f"{what} {'/'.join(Path(os.fspath(path)).parts[-3:])}"))
        if fault := self.faults.pop(self.operations, None):
            self._strike(fault, process)
        if self.operations > MOST_OPERATIONS:
            raise Endless(f"after {self.operations} operations and {self.now:.0f} s")

    def _strike(self, fault: str, process: Process) -> None:
        self.trace.append((self.now, process.name, f"FAULT: {fault}"))
        machine = process.machine
        if fault == "stand still":
            machine.still = self.now + self.rng.choice((5.0, 60.0, 130.0, 400.0))
            for other in self.processes:
                other.stood |= other.machine is machine
            self.wait(None, 0.0)
        elif fault == "full disk":
            self.full = self.operations + self.rng.randint(1, 40)
        elif fault == "stop":
            self.signal(machine, 15)
        elif fault == "power":
            self.lose_power()
        else:
            self._end(machine if fault == "kill parent" else process, -9)
        if not process.alive:
            raise Killed

    def lose_power(self) -> None:
        """End all processes but the user; most files that were not flushed lose what was in them."""
        for process in self.processes:
            if process.name != "user":
                self._end(process, -9)
        for path in sorted(path for path in Path(SimulatedPath.root).rglob("*") if path.is_file()):
            if os.stat(path).st_ino in self.unflushed and self.rng.random() < 0.7:
                os.truncate(path, self.rng.choice((0, os.stat(path).st_size // 2)))
        self.unflushed.clear()

    def open(self, path: Path, mode: str = "r") -> Any:
        """As the built-in function; what is written may come to disk in part."""
        self.operation(f"open {mode}", path)
        if "x" not in mode:
            return builtins.open(path, mode)
        if self.operations < self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return _Written(self, path)

    def listdir(self, path: Path) -> list[str]:
        """As os.listdir, but the names may be some seconds old, as they are on a network file system."""
        self.operation("list", path)
        known = self.me().machine.listings
        if os.fspath(path) in known and self.rng.random() < self.late:
            when, names = known[os.fspath(path)]
            if self.now - when < LATE_SECONDS:
                return names
        known[os.fspath(path)] = self.now, sorted(os.listdir(path))
        return known[os.fspath(path)][1]

    def rename(self, before: Path, after: Path) -> None:
        """As os.rename and os.replace; this machine's listing of the folder is new from now on."""
        self.operation("rename", after)
        self.me().machine.listings.pop(os.fspath(Path(after).parent), None)
        os.replace(before, after)

    def flush(self, descriptor: int) -> None:
        """As os.fsync."""
        self.operation("flush", ".")
        self.unflushed.discard(os.fstat(descriptor).st_ino)

    def scandir(self, path: Path) -> Iterator[os.DirEntry]:
        """As os.scandir, in the order of names."""
        self.operation("list", path)
        return iter(sorted(os.scandir(os.fspath(path)), key=lambda entry: entry.name))

    def rmtree(self, path: Path, ignore_errors: bool = False) -> None:
        """As shutil.rmtree, one file after another; a folder into which another process writes stays."""
        for found in sorted(Path(os.fspath(path)).rglob("*"), reverse=True):
            self.operation("remove", found)
            with contextlib.suppress(OSError):
                found.rmdir() if found.is_dir() else found.unlink()
        self.operation("remove", path)
        with contextlib.suppress(OSError):
            os.rmdir(path)

    # What production code has instead of the modules of these names

    @property
    def time(self) -> SimpleNamespace:
        """In place of the module `time`."""
        clock = lambda: self.now  # noqa: E731
        return SimpleNamespace(monotonic=clock, time=clock, sleep=lambda seconds: self.wait(None, seconds))

    @property
    def threading(self) -> SimpleNamespace:
        """In place of the module `threading`."""
        return SimpleNamespace(
            Thread=lambda target, args=(), **_: _Thread(self, target, args),
            Lock=lambda: _Lock(self),
            Event=lambda: _Event(self),
        )

    @property
    def os(self) -> "_Instead":
        """In place of the module `os`."""
        return _Instead(
            os, listdir=self.listdir, rename=self.rename, replace=self.rename, fsync=self.flush, scandir=self.scandir,
            _exit=self.exit,
        )  # fmt: skip

    @property
    def shutil(self) -> "_Instead":
        """In place of the module `shutil`."""
        return _Instead(shutil, rmtree=self.rmtree)


class _Instead:
    """A module of which some functions are others."""

    def __init__(self, module: Any, **others: Any):
        self._module = module
        self.__dict__ |= others

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


class _Thread:
    def __init__(self, cluster: Cluster, target: Callable[..., None], args: tuple):
        self._cluster, self._work = cluster, lambda: target(*args)

    def start(self) -> None:
        self._strand = self._cluster.thread(self._work)

    def join(self) -> None:
        self._cluster.wait(lambda: self._strand.thread.dead)


class _Lock:
    def __init__(self, cluster: Cluster):
        self._cluster, self._held = cluster, False

    def __enter__(self) -> None:
        while self._held:
            self._cluster.wait(lambda: not self._held)
        self._held = True

    def __exit__(self, *_: object) -> None:
        self._held = False


class _Event:
    def __init__(self, cluster: Cluster):
        self._cluster, self._happened = cluster, False

    def set(self) -> None:
        self._happened = True

    def wait(self, seconds: float) -> bool:
        self._cluster.wait(lambda: self._happened, seconds)
        return self._happened


class _Written:
    """A new file: half of what is written is there before the other half is."""

    def __init__(self, cluster: Cluster, path: Path):
        self._cluster, self._path, self._file = cluster, path, builtins.open(path, "xb", buffering=0)
        cluster.unflushed.add(os.fstat(self._file.fileno()).st_ino)

    def __enter__(self) -> "_Written":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, content: bytes) -> None:
        self._file.write(content[: len(content) // 2])
        self._cluster.operation("write", self._path)
        if self._cluster.operations < self._cluster.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._file.write(content[len(content) // 2 :])


class SimulatedPath(type(Path())):
    """A path on the shared disk of `cluster`; `root` is the folder that holds it."""

    cluster: Cluster
    root: Path

    def _real(self, what: str) -> Path:
        self.cluster.operation(what, self)
        return Path(os.fspath(self))

    def read_bytes(self) -> bytes:
        return self._real("read").read_bytes()

    def exists(self) -> bool:
        return self._real("look for").exists()

    def is_dir(self) -> bool:
        return self._real("look for").is_dir()

    def is_file(self) -> bool:
        return self._real("look for").is_file()

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        self._real("make").mkdir(mode, parents, exist_ok)

    def unlink(self, missing_ok: bool = False) -> None:
        self._real("remove").unlink(missing_ok)

    def glob(self, pattern: str) -> Iterator["SimulatedPath"]:
        return iter([type(self)(path) for path in sorted(self._real("list").glob(pattern))])
