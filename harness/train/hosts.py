"""Several processes that train together: all run the same loop in step, and the first one writes the records.

What one process cannot know alone (a signal, the time, a fault of one of them, a file) they tell each other through
JAX's coordination service, as small values on the host. JAX's own broadcasts are programs for the devices: they would
wait for what was dispatched before, and forever for a process that has left.
"""

import contextlib
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

# A process that has not been heard of for so long is dead, and JAX ends the others.
HEARTBEAT_SECONDS = 60
# All have begun within that time, and left within half a minute.
JOIN_SECONDS, LEAVE_SECONDS = 300, 30
# After a fault in one process: the others may wait for it inside a program.
FAULT_SECONDS = 60.0
# Between two looks at whether another process has called.
LOOK_MS = 500

Value = TypeVar("Value")
_epoch = 0
_rounds: Counter[tuple[int, ...]] = Counter()


class PeerError(RuntimeError):
    """Another of the processes that train together failed."""


class PeerLost(PeerError):
    """Another of the processes that train together does not come, or cannot be reached."""


def join(coordinator: str, count: int, index: int) -> None:
    """Become process `index` of `count`; to be called before JAX has devices.

    Args:
        coordinator: HOST:PORT of the first process; empty where a scheduler tells all three.

    Raises:
        ValueError: no scheduler that JAX knows started this process.
        RuntimeError: the processes did not find each other.
    """
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM for itself
    seconds: dict[str, Any] = {
        "initialization_timeout": JOIN_SECONDS,
        "heartbeat_timeout_seconds": HEARTBEAT_SECONDS,
        "shutdown_timeout_seconds": LEAVE_SECONDS,
    }
    if coordinator:
        # Not the scheduler's share of the devices, if there is one: all of this host.
        jax.distributed.initialize(coordinator, count, index, cluster_detection_method="deactivate", **seconds)
    else:
        jax.distributed.initialize(**seconds)


def leave() -> None:
    """Leave together: waits for the others."""
    jax.distributed.shutdown()


def count() -> int:
    """Processes that train together; unlike JAX's own count it may be asked before there are devices."""
    return distributed.global_state.num_processes


def alone() -> bool:
    """Whether this is the only process."""
    return count() == 1


def leads() -> bool:
    """Whether this process decides, and writes the records."""
    return distributed.global_state.process_id == 0


def members(mesh: Mesh) -> tuple[int, ...]:
    """The processes that have devices of a mesh; the others have nothing to do with its programs."""
    return tuple(sorted({device.process_index for device in mesh.devices.flat}))


def gather(where: str, value: Value, among: Sequence[int] | None = None) -> list[Value]:
    """The values of all processes, in their order; waits for the slowest.

    Args:
        where: the same in all of them, or they are out of step.
        value: anything that is the same after a round trip through JSON.
        among: the processes that take part; all by default.

    Raises:
        PeerError: another process has called an alarm, is elsewhere, or (PeerLost) cannot be reached.
    """
    if alone():
        return [value]
    taking = tuple(range(count())) if among is None else tuple(among)
    group = "-".join(map(str, taking))
    number = _rounds[taking]
    found = _exchange(f"{group}/{number}", taking, [where, value], _alarmed)
    _rounds[taking] += 1
    if number:  # whoever came to this round has read the last one
        _client().key_value_delete(_key(f"{group}/{number - 1}/{_me()}"))
    for process, (there, _) in zip(taking, found, strict=True):
        if there != where:
            raise PeerError(f"out of step: process {process} is at {there!r}, process {_me()} at {where!r}")
    return [theirs for _, theirs in found]


def agree(where: str, value: Value, among: Sequence[int] | None = None) -> Value:
    """The first process's value, see `gather`."""
    return gather(where, value, among)[0]


def alarm(reason: str) -> None:
    """Call the others out of their work until the next `conclude`: wherever they wait for this process they raise."""
    if not alone():
        with contextlib.suppress(RuntimeError):  # another has called already, or nobody can be reached
            _client().key_value_set(_key("alarm"), f"process {_me()}: {reason}")


def conclude(value: Value, failed: bool) -> list[Value]:
    """The values of all processes at the end of what they did together, also of those that an alarm called out of it.

    Args:
        failed: a fault brought this process here. The others may be inside a program, waiting for it: then this one
            gives up after FAULT_SECONDS.

    Raises:
        PeerLost: they did not come, or cannot be reached.
    """
    global _epoch
    if alone():
        return [value]
    deadline = time.monotonic() + FAULT_SECONDS if failed else math.inf

    def look() -> None:
        if time.monotonic() > deadline:
            raise PeerLost(f"other processes did not come within {FAULT_SECONDS:.0f} s of a fault: {_alarm()}")

    found = _exchange("end", range(count()), value, look)
    _epoch += 1
    _rounds.clear()
    return found


def note(name: str, value: str) -> None:
    """Leave a word under a name, unless another process has left one there."""
    with contextlib.suppress(RuntimeError):
        _client().key_value_set(f"isogap/notes/{name}", value)


def noted(name: str) -> str | None:
    """The word under a name; None if there is none."""
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


def _alarmed() -> None:
    if reason := _alarm():
        raise PeerError(reason)


def _exchange(name: str, taking: Sequence[int], value: Any, look: Callable[[], None]) -> list[Any]:
    """Everyone's value; `look` is called while one of them is missing, and may raise."""
    client = _client()
    try:
        client.key_value_set(_key(f"{name}/{_me()}"), json.dumps(value))
    except RuntimeError as error:
        raise _unreachable(error) from None
    found = []
    for process in taking:
        while True:
            try:
                found.append(json.loads(client.blocking_key_value_get(_key(f"{name}/{process}"), LOOK_MS)))
                break
            except RuntimeError as error:
                if "DEADLINE_EXCEEDED" not in str(error):
                    raise _unreachable(error) from None
            look()
    return found


def put(array: Any, sharding: Sharding) -> Any:
    """An input of a compiled program, of which each process has all and gives its devices' part."""
    return array if alone() else jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def fetch(tree: Any) -> Any:
    """Arrays that lie on the devices of several processes, whole, as numpy copies; all of those call it.

    Copies: a CPU array and its numpy view share memory, which the next dispatch is given to write into.
    """
    return jax.tree.map(_whole, tree)


def _whole(leaf: Any) -> np.ndarray:
    if isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated):
        assert isinstance(leaf.sharding, NamedSharding)
        leaf = _replicate(leaf.sharding.mesh)(leaf)  # leaf by leaf: the devices need not hold a second state
    return np.array(leaf)


@functools.cache
def _replicate(mesh: Mesh) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(lambda leaf: leaf, out_shardings=NamedSharding(mesh, PartitionSpec()))
