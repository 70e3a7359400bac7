"""Sweeps on a real Slurm of two nodes on this machine: jobs killed, requeued, suspended, timed out, and a node lost."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from harness.record.status import read_status, run_folder
from harness.record.sweep_folder import read_configs

ROOT = Path(__file__).parents[3]
PATIENCE = 240.0
# The daemons need no installed configuration, no key, and no rights but those of the user.
CONF = """
ClusterName=isogap
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/none
CredType=cred/none
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/control.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/control.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/builtin
ReturnToService=2
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
KillWait=20
NodeName=one NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 State=UNKNOWN
NodeName=two NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 State=UNKNOWN
PartitionName=main Nodes=one,two Default=YES MaxTime=INFINITE State=UP
"""
# Read by every Python process of a job: it saves and reports often, and takes a holder for dead soon, so that three
# minutes suffice for a job, which `isogap run` on the login node allows here. As long as the
# file `halt` is beside the sweep's folder, training stands still after 200 turns, but for a last dispatch when it is
# told to stop. A run in the file `condemned` kills who trains it.
SITE = """
import os, signal, sys, time
from harness.launch import slurm_options
slurm_options.FEWEST_MINUTES = 3
if "SLURM_JOB_ID" in os.environ:
    from harness.launch import slurm_job
    from harness.record import heartbeat, leases
    leases.BEAT_SECONDS, leases.DEAD_SECONDS, slurm_job.SEEK_SECONDS, heartbeat.HEARTBEAT_SECONDS = 0.2, 4.0, 0.2, 0.1
    if any("spawn_main" in argument for argument in sys.orig_argv):
        from harness.train import pack
        pack.SAVE_SECONDS, pack.REPORT_SECONDS = 0.5, 0.05
        dispatch = pack.Training.dispatch
        def halt_or_die(training, evaluations):
            beside = training.session.out.with_name
            while beside("halt").exists() and not training.stop() and max(s.turn for s in training.live()) > 200:
                time.sleep(0.05)
            begun = [slot.config.run_id for slot in training.live() if slot.turn > 40]
            if beside("condemned").exists() and beside("condemned").read_text() in begun:
                os.kill(os.getpid(), signal.SIGKILL)
            return dispatch(training, evaluations)
        pack.Training.dispatch = halt_or_die
"""


def job_of(environment: dict[str, str]) -> str:
    """ARRAY_TASK as Slurm shows it."""
    return "_".join(environment.get(f"SLURM_ARRAY_{name}_ID", "") for name in ("JOB", "TASK"))


@dataclass(frozen=True)
class Cluster:
    """Attributes:
    env: of its commands and of the login node's `isogap`.
    """

    env: dict[str, str]

    def call(self, *command: object) -> str:
        """What a command of Slurm answers."""
        done = subprocess.run(list(map(str, command)), env=self.env, text=True, capture_output=True, timeout=60)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def processes(self, job: str | None = None) -> list[psutil.Process]:
        """The processes that run Python for a job, or for any."""
        found = []
        for process in psutil.process_iter():
            try:
                theirs = process.environ()
                if theirs.get("SLURM_CONF") == self.env["SLURM_CONF"] and "python" in process.name():
                    if "SUBMITIT_EXECUTOR" in theirs and job in (None, job_of(theirs)):
                        found.append(process)
            except psutil.Error:
                continue
        return found

    def told(self) -> str:
        """The ends of the logs of Slurm's daemons."""
        return "\n".join(log.read_text()[-3000:] for log in Path(self.env["SLURM_CONF"]).parent.glob("*.log"))

    def start_now(self, *jobs: str) -> None:
        """Let requeued jobs, whose last start has ended, start now and not in the two minutes that Slurm leaves them.

        A node refuses a job whose credential is of the second in which its last start was killed ("Job credential
        revoked"), and the job fails: seen in two of eight starts.
        """
        time.sleep(1.5)
        for job in jobs:
            self.call("scontrol", "update", f"job={job}", "starttime=now")


