"""Sweeps on a Ray cluster of two nodes, real ones on this machine: a node killed, a driver stopped or killed."""

import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml

from harness.launch import ray_cluster
from harness.launch.queue import PackQueue
from harness.launch.ray_cluster import run_packs_on_ray
from harness.record.status import read_status, run_folder
from harness.record.sweep_folder import read_configs
from harness.train.session import Session
from sweeps.errors import InputError

ROOT = Path(__file__).parents[3]
PATIENCE = 120.0
# Read by every Python process of the cluster: those that will run tasks save and report often, and kill themselves once
# a pack trains whose runs a file beside the sweep's folder condemns.
SITE = """
import os, signal, sys
if any("default_worker" in argument for argument in sys.orig_argv):
    from harness.train import pack
    pack.SAVE_SECONDS, pack.REPORT_SECONDS = 0.25, 0.02
    dispatch = pack.Training.dispatch
    def dispatch_or_die(training, evaluations):
        out, ids = training.session.out, [run.run_id for run in training.pack.runs]
        condemned = out.with_name("condemned")
        if condemned.exists() and set(ids) <= set(condemned.read_text().split()):
            with open(out.with_name("killed"), "a") as file:
                print(*sorted(ids), file=file, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return dispatch(training, evaluations)
    pack.Training.dispatch = dispatch_or_die
"""


@dataclass(frozen=True)
class Cluster:
    """Attributes:
    address: of its head.
    nodes: the command that holds each node up, the head's first.
    env: of its commands and drivers, with a token of its own, whatever the user's clusters have.
    start_node: adds a node of one core.
    """

    address: str
    env: dict[str, str]
    nodes: list[subprocess.Popen]
    start_node: Callable[[], None]

    def tasks(self) -> list[psutil.Process]:
        """The processes that train now."""
        below = (child for node in self.nodes for child in psutil.Process(node.pid).children(recursive=True))
        return [process for process in below if any(ray_cluster.TASK_NAME in part for part in command_of(process))]


def command_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def wait_until(condition: Callable[[], object], why: str) -> None:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < PATIENCE, why
        time.sleep(0.02)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    site = tmp_path_factory.mktemp("site")
    (site / "sitecustomize.py").write_text(SITE)
    # Ray puts sockets below it, whose names must not be longer than 107 characters.
    temporary = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    nodes: list[subprocess.Popen] = []
    log = site / "ray.log"
    env = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "PYTHONPATH": str(ROOT)}

    def start_node() -> None:
        where = [f"--address={address}"]
        if not nodes:
            where = ["--head", f"--port={address.split(':')[1]}", "--include-dashboard=false"]
            where += [f"--temp-dir={temporary}", "--disable-usage-stats"]
        ray = [sys.executable, "-m", "ray.scripts.scripts"]
        command = [*ray, "start", "--block", "--num-cpus=1", "--num-gpus=0", *where]
        with open(log, "w") as file:
            process = subprocess.Popen(
                command, env=env | {"PYTHONPATH": f"{site}:{ROOT}"}, stdout=file, stderr=file, start_new_session=True
            )
        nodes.append(process)
        wait_until(lambda: "will now block" in log.read_text() or process.poll() is not None, f"see {log}")
        assert process.poll() is None, log.read_text()

    try:
        start_node()
        start_node()
        yield Cluster(address, env, nodes, start_node)
    finally:
        for node in reversed(nodes):
            node.terminate()
        for node in nodes:
            node.wait(PATIENCE)
        shutil.rmtree(temporary, ignore_errors=True)


@pytest.fixture(scope="module")
def long_spec(lab, tmp_path_factory) -> Path:
    """Four runs in two packs that train for long enough to be met in the midst."""
    spec = yaml.safe_load(lab.spec.read_text())
    spec["blocks"] = [{"defaults": {"tokens": 320_000, "epochs": 9, "lr": 0.003}, "seeds": 4}]
    path = tmp_path_factory.mktemp("long") / "long.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


@pytest.fixture(scope="module")
def long_finished(lab, long_spec, call_isogap, tmp_path_factory) -> Path:
    """Its folder, run here and undisturbed."""
    out = tmp_path_factory.mktemp("finished") / "sweep"
    assert call_isogap("run", long_spec, "--out", out, "--cache", lab.cache) == 0
    return out


