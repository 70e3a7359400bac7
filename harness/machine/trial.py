"""Compiles a shape and trains it on random tokens to time it, in this process or in several at once."""

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from harness.machine.processes import spawn
from harness.train.optimizer import hyper_of, stack_hyper
from harness.train.programs import Key, evaluation_chunks, mesh_for, programs
from models.compute import compute_for
from sweeps.config import DataConfig, OptimizerConfig, RunConfig
from sweeps.shape import Shape

# How long each of several processes is timed.
_SECONDS = 1.5


@dataclasses.dataclass(frozen=True)
class Trial:
    """A compiled shape, and functions that run it. Both return before the device is done: wait for their results.

    Attributes:
        compile_seconds: the time that compiling took.
        turns: the most turns that one call of `advance` can train.
        advance: trains a number of turns.
        evaluate: evaluates one run.
    """

    compile_seconds: float
    turns: int
    advance: Callable[[int], object]
    evaluate: Callable[[], object]


def try_out(shape: Shape, slots: int) -> Trial:
    """Compile a shape for a number of slots, and train it for one turn on random tokens."""
    platform = jax.default_backend()
    began = time.perf_counter()
    compiled = programs(Key(shape, slots, compute_for(platform), mesh_for(slots, shape.micro_batch)))
    compile_seconds = time.perf_counter() - began
    state = compiled.initialise(np.arange(slots, dtype=np.uint32))
    data = DataConfig(domain="", tokenizer="bytes", unique_tokens=10**6)
    run = RunConfig(
        model=shape.model, data=data, optimizer=OptimizerConfig(lr=1e-3), steps=10**6, batch=shape.micro_batch
    )
    hyper = stack_hyper([hyper_of(run, 1)] * slots)
    draw, vocab, context = np.random.default_rng(0), shape.model.vocab, shape.model.context
    tokens = draw.integers(0, vocab, (compiled.turns, slots, shape.micro_batch, context + 1)).astype(np.int32)
    windows = draw.integers(0, vocab, (*evaluation_chunks(shape, compiled.mesh), context + 1)).astype(np.int32)

    def advance(count: int) -> object:
        nonlocal state
        state, metrics = compiled.advance(state, hyper, tokens, np.int32(count))
        return metrics

    def evaluate() -> object:
        chunks = jnp.int32(len(windows) // compiled.mesh.shape["run"])
        return compiled.evaluate(state.params, state.biases, jnp.int32(0), windows, chunks)

    jax.block_until_ready(advance(1))
    return Trial(compile_seconds, compiled.turns, advance, evaluate)


def measure_pinned_workers(
    cases: Sequence[tuple[Shape, int]], processes: int
) -> tuple[float, list[float], list[float]]:
    """Compile and train shapes in several processes at once, each pinned to a core and with one device.

    The alternative on a CPU is one process with a device per core. On two cores pinned processes trained 5 to 23 % more
    tokens at width 32 and 3 to 6 % more at width 128, because the threads of one process wait for each other.

    Args:
        cases: pairs of a shape and a number of slots.

    Returns:
        seconds until all processes were ready to compile; for each case the longest time to compile; and for each case
        the FLOP/s of all processes together.
    """
    cores = sorted(os.sched_getaffinity(0))
    began = time.perf_counter()
    workers = [spawn(_train_pinned, cores[number], cases) for number in range(processes)]
    connections = [connection for _, connection in workers]

    def answers() -> list[Any]:
        return [connection.recv() for connection in connections]

    answers()
    ready = time.perf_counter() - began
    compiling, speeds = [], []
    for _ in cases:
        compiling.append(max(answers()))
        for connection in connections:
            connection.send("go")
        speeds.append(sum(answers()))
    for process, _ in workers:
        process.join()
    return ready, compiling, speeds


def _train_pinned(connection: Connection, core: int, cases: Sequence[tuple[Shape, int]]) -> None:
    """The work of one process: for each case it answers with the time to compile and then, after `go`, its FLOP/s."""
    os.sched_setaffinity(0, [core])
    jax.config.update("jax_num_cpu_devices", 1)
    jax.devices()
    connection.send("ready")
    for shape, slots in cases:
        trial = try_out(shape, slots)
        connection.send(trial.compile_seconds)
        connection.recv()
        # All processes work for the same time, so that each is timed while the others work, too.
        began, times = time.perf_counter(), []
        while time.perf_counter() - began < _SECONDS:
            before = time.perf_counter()
            jax.block_until_ready(trial.advance(trial.turns))
            times.append((time.perf_counter() - before) / trial.turns)
        connection.send(slots * shape.turn_flops / min(times))
