"""How fast this machine trains: a few short programs of dense models, timed.

`isogap plan` predicts with these numbers, and `isogap run` chooses by them how many runs train side by side. As a
program of its own, `python -m harness.machine.calibrate FILE`, this module measures and writes the numbers.
"""

import functools
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
from rich.console import Console

from harness.files import write_text
from harness.machine.trial import SHARE, PinnedTeam, try_out
from harness.train.accelerators import Accelerator, accelerator_of
from models.config import ARCHITECTURES, make_config
from models.count import flops
from sweeps.calibration import TWO_CORES, Calibration, PinnedWorkers
from sweeps.packs import SLOTS
from sweeps.shape import Shape, run_bytes

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


# A calibration tries every case once; those that are tried in threads before compile side by side.
_trial = functools.cache(try_out)


def _measure(shape: Shape, slots: int, whole: bool = False) -> dict[str, float]:
    """Measure CPU seconds to compile, seconds of an empty dispatch, turns per dispatch, and training FLOP/s; if all
    programs of the shape are compiled (`whole`), also seconds to evaluate all runs.
    """
    trial = _trial(shape, slots, whole)
    dispatch = _seconds(lambda: trial.advance(0))
    timed = max(1, trial.turns // SHARE)
    turn = (_seconds(lambda: trial.advance(timed)) - dispatch) / timed
    measured = {
        "compile": trial.compile_seconds,
        "dispatch": dispatch,
        "turns": float(trial.turns),
        "speed": slots * shape.turn_flops / turn,
    }
    return measured if trial.evaluate is None else measured | {"evaluation": _seconds(trial.evaluate)}


def _gains(
    shape: Shape, alone: float, devices: int, known: Accelerator | None, progress: Callable[[str], None]
) -> dict[int, float]:
    """Slots -> throughput relative to one run alone: for one slot per device, on accelerators also for more while they
    gain 10 %. On a CPU more slots than cores gain nothing that pays for compiling them (2.5 times one run's throughput
    with 2 slots and 2.4 with 8, at width 32 on two cores).

    There are at most 64; on accelerators whose memory is known, as many as fit it and as a pack can have.
    """
    gains, tried = {1: 1.0}, {devices}
    if known is not None:
        most = 64 if known.memory is None else min(SLOTS[-1], int(0.8 * devices * known.memory / run_bytes(shape)))
        tried = {each * devices for each in (1, 4, 16, 64, 256) if each * devices <= most}
    for slots in sorted(tried - {1}):
        progress(f"dense, width {shape.model.width}, {slots} slots")
        gains[slots] = _measure(shape, slots)["speed"] / alone
        if gains[slots] < 1.1 * gains[max(s for s in gains if s < slots)]:
            break
    return gains


def _pinned_workers(
    shape: Shape, team: PinnedTeam, alone: dict[str, float], gains: dict[int, dict[int, float]]
) -> PinnedWorkers:
    """Measure processes of one core each that train side by side.

    They are measured at the least width only, where they gain most. At others they are taken to train as much as one
    process with a slot on each core (they trained 3 to 6 % more at width 128).

    Args:
        alone: what was measured with one run of this shape alone.
        gains: width -> what `_gains` found.
    """
    start, speed = team.measure()
    gain = {width: {1: max(found.values())} for width, found in gains.items()}
    gain[shape.model.width] = {1: speed / alone["speed"]}
    # Compiling costs as many CPU seconds in each of them as in one process.
    return PinnedWorkers(team.processes, start, 1.0, gain)


def calibrate(progress: Callable[[str], None]) -> Calibration:
    """Time four programs of dense models, and one in processes of one core each: about 20 s on two cores, nearly all of
    it for compiling.

    Seconds to compile other architectures and depths are in the proportion of TWO_CORES; on a CPU so is the speed of
    mixtures, each of which would take longer to compile than all measuring takes.

    The process must have no cache of compiled programs, or the compile times mean nothing. Its main module must be
    importable without side effects, because the processes of `PinnedTeam` import it again. `progress` is called with a
    description of what is measured next.
    """
    small, large = _shape("dense", 32, 2), _shape("dense", 256, 2)
    devices, platform, known = len(jax.devices()), jax.default_backend(), accelerator_of(jax.devices()[0])
    progress("compiling")
    _trial(small, 1, True)  # first and alone, because its time counts
    team = PinnedTeam(small, devices) if platform == "cpu" and devices > 1 else None
    cases = {(large, 1), (large, devices), (small, devices)} - {(small, 1)}
    with ThreadPoolExecutor(len(cases)) as threads:
        list(threads.map(lambda case: _trial(*case, False), cases))
    if team is not None:
        team.wait()
    progress("dense, width 32, alone")
    alone = {32: _measure(small, 1, True)}
    progress("dense, width 256, alone")
    alone[256] = _measure(large, 1)
    gains = {s.model.width: _gains(s, alone[s.model.width]["speed"], devices, known, progress) for s in (small, large)}
    slots = max(gains[32], key=lambda size: gains[32][size])
    packed = _measure(small, slots, platform != "cpu")
    relative = dict(TWO_CORES.architecture_time)
    for architecture in ARCHITECTURES if platform != "cpu" else ():
        progress(f"{architecture}, width 32, {slots} slots")
        relative[architecture] = packed["speed"] / _measure(_shape(architecture, 32, 2), slots)["speed"]
    workers = None
    if team is not None:
        progress(f"{devices} processes of one core each")
        workers = _pinned_workers(small, team, alone[32], gains)
    slower = alone[32]["compile"] / TWO_CORES.compile_time(small.model)
    # On accelerators an evaluation of a single run would say little of one of many.
    evaluating, runs = (alone[32], 1) if platform == "cpu" else (packed, slots)
    forward = runs * flops(small.model).forward * PROBE * CONTEXT
    return Calibration(
        device=f"{devices} x {jax.devices()[0].device_kind}",
        platform=platform,
        devices=devices,
        training_flops={width: measured["speed"] for width, measured in alone.items()},
        architecture_time=relative,
        packing_gain=gains,
        dispatch_seconds=packed["dispatch"],
        steps_per_dispatch=int(packed["turns"]),
        compile_seconds=slower * TWO_CORES.compile_seconds,
        compile_seconds_per_layer={a: slower * each for a, each in TWO_CORES.compile_seconds_per_layer.items()},
        evaluation_speed=forward / evaluating["evaluation"] / evaluating["speed"],
        device_bytes=known.memory if known else None,
        workers=workers,
    )


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
    console = Console(stderr=True)
    write_text(Path(sys.argv[1]), calibrate(lambda what: console.print(f"  {what}")).to_json())
