"""What isogap asks of Slurm, and what it refuses before any work, where there is no Slurm."""

import os
from pathlib import Path

import pytest

from harness.files import write_json
from harness.launch import slurm_job
from harness.launch.packing import Packing, write_packing
from harness.launch.slurm import call_off, queued_jobs, settle_for_jobs
from harness.launch.slurm_job import Job, check_gpus, platform_here, work
from harness.launch.slurm_options import asked_of
from harness.record.heartbeat import HeartbeatWriter, read_killed
from harness.record.leases import Lease, Leases, entries, lay_queue
from harness.record.status import Status, read_status, run_folder, write_status
from harness.record.sweep_folder import lay_out
from harness.train.session import Session, Stop
from sweeps.config import RunConfig
from sweeps.errors import InputError
from sweeps.grid import load
from sweeps.shape import shape_of


# From the manual of sbatch: "minutes", "minutes:seconds", "hours:minutes:seconds", "days-hours", "days-hours:minutes"
# and "days-hours:minutes:seconds".
@pytest.mark.parametrize(
    ("text", "minutes"),
    [("60", 60), ("6:01", 7), ("90:00", 90), ("1:30:00", 90), ("1-0", 1440), ("1-12", 2160), ("2-00:30", 2910),
     ("0-0:7:1", 8)],
)  # fmt: skip
def test_a_time_limit_is_read_as_sbatch_reads_it(text, minutes):
    assert asked_of([f"time={text}"]).minutes == minutes


def test_what_is_asked_of_sbatch():
    given = ["partition=gpu", "cpus_per_task=8", "--mem=16G", "gres=gpu:a100:2", "exclusive", "comment=a=b"]
    asked = asked_of(given)
    assert asked.options == {
        "partition": "gpu", "cpus-per-task": "8", "mem": "16G", "gres": "gpu:a100:2", "exclusive": True,
        "comment": "a=b",
    }  # fmt: skip
    assert (asked.cores, asked.gpus, asked.memory, asked.minutes) == (8, True, 16 * 2**30, 60)
    assert asked_of(["tres-per-task=gres/gpu:1"]).gpus and not asked_of(["partition=gpu", "gres=nvme:1"]).gpus
    plain = asked_of(["mem=500"])
    assert (plain.cores, plain.gpus, plain.memory) == (1, False, 500 * 2**20)


@pytest.mark.parametrize(
    ("given", "field"),
    [("time=5", "time"), ("time=1:2:3:4", "time"), ("time=a-1", "time"), ("mem=much", "mem"), ("mem=0", "mem"),
     ("cpus-per-task=0", "cpus-per-task"), ("array=0-3", "array"), ("nodes=2", "nodes"), ("ntasks=2", "ntasks"),
     ("partition=", "value"), ("partition", "value"), ("=gpu", "value"), ("Two words=1", "value"),
     ("requeue=1", "requeue")],
)  # fmt: skip
def test_options_that_are_refused(given, field):
    with pytest.raises(InputError, match=f"^--slurm: {field}: got "):
        asked_of([given])


@pytest.mark.parametrize(
    ("options", "field"),
    [(("--slurm", "time=60"), "--slurm"), (("--executor", "slurm"), "--workers"),
     (("--executor", "slurm", "--workers", 2), "--executor"),
     (("--executor", "slurm", "--workers", 2, "--max-minutes", 1), "--max-minutes"),
     (("--executor", "slurm", "--workers", 2, "--slurm", "time=none"), "--slurm"),
     (("--executor", "slurm", "--hosts", "auto"), "--hosts"), (("--executor", "moon"), "--executor"),
     (("--retry", "failed,done"), "--retry")],
)  # fmt: skip
def test_commands_that_are_refused_before_any_work(options, field, lab, isogap, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))  # where no sbatch is
    ended = isogap("run", lab.spec, "--out", tmp_path / "out", "--cache", lab.cache, *options)
    assert ended.status == 2 and ended.err.startswith(f"isogap: {field}: ") and ended.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_nothing_is_said_of_a_queue_where_there_is_none(tmp_path, monkeypatch):
    assert queued_jobs(tmp_path) is None
    write_json(tmp_path / "slurm" / "array.json", {"array": "12"})
    monkeypatch.setenv("PATH", str(tmp_path))
    assert queued_jobs(tmp_path) is None


