"""One turn of one run, as a pure function: the gradient of a micro-batch, and the update after the last one of a batch.

Sizes: R runs (slots), m sequences of a micro-batch, T context, n rows of a chunk.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.experimental.xla_metadata import set_xla_metadata
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, Key

from harness.train import interventions
from harness.train.optimizer import Hyper, init_moments, learning_rate, transform
from models.complete_p import multipliers
from models.compute import Compute
from models.cpu.row_ops import row_sum
from models.intervention import Moment, no_tap
from models.moe import RouterStats, step_biases
from models.objective import Example, show
from models.transformer import Lookup, init, look_up, mean_loss
from models.weights import is_table
from sweeps.shape import Shape

# With which the key of a micro-batch's masks is made: above all numbers of chunks, whose keys are made likewise.
_MASKS = 2**16


class BatchGradient(NamedTuple):
    """The gradient of a batch with its loss: means over its turns, or sums over the turns that are done so far.

    Where some targets do not count, turns are weighted by the number of those that do, so that the mean is over all
    targets of the batch that count. If there are none, loss and gradient are 0.

    Attributes:
        gradient: the gradient of the mean loss of a micro-batch.
        loss: the mean loss of a micro-batch.
        squares: mean squared norm of the gradients of a micro-batch's chunks, without the vocabulary's tables.
        turns: the number of turns that are done.
        counted: the number of targets that count, of all devices; None where all do.
    """

    gradient: nnx.State
    loss: Float[Array, "*runs"]
    squares: Float[Array, "*runs"]
    turns: Int[Array, "*runs"]
    counted: Float[Array, "*runs"] | None = None


class TrainState(NamedTuple):
    """The state of one run that training changes; for a pack every leaf has a leading axis of runs.

    Attributes:
        partial: the sums over the turns of an unfinished batch; None for shapes whose batches are one turn.
        alive: false once a loss or a gradient was not finite; the run is frozen from then on.
        own: the state of each intervention.
    """

    params: nnx.State
    biases: nnx.State
    moments: Any
    partial: BatchGradient | None
    step: Int[Array, "*runs"]
    alive: Bool[Array, "*runs"]
    own: tuple[Any, ...] = ()


class Metrics(NamedTuple):
    """What is recorded about a run after each turn, and kept for the last turn of a step; [k, R] for a dispatch.

    Attributes:
        gradient_signal, gradient_noise: unbiased estimates of |G|^2 and of tr(Sigma) for one sequence, from the
            gradients of the batch and of its chunks (McCandlish et al. 2018, appendix A.1). They leave out the
            vocabulary's tables, of which a chunk uses only some rows. NaN if the batch is one chunk.
        load_cv, drop_fraction, router_entropy, aux_loss: see `models.moe.RouterStats`; 0 without a mixture.
    """

    train_loss: Float[Array, "*turns_runs"]
    lr: Float[Array, "*turns_runs"]
    grad_norm: Float[Array, "*turns_runs"]
    gradient_signal: Float[Array, "*turns_runs"]
    gradient_noise: Float[Array, "*turns_runs"]
    load_cv: Float[Array, "*turns_runs"]
    drop_fraction: Float[Array, "*turns_runs"]
    router_entropy: Float[Array, "*turns_runs"]
    aux_loss: Float[Array, "*turns_runs"]


def new_state(shape: Shape, hyper: Hyper) -> TrainState:
    """The state of a run before its first step."""
    key = jax.random.key(hyper.seed)
    params, biases = init(shape.model, key)
    partial = None
    if shape.accumulates:
        counted = jnp.float32(0.0) if shape.model.aim.weighs else None
        zeros = jax.tree.map(jnp.zeros_like, params)
        partial = BatchGradient(zeros, jnp.float32(0.0), jnp.float32(0.0), jnp.int32(0), counted)
    moments = init_moments(shape.optimizer, params, multipliers(shape.model, params))
    return begin_again(shape, hyper, TrainState(params, biases, moments, partial, jnp.int32(0), jnp.bool_(True)))


def begin_again(shape: Shape, hyper: Hyper, state: TrainState) -> TrainState:
    """The state with the states of its interventions as before the first step."""
    key = jax.random.fold_in(jax.random.key(hyper.seed), 1)
    return state._replace(own=interventions.begin(shape, hyper, state._replace(own=()), key))


def train_turn(
    shape: Shape, compute: Compute, state: TrainState, hyper: Hyper, tokens: Int[Array, "m T+1"], chunks: int = 1
) -> tuple[TrainState, Metrics]:
    """One turn of one run, or what an intervention does in its place; for the arguments see `plain_turn`."""
    if not interventions.around(shape):
        return plain_turn(shape, compute, state, hyper, tokens, chunks)
    ((intervention, fields),) = interventions.active(shape, hyper)
    plain = dataclasses.replace(shape, interventions=())

    def turn(state: TrainState, tokens: Int[Array, "m T+1"]) -> tuple[TrainState, Metrics]:
        return plain_turn(plain, compute, state, hyper._replace(interventions=()), tokens)

    assert intervention.around is not None
    (own,) = state.own
    moment = Moment(state.step, hyper.steps, hyper.seed)
    state, own, metrics = intervention.around(fields, own, state, tokens, moment, turn)
    return state._replace(own=(own,)), metrics


def plain_turn(
    shape: Shape, compute: Compute, state: TrainState, hyper: Hyper, tokens: Int[Array, "m T+1"], chunks: int = 1
) -> tuple[TrainState, Metrics]:
    """One turn of one run; a run past its last step, or not alive, keeps its state to the bit.

    Args:
        tokens: the micro-batch; with a `compute.batch_axis`, this device's share of it.
        chunks: number of chunks in which the gradient of the tokens is computed, one by one; 1 for mixtures.
    """
    gradient_of = functools.partial(micro_batch_gradient, shape, compute, chunks=chunks)
    if compute.experts == "looped" and shape.model.moe is not None:
        # The runs of a pack one after another: their loops over blocks of experts end at different blocks. Eight packed
        # top2 of 2 layers of width 32 take 17.8 ms a step so, and 19.9 side by side.
        gradient_of = jax.custom_batching.sequential_vmap(gradient_of)
    moment = Moment(state.step, hyper.steps, hyper.seed)
    params = interventions.seen(shape, hyper, state.own, state.params)
    keyed = None
    if interventions.has_taps(shape) or shape.model.draws:
        turn = 0 if state.partial is None else state.partial.turns
        keyed = hyper, jax.random.fold_in(moment.key(), turn)
    batch, stats, loads = gradient_of(params, state.biases, tokens, keyed)
    samples = jnp.float32(chunks * _devices(compute))
    running = state.alive & (state.step < hyper.steps)
    complete, partial = True, None
    if state.partial is not None:
        batch, complete, partial = accumulate(state.partial, batch, running, hyper.turns)
        samples = samples * hyper.turns.astype(jnp.float32)
    rate = learning_rate(hyper, state.step)
    square = square_norm(batch.gradient)
    gradient = interventions.changed_gradient(shape, hyper, state.own, batch.gradient, moment)
    norm = jnp.sqrt((square if gradient is batch.gradient else square_norm(gradient)) + square_norm(gradient, True))
    signal = noise = jnp.float32(jnp.nan)
    if shape.model.moe is None:  # a mixture's chunks are not samples: routing depends on the whole batch
        signal, noise = signal_and_noise(square, batch.squares, samples, tokens.shape[0] / chunks)
    updated = apply_update(shape, hyper, rate, state, gradient, norm, loads)
    params, own = interventions.after_update(shape, hyper, state.own, state.params, updated.params, moment)
    updated = updated._replace(params=params, own=own)
    is_finite = jnp.isfinite(batch.loss) & jnp.isfinite(norm)
    kept = freeze(state, updated, running & complete, is_finite)
    return kept._replace(partial=partial), Metrics(batch.loss, rate, norm, signal, noise, *stats)


def _devices(compute: Compute) -> int:
    return 1 if compute.batch_axis is None else jax.lax.axis_size(compute.batch_axis)


def micro_batch_gradient(
    shape: Shape,
    compute: Compute,
    params: nnx.State,
    biases: nnx.State,
    tokens: Int[Array, "m T+1"],
    keyed: tuple[Hyper, Key[Array, ""]] | None = None,
    *,
    chunks: int,
) -> tuple[BatchGradient, RouterStats, list[Float[Array, " experts"]]]:
    """(The gradient of a turn over all devices that share it, the routers' statistics, each mixture layer's loads).

    Args:
        keyed: the numbers and the random key of taps and of what the model draws; None if nothing is drawn.
    """
    model, devices = shape.model, _devices(compute)
    # The weight of a chunk in the mean. It is a factor of the chunk's loss, which saves dividing the sum of gradients.
    share = 1 / (chunks * devices)
    hyper, key = keyed or (None, None)
    if key is not None and compute.batch_axis is not None:
        key = jax.random.fold_in(key, jax.lax.axis_index(compute.batch_axis))
    example = show(model, tokens, None if key is None else jax.random.fold_in(key, _MASKS), training=True)
    counted = total = None
    if example.weights is not None:
        counted = example.weights.sum()
        if compute.batch_axis is not None:
            counted = jax.lax.psum(counted, compute.batch_axis)
        total = jnp.maximum(counted, 1.0) * share

    def objective(params, lookup, example, chunk=0):
        tap, own = no_tap, None
        if hyper is not None and key is not None:
            own = jax.random.fold_in(key, chunk)
            tap = interventions.taps(shape, hyper, own)
        mean, stats, loads = mean_loss(
            model, params, biases, example, compute=compute, lookup=lookup, tap=tap, key=own, total=total
        )
        mean, stats = jax.tree.map(lambda value: value * share, (mean, stats))
        return mean + stats.aux_loss, (mean, stats, loads)

    gradient_of = jax.value_and_grad(objective, argnums=(0, 1), has_aux=True)
    if chunks == 1:
        (_, (loss, stats, loads)), (gradient, _) = gradient_of(params, None, example)
        squares = square_norm(gradient)
    else:
        look_up_tables = functools.partial(look_up, model, biases=biases, example=example, compute=compute)
        loss, stats, gradient, squares = chunked_gradient(gradient_of, look_up_tables, params, example, chunks)
        loads = []
    if compute.batch_axis is not None:
        flat, restore = ravel_pytree((gradient, loss, squares, stats))
        summed = jax.lax.psum(flat, compute.batch_axis)
        # A call that stays a call, so that leaves become arrays. XLA compiles equal kernels once, and no two updates
        # that read their gradients from places in `summed` are equal: 400 kernels instead of 274 for 4 layers of width
        # 128, and twice the CPU seconds of compiling a step.
        with set_xla_metadata(inlineable="false"):
            gradient, loss, squares, stats = jax.jit(restore)(summed)
    # The share is a factor of each chunk's gradient, so that the squares add up to their mean times the share.
    return BatchGradient(gradient, loss, squares / share, jnp.int32(1), counted), stats, loads


def chunked_gradient(
    gradient_of: Callable[..., Any],
    look_up_tables: Callable[[nnx.State], Lookup],
    params: nnx.State,
    example: Example,
    chunks: int,
) -> tuple[Float[Array, ""], RouterStats, nnx.State, Float[Array, ""]]:
    """(Loss, statistics, gradient, squares) of an example whose chunks are computed one after another.

    The vocabulary's tables are used only before and after all chunks, because they are large: 25 MB for 50,304 ids of
    width 128. The squares are the number of chunks times the squared norm of the first chunk's gradient, an unbiased
    estimate of the sum over all chunks. Squaring every chunk's gradient took 3 to 5 of the 70 ms of a step.

    Args:
        gradient_of: (params, lookup, a chunk of the example, its number) -> ((_, (loss, stats, _)), gradients by params
            and lookup).
    """
    lookup, to_tables = jax.vjp(look_up_tables, params)

    def add_chunk(total, chunk):
        index, rows, part = chunk
        (_, (loss, stats, _)), (d_params, d_lookup) = gradient_of(params, Lookup(lookup.head, rows), part, index)
        square = jax.lax.cond(index == 0, lambda: chunks * square_norm(d_params), lambda: jnp.float32(0.0))
        total = jax.tree.map(jnp.add, total, (d_params, d_lookup.head, loss, square))
        return total, (d_lookup.rows, stats)

    zeros = jax.tree.map(jnp.zeros_like, (params, lookup.head, jnp.float32(0.0), jnp.float32(0.0)))
    rows, split = jax.tree.map(lambda x: x.reshape(chunks, -1, x.shape[-1]), (lookup.rows, example))
    total, (d_rows, stats) = jax.lax.scan(add_chunk, zeros, (jnp.arange(chunks), rows, split))
    gradient, d_head, loss, squares = total
    if d_head is not None:
        (d_tables,) = to_tables(Lookup(d_head, jax.tree.map(lambda x: x.reshape(-1, x.shape[-1]), d_rows)))
        gradient = jax.tree.map(jnp.add, gradient, d_tables)
    return loss, jax.tree.map(jnp.sum, stats), gradient, squares


def accumulate(
    partial: BatchGradient, turn: BatchGradient, running: Bool[Array, ""], turns: Int[Array, ""]
) -> tuple[BatchGradient, Bool[Array, ""], BatchGradient]:
    """(Means over the batch, whether its last turn is done, the sums to keep for the next turn)."""
    if turn.counted is not None:
        gradient, loss, squares = jax.tree.map(lambda mean: mean * turn.counted, turn[:3])
        turn = BatchGradient(gradient, loss, squares, turn.turns, turn.counted)
    total = jax.tree.map(jnp.add, partial, turn)
    complete = total.turns == turns
    # The sums are cleared after the last turn; a run that is not running keeps its sums.
    kept = jax.tree.map(lambda new: jnp.where(complete, 0, new), total)
    kept = jax.tree.map(lambda new, old: jnp.where(running, new, old), kept, partial)
    count = turns.astype(jnp.float32) if total.counted is None else jnp.maximum(total.counted, 1.0)
    gradient, loss, squares = jax.tree.map(lambda sums: sums / count, total[:3])
    return BatchGradient(gradient, loss, squares, total.turns, total.counted), complete, kept


def square_norm(gradient: nnx.State, tables: bool = False) -> Float[Array, ""]:
    """The squared norm of a gradient over the vocabulary's tables, or over all other parameters."""
    leaves = jax.tree_util.tree_leaves_with_path(gradient)
    squares = [row_sum(jnp.square(leaf).reshape(-1))[0] for path, leaf in leaves if is_table(path) == tables]
    return jnp.stack(squares).sum()


