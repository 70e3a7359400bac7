"""A simulated cluster for scripts/simulate.py: processes, a clock and a shared disk, all of them steered by one seed.

Every thread of every process is a greenlet. It runs until its next operation on a file, sleep, lock or join; then the
scheduler draws who goes on. So the production code runs as it is, and two schedules of one seed are equal.

The files are real ones, best in a file system in memory. What fails, and how late a listing is, is simulated.
"""

import builtins
import contextlib
import errno
import glob
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from greenlet import GreenletExit, getcurrent, greenlet

# Virtual seconds: what an operation on a file takes at most; how old a listing of a network file system may be; within
# which the threads of a process that stood still go on.
OPERATION_SECONDS, LATE_SECONDS, WAKING_SECONDS = 0.05, 60.0, 5.0
# Operations and virtual seconds after which a schedule counts as one that never ends.
MOST_OPERATIONS, MOST_SECONDS = 60_000, 1e6
KINDS = ("kill", "kill parent", "stand still", "full disk", "power", "stop")


class Killed(GreenletExit):
    """Ends the threads of a process that was killed; production code must not catch it."""


class Endless(AssertionError):
    """A schedule did not come to its end."""


@dataclass(eq=False)
class Process:
    """A simulated process.

    Attributes:
        parent: the process that started it; they share a machine, which stands still as a whole.
        still: of a parent: the virtual time until which its machine stands, or last stood, still.
        code: its exit status; the negative number of a signal; None while it lives.
        told: called with the number of a signal that it receives.
        children: the processes that it started.
        listings: folder -> pattern -> (when it was read, names), as the machine's cache holds them.
    """

    name: str
    parent: "Process | None" = None
    still: float = float("-inf")
    code: int | None = None
    told: Callable[[int], None] | None = None
    children: "list[Process]" = field(default_factory=list)
    listings: dict[str, dict[str, tuple[float, list[str]]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.machine = self.parent or self

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self.code is None


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
        current: the thread that goes on now.
        living: the processes that have not ended.
        ended: how many have.
        trace: (virtual time, process, operation, path or empty) in their order.
        unflushed: the inodes of files whose content a loss of power would take.
        full: the number of an operation until which the disk is full.
    """

    def __init__(self, seed: int):
        self.rng, self.scheduler, self.now = random.Random(seed), getcurrent(), 0.0
        self.operations = self.ended = self.full = 0
        self.strands, self.living, self.current = list[Strand](), list[Process](), cast(Strand, None)
        self.trace, self.unflushed = list[tuple[float, str, str, str]](), set[int]()
        self.late = self.rng.choice((0.0, 0.3))
        self.faults: dict[int, str] = {}
        # Some schedules have few kinds of faults, because one kind may hide what another would show.
        kinds = self.rng.sample(KINDS, self.rng.randint(1, len(KINDS)))
        at, gap = 0, self.rng.choice((20, 100, 300))
        for _ in range(self.rng.randint(0, 8)):
            at += 1 + int(self.rng.expovariate(1 / gap))
            self.faults[at] = self.rng.choice(kinds)

    # Processes and threads

    def start(self, name: str, work: Callable[[], None], parent: Process | None = None) -> Process:
        """Start a process. It ends when its work does; a child ends soon after its parent."""
        process = Process(name, parent)
        if parent:
            parent.children.append(process)
        self.living.append(process)

        def main() -> None:
            work()
            self._end(process, 0)

        self.thread(main, process)
        return process

    def thread(self, work: Callable[[], None], process: Process | None = None) -> Strand:
        """Start a thread of a process, by default of the one that runs now."""

        def guarded() -> None:
            with contextlib.suppress(Killed):
                work()

        strand = Strand(greenlet(guarded, self.scheduler), process or self.me(), self.now)
        self.strands.append(strand)
        return strand

    def me(self) -> Process:
        """The process that runs now."""
        return self.current.process

    def note(self, process: Process, what: str, path: str = "") -> None:
        """Add a line to the trace."""
        self.trace.append((self.now, process.name, what, path))

    def _end(self, process: Process, code: int) -> None:
        if not process.alive:
            return
        process.code = code
        self.living.remove(process)
        self.ended += 1
        self.note(process, f"ends with {code}")
        for child in process.children:

            def follow(child: Process = child) -> None:
                self.wait(None, self.rng.uniform(0.0, 0.5))
                self._end(child, 1)

            if child.alive:
                self.thread(follow, child)

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
        self.note(process, f"receives signal {number}")
        if number == 9 or process.told is None:
            self._end(process, -number)
        else:
            process.told(number)

    def wait(self, condition: Callable[[], bool] | None, seconds: float = float("inf")) -> None:
        """Let others go on, until a condition holds or some seconds are over."""
        strand = self.current
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
            now, ready, dead = self.now, list[Strand](), list[Strand]()
            for strand in self.strands:
                if strand.process.code is not None or strand.thread.dead:
                    dead.append(strand)
                elif strand.process.machine.still <= now and (
                    strand.wakes <= now or (strand.condition is not None and strand.condition())
                ):
                    ready.append(strand)
            if dead:
                for strand in dead:
                    self.strands.remove(strand)
                    self.current = strand
                    strand.thread.throw(Killed())
            elif ready:
                self.current = self.rng.choice(ready)
                self.current.thread.switch()
            else:
                # A condition may hold as soon as a machine that stood still goes on.
                stills = [strand.process.machine.still for strand in self.strands]
                times = [max(strand.wakes, still) for strand, still in zip(self.strands, stills, strict=True)]
                self.now = min([*times, *(still for still in stills if still > now)])
                if self.now > MOST_SECONDS:
                    raise Endless(f"after {self.operations} operations and {now:.0f} s")

    # The disk

    def operation(self, what: str, path: str | os.PathLike[str]) -> None:
        """What happens before each operation on a file: others go on, time passes, a fault may come."""
        process = self.me()
        self.wait(None, 0.0)
        self.operations += 1
        self.now += self.rng.uniform(0.0, OPERATION_SECONDS)
        self.note(process, what, path := os.fspath(path))
        if what in ("make", "remove", "rename"):  # which a machine sees at once, if it is its own
            process.machine.listings.pop(os.path.dirname(path), None)
        if fault := self.faults.pop(self.operations, None):
            self._strike(fault, process)
        if self.operations > MOST_OPERATIONS:
            raise Endless(f"after {self.operations} operations and {self.now:.0f} s")

    def _strike(self, fault: str, process: Process) -> None:
        self.note(process, f"FAULT: {fault}")
        machine = process.machine
        if fault == "stand still":
            # The middle one ends while another process may have taken its pack over (harness.record.leases).
            machine.still = self.now + self.rng.choice((5.0, self.rng.uniform(100.0, 200.0), 400.0))
            for strand in self.strands:
                if strand.process.machine is machine:  # not all threads go on at once
                    strand.wakes = max(strand.wakes, machine.still + self.rng.uniform(0.0, WAKING_SECONDS))
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
        for process in [process for process in self.living if process.name != "user"]:
            self._end(process, -9)
        for path in sorted(path for path in SimulatedPath.root.rglob("*") if path.is_file()):
            if os.stat(path).st_ino in self.unflushed and self.rng.random() < 0.7:
                os.truncate(path, self.rng.choice((0, os.stat(path).st_size // 2)))
        self.unflushed.clear()

    def open(self, path: Path, mode: str = "r") -> Any:
        """As the built-in function; what is written may come to disk in part."""
        self.operation(f"open {mode}", path)
        return self._new(path) if "x" in mode else builtins.open(path, mode)

    @contextlib.contextmanager
    def _new(self, path: Path) -> Iterator[SimpleNamespace]:
        with builtins.open(path, "xb", buffering=0) as file:
            self.unflushed.add(os.fstat(file.fileno()).st_ino)

            def write(content: bytes) -> None:
                file.write(content[: len(content) // 2])
                self.operation("write", path)
                if self.operations < self.full:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                file.write(content[len(content) // 2 :])

            yield SimpleNamespace(write=write)

    def listing(self, folder: str, pattern: str = "") -> list[str]:
        """The names in a folder, or those like a pattern. They may be old, as they are on a network file system."""
        self.operation("list", folder)
        known = self.me().machine.listings.setdefault(folder, {})
        when, names = known.get(pattern, (0.0, []))
        if pattern not in known or self.now - when > LATE_SECONDS or self.rng.random() >= self.late:
            names = sorted(glob.glob(pattern, root_dir=folder) if pattern else os.listdir(folder))
            known[pattern] = self.now, names
        return names

    def rename(self, before: Path, after: Path) -> None:
        """As os.rename and os.replace."""
        self.operation("rename", after)
        os.replace(before, after)

    def flush(self, descriptor: int) -> None:
        """As os.fsync."""
        self.operation("flush", ".")
        self.unflushed.discard(os.fstat(descriptor).st_ino)

    def scandir(self, path: Path) -> Iterator[os.DirEntry]:
        """As os.scandir, in the order of names."""
        self.operation("list", path)
        return iter(sorted(os.scandir(path), key=lambda entry: entry.name))

    def rmtree(self, path: Path, ignore_errors: bool = False) -> None:
        """As shutil.rmtree, one file after another; a folder into which another process writes stays."""
        for found in sorted(Path(os.fspath(path)).rglob("*"), reverse=True):
            self.operation("remove", found)
            with contextlib.suppress(OSError):
                found.rmdir() if found.is_dir() else found.unlink()
        self.operation("remove", path)
        with contextlib.suppress(OSError):
            os.rmdir(path)

    def instead(self) -> dict[str, SimpleNamespace]:
        """What production code has in place of the modules of these names."""
        return {
            "time": SimpleNamespace(monotonic=(now := lambda: self.now), time=now, sleep=lambda s: self.wait(None, s)),
            "threading": SimpleNamespace(
                Thread=lambda target, args=(), **_: _Thread(self, target, args),
                Lock=lambda: _Lock(self), Event=lambda: _Event(self),
            ),
            "os": SimpleNamespace(**vars(os) | {
                "listdir": lambda folder: self.listing(os.fspath(folder)), "rename": self.rename,
                "replace": self.rename, "fsync": self.flush, "scandir": self.scandir, "_exit": self.exit,
            }),
            "secrets": SimpleNamespace(token_hex=lambda size: f"{self.rng.getrandbits(8 * size):x}"),
            "shutil": SimpleNamespace(**vars(shutil) | {"rmtree": self.rmtree}),
        }  # fmt: skip


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


class SimulatedPath(type(Path())):
    """A path on the shared disk of `cluster`; `root` is the folder that holds it."""

    cluster: Cluster
    root: Path

    def _real(self, what: str) -> str:
        self.cluster.operation(what, self)
        return os.fspath(self)

    def read_bytes(self) -> bytes:
        with builtins.open(self._real("read"), "rb") as file:
            return file.read()

    def exists(self) -> bool:
        return os.path.exists(self._real("look for"))

    def is_dir(self) -> bool:
        return os.path.isdir(self._real("look for"))

    def is_file(self) -> bool:
        return os.path.isfile(self._real("look for"))

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        Path(self._real("make")).mkdir(mode, parents, exist_ok)

    def unlink(self, missing_ok: bool = False) -> None:
        Path(self._real("remove")).unlink(missing_ok)

    def glob(self, pattern: str) -> Iterator["SimulatedPath"]:
        return iter([self / name for name in self.cluster.listing(os.fspath(self), pattern)])
