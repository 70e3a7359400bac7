"""Best settings of grids."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from harness.cli.commands import app
from harness.fit.allocation.best_settings import find_optima
from harness.fit.fitting import fit
from sweeps.errors import InputError


def grid(noise=0.0, seed=0):
    """A bowl in (log lr, log B) about optima that are powers of N and D, on a coarse grid."""
    rng = np.random.default_rng(seed)
    rows = []
    for n, d in ((1e8, 2e9), (1e8, 2e10), (1e9, 2e10), (1e9, 1e11)):
        best_lr, best_batch = 1.79 * n**-0.713 * d**0.307, 0.58 * d**0.571
        for lr in 2.0 ** np.arange(-14, -3):
            for batch in 2.0 ** np.arange(14, 24):
                a, b = np.log(lr / best_lr), np.log(batch / best_batch)
                excess = 0.006 * a**2 - 0.004 * a * b + 0.006 * b**2
                rows.append((n, d, lr, batch, 2.5 * np.exp(excess + noise * rng.standard_normal())))
    return pd.DataFrame(rows, columns=["N", "D", "lr", "B", "L"])


def test_a_quadratic_finds_optima_between_the_points_of_a_grid():
    found = find_optima(grid(), ["N", "D"], ["lr", "B"], draws=0)
    np.testing.assert_allclose(found["lr"], 1.79 * found["N"] ** -0.713 * found["D"] ** 0.307, rtol=1e-9)
    np.testing.assert_allclose(found["B"], 0.58 * found["D"] ** 0.571, rtol=1e-9)
    assert set(found["status"]) == {"ok"}


def test_errors_of_optima_are_those_of_repeated_experiments():
    repeats = [find_optima(grid(1e-3, seed), ["N", "D"], ["lr", "B"], draws=0) for seed in range(30)]
    spread = np.log([table["B"] for table in repeats]).std(axis=0)
    told = find_optima(grid(1e-3), ["N", "D"], ["lr", "B"])["B_sd"]
    assert np.all((told > 0.4 * spread) & (told < 2.5 * spread))


def test_other_methods():
    best = find_optima(grid(), ["N", "D"], ["lr", "B"], method="minimum", draws=0)
    runs = grid().set_index(["N", "D", "lr", "B"])["L"]
    assert [runs[key] for key in zip(best.N, best.D, best.lr, best.B, strict=True)] == list(best["L"])
    near = find_optima(grid(), ["N", "D"], ["lr", "B"], method="near", window=0.01)
    least = np.asarray(near.groupby(["N", "D"])["L"].transform("min"), dtype=float)
    assert np.all(near["L"].to_numpy() <= 1.0101 * least)
    assert len(near) > 30
    means = find_optima(grid(), ["N", "D"], ["lr", "B"], method="mean", window=0.01, draws=0)
    assert np.allclose(means["B"], near.groupby(["N", "D"])["B"].apply(lambda b: np.exp(np.log(b).mean())))


def test_optima_that_the_grid_does_not_hold_are_told():
    table = grid().query("lr < 3e-4")
    assert set(find_optima(table, ["N", "D"], ["lr", "B"], draws=0)["status"]) <= {"edge", "no_minimum", "few"}
    assert np.isnan(find_optima(table.iloc[:5], ["N", "D"], ["lr", "B"], draws=0)["lr"]).all()
    for by, over, method in ((["N"], ["lr"], "best"), (["M"], ["lr"], "mean"), (["N"], ["wd"], "mean")):
        with pytest.raises(InputError):
            find_optima(table, by, over, method=method)


def test_the_command_writes_a_table_that_a_fit_reads(tmp_path):
    source, target = tmp_path / "runs.csv", tmp_path / "optima.csv"
    grid(1e-3).rename(columns={"N": "params", "L": "loss"}).to_csv(source, index=False)
    arguments = ["optima", source, "--by", "N,D", "--over", "lr,B", "--set", "N=params", "--set", "L=loss"]
    result = CliRunner().invoke(app, [*map(str, arguments), "--bootstrap", "20", "--to", str(target)])
    assert result.exit_code == 0 and "lr_sd" in result.output
    law = fit("steplaw_batch", pd.read_csv(target), bootstrap=0, sensitivity=False)
    assert law.parameters["e"].estimate == pytest.approx(0.571, abs=0.03)


@pytest.mark.public_data
def test_step_laws_grids_give_its_exponents(public):
    """The exponents of N and of the batch within one published standard deviation, D not: 0.21."""
    table = public("steplaw_dense.csv").rename(
        columns={"params_N": "N", "tokens_D": "D", "batch_tokens": "B", "train_loss_smooth": "L"}
    )
    found = find_optima(table, ["N", "D"], ["lr", "B"], draws=0)
    rate = fit("steplaw_lr", found, bootstrap=0, sensitivity=False).parameters
    batch = fit("steplaw_batch", found, bootstrap=0, sensitivity=False).parameters
    assert rate["a"].estimate == pytest.approx(-0.7122, abs=0.030)
    assert batch["e"].estimate == pytest.approx(0.5713, abs=0.019)
    assert batch["d"].estimate == pytest.approx(0.573, rel=0.2)
