"""`isogap time`: how long the shapes of a sweep train and decode on this machine, beside FLOPs and bytes moved."""

import dataclasses
import functools
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Float
from rich.console import Console

from harness.files import default_cache
from harness.machine import platform
from harness.machine.trial import try_out
from harness.record.table import check_ending, write_table
from harness.terminal import print_rows
from harness.train.accelerators import Accelerator, accelerator_of
from harness.train.programs import mesh_for
from models.compute import compute_for
from models.config import ModelConfig
from models.count import count, flops, token_flops
from models.decode import decode_tokens, prefill
from models.intervention import name_of
from models.traffic import decode_traffic, step_traffic
from models.transformer import init, logits
from sweeps.config import RunConfig
from sweeps.errors import InputError
from sweeps.grid import load
from sweeps.shape import Shape, micro_tokens_of, parts_of, run_bytes, shape_of, turns_per_step

# What is decoded, where the context allows it: the prompt and answer with which latencies of small models are published
# (arXiv 2501.18107). Shorter contexts are divided in the same proportion.
PROMPT, NEW = 128, 256
# A call is repeated on the device without waiting until it takes so many seconds, so that starting it does not count.
LEAST_SECONDS = 0.005
# The fewest calls that are timed, however long they take.
LEAST_CALLS = 5
# What is timed, in seconds: a training step, the pass over a prompt, and decoding a token. Models with masks or patches
# cannot decode: of them the pass over a whole window is timed, and the columns of decoding are empty.
STEP, PREFILL, DECODE = "step_seconds", "prefill_seconds", "decode_seconds_per_token"
# What is printed; `--out` and `--json` have all columns.
PRINTED = (
    "architecture", "width", "depth", "heads", "ffn_width", "batch", "context", "N_total", "step_seconds",
    "step_seconds_iqr", "prefill_seconds", "decode_seconds_per_token", "flops_step", "bytes_step", "flops_decode",
    "bytes_decode",
)  # fmt: skip


class Repeated(NamedTuple):
    """Seconds of a call: the median of `calls` of them, the range of their middle half, and the least.

    The least is what other programs of the machine delayed least.
    """

    seconds: float
    iqr: float
    least: float
    calls: int

    def columns(self, name: str) -> dict[str, float]:
        """The columns of a time."""
        return {name: self.seconds, f"{name}_iqr": self.iqr, f"{name}_least": self.least}


class Prepared(NamedTuple):
    """A compiled call that waits for its result, and how many of what is timed it has: steps, passes or tokens."""

    call: Callable[[], None]
    units: int


@dataclasses.dataclass(frozen=True)
class TimedShape:
    """A shape of a sweep to be timed.

    Attributes:
        run: the first run of this shape.
        shape: what the program that trains it depends on.
        turns: turns of a step.
    """

    run: RunConfig
    shape: Shape
    turns: int

    @property
    def key(self) -> tuple[Shape, int]:
        """What runs share that are timed once."""
        return self.shape, self.turns


def time_sweep(sweep: str, out: Path | None, json_: bool, repeats: int, seconds: float, cache: Path | None) -> None:
    """Time every different shape of a sweep that fits the memory, and print or write the table.

    Raises:
        InputError: a bad spec or option, or no cell that can run.
    """
    if out is not None:
        check_ending(out)
    configs = load(sweep).configs
    platform.configure_jax(default_cache() if cache is None else cache, len(os.sched_getaffinity(0)))
    accelerator = accelerator_of(jax.devices()[0])
    shapes = shapes_of(configs, micro_tokens_of(jax.default_backend(), accelerator and accelerator.memory))
    most = memory_of_shapes(accelerator)
    console, rows = Console(stderr=True), []
    for number, each in enumerate(shapes, 1):
        model, needed = each.run.model, run_bytes(each.shape)
        console.print(
            f"  {number} of {len(shapes)}: {model.architecture}, width {model.width}, depth {model.depth}, "
            f"{each.run.batch} x {model.context} tokens"
            + (f": left out, it needs {needed / 1e9:.2g} GB of {most / 1e9:.2g} GB" if needed > most else "")
        )
        if needed <= most:
            rows.append(row_of(each, time_shape(each, repeats, seconds)))
    if not rows:
        raise InputError(sweep, "cells", len(configs), f"one that can run in {most / 1e9:.2g} GB of memory")
    written = None if out is None else write_table(pd.DataFrame(rows), out)
    if json_:
        print(json.dumps(rows, allow_nan=False))
        return
    print_rows([{name: row[name] for name in PRINTED} for row in rows])
    if written:
        print(f"{written} rows in {out}")


