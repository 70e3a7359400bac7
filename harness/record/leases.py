"""Leases of a sweep's packs: processes on any machines that see the folder take packs, each by one process at a time.

DIR/queue holds one file for each pack, and its name says who has the pack: NUMBER.DEATHS.free, NUMBER.DEATHS.done, or
NUMBER.DEATHS.HOLDER.BEAT. Every change is a rename, which a file system does for one process alone: who renames a file
that another has renamed meanwhile is told that there is none. A holder renames its files every few seconds to the next
BEAT. A name that has not changed for long, by the monotonic clock of the process that looks, is that of a dead holder,
whose pack any process may take. So clocks of two machines are never compared, and a listing that a network file system
shows too late delays a takeover, but never gives a pack to two.

A process that stood still for so long that another took its pack finds that out at its next beat, and ends at once.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.files import is_local, json_bytes, read_object, remove_tree, write_files

# Seconds between two beats; after which a name that did not change is that of a dead holder. A network file system may
# show an old listing for a minute.
BEAT_SECONDS, DEAD_SECONDS = 2.0, 120.0
FREE, DONE = "free", "done"
# Not a pack: who holds it stays when no pack is free, to take over from a holder that dies.
STANDBY = "standby"


@dataclass(frozen=True, order=True)
class Entry:
    """The name of a file in DIR/queue.

    Attributes:
        number: the place of the pack in the order of the queue, with leading zeros; or STANDBY.
        deaths: how many holders in a row died with it.
        holder: FREE, DONE, or the process that has it.
        beat: a number that rises with every rename by the holder.
    """

    number: str
    deaths: int
    holder: str
    beat: int = 0

    @classmethod
    def of(cls, name: str) -> "Entry":
        """The entry with this file name."""
        number, deaths, holder, *beat = name.split(".")
        return cls(number, int(deaths), holder, *map(int, beat))

    @property
    def name(self) -> str:
        """The file name."""
        ends = self.holder if self.holder in (FREE, DONE) else f"{self.holder}.{self.beat}"
        return f"{self.number}.{self.deaths}.{ends}"

    @property
    def held(self) -> bool:
        """Whether some process has it, alive or dead."""
        return self.holder not in (FREE, DONE)


@dataclass(frozen=True)
class Lease:
    """A pack that this process may train.

    Attributes:
        runs: the ids of its runs, in their order.
        deaths: how many holders in a row died with it.
        before: the holder that died last; empty if the pack was free.
    """

    number: str
    runs: tuple[str, ...]
    deaths: int
    before: str


def lay_queue(out: Path, packs: Iterable[Sequence[str]]) -> None:
    """Make DIR/queue with these packs, each the ids of its runs, all of them free. There must be no queue yet."""
    files = {
        out / "queue" / Entry(f"{number:05d}", 0, FREE).name: json_bytes({"runs": list(runs)})
        for number, runs in enumerate(packs)
    }
    write_files(files | {out / "queue" / Entry(STANDBY, 0, FREE).name: b""})


def entries(out: Path) -> list[Entry]:
    """What DIR/queue holds, in its order; empty without a queue."""
    if is_local(out):
        with contextlib.suppress(FileNotFoundError):
            return sorted(Entry.of(name) for name in os.listdir(out / "queue") if not name.startswith("."))
    return []


def any_beat(out: Path) -> bool:
    """Whether some lease was renewed lately. It compares the file server's clock with this machine's, so that the
    answer comes at once: it is for display, and nothing is taken over because of it."""
    for entry in entries(out):
        if entry.held:
            with contextlib.suppress(OSError):  # renamed in the meantime: the next listing would show it
                if time.time() - os.stat(out / "queue" / entry.name).st_ctime < DEAD_SECONDS:
                    return True
    return False


def withdraw(out: Path, patience: float = DEAD_SECONDS) -> bool:
    """Remove the queue, so that no process can take a pack; false, and nothing removed, if one is alive.

    Args:
        patience: seconds for which the names of held packs are watched; 0 if all their holders are known to be dead.
    """
    before, began = entries(out), time.monotonic()
    while any(entry.held for entry in before) and time.monotonic() - began < patience:
        time.sleep(BEAT_SECONDS / 2)
        if [entry for entry in entries(out) if entry.held] != [entry for entry in before if entry.held]:
            return False
    withdrawn: list[tuple[Entry, Entry]] = []
    for entry in sorted(before, key=lambda entry: not entry.held):
        if not _rename(out, entry, (done := replace(entry, holder=DONE))):  # taken or renewed at this moment
            for was, now in withdrawn:
                _rename(out, now, was)
            return False
        withdrawn.append((entry, done))
    remove_tree(out / "queue")
    return True


def _rename(out: Path, before: Entry, after: Entry) -> bool:
    """Rename an entry; false if another process was faster."""
    target = out / "queue" / after.name
    try:
        os.rename(out / "queue" / before.name, target)
    except FileNotFoundError:
        return target.exists()  # NFS may repeat a request whose answer was lost, and answer the repetition
    return True


class Leases:
    """The packs that this process holds; inside a `with` block they are renewed, and at its end they are free again.

    Args:
        holder: a name without dots that no other process has or had.
        lost: called in a thread if another process has taken a pack over; it must end this process at once.
    """

    def __init__(self, out: Path, holder: str, lost: Callable[[], None], clock: Callable[[], float] = time.monotonic):
        self.holder, self._out, self._lost, self._clock = holder, out, lost, clock
        self._beats = 0
        self._held: dict[str, Entry] = {}
        # Number of a pack that another holds -> its entry, and when it was first seen so.
        self._seen: dict[str, tuple[Entry, float]] = {}
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="leases")

    def __enter__(self) -> "Leases":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        for number in [*self._held]:
            self._let_go(number, FREE)

    def _run(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            try:
                kept = self.beat()
            except OSError as error:  # a file system that does not answer now may answer at the next beat
                logging.getLogger("isogap").warning("%s: the leases were not renewed: %s", self._out, error)
            else:
                if not kept:
                    self._lost()

    def beat(self) -> bool:
        """Renew all leases; false if another process has taken one over."""
        with self._lock:
            self._beats += 1
            for number, entry in self._held.items():
                following = replace(entry, beat=self._beats)
                if not _rename(self._out, entry, following):
                    return False
                self._held[number] = following
        return True

    def take(self) -> Lease | None:
        """Take the first pack that is free or whose holder has died; None if there is none."""
        for entry in self._open():
            if entry.number != STANDBY and (mine := self._took(entry)) is not None:
                with self._lock:
                    content = read_object(self._out / "queue" / self._held[entry.number].name)
                return Lease(entry.number, tuple(content["runs"]), mine.deaths, entry.holder if entry.held else "")
        return None

    def stay(self) -> bool:
        """Whether to wait for packs whose holders may die, having none: one process does, until all are done."""
        if self.finished():
            return False
        standby = [entry for entry in self._open() if entry.number == STANDBY]
        return STANDBY in self._held or any(self._took(entry) is not None for entry in standby)

    def finished(self) -> bool:
        """Whether every pack is done."""
        return all(entry.holder == DONE for entry in entries(self._out) if entry.number != STANDBY)

    @property
    def holding(self) -> bool:
        """Whether this process has a pack."""
        return bool(self._held.keys() - {STANDBY})

    def end(self, number: str) -> None:
        """Say that a pack is done."""
        if not self._let_go(number, DONE):
            self._lost()

    def _open(self) -> Iterator[Entry]:
        """The entries that are free, and those whose holder has died."""
        now = self._clock()
        for entry in entries(self._out):
            if entry.holder == FREE:
                yield entry
            elif entry.held and entry.holder != self.holder:
                seen, since = self._seen.get(entry.number, (None, now))
                if seen != entry:
                    self._seen[entry.number] = entry, now
                elif now - since > DEAD_SECONDS:
                    yield entry

    def _took(self, entry: Entry) -> Entry | None:
        with self._lock:
            self._beats += 1  # no name comes twice, or one who looks now and then would take it for one that stays
            mine = Entry(entry.number, entry.deaths + entry.held, self.holder, self._beats)
            if not _rename(self._out, entry, mine):
                return None
            self._held[entry.number] = mine
        return mine

    def _let_go(self, number: str, holder: str) -> bool:
        with self._lock:
            # An orderly end shows that the pack is not what killed its earlier holders.
            return _rename(self._out, self._held.pop(number), Entry(number, 0, holder))
