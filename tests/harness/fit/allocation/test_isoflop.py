"""Approach 2: isoFLOP profiles, simulated with Chinchilla's constants and as Porian et al. measured them."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from harness.fit.allocation.isoflop import isoflop_optima
from harness.fit.allocation.isoflop import profiles as profiles_of
from harness.fit.allocation.lines import LossRuns, limits, power_law_in_compute, runs_to_allocate
from harness.fit.allocation.lower_edge import lower_edge
from sweeps.errors import InputError

EXPONENT = 0.3658 / (0.3478 + 0.3658)
# dataset, hparams, warmup, decay, parameters counted; published exponent and interval; in the order of the steps.
STEPS = [
    ("rw", "base", "long", "kaplan", "kaplan", 0.835, (0.824, 0.846)),
    ("rw", "base", "long", "kaplan", "standard", 0.706, (0.691, 0.717)),
    ("rw", "base", "short", "kaplan", "standard", 0.602, (0.591, 0.617)),
    ("rw", "base", "short", "chinchilla", "standard", 0.571, (0.560, 0.589)),
    ("rw", "tuned", "short", "const", "standard", 0.497, (0.491, 0.505)),
    ("owt2", "base", "long", "kaplan", "kaplan", 0.864, (0.819, 0.897)),
    ("owt2", "base", "long", "kaplan", "standard", 0.699, (0.664, 0.724)),
    ("owt2", "base", "short", "kaplan", "standard", 0.603, (0.570, 0.629)),
    ("owt2", "base", "short", "chinchilla", "standard", 0.574, (0.542, 0.606)),
    ("owt2", "tuned", "short", "const", "standard", 0.518, (0.493, 0.541)),
]
# Seeds' sd of a loss: what their code comes to.
NOISE = {"rw": 0.002, "owt2": 0.01}


@pytest.mark.parametrize("method", ["akima", "quadratic", "cubic"])
def test_intervals_hold_the_true_exponent(method, profiles):
    held, estimates = 0, []
    for seed in range(20):
        runs = runs_to_allocate(profiles(seed))
        line = isoflop_optima(runs, 0.002 * runs.loss, method, draws=200).n
        (low,), (high,) = limits(line.draws[:, 1:])
        held += low < EXPONENT < high
        estimates.append(line.exponent)
    assert held >= 17  # of 20 at 95 %: fewer has a probability of 1.6 %
    assert np.mean(estimates) == pytest.approx(EXPONENT, abs=0.01)


def test_without_noise_optima_and_ratio_are_the_closed_forms(profiles, optimal_size):
    runs = runs_to_allocate(profiles(0, scatter=0.0))
    edge = isoflop_optima(runs, np.zeros(len(runs.loss)), draws=10)
    np.testing.assert_allclose(np.exp(edge.log_n), optimal_size(edge.flops), rtol=0.06)  # a twentieth of a size's step
    np.testing.assert_allclose(6 * np.exp(edge.log_n + edge.log_d), edge.flops, rtol=1e-9)
    quadratic = isoflop_optima(runs, np.zeros(len(runs.loss)), "quadratic", draws=10)
    assert quadratic.n.exponent == pytest.approx(EXPONENT, abs=0.003)
    assert edge.n.exponent + edge.d.exponent == pytest.approx(1.0)


# log10 N of four sizes at each of four budgets, and their losses with 1.5 % of noise. The true exponent is .5126, N* at
# 1e21 FLOPs 2.78e9.
FOUR_SIZES = {
    1e18: ("7.25453 7.68882 8.12312 8.55741", "3.73419 3.54109 3.53886 3.72846"),
    3e18: ("7.49910 7.93340 8.36769 8.80199", "3.38762 3.20625 3.22402 3.39537"),
    1e19: ("7.76714 8.20143 8.63573 9.07002", "3.09988 2.91767 2.96801 3.08978"),
    3e19: ("8.01171 8.44601 8.88031 9.31460", "2.87197 2.74231 2.73907 2.87128"),
}
NOISY = {  # the first budget has an outlier, the last has its minimum at its largest size
    3e17: ("6.699 7.079 7.447 7.699", "1.541 1.512 1.655 1.533"),
    1e18: ("6.699 7.079 7.447 7.699", "1.520 1.478 1.462 1.470"),
    3e18: ("6.699 7.079 7.447 7.699", "1.500 1.450 1.425 1.430"),
    1e19: ("6.699 7.079 7.447 7.699", "1.490 1.430 1.398 1.392"),
}


def written(profiles) -> LossRuns:
    """The runs of a table in this file."""
    rows = [
        (10 ** float(n), flops / 6 / 10 ** float(n), float(loss))
        for flops, texts in profiles.items()
        for n, loss in zip(*(text.split() for text in texts), strict=True)
    ]
    return runs_to_allocate(pd.DataFrame(rows, columns=["N", "D", "L"]))


def test_without_a_known_noise_few_sizes_leave_an_interval_that_holds_the_truth():
    optima = isoflop_optima(written(FOUR_SIZES))
    (low,), (high,) = limits(optima.n.draws[:, 1:])
    assert low < EXPONENT - 0.01 and EXPONENT + 0.01 < high
    (low,), (high,) = np.exp(limits(optima.n.log_draws_at(np.log([1e21]))))
    assert low < 2.5e9 and 3.0e9 < high
    (warning,) = optima.warnings
    assert warning.code == "noise_unknown" and "2 degrees of freedom" in warning.message


def test_with_a_known_noise_few_sizes_leave_a_wider_interval():
    runs = written(FOUR_SIZES)
    (low,), (high,) = limits(isoflop_optima(runs, np.full(16, 0.015)).n.draws[:, 1:])
    assert (low, high) == (pytest.approx(0.36, abs=0.02), pytest.approx(0.62, abs=0.02))


def test_noisy_losses_have_wide_intervals_or_are_refused():
    with pytest.raises(InputError, match="2 of 4 budgets with a minimum of the parabolas .* another --method"):
        isoflop_optima(written(NOISY), method="quadratic")
    optima = isoflop_optima(written(NOISY))  # the outlier: log L bends by .006 +- .012
    assert np.isnan(limits(optima.n.draws[:, 1:])).all() and optima.warnings[-1].code == "no_minimum"
    unknown = limits(isoflop_optima(written(NOISY), np.full(16, 0.015)).n.draws[:, 1:])
    assert np.isnan(unknown).all()  # most noisy copies have a budget without an optimum


@pytest.mark.parametrize("find", [isoflop_optima, lower_edge])
def test_losses_that_do_not_depend_on_n_have_optima_without_limits(find):
    """Sizes that follow C^.5 have their lowest losses by chance at about C^.5; at 1 %, 3 of 40 tables may claim so."""
    claims = refused = 0
    flops, at = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e18, 1e20, 4), np.geomspace(0.2, 5, 7)))
    n = 2e8 * np.sqrt(flops / 1e19) * at
    for seed in range(40):
        loss = 3.0 * np.exp(0.005 * np.random.default_rng(seed).standard_normal(len(n)))
        try:
            found = find(runs_to_allocate(pd.DataFrame({"N": n, "D": flops / 6 / n, "L": loss})), draws=200)
        except InputError:
            refused += 1
            continue
        claims += bool(np.isfinite(limits(found.n.draws[:, 1:])).any())
    assert claims <= 3 and refused < 30


def test_intervals_from_the_scatter_are_those_of_least_squares(profiles):
    """Student's t with numpy's error of a slope; percentiles of 20,000 draws know them to 2 %."""
    optima = isoflop_optima(runs_to_allocate(profiles(4, 0.01)), draws=20000)
    (slope, _), covariance = np.polyfit(np.log(optima.flops), optima.log_n, 1, cov=True)
    half = t.ppf(0.975, len(optima.flops) - 2) * np.sqrt(covariance[0, 0])
    (low,), (high,) = limits(optima.n.draws[:, 1:])
    np.testing.assert_allclose([low, high], [slope - half, slope + half], atol=0.02 * half)
    assert np.mean(optima.log_n_draws, axis=0) == pytest.approx(optima.log_n)


def test_a_line_that_misses_its_optima_has_wider_intervals_and_says_so(profiles):
    """N* that bends, as if its exponent fell by .1 a decade; the loss at a given N/N* and budget stays as it was."""
    table = profiles(6, scatter=0.0005)
    bent = np.exp(0.1 * np.log(10) * np.log10(6 * table.N * table.D / 3e19) ** 2)
    curved = runs_to_allocate(table.assign(N=table.N / bent, D=table.D * bent))
    straight = runs_to_allocate(table)
    (missed,), fine = (isoflop_optima(runs, 0.0005 * runs.loss).warnings for runs in (curved, straight))
    assert missed.code == "line_misses_optima" and "degrees" in missed.message and not fine
    width = [np.ptp(limits(isoflop_optima(r, 0.0005 * r.loss).n.draws[:, 1:])) for r in (curved, straight)]
    assert width[0] > 2 * width[1]


def test_a_shared_cubic_term_finds_the_minima_of_skewed_profiles():
    """log L is a parabola and a cubic about N* ~ C^.5, of another curvature and level on each budget: all known."""
    rows, best = [], 3e7 * np.sqrt(np.geomspace(1e18, 1e20, 4) / 1e18)
    for i, n in enumerate(best):
        x = np.linspace(-1.4, 1.2, 6) + 0.1 * i
        loss = np.exp(1.2 - 0.1 * i + (0.01 + 0.002 * i) * x**2 - 0.002 * x**3)
        rows += [(n * np.exp(x), 1e18 * 10 ** (2 * i / 3) / 6 / (n * np.exp(x)), loss)]
    runs = runs_to_allocate(pd.DataFrame(np.hstack(rows).T, columns=["N", "D", "L"]))
    np.testing.assert_allclose(np.exp(isoflop_optima(runs, method="cubic").log_n), best, rtol=1e-6)
    assert np.all(np.abs(isoflop_optima(runs, method="quadratic").log_n - np.log(best)) > 0.02)


def test_a_minimum_at_an_end_is_left_out_and_said(profiles, optimal_size):
    table = profiles(1, scatter=0.0)
    flops = 6 * table.N * table.D
    cut = runs_to_allocate(table.loc[(flops > 2e18) | (table.N > 1.2 * optimal_size(flops))])
    edge = isoflop_optima(cut, np.full(len(cut.n), 1e-4), draws=20)
    assert len(profiles_of(cut)) == 10 and len(edge.flops) == 9 and edge.flops.min() > 2e18
    assert any(warning.code == "minimum_at_edge" and "1e+18" in warning.message for warning in edge.warnings)


def test_runs_on_budgets_of_their_own_are_left_out_and_said(profiles):
    table, flops = profiles(3), np.geomspace(3e21, 3e26, 200)
    n = 10 ** np.random.default_rng(3).uniform(9, 11, len(flops))
    more = pd.concat([table, pd.DataFrame({"N": n, "D": flops / 6 / n, "L": 1.9})])
    alone, among = (
        isoflop_optima(runs_to_allocate(rows), np.full(len(rows), 0.004), draws=50) for rows in (table, more)
    )
    assert not alone.warnings and [warning.code for warning in among.warnings] == ["few_on_budgets"]
    np.testing.assert_allclose(alone.flops, among.flops)


def test_of_runs_of_one_size_and_budget_the_best_counts():
    frame = pd.DataFrame({"N": [1e6, 1e6, 2e6, 4e6], "D": [4e8, 4e8, 2e8, 1e8], "L": [3.2, 3.0, 2.9, 3.1]})
    (rows,) = profiles_of(runs_to_allocate(frame))
    assert list(rows) == [1, 2, 3]


def test_designs_without_profiles_are_refused():
    rng, n = np.random.default_rng(0), np.geomspace(1e7, 1e9, 30)
    for ratio, word in ((20.0, "D varies"), (20 * np.exp(rng.normal(0, 0.02, 30)), "D varies"),
                        (np.exp(rng.uniform(0, 6, 30)), "--approach 3")):  # fmt: skip
        frame = pd.DataFrame({"N": n, "D": ratio * n, "L": 2 + n**-0.3})
        with pytest.raises(InputError, match=word):
            isoflop_optima(runs_to_allocate(frame))


def test_an_own_count_of_flops_is_used(profiles):
    runs = runs_to_allocate(profiles(2))
    frame = pd.DataFrame({"N": runs.n, "D": runs.d, "L": runs.loss, "flops": 2 * runs.flops})
    doubled = isoflop_optima(runs_to_allocate(frame), np.full(len(frame), 0.005), draws=50)
    plain = isoflop_optima(runs, np.full(len(frame), 0.005), draws=50)
    np.testing.assert_allclose(doubled.flops, 2 * plain.flops)
    np.testing.assert_allclose(doubled.log_n, plain.log_n)


@pytest.mark.public_data
@pytest.mark.parametrize("step", STEPS, ids=["-".join(step[:5]) for step in STEPS])
def test_porians_exponents(step, public):
    """From the points within .005 of the published exponents, and intervals that share most of the published ones."""
    table = public("porian_isoflop_points.csv")
    *_, exponent, (published_low, published_high) = step
    rows = table.loc[table.file.isin(["summary_df", "summary_df_owt2"])]
    for column, value in zip(("dataset", "hparams", "warmup", "decay", "param_count"), step[:5], strict=True):
        rows = rows.loc[rows[column] == value]
    frame = rows.rename(columns={"params_N": "N", "tokens_D": "D", "loss": "L", "flops_C": "flops"})
    line = isoflop_optima(runs_to_allocate(frame), np.full(len(frame), NOISE[step[0]])).n
    assert line.exponent == pytest.approx(exponent, abs=0.005)
    (low,), (high,) = limits(line.draws[:, 1:])
    shared = min(high, published_high) - max(low, published_low)
    assert shared > 0.8 * max(high - low, published_high - published_low)


@pytest.mark.public_data
@pytest.mark.parametrize("step", STEPS, ids=["-".join(step[:5]) for step in STEPS])
def test_their_optima_give_their_regression(step, public):
    columns = ["dataset", "hparams", "warmup", "decay", "param_count"]
    optima, fits = (
        table.loc[table.file.isin(["summary_df", "summary_df_owt2"])]
        for table in (
            public("porian_isoflop_optima.csv"),
            public("porian_reference_fits.csv").query("fit == 'weighted'"),
        )
    )
    for column, value in zip(columns, step[:5], strict=True):
        optima, fits = (table.loc[table[column] == value] for table in (optima, fits))
    optima = optima.dropna(subset=["N_opt"])
    line = power_law_in_compute(
        optima.flops_C.to_numpy(), np.log(optima.N_opt.to_numpy()), optima.n_star_std.to_numpy() ** -2.0
    )
    (reference,) = fits.n_exponent
    assert line.exponent == pytest.approx(reference, abs=1e-5)
    (coefficient,) = fits.n_coef
    assert np.exp(line.log_at(0.0)) == pytest.approx(coefficient, rel=1e-3)