def memory_of_shapes(accelerator: Accelerator | None) -> int:
    """The bytes that a shape may need: four fifths of an accelerator's memory, half of the machine's for a CPU."""
    if accelerator is not None and accelerator.memory is not None:
        return accelerator.memory * 4 // 5
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def shapes_of(configs: Iterable[RunConfig], micro_tokens: int) -> list[TimedShape]:
    """The different shapes of runs, each with its first run; how many windows are evaluated makes no difference."""
    found: dict[tuple[Shape, int], TimedShape] = {}
    for timing in (timed_shape(run, micro_tokens) for run in configs):
        found.setdefault(timing.key, timing)
    return list(found.values())


def timed_shape(run: RunConfig, micro_tokens: int) -> TimedShape:
    """A run as its shape is timed."""
    shape = dataclasses.replace(shape_of(run, micro_tokens), probe_windows=1)
    return TimedShape(run, shape, turns_per_step(run, shape))


def time_shape(timing: TimedShape, repeats: int, limit: float) -> dict[str, Any]:
    """The measured columns of a shape, in seconds.

    Args:
        repeats: how often a step, the pass over a prompt, and the decoding of all tokens after it are timed.
        limit: seconds after which each of the three is timed no further than LEAST_CALLS times.
    """
    return _columns({name: _timed(*each, repeats, limit) for name, each in prepare_calls(timing).items()})


def time_in_rounds(shapes: Sequence[TimedShape], rounds: int) -> list[dict[str, Any]]:
    """The measured columns of shapes that are timed in turns, so that what slows the machine slows all of them alike.

    In every round each shape is timed once, in a new random order. All are compiled before, and held in memory at once.

    Returns:
        for each shape the columns of `time_shape`, and `step_seconds_rounds`, `prefill_seconds_rounds` and, where it
        decodes, `decode_seconds_per_token_rounds`, the seconds of every round.
    """
    prepared = [prepare_calls(timing) for timing in shapes]
    seconds = [{name: np.zeros(rounds) for name in each} for each in prepared]
    rng = np.random.default_rng(0)
    for place in range(rounds):
        for number in rng.permutation(len(shapes)):
            for name, (call, units) in prepared[number].items():
                seconds[number][name][place] = _seconds_of(call) / units
    return [
        _columns({name: _repeated(times) for name, times in each.items()})
        | {f"{name}_rounds": times for name, times in each.items()}
        for each in seconds
    ]


def _columns(timed: Mapping[str, Repeated]) -> dict[str, Any]:
    decoding = timed.get(DECODE)
    return {
        **timed[STEP].columns(STEP),
        "step_calls": timed[STEP].calls,
        **timed[PREFILL].columns(PREFILL),
        **(decoding.columns(DECODE) if decoding else dict.fromkeys((DECODE, f"{DECODE}_iqr", f"{DECODE}_least"))),
        "decode_calls": decoding and decoding.calls,
    }


def prepare_calls(timing: TimedShape) -> dict[str, Prepared]:
    """Compile what is timed of a shape, and call each once: STEP, PREFILL and, where it decodes, DECODE."""
    model = timing.run.model
    further = _prepare_decoding(model, *decoded_tokens(model)) if model.aim.decodes else _prepare_pass(model)
    return {STEP: _prepare_step(timing), **further}


