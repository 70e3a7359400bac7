"""The parts of scripts/accelerator.py; each is run in a process of its own, by the name of its function.

python scripts/accelerator_parts.py PART FILE SECONDS [--small]

A part writes what it finds to FILE as it finds it, one JSON object a line, so that nothing is lost if it is stopped.
It skips what it cannot begin within SECONDS, and writes a row with `skipped`, the reason.
"""

import argparse
import csv
import dataclasses
import io
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from soak_tools import isogap, steps_of, tables, wait

from harness.data.installed import stdlib_files
from harness.machine.calibration_file import calibration_path
from harness.machine.trial import try_out
from harness.record.status import Status, read_status
from harness.train.accelerators import peak_flops
from harness.train.optimizer import hyper_of, stack_hyper
from harness.train.programs import Key, mesh_for, programs
from models.compute import Compute, compute_for
from models.config import ARCHITECTURES, make_config
from models.count import count, flops
from sweeps.calibration import TWO_CORES
from sweeps.config import DataConfig, OptimizerConfig, RunConfig
from sweeps.shape import Shape, run_bytes

CHILD = Path(__file__).resolve().with_name("soak_child.py")
# Shares of all steps at which a sweep of the nine architectures is killed: within the third, sixth and ninth run.
KILLS = (0.25, 0.58, 0.92)
ONE_MILLION: dict[str, Any] = {"vocab": 257, "context": 128, "width": 128, "depth": 5, "heads": 4}
# Number of slots, those that tell most first. The last comes last, because it may need more memory than there is.
SLOTS = (1, 8, 64, 256, 2, 4, 16, 32, 128, 512)
# (settings of the model, sequences of a turn); the sizes are about 1, 10, 50 and 124 million parameters.
SIZES: tuple[tuple[dict[str, Any], int], ...] = (
    ({"vocab": 50304, "context": 1024, "width": 512, "depth": 8, "heads": 4}, 32),
    ({"vocab": 50304, "context": 1024, "width": 768, "depth": 12, "heads": 12}, 16),
    ({"vocab": 8192, "context": 1024, "width": 256, "depth": 10, "heads": 4}, 32),
    (ONE_MILLION, 256),
)
TINY: dict[str, Any] = {"vocab": 257, "context": 32, "width": 16, "depth": 1, "heads": 1}
# Seconds of a timing, after the dispatch that warms up.
TIMED = 2.0

Row = dict[str, Any]
Left = Callable[[], float]  # the seconds that are left


def device(left: Left, small: bool) -> Iterator[Row]:
    """The devices that JAX sees."""
    first = jax.devices()[0]
    limit = (first.memory_stats() or {}).get("bytes_limit")
    kind, platform = first.device_kind, jax.default_backend()
    yield {"platform": platform, "kind": kind, "devices": len(jax.devices()), "memory_gb": limit and limit / 1e9,
           "peak_flops": peak_flops(kind), "dtype": compute_for(platform).dtype, "jax": jax.__version__}  # fmt: skip


def resume(left: Left, small: bool) -> Iterator[Row]:
    """A sweep of all architectures, once undisturbed and once killed three times: are all numbers the same?

    Both use one cache of compiled programs, as a sweep that goes on does. Every third architecture stands for all where
    it is a test: nine took 520 s, most of it compiling.
    """
    steps, width, architectures = (500, 16, ARCHITECTURES[::3]) if small else (4000, 128, ARCHITECTURES)
    settings = f"context: 64, batch: 8, width: {width}, depth: 2, heads: {width // 16}, tokens: {steps * 512}"
    work = Path(tempfile.mkdtemp(prefix="isogap-accelerator-"))
    sweep = _sweep(work, f"{settings}, domain: api_docs", f"architecture: [{', '.join(architectures)}]")
    cache = _cache(work, jax.default_backend())
    undisturbed, killed = ([*_run(sweep, work / name, cache)] for name in ("undisturbed", "killed"))
    subprocess.run(isogap(*undisturbed), check=True, stdout=subprocess.DEVNULL, env=_environment())
    total, out, kills = steps_of(work / "undisturbed"), work / "killed", list[int]()
    told = {
        "out": str(out),
        "flushed": str(work / "flushed"),
        "left": 0,
        "broken": False,
        "clock": False,
        "armed": False,
    }
    env = _environment() | {"SOAK": json.dumps(told)}  # the child saves every second
    for share in KILLS:
        child = subprocess.Popen([sys.executable, str(CHILD), *killed], env=env, stdout=subprocess.DEVNULL)
        wait(lambda child=child, least=share * total: child.poll() is not None or steps_of(out) >= least)
        child.kill()
        if child.wait() == -signal.SIGKILL and any(0 < run.step < steps for run in _statuses(out)):
            kills.append(steps_of(out))
    subprocess.run([sys.executable, str(CHILD), *killed], check=True, env=env, stdout=subprocess.DEVNULL)
    lines = [_lines_by_run(tables(folder, work)) for folder in (work / "undisturbed", out)]
    for architecture, expected in sorted(lines[0].items()):
        got = lines[1].get(architecture)
        yield {
            "architecture": architecture,
            "identical": expected == got,
            "steps": total,
            "killed_within_runs_at": kills,
            "lines_compared": len(expected),
        }


