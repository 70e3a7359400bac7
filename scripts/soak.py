"""Disturb a sweep at random moments and show that not a number of it changes.

python scripts/soak.py --kills 50 --faults 20 --seed 1 --json

The 24 runs of scripts/soak.yaml (real text, three shapes, one of them a mixture, batches added up over several turns,
two learning rates that diverge) are trained once undisturbed, and again, with a cache of their own, by one process
after the other that is killed or meets a fault, in as many sweeps as that takes. What `isogap export` writes of all
must be equal byte for byte, wall-clock columns left out. After each disturbance: no traceback; the exit status it
should have; what had finished is finished still; nothing is told to run; and no run has failed but by the faults that
fail runs, which are tried again. Of five kills two come at a moment, two before a file operation drawn after it, and
one before one of the first file operations of a process.

FAULTS are the kinds of faults. The folder is a file system in memory where one can be mounted (by root); where not,
full disks and read-only folders are left out. Lack of memory is: it halves a pack for good, which may change last bits
(tests/harness/launch/test_faults.py has it). The exit status is 1 if anything was not as it should be.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from soak_tools import contents, damage, full, isogap, lose_power, run_arguments, steps_of, tables, wait, workers_of

from harness.cli.show_status import sweep_status
from harness.record.status import read_status
from sweeps.errors import InputError

HERE = Path(__file__).resolve().parent
BEGINNING = "kill at a first file"
KILLS = ("kill", "kill at a file", "kill", "kill at a file", BEGINNING)
FAULTS = ("damage", "power", "full disk", "stop", "clock", "second", "read-only", "measurement", "worker")
# Seconds in which a process must have ended after SIGTERM; and after any other reason to end.
STOP, PATIENCE = 10.0, 600.0
DISK = "256m"
# A process takes 1 % of the steps before it is disturbed, so that a sweep has ended after about a hundred disturbances;
# more of them are spread over several sweeps.
MOST_A_SWEEP = 100
# With --simulate: the number of schedules that a process takes at once, and the seconds between two lines of progress.
PART, TOLD = 20, 10.0


@dataclasses.dataclass(frozen=True)
class Disturbance:
    """Attributes:
    kind: one of KILLS or FAULTS.
    share: of all steps, after which it comes, and not before the process took some; None for the start of the process.
    delay: seconds after that.
    workers: processes.
    """

    kind: str
    share: float | None
    delay: float
    workers: int


def draw(kills: int, faults: int, rng: random.Random) -> list[Disturbance]:
    """In the order in which they come."""
    kinds = [KILLS[number % len(KILLS)] for number in range(kills)]
    kinds += [FAULTS[number % len(FAULTS)] for number in range(faults)]
    rng.shuffle(kinds)
    drawn = []
    for kind, share in zip(kinds, sorted(rng.uniform(0.0, 0.97) for _ in kinds), strict=True):
        starting = kind == BEGINNING or (kind not in ("kill at a file", "measurement", "worker") and rng.random() < 0.2)
        workers = 2 if kind == "worker" or ("at a" not in kind and rng.random() < 0.3) else 1
        delay = 0.0 if kind == BEGINNING else rng.uniform(0.0, 8.0 if starting else 0.5)
        drawn.append(Disturbance(kind, None if starting else share, delay, workers))
    return drawn


class Soak:
    """The disturbed sweep.

    Attributes:
        complaints: what was not as it should be.
        finished: the runs that were done; `failing` those that have failed and were not tried again yet.
        slowest: seconds from SIGTERM to the end of a process.
        done: disturbances by kind, `missed` those before whose moment the process had ended.
        damaged: whether files were.
    """

    def __init__(self, work: Path, total: int, rng: random.Random):
        self.work, self.total, self.rng = work, total, rng
        self.out, self.noted = work / "disturbed", work / "flushed"
        self.complaints: list[str] = []
        self.finished: set[str] = set()
        self.failing: set[str] = set()
        self.slowest, self.done, self.damaged = 0.0, Counter[str](), False
        self.out.mkdir(parents=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(self.out)]
        self.mounted = os.geteuid() == 0 and not subprocess.run(mount, capture_output=True).returncode

    def run_of(self, workers: int = 1) -> list[str]:
        """The arguments of `isogap run` for it."""
        options = ("--retry", "failed,lost", "--workers", str(workers))
        return run_arguments(self.out, self.work / "cache-disturbed", *options)

    def disturb(self, number: int, what: Disturbance) -> str:
        """One process, disturbed; what happened, in words."""
        if what.kind in ("full disk", "read-only") and not self.mounted:
            return f"{what.kind}: left out, no file system can be mounted"
        self.done[what.kind] += 1
        if what.kind == "read-only":
            return self.read_only()
        log, before, began = self.work / f"{number}.log", steps_of(self.out), time.monotonic()
        child = self.start(what, log)
        if what.share is not None:
            least = what.share * self.total
            wait(lambda: child.poll() is not None or before != steps_of(self.out) >= least)
        wait(lambda: child.poll() is not None, what.delay)
        at = f"{time.monotonic() - began:.1f} s after its start, {steps_of(self.out) / self.total:.1%} of the steps"
        if child.poll() is not None:
            self.done["missed"] += 1
            expected, did = (0, 3), "it had ended"
        else:
            expected, did = getattr(self, what.kind.replace(" ", "_"))(child)
        if wait(lambda: child.poll() is not None, PATIENCE) > PATIENCE:
            self.complaints.append(f"{number}: {what.kind}: it does not end")
            child.kill()
        child.wait()
        self.check(number, what, child.returncode, expected, log.read_text())
        return f"{what.kind}, {what.workers} workers, {at}: {did}; exit {child.returncode}"

    def start(self, what: Disturbance, log: Path) -> subprocess.Popen:
        told = {"out": str(self.out), "flushed": str(self.noted), "left": self.rng.randrange(60)}
        told |= {"broken": what.kind == "measurement", "clock": what.kind == "clock", "armed": what.kind == BEGINNING}
        command = [sys.executable, str(HERE / "soak_child.py"), *self.run_of(what.workers)]
        with open(log, "w") as file:
            env = os.environ | {"SOAK": json.dumps(told)}
            return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=file)

    # A disturbance returns the exit statuses the process may have, and what was done.

    def kill(self, child: subprocess.Popen) -> tuple[tuple[int, ...], str]:
        child.kill()
        return (-signal.SIGKILL,), "SIGKILL"

    clock = kill

    def kill_at_a_file(self, child: subprocess.Popen) -> tuple[tuple[int, ...], str]:
        child.send_signal(signal.SIGUSR1)  # which itself ends a process that does not listen yet
        return (-signal.SIGKILL, -signal.SIGUSR1, 0, 3), "SIGKILL before a file operation"

    def kill_at_a_first_file(self, child: subprocess.Popen) -> tuple[tuple[int, ...], str]:
        wait(lambda: child.poll() is not None, PATIENCE)
        return (-signal.SIGKILL, 0, 3), "SIGKILL before one of its first file operations"

    def stop(self, child: subprocess.Popen) -> tuple[tuple[int, ...], str]:
        child.terminate()
        seconds = wait(lambda: child.poll() is not None, PATIENCE)
        self.slowest = max(self.slowest, seconds)
        if seconds > STOP:
            self.complaints.append(f"SIGTERM was answered after {seconds:.1f} s")
        # Until something trains the signal itself ends the process, which a shell calls 143 too.
        return (143, -signal.SIGTERM), f"SIGTERM, answered after {seconds:.1f} s"

    def damage(self, child: subprocess.Popen) -> tuple[tuple[int, ...], str]:
        self.come_to_rest(child)
        did = damage(self.out, self.rng)
        if (self.out / "manifest.json").is_file():
            ended = subprocess.run(isogap("status", str(self.out)), capture_output=True, text=True)
            if ended.returncode:
                self.refused(did, ended, "manifest.json: runs: ", "delete it")
                (self.out / "manifest.json").unlink()
        return (-signal.SIGKILL,), f"SIGKILL, then {did}"

    def power(self, child: subprocess.Popen) -> tuple[tuple[int, ...], str]:
        self.come_to_rest(child)
        return (-signal.SIGKILL,), lose_power(self.out, self.noted, self.rng)

    def come_to_rest(self, child: subprocess.Popen) -> None:
        child.kill()
        child.wait()
        wait(lambda: not workers_of(self.out))
        self.damaged = True

    def full_disk(self, child: subprocess.Popen) -> tuple[tuple[int, ...], str]:
        left = self.rng.choice([0, 4096, 50_000, 500_000])
        with full(self.out, left):
            seconds = wait(lambda: child.poll() is not None, PATIENCE)
        return (2, 0, 3), f"the disk is full but for {left} bytes, it ended after {seconds:.1f} s"

    def second(self, child: subprocess.Popen) -> tuple[tuple[int, ...], str]:
        held = (self.out / "lock").is_file() and (self.out / "lock").read_text() == str(child.pid)
        if held:
            ended = subprocess.run(isogap(*self.run_of()), capture_output=True, text=True)
            self.refused("a second process", ended, f"process {child.pid}")
        self.kill(child)
        return (-signal.SIGKILL,), (
            "a second process was refused" if held else "before it held the folder"
        ) + ", SIGKILL"

    def measurement(self, child: subprocess.Popen) -> tuple[tuple[int, ...], str]:
        wait(lambda: child.poll() is not None or bool(self.failed()))
        wait(lambda: child.poll() is not None, self.rng.uniform(0.0, 1.0))
        child.kill()
        return (-signal.SIGKILL, 0, 3), f"a measurement raised, failed: {self.failed()}, SIGKILL"

    def worker(self, child: subprocess.Popen) -> tuple[tuple[int, ...], str]:
        workers = workers_of(self.out)
        for pid in self.rng.sample(workers, min(1, len(workers))):
            os.kill(pid, signal.SIGKILL)
        wait(lambda: child.poll() is not None, self.rng.uniform(0.0, 6.0))
        expected, did = ((0, 3), "it ended") if child.poll() is not None else self.stop(child)
        return expected, f"SIGKILL of one of {len(workers)}, then {did}"

    def read_only(self) -> str:
        before = contents(self.out)
        wait(lambda: not workers_of(self.out))
        subprocess.run(["mount", "-o", "remount,ro", str(self.out)], check=True)
        ended = subprocess.run(isogap(*self.run_of()), capture_output=True, text=True)
        subprocess.run(["mount", "-o", "remount,rw", str(self.out)], check=True)
        self.refused("a read-only folder", ended, str(self.out))
        if contents(self.out) != before:
            self.complaints.append("a read-only folder has changed")
        return f"read-only: exit {ended.returncode}"

    def refused(self, what: str, ended: subprocess.CompletedProcess, *words: str) -> None:
        """Complain unless it ended with status 2 and one line with these words."""
        if ended.returncode != 2 or ended.stderr.count("\n") != 1 or not all(word in ended.stderr for word in words):
            self.complaints.append(f"{what}: exit {ended.returncode}: {ended.stderr}")

    def failed(self) -> list[str]:
        return sorted(f.name for f in (self.out / "runs").glob("*") if read_status(f, 0).state in ("failed", "lost"))

    def check(self, number: int, what: Disturbance, status: int, expected: tuple[int, ...], err: str) -> None:
        bad = [] if status in expected else [f"exit {status}, expected one of {expected}"]
        bad += ["a traceback"] if "Traceback" in err else []
        bad += ["no line that names the file"] if status == 2 and "\nisogap: " not in "\n" + err else []
        rows = []
        try:
            rows = sweep_status(self.out)[0] if (self.out / "manifest.json").is_file() else []
        except InputError as error:
            bad += [] if self.damaged else [str(error)]
        states = {row["run_id"]: row["state"] for row in rows}
        bad += [f"{run} is running" for run, state in states.items() if state == "running"]
        bad += [
            f"{run} had finished, and is {states[run]}" for run in self.finished & {*states} if states[run] != "done"
        ]
        failed = {row["run_id"]: row["reason"] for row in rows if row["state"] in ("failed", "lost")}
        if what.kind not in ("measurement", "worker"):
            bad += [f"{run} failed: {reason}" for run, reason in failed.items() if run not in self.failing]
        self.failing = {*failed}
        self.finished |= {run for run, state in states.items() if state == "done"}
        self.complaints += [f"{number}: {what.kind}: {complaint}" for complaint in bad]
        if bad:
            print("\n".join([*bad, err]), file=sys.stderr)


def simulated(count: int, seed: int | None) -> int:
    """Simulate schedules on all cores, or one with its trace, and return the exit status."""
    from simulate import replay, simulate_many

    if seed is not None:
        verdict = replay(seed)
        print(*verdict.trace, *verdict.complaints, sep="\n")
        return bool(verdict.complaints)
    began = told = time.monotonic()
    cores, done, bad = len(os.sched_getaffinity(0)), 0, 0
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(cores, context) as pool:
        parts = [pool.submit(simulate_many, first, min(PART, count - first)) for first in range(0, count, PART)]
        for part in concurrent.futures.as_completed(parts):
            done = min(done + PART, count)
            for verdict in part.result():
                bad += 1
                print(
                    f"bash scripts/soak --simulate --seed {verdict.seed}: {'; '.join(verdict.complaints)}", flush=True
                )
            if (now := time.monotonic()) - told > TOLD or done == count:
                told = now
                print(f"{done} of {count} schedules, {bad} not as they should be, {now - began:.0f} s", flush=True)
    return bool(bad)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--faults", type=int, default=20)
    parser.add_argument("--seed", type=int, help="of moments and faults; one is drawn if none is given")
    parser.add_argument("--json", action="store_true", help="a JSON line on standard output, all else on the other")
    parser.add_argument(
        "--simulate", type=int, nargs="?", const=100_000, metavar="N",
        help="instead, simulate N schedules of faults (scripts/simulate.py); with --seed that one, with its trace",
    )  # fmt: skip
    args = parser.parse_args()
    if args.simulate is not None:
        sys.exit(simulated(args.simulate, args.seed))
    seed = random.SystemRandom().randrange(10**6) if args.seed is None else args.seed
    told, began = sys.stderr if args.json else sys.stdout, time.monotonic()
    work = Path(tempfile.mkdtemp(prefix="isogap-soak-"))
    out = work / "undisturbed"
    print(f"seed {seed}, in {work}", file=told, flush=True)
    status = subprocess.run(isogap(*run_arguments(out, work / "cache")), stdout=subprocess.DEVNULL).returncode
    undisturbed = time.monotonic() - began
    print(f"undisturbed: exit {status} after {undisturbed:.0f} s", file=told, flush=True)
    rng = random.Random(seed)
    expected, total, sweeps = tables(out, work), steps_of(out), -(-(args.kills + args.faults) // MOST_A_SWEEP)
    done, complaints, slowest, exits, identical = Counter[str](), [], 0.0, [status], True
    for sweep in range(sweeps):
        kills, faults = (count * (sweep + 1) // sweeps - count * sweep // sweeps for count in (args.kills, args.faults))
        drawn, soak = draw(kills, faults, rng), Soak(work / str(sweep), total, rng)
        for number, what in enumerate(drawn, 1):
            print(f"{sweep}: {number}/{len(drawn)} {soak.disturb(number, what)}", file=told, flush=True)
        exits.append(subprocess.run(isogap(*soak.run_of()), stdout=subprocess.DEVNULL).returncode)
        got = tables(soak.out, work)
        differ = [what for what in expected if expected[what] != got[what]]
        done, slowest, identical = done + soak.done, max(slowest, soak.slowest), identical and not differ
        complaints += [f"sweep {sweep}: {each}" for each in (*soak.complaints, *differ)]
        if soak.complaints or differ:  # to be looked at
            shutil.copytree(soak.out, work / f"left-{sweep}")
        if soak.mounted:
            subprocess.run(["umount", "--lazy", str(soak.out)], check=True)
    result = {
        "soak": "isogap", "seed": seed, "runs": len(list((out / "runs").glob("*"))), "sweeps": sweeps,
        "disturbances": dict(done), "exit": exits, "identical": identical, "complaints": complaints,
        "slowest_stop_s": round(slowest, 2), "undisturbed_s": round(undisturbed),
        "seconds": round(time.monotonic() - began),
    }  # fmt: skip
    bad = bool(complaints) or len(set(exits)) > 1
    print(json.dumps(result) if args.json else "\n".join(f"{name:16} {value}" for name, value in result.items()))
    if not bad:
        shutil.rmtree(work)
    sys.exit(bad)


if __name__ == "__main__":
    main()
