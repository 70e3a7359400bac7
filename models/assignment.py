"""The balanced assignment of rows to experts with the largest sum of scores, a transport problem, solved exactly.

Sinkhorn's algorithm finds prices of the experts at which about as many rows want each of them. The assignment in which
every row takes its best expert at these prices is the best of all with the same loads. It is balanced by moving one row
after another along the cheapest chain of exchanges from an expert with too many rows to one with too few, which keeps
it the best of all with its loads (successive shortest paths: Ahuja, Magnanti, Orlin, Network Flows, 1993, 9.7). This is
done in integers, which have no roundings that could make a chain a circle.

Sizes: n rows, E experts.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from models.cpu.row_ops import row_max, row_sum

# Temperatures of Sinkhorn's algorithm as shares of the scores' standard deviation, and its iterations at each. They
# leave 7 to 12 of 1,024 rows to exchange among 8 experts, and 78 to 168 of 16,384 rows among 64.
TEMPERATURES = (0.3, 0.1, 0.03, 0.01)
ITERATIONS = 12
# What no sum of scores reaches, and twice of which is an int32.
_NEVER = 2**29


def balanced_assignment(scores: Float[Array, "n E"]) -> Int[Array, " n"]:
    """The expert of each row; every expert has n / E rows, rounded up or down, and the scores' sum is the largest.

    Scores are rounded first, to 2^-23 of the largest difference between a row's own, for more than 16 experts to
    2^-27 E. There are at most 2^16 experts.
    """
    bits = min(23, 27 - math.ceil(math.log2(scores.shape[1])))
    of_expert = (scores - scores.max(axis=1, keepdims=True)).T  # rows in the lanes of a CPU
    unit = 2.0**bits / jnp.maximum(-of_expert.min(), 1e-12)
    whole = jnp.round(of_expert * unit).astype(jnp.int32)
    price = jnp.round(jnp.clip(sinkhorn_prices(of_expert) * unit, -_NEVER, _NEVER)).astype(jnp.int32)
    return _balance(whole, (whole - price[:, None]).argmax(axis=0))


def sinkhorn_prices(of_expert: Float[Array, "E n"]) -> Float[Array, " E"]:
    """What an expert costs, so that softmax((score - price) / temperature) gives each about as many rows.

    Sinkhorn's algorithm for optimal transport with an entropy (Cuturi 2013), at falling temperatures.
    """
    experts, rows = of_expert.shape
    spread = jnp.maximum((of_expert - of_expert.mean(1, keepdims=True)).std(), 1e-12)

    def step(index: Int[Array, ""], price: Float[Array, " E"]) -> Float[Array, " E"]:
        temperature = spread * jnp.asarray(TEMPERATURES, jnp.float32)[index // ITERATIONS]
        share = jax.nn.softmax((of_expert - price[:, None]) / temperature, axis=0)
        load = jnp.maximum(row_sum(share)[:, 0], 1e-6)  # an expert that nobody wants becomes cheaper step by step
        return price + temperature * jnp.log(load * (experts / rows))

    return jax.lax.fori_loop(0, len(TEMPERATURES) * ITERATIONS, step, jnp.zeros(experts, jnp.float32))


class _State(NamedTuple):
    """An assignment that is the best of all with its loads, and what it costs to move a row between experts.

    Attributes:
        expert: the expert of each row.
        load: the rows of each expert.
        cost: the least loss of score by moving one row of the first expert to the second; _NEVER without a row.
    """

    expert: Int[Array, " n"]
    load: Int[Array, " E"]
    cost: Int[Array, "E E"]


class _Chain(NamedTuple):
    """The cheapest chain of exchanges from an expert with too many rows to one with too few.

    Attributes:
        last: the expert at its end.
        before: for each expert the one from which it gets a row; -1 at the beginning of a chain.
        is_due: whether there is one that must be exchanged, or whose exchange gains something.
    """

    last: Int[Array, ""]
    before: Int[Array, " E"]
    is_due: Bool[Array, ""]


def _balance(of_expert: Int[Array, "E n"], expert: Int[Array, " n"]) -> Int[Array, " n"]:
    """Balance an assignment that is the best of all with its loads."""
    experts, rows = of_expert.shape
    low, high = rows // experts, -(-rows // experts)

    def cost_of_moving(there: Int[Array, ""], expert: Int[Array, " n"]) -> Int[Array, " E"]:
        loss = jnp.where((expert == there)[None], of_expert[there][None] - of_expert, _NEVER)
        return -row_max(-loss)[:, 0]

    def cheapest_chain(state: _State) -> _Chain:
        load, over, under = state.load, state.load > high, state.load < low
        # What must be comes before what may be: one of `high` rows may be given away, and one beyond `low` be taken.
        sources = jnp.where(over.any(), over, load > low)
        sinks = jnp.where(under.any(), under, load < high)

        def relax(carry):
            distance, before, _ = carry
            through = distance[:, None] + state.cost
            best = through.min(axis=0)
            nearer = best < distance
            before = jnp.where(nearer, through.argmin(axis=0), before)
            return jnp.where(nearer, best, distance), before, nearer.any()

        start = jnp.where(sources, 0, _NEVER), jnp.full(experts, -1), jnp.bool_(True)
        distance, before, _ = jax.lax.while_loop(lambda carry: carry[2], relax, start)
        ends = jnp.where(sinks, distance, _NEVER)
        last = ends.argmin()
        return _Chain(last, before, over.any() | under.any() | (ends[last] < 0))

    def exchange(carry):
        state, chain = carry

        def move(carry):
            expert, here = carry
            there = chain.before[here]
            loss = jnp.where(expert == there, of_expert[there] - of_expert[here], _NEVER)
            return expert.at[loss.argmin()].set(here), there

        def refresh(carry):
            cost, here = carry
            return cost.at[here].set(cost_of_moving(here, expert)), chain.before[here]

        # From the end, so that no row that has just come moves on.
        expert, first = jax.lax.while_loop(lambda carry: chain.before[carry[1]] >= 0, move, (state.expert, chain.last))
        cost, _ = jax.lax.while_loop(lambda carry: carry[1] >= 0, refresh, (state.cost, chain.last))
        state = _State(expert, state.load.at[first].add(-1).at[chain.last].add(1), cost)
        return state, cheapest_chain(state)

    load = jnp.zeros(experts, jnp.int32).at[expert].add(1)
    loss = jnp.take_along_axis(of_expert, expert[None], axis=0) - of_expert
    state = _State(expert, load, jnp.full((experts, experts), _NEVER).at[expert].min(loss.T))
    return jax.lax.while_loop(lambda carry: carry[1].is_due, exchange, (state, cheapest_chain(state)))[0].expert