def _statuses(out: Path) -> list[Status]:
    return [read_status(folder, 0, live=False) for folder in (out / "runs").glob("*")]


def _lines_by_run(found: dict[str, Any]) -> dict[str, list[str]]:
    """Architecture -> all lines of its run in the three tables."""
    header, *rows = found["runs"]
    run, architecture = header.index("run_id"), header.index("architecture")
    lines = {row[run]: (row[architecture], ["|".join(row)]) for row in rows}
    for what in ("series", "evals"):
        for line in csv.DictReader(io.StringIO(found[what].decode())):
            lines[line["run_id"]][1].append(json.dumps(line))
    return dict(lines.values())


def packed(left: Left, small: bool) -> Iterator[Row]:
    """Tokens per second of models of 1M parameters that train side by side, 1 to 512 of them."""
    model = make_config("dense", **TINY if small else ONE_MILLION)
    yield from _timings([(Shape(model, 4, False, "adamw", 64), n) for n in (SLOTS[:2] if small else SLOTS)], left)


def mfu(left: Left, small: bool) -> Iterator[Row]:
    """Model FLOP/s utilization of one run of 1M, 10M, 50M and 124M parameters."""
    sizes = [(TINY, 8)] if small else SIZES
    yield from _timings([(Shape(make_config("dense", **s), m, False, "adamw", 64), 1) for s, m in sizes], left)


def _timings(cases: list[tuple[Shape, int]], left: Left) -> Iterator[Row]:
    """Time each case, unless it did not fit the time, by the longest before it, or the memory."""
    longest = 0.0
    for shape, slots in cases:
        row: Row = {"params": count(shape.model).total, "slots": slots}
        began = time.monotonic()
        if left() < longest:
            yield row | {"skipped": f"{left():.0f} s are left, and one took {longest:.0f} s"}
            continue
        try:
            yield row | _timing(shape, slots)
        except Exception as error:  # out of memory, or the compiler's: the other cases go on
            yield row | {"skipped": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}
        longest = max(longest, time.monotonic() - began)


def _timing(shape: Shape, slots: int) -> Row:
    trial = try_out(shape, slots)
    jax.block_until_ready(trial.advance(trial.turns))
    turns, began = 0, time.perf_counter()
    while turns < 3 * trial.turns or time.perf_counter() - began < TIMED:
        jax.block_until_ready(trial.advance(trial.turns))
        turns += trial.turns
    tokens = slots * shape.turn_tokens * turns / (time.perf_counter() - began)
    mesh, first = mesh_for(slots, shape.micro_batch), jax.devices()[0]
    peak, devices = peak_flops(first.device_kind), mesh.devices.size
    key = Key(shape, slots, compute_for(jax.default_backend()), mesh)
    memory = programs(key).advance.memory_analysis()
    per_token = flops(shape.model)
    return {
        "tokens_per_turn": slots * shape.turn_tokens,
        "tokens_per_second": tokens,
        "compile_s": trial.compile_seconds,
        "tflops": tokens * per_token.train / 1e12,
        "mfu": peak and tokens * per_token.train / peak / devices,
        "mfu_palm": peak and tokens * per_token.palm / peak / devices,
        # Of all devices. The arguments are donated, so that results take no memory of their own.
        "memory_gb": memory and devices * (memory.argument_size_in_bytes + memory.temp_size_in_bytes) / 1e9,
        "plan_gb": slots * run_bytes(shape) / 1e9,
    }


