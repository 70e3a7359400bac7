"""Sweeps on a Ray cluster of two nodes, real ones on this machine: a node killed, a driver stopped or killed."""

import os
import random
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

from harness.launch import ray_cluster
from harness.launch.local import Stop
from harness.launch.ray_cluster import Resources, run_packs_on_ray
from harness.record.status import read_status, run_folder
from harness.record.table import read_configs
from sweeps.errors import InputError
from sweeps.packs import packs

ROOT = Path(__file__).parents[3]
PATIENCE = 120.0
# Read by every Python process of the cluster: those that will run tasks save and report often.
SITE = """
import sys
if any("default_worker" in argument for argument in sys.orig_argv):
    from harness.launch import local
    from harness.train import pack
    local.SAVE_SECONDS, pack.REPORT_SECONDS = 0.25, 0.02
"""
DRIVER = """
import os, sys
from pathlib import Path
from harness.launch import ray_cluster, sweep
address, out, spec, cache = sys.argv[1:]

def run_packs(packs, out, cache, workers, stop, fail_fast, progress):
    resources = ray_cluster.Resources(cpus=1, devices=2)
    ray_cluster.run_packs_on_ray(packs, out, cache, address, resources, stop, fail_fast, progress)

sweep.run_packs = run_packs
if __name__ == "__main__":
    from harness.cli import main
    sys.argv = ["isogap", "run", spec, "--out", out, "--cache", cache]
    main()
"""


@dataclass(frozen=True)
class Cluster:
    """Attributes:
    address: of its head.
    nodes: the command that holds each node up, the head's first.
    start_node: adds a node of one core.
    """

    address: str
    nodes: list[subprocess.Popen]
    start_node: Callable[[], None]

    def tasks(self) -> list[psutil.Process]:
        """The processes that train now."""
        below = (child for node in self.nodes for child in psutil.Process(node.pid).children(recursive=True))
        return [process for process in below if "ray::_train_as_task" in " ".join(command_of(process))]


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
    log = open(site / "ray.log", "w")

    def start_node() -> None:
        where = [f"--address={address}"]
        if not nodes:
            where = ["--head", f"--port={address.split(':')[1]}", "--include-dashboard=false"]
            where += [f"--temp-dir={temporary}", "--disable-usage-stats"]
        ray = [sys.executable, "-m", "ray.scripts.scripts"]
        command = [*ray, "start", "--block", "--num-cpus=1", "--num-gpus=0", *where]
        env = os.environ | {"PYTHONPATH": f"{site}:{ROOT}"}
        seen = Path(log.name).read_text().count("--block")
        nodes.append(subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True))
        wait_until(lambda: Path(log.name).read_text().count("--block") > seen, Path(log.name).read_text())

    try:
        start_node()
        start_node()
        yield Cluster(address, nodes, start_node)
    finally:
        for node in reversed(nodes):
            node.terminate()
        for node in nodes:
            node.wait(PATIENCE)
        log.close()
        shutil.rmtree(temporary, ignore_errors=True)


@pytest.fixture
def drive(lab, cluster, ended_children, tmp_path) -> Callable[..., subprocess.Popen]:
    """`isogap run` of the laboratory's sweep on the cluster, in a process of its own."""
    program = tmp_path / "driver.py"
    program.write_text(DRIVER)

    def start(out: Path) -> subprocess.Popen:
        command = [sys.executable, str(program), cluster.address, str(out), str(lab.spec), str(lab.cache)]
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        ended_children.append(
            subprocess.Popen(command, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
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


def test_a_node_killed_mid_run_changes_nothing_in_the_tables(cluster, drive, finished, tables, rng, tmp_path):
    out = tmp_path / "out"
    total = steps_done(finished)
    driver = drive(out)
    share = rng.uniform(0.05, 0.5)
    wait_until(lambda: steps_done(out) >= share * total or driver.poll() is not None, "it does not train")
    assert driver.poll() is None, driver.communicate()
    node = cluster.nodes[1]
    (raylet,) = [p for p in psutil.Process(node.pid).children() if p.name() == "raylet"]
    lost = [p for p in raylet.children() if "ray::_train_as_task" in " ".join(command_of(p))]
    raylet.kill()
    status, _, err = finish(driver)
    assert status == 3, err
    assert tables(out) == tables(finished)
    assert len(lost) == 1 and not (out / "checkpoints").exists()
    cluster.nodes.remove(node)
    node.wait(PATIENCE)
    cluster.start_node()
