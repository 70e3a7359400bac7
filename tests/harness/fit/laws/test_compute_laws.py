"""Laws of compute or size alone: frontiers, crossings, and the constants of Henighan, Hestness and Yao."""

import numpy as np
import pandas as pd
import pytest

from harness.cli.render import render
from harness.fit.allocation.frontier_runs import all_records, binned_records, hull_records, runs_on_frontier
from harness.fit.compare import compare
from harness.fit.fitting import fit
from harness.fit.laws.compute import HENIGHAN_TABLE, IN_COMPUTE, PF_DAY, henighan_optimal_parameters
from harness.fit.laws.registry import get_law
from harness.fit.shared.crossover import find_crossover
from harness.fit.shared.exponents import compare_exponents
from sweeps.errors import InputError

pytestmark = pytest.mark.slow


def noisy(values, sd: float, seed: int):
    return values * np.exp(sd * np.random.default_rng(seed).standard_normal(len(values)))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_loss_with_a_floor_is_recovered_from_eight_sizes(seed):
    """.5 % noise over three decades: L_inf within 2 %, alpha within .02."""
    n = np.geomspace(1e4, 1e7, 8)
    table = pd.DataFrame({"N": n, "L": noisy(2.0 + (1e6 / n) ** 0.4, 0.005, seed)})
    found = fit("henighan_n", table, bootstrap=0, sensitivity=False)
    assert found.parameters["L_inf"].estimate == pytest.approx(2.0, rel=0.02)
    assert found.parameters["alpha"].estimate == pytest.approx(0.4, abs=0.02)
    assert found.objective.starts_within_1_percent > 0.5


def test_published_constants_are_shown_and_recovered():
    """Video, without noise, in compute; the table of the paper is in what `isogap laws` prints."""
    assert {"modality": "video VQ", "L_inf": 0.95, "C_c": 2.2e-5, "alpha": 0.14} in get_law(
        "henighan_c"
    ).published_cases
    assert len(get_law("henighan_n").published_cases) == 12 and get_law("chinchilla").published_cases == ()
    constants = HENIGHAN_TABLE["video VQ"][IN_COMPUTE]
    assert constants is not None
    floor, scale, alpha = constants
    compute = np.geomspace(1e-4, 1e1, 8)
    table = pd.DataFrame({"flops": compute, "L": floor + (scale / compute) ** alpha})
    found = fit("henighan_c", table, bootstrap=0, sensitivity=False).parameters
    values = [found[name].estimate for name in ("L_inf", "C_c", "alpha")]
    assert values == pytest.approx([floor, scale, alpha], rel=1e-3)


def test_published_optimal_sizes():
    """Language at 1 PF-day: (1/3.3e-13)^.73 = 1.3e9 parameters; a PF-day is 1e15 FLOPs a second for a day."""
    assert henighan_optimal_parameters("language", 1.0) == pytest.approx(1.3e9, rel=0.05)
    assert PF_DAY == pytest.approx(1e15 * 24 * 3600)
    with pytest.raises(KeyError):
        henighan_optimal_parameters("text-to-image, image", 1.0)


def test_the_exponent_of_optimal_sizes_is_told_apart_from_another():
    flops = np.geomspace(1e15, 1e20, 9)
    sizes = [noisy(1e-3 * flops**a, 0.05, seed) for seed, a in ((0, 0.73), (1, 0.5))]
    table = pd.concat([pd.DataFrame({"flops": flops, "N": n, "group": g}) for n, g in zip(sizes, "ab", strict=True)])
    found = compare_exponents("henighan_n_opt", table, "a", ("a", "b"), bootstrap=100)
    assert f"<td>b - a</td><td>{found.difference:.4g}</td><td>[" in found._repr_html_()
    assert found.values == (pytest.approx(0.73, abs=0.02), pytest.approx(0.5, abs=0.02))
    assert found.difference_interval[1] is not None and found.difference_interval[1] < -0.15


