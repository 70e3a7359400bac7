"""Running a sweep on a Ray cluster: every pack is a task, which runs where the resources it asks for are free.

Only the packs' configurations and outcomes go through Ray. Text, checkpoints and records are files: all nodes see the
sweep's folder and the cache under the same paths, on a file system whose locks (flock) hold between nodes (the folder
may be on an object store instead), and have the same isogap installed.
"""

import contextlib
import fcntl
import functools
import importlib.metadata
import logging
import math
import os
import pickle
import signal
import socket
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness.files import is_local
from harness.launch.local import train_pack_here
from harness.launch.queue import Outcome, PackQueue
from harness.processes import HOME
from harness.record.heartbeat import HeartbeatWriter
from harness.record.lock import sweep_lock
from harness.record.sweep_folder import RECORDED_PACKAGES
from harness.train.session import Session, Stop
from sweeps.errors import InputError
from sweeps.packs import Pack

# Number of deaths of a pack's process after which its running runs are lost.
DEATHS = 2
POLL_SECONDS = 1.0
# How long to wait for the tasks of an earlier driver. They end 0.2 s after it was killed, but after the loss of its
# node only when Ray has noticed the loss.
STRAY_SECONDS = 90.0
# What a task's process is called.
TASK_NAME = "isogap-pack"


def run_packs_on_ray(queue_of: Callable[[int], PackQueue], session: Session) -> None:
    """Train all packs; the runs' statuses and records tell how it went.

    A pack whose node dies goes on elsewhere from its last checkpoint. So does one whose process dies; the second time
    it is the pack's own fault, see `harness.launch.queue.after_fault`.

    Args:
        queue_of: number of packs that can train at the same time -> the queue of packs to train.
        session: the options; `address` is HOST:PORT of the cluster's head, or "auto" for this machine's cluster.

    Raises:
        InputError: Ray is not installed, no cluster is there, none of its nodes has the resources, or tasks of an
            earlier driver still train.
        OSError: the sweep's folder cannot be written.
    """
    with _connected(session.address) as ray:
        _await_strays(session.out)
        resources, places = _resources(ray, session.devices)
        queue = queue_of(places)
        # No retries by Ray, which would not tell a pack that kills its process from one whose node dies.
        task = ray.remote(_without_folder(os.getcwd())).options(**resources, max_retries=0, name=TASK_NAME)
        waiting: dict[Any, Pack] = {}
        deaths: Counter[str] = Counter()
        while waiting or queue.open():
            while queue.open():
                pack = queue.packs.popleft()
                waiting[task.remote(pickle.dumps((_train_as_task, pack, session, os.getcwd(), _versions())))] = pack
            finished, _ = ray.wait(list(waiting), timeout=POLL_SECONDS)
            for reference in finished:
                pack = waiting.pop(reference)
                outcome = _outcome(ray, reference, pack, deaths)
                if outcome is None:
                    queue.packs.appendleft(pack)
                    queue.ended(run.run_id for run in pack.runs)
                else:
                    queue.settle(pack, outcome)
            if queue.stop():
                # This drops tasks that have not begun and interrupts the others. It is repeated, because a task that
                # has just begun does not listen yet.
                for reference in waiting:
                    ray.cancel(reference, force=False)


def _without_folder(folder: str) -> Callable[[bytes], Any]:
    """The function that tasks run: it takes the driver's working `folder` off the import path, then makes a call.

    Ray puts that folder first on its tasks' import path, and packages with isogap's names may lie there. The function
    is local so that Ray sends its code: it imports nothing of isogap before the path is right.
    """
    isogap_lies_there = folder == str(HOME)

    def call(pickled: bytes) -> Any:
        import pickle
        import sys

        if not isogap_lies_there:
            sys.path[:] = [entry for entry in sys.path if entry != folder]
        function, *arguments = pickle.loads(pickled)
        return function(*arguments)

    return call


def _outcome(ray: Any, task: Any, pack: Pack, deaths: Counter[str]) -> Outcome | None:
    """How a task's pack ended; None if the pack is to be run again because its node or its process died."""
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
        return Outcome("died", f"its process died {DEATHS} times: {_one_line(error)}")


