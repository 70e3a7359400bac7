"""Students of known teachers: what they must learn, and frontiers of tables whose exponents are known."""

import itertools

import jax
import numpy as np
import pandas as pd
import pytest

from harness.theory import teacher
from harness.theory.students import (
    Stream,
    cell_means,
    frontier_slope,
    initial,
    loss,
    sample,
    simulate_students,
    student,
)
from sweeps.errors import InputError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_compile")]


@pytest.fixture(scope="module")
def world(quick_compile):
    return simulate_students((8, 32), (1024, 8192), teachers=2, K=2.0, rates=(0.02, 0.06))


def test_students_learn_and_stay_below_the_bound(world):
    table, truth = world
    found = cell_means(table)
    assert len(table) == 8 and len(found) == 4
    assert list(found["violated"]) == [False] * 4
    # At best they would lose nothing, at worst what guessing does; eight times the data help.
    assert found.loss.between(0.0, found.guessing, inclusive="neither").all()
    by = found.pivot(index="n", columns="T", values="loss")
    assert np.all(by[8192] < 0.6 * by[1024])
    # The average over the stream includes the beginning, when all was guessed.
    assert np.all(found.stream_loss > found.loss)
    np.testing.assert_allclose(table.flops, table.N_total * table.D)
    assert truth.parameters == {"E": 0.0} and truth.cost.endswith("cpu")


def test_guessing_costs_what_simulated_labels_say(world):
    """KL of a Bernoulli from the fair coin is ln 2 less its entropy: here by an average over labels."""
    stream = Stream(jax.random.key(5), teacher.draw_teacher(jax.random.key(4), 10, 2.0))
    batch = jax.lax.map(lambda step: sample(stream, step), np.arange(400))
    x, label, truth = batch[0].reshape(-1, 10), batch[1].ravel(), batch[2].ravel()
    log_loss = np.logaddexp(0.0, truth) - label * truth
    exact = np.log(2.0) - log_loss.mean()
    params = initial(jax.random.key(3), 8, 10)
    told = float(loss(params, (x, label, truth))[1])
    assert abs(told - exact) < 4 * log_loss.std() / np.sqrt(len(label))
    np.testing.assert_array_equal(student(params, x), 0.0)
    assert abs(np.mean(label - 1 / (1 + np.exp(-truth)))) < 4 * 0.5 / np.sqrt(len(label))


def known(noise, seed=0):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(itertools.product((4, 16, 64, 256), (1e3, 1e4, 1e5), range(8)), columns=["n", "T", "seed"])
    exact = table.n**-0.9 + 30 * table["T"] ** -0.6
    return table.assign(val_loss_final100=exact * np.exp(noise * rng.standard_normal(len(table))))


def test_frontier_of_known_exponents():
    exact = frontier_slope(known(0.0), draws=2)
    assert exact.slope == pytest.approx(1.5, rel=1e-4) and exact.residual < 1e-6
    told = [frontier_slope(known(0.1, seed), draws=50) for seed in range(20)]
    assert abs(np.mean([one.slope for one in told]) - 1.5) < 0.08
    assert sum(one.low < 1.5 < one.high for one in told) >= 16
    assert max(one.high - one.low for one in told) < 0.8


def test_a_frontier_that_width_hardly_moves_is_not_told():
    table = known(0.0)
    told = frontier_slope(table.assign(val_loss_final100=(table.n == 4) * 0.1 + 30 * table["T"] ** -0.6), draws=5)
    assert (told.low, told.high) == (0.0, np.inf)
    flat = frontier_slope(table.assign(val_loss_final100=0.02 + 30 * table["T"] ** -0.6), draws=5)
    assert (flat.low, flat.high) == (0.0, np.inf)


@pytest.mark.parametrize("bad", [{"widths": ()}, {"samples": (1000,)}, {"teachers": 0}, {"K": -1.0}, {"d": 0}])
def test_bad_settings_are_refused_in_a_line(bad):
    with pytest.raises(InputError):
        simulate_students(**bad)


def test_a_frontier_takes_three_of_each(world):
    with pytest.raises(InputError):
        frontier_slope(world[0])