@pytest.fixture(scope="module")
def architectures():
    """Two architectures with one exponent and other prefactors, 12 training sets each, 1 % noise."""

    def simulated(seed: int, gamma: float = 0.4, exponents=(-0.3, -0.3)) -> pd.DataFrame:
        d = np.geomspace(1e5, 1e9, 12)
        curves = [gamma + a * (d / 1e5) ** b for a, b in zip((2.0, 1.4), exponents, strict=True)]
        parts = [noisy(curve, 0.01, 10 * seed + i) for i, curve in enumerate(curves)]
        return pd.concat(
            [pd.DataFrame({"D": d, "L": part, "group": name}) for part, name in zip(parts, "xy", strict=True)],
            ignore_index=True,
        )

    return simulated


def test_architectures_share_the_exponent_and_not_the_prefactor(architectures):
    table = architectures(1)
    exponent = compare_exponents("hestness", table, "beta", ("x", "y"), bootstrap=100)
    assert abs(exponent.difference) < 2 * exponent.difference_se
    assert exponent.values == (pytest.approx(-0.3, abs=0.05), pytest.approx(-0.3, abs=0.05))
    prefactor = compare_exponents("hestness", table, "alpha", ("x", "y"), own=("alpha",), bootstrap=100)
    assert prefactor.ratio == pytest.approx(0.7, abs=0.03)
    assert prefactor.ratio_interval[1] is not None and prefactor.ratio_interval[1] < 0.8


def test_architectures_with_other_exponents_are_told_apart(architectures):
    found = compare_exponents("hestness", architectures(2, exponents=(-0.45, -0.25)), "beta", ("x", "y"), bootstrap=100)
    assert found.difference > 3 * found.difference_se


def test_a_power_without_floor_is_rejected_where_there_is_one(architectures):
    """AICc by more than 10 with a floor; not preferred by more than chance without."""
    scores = {}
    for gamma in (0.4, 0.0):
        table = architectures(3, gamma).query("group == 'x'").assign(X=lambda t: t.D)
        rows = {row.law: row.aicc for row in compare(["hestness", "time_series"], table)}
        scores[gamma] = rows["time_series"] - rows["hestness"]
    assert scores[0.4] > 10 and scores[0.0] < 4


def test_best_sizes_grow_more_slowly_than_data():
    d = np.geomspace(1e6, 1e10, 8)
    found = fit("hestness_size", pd.DataFrame({"D": d, "N": noisy(30.0 * d**0.7, 0.1, 5)}), bootstrap=50)
    beta = found.parameters["beta"]
    assert beta.estimate == pytest.approx(0.7, abs=0.05) and beta.ci_high is not None and beta.ci_high < 1.0


def test_exponents_out_of_distribution_are_compared_on_the_same_models():
    """Noise that both losses of a model share cancels in the ratio if the model is the cluster."""
    x = np.geomspace(1e5, 1e9, 10)
    shared = np.exp(0.05 * np.random.default_rng(6).standard_normal(10))
    parts = [
        pd.DataFrame({"X": x, "L": noisy((1e4 / x) ** a * 3.0, 0.003, 7 + i) * shared, "group": g, "cluster": x})
        for i, (g, a) in enumerate((("ID", 0.10), ("OOD", 0.08)))
    ]
    table = pd.concat(parts, ignore_index=True)
    together = compare_exponents("time_series", table, "alpha", ("ID", "OOD"), bootstrap=200)
    apart = compare_exponents("time_series", table.drop(columns="cluster"), "alpha", ("ID", "OOD"), bootstrap=200)
    assert all(low is not None and low > 0 for low, _ in together.value_intervals)
    low, high = together.ratio_interval
    assert low is not None and high is not None and 0.5 < low < 0.8 < high < 1.0
    assert together.difference_se < 0.6 * apart.difference_se


RUNS = (np.array([4.0, 1.0, 2.0, 8.0, 16.0, 16.0]), np.array([3.0, 4.0, 3.5, 3.1, 2.0, 2.5]))


