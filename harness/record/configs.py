"""The runs of a sweep's folder."""

import hashlib
import itertools
import json
from collections.abc import Mapping
from pathlib import Path

from harness.files import read_bytes
from harness.record.status import run_folder
from sweeps.config import RunConfig
from sweeps.errors import InputError

# What messages advise against a damaged list of runs, and against a damaged configuration.
REMEDY = "delete it, and `isogap run` makes it anew and keeps what is finished"
REWRITE = "`isogap run` of the sweep that it is of writes it anew"


def read_configs(out: Path, known: Mapping[str, RunConfig] | None = None) -> list[RunConfig]:
    """The runs of a sweep's folder, in the order of the sweep.

    Every configuration is in the folder twice: in configs.jsonl, so that one file is read for all, and in the run's own
    folder. The copy whose hash is the run's id is taken.

    Args:
        known: configurations by id that need not be read.

    Raises:
        InputError: the folder holds no sweep, its list of runs is damaged, or both copies of a configuration are.
    """
    manifest = out / "manifest.json"
    if not manifest.is_file():
        raise InputError(out, "manifest.json", "nothing", "the folder of a sweep that `isogap run` has begun")
    try:
        run_ids = [str(run_id) for run_id in json.loads(read_bytes(manifest))["runs"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(manifest, "runs", type(error).__name__, f"the list of a sweep's runs: {REMEDY}") from None
    try:
        lines = read_bytes(out / "configs.jsonl").split(b"\n")
    except OSError:
        lines = []
    known = known or {}
    return [
        known[run_id] if run_id in known else _config(out, run_id, line)
        for run_id, line in itertools.zip_longest(run_ids, lines[: len(run_ids)])
    ]


def _config(out: Path, run_id: str, line: bytes | None) -> RunConfig:
    path = run_folder(out, run_id) / "config.json"
    try:
        if line is None or hashlib.sha256(line).hexdigest()[:12] != run_id:
            line = read_bytes(path).strip()
        config = RunConfig.model_validate_json(line)
        if hashlib.sha256(line).hexdigest()[:12] != run_id:
            raise ValueError(f"the configuration of another run than {run_id}")
    except FileNotFoundError:
        # There is no other trace of such a run, so the list is wrong.
        raise InputError(out / "manifest.json", "runs", run_id, f"a run with a configuration: {REMEDY}") from None
    except (OSError, ValueError) as error:
        raise InputError(path, "config", str(error).splitlines()[0], f"the configuration of a run: {REWRITE}") from None
    return config
