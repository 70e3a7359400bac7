"""This machine's calibration: measured once in a process of its own, and kept in the cache."""

import hashlib
import importlib.metadata
import importlib.util
import os
import platform
from pathlib import Path

from rich.console import Console

from harness.processes import run_module
from sweeps.calibration import TWO_CORES, Calibration


def _machine() -> str:
    """A hash of what the numbers depend on: the processor, its cores, and the versions of JAX and isogap."""
    facts = [platform.processor(), platform.machine(), str(len(os.sched_getaffinity(0)))]
    facts += [importlib.metadata.version(name) for name in ("jax", "jaxlib", "isogap")]
    return hashlib.sha256("|".join(facts).encode()).hexdigest()[:12]


def calibration_path(cache: Path) -> Path:
    """The file of this machine's calibration."""
    return cache / f"calibration-{_machine()}.json"


def calibration_of(cache: Path) -> Calibration:
    """Read this machine's calibration, after measuring it if the cache has none yet.

    The measurement has a process of its own, because compile times must be measured before any cache of compiled
    programs is set. CalledProcessError if it failed.
    """
    path = calibration_path(cache)
    if not path.is_file():
        Console(stderr=True).print("measuring this machine, once (under a minute)")
        run_module("harness.machine.calibrate", str(path))
    return Calibration.from_json(path.read_text(), path)


def known_calibration(cache: Path) -> Calibration:
    """Return this machine's calibration; a CPU of two cores that was not measured has the usual TWO_CORES.

    `isogap run` uses it to choose how many runs train side by side.
    """
    usual = len(os.sched_getaffinity(0)) == TWO_CORES.devices and not _accelerated()
    return TWO_CORES if usual and not calibration_path(cache).is_file() else calibration_of(cache)


def _accelerated() -> bool:
    """Whether JAX is installed for more than the CPU. Asking JAX itself would occupy the devices."""
    return any(importlib.util.find_spec(name) for name in ("jax_plugins", "libtpu"))