@pytest.fixture
def drive(lab, cluster, ended_children, foreign_folder) -> Callable[..., subprocess.Popen]:
    """`isogap run` of a sweep on the cluster in a process of its own, from a folder with packages of isogap's names."""

    def start(out: Path, spec: Path = lab.spec) -> subprocess.Popen:
        where = ["--out", out, "--cache", lab.cache, "--executor", "ray", "--address", cluster.address]
        command = [sys.executable, str(lab.child), "run", str(spec), *map(str, where)]
        ended_children.append(
            subprocess.Popen(
                command, cwd=foreign_folder, env=cluster.env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        )
        return ended_children[-1]

    return start


def steps_done(out: Path) -> int:
    return sum(read_status(folder, 0).step for folder in (out / "runs").glob("*"))


def finish(child: subprocess.Popen) -> tuple[int, str, str]:
    out, err = child.communicate(timeout=PATIENCE)
    return child.returncode, out, err


@pytest.fixture(scope="module")
def rng() -> random.Random:
    seed = int(os.environ.get("ISOGAP_KILL_SEED") or random.SystemRandom().randrange(10**6))
    print(f"ISOGAP_KILL_SEED={seed}")
    return random.Random(seed)


def wait_until_both_train(out: Path, tasks: Callable[[], list], driver: subprocess.Popen, share: float) -> None:
    """Each node one of the two packs, and of all steps a share done."""
    wait_until(lambda: len(tasks()) == 2 or driver.poll() is not None, "two packs do not train at once")
    total = sum(run.steps for run in read_configs(out))
    wait_until(lambda: steps_done(out) >= share * total or driver.poll() is not None, "it does not train")
    assert driver.poll() is None, driver.communicate()


@pytest.mark.slow
def test_a_node_killed_mid_run_changes_nothing_in_the_tables(
    cluster, drive, long_spec, long_finished, tables, rng, tmp_path
):
    out = tmp_path / "out"
    driver = drive(out, long_spec)
    wait_until_both_train(out, cluster.tasks, driver, rng.uniform(0.02, 0.2))
    node = cluster.nodes[1]
    (raylet,) = [p for p in psutil.Process(node.pid).children() if p.name() == "raylet"]
    lost = [task for task in cluster.tasks() if raylet in task.parents()]
    raylet.kill()
    status, _, err = finish(driver)
    assert status == 0, err
    assert len(lost) == 1
    assert tables(out) == tables(long_finished) and not (out / "checkpoints").exists()
    cluster.nodes.remove(node)
    node.wait(PATIENCE)
    cluster.start_node()


@pytest.mark.slow
def test_a_driver_stopped_or_killed_leaves_no_task_and_the_next_one_goes_on(
    cluster, drive, long_spec, long_finished, tables, rng, tmp_path
):
    out = tmp_path / "out"
    driver = drive(out, long_spec)
    wait_until_both_train(out, cluster.tasks, driver, rng.uniform(0.02, 0.1))
    began = time.monotonic()
    driver.send_signal(signal.SIGTERM)
    status, _, err = finish(driver)
    assert status == 143, err
    assert time.monotonic() - began < 10
    left = [read_status(run_folder(out, run.run_id), run.steps, live=False).state for run in read_configs(out)]
    assert "interrupted" in left and any((out / "checkpoints").glob("*/[0-9]*/state"))
    driver = drive(out, long_spec)
    wait_until_both_train(out, cluster.tasks, driver, rng.uniform(0.1, 0.2))
    tasks = cluster.tasks()
    driver.kill()
    finish(driver)
    began = time.monotonic()
    driver = drive(out, long_spec)
    wait_until(lambda: not any(task.is_running() for task in tasks), "tasks outlive their driver")
    assert len(tasks) == 2 and time.monotonic() - began < 5
    status, _, err = finish(driver)
    assert status == 0, err
    assert tables(out) == tables(long_finished)


@pytest.mark.slow
def test_a_pack_whose_processes_die_fails_with_the_reason_and_the_other_goes_on(
    cluster, drive, finished_runs, tmp_path
):
    out = tmp_path / "out"
    doomed = {run.run_id for run in finished_runs[4:]}
    (tmp_path / "condemned").write_text(" ".join(doomed))
    status, _, err = finish(drive(out))
    assert status == 3, err
    # The pack's processes twice, then those of each of its runs.
    killed = Counter((tmp_path / "killed").read_text().splitlines())
    assert killed == dict.fromkeys((" ".join(sorted(doomed)), *doomed), 2)
    statuses = {run.run_id: read_status(run_folder(out, run.run_id), run.steps) for run in finished_runs}
    for run, status in statuses.items():
        if run in doomed:
            assert status.state == "lost" and "its process died 2 times: " in status.reason
        else:
            assert status.state in ("done", "diverged")


def no_queue(parts: int) -> PackQueue:
    pytest.fail("it was about to train")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense", "ray://127.0.0.1:1", "127.0.0.1:99999"])
def test_an_address_where_no_cluster_is(address, tmp_path):
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    with pytest.raises(InputError, match="--address: value: got .*, expected auto, or HOST:PORT") as refused:
        run_packs_on_ray(no_queue, Session(tmp_path, tmp_path, address=address))
    assert "\n" not in str(refused.value)


def test_without_ray(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match="pip install 'isogap\\[ray\\]'"):
        run_packs_on_ray(no_queue, Session(tmp_path, tmp_path))


def test_a_pack_that_another_process_trains_is_waited_for(tmp_path, monkeypatch):
    lock = tmp_path / "checkpoints" / "pack.lock"
    monkeypatch.setattr(ray_cluster, "STRAY_SECONDS", 0.2)
    with ray_cluster._alone(lock, lambda: True) as alone, ray_cluster._alone(lock, lambda: True) as second:
        assert alone and not second
        with pytest.raises(InputError, match="a task of an earlier driver"):
            ray_cluster._await_strays(tmp_path)
    ray_cluster._await_strays(tmp_path)
