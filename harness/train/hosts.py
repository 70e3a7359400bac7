"""Hosts: processes that train one pack together, in step. All run the same loop; the first one writes the records.

What a host cannot know alone (a signal, the time, a fault of another, a file), the hosts exchange through JAX's
coordination service, as small JSON values. JAX's own broadcasts are not used, because they are programs for the
devices: they would wait for everything that was dispatched before, and forever for a host that has left.
"""

import contextlib
import dataclasses
import functools
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax._src import distributed  # JAX offers the service's keys and values nowhere else; orbax takes them there, too
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

from harness.train.session import PeerError, PeerLost

# A host that has not been heard from for this long is dead, and JAX ends the others.
LOST_SECONDS = 60
# All hosts must begin within JOIN_SECONDS, and leave within LEAVE_SECONDS.
JOIN_SECONDS, LEAVE_SECONDS = 300, 30
# How long a host that has failed waits for the others, which may be stuck in a program that needs it.
FAULT_SECONDS = 60.0
# Milliseconds between two checks for an alarm, while a host waits for the value of another.
LOOK_MS = 500

Value = TypeVar("Value")
# How often `conclude` was called, and since then `gather` by each group of hosts: they keep the service's keys apart.
_epoch = 0
_rounds: Counter[tuple[int, ...]] = Counter()


def join(coordinator: str, count: int, index: int) -> None:
    """Become host `index` of `count`; call this before JAX has devices.

    Args:
        coordinator: HOST:PORT of the first host; empty if a scheduler supplies all three arguments.

    Raises:
        ValueError: no scheduler that JAX knows started this process.
        RuntimeError: the hosts did not find each other.
    """
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM for itself
    seconds: dict[str, Any] = {
        "initialization_timeout": JOIN_SECONDS,
        "heartbeat_timeout_seconds": LOST_SECONDS,
        "shutdown_timeout_seconds": LEAVE_SECONDS,
    }
    if coordinator:
        # A host takes all its devices, even if a scheduler says which share of them is this process's.
        jax.distributed.initialize(coordinator, count, index, cluster_detection_method="deactivate", **seconds)
    else:
        jax.distributed.initialize(**seconds)


def leave() -> None:
    """Leave together: wait for the other hosts, and end the connection."""
    jax.distributed.shutdown()


def host_count() -> int:
    """How many hosts there are; unlike JAX's own count it may be asked before there are devices."""
    return distributed.global_state.num_processes


@dataclasses.dataclass(frozen=True)
class Hosts:
    """Hosts that do something together: every method is called by all of them, in the same order.

    Attributes:
        numbers: the numbers of these hosts among all hosts, in order.
    """

    numbers: tuple[int, ...]

    @property
    def take_part(self) -> bool:
        """Whether this host is one of them."""
        return _me() in self.numbers

    @property
    def lead(self) -> bool:
        """Whether this is the first of all hosts, which decides and writes the records."""
        return _me() == 0

    def gather(self, where: str, value: Value) -> list[Value]:
        """The values of all these hosts, in their order; waits for the slowest.

        Args:
            where: a name for this exchange, the same on all hosts unless they are out of step.
            value: anything that is the same after a round trip through JSON.

        Raises:
            PeerError: another host has raised an alarm, is at another exchange, or (PeerLost) cannot be reached.
        """
        if host_count() == 1:
            return [value]
        group = "-".join(map(str, self.numbers))
        number = _rounds[self.numbers]
        answers = _exchange(f"{group}/{number}", self.numbers, [where, value], _raise_alarm)
        _rounds[self.numbers] += 1
        if number:  # a host that has come to this round has read the last one
            _client().key_value_delete(_key(f"{group}/{number - 1}/{_me()}"))
        for host, (place, _) in zip(self.numbers, answers, strict=True):
            if place != where:
                raise PeerError(f"out of step: process {host} is at {place!r}, process {_me()} at {where!r}")
        return [answer for _, answer in answers]

    def agree(self, where: str, value: Value) -> Value:
        """The value of the first of these hosts, for all of them; see `gather`."""
        return self.gather(where, value)[0]


