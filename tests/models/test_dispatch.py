"""Routes by their properties, priorities against a loop, and gathers against plain indexing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from models.cpu.row_ops import gather_rows
from models.dispatch import block_rows, from_slots, priority_positions, route, to_slots

# (rows, assignments a row, experts, sequences, capacity)
SHAPES = [
    (12, 1, 4, 3, 2),
    (12, 2, 4, 2, 5),
    (12, 2, 4, 3, None),
    (3, 2, 8, 1, None),
    (40, 1, 3, 2, None),
    (6, 1, 1, 2, 4),
]
compiled = jax.jit(route, static_argnums=(1, 2, 3))


def one_hot(choices: np.ndarray, experts: int) -> np.ndarray:
    """[n, J] experts, -1 for none, to [n, J, experts]."""
    return choices[:, :, None] == np.arange(experts)


def by_priority(choices: np.ndarray, batch: int):
    """(row, choice) in the order of being served: position, then sequence, then choice."""
    time = len(choices) // batch
    return [(b * time + t, j) for t in range(time) for b in range(batch) for j in range(choices.shape[1])]


@st.composite
def routings(draw):
    rows, choices, experts, batch, capacity = draw(st.sampled_from(SHAPES))
    wanted = draw(arrays.arrays(np.int8, (rows, choices), elements=st.integers(-1, experts - 1)))
    return wanted, experts, batch, capacity


@settings(max_examples=150)
@given(routings())
def test_every_assignment_has_one_slot_of_its_expert_or_is_dropped(routing):
    choices, experts, batch, capacity = routing
    rows, width = choices.shape
    found = jax.device_get(compiled(jnp.asarray(one_hot(choices, experts)), batch, capacity, 8))
    slots, room = len(found.assignment), len(found.assignment) // len(found.block_expert)
    assert slots == room * len(found.block_expert)
    served = np.zeros(experts, int)
    slots_seen = set()
    for row, j in by_priority(choices, batch):
        expert, slot = choices[row, j], found.slot[row, j]
        if expert < 0 or (capacity is not None and served[expert] == capacity):
            assert slot == slots
            continue
        served[expert] += 1
        assert slot < slots and slot not in slots_seen
        slots_seen.add(slot)
        assert found.assignment[slot] == row * width + j
        assert found.block_expert[slot // room] == expert
    empty = sorted(set(range(slots)) - slots_seen)
    assert (found.assignment[empty] == rows * width).all()
    wanted = np.bincount(choices[choices >= 0], minlength=experts)
    np.testing.assert_array_equal(found.load, wanted)
    assert found.dropped == pytest.approx((wanted.sum() - served.sum()) / max(wanted.sum(), 1))
    if capacity is None:
        assert found.dropped == 0.0


@pytest.mark.parametrize("expert", [0, 3, 7])
def test_dropless_serves_the_worst_imbalance_with_little_padding(expert):
    choices = np.full((256, 2), expert, np.int8)
    found = jax.device_get(compiled(jnp.asarray(one_hot(choices, 8)), 4, None, block_rows(64.0, looped=False)))
    assert found.dropped == 0.0
    assert sorted(found.assignment[found.assignment < 512]) == list(range(512))
    assert len(found.assignment) <= 1.25 * 512


@settings(max_examples=30)
@given(arrays.arrays(np.int8, (12, 2), elements=st.integers(-1, 3)), st.sampled_from([1, 3]))
def test_priority_is_by_position_whichever_the_sequence(choices, batch):
    wanted = one_hot(choices, 4)
    found = np.asarray(priority_positions(jnp.asarray(wanted), batch))
    seen = np.zeros(4, int)
    for row, j in by_priority(choices, batch):
        np.testing.assert_array_equal(found[row, j], seen)
        seen += wanted[row, j]


def test_gathers_have_the_values_and_the_gradient_of_plain_indexing():
    rng = np.random.default_rng(0)
    rows, outputs, width = 5, 9, 3
    index = np.array([4, 0, 5, 2, 2, 5, 0, 2, 1])  # row 3 feeds nothing; 5 is past the end
    inverse = np.full((rows, 3), outputs)
    for row in range(rows):
        feeds = np.flatnonzero(index == row)
        inverse[row, : len(feeds)] = feeds
    x, cotangent = (jnp.asarray(rng.normal(size=(n, width)), jnp.float32) for n in (rows, outputs))
    index, inverse = jnp.asarray(index), jnp.asarray(inverse)
    found, pull = jax.vjp(lambda x: gather_rows(x, index, inverse), x)
    plain, plain_pull = jax.vjp(lambda x: jnp.take(x, index, axis=0, mode="fill", fill_value=0), x)
    np.testing.assert_array_equal(found, plain)
    np.testing.assert_allclose(pull(cotangent)[0], plain_pull(cotangent)[0], rtol=1e-6)
    # linear in x: the numerical derivative along any direction is exact up to rounding
    direction = jnp.asarray(rng.normal(size=(rows, width)), jnp.float32)
    slope = (cotangent * (gather_rows(x + direction, index, inverse) - found)).sum()
    np.testing.assert_allclose((pull(cotangent)[0] * direction).sum(), slope, rtol=1e-5)


@pytest.mark.parametrize("capacity", [None, 3])
def test_there_and_back_is_the_gated_sum_of_what_was_kept(capacity):
    rng = np.random.default_rng(1)
    choices = np.stack([rng.permutation(4)[:2] for _ in range(12)])
    x, gates = rng.normal(size=(12, 5)), rng.uniform(size=(12, 2))

    @functools.partial(jax.jit, static_argnums=2)
    def run(x, gates, capacity):
        routing = route(jnp.asarray(one_hot(choices, 4)), 3, capacity, 8)
        scaled = to_slots(x, routing) * (1.0 + routing.block_expert.astype(jnp.float32))[:, None, None]
        return from_slots(scaled, gates, routing), routing.slot

    def objective(x, gates):
        y, slot = run(x, gates, capacity)
        return jnp.square(y).sum(), (y, slot)

    arguments = jnp.asarray(x, jnp.float32), jnp.asarray(gates, jnp.float32)
    gradients, (y, slot) = jax.grad(objective, argnums=(0, 1), has_aux=True)(*arguments)
    kept = np.asarray(slot) < (4 * capacity if capacity else np.inf)
    assert kept.all() == (capacity is None)
    weight = (gates * (1 + choices) * kept).sum(1, keepdims=True)
    np.testing.assert_allclose(y, weight * x, rtol=1e-5)
    np.testing.assert_allclose(gradients[0], 2 * weight**2 * x, rtol=1e-4)
    to_gates = 2 * weight * (x**2).sum(1, keepdims=True) * (1 + choices) * kept
    np.testing.assert_allclose(gradients[1], to_gates, rtol=1e-4, atol=1e-6)
