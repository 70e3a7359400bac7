"""Approach 1: the lower edge of curves and of profiles."""

import numpy as np
import pandas as pd
import pytest

from harness.fit.allocation.lines import LossRuns, at_budgets, limits, runs_to_allocate, shift_from_half
from harness.fit.allocation.lower_edge import lower_edge
from sweeps.errors import InputError

E, A, B, ALPHA, BETA = 1.8172, 482.01, 2085.43, 0.3478, 0.3658
EXPONENT = BETA / (ALPHA + BETA)


def losses(n, d):
    return E + A * n**-ALPHA + B * d**-BETA


def curves() -> pd.DataFrame:
    """Sixteen sizes with sixty checkpoints each, at .5 to 300 tokens per parameter."""
    n, ratio = (part.ravel() for part in np.meshgrid(np.geomspace(3e7, 3e10, 16), np.geomspace(0.5, 300, 60)))
    table = pd.DataFrame({"N": n, "D": ratio * n, "L": losses(n, ratio * n), "run": [f"of {size:.3g}" for size in n]})
    return table.loc[(6 * n**2 * ratio > 1e18) & (6 * n**2 * ratio < 1e21)]


@pytest.mark.parametrize("method", ["envelope", "hull"])
def test_intervals_hold_the_true_exponent(method, profiles):
    held = 0
    for seed in range(30):
        (low,), (high,) = limits(lower_edge(runs_to_allocate(profiles(seed)), method, draws=300).n.draws[:, 1:])
        held += low < EXPONENT < high
    assert held >= 26  # of 30 at 95 %: fewer has a probability of 1.6 %


def test_the_envelope_of_curves_finds_the_exponent_and_a_hull_is_bent_by_its_first_corner(optimal_size):
    envelope, hull = (lower_edge(runs_to_allocate(curves()), method) for method in ("envelope", "hull"))
    assert envelope.n.exponent == pytest.approx(EXPONENT, abs=0.015)
    assert envelope.n.exponent + envelope.d.exponent == pytest.approx(1.0, abs=0.01)
    assert hull.n.exponent < EXPONENT - 0.03
    optimal = optimal_size(envelope.flops)
    assert np.max(np.abs(envelope.log_n - np.log(optimal))) < 0.5 * np.log(1000) / 15 + 0.1  # half the sizes' step


def test_corners_of_a_hull_by_hand():
    """log L against log C: a falling convex chain, one point above it, and one where the loss rises again."""
    log_c, log_l = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 2.5]), np.array([2.0, 1.0, 0.4, 0.1, 0.3, 0.9])
    n = np.exp([1.0, 2.0, 3.0, 4.0, 5.0, 9.0])
    runs = LossRuns(n, np.exp(log_c) / n, np.exp(log_c), np.exp(log_l), np.arange(6), False, "")
    edge = lower_edge(runs, "hull", draws=10)
    np.testing.assert_allclose(edge.log_n, [1.0, 2.0, 3.0, 4.0])
    assert edge.n.exponent == pytest.approx(1.0)


@pytest.mark.slow
def test_budgets_get_sizes_tokens_and_loss_with_limits(profiles, optimal_size):
    edge = lower_edge(runs_to_allocate(profiles(0)))
    table, warnings = at_budgets(edge, [1e20, 1e23])
    n, d = optimal_size(table.flops), table.flops / 6 / optimal_size(table.flops)
    for name, truth in (("N", n), ("D", d), ("tokens_per_parameter", d / n)):
        assert np.all((table[f"{name}_low"] < truth) & (truth < table[f"{name}_high"])), name
    np.testing.assert_allclose(6 * table.N * table.D, table.flops, rtol=1e-9)
    np.testing.assert_allclose(table.loss, losses(n, d), rtol=0.02)
    assert np.all((table.loss_low < table.loss) & (table.loss < table.loss_high))
    (warning,) = warnings
    assert warning.code == "extrapolated" and "100 times the largest budget seen, 1e+21" in warning.message
    assert not at_budgets(edge, 1e21)[1]


def test_a_fixed_ratio_of_tokens_is_refused_and_a_narrow_one_warned_of(profiles, optimal_size):
    n = np.geomspace(1e7, 1e9, 40)
    with pytest.raises(InputError, match="D varies"):
        lower_edge(runs_to_allocate(pd.DataFrame({"N": n, "D": 20 * n, "L": losses(n, 20 * n)})))
    with pytest.raises(InputError, match="several sizes"):
        lower_edge(
            runs_to_allocate(pd.DataFrame({"N": np.full(9, 1e7), "D": np.geomspace(1e8, 1e9, 9), "L": np.full(9, 3.0)}))
        )
    table = profiles(0)
    narrow = table.loc[np.abs(np.log(table.N / optimal_size(6 * table.N * table.D))) < 0.45]
    assert [warning.code for warning in lower_edge(runs_to_allocate(narrow)).warnings] == ["narrow_design"]


def test_the_shift_of_a_rule_depends_on_its_anchor():
    """In closed form: z = .74 has N ~ C^.5747; x1.05 per doubling, x1.19 per decade, x2.81 per six decades."""
    found = shift_from_half([1e18, 2e18, 1e19, 1e20, 1e24], 0.74, 1e18)
    np.testing.assert_allclose(found, [1.0, 1.05, 1.19, 1.41, 2.81], atol=0.005)
    assert shift_from_half(1e20, 1.0, 3e17)[0] == pytest.approx(1.0)
    assert shift_from_half(1e17, 0.74, 1e18)[0] < 1
    for z, anchor in ((-1.0, 1e18), (0.74, 0.0)):
        with pytest.raises(InputError, match="--z|--anchor"):
            shift_from_half(1e20, z, anchor)


@pytest.mark.public_data
@pytest.mark.parametrize(("subset", "published"), [("cool_end", 0.597), ("hot_120b+_only", 0.799)])
def test_gemstones_hulls(subset, published, public):
    """The published exponents of the two subsets of checkpoints that the table has (the second at every fifth one).

    FLOPs per token are six per weight of a matrix, and attention over the whole context of 2,048; N has the embedding
    of 50,304 rows, which is looked up.
    """
    table = public("gemstones_fit_points.csv").query("subset == @subset")
    matrices = table.params_N - 50304 * table.width
    flops = (6 * matrices + 12 * table.depth * table.width * 2048) * table.tokens_D
    frame = table.rename(columns={"params_N": "N", "tokens_D": "D", "train_loss": "L", "run_name": "run"})
    edge = lower_edge(runs_to_allocate(frame.assign(flops=flops)), "hull")
    assert edge.n.exponent == pytest.approx(published, abs=0.01)
    (low,), (high,) = limits(edge.n.draws[:, 1:])
    assert low < published < high