def all_hosts() -> Hosts:
    """All hosts of this job."""
    return Hosts(tuple(range(host_count())))


def hosts_of(mesh: Mesh) -> Hosts:
    """The hosts that have devices of a mesh; the others have nothing to do with its programs."""
    return Hosts(tuple(sorted({device.process_index for device in mesh.devices.flat})))


def alarm(reason: str) -> None:
    """Interrupt the other hosts: until the next `conclude`, `gather` raises PeerError on them."""
    if host_count() > 1:
        with contextlib.suppress(RuntimeError):  # another host was first, or nobody can be reached
            _client().key_value_set(_key("alarm"), f"process {_me()}: {reason}")


def conclude(value: Value, failed: bool) -> list[Value]:
    """The values of all hosts at the end of a task that they did together, also of hosts that an alarm interrupted.

    Args:
        failed: whether this host comes here after a fault. The others may be stuck in a program that needs it, and it
            waits for them for only FAULT_SECONDS.

    Raises:
        PeerLost: the others did not come, or cannot be reached.
    """
    global _epoch
    if host_count() == 1:
        return [value]
    deadline = time.monotonic() + FAULT_SECONDS if failed else math.inf

    def look() -> None:
        if time.monotonic() > deadline:
            raise PeerLost(f"other processes did not come within {FAULT_SECONDS:.0f} s of a fault: {_alarm()}")

    answers = _exchange("end", range(host_count()), value, look)
    _epoch += 1
    _rounds.clear()
    return answers


def note(name: str, value: str) -> None:
    """Store a value under a name, unless another host has stored one there."""
    with contextlib.suppress(RuntimeError):
        _client().key_value_set(f"isogap/notes/{name}", value)


def noted(name: str) -> str | None:
    """The value under a name; None if there is none."""
    return _try_get(f"isogap/notes/{name}")


def _client() -> Any:
    return distributed.global_state.client


def _me() -> int:
    return distributed.global_state.process_id


def _key(name: str) -> str:
    return f"isogap/{_epoch}/{name}"


def _try_get(key: str) -> str | None:
    try:
        return _client().key_value_try_get(key)
    except RuntimeError as error:
        if "NOT_FOUND" in str(error):
            return None
        raise _unreachable(error) from None


def _unreachable(error: Exception) -> PeerLost:
    return PeerLost(f"the first process cannot be reached ({str(error).splitlines()[0]})")


def _alarm() -> str | None:
    return _try_get(_key("alarm"))


def _raise_alarm() -> None:
    if reason := _alarm():
        raise PeerError(reason)


def _exchange(name: str, numbers: Sequence[int], value: Any, look: Callable[[], None]) -> list[Any]:
    """The values of some hosts; `look` is called while one of them is missing, and may raise."""
    client = _client()
    try:
        client.key_value_set(_key(f"{name}/{_me()}"), json.dumps(value))
    except RuntimeError as error:
        raise _unreachable(error) from None
    answers = []
    for host in numbers:
        while True:
            try:
                answers.append(json.loads(client.blocking_key_value_get(_key(f"{name}/{host}"), LOOK_MS)))
                break
            except RuntimeError as error:
                if "DEADLINE_EXCEEDED" not in str(error):
                    raise _unreachable(error) from None
            look()
    return answers


def put(array: Any, sharding: Sharding) -> Any:
    """Place an input of a compiled program: each host has the whole array and gives its devices their parts."""
    if host_count() == 1:
        return array
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def fetch(tree: Any) -> Any:
    """Whole numpy copies of arrays that are spread over the devices of several hosts, which all call this.

    They are copies because a CPU array and its numpy view share memory, into which the next dispatch writes.
    """
    return jax.tree.map(_whole, tree)


def _whole(leaf: Any) -> np.ndarray:
    if isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated):
        assert isinstance(leaf.sharding, NamedSharding)
        leaf = _replicate(leaf.sharding.mesh)(leaf)  # leaf by leaf, so that no second state is held
    return np.array(leaf)


@functools.cache
def _replicate(mesh: Mesh) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(lambda leaf: leaf, out_shardings=NamedSharding(mesh, PartitionSpec()))
