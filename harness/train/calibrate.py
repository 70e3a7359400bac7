"""What this machine does: a few short programs, timed, as the numbers that `isogap plan` predicts with and by which
`isogap run` chooses how many runs train side by side."""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from harness.train.optimizer import hyper_of, stack_hyper
from harness.train.programs import Key, evaluation_pieces, mesh_for, programs
from models.config import ARCHITECTURES, make_config
from models.count import flops
from models.transformer import compute_for
from sweeps.calibration import Calibration
from sweeps.config import DataConfig, OptimizerConfig, RunConfig
from sweeps.shape import PROBE_SETS, Shape

CONTEXT, BATCH, PROBE = 128, 8, 32
SECONDS = 0.6


def _shape(architecture: str, width: int, depth: int) -> Shape:
    model = make_config(architecture, vocab=257, context=CONTEXT, width=width, depth=depth, heads=width // 16)
    return Shape(model, BATCH, False, "adamw", PROBE)


def _seconds(call: Callable[[], object], least: int = 5) -> float:
    """Of the fastest call: what neighbours take of a shared machine is not the machine's."""
    times: list[float] = []
    while len(times) < least or sum(times) < SECONDS:
        began = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - began)
    return min(times)


def _measure(shape: Shape, slots: int) -> dict[str, float]:
    """Seconds to compile, of one turn, of one run's evaluation, and of a dispatch of no turns."""
    platform = jax.default_backend()
    began = time.perf_counter()
    compiled = programs(Key(shape, slots, compute_for(platform), mesh_for(slots, BATCH)))
    compile_seconds = time.perf_counter() - began
    state = compiled.initialise(np.arange(slots, dtype=np.uint32))
    data = DataConfig(domain="", tokenizer="bytes", unique_tokens=10**6)
    run = RunConfig(model=shape.model, data=data, optimizer=OptimizerConfig(lr=1e-3), steps=10**6, batch=BATCH)
    hyper = stack_hyper([hyper_of(run, 1)] * slots)
    draw = np.random.default_rng(0)
    tokens = draw.integers(0, 257, (compiled.turns, slots, BATCH, CONTEXT + 1)).astype(np.int32)
    windows = draw.integers(0, 257, (*evaluation_pieces(shape, compiled.mesh), CONTEXT + 1)).astype(np.int32)

    def advance(count: int) -> object:
        nonlocal state
        state, metrics = compiled.advance(state, hyper, tokens, np.int32(count))
        return metrics

    advance(1)
    dispatch = _seconds(lambda: advance(0))
    turn = (_seconds(lambda: advance(compiled.turns)) - dispatch) / compiled.turns
    evaluation = _seconds(lambda: compiled.evaluate(state.params, state.biases, jnp.int32(0), windows))
    measured = {"compile": compile_seconds, "turn": turn, "evaluation": evaluation, "dispatch": dispatch}
    return measured | {"turns": compiled.turns, "speed": slots * shape.turn_flops / turn}


def _gains(shape: Shape, alone: float, devices: int, progress: Callable[[str], None]) -> dict[int, float]:
    """Of packs of one run each device, and of more until they gain no more."""
    gains = {1: 1.0}
    for slots in sorted({devices, min(64, 4 * devices), min(64, 16 * devices)} - {1}):
        progress(f"dense, width {shape.model.width}, {slots} slots")
        gains[slots] = _measure(shape, slots)["speed"] / alone
        if gains[slots] < 1.1 * gains[max(s for s in gains if s < slots)]:
            break
    return gains


def calibrate(progress: Callable[[str], None]) -> Calibration:
    """Time about a dozen programs, less than a minute on 2 cores, nearly all of it compiling.

    Must run in a process without a cache of compiled programs, or the compile times mean nothing.

    Args:
        progress: told what is measured next.
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
    forward = flops(alone.model).forward * PROBE_SETS * PROBE * CONTEXT
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
        compile_seconds_per_layer={a: max(0.0, m["compile"] - fixed) / 2 for a, m in others.items()},
        evaluation_speed=forward / small["evaluation"] / small["speed"],
    )