def wait_until(condition: Callable[[], object], why: Callable[[], str]) -> None:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < PATIENCE, why()
        time.sleep(0.05)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
    daemons = [shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") for name in ("slurmctld", "slurmd")]
    if None in daemons or shutil.which("sbatch") is None:
        pytest.skip("Slurm is not installed (Debian: apt-get install slurm-wlm)")
    control, node = map(str, daemons)
    folder = Path(tempfile.mkdtemp(prefix="slurm", dir="/tmp"))
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    for name in ("state", "one", "two", "site"):
        (folder / name).mkdir()
    (folder / "site" / "sitecustomize.py").write_text(SITE)
    user, host = psutil.Process().username(), socket.gethostname().partition(".")[0]
    (folder / "slurm.conf").write_text(CONF.format(host=host, user=user, folder=folder, ports=ports))
    path = os.pathsep.join(map(str, (folder / "site", ROOT)))
    env = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PYTHONPATH": path}
    started: list[subprocess.Popen] = []
    try:
        for command in ([control, "-D"], [node, "-D", "-N", "one"], [node, "-D", "-N", "two"]):
            started.append(subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        made = Cluster(env)
        idle = ["sinfo", "--noheader", "--format=%D %t"]

        def up() -> bool:
            answer = subprocess.run(idle, env=env, text=True, capture_output=True).stdout
            return answer.strip() == "2 idle"

        wait_until(up, made.told)
        yield made
        subprocess.run(["scancel", "--user", user], env=env)
        wait_until(lambda: not made.processes(), made.told)
    finally:
        for daemon in reversed(started):
            daemon.terminate()
            daemon.wait(PATIENCE)
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Sweep:
    """A sweep of the laboratory's spec that an array trains, with the packing of one that this process has trained."""

    cluster: Cluster
    lab_spec: Path
    cache: Path
    out: Path

    def isogap(self, *arguments: object) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "harness", *map(str, arguments)]
        return subprocess.run(command, env=self.cluster.env, cwd=ROOT, text=True, capture_output=True, timeout=PATIENCE)

    def command(self, jobs: int) -> list[object]:
        """The arguments of `isogap run` with an array of jobs."""
        where = ["--out", self.out, "--cache", self.cache]
        return ["run", self.lab_spec, *where, "--executor", "slurm", "--workers", jobs]

    def submit(self, jobs: int, *options: object) -> list[str]:
        """`isogap run` with an array of jobs; the jobs that run or wait after it."""
        done = self.isogap(*self.command(jobs), *options)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        assert f": jobs: {jobs}, packs of runs: " in done.stdout
        return [job["job"] for job in self.status()["slurm"]]

    def status(self) -> dict:
        return json.loads(self.isogap("status", self.out, "--json").stdout)

    def logs(self) -> str:
        """What the jobs and Slurm said, and how Slurm's jobs stand."""
        jobs = [path.read_text() for path in sorted((self.out / "slurm").glob("*.out"))]
        return "\n".join([*jobs, self.cluster.told(), self.cluster.call("scontrol", "show", "job")])

    def states(self) -> list[str]:
        folders = [(run_folder(self.out, run.run_id), run.steps) for run in read_configs(self.out)]
        return [read_status(folder, steps).state for folder, steps in folders]

    def steps(self) -> int:
        return sum(read_status(folder, 0).step for folder in (self.out / "runs").glob("*"))

    def queued(self) -> list[str]:
        """Slurm's jobs with their states."""
        return self.cluster.call("squeue", "--noheader", "--array", "--format=%i %T").splitlines()

    def both_train(self) -> list[str]:
        """The jobs that hold a pack, once two of them do and both have begun."""

        def holders() -> list[str]:
            names = [path.name.split(".") for path in (self.out / "queue").glob("0*.job-*")]
            return [holder.split("-")[1] for _, _, holder, _ in names]

        def begun() -> bool:
            return len(holders()) == 2 and self.states().count("running") >= 3 and self.steps() > 40

        wait_until(begun, self.logs)
        return holders()

    def ends(self) -> None:
        """Wait until the jobs have trained everything. A requeued job may still wait, for two minutes or so."""
        wait_until(lambda: not (self.out / "queue").exists(), self.logs)
        wait_until(lambda: not any("PENDING" not in line for line in self.queued()), self.logs)


@pytest.fixture
def sweep(cluster, lab, finished, tmp_path) -> Iterator[Sweep]:
    out = tmp_path / "out"
    out.mkdir()
    shutil.copy(finished / "packing.json", out)
    (tmp_path / "halt").touch()
    made = Sweep(cluster, lab.spec, lab.cache, out)
    yield made
    for line in made.queued():
        cluster.call("scancel", line.split()[0])
    wait_until(lambda: not made.queued(), made.logs)


@pytest.fixture
def go_on(tmp_path) -> Callable[[], None]:
    """Let the jobs train to the end from now on."""
    return (tmp_path / "halt").unlink


@pytest.mark.slow
def test_an_array_records_what_one_process_does(sweep, go_on, finished, tables):
    jobs = sweep.submit(2)
    assert len(jobs) == 2
    told = sweep.isogap("status", sweep.out).stdout
    assert f"Slurm array {jobs[0].partition('_')[0]}: " in told and all(job in told for job in jobs)
    sweep.both_train()
    live = sweep.status()
    assert live["progress"]["live"] and {job["state"] for job in live["slurm"]} == {"running"}
    assert sum(row["state"] == "running" for row in live["runs"]) >= 3
    for command in (sweep.command(1), sweep.command(1)[:-4]):
        refused = sweep.isogap(*command)
        assert refused.returncode == 2 and refused.stderr.count("\n") == 1
        assert "2 running" in refused.stderr and "scancel" in refused.stderr
    go_on()
    sweep.ends()
    assert tables(sweep.out) == tables(finished) and not (sweep.out / "checkpoints").exists()
    over = sweep.status()
    assert over["killed"] == [] and over["slurm"] == [] and not over["progress"]["live"]
    assert over["progress"]["eta_seconds"] == 0
    again = sweep.isogap(*sweep.command(2))
    assert again.returncode == 3 and "submitted" not in again.stdout and not sweep.queued()


@pytest.mark.slow
def test_a_killed_job_is_replaced_by_the_other(sweep, go_on, cluster, finished, tables):
    sweep.submit(2)
    victim, _ = sweep.both_train()
    for process in cluster.processes(victim):
        process.kill()
    go_on()
    sweep.ends()
    assert tables(sweep.out) == tables(finished)
    (killed,) = sweep.status()["killed"]
    assert killed["name"].startswith(f"job-{victim}-") and 0 <= killed["lost_seconds"] < 60
    assert "lost to 1 killed processes" in sweep.isogap("status", sweep.out).stdout


@pytest.mark.slow
def test_a_cancelled_job_saves_and_its_pack_goes_on_with_the_other(sweep, go_on, cluster, finished, tables):
    sweep.submit(2)
    victim, _ = sweep.both_train()
    cluster.call("scancel", victim)
    wait_until(lambda: len(sweep.queued()) == 1, sweep.logs)
    go_on()
    sweep.ends()
    assert tables(sweep.out) == tables(finished)
    assert sweep.status()["killed"] == []


@pytest.mark.slow
def test_requeued_jobs_go_on(sweep, go_on, cluster, finished, tables):
    sweep.submit(2)
    by_slurm, by_signal = sweep.both_train()
    cluster.call("scontrol", "requeue", by_slurm)
    cluster.call("scancel", "--signal=USR2", by_signal)  # as Slurm does it before the time limit
    wait_until(lambda: [line.split()[1] for line in sweep.queued()] == ["PENDING"] * 2, sweep.logs)
    assert "interrupted" in sweep.states() or "running" in sweep.states()
    cluster.start_now(by_slurm, by_signal)
    go_on()
    sweep.ends()
    assert tables(sweep.out) == tables(finished)
    assert sweep.status()["killed"] == []


@pytest.mark.slow
def test_a_job_that_reaches_its_time_limit_goes_on_in_its_next_start(sweep, go_on, cluster, finished, tables):
    (job,) = sweep.submit(1, "--slurm", "time=3")
    # Slurm sends the signal 90 seconds before the limit, or up to a minute earlier.
    wait_until(lambda: "Restarts=1" in cluster.call("scontrol", "show", "job", job), sweep.logs)
    wait_until(lambda: sweep.queued() == [f"{job} PENDING"], sweep.logs)
    assert set(sweep.states()) - {"diverged", "done"} and sweep.steps() > 0
    cluster.start_now(job)
    go_on()
    sweep.ends()
    assert tables(sweep.out) == tables(finished)
    assert sweep.status()["killed"] == []


@pytest.mark.slow
def test_a_node_that_goes_down_and_comes_back(sweep, go_on, cluster, finished, tables):
    sweep.submit(2)
    sweep.both_train()
    cluster.call("scontrol", "update", "nodename=two", "state=down", "reason=test")
    wait_until(lambda: sum("RUNNING" in line for line in sweep.queued()) < 2, sweep.logs)
    # Slurm itself calls the node up again when it answers, unless it was told so before.
    subprocess.run(["scontrol", "update", "nodename=two", "state=resume"], env=cluster.env, capture_output=True)
    wait_until(lambda: "two down" not in cluster.call("sinfo", "--noheader", "--Node", "--format=%N %T"), sweep.logs)
    go_on()
    sweep.ends()
    assert tables(sweep.out) == tables(finished)


@pytest.mark.slow
def test_a_job_that_was_suspended_for_long_ends_when_it_finds_its_pack_taken(sweep, go_on, cluster, finished, tables):
    sweep.submit(2)
    victim, _ = sweep.both_train()
    stopped = cluster.processes(victim)
    for process in stopped:
        process.suspend()
    go_on()
    wait_until(lambda: not list((sweep.out / "queue").glob(f"0*.job-{victim}-*")), sweep.logs)
    for process in stopped:
        process.resume()
    wait_until(lambda: not any(process.is_running() for process in stopped), sweep.logs)
    assert "another job has taken this job's pack over" in sweep.logs()
    sweep.ends()
    assert tables(sweep.out) == tables(finished)


@pytest.mark.slow
def test_a_run_that_kills_who_trains_it_is_lost_until_it_is_retried(
    sweep, go_on, cluster, finished, finished_runs, tables, tmp_path
):
    go_on()
    guilty = finished_runs[3]
    (tmp_path / "condemned").write_text(guilty.run_id)
    sweep.submit(2)
    sweep.ends()
    states = dict(zip([run.run_id for run in finished_runs], sweep.states(), strict=True))
    assert states.pop(guilty.run_id) == "lost" and sorted(states.values()) == ["diverged"] + 4 * ["done"]
    assert read_status(run_folder(sweep.out, guilty.run_id), 0).reason == f"its process died ({signal.SIGKILL.name})"
    assert sweep.status()["killed"]
    (tmp_path / "condemned").unlink()
    sweep.submit(1, "--retry", "lost")
    sweep.ends()
    assert tables(sweep.out) == tables(finished)


@pytest.mark.slow
def test_what_sbatch_refuses_is_one_line(sweep):
    done = sweep.isogap(*sweep.command(2), "--slurm", "partition=nowhere")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "partition" in done.stderr, done.stderr
    assert not (sweep.out / "queue").exists()
