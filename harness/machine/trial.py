"""Compiles a shape and trains it on random tokens to time it, in this process or in several at once."""

import dataclasses
import os
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from harness.processes import spawn
from harness.train.evaluation import deal, layout_of
from harness.train.optimizer import hyper_of, stack_hyper
from harness.train.programs import Key, compile_some, mesh_for
from models.compute import compute_for
from sweeps.config import DataConfig, OptimizerConfig, RunConfig
from sweeps.shape import Shape, parts_of

# How long each of several processes is timed.
_SECONDS = 1.0
# The share of a dispatch that is timed at once. A whole one takes one or two seconds on a CPU.
SHARE = 16


@dataclasses.dataclass(frozen=True)
class Trial:
    """A compiled shape, and functions that run it. Both return before the device is done: wait for their results.

    Attributes:
        compile_seconds: CPU seconds that this process spent while compiling; other programs do not change them.
        turns: the most turns that one call of `advance` can train.
        advance: trains a number of turns on random tokens.
        evaluate: evaluates every run on as many windows as the shape says; None if it was not compiled.
    """

    compile_seconds: float
    turns: int
    advance: Callable[[int], object]
    evaluate: Callable[[], object] | None


def try_out(
    shape: Shape, slots: int, whole: bool = True, interventions: tuple[Any, ...] = (), turns_per_step: int = 1
) -> Trial:
    """Compile a shape for a number of slots.

    Args:
        whole: compile all programs of the shape; else only those that training needs, in three quarters of the time.
        interventions: the fields of the shape's interventions, with their numbers.
        turns_per_step: after how many turns the parameters are updated.
    """
    key = Key(
        shape,
        slots,
        compute_for(jax.default_backend()),
        mesh_for(slots, shape.micro_batch // parts_of(shape.interventions)),
    )
    began = time.process_time()
    compiled, turns = compile_some(key, ("initialise", "advance", *(("enter", "evaluate") if whole else ())))
    compile_seconds = time.process_time() - began
    draw, vocab, context = np.random.default_rng(0), shape.model.vocab, shape.model.context
    data = DataConfig(domain="", tokenizer="bytes", unique_tokens=10**6)
    run = RunConfig(
        model=shape.model, data=data, optimizer=OptimizerConfig(lr=1e-3, kind=shape.optimizer), steps=10**6,
        batch=shape.micro_batch, interventions=interventions,
    )  # fmt: skip
    hyper = stack_hyper([hyper_of(run.model_copy(update={"seed": seed}), turns_per_step) for seed in range(slots)])
    state = compiled["initialise"](hyper)
    tokens = draw.integers(0, vocab, (turns, slots, shape.micro_batch, context + 1)).astype(np.int32)
    windows = draw.integers(0, vocab, (shape.probe_windows, context + 1)).astype(np.int32)
    calls, _ = deal(layout_of(shape, slots, key.mesh), dict.fromkeys(range(slots), windows))

    def advance(count: int) -> object:
        nonlocal state
        state, metrics = compiled["advance"](state, hyper, tokens, np.int32(count))
        return metrics

    def evaluate() -> object:
        return [
            compiled["evaluate"](state.params, state.biases, call.slots, call.tokens, jnp.int32(call.count))
            for call in calls
        ]

    return Trial(compile_seconds, turns, advance, evaluate if whole else None)


class PinnedTeam:
    """Processes, each pinned to a core and with one device, that compile a shape at once and then train a run each.

    The alternative on a CPU is one process with a device per core. On two cores pinned processes trained 5 to 23 % more
    tokens at width 32 and 3 to 6 % more at width 128, because the threads of one process wait for each other.
    """

    def __init__(self, shape: Shape, processes: int):
        cores = sorted(os.sched_getaffinity(0))
        self.processes = processes
        self._members = [spawn(_train_pinned, cores[number], shape) for number in range(processes)]
        self._starts: list[float] = []

    def _answers(self) -> list[Any]:
        return [connection.recv() for _, connection in self._members]

    def wait(self) -> None:
        """Wait until all have compiled; then they do nothing until they are measured."""
        self._starts = self._answers()

    def measure(self) -> tuple[float, float]:
        """The CPU seconds until the slowest was ready to compile, and the FLOP/s of all together; the processes end."""
        for _, connection in self._members:
            connection.send("go")
        speed = sum(self._answers())
        for process, _ in self._members:
            process.join()
        return max(self._starts), speed


def _train_pinned(connection: Connection, core: int, shape: Shape) -> None:
    """The work of one process: it answers with its CPU seconds to start and then, after `go`, with its FLOP/s."""
    os.sched_setaffinity(0, [core])
    jax.config.update("jax_num_cpu_devices", 1)
    jax.devices()
    start = time.process_time()
    trial = try_out(shape, 1, whole=False)
    connection.send(start)
    connection.recv()
    # All processes work for the same time, so that each is timed while the others work, too.
    began, times = time.perf_counter(), []
    turns = max(1, trial.turns // SHARE)
    while time.perf_counter() - began < _SECONDS:
        before = time.perf_counter()
        jax.block_until_ready(trial.advance(turns))
        times.append((time.perf_counter() - before) / turns)
    connection.send(shape.turn_flops / min(times))
