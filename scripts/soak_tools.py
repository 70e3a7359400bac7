"""For scripts/soak.py: the command and its tables, and what befalls a sweep's folder and processes."""

import contextlib
import csv
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from harness.record.columns import WALL_CLOCK
from harness.record.status import ENDED, read_status

SWEEP = Path(__file__).resolve().with_name("soak.yaml")


def wait(condition: Callable[[], bool], most: float = float("inf")) -> float:
    """Seconds until it holds, or more than `most`. A machine that slept between two looks has not waited."""
    waited, before = 0.0, time.monotonic()
    while waited <= most and not condition():
        time.sleep(0.01)
        now = time.monotonic()
        waited, before = waited + min(now - before, 0.5), now
    return waited


def workers_of(out: Path) -> list[int]:
    """The worker processes of a sweep, those included whose parent has died."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"spawn_main" in (path / "cmdline").read_bytes() and bytes(out) in (path / "environ").read_bytes():
                found.append(int(path.name))
    return sorted(found)


def contents(folder: Path) -> dict[Path, bytes]:
    """All files of a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def damage(out: Path, rng: random.Random) -> str:
    """Damage up to three files of checkpoints, of runs that have not ended (what has ended is not recomputed unasked),
    or the lists of runs; which and how, in words."""
    folders = [f for f in sorted((out / "runs").glob("*")) if read_status(f, 0, live=False).state not in ENDED]
    files = [path for folder in [*folders, out / "checkpoints"] for path in sorted(folder.rglob("*")) if path.is_file()]
    files = [path for path in files if path.name != "config.json"]  # the second copy of what is in configs.jsonl
    files += [path for name in ("manifest.json", "configs.jsonl") if (path := out / name).is_file()]
    did = []
    for path in rng.sample(files, min(3, len(files))):
        content = bytearray(path.read_bytes())
        how = rng.choice(["emptied", "zeroed", "cut", "flipped"]) if content else "emptied"
        if how == "flipped":
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        elif how == "cut":
            del content[rng.randrange(len(content)) :]
        else:
            content = bytearray(len(content) if how == "zeroed" else 0)
        path.write_bytes(content)
        did.append(f"{path.relative_to(out)} {how}")
    return ", ".join(did) or "nothing there to damage"


def lose_power(out: Path, noted: Path, rng: random.Random) -> str:
    """Take from most files that were never flushed what is in them.

    Args:
        noted: lines INODE TIME of the files that were.
    """
    flushed = {tuple(map(int, line.split())) for line in noted.read_text().splitlines()} if noted.exists() else set()
    lost = 0
    for path in (path for path in sorted(out.rglob("*")) if path.is_file()):
        stat = path.stat()
        if (stat.st_ino, stat.st_mtime_ns) not in flushed and rng.random() < 0.7:
            os.truncate(path, rng.choice([0, stat.st_size // 2]))
            lost += 1
    return f"loss of power: {lost} files that were not flushed lost what was in them"


@contextlib.contextmanager
def full(out: Path, left: int):
    """A file fills the file system of a folder but for some bytes."""
    filler = out / "filler"
    with contextlib.suppress(OSError), open(filler, "wb") as file:
        room = os.statvfs(out)
        os.posix_fallocate(file.fileno(), 0, max(room.f_bavail * room.f_frsize - left, 1))
    yield
    filler.unlink()


def isogap(*arguments: str) -> list[str]:
    """The command as it is."""
    return [sys.executable, "-c", "from harness.cli.main import main; main()", *arguments]


def run_arguments(out: Path, cache: Path, *options: str) -> list[str]:
    """Of `isogap run`."""
    return ["run", str(SWEEP), "--out", str(out), "--cache", str(cache), *options]


def steps_of(out: Path) -> int:
    """Taken by all runs, as their statuses tell."""
    return sum(read_status(folder, 0).step for folder in (out / "runs").glob("*"))


def tables(out: Path, work: Path) -> dict[str, object]:
    """What `isogap export` writes of a sweep, but for the machine's doing."""
    found: dict[str, object] = {}
    for what in ("runs", "series", "evals"):
        path = work / f"{out.name}-{what}.csv"
        subprocess.run(isogap("export", str(out), "--what", what, "--to", str(path)), check=True, capture_output=True)
        found[what] = path.read_bytes()
        if what == "runs":
            rows = list(csv.reader(path.read_text().splitlines()))
            found[what] = [
                [cell for name, cell in zip(rows[0], row, strict=True) if name not in WALL_CLOCK] for row in rows
            ]
    return found
