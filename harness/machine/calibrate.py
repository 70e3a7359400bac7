"""How fast this machine trains: a few short programs, timed.

`isogap plan` predicts with these numbers, and `isogap run` chooses by them how many runs train side by side. As a
program of its own, `python -m harness.machine.calibrate FILE`, this module measures and writes the numbers.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
from rich.console import Console

from harness.files import write_text
from harness.machine.trial import measure_pinned_workers, try_out
from models.config import ARCHITECTURES, make_config
from models.count import flops
from sweeps.calibration import Calibration, PinnedWorkers
from sweeps.shape import Shape

CONTEXT, BATCH, PROBE = 128, 8, 64
_SECONDS = 0.6


def _shape(architecture: str, width: int, depth: int) -> Shape:
    model = make_config(architecture, vocab=257, context=CONTEXT, width=width, depth=depth, heads=width // 16)
    return Shape(model, BATCH, False, "adamw", PROBE)


def _seconds(call: Callable[[], object]) -> float:
    """Seconds of the fastest of five or more calls; slower ones were delayed by other programs."""
    times: list[float] = []
    while len(times) < 5 or sum(times) < _SECONDS:
        began = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - began)
    return min(times)


def _measure(shape: Shape, slots: int) -> dict[str, float]:
    """Measure seconds to compile, to evaluate one run, of an empty dispatch; turns per dispatch; training FLOP/s."""
    trial = try_out(shape, slots)
    dispatch = _seconds(lambda: trial.advance(0))
    turn = (_seconds(lambda: trial.advance(trial.turns)) - dispatch) / trial.turns
    return {
        "compile": trial.compile_seconds,
        "evaluation": _seconds(trial.evaluate),
        "dispatch": dispatch,
        "turns": trial.turns,
        "speed": slots * shape.turn_flops / turn,
    }


def _gains(shape: Shape, alone: float, devices: int, progress: Callable[[str], None]) -> dict[int, float]:
    """Slots -> throughput relative to one run alone: for one slot per device, and for more while they gain 10 %."""
    gains = {1: 1.0}
    for slots in sorted({devices, min(64, 4 * devices), min(64, 16 * devices)} - {1}):
        progress(f"dense, width {shape.model.width}, {slots} slots")
        gains[slots] = _measure(shape, slots)["speed"] / alone
        if gains[slots] < 1.1 * gains[max(s for s in gains if s < slots)]:
            break
    return gains


def _pinned_workers(
    alone: dict[int, tuple[Shape, dict[str, float]]], devices: int, progress: Callable[[str], None]
) -> PinnedWorkers | None:
    """Measure processes of one core each that train side by side; None for a single device or an accelerator.

    Args:
        alone: width -> (the shape, what was measured with one run alone).
    """
    if devices == 1 or jax.default_backend() != "cpu":
        return None
    progress(f"{devices} processes of one core each")
    smallest = min(alone)
    cases = [(shape, slots) for shape, _ in alone.values() for slots in (1, 4)]
    start, compiling, speeds = measure_pinned_workers(cases, devices)
    gain: dict[int, dict[int, float]] = {width: {} for width in alone}
    for (shape, slots), speed in zip(cases, speeds, strict=True):
        gain[shape.model.width][slots] = speed / alone[shape.model.width][1]["speed"]
    return PinnedWorkers(devices, start, compiling[0] / alone[smallest][1]["compile"], gain)


def calibrate(progress: Callable[[str], None]) -> Calibration:
    """Time about a dozen programs, which takes one to three minutes on 2 cores, nearly all of it for compiling.

    The process must have no cache of compiled programs, or the compile times mean nothing. Its main module must be
    importable without side effects, because the processes of `measure_pinned_workers` import it again. `progress` is
    called with a description of what is measured next.
    """
    alone, wide = _shape("dense", 32, 2), _shape("dense", 128, 4)
    devices, platform = len(jax.devices()), jax.default_backend()
    progress("dense, width 32, alone")
    small = _measure(alone, 1)
    progress("dense, width 128, alone")
    large = _measure(wide, 1)
    gains = {
        width: _gains(shape, measured["speed"], devices, progress)
        for width, shape, measured in ((32, alone, small), (128, wide, large))
    }
    slots = max(gains[32], key=lambda size: gains[32][size])
    others: dict[str, dict[str, float]] = {}
    for architecture in ARCHITECTURES:
        progress(f"{architecture}, width 32, {slots} slots")
        others[architecture] = _measure(_shape(architecture, 32, 2), slots)
    per_layer = max(0.0, (large["compile"] - small["compile"]) / (wide.model.depth - alone.model.depth))
    fixed = max(0.0, small["compile"] - per_layer * alone.model.depth)
    forward = flops(alone.model).forward * PROBE * CONTEXT
    return Calibration(
        device=f"{devices} x {jax.devices()[0].device_kind}",
        platform=platform,
        devices=devices,
        training_flops={32: small["speed"], 128: large["speed"]},
        architecture_time={a: others["dense"]["speed"] / m["speed"] for a, m in others.items()},
        packing_gain=gains,
        dispatch_seconds=others["dense"]["dispatch"],
        steps_per_dispatch=int(others["dense"]["turns"]),
        compile_seconds=fixed,
        # `dense` is overridden: its pack was already compiled, for its gain, so that its time here means nothing.
        compile_seconds_per_layer={a: max(0.0, m["compile"] - fixed) / 2 for a, m in others.items()}
        | {"dense": per_layer},
        evaluation_speed=forward / small["evaluation"] / small["speed"],
        workers=_pinned_workers({32: (alone, small), 128: (wide, large)}, devices, progress),
    )


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
    console = Console(stderr=True)
    write_text(Path(sys.argv[1]), calibrate(lambda what: console.print(f"  {what}")).to_json())
