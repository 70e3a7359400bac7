"""What a user asks of Slurm for each job, as `--slurm KEY=VALUE` with the names of sbatch's long options."""

import dataclasses
import re
from collections.abc import Mapping, Sequence

from sweeps.errors import InputError

# Minutes of a job for which no time is asked, and the fewest. The last 90 seconds are for saving, and Slurm may send
# its signal a minute before them. In what is left a job watches the pack of a dead one for two minutes before it takes
# it: jobs of four minutes were queued again, over and over, just before they would have.
USUAL_MINUTES, FEWEST_MINUTES = 60, 6
# Options of sbatch that isogap sets itself, and what says the same to isogap.
OURS = {
    "array": "--workers", "ntasks": "one task a job", "ntasks-per-node": "one task a job", "nodes": "one node a job",
    "output": "DIR/slurm", "error": "DIR/slurm", "signal": "none", "requeue": "none", "no-requeue": "none",
}  # fmt: skip
# Options of sbatch that stand without a value; any other would swallow the next line of the script.
ALONE = ("contiguous", "exclusive", "overcommit", "oversubscribe", "reboot", "spread-job", "use-min-nodes")
# How the names of options begin that may ask for GPUs, in their names or values.
GPU_OPTIONS = ("gpus", "gres", "tres")


@dataclasses.dataclass(frozen=True)
class Asked:
    """What the user asks of Slurm for each job.

    Attributes:
        options: option of sbatch -> its value; True for an option without one.
        minutes: the time limit.
        cores: number of cores.
        gpus: whether it has GPUs.
        memory: bytes of memory; None if not asked for.
    """

    options: Mapping[str, str | bool]
    minutes: int
    cores: int
    gpus: bool
    memory: int | None


def asked_of(given: Sequence[str]) -> Asked:
    """What `--slurm KEY=VALUE ...` asks for.

    Raises:
        InputError: an option that isogap sets itself, or a number that sbatch would not take.
    """
    options: dict[str, str | bool] = {}
    for each in given:
        key, equals, value = each.lstrip("-").partition("=")
        key = key.strip().replace("_", "-")
        whole = value.strip() if equals else key in ALONE
        if not re.fullmatch("[a-z][a-z0-9-]+", key) or not whole:
            raise InputError("--slurm", "value", each, "KEY=VALUE, a long option of sbatch, e.g. partition=gpu")
        if key in OURS:
            raise InputError("--slurm", key, value, f"nothing: isogap sets it ({OURS[key]})")
        options[key] = whole
    text = str(options.get("cpus-per-task", 1))
    if not text.isdecimal() or not int(text):
        raise InputError("--slurm", "cpus-per-task", text, "a number of cores")
    gpus = any(key.startswith(GPU_OPTIONS) and "gpu" in f"{key}={value}" for key, value in options.items())
    memory = _bytes(str(options["mem"])) if "mem" in options else None
    return Asked(options, _minutes(str(options.get("time", USUAL_MINUTES))), int(text), gpus, memory)


def _minutes(text: str) -> int:
    """A time limit in a form of sbatch: MINUTES[:SECONDS], HOURS:MINUTES:SECONDS, DAYS-HOURS[:MINUTES[:SECONDS]]."""
    days, dash, clock = text.rpartition("-")
    parts = clock.split(":")
    if all(part.isdecimal() for part in (*parts, *([days] if dash else []))) and len(parts) <= 3:
        numbers = list(map(int, parts))
        if not dash and len(numbers) < 3:
            numbers.insert(0, 0)
        hours, minutes, seconds = (*numbers, 0, 0)[:3]
        total = -(-(((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds) // 60)
        if total >= FEWEST_MINUTES:
            return total
    expected = f"at least {FEWEST_MINUTES} minutes as sbatch takes them, e.g. 60, 2:00:00 or 1-12:00:00"
    raise InputError("--slurm", "time", text, expected)


def _bytes(text: str) -> int:
    found = re.fullmatch(r"(\d+)([KMGT]?)B?", text, re.IGNORECASE)
    if found is None or not int(found[1]):
        raise InputError("--slurm", "mem", text, "memory as sbatch takes it, e.g. 16G")
    return int(found[1]) * 1024 ** ("KMGT".index(found[2].upper() or "M") + 1)
