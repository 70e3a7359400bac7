"""Running a sweep on a Ray cluster: every pack is a task, wherever the resources it asks for are free.

Only the packs' configurations and the news of their ends go through Ray. Text, checkpoints and records are files: all
nodes see the sweep's folder and the cache under the same paths, on a file system whose locks (flock) hold between
nodes, and have the same isogap installed.
"""

import contextlib
import fcntl
import functools
import importlib.metadata
import logging
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.launch.local import Stop, _any_bad, _fail, _state, all_ended, tokens_done
from harness.launch.local import _train as train_pack_here
from harness.record.status import ENDED
from harness.record.sweep_folder import PACKAGES
from sweeps.errors import InputError
from sweeps.packs import Pack

# Of a pack's process, after which its running runs have failed.
DEATHS = 3
POLL_SECONDS = 1.0
# A task whose driver was killed is dead 0.2 s later; one whose driver's node was lost, when Ray has noticed.
STRAY_SECONDS = 90.0


@dataclass(frozen=True)
class Resources:
    """What one pack asks of the cluster.

    Attributes:
        cpus: cores, by Ray's count.
        devices: that its process shows JAX its CPU as. Another split of the slots rounds otherwise: the number is the
            same wherever a pack runs, and as many as one process of `isogap run` has give its tables, to the byte.
        gpus: None for one each where the cluster has any.
    """

    cpus: float
    devices: int
    gpus: float | None = None


def run_packs_on_ray(
    packs: Sequence[Pack],
    out: Path,
    cache: Path,
    address: str,
    resources: Resources,
    stop: Stop,
    fail_fast: bool,
    progress: Callable[[int], None],
) -> None:
    """Train all packs that hold a run that has not ended; statuses and records tell how it went.

    A pack whose node dies goes on elsewhere from its last checkpoint. So does one whose process dies; at the third
    time the runs it was training have failed, and the others of the pack go on.

    Args:
        address: HOST:PORT of the cluster's head, or "auto" for the cluster that this machine is a node of.
        progress: called with tokens just trained.

    Raises:
        InputError: Ray is not installed, no cluster is there, none of its nodes has the resources, or tasks of a
            driver that died are still training.
    """
    todo = sorted((pack for pack in packs if not all_ended(pack.runs, out)), key=lambda pack: -pack.flops)
    out, cache = out.absolute(), cache.absolute()
    with _connected(address) as ray:
        _await_strays(out)
        train = ray.remote(_train_as_task).options(
            num_cpus=resources.cpus,
            num_gpus=_gpus(ray, resources),
            max_retries=0,  # Ray would not tell a pack that kills its processes from one whose nodes die
        )

        def begin(pack: Pack) -> Any:
            return train.remote(pack, out, cache, resources.devices, os.getcwd(), _versions(), fail_fast)

        waiting = {begin(pack): pack for pack in todo}
        deaths: Counter[str] = Counter()
        done_before = tokens_done(todo, out)
        while waiting:
            finished, _ = ray.wait(list(waiting), timeout=POLL_SECONDS)
            for task in finished:
                pack = waiting.pop(task)
                if _is_lost(ray, task, pack, out, deaths) and not stop():
                    waiting[begin(pack)] = pack
                stop.failed |= fail_fast and _any_bad(pack.runs, out)
            now = tokens_done(todo, out)
            progress(now - done_before)
            done_before = now
            if stop():
                # Those that have not begun are dropped. Asked again at every turn: one that just began has no ear yet.
                for task in waiting:
                    ray.cancel(task, force=False)


def _is_lost(ray: Any, task: Any, pack: Pack, out: Path, deaths: Counter[str]) -> bool:
    """Whether a task ended without its pack's doing, and is to be run again; its runs are marked if it has failed."""
    try:
        ray.get(task)
    except ray.exceptions.TaskCancelledError:
        return False
    except ray.exceptions.NodeDiedError:
        return True
    except ray.exceptions.RayTaskError as error:  # raised outside the training, which writes its own faults down
        _fail(_standing(pack, out), out, f"{type(error.cause).__name__}: {_one_line(error.cause)}")
        return False
    except ray.exceptions.RayError as error:
        deaths[pack.pack_id] += 1
        if deaths[pack.pack_id] == DEATHS:
            del deaths[pack.pack_id]
            standing = _standing(pack, out)
            running = [run for run in standing if _state(run, out) == "running"]
            _fail(running or standing, out, f"its process died {DEATHS} times: {_one_line(error)}")
        return not all_ended(pack.runs, out)
    return False


def _standing(pack: Pack, out: Path) -> list[Any]:
    return [run for run in pack.runs if _state(run, out) not in ENDED]


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


def _gpus(ray: Any, resources: Resources) -> float:
    """GPUs a pack asks for.

    Raises:
        InputError: no node has what a pack asks for; Ray would wait for one.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = resources.gpus
    if gpus is None:
        gpus = float(any(node.get("GPU") for node in nodes))
    if not any(node.get("CPU", 0) >= resources.cpus and node.get("GPU", 0) >= gpus for node in nodes):
        has = "; ".join(f"{node.get('CPU', 0):g} cores, {node.get('GPU', 0):g} GPUs" for node in nodes)
        wants = f"{resources.cpus:g} cores, {gpus:g} GPUs"
        raise InputError("--executor ray", "a pack's resources", wants, f"what a node of the cluster has: {has}")
    return gpus


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def _train_as_task(
    pack: Pack, out: Path, cache: Path, devices: int, directory: str, versions: dict[str, str], fail_fast: bool
) -> None:
    """The task: train one pack here. Its process may have trained others before, and keeps their programs."""
    stop = Stop()
    before = signal.signal(signal.SIGINT, stop.take)  # that is how a task is told to end
    try:
        if _versions() != versions:
            others = sorted(f"{name} {version}" for name, version in _versions().items() if version != versions[name])
            raise RuntimeError(f"{socket.gethostname()} has other versions than the driver: {', '.join(others)}")
        _prepare_process(cache, devices, directory)
        # Ray calls a node dead a moment before its processes are: the next one waits for the last.
        with _alone(out / "checkpoints" / f"{pack.pack_id}.lock", stop) as alone:
            if alone:
                train_pack_here(pack, out, cache, stop, fail_fast, lambda tokens: None)
    finally:
        signal.signal(signal.SIGINT, before)


@functools.cache
def _prepare_process(cache: Path, devices: int, directory: str) -> None:
    """Once in a process: JAX can be configured only before it has computed."""
    from harness.train.platform import configure_jax

    # A corpus may be named by a path from where the command was given.
    with contextlib.suppress(OSError):
        os.chdir(directory)
    configure_jax(cache, devices)


@contextlib.contextmanager
def _alone(path: Path, give_up: Callable[[], bool]) -> Iterator[bool]:
    """Hold a pack's lock, or false once given up. The system frees it with the process, however that ends."""
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
