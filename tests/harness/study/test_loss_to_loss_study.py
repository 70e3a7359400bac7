"""The study of losses that foretell others: known transfers are found, and errors are those of runs and draws."""

import numpy as np
import pandas as pd
import pytest

from harness.fit.shared.transfer import transfer_loss
from harness.study.methods.wild_copies import logs_of_cells, wild_copies
from harness.study.papers.domains.loss_to_loss import (
    _CURVE,
    _LAW,
    PAIRS_OF_KIND,
    PairedLosses,
    _line,
    base_fits,
    transfers,
)

N = np.array([1e3, 3e3, 1e4, 3e4, 1e5])
D = 2e5 * 4.0 ** np.arange(6)
TRAIN = PAIRS_OF_KIND["train to train"]


def losses(second, noise=0.0, seed=0) -> PairedLosses:
    """Losses of a grid with one larger cell: the first corpus has Kaplan's law, the others second(L0, N, D)."""
    n, d = (np.append(values.ravel(), last) for values, last in zip(np.meshgrid(N, D), (3e5, 3e9), strict=True))
    first = 1.1 + ((3e3 / n) ** (0.3 / 0.4) + 3e5 / d) ** 0.4
    every = np.stack([first, second(first, n, d), first])
    logs = np.log(every) + noise * np.random.default_rng(seed).standard_normal(every.shape)
    return PairedLosses(n, d, np.arange(len(n)) == len(n) - 1, np.broadcast_to(logs[:, None, None], (3, 3, 1, len(n))))


def published(first, n, d):
    return 0.9 * (first - 1.1) ** 1.2 + 1.3


def test_kappa_of_exact_losses_is_found_and_the_larger_run_foretold():
    table = losses(published)
    found = transfers(table, TRAIN, base_fits(table))
    place = TRAIN.index(((0, 0), (1, 1)))
    assert found.kappa[place, 0] == pytest.approx(1.2, abs=0.005)
    assert found.kappa[TRAIN.index(((1, 1), (0, 0))), 0] == pytest.approx(1 / 1.2, abs=0.005)
    for name in (_CURVE, _LAW):
        assert np.abs(found.off[name][place, 0]).max() < 5e-4
    assert found.share[place, 0] == pytest.approx(0.0, abs=1e-3)


def test_kappa_is_within_three_hundredths_where_losses_err_by_three_thousandths():
    kappa = []
    for seed in range(20):
        table = losses(published, 0.003, seed)
        kappa.append(transfers(table, [((0, 0), (1, 1))], base_fits(table)).kappa[0, 0])
    assert np.median(np.abs(np.array(kappa) - 1.2)) < 0.03


def test_what_tokens_per_parameter_change_beside_the_curve_is_found():
    table = losses(lambda first, n, d: published(first, n, d) * np.exp(0.02 * np.log10(d / n)))
    floors = base_fits(losses(published))
    found = transfers(table, [((0, 0), (1, 1))], floors)
    assert found.share[0, 0] == pytest.approx(0.02, abs=1e-4)


@pytest.mark.slow
def test_the_transfer_is_that_of_the_package():
    table = losses(published, 0.003)
    found = transfers(table, [((0, 0), (1, 1))], base_fits(table))
    first, second = (np.exp(table.logs[k, k, 0]) for k in (0, 1))
    rows = pd.DataFrame({"N": table.n, "D": table.d, "L0": first, "L": second, "large": table.larger * 1.0})
    package = transfer_loss(rows, holdout="large > 0", bootstrap=0)
    # The package's objective is Huber's loss of log residuals, which gives less weight to the largest ones.
    assert found.kappa[0, 0] == pytest.approx(package.kappa, abs=0.03)
    assert np.exp(found.off[_CURVE][0, 0, -1]) - 1 == pytest.approx(
        package.predict(first)[-1] / second[-1] - 1, abs=0.003
    )


def test_the_straight_line_is_that_of_weighted_least_squares():
    rng = np.random.default_rng(0)
    x, y = rng.uniform(2, 3, (2, 12)), rng.uniform(2, 3, (2, 12))
    fitted = np.arange(12) < 9
    for own_x, own_y, line in zip(x, y, _line(x, y, fitted), strict=True):
        slope, level = np.polyfit(own_x[fitted], own_y[fitted], 1, w=1 / own_y[fitted])
        np.testing.assert_allclose(line, level + slope * own_x)


def test_copies_have_the_errors_of_means_and_those_of_one_draw_go_together():
    rng = np.random.default_rng(0)
    cells, draws, of_run, of_draw = 40, 8, 0.02, 0.01
    variance, together = [], []
    for seed in range(30):
        logs = rng.standard_normal((cells, draws, 1)) * of_run + rng.standard_normal((draws, 1)) * of_draw
        copies = wild_copies(logs, 200, seed)[1:, :, 0]
        covariance = np.cov(copies.T)
        variance.append(np.diag(covariance).mean())
        together.append((covariance.sum() - np.trace(covariance)) / (cells * (cells - 1)))
    assert np.mean(variance) == pytest.approx((of_run**2 + of_draw**2) / draws, rel=0.1)
    assert np.mean(together) == pytest.approx(of_draw**2 / draws, rel=0.2)


def test_a_cell_of_few_draws_is_compared_on_the_held_out_text_of_all():
    of_draws, levels = np.array([0.3, -0.1, -0.1, -0.1]), np.array([0.5, 0.7, 0.2])
    logs = (levels[:, None] + of_draws)[..., None]
    logs[2, 2:] = np.nan
    np.testing.assert_allclose(wild_copies(logs, 3)[0, :, 0], levels, atol=1e-12)


def test_runs_are_sorted_into_cells_and_draws():
    runs = pd.DataFrame({"size": [2, 1, 2, 1, 1], "draw": [1, 0, 0, 1, 2], "loss": [4.0, 1.0, 3.0, 2.0, np.nan]})
    cells, logs = logs_of_cells(runs, ["size"], ["loss"])
    assert cells["size"].tolist() == [1, 2]
    np.testing.assert_allclose(np.exp(logs[..., 0]), [[1.0, 2.0], [3.0, 4.0]])
