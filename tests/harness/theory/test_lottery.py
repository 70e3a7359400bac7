"""Networks whose errors average: statistics of ensembles by simulation, slopes of known tables, and a small run."""

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from harness.theory.lottery import floor_of, loss_slope, network, simulate_lottery
from sweeps.errors import InputError

pytestmark = pytest.mark.usefixtures("quick_compile")


def test_a_network_that_is_known_in_closed_form():
    """relu(x) + relu(-x) is |x|; silu(w x) + silu(-w x) is w x tanh(w x/2), about w^2 x^2/2 for small w."""
    x = jnp.linspace(-1.0, 1.0, 11)
    two = {"w": jnp.float32([1.0, -1.0]), "b": jnp.zeros(2), "v": jnp.ones(2), "c": jnp.float32(0.0)}
    np.testing.assert_allclose(network("relu", two, x), np.abs(x), atol=1e-6)
    w = 0.1
    small = two | {"w": w * two["w"], "v": two["v"] * 2 / w**2}
    np.testing.assert_allclose(network("silu", small, x), 2 / w * x * np.tanh(w * x / 2), atol=1e-4)
    assert np.abs(np.asarray(network("silu", small, x)) - x**2).max() < 1e-3


def test_the_floor_is_what_all_networks_have_in_common():
    rng = np.random.default_rng(0)
    common = 0.3 * np.sin(np.linspace(0, 7, 50))
    found = [floor_of(common + rng.standard_normal((10, 50))) for _ in range(400)]
    assert abs(np.mean(found) - np.mean(common**2)) < 4 * np.std(found) / 20


def test_slope_of_a_known_power_and_its_interval():
    rng = np.random.default_rng(1)
    inside = 0
    for seed in range(20):
        rows = [(n, n**-1.2 * rng.gamma(4) / 4) for n in (8, 32, 128) for _ in range(30)]
        told = loss_slope(pd.DataFrame(rows, columns=["width", "val_loss_final100"]), draws=200, seed=seed)
        inside += told.low < -1.2 < told.high
        assert abs(told.slope + 1.2) < 0.25 and abs(told.medians + 1.2) < 0.3
    assert inside >= 15


@pytest.mark.slow
def test_wider_networks_and_ensembles_err_less():
    table, truth = simulate_lottery((8, 64), seeds=8, members=(4,), steps=1500, rate=0.01)
    one = table.query("members == 1")
    assert len(table) == 2 * (8 + 2) and list(one.N_total.unique()) == [25, 193]
    told = loss_slope(one)
    assert told.slope < -0.6 and one.val_loss_final100.max() < np.var(np.linspace(-1, 1, 1001) ** 2)
    # Of independent networks the average of four errs four times less, but for what they have in common.
    assert loss_slope(table.query("width == 64"), "members").slope < -0.5
    assert truth.law == "henighan_n" and truth.parameters == {"alpha": 1.0}


@pytest.mark.parametrize(
    "bad",
    [{"activation": "tanh"}, {"widths": ()}, {"seeds": 1}, {"members": (31,)}, {"members": (1,)}, {"steps": 0}],
)
def test_bad_settings_are_refused_in_a_line(bad):
    with pytest.raises(InputError):
        simulate_lottery(**bad)


def test_a_slope_takes_two_widths():
    with pytest.raises(InputError):
        loss_slope(pd.DataFrame({"width": [8, 8], "val_loss_final100": [1.0, 2.0]}))