def bfloat16(left: Left, small: bool) -> Iterator[Row]:
    """The losses of three seeds on the text of Python's library, in bfloat16 and in float32.

    Both computations are the accelerator's, on a CPU too. Losses are means of the last tenth of the steps.
    """
    steps, batch, seeds = (40, 4, 3) if small else (1000, 16, 3)
    model = make_config("dense", **TINY if small else ONE_MILLION)
    shape = Shape(model, batch, False, "adamw", 64)
    text = b"".join(path.read_bytes() for _, path in stdlib_files())
    draw, span = np.random.default_rng(0), model.context + 1
    places = draw.integers(0, len(text) - span, (steps, 1, batch, 1)) + np.arange(span)
    tokens = np.broadcast_to(np.frombuffer(text, np.uint8)[places].astype(np.int32), (steps, seeds, batch, span))
    # Without it an accelerator multiplies float32 with the digits of a shorter type.
    jax.config.update("jax_default_matmul_precision", "highest")
    losses = {}
    for dtype in ("bfloat16", "float32"):
        losses[dtype] = _losses(shape, dataclasses.replace(compute_for("cuda"), dtype=dtype), tokens)
    last = {dtype: found[-max(1, steps // 10) :].mean(0) for dtype, found in losses.items()}
    for seed in range(seeds):
        short, long = (float(last[dtype][seed]) for dtype in ("bfloat16", "float32"))
        yield {
            "seed": seed,
            "steps": steps,
            "params": count(model).total,
            "loss_start": float(losses["float32"][0, seed]),
            "loss_bfloat16": short,
            "loss_float32": long,
            "difference": short - long,
            "sd_of_seeds": float(last["float32"].std(ddof=1)),
        }


def _losses(shape: Shape, compute: Compute, tokens: np.ndarray) -> np.ndarray:
    """Losses [steps, seeds] of runs on tokens [steps, seeds, batch, context + 1]."""
    steps, seeds = tokens.shape[:2]
    compiled = programs(Key(shape, seeds, compute, mesh_for(seeds, shape.micro_batch, jax.devices()[:1])))
    data = DataConfig(domain="", tokenizer="bytes", unique_tokens=10**6)
    optimizer = OptimizerConfig(lr=3e-3, schedule="cosine", warmup_steps=steps // 10)
    run = RunConfig(model=shape.model, data=data, optimizer=optimizer, steps=steps, batch=shape.micro_batch)
    hyper = stack_hyper([hyper_of(run.model_copy(update={"seed": seed}), 1) for seed in range(seeds)])
    state = compiled.initialise(hyper)
    found = []
    for at in range(0, steps, compiled.turns):
        part = tokens[at : at + compiled.turns]
        full = np.concatenate([part, np.zeros((compiled.turns - len(part), *part.shape[1:]), np.int32)])
        state, metrics = compiled.advance(state, hyper, full, np.int32(len(part)))
        found.append(np.asarray(metrics.train_loss)[: len(part)])
    return np.concatenate(found)


def pilot(left: Left, small: bool) -> Iterator[Row]:
    """Gaps of twins on Python's library, as trained here and as trained on this machine's CPU, at the same time."""
    tokens, width = ("1e5", 16) if small else ("4e5", 64)
    settings = f"context: 128, batch: 8, width: {width}, depth: 2, heads: {width // 16}, tokens: {tokens}"
    work = Path(tempfile.mkdtemp(prefix="isogap-accelerator-"))
    rest = ", domain: stdlib_code, lr: 0.01, twins: true, probe_windows: 128"
    sweep = _sweep(work, settings + rest, "epochs: [2, 16]")
    platforms = {"here": jax.default_backend(), "cpu": "cpu"}
    running = {}
    for name, platform in platforms.items():
        env = _environment() | ({"JAX_PLATFORMS": "cpu"} if platform == "cpu" else {})
        command = isogap(*_run(sweep, work / name, _cache(work / f"cache-{name}", platform)))
        running[name] = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
    for name, child in running.items():
        if child.wait():
            raise RuntimeError(f"isogap run on {platforms[name]} ended with status {child.returncode}")
    gaps = {}
    for name in platforms:
        told = subprocess.run(isogap("gaps", str(work / name), "--json"), check=True, capture_output=True, text=True)
        gaps[name] = {row["run_id"]: row for row in json.loads(told.stdout)}
    for run, here in sorted(gaps["here"].items(), key=lambda pair: pair[1]["epochs"]):
        cpu = gaps["cpu"][run]
        row = {"platform": platforms["here"], "epochs": here["epochs"]}
        for kind in ("twin", "probe"):
            row |= {f"gap_{kind}": here[f"gap_{kind}"], f"gap_{kind}_cpu": cpu[f"gap_{kind}"]}
            row[f"gap_{kind}_se"] = cpu[f"gap_{kind}_se"]
        yield row


def _sweep(folder: Path, defaults: str, grid: str) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(f"name: accelerator\ndefaults: {{{defaults}}}\nblocks:\n  - name: all\n    grid: {{{grid}}}\n")
    return path


def _cache(cache: Path, platform: str) -> Path:
    """A cache that has a calibration, because measuring one takes minutes; `isogap run` only picks slots by it."""
    cache.mkdir(exist_ok=True)
    calibration_path(cache).write_text(dataclasses.replace(TWO_CORES, platform=platform).to_json())
    return cache


def _run(sweep: Path, out: Path, cache: Path) -> list[str]:
    return ["run", str(sweep), "--out", str(out), "--cache", str(cache), "--workers", "1"]


def _environment() -> dict[str, str]:
    """For processes beside this one, which holds no more of the accelerator's memory than it uses, as they do."""
    return os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


PARTS: dict[str, Callable[[Left, bool], Iterator[Row]]] = {
    part.__name__: part for part in (device, resume, mfu, packed, bfloat16, pilot)
}


def _finite(row: Row) -> Row:
    """Numbers that are not finite become null, as JSON has none."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("file", type=Path)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--small", action="store_true", help="sizes for a test on a CPU")
    args = parser.parse_args()
    end = time.monotonic() + args.seconds
    with open(args.file, "w") as file:
        for row in PARTS[args.part](lambda: end - time.monotonic(), args.small):
            print(json.dumps(_finite(row), allow_nan=False), file=file, flush=True)


if __name__ == "__main__":
    main()
