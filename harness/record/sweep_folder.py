"""A sweep's folder: the spec, the list of runs, each run's configuration, and the versions and machine used."""

import hashlib
import importlib.metadata
import itertools
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.files import is_local, read_bytes, remove_leftovers, write_bytes, write_files, write_json, write_text
from harness.record.status import run_folder
from sweeps.config import DataConfig, RunConfig
from sweeps.errors import InputError

RECORDED_PACKAGES = ("isogap", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tokenizers", "tiktoken")
# The remedies that messages suggest for a damaged list of runs, and for a damaged configuration.
REMEDY = "delete it, and `isogap run` makes it anew and keeps what is finished"
REWRITE = "`isogap run` of the sweep that it is of writes it anew"


def read_configs(out: Path, known: Mapping[str, RunConfig] | None = None) -> list[RunConfig]:
    """The runs of a sweep's folder, in the order of the sweep. Those that are `known` by id are not read.

    Every configuration is in the folder twice: in configs.jsonl, so that one file is read for all, and in the run's own
    folder. The copy whose hash is the run's id is taken.

    Raises:
        InputError: the folder holds no sweep, its list of runs is damaged, or both copies of a configuration are.
    """
    manifest = out / "manifest.json"
    if not manifest.is_file():
        expected = "the folder of a sweep that `isogap run` has begun"
        if inner := folders_of_blocks(out):
            expected += (
                f"; a study has one for each of its blocks, such as {inner[0]}, and the table {out}/runs.parquet"
            )
        raise InputError(out, "manifest.json", None, expected)
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


def folders_of_blocks(out: Path) -> list[Path]:
    """The folders of the sweeps of a study's blocks that have begun, SWEEP/BLOCK in the study's folder."""
    return sorted(file.parent for file in out.glob("*/*/manifest.json"))


def blocks_to_come(out: Path) -> list[Path]:
    """The folders that a study's blocks will have whose runs have not begun here: those with a spec alone."""
    folders = (file.with_suffix("") for file in out.glob("*/*.yaml"))
    return sorted(folder for folder in folders if not (folder / "manifest.json").is_file())


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


def with_standing(out: Path, configs: Sequence[RunConfig]) -> list[RunConfig]:
    """All runs that the folder will hold: those that it holds already, then the new ones. Nothing is written.

    Raises:
        InputError: the folder holds a run that is none of these and whose configuration is not valid.
    """
    asked = {config.run_id: config for config in configs}
    standing = read_configs(out, asked) if (out / "manifest.json").is_file() else []
    known = {config.run_id for config in standing}
    return standing + [config for config in configs if config.run_id not in known]


def lay_out(out: Path, spec_text: str, configs: Sequence[RunConfig]) -> list[RunConfig]:
    """Make or extend a sweep's folder, and return all its runs as `with_standing` does.

    The runs that it holds already keep their files and their place. An earlier spec that differs is kept as
    sweep-1.yaml, sweep-2.yaml, ...
    """
    runs = with_standing(out, configs)
    remove_leftovers(out)
    lines = {config.run_id: f"{config.canonical_json()}\n".encode() for config in runs}
    standing = _configured(out, lines)
    # These files are for people, and a second copy that is read only if configs.jsonl is damaged. So they need not be
    # flushed to disk.
    files = {run_folder(out, run_id) / "config.json": lines[run_id] for run_id in lines if run_id not in standing}
    write_files(files, durable=False)
    spec = out / "sweep.yaml"
    if spec.is_file() and (earlier := spec.read_bytes()) != spec_text.encode():
        # Copied, not renamed: the folder has a sweep.yaml at any moment.
        write_bytes(next(f for n in itertools.count(1) if not (f := out / f"sweep-{n}.yaml").exists()), earlier)
    write_text(spec, spec_text)
    write_bytes(out / "configs.jsonl", b"".join(lines.values()))
    write_json(out / "manifest.json", {"runs": [*lines]})
    return runs


def _configured(out: Path, lines: Mapping[str, bytes]) -> set[str]:
    """The runs whose folder has a configuration of full length; a power loss may have cut the others."""
    if is_local(out):
        folder = run_folder(out, "").absolute()
        return {run_id for run_id in lines if _size(f"{folder}/{run_id}/config.json") == len(lines[run_id])}
    return {path.parent.name for path in out.glob("runs/*/config.json")}


def _size(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError:
        return None


def git_commit() -> str | None:
    """The commit of isogap's source; None if it is not a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def texts_of(run: RunConfig) -> list[tuple[str, tuple[tuple[str, Any], ...], str, str]]:
    """(name in environment.json, split, corpus, tokenizer) of the texts that a run and its twin read, and on which they
    are measured. The name mentions an unusual split, because another split of the same text has other tokens."""
    data, split = run.data, run.data.split
    usual = {name: DataConfig.model_fields[name].default for name in split}
    unusual = "".join(f" {name} {value}" for name, value in split.items() if value != usual[name])
    return [
        (f"{corpus} {data.tokenizer}{unusual}", tuple(split.items()), corpus, data.tokenizer)
        for corpus in (*(name for _, name in data.parts), *run.probe.domains)
    ]


def recorded_data(out: Path) -> dict[str, dict[str, str]]:
    """The hashes of the texts that a folder's runs read, as `record_environment` wrote them; none before the first run.

    Raises:
        InputError: environment.json is damaged.
    """
    path = out / "environment.json"
    if not path.is_file():
        return {}
    try:
        return {pair: dict(facts) for pair, facts in json.loads(path.read_text())["data"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(path, "data", type(error).__name__, "the hashes that `isogap run` recorded") from None


def check_data(out: Path, hashes: dict[str, dict[str, str]]) -> None:
    """Refuse to go on with tokens that differ from those with which the folder's runs began.

    Raises:
        InputError: environment.json has another hash for a pair's tokens (see `record_environment`), or is damaged.
    """
    recorded = recorded_data(out)
    for pair, facts in hashes.items():
        before = recorded.get(pair, facts).get("tokens")
        if before != facts["tokens"]:
            changed = "the text has changed since this sweep's runs began (installed packages or files)"
            expected = f"{facts['tokens']!r}, the hash of the present text: {changed}, use a new --out folder"
            raise InputError(out / "environment.json", f"data.{pair}", before, expected)


def record_environment(out: Path, devices: Sequence[str], hashes: dict[str, dict[str, str]]) -> None:
    """Write environment.json: versions, machine, devices, commit, and the hash of every corpus and tokenizer used.

    Hashes of other pairs that the file already holds are kept. Raises InputError if it is damaged.

    Args:
        devices: one line for each device.
        hashes: "domain tokenizer" -> {"corpus", "tokenizer", "tokens"}.
    """
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": len(os.sched_getaffinity(0)),
        "devices": list(devices),
        "git_commit": git_commit(),
        "packages": {name: importlib.metadata.version(name) for name in RECORDED_PACKAGES},
        "data": recorded_data(out) | hashes,
        "sweep_sha256": hashlib.sha256((out / "sweep.yaml").read_bytes()).hexdigest(),
    }
    write_json(out / "environment.json", facts)
