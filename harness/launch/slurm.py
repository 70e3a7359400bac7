"""Running a sweep on a Slurm cluster, on the login node: an array of jobs is submitted, and shown while it runs.

This process prepares everything, submits the array, and leaves. What each job does stands in
`harness.launch.slurm_job`. All nodes see the sweep's folder, the cache and isogap under the same paths.
"""

import contextlib
import dataclasses
import io
import logging
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console

from harness.files import is_local, read_object, write_json
from harness.launch.packing import Packing, memory_limit_of, read_packing, settle_packing
from harness.launch.slurm_job import Job
from harness.launch.slurm_options import Asked, asked_of
from harness.processes import search_path
from harness.record.heartbeat import clear_heartbeats
from harness.record.leases import BEAT_SECONDS, lay_queue, withdraw
from harness.train.session import Session
from sweeps.calibration import TWO_CORES
from sweeps.config import RunConfig
from sweeps.errors import InputError
from sweeps.packs import Pack, by_shape

# How often a job that has reached its time limit is queued again, so that one that gets nowhere ends some day.
RESTARTS = 100


def check_slurm(session: Session) -> None:
    """Refuse what jobs of Slurm cannot do, before any work.

    Raises:
        InputError: no Slurm here, submitit is not installed, a folder that is not on a disk, or options that say
            something else.
    """
    if session.executor != "slurm":
        if session.slurm:
            raise InputError("--slurm", "value", " ".join(session.slurm), "--executor slurm beside it")
        return
    asked_of(session.slurm)
    if session.max_minutes is not None:
        raise InputError("--max-minutes", "value", session.max_minutes, "--slurm time=MINUTES, the limit of each job")
    if session.workers is None:
        expected = "a number of jobs beside --executor slurm, e.g. --workers 4"
        raise InputError("--workers", "value", None, expected)
    if not is_local(session.out):
        raise InputError("--out", "value", session.out, "a folder on a disk that all nodes see")
    if shutil.which("sbatch") is None:
        raise InputError("--executor", "value", "slurm", "a machine with Slurm: there is no sbatch")
    try:
        import submitit  # noqa: F401
    except ModuleNotFoundError:
        raise InputError("--executor", "value", "slurm", "the package submitit: pip install 'isogap[slurm]'") from None


def call_off(out: Path) -> None:
    """Take back the packs that an earlier array has left, so that this process alone decides who trains them.

    Called by the holder of the sweep's lock.

    Raises:
        InputError: a job of that array trains, or waits to begin.
    """
    waiting = queued_jobs(out)
    if waiting:
        array, states = waiting[0]["array"], Counter(job["state"] for job in waiting)
        summary = ", ".join(f"{count} {state}" for state, count in states.items())
        end = f"wait until these have ended, or end them with scancel {array}; they save first"
        raise InputError(out, "slurm", f"array {array}: {summary}", f"no jobs that train this sweep: {end}")
    # Where Slurm answers, a look of some beats suffices: only a job that Slurm has lost sight of could be alive.
    if not (withdraw(out) if waiting is None else withdraw(out, 3 * BEAT_SECONDS)):
        raise InputError(out, "queue", "a job that trains", "no job of Slurm that trains this sweep")


def queued_jobs(out: Path) -> list[dict[str, str]] | None:
    """The jobs of the sweep's last array that run or wait, as squeue shows them: array, job, state, time, and reason or
    node. None if there was no array, or if Slurm does not answer here."""
    try:
        array = str(read_object(out / "slurm" / "array.json")["array"])
        command = ["squeue", "--noheader", "--array", f"--jobs={array}", "--format=%i|%T|%M|%R"]
        told = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, ValueError, LookupError, TypeError, subprocess.TimeoutExpired):
        return None
    if told.returncode and "Invalid job id" not in told.stderr:  # Slurm has forgotten an array that ended
        return None
    rows = [line.strip().split("|", 3) for line in told.stdout.splitlines() if line.count("|") >= 3]
    return [
        {"array": array, "job": job, "state": state.lower(), "time": spent, "reason": reason.strip("()")}
        for job, state, spent, reason in rows
    ]