def _one_line(error: object) -> str:
    return " ".join(str(error).split())


@contextlib.contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Connect to the cluster as a driver and yield the module `ray`; the process keeps its signal handlers."""
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
    """Refuse an address where nobody listens: Ray itself would try for two minutes, and report every attempt."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError, ValueError) as error:
        raise InputError(
            "--address", "value", address, f"auto, or HOST:PORT of a Ray cluster's head ({error})"
        ) from None


def _resources(ray: Any, devices: int) -> tuple[dict[str, float], int]:
    """(The resources that a pack asks for, how many packs the cluster can train at once). A pack asks for a GPU if any
    node has one, else for a core per CPU device, as far as a node has them. InputError if no node has cores."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = float(any(node.get("GPU") for node in nodes))
    most = max((node.get("CPU", 0.0) for node in nodes if node.get("GPU", 0.0) >= gpus), default=0.0)
    if most < 1:
        raise InputError("--executor ray", "a pack's resources", f"{most:g} cores", "a node with at least one core")
    cpus = 1.0 if gpus else min(float(devices), most)
    fitting = [min(n.get("CPU", 0.0) // cpus, n.get("GPU", 0.0) if gpus else math.inf) for n in nodes]
    return {"num_cpus": cpus, "num_gpus": gpus}, max(1, int(sum(fitting)))


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in RECORDED_PACKAGES}


def _train_as_task(pack: Pack, session: Session, directory: str, versions: dict[str, str]) -> Outcome:
    """Train one pack in this task. Its process may have trained others before, and keeps their programs."""
    stop = Stop()
    before = signal.signal(signal.SIGINT, stop.take)  # Ray cancels a task by SIGINT
    try:
        if _versions() != versions:
            others = sorted(f"{name} {version}" for name, version in _versions().items() if version != versions[name])
            raise RuntimeError(f"{socket.gethostname()} has other versions than the driver: {', '.join(others)}")
        _prepare_process(session.cache, session.devices, directory)
        # Ray may call a node dead while its processes still run: this task waits for the pack's earlier one to end.
        with _alone(session.out / "checkpoints" / f"{pack.pack_id}.lock", stop) as alone:
            if not alone:
                return Outcome("ended")
            with HeartbeatWriter(session.out, name=pack.pack_id) as heartbeat:
                return train_pack_here(pack, session, stop, heartbeat)
    finally:
        signal.signal(signal.SIGINT, before)


@functools.cache
def _prepare_process(cache: Path, devices: int, directory: str) -> None:
    """Configure JAX, once in a process: it cannot be done after JAX has computed."""
    from harness.machine.platform import configure_jax

    # A corpus may be named by a path relative to where the command was given.
    with contextlib.suppress(OSError):
        os.chdir(directory)
    configure_jax(cache, devices)


@contextlib.contextmanager
def _alone(path: Path, give_up: Callable[[], bool]) -> Iterator[bool]:
    """Hold a pack's lock; yields True once it is held, False if `give_up` is true first. The system frees it with the
    process, however that ends; on an object store it is a lease, see `harness.record.lock`."""
    with contextlib.ExitStack() as locks:
        file = None
        if is_local(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = locks.enter_context(open(path, "a"))

        def take() -> bool:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB) if file else locks.enter_context(sweep_lock(path))
            except (BlockingIOError, InputError):
                return False
            return True

        while not (alone := take()) and not give_up():
            if file:
                time.sleep(0.1)
        yield alone


def _await_strays(out: Path) -> None:
    """Wait for the tasks of a driver that was killed, because they may outlive its lock on the sweep."""
    deadline = time.monotonic() + STRAY_SECONDS
    for path in sorted((out / "checkpoints").glob("*.lock")):
        with _alone(path, lambda: time.monotonic() > deadline) as alone:
            if not alone:
                raise InputError(path, "lock", "a task of an earlier driver", "no process that still trains this pack")
