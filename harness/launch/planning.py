"""`isogap plan`: the sweep's plan with the corpora that are here and the speed that was measured here."""

import functools
import hashlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from harness.data.mixture import available_tokens, stores_of
from harness.data.store import TokenStore, prepare
from harness.files import default_cache, write_text
from harness.gaps.design import expectation
from harness.launch.packing import memory_limit_of
from harness.terminal import working
from sweeps.calibration import TWO_CORES, Calibration
from sweeps.config import DataConfig
from sweeps.grid import load
from sweeps.plan import Plan, plan


def plan_sweep(sweep: str, cache: Path | None, calibrate: bool) -> Plan:
    """The plan of a sweep on this machine.

    Args:
        calibrate: measure this machine, once; the result is kept in the cache. Without, two typical cores are assumed.

    Raises:
        InputError: a bad spec.
    """
    cache = default_cache() if cache is None else cache
    loaded = load(sweep)
    calibration = calibration_of(cache) if calibrate else TWO_CORES
    opened = functools.cache(functools.partial(prepare, cache=cache))
    held = functools.partial(_available, opened)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with working("preparing text"):
        return plan(loaded, held, calibration, memory, memory_limit_of(calibration.platform), expectation(opened))


def _available(opened: Callable[..., TokenStore], data: DataConfig) -> int:
    return available_tokens(tuple(share for share, _ in data.parts), stores_of(opened, data))


def _machine() -> str:
    """What the numbers depend on: processor, cores, and the versions of what compiles and computes."""
    import importlib.metadata
    import platform

    facts = [platform.processor(), platform.machine(), str(len(os.sched_getaffinity(0)))]
    facts += [importlib.metadata.version(name) for name in ("jax", "jaxlib", "isogap")]
    return hashlib.sha256("|".join(facts).encode()).hexdigest()[:12]


def calibration_path(cache: Path) -> Path:
    """Where this machine's calibration is kept."""
    return cache / f"calibration-{_machine()}.json"


def calibration_of(cache: Path) -> Calibration:
    """This machine's calibration, measured in a process of its own if it is not in the cache yet.

    In its own process because compile times must be measured before any cache of compiled programs is set.
    """
    path = calibration_path(cache)
    if not path.is_file():
        Console(stderr=True).print("measuring this machine, once (some minutes)")
        subprocess.run([sys.executable, "-m", "harness.launch.planning", str(path)], check=True)
    return Calibration.from_json(path.read_text(), path)


def known_calibration(cache: Path) -> Calibration:
    """This machine's calibration if it was measured, or if nothing is known of such machines; else that of two cores.

    `isogap run` asks for it to choose how many runs train side by side.
    """
    measured = calibration_path(cache).is_file()
    usual = len(os.sched_getaffinity(0)) == TWO_CORES.devices and not _accelerated()
    return TWO_CORES if usual and not measured else calibration_of(cache)


def _accelerated() -> bool:
    """Whether JAX is installed for more than the CPU: to ask it would take its devices."""
    return any(importlib.util.find_spec(name) for name in ("jax_plugins", "libtpu"))


def _measure_into(path: Path) -> None:
    import jax

    from harness.machine.calibrate import calibrate

    jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
    console = Console(stderr=True)
    write_text(path, calibrate(lambda what: console.print(f"  {what}")).to_json())


if __name__ == "__main__":
    _measure_into(Path(sys.argv[1]))
