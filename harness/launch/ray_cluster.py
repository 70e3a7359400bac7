"""Running a sweep on a Ray cluster: every pack is a task, wherever the resources it asks for are free.

Only the packs' configurations and the news of their ends go through Ray. Text, checkpoints and records are files: all
nodes see the sweep's folder and the cache under the same paths, on a file system whose locks (flock) hold between
nodes (the folder may be on an object store instead), and have the same isogap installed.
"""

import contextlib
import fcntl
import functools
import importlib.metadata
import logging
import math
import os
import signal
import socket
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.files import is_local
from harness.launch.faults import Outcome
from harness.launch.local import Job, Stop, settle, train_pack_here
from harness.record.heartbeat import Pulse
from harness.record.lock import sweep_lock
from harness.record.sweep_folder import PACKAGES
from sweeps.errors import InputError
from sweeps.packs import Pack

# Of a pack's process, after which its running runs have failed.
DEATHS = 2
POLL_SECONDS = 1.0
# A task whose driver was killed is dead 0.2 s later; one whose driver's node was lost, when Ray has noticed.
STRAY_SECONDS = 90.0


@dataclass(frozen=True)
class Resources:
    """What one pack asks of the cluster: cores by Ray's count, and GPUs."""

    cpus: float
    gpus: float


def run_packs_on_ray(
    cut: Callable[[int], Sequence[Pack]], job: Job, address: str, stop: Stop, ended: Callable[[Iterable[str]], None]
) -> None:
    """Train all packs; statuses and records tell how it went.

    A pack whose node dies goes on elsewhere from its last checkpoint. So does one whose process dies; at the second
    time it is the pack's own fault, see `harness.launch.faults`.

    Args:
        cut: the packs that hold a run that has not ended, given how many can train at the same time.
        address: HOST:PORT of the cluster's head, or "auto" for the cluster that this machine is a node of.
        ended: told the ids of a pack's runs when it was left.

    Raises:
        InputError: Ray is not installed, no cluster is there, none of its nodes has the resources, or tasks of a
            driver that died are still training.
        OSError: the sweep's folder cannot be written.
    """
    with _connected(address) as ray:
        _await_strays(job.out)
        resources, places = _resources(ray, job.packing.devices)
        todo = deque(cut(places))
        # max_retries: Ray would not tell a pack that kills its processes from one whose nodes die.
        train = ray.remote(_train_as_task).options(num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=0)
        waiting: dict[Any, Pack] = {}
        deaths: Counter[str] = Counter()
        while waiting or (todo and not stop()):
            while todo and not stop():
                pack = todo.popleft()
                waiting[train.remote(pack, job, os.getcwd(), _versions())] = pack
            finished, _ = ray.wait(list(waiting), timeout=POLL_SECONDS)
            for task in finished:
                pack = waiting.pop(task)
                outcome = _outcome(ray, task, pack, deaths)
                if outcome is None:
                    todo.appendleft(pack)
                else:
                    settle(pack, outcome, job, todo, stop)
                ended(run.run_id for run in pack.runs)
            if stop():
                # Those that have not begun are dropped. Asked again at every turn: one that just began has no ear yet.
                for task in waiting:
                    ray.cancel(task, force=False)


def _outcome(ray: Any, task: Any, pack: Pack, deaths: Counter[str]) -> Outcome | None:
    """How a task's pack ended; None where it is to be run again, its node or its process having died."""
    try:
        return ray.get(task)
    except ray.exceptions.TaskCancelledError:
        return Outcome("ended")
    except ray.exceptions.NodeDiedError:
        return None
    except ray.exceptions.RayTaskError as error:  # raised outside the training, whose faults are outcomes
        return Outcome("fault", f"{type(error.cause).__name__}: {_one_line(error.cause)}", traceback.format_exc())
    except ray.exceptions.RayError as error:
        deaths[pack.pack_id] += 1
        if deaths[pack.pack_id] < DEATHS:
            return None
        return Outcome("fault", f"its process died {DEATHS} times: {_one_line(error)}")


