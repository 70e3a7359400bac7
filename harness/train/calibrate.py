"""What this machine does: a few short programs, timed, as the numbers that `isogap plan` predicts with."""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from harness.train.optimizer import hyper_of_pack
from harness.train.step import dispatch_steps, mesh_for, programs
from models.config import ARCHITECTURES, make_config
from models.count import flops
from models.transformer import compute_for
from sweeps.calibration import Calibration
from sweeps.config import DataConfig, OptimizerConfig, ProbeConfig, RunConfig

CONTEXT, BATCH, SLOTS, PROBE = 128, 8, 4, 32
# Long enough that one hiccup of a shared machine does not decide.
SECONDS = 0.6


def _config(architecture: str, width: int, depth: int) -> RunConfig:
    model = make_config(architecture, vocab=257, context=CONTEXT, width=width, depth=depth, heads=width // 16)
    data = DataConfig(domain="", tokenizer="bytes", unique_tokens=10**6)
    probe = ProbeConfig(windows=PROBE)
    return RunConfig(model=model, data=data, optimizer=OptimizerConfig(lr=1e-3), probe=probe, steps=10**6, batch=BATCH)


def _median_seconds(call: Callable[[], object], least: int = 3) -> float:
    times: list[float] = []
    while len(times) < least or sum(times) < SECONDS:
        began = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def _measure(config: RunConfig, slots: int) -> dict[str, float]:
    """Seconds to compile, of one training step, of one evaluation, and of a dispatch of no steps."""
    platform = jax.default_backend()
    compiled = programs(config, slots, compute_for(platform), mesh_for(slots, config.batch))
    state = compiled.initialise(jax.random.split(jax.random.key(0), slots))
    hyper = hyper_of_pack([config] * slots)
    steps = dispatch_steps(flops(config.model).train * config.batch_tokens * slots, platform)
    tokens = np.random.default_rng(0).integers(0, 257, (steps, slots, BATCH, CONTEXT + 1)).astype(np.int32)
    windows = jnp.asarray(tokens[0, :, :1].repeat(2 * PROBE, 1))
    began = time.perf_counter()
    state, _ = compiled.advance(state, hyper, tokens, jnp.int32(1))
    jax.block_until_ready(compiled.evaluate(state.params, state.biases, windows))
    compile_seconds = time.perf_counter() - began

    def advance(count: int) -> object:
        nonlocal state
        state, metrics = compiled.advance(state, hyper, tokens, jnp.int32(count))
        return metrics

    dispatch = _median_seconds(lambda: advance(0))
    step = (_median_seconds(lambda: advance(steps)) - dispatch) / steps
    evaluation = _median_seconds(lambda: compiled.evaluate(state.params, state.biases, windows))
    return {"compile": compile_seconds, "step": step, "evaluation": evaluation, "dispatch": dispatch, "steps": steps}


def _speed(config: RunConfig, slots: int, measured: dict[str, float]) -> float:
    return slots * config.batch_tokens * flops(config.model).train / measured["step"]


def calibrate(progress: Callable[[str], None]) -> Calibration:
    """Time eight programs, about half a minute on 2 cores, nearly all of it compiling.

    Must run in a process without a cache of compiled programs, or the compile times mean nothing.

    Args:
        progress: told what is measured next.
    """
    alone, wide = _config("dense", 32, 2), _config("dense", 128, 4)
    progress("dense, width 32, alone")
    small = _measure(alone, 1)
    progress("dense, width 128, alone")
    large = _measure(wide, 1)
    packed: dict[str, dict[str, float]] = {}
    for architecture in ARCHITECTURES:
        progress(f"{architecture}, width 32, {SLOTS} slots")
        packed[architecture] = _measure(_config(architecture, 32, 2), SLOTS)
    speeds = {a: _speed(_config(a, 32, 2), SLOTS, m) for a, m in packed.items()}
    per_layer = max(0.0, (large["compile"] - small["compile"]) / (wide.model.depth - alone.model.depth))
    fixed = max(0.0, small["compile"] - per_layer * alone.model.depth)
    forward = flops(alone.model).forward * SLOTS * 2 * PROBE * CONTEXT
    device = jax.devices()[0]
    return Calibration(
        device=f"{len(jax.devices())} x {device.device_kind}",
        training_flops={32: _speed(alone, 1, small), 128: _speed(wide, 1, large)},
        architecture_time={a: speeds["dense"] / speed for a, speed in speeds.items()},
        packing_gain={1: 1.0, SLOTS: speeds["dense"] / _speed(alone, 1, small)},
        dispatch_seconds=packed["dense"]["dispatch"],
        steps_per_dispatch=int(packed["dense"]["steps"]),
        compile_seconds=fixed,
        compile_seconds_per_layer={a: max(0.0, m["compile"] - fixed) / 2 for a, m in packed.items()},
        evaluation_speed=forward / packed["dense"]["evaluation"] / speeds["dense"],
    )
