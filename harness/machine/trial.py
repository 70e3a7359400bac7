"""A compiled shape that trains on random tokens, so that it can be timed."""

import dataclasses
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from harness.train.optimizer import hyper_of, stack_hyper
from harness.train.programs import Key, evaluation_chunks, mesh_for, programs
from models.compute import compute_for
from sweeps.config import DataConfig, OptimizerConfig, RunConfig
from sweeps.shape import Shape


@dataclasses.dataclass(frozen=True)
class Trial:
    """A compiled shape, and functions that run it. Both return before the device is done: wait for their results.

    Attributes:
        compile_seconds: time that compiling took.
        turns: most turns that one call of `advance` can train.
        advance: trains a number of turns.
        evaluate: evaluates one run.
    """

    compile_seconds: float
    turns: int
    advance: Callable[[int], object]
    evaluate: Callable[[], object]


def try_out(shape: Shape, slots: int) -> Trial:
    """Compile a shape for so many slots, and train it for one turn on random tokens."""
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
        return compiled.evaluate(state.params, state.biases, jnp.int32(0), windows)

    jax.block_until_ready(advance(1))
    return Trial(compile_seconds, compiled.turns, advance, evaluate)
