"""Several processes that train one pack together: all run the same loop in step, and the first one writes the records.

Every process has the runs' texts and sees the sweep's folder. What one process cannot know alone (a signal, the time,
a fault while writing) the first one decides for all.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Sharding
from jaxtyping import Int


def alone() -> bool:
    """Whether this is the only process."""
    return jax.process_count() == 1


def leads() -> bool:
    """Whether this process writes the records."""
    return jax.process_index() == 0


def meet(where: str) -> None:
    """Wait until all processes are here: between two meetings the folder's files are the same for all who read."""
    if not alone():
        multihost_utils.sync_global_devices(where)


def agree(values: Sequence[int]) -> Int[np.ndarray, " n"]:
    """The first process's values; as many in each process."""
    mine = np.asarray(values, np.int32)
    return mine if alone() else np.asarray(multihost_utils.broadcast_one_to_all(mine))


def put(array: Any, sharding: Sharding) -> Any:
    """An input of a compiled program, of which each process has all and gives its devices' part."""
    return array if alone() else jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def fetch(tree: Any) -> Any:
    """Arrays that lie on the devices of all processes, whole, as numpy copies.

    Copies: a CPU array and its numpy view share memory, which the next dispatch is given to write into.
    """
    if not alone():
        tree = multihost_utils.process_allgather(tree, tiled=True)
    return jax.tree.map(np.array, tree)