def decoded_tokens(model: ModelConfig) -> tuple[int, int]:
    """The tokens of the prompt and those decoded after it: 128 and 256, or a third and two thirds of the context.

    Of a model that cannot decode they are all tokens of a window, and none.
    """
    if not model.aim.decodes:
        return model.context, 0
    prompt = max(1, min(PROMPT, model.context // 3))
    return prompt, max(1, min(NEW, model.context - prompt))


def row_of(timing: TimedShape, measured: dict[str, Any]) -> dict[str, Any]:
    """The row of a shape: what it is, what was measured of it, and what the accountants say."""
    run, model, shape = timing.run, timing.run.model, timing.shape
    sizes, (prompt, new) = count(model), decoded_tokens(model)
    slots = prompt + new - 1
    number_bytes = jnp.dtype(compute_for(jax.default_backend()).dtype).itemsize
    step = step_traffic(model, run.batch, optimizer=shape.optimizer, turns=timing.turns, activation_bytes=number_bytes)
    token = decode_traffic(model, 1, slots, activation_bytes=number_bytes) if model.aim.decodes else None
    device = jax.devices()[0]
    return {
        "run_id": run.run_id,
        "architecture": model.architecture,
        "width": model.width,
        "depth": model.depth,
        "heads": model.heads,
        "ffn_width": model.ffn_width,
        "experts": model.moe.experts if model.moe else 0,
        "vocab": model.vocab,
        "context": model.context,
        "batch": run.batch,
        "batch_tokens": run.batch_tokens,
        "turns": timing.turns,
        "optimizer": shape.optimizer,
        "interventions": " ".join(map(name_of, shape.interventions)) or "none",
        "N_total": sizes.total,
        "N_nonembedding": sizes.nonembedding,
        "N_active": sizes.active,
        **measured,
        "token_seconds": measured["step_seconds"] / run.batch_tokens,
        "prompt_tokens": prompt,
        "new_tokens": new,
        "flops_step": float(flops(model).train * run.batch_tokens),
        "bytes_step": step.total,
        "bytes_step_parameters": step.parameters,
        "bytes_step_activations": step.activations,
        "bytes_step_scores": step.scores,
        "flops_decode": token and float(token_flops(model, slots)),
        "bytes_decode": token and token.total,
        "bytes_decode_parameters": token and token.parameters,
        "bytes_decode_activations": token and token.activations + token.scores,
        "bytes_decode_cache": token and token.cache,
        "device": device.device_kind,
        "devices": mesh_for(1, shape.micro_batch // parts_of(shape.interventions)).devices.size,
    }


def _prepare_step(timing: TimedShape) -> Prepared:
    """A step of one run alone, on all devices that share its batch, as `isogap run` takes it."""
    trial = try_out(timing.shape, 1, False, timing.run.interventions, timing.turns)

    def steps(number: int) -> None:
        left, done = number * timing.turns, None
        while left:
            turns = min(left, trial.turns)
            done = trial.advance(turns)
            left -= turns
        jax.block_until_ready(done)

    steps(1)
    began = time.perf_counter()
    steps(1)
    seconds = max(time.perf_counter() - began, 1e-9)
    together = max(1, min(round(LEAST_SECONDS / seconds), trial.turns // timing.turns))
    return Prepared(lambda: steps(together), together)


def _prepare_decoding(model: ModelConfig, prompt: int, new: int) -> dict[str, Prepared]:
    """The pass over a prompt, and the decoding of all tokens after it, for one sequence on one device."""
    compute = compute_for(jax.default_backend())
    params, biases = jax.jit(functools.partial(init, model))(jax.random.key(0))
    prompts = jax.random.randint(jax.random.key(1), (1, prompt), 0, model.vocab)
    lengths, keys = jnp.full(1, prompt, jnp.int32), jax.random.split(jax.random.key(2), 1)
    begin = jax.jit(functools.partial(prefill, model, new=new, compute=compute))
    first, kept = begin(params, biases, prompts, lengths)
    draw = jax.jit(functools.partial(decode_tokens, model, new=new, compute=compute))

    def begins() -> None:
        jax.block_until_ready(begin(params, biases, prompts, lengths))

    def draws() -> None:
        jax.block_until_ready(draw(params, biases, first, kept, keys, jnp.float32(1.0)))

    draws()
    return {PREFILL: Prepared(begins, 1), DECODE: Prepared(draws, new)}


def _prepare_pass(model: ModelConfig) -> dict[str, Prepared]:
    """The pass over a window, with the logits of all its tokens, for one sequence on one device."""
    compute = compute_for(jax.default_backend())
    params, biases = jax.jit(functools.partial(init, model))(jax.random.key(0))
    inputs = jax.random.randint(jax.random.key(1), (1, model.context), 0, model.vocab)
    predict = jax.jit(functools.partial(logits, model, compute=compute))

    def predicts() -> None:
        jax.block_until_ready(predict(params, biases, inputs))

    predicts()
    return {PREFILL: Prepared(predicts, 1)}


def _timed(call: Callable[[], None], units: int, calls: int, limit: float) -> Repeated:
    """The time of each of a call's `units`, over a number of calls; after `limit` seconds over LEAST_CALLS or more."""
    times: list[float] = []
    while len(times) < calls and (len(times) < LEAST_CALLS or sum(times) <= limit):
        times.append(_seconds_of(call))
    return _repeated(np.asarray(times) / units)


def _seconds_of(call: Callable[[], None]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _repeated(seconds: Float[np.ndarray, "calls"]) -> Repeated:
    low, middle, high = np.quantile(seconds, [0.25, 0.5, 0.75])
    return Repeated(float(middle), float(high - low), float(seconds.min()), len(seconds))