def test_frontiers_of_a_few_runs():
    """Records at C = 1, 2, 4, 16; the line from 1 to 16 runs below the record at 2, and below 4 in log-log."""
    flops, loss = RUNS
    assert all_records(flops, loss).tolist() == [1, 2, 0, 4]
    assert hull_records(flops, loss).tolist() == [1, 4]
    assert binned_records(flops, loss, 2).tolist() == [2, 4]


def test_no_run_lies_below_the_hull():
    rng = np.random.default_rng(8)
    flops = 10 ** rng.uniform(15, 20, 200)
    loss = 2.0 + (1e15 / flops) ** 0.2 * np.exp(rng.exponential(0.3, 200))
    kept = hull_records(flops, loss)
    below = np.interp(np.log(flops), np.log(flops[kept]), np.log(loss[kept]))
    assert np.all(np.log(loss) >= below - 1e-9) and len(kept) >= 4
    assert set(kept) <= set(all_records(flops, loss))


def test_each_recipe_has_its_own_frontier_and_mistakes_are_named():
    flops, loss = RUNS
    table = pd.DataFrame({"flops": flops, "L": loss, "group": list("aaabbb"), "name": list("uvwxyz")})
    assert runs_on_frontier(table, "naive")["name"].tolist() == ["v", "w", "u", "x", "y"]
    with pytest.raises(InputError, match="--method"):
        runs_on_frontier(table, "pareto")
    with pytest.raises(InputError, match="--bins"):
        runs_on_frontier(table, "binned", 0)


@pytest.fixture(scope="module")
def recipes():
    """Two recipes that cross at 1e19 FLOPs; b, with the smaller exponent, loses beyond."""

    def simulated(seed: int, rows: int, noise: float, crosses: float = 1e19) -> pd.DataFrame:
        flops = np.geomspace(1e17, 1e21, rows)
        curves = [0.3 + 0.8 * (crosses / flops) ** a for a in (0.30, 0.15)]
        parts = [noisy(curve, noise, 100 * seed + i) for i, curve in enumerate(curves)]
        return pd.concat(
            [pd.DataFrame({"flops": flops, "L": part, "group": name}) for part, name in zip(parts, "ab", strict=True)],
            ignore_index=True,
        )

    return simulated


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_crossing_is_found_within_its_error(recipes, seed):
    """2 % noise, 24 budgets: the crossing within 15 %, and the flip of ranks beyond doubt."""
    found = find_crossover(recipes(seed, 24, 0.02), bootstrap=60)
    assert found.flops == pytest.approx(1e19, rel=0.15)
    assert found.interval is not None and found.interval[0] < 1e19 < found.interval[1]
    assert found.flips and found.crosses_within > 0.95
    assert f"cross at {found.flops:.3g}" in found._repr_html_() and len(found.figure().data) == 3


def test_the_winner_beyond_the_crossing_is_known_where_curves_are_two_sigma_apart(recipes):
    """The frontier's law, 1.5 % noise: in 95 % of draws or more, up to ten times the compute that was run."""
    found = find_crossover(recipes(3, 40, 0.015), law="frontier", bootstrap=100)
    budgets = np.array([3e19, 1e21, 1e22])
    truth = 0.8 * (1e19 / budgets) ** 0.15 - 0.8 * (1e19 / budgets) ** 0.30
    assert np.all(truth > 2 * 0.015 * (0.3 + 0.8 * (1e19 / budgets) ** 0.15))
    assert np.all(found.first_wins(budgets) >= 0.95)


def test_what_the_runs_of_a_pair_have_in_common_is_no_error_of_where_curves_cross(recipes):
    """Eight pairs at each of eight budgets, whose common errors are 20 times their own; the truth stays inside."""
    table = recipes(7, 64, 0.002)
    common = noisy(np.ones(64), 0.04, 8)
    table = table.assign(L=table["L"] * np.tile(common, 2))
    alone = find_crossover(table, bootstrap=60)
    pairs = find_crossover(table.assign(cluster=np.tile(np.arange(64), 2)), bootstrap=60)
    assert alone.interval is not None and pairs.interval is not None
    wide, narrow = np.log(alone.interval), np.log(pairs.interval)
    assert 2 * np.ptp(narrow) < np.ptp(wide) and narrow[0] < np.log(1e19) < narrow[1]
    assert pairs.flops == alone.flops