def _one_line(error: object) -> str:
    return " ".join(str(error).split())


@contextlib.contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Ray, as a driver on the cluster; the process keeps its signal handlers."""
    try:
        import ray
        import ray.exceptions
    except ModuleNotFoundError as error:
        expected = "local, or the package ray installed: pip install 'isogap[ray]'"
        raise InputError("--executor", f"import {error.name}", "ray", expected) from None
    _check_address(address)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        expected = f"a Ray cluster that this machine is a node of ({_one_line(error)})"
        raise InputError("--address", "value", address, expected) from None
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Ray itself tries for two minutes to reach a port where nobody listens, and tells of every trial."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError, ValueError) as error:
        raise InputError(
            "--address", "value", address, f"auto, or HOST:PORT of a Ray cluster's head ({error})"
        ) from None


def _resources(ray: Any, devices: int) -> tuple[Resources, int]:
    """What a pack asks for, a GPU where there are any, else a core each CPU device as far as a node has them; and how
    many packs the cluster can train at the same time.

    Raises:
        InputError: no node has cores.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = float(any(node.get("GPU") for node in nodes))
    most = max((node.get("CPU", 0.0) for node in nodes if node.get("GPU", 0.0) >= gpus), default=0.0)
    if most < 1:
        raise InputError("--executor ray", "a pack's resources", f"{most:g} cores", "a node with at least one core")
    cpus = 1.0 if gpus else min(float(devices), most)
    fitting = [min(n.get("CPU", 0.0) // cpus, n.get("GPU", 0.0) if gpus else math.inf) for n in nodes]
    return Resources(cpus, gpus), max(1, int(sum(fitting)))


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def _train_as_task(pack: Pack, job: Job, directory: str, versions: dict[str, str]) -> Outcome:
    """The task: train one pack here. Its process may have trained others before, and keeps their programs."""
    stop = Stop()
    before = signal.signal(signal.SIGINT, stop.take)  # that is how a task is told to end
    try:
        if _versions() != versions:
            others = sorted(f"{name} {version}" for name, version in _versions().items() if version != versions[name])
            raise RuntimeError(f"{socket.gethostname()} has other versions than the driver: {', '.join(others)}")
        _prepare_process(job.cache, job.packing.devices, directory)
        from harness.train.clock import Spent

        # Ray calls a node dead a moment before its processes are: the next one waits for the last.
        with _alone(job.out / "checkpoints" / f"{pack.pack_id}.lock", stop) as alone:
            if not alone:
                return Outcome("ended")
            with Pulse(job.out, Spent(), pack.pack_id) as pulse:
                return train_pack_here(pack, job, stop, pulse)
    finally:
        signal.signal(signal.SIGINT, before)


@functools.cache
def _prepare_process(cache: Path, devices: int, directory: str) -> None:
    """Once in a process: JAX can be configured only before it has computed."""
    from harness.machine.platform import configure_jax

    # A corpus may be named by a path from where the command was given.
    with contextlib.suppress(OSError):
        os.chdir(directory)
    configure_jax(cache, devices)


@contextlib.contextmanager
def _alone(path: Path, give_up: Callable[[], bool]) -> Iterator[bool]:
    """Hold a pack's lock, or false once given up. The system frees it with the process, however that ends; on an object
    store it is a lease, see `harness.record.lock`."""
    if not is_local(path):
        with contextlib.ExitStack() as held:
            while True:
                try:
                    held.enter_context(sweep_lock(path))
                    break
                except InputError:
                    if give_up():
                        yield False
                        return
            yield True
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if give_up():
                    yield False
                    return
                time.sleep(0.1)
            else:
                yield True
                return


def _await_strays(out: Path) -> None:
    """Wait for the end of tasks whose driver was killed: the sweep's lock ended with it, they a little later."""
    deadline = time.monotonic() + STRAY_SECONDS
    for path in sorted((out / "checkpoints").glob("*.lock")):
        with _alone(path, lambda: time.monotonic() > deadline) as alone:
            if not alone:
                raise InputError(path, "lock", "a task of an earlier driver", "no process that still trains this pack")
