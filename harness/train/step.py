"""One turn of one run, as a pure function: the gradient of a micro-batch, and with a batch's last one the update.

Sizes: R runs (slots), m sequences a turn, T context.
"""

import dataclasses
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, UInt32

from harness.train.optimizer import Hyper, init_moments, learning_rate, transform
from models.rows import row_sum
from models.transformer import Compute, Lookup, init, is_table, look_up, lookup_loss, mean_loss, step_biases
from sweeps.shape import Shape


class State(NamedTuple):
    """What training changes, of one run; with a leading axis on every leaf, of a pack.

    Attributes:
        partial: sums of the gradient, the loss and the squares of its parts' gradients over the batch's turns so far,
            and their number; None for shapes whose batches are one turn.
        alive: false once a loss or a gradient was not finite; the run is frozen from then on.
    """

    params: nnx.State
    biases: nnx.State
    moments: Any
    partial: tuple[nnx.State, Float[Array, "*runs"], Float[Array, "*runs"], Int[Array, "*runs"]] | None
    step: Int[Array, "*runs"]
    alive: Bool[Array, "*runs"]


class Metrics(NamedTuple):
    """What a step records of one run with its last turn; stacked to [k, R] by a dispatch of k turns. The last four are
    of mixtures, else 0.

    Attributes:
        gradient_signal, gradient_noise: unbiased |G|^2 and tr(Sigma) of one sequence's gradient, from the gradients of
            the batch and of its parts (McCandlish et al. 2018, appendix A.1); of all parameters but the vocabulary's
            tables, of which a part knows only some rows. NaN where the batch is computed in one part.
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


def train_turn(
    shape: Shape,
    compute: Compute,
    state: State,
    hyper: Hyper,
    tokens: Int[Array, "m T+1"],
    share_of: str | None = None,
    pieces: int = 1,
) -> tuple[State, Metrics]:
    """One turn of one run; a run past its last step, or not alive, keeps its state to the bit.

    Args:
        share_of: the mesh axis over whose devices the tokens are split by hand; None where they are all of them.
        pieces: parts of the tokens whose gradients are computed one after another; more than one for dense models only.
    """
    model = shape.model
    compute = dataclasses.replace(compute, batch_axis=share_of)

    # Each piece's share of the mean goes into its loss: one pass less over all gradients than dividing their sum.
    share = 1 / (pieces * (1 if share_of is None else jax.lax.axis_size(share_of)))

    def shared(mean, stats, loads):
        mean, stats = jax.tree.map(lambda value: value * share, (mean, stats))
        return mean + stats.aux_loss, (mean, stats, loads)

    def objective(params):
        return shared(*mean_loss(model, params, state.biases, tokens, compute=compute))

    if pieces == 1:
        (_, (loss, stats, loads)), gradient = jax.value_and_grad(objective, has_aux=True)(state.params)
        squares = square_norm(gradient)
    else:
        loss, stats, gradient, squares = _in_pieces(model, state, tokens, compute, pieces, shared)
        loads = []
    parts = jnp.float32(1 / share)
    if share_of is not None:
        flat, restore = ravel_pytree((gradient, loss, squares, stats))
        gradient, loss, squares, stats = restore(jax.lax.psum(flat, share_of))
    squares = squares / share  # each part's gradient has its share as a factor
    running = state.alive & (state.step < hyper.steps)
    complete, partial = True, None
    if state.partial is not None:
        gradient, loss, squares, turns = jax.tree.map(jnp.add, state.partial, (gradient, loss, squares, jnp.int32(1)))
        complete = turns == hyper.turns
        # Kept when the batch goes on, else cleared for the next one; of a run that stands still it stays as it is.
        partial = jax.tree.map(lambda new: jnp.where(complete, 0, new), (gradient, loss, squares, turns))
        partial = jax.tree.map(lambda new, old: jnp.where(running, new, old), partial, state.partial)
        count = hyper.turns.astype(jnp.float32)
        gradient, loss, squares = jax.tree.map(lambda total: total / count, (gradient, loss, squares))
        parts = parts * count
    signal = noise = jnp.float32(jnp.nan)
    blocks = square_norm(gradient)
    if model.moe is None:  # a mixture's parts route what the whole batch decides: they are no samples of it
        signal, noise = _signal_and_noise(blocks, squares, parts, tokens.shape[0] / pieces)
    rate = learning_rate(hyper, state.step)
    norm = jnp.sqrt(blocks + square_norm(gradient, tables=True))
    updates, moments = transform(shape.optimizer, hyper, rate).update(gradient, state.moments, state.params)
    params = cast(nnx.State, optax.apply_updates(state.params, updates))
    biases = step_biases(model, state.biases, loads)
    finite = jnp.isfinite(loss) & jnp.isfinite(norm)
    new = State(params, biases, moments, None, state.step + 1, jnp.ones_like(state.alive))
    taken = running & finite & complete
    kept = jax.tree.map(lambda a, b: jnp.where(taken, a, b), new, state._replace(partial=None))
    alive = jnp.where(running & complete, finite, state.alive)
    return kept._replace(alive=alive, partial=partial), Metrics(loss, rate, norm, signal, noise, *stats)


def _in_pieces(model, state: State, tokens: Int[Array, "m T+1"], compute: Compute, pieces: int, shared):
    """(loss, statistics, gradient, square of the first piece's gradient times their number) of all tokens, some
    sequences at a time; the tables of the vocabulary, 25 MB for 50,304 ids of width 128, are met before and after them.

    One piece's square is an unbiased estimate of all pieces' mean. To square each took 3 to 5 of 70 ms.
    """
    sequences = tokens.shape[0] // pieces

    def first_square(index, gradient):
        return jax.lax.cond(index == 0, lambda: pieces * square_norm(gradient), lambda: jnp.float32(0.0))

    if compute.loss == "plain":
        nothing = jax.tree.map(jnp.zeros_like, (state.params, jnp.float32(0.0), jnp.float32(0.0)))

        def whole(total, piece):
            index, rows = piece

            def objective(params):
                return shared(*mean_loss(model, params, state.biases, rows, compute=compute))

            (_, (loss, stats, _)), gradient = jax.value_and_grad(objective, has_aux=True)(state.params)
            return jax.tree.map(jnp.add, total, (gradient, loss, first_square(index, gradient))), stats

        rows = tokens.reshape(pieces, sequences, -1)
        (gradient, loss, squares), stats = jax.lax.scan(whole, nothing, (jnp.arange(pieces), rows))
        return loss, jax.tree.map(jnp.sum, stats), gradient, squares
    taken, to_tables = jax.vjp(lambda params: look_up(model, params, state.biases, tokens), state.params)

    def objective(params, head, embedded, wanted):
        lookup = Lookup(embedded, wanted, head)
        return shared(*lookup_loss(model, params, state.biases, lookup, sequences, compute=compute))

    def piece(total, inputs):
        index, *rows = inputs
        gradients = jax.value_and_grad(objective, argnums=(0, 1, 2, 3), has_aux=True)
        (_, (loss, stats, _)), (d_params, d_head, *d_rows) = gradients(state.params, taken.head, *rows)
        return jax.tree.map(jnp.add, total, (d_params, d_head, loss, first_square(index, d_params))), (d_rows, stats)

    nothing = jax.tree.map(jnp.zeros_like, (state.params, taken.head, jnp.float32(0.0), jnp.float32(0.0)))
    rows = [rows.reshape(pieces, -1, model.width) for rows in (taken.embedded, taken.wanted)]
    (gradient, d_head, loss, squares), (d_rows, stats) = jax.lax.scan(piece, nothing, (jnp.arange(pieces), *rows))
    embedded, wanted = (rows.reshape(-1, model.width) for rows in d_rows)
    (of_tables,) = to_tables(Lookup(embedded, wanted, d_head))
    return loss, jax.tree.map(jnp.sum, stats), jax.tree.map(jnp.add, gradient, of_tables), squares


def square_norm(gradient: nnx.State, tables: bool = False) -> Float[Array, ""]:
    """Of the gradient of the vocabulary's tables, or of all other parameters."""
    leaves = jax.tree_util.tree_leaves_with_path(gradient)
    squares = [row_sum(jnp.square(leaf).reshape(-1))[0] for path, leaf in leaves if is_table(path) == tables]
    return jnp.stack(squares).sum()


def _signal_and_noise(whole, parts_mean, parts, sequences: float) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """(|G|^2, tr(Sigma) of a sequence) from the square of a batch's gradient and the mean square of its parts'.

    Args:
        sequences: of a part.
    """
    several = jnp.where(parts > 1, parts, 2.0)
    signal = (several * whole - parts_mean) / (several - 1.0)
    noise = (parts_mean - whole) * sequences * several / (several - 1.0)
    return jnp.where(parts > 1, signal, jnp.nan), jnp.where(parts > 1, noise, jnp.nan)


def new_state(shape: Shape, seed: UInt32[Array, ""]) -> State:
    """A run before its first step."""
    params, biases = init(shape.model, jax.random.key(seed))
    partial = None
    if shape.accumulates:
        partial = jax.tree.map(jnp.zeros_like, params), jnp.float32(0.0), jnp.float32(0.0), jnp.int32(0)
    return State(params, biases, init_moments(shape.optimizer, params), partial, jnp.int32(0), jnp.bool_(True))
