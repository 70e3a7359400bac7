"""A sweep's folder: the spec, the list of its runs, each run's configuration, and what it was run with."""

import hashlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.record.files import write_json, write_text
from harness.record.status import run_folder
from harness.record.table import read_configs
from sweeps.config import RunConfig

PACKAGES = ("isogap", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tokenizers", "tiktoken")


def lay_out(out: Path, spec_text: str, configs: Sequence[RunConfig]) -> list[RunConfig]:
    """Make or extend a sweep's folder; runs that stand there already keep their files and their place.

    Returns:
        all runs of the folder: those that stood there, then the new ones.

    Raises:
        InputError: a run that stands there has a configuration that does not validate.
    """
    manifest = out / "manifest.json"
    standing = read_configs(out) if manifest.is_file() else []
    known = {config.run_id for config in standing}
    new = [config for config in configs if config.run_id not in known]
    for config in new:
        write_text(run_folder(out, config.run_id) / "config.json", config.canonical_json() + "\n")
    write_text(out / "sweep.yaml", spec_text)
    write_json(manifest, {"runs": [config.run_id for config in standing + new]})
    return standing + new


def _git_commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def record_environment(out: Path, devices: Sequence[str], hashes: dict[str, dict[str, str]]) -> None:
    """Write environment.json: versions, machine, devices, commit, and the hash of every corpus and tokenizer used.

    Args:
        devices: one line a device.
        hashes: "domain tokenizer" -> {"corpus", "tokenizer", "tokens"}.
    """
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": len(os.sched_getaffinity(0)),
        "devices": list(devices),
        "git_commit": _git_commit(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "data": hashes,
        "sweep_sha256": hashlib.sha256((out / "sweep.yaml").read_bytes()).hexdigest(),
    }
    write_json(out / "environment.json", facts)
