"""What every test shares: no network, two CPU devices, none of the user's compiled programs and corpora, and the same
examples of hypothesis in every run (`--hypothesis-profile search` draws others)."""

import atexit
import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# JAX reads these when it is first imported, here or in a test's child process; after that the number is fixed.
os.environ["JAX_NUM_CPU_DEVICES"] = "2"
if "PYTEST_XDIST_WORKER" not in os.environ:
    # The programs of this run, for its workers and all their children, and none of an earlier run.
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="isogap-programs-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# A process of tests has one core. With a BLAS thread for each core two processes wait for each other: 6 s become 130.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Examples depend on the property's code alone, and there are no deadlines, so that a change is judged by itself only.
settings.register_profile("search", deadline=None, print_blob=True)
settings.register_profile("same", deadline=None, derandomize=True)
settings.load_profile("same")

# Its import closes all handlers of logging, and absl's closes what was the standard error when absl was imported: the
# file in which pytest captures it, unless this import comes first.
with contextlib.suppress(ImportError):
    import submitit  # noqa: F401

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
CORES = sorted(os.sched_getaffinity(0))
# Of a worker; it has 2 to 3 GB then. What is compiled again is in the folder of programs.
MOST_MAPS = 10_000
# Folders whose tests start several processes.
MANY = [Path(__file__).parent / "harness" / folder for folder in ("launch", "record")]


def _keep_to(cores: Iterable[int]) -> None:
    """Keep this process's threads, and those it will start, to some cores."""
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.sched_setaffinity(int(thread), cores)


@pytest.fixture(scope="session")
def cores() -> list[int]:
    """All cores that the tests may use."""
    return CORES


@pytest.fixture(autouse=True, scope="module")
def own_core(request: pytest.FixtureRequest) -> None:
    """Give each test worker a core of its own: threads of two workers that share cores wait, 70 s for 52 s of work."""
    alone = WORKER and not any(folder in request.path.parents for folder in MANY)
    _keep_to({CORES[int(WORKER) % len(CORES)]} if alone else CORES)


@pytest.fixture(autouse=True, scope="module")
def few_programs() -> Iterator[None]:
    """Drop compiled programs before they are too many: a process ends beyond 65,530 memory maps."""
    yield
    with open("/proc/self/maps") as maps:
        if sum(1 for _ in maps) > MOST_MAPS:
            import jax

            jax.clear_caches()


def _compile_in_a_hurry() -> Iterator[None]:
    """Compile without most optimisations: two thirds of the time, for programs that run for milliseconds.

    Not where bits are compared between packs of other layouts, and not for fits, which then take twice as long.
    """
    import jax

    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


hurried = pytest.fixture(name="hurried")(_compile_in_a_hurry)
hurried_module = pytest.fixture(name="hurried_module", scope="module")(_compile_in_a_hurry)
