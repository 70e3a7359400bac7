"""Preparing JAX: its devices, and its cache of compiled programs. Call these functions before anything computes."""

import os
from pathlib import Path

import jax


def configure_jax(cache: Path, cpu_devices: int) -> None:
    """Split the CPU into devices and keep compiled programs on disk.

    Args:
        cache: folder of compiled programs. Whoever can write to it can run code here, so it must be the user's own.
        cpu_devices: the number of devices that the CPU appears as. Two devices of one core each trained a pack of tiny
            models faster than one device of two cores, whose threads wait for each other at every operation.
    """
    jax.config.update("jax_num_cpu_devices", cpu_devices)
    keep_programs(cache)


def keep_programs(cache: Path) -> None:
    """Keep compiled programs on disk: in a folder of `cache`, or where JAX's own variable says."""
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(cache / "xla"))
    # Every program is kept, because sweeps of short runs spend their time compiling.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