def settle_for_jobs(runs: Sequence[RunConfig], session: Session) -> tuple[Packing, list[str]]:
    """How the runs are packed on a node, and the devices there in words; nothing is measured on the login node.

    What DIR/packing.json says holds. For new shapes the cores of a job are assumed to be typical ones. There is no such
    assumption for GPUs: a node with GPUs must have settled it.

    Raises:
        InputError: the jobs have GPUs and packing.json lacks some of the shapes, or it is damaged; or the sweep has
            begun on another kind of device.
    """
    out, asked = session.out, asked_of(session.slurm)
    try:
        devices = [str(device) for device in read_object(out / "environment.json")["devices"]]
    except (OSError, ValueError, LookupError, TypeError):
        devices = []
    if devices and asked.gpus == devices[0].startswith("cpu"):
        begun = f"this sweep has begun on {devices[0]}; or a new --out folder"
        if asked.gpus:
            raise InputError("--slurm", "gpus", "some", f"jobs without GPUs, because {begun}")
        raise InputError("--slurm", "gpus", "none", f"jobs with GPUs, e.g. gpus=1, because {begun}")
    usual = dataclasses.replace(TWO_CORES, device=f"{asked.cores} CPU cores", devices=asked.cores)
    recorded = read_packing(out)
    known = {} if recorded is None else recorded.slots
    shapes = by_shape(runs, recorded.micro_tokens if recorded else usual.micro_tokens)
    if asked.gpus and any(shape.signature not in known for shape in shapes):
        options = " ".join(
            f"--{key}" if value is True else shlex.quote(f"--{key}={value}") for key, value in asked.options.items()
        )
        settle = f"srun {options} isogap run SWEEP --out {shlex.quote(str(out))} --max-minutes 0"
        raise InputError(out / "packing.json", "slots", "nothing for some shapes", f"what a GPU node settles: {settle}")
    memory = memory_limit_of("cpu") if asked.memory is None else asked.memory // 2
    packing = settle_packing(out, runs, usual, memory // _processes(asked, usual.devices))
    return packing, devices or ["cpu cpu"] * packing.devices


def _processes(asked: Asked, devices: int) -> int:
    """How many processes of a job train: one with all the GPUs, or as many as have `devices` cores each."""
    return 1 if asked.gpus else max(1, asked.cores // devices)


def submit(packs: Sequence[Pack], session: Session, ended_before: Iterable[str], console: Console) -> None:
    """Submit an array of jobs that train these packs, and say how to watch it.

    Raises:
        InputError: sbatch refuses the options.
    """
    import submitit
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    out, asked = session.out, asked_of(session.slurm)
    jobs = min(session.workers or 1, len(packs))  # one without a pack would end at once
    logging.getLogger("submitit").setLevel(logging.ERROR)
    folder = out / "slurm"
    executor = submitit.SlurmExecutor(folder, RESTARTS, python=f"{shlex.quote(sys.executable)} -P")
    executor.update_parameters(
        job_name="isogap",
        time=asked.minutes,
        stderr_to_stdout=True,
        setup=[f"export PYTHONPATH={shlex.quote(search_path())}"],
        # Since Slurm 22.05 a step does not inherit the number of cores.
        srun_args=[f"--cpus-per-task={asked.cores}"] if "cpus-per-task" in asked.options else [],
        additional_parameters=dict(asked.options),
    )
    clear_heartbeats(out)
    lay_queue(out, [[run.run_id for run in pack.runs] for pack in packs])
    job = Job(session, frozenset(ended_before), _processes(asked, session.devices))
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # submitit repeats there what sbatch says
            submitted = executor.map_array(job, range(jobs))
    except (FailedJobError, FailedSubmissionError, OSError) as error:
        withdraw(out, patience=0)
        reason = _complaint_of(str(error))
        raise InputError("--slurm", "value", " ".join(session.slurm), f"what sbatch takes ({reason})") from None
    array = submitted[0].job_id.partition("_")[0]
    write_json(folder / "array.json", {"array": array, "jobs": jobs, "slurm": list(session.slurm)})
    for line in (
        f"submitted array {array}: jobs: {jobs}, packs of runs: {len(packs)}; this command has done its part",
        f"watch it: isogap status {shlex.quote(str(out))}; what the jobs say: {folder}/{array}_*.out",
        f"stop it: scancel {array}; then or later the same command goes on where it stood",
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _complaint_of(told: str) -> str:
    """The first complaint in what sbatch printed, in one line; the others follow from it."""
    for line in told.splitlines():
        if line.startswith("sbatch: "):
            return line.removeprefix("sbatch: ").removeprefix("error: ").strip()
    return " ".join(told.split())
