"""What every test shares: no network, two CPU devices, no compiled programs or corpora of the user's own, and the same
examples of hypothesis in every run (others: --hypothesis-profile search)."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Read by JAX when it is first imported, here or in a test's child process; after that the number is fixed.
os.environ["JAX_NUM_CPU_DEVICES"] = "2"
os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# A process of tests has a core: with a thread for each, two processes wait for each other's, and 6 s become 130.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# The examples of a property are of its code alone, so that a change is judged by nothing but itself; and no clock is.
settings.register_profile("search", deadline=None, print_blob=True)
settings.register_profile("same", deadline=None, derandomize=True)
settings.load_profile("same")

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
CORES = sorted(os.sched_getaffinity(0))
# Whose tests are of several processes.
MANY = [Path(__file__).parent / "harness" / folder for folder in ("launch", "record")]


def _keep_to(cores: Iterable[int]) -> None:
    """All threads of this process, and those it will start."""
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.sched_setaffinity(int(thread), cores)


@pytest.fixture(scope="session")
def cores() -> list[int]:
    """All that the tests have."""
    return CORES


@pytest.fixture(autouse=True, scope="module")
def own_core(request: pytest.FixtureRequest) -> None:
    """A worker's core to itself: the threads of two workers wait for each other, 70 s for what is done in 52."""
    alone = WORKER and not any(folder in request.path.parents for folder in MANY)
    _keep_to({CORES[int(WORKER) % len(CORES)]} if alone else CORES)


def _compile_in_a_hurry() -> Iterator[None]:
    """Programs that run for milliseconds compile in two thirds of the time."""
    import jax

    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


hurried = pytest.fixture(name="hurried")(_compile_in_a_hurry)
hurried_module = pytest.fixture(name="hurried_module", scope="module")(_compile_in_a_hurry)