def signal_and_noise(
    whole: Float[Array, ""], chunk_mean: Float[Array, ""], chunks: Float[Array, ""], sequences: float
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """(|G|^2, tr(Sigma) of a sequence), see `Metrics`; NaN for a single chunk.

    Args:
        whole: the squared norm of the batch's gradient.
        chunk_mean: the mean squared norm of the gradients of its chunks.
        chunks: the number of chunks in the batch.
        sequences: the number of sequences in each chunk.
    """
    several = jnp.where(chunks > 1, chunks, 2.0)
    signal = (several * whole - chunk_mean) / (several - 1.0)
    noise = (chunk_mean - whole) * sequences * several / (several - 1.0)
    return jnp.where(chunks > 1, signal, jnp.nan), jnp.where(chunks > 1, noise, jnp.nan)


def apply_update(
    shape: Shape, hyper: Hyper, rate: Float[Array, ""], state: TrainState, gradient: nnx.State,
    norm: Float[Array, ""], loads: list[Array],
) -> TrainState:  # fmt: skip
    """The state after one update: the optimizer steps the parameters along the gradient, whose norm is `norm`, and the
    experts' selection biases move according to the loads of the experts.
    """
    update = transform(shape.optimizer, hyper, rate, multipliers(shape.model, state.params))
    updates, moments = update.update(gradient, state.moments, state.params, norm=norm)
    params = cast(nnx.State, optax.apply_updates(state.params, updates))
    biases = step_biases(shape.model, state.biases, loads)
    return state._replace(params=params, biases=biases, moments=moments, step=state.step + 1)


def freeze(state: TrainState, updated: TrainState, due: Bool[Array, ""], is_finite: Bool[Array, ""]) -> TrainState:
    """The updated state if an update is due and finite, else the old one; its `alive` is updated whenever one is due.

    The sums of an unfinished batch are left out (`partial` is None).
    """
    new, old = updated._replace(partial=None), state._replace(partial=None)
    kept = jax.tree.map(lambda new, old: jnp.where(due & is_finite, new, old), new, old)
    return kept._replace(alive=jnp.where(due, is_finite, state.alive))