def test_no_flip_is_claimed_where_recipes_do_not_cross(recipes):
    """A crossing at a thousandth of the least compute that was run, and one in the noise."""
    assert not find_crossover(recipes(4, 24, 0.02, crosses=1e14), bootstrap=40).flips
    same = recipes(5, 24, 0.05).query("group == 'a'")
    twins = pd.concat([same, same.assign(group="b", L=noisy(same["L"].to_numpy(), 0.05, 6))])
    assert not find_crossover(twins, bootstrap=40).flips


def test_the_joint_law_of_recipes_is_the_two_fits(recipes):
    table = recipes(6, 24, 0.01)
    joint = fit("crossover", table, bootstrap=0, sensitivity=False)
    assert "alpha[a]" in render(joint.shown()) and "alpha[group]" in render(joint.shown())
    alone = find_crossover(table, bootstrap=1)
    for name, result in zip("ab", alone.fits, strict=True):
        assert joint.parameters[f"alpha[{name}]"].estimate == pytest.approx(
            result.parameters["alpha"].estimate, rel=1e-2
        )


def test_a_crossing_needs_two_recipes_and_draws(recipes):
    table = recipes(0, 8, 0.01)
    for arguments, words in (
        ((table.drop(columns="group"),), "group"),
        ((table.query("group == 'a'"),), "two recipes"),
        ((table.assign(flops=table["flops"] * np.where(table["group"] == "a", 1.0, 1e9)),), "overlap"),
    ):
        with pytest.raises(InputError, match=words):
            find_crossover(*arguments)
    with pytest.raises(InputError, match="flops"):
        find_crossover(table, law="chinchilla")
    with pytest.raises(InputError, match="draw"):
        find_crossover(table, bootstrap=0)


def test_both_ends_of_a_frontier_are_recovered():
    """Error rates from guessing to a floor over eight decades: held-out points no worse than twice the fitted ones."""
    flops = np.geomspace(1e13, 1e21, 40)
    error = noisy(0.15 + 0.8 * (1.0 + flops / 1e15) ** -0.25, 0.005, 9)
    found = fit("frontier", pd.DataFrame({"flops": flops, "L": error}), bootstrap=0, sensitivity=False)
    values = {name: value.estimate for name, value in found.parameters.items()}
    assert values["alpha"] == pytest.approx(0.25, abs=0.02) and values["E"] == pytest.approx(0.15, rel=0.05)
    assert values["B"] == pytest.approx(1e15, rel=0.2)
    assert found.objective.starts_within_1_percent > 0.5
    part = fit(
        "frontier", pd.DataFrame({"flops": flops, "L": error}), holdout="flops > 1e20", bootstrap=0, sensitivity=False
    )
    inside = part.scatter.log_residual_sd * error[flops <= 1e20].mean()
    assert part.holdout.rmse**2 < 2 * inside**2


@pytest.mark.public_data
@pytest.mark.parametrize("corpus", ["fineweb-100b", "slimpajama-chunk1", "smollm-corpus"])
def test_frontiers_of_released_runs_extrapolate_four_times_in_compute(public, corpus):
    """Records of the released sweeps: the frontier beyond a quarter of the largest compute, to 1 %."""
    table = public("losstoloss_kempner_sweep.csv").query("train_dataset == @corpus")
    table = table.assign(flops=6.0 * table["params_N"] * table["tokens_D"], L=table["val_loss_indist"])
    records = runs_on_frontier(table[["flops", "L"]], "naive")
    found = fit("frontier", records, holdout=f"flops > {table['flops'].max() / 4}", bootstrap=0, sensitivity=False)
    inside = found.scatter.log_residual_sd * records["L"].mean()
    assert found.holdout.mean_abs_relative_error < 0.01
    assert found.holdout.rmse**2 < 2 * inside**2