@pytest.mark.parametrize(
    ("body", "expected"),
    [("echo '12_0|RUNNING|1:05|node7'; echo '12_1|PENDING|0:00|(Priority)'",
      [("12_0", "running", "1:05", "node7"), ("12_1", "pending", "0:00", "Priority")]),
     ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", []), ("exit 0", []), ("exit 1", None)],
)  # fmt: skip
def test_the_queue_as_squeue_shows_it(body, expected, tmp_path, monkeypatch):
    """The formats are those that Slurm 22.05 printed."""
    squeue = tmp_path / "squeue"
    squeue.write_text(f"#!/bin/sh\n{body}\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    write_json(tmp_path / "slurm" / "array.json", {"array": "12"})
    found = queued_jobs(tmp_path)
    assert expected == (found and [(job["job"], job["state"], job["time"], job["reason"]) for job in found])
    if expected:
        with pytest.raises(InputError, match="got 'array 12: 1 running, 1 pending', expected .* scancel 12"):
            call_off(tmp_path)


@pytest.mark.parametrize("answers", [False, True])
def test_packs_of_an_array_are_taken_back_unless_a_job_has_one(answers, tmp_path, monkeypatch):
    """Whether Slurm says that there are no jobs, or does not say anything."""
    if answers:
        (tmp_path / "squeue").write_text("#!/bin/sh\n")
        (tmp_path / "squeue").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
        write_json(tmp_path / "slurm" / "array.json", {"array": "12"})
        assert queued_jobs(tmp_path) == []
    lay_queue(tmp_path, [["a"]])
    monkeypatch.setattr("harness.record.leases.BEAT_SECONDS", 0.01)
    with Leases(tmp_path, "one", lambda: pytest.fail("lost")) as leases:
        assert leases.take() is not None
        with pytest.raises(InputError, match="a job that trains"):
            call_off(tmp_path)
    call_off(tmp_path)
    assert entries(tmp_path) == []


@pytest.fixture
def runs(lab) -> tuple[RunConfig, ...]:
    """Those of the laboratory's spec: four of AdamW and two of SGD."""
    return load(str(lab.spec)).configs


@pytest.fixture
def prepared(runs, tmp_path) -> Path:
    out = tmp_path / "out"
    lay_out(out, "", runs)
    slots = {shape_of(run, 2048).signature: 2 for run in runs}
    write_packing(out, Packing(devices=2, micro_tokens=2048, slots=slots))
    return out


def test_runs_that_killed_job_after_job_are_tried_alone_and_then_lost(prepared, runs):
    runs, out = runs[:4], prepared
    ids = tuple(run.run_id for run in runs)
    HeartbeatWriter(out, name="job-7-start-0-0").write()

    def mark(*states):
        for run, state in zip(runs, states, strict=True):
            write_status(run_folder(out, run.run_id), Status(state, 7, run.steps))

    def states():
        return [read_status(run_folder(out, run.run_id), run.steps).state for run in runs]

    mark("done", "running", "running", "pending")
    (pack,) = slurm_job._packs_of(Lease("00000", ids, 1, "job-7-start-0"), runs, out)
    assert (
        pack.runs == tuple(runs) and pack.slots == 2 and states() == ["done", "interrupted", "interrupted", "pending"]
    )
    assert [killed.name for killed in read_killed(out)] == ["job-7-start-0-0"]
    mark("done", "running", "running", "pending")
    packs = slurm_job._packs_of(Lease("00000", ids, slurm_job.JOB_DEATHS, "job-8-start-0"), runs, out)
    assert [pack.runs for pack in packs] == [(runs[1],), (runs[2],), (runs[3],)]
    mark("done", "interrupted", "running", "pending")
    (pack,) = slurm_job._packs_of(Lease("00000", ids, slurm_job.JOB_DEATHS + 1, "job-9-start-0"), runs, out)
    assert pack.runs == (runs[1], runs[3]) and states() == ["done", "interrupted", "lost", "pending"]
    assert read_status(run_folder(out, ids[2]), 0).reason == f"its job died {slurm_job.JOB_DEATHS + 1} times"


def test_gpus_need_a_packing_that_a_node_has_settled(prepared, runs, tmp_path):
    session = Session(prepared, tmp_path, slurm=("gpus=1", "partition=a b", "exclusive"))
    packing, devices = settle_for_jobs(runs, session)
    assert packing.devices == 2 and devices == ["cpu cpu"] * 2
    write_json(prepared / "environment.json", {"devices": ["gpu NVIDIA H100"]})
    assert settle_for_jobs(runs, session)[1] == ["gpu NVIDIA H100"]
    with pytest.raises(
        InputError, match="--slurm: gpus: got 'none', expected jobs with GPUs.* has begun on gpu NVIDIA H100"
    ):
        settle_for_jobs(runs, Session(prepared, tmp_path))
    (prepared / "packing.json").unlink()
    with pytest.raises(InputError, match="json: slots: .* srun --gpus=1 '--partition=a b' --exclusive isogap run "):
        settle_for_jobs(runs, session)
    write_json(prepared / "environment.json", {"devices": ["cpu cpu"]})
    with pytest.raises(
        InputError, match="--slurm: gpus: got 'some', expected jobs without GPUs.* has begun on cpu cpu"
    ):
        settle_for_jobs(runs, session)


@pytest.mark.parametrize(
    ("variables", "found", "refused"),
    [({"SLURM_STEP_GPUS": "0"}, "cpu", True), ({"SLURM_JOB_GPUS": "2,3"}, "cpu", True), ({}, "cpu", False),
     ({"SLURM_STEP_GPUS": "0"}, "gpu", False), ({"SLURM_STEP_GPUS": "0", "JAX_PLATFORMS": "cpu"}, "cpu", False)],
)  # fmt: skip
def test_gpus_of_a_job_that_jax_does_not_find_are_complained_of(variables, found, refused, monkeypatch):
    for name in ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS", "JAX_PLATFORMS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if refused:
        with pytest.raises(InputError, match="Slurm: GPUs of this job: got 'device .*isogap\\[cuda\\]"):
            check_gpus(lambda: found)
    else:
        check_gpus(lambda: found)


def test_a_job_asks_another_process_for_its_devices(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert platform_here() == "cpu"


def test_what_sbatch_refuses_is_told_in_one_line(lab, isogap, tmp_path, monkeypatch):
    """The two complaints are those that Slurm 22.05 printed."""
    pytest.importorskip("submitit")
    complaints = ("invalid partition specified: moon", "Batch job submission failed: Invalid partition name specified")
    lines = "\n".join(f"echo 'sbatch: error: {complaint}' >&2" for complaint in complaints)
    # submitit asks for srun before it calls sbatch, and there need be no Slurm here.
    for name, script in (("sbatch", f"{lines}\nexit 1"), ("srun", "exit 1")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    where = ("--out", tmp_path / "out", "--cache", lab.cache)
    asked = ("--executor", "slurm", "--workers", 2, "--slurm", "partition=moon")
    ended = isogap("run", lab.spec, *where, *asked)
    expected = f"isogap: --slurm: value: got 'partition=moon', expected what sbatch takes ({complaints[0]})\n"
    assert (ended.status, ended.err) == (2, expected) and "sbatch" not in ended.out


def test_cores_of_a_job_decide_on_devices_and_its_memory_on_slots(prepared, runs, tmp_path):
    def settled(*options: str) -> Packing:
        (prepared / "packing.json").unlink(missing_ok=True)
        return settle_for_jobs(runs, Session(prepared, tmp_path, slurm=options))[0]

    assert settled("cpus-per-task=4", "mem=64G").devices == 4 and settled().devices == 1
    assert max(settled("cpus-per-task=2", "mem=64G").slots.values()) == 2
    assert set(settled("cpus-per-task=2", "mem=1K").slots.values()) == {1}


def test_a_job_without_packs_ends_and_clears_up(prepared, tmp_path, capsys):
    lay_queue(prepared, [])
    (prepared / "checkpoints").mkdir()
    work(Session(prepared, tmp_path), frozenset(), 1, "job-1-start-0", Stop())
    assert not (prepared / "queue").exists() and (prepared / "checkpoints").exists()
    assert "6 pending" in capsys.readouterr().out
    work(Session(prepared, tmp_path), frozenset(), 1, "job-2-start-0", Stop())  # it began when all was over


def test_a_job_that_is_queued_again_does_the_same(tmp_path):
    submitit = pytest.importorskip("submitit")
    job = Job(Session(tmp_path, tmp_path), frozenset({"a"}), 2)
    again = job.checkpoint(3)
    assert isinstance(again, submitit.core.utils.DelayedSubmission) and (again.function, again.args) == (job, (3,))
    assert os.environ.get("SLURM_JOB_ID") is None
