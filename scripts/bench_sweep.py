"""How much of a sweep's time is spent inside compiled steps: a whole `isogap run`, cold and warm. See scripts/bench.py.

Cold: no compiled programs. The text is prepared and the machine calibrated before (in the user's cache), as they are
once in a machine's life. Warm: the same sweep into another folder, its programs on disk. Each pass is a command of its
own, and its wall time all of that command; shares are means over the processes that train.
"""

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

DOMAIN = "stdlib_code"
# Settings of each signature, and tokens of its runs: a second of a core's work at width 32, ten at width 128.
SIGNATURES = (
    ({"width": 32, "depth": 2, "context": 128, "probe_windows": 128}, 150_000),
    ({"width": 64, "depth": 3, "context": 128, "probe_windows": 64}, 300_000),
    ({"width": 128, "depth": 4, "context": 256, "probe_windows": 64}, 100_000),
)
# What a process tells of itself while it trains.
SPENT = ("training_seconds", "evaluation_seconds", "compile_seconds", "since", "tokens")
# Of a mixed sweep's runs, relative to those.
LENGTHS = (0.5, 1.0, 1.5, 3.0)


def sweep(args: argparse.Namespace) -> dict[str, Any]:
    """Where the time of `--runs` runs goes, cold and warm, and how long the commands take that read their folder."""
    from harness.data.store import prepare
    from harness.files import default_cache, write_text
    from harness.machine.calibration_file import calibration_of, calibration_path

    with tempfile.TemporaryDirectory(prefix="isogap-bench-", dir=args.folder) as name:
        folder = Path(name)
        cache, spec = folder / "cache", folder / "sweep.yaml"
        spec.write_text(json.dumps(spec_of(args.runs, args.signatures, args.mixed)))
        prepare(DOMAIN, "bytes", cache)
        write_text(calibration_path(cache), calibration_of(default_cache()).to_json())
        passes = {state: _pass(spec, folder / state, cache) for state in ("cold", "warm")}
        out = folder / "warm"
        readers = {
            "plan": ("plan", spec, "--cache", cache),
            "status": ("status", out),
            "export": ("export", out, "--what", "runs", "--to", folder / "runs.csv"),
        }
        seconds = {name: round(_isogap(*command), 2) for name, command in readers.items()}
    sizes = {"runs": args.runs, "signatures": args.signatures, "mixed": args.mixed}
    return {"bench": "sweep", **sizes, **passes, "seconds": seconds}


def spec_of(runs: int, signatures: int, mixed: bool) -> dict[str, Any]:
    """A sweep of that many dense runs, dealt to the first signatures; every run has a learning rate of its own."""
    blocks = []
    for index, (settings, tokens) in enumerate(SIGNATURES[:signatures]):
        mine = range(index, runs, signatures)
        lengths = itertools.cycle(LENGTHS if mixed else (1.0,))
        axes = {"tokens": [tokens * next(lengths) for _ in mine], "lr": [1e-3 + 1e-5 * run for run in mine]}
        blocks.append({"name": f"width {settings['width']}", "defaults": settings, "zip": axes})
    return {"name": "bench", "defaults": {"domain": DOMAIN, "batch": 8}, "blocks": blocks}


def _pass(spec: Path, out: Path, cache: Path) -> dict[str, float]:
    """Shares of the wall time of `isogap run`, which are 1 together; `start_up` is what passes before the first pack
    is begun and after the last."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall = _isogap("run", spec, "--out", out, "--cache", cache)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    heartbeats = [json.loads(path.read_text()) for path in (out / "workers").iterdir()]
    heartbeat = {key: statistics.mean(heartbeat[key] for heartbeat in heartbeats) for key in SPENT}
    inside = heartbeat["training_seconds"] + heartbeat["evaluation_seconds"]
    shares = {
        "inside_compiled_steps": inside,
        "training": heartbeat["training_seconds"],
        "evaluation": heartbeat["evaluation_seconds"],
        "waiting_for_compilation": heartbeat["compile_seconds"],
        "start_up": wall - heartbeat["since"],
        "rest": heartbeat["since"] - inside - heartbeat["compile_seconds"],
    }
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    told = {"wall_s": round(wall, 1), "cpu_s": round(cpu, 1), "processes": len(heartbeats)}
    told["tokens_per_second"] = round(len(heartbeats) * heartbeat["tokens"] / wall)
    return told | {name: round(seconds / wall, 4) for name, seconds in shares.items()}


def _isogap(*arguments: object) -> float:
    """Seconds of `isogap ARGUMENTS`, whose display goes to standard error."""
    began = time.perf_counter()
    code = "from harness.cli.main import main; main()"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    quiet = subprocess.DEVNULL if arguments[0] != "run" else sys.stderr
    subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=True, stdout=quiet, env=environment)
    return time.perf_counter() - began
