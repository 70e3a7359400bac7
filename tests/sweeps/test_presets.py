"""What the presets promise, from the loaded sweeps."""

import functools
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from harness.fit.gap_law.constants import predict_gap
from harness.gaps.cells import cell_key
from harness.gaps.pilot_errors import expected_from
from harness.gaps.roles import RUN_ROLES
from models.count import count, flops
from sweeps.grid import Sweep, load, preset_names
from sweeps.plan import plan

cached = functools.cache(load)


def column(sweep: Sweep, name: str) -> np.ndarray:
    return np.array([cell.values[name] for cell in sweep.cells])


def seeds_by_cell(sweep: Sweep) -> dict[str, int]:
    groups: dict[str, int] = {}
    for config in sweep.configs:
        key = config.model_copy(update={"seed": 0}).run_id
        groups[key] = groups.get(key, 0) + 1
    return groups


def test_the_presets_are_there():
    assert set(preset_names()) >= {"quickstart", "gap174", "gap1000", "gap_forecast", "isoflop", "twins"}


# The architectures of the gap law's study and of the quickstart.
SIX = {"dense", "parallel", "switch_top1", "top2", "expert_choice", "fine_grained_shared"}


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_feasible_within_the_default_memory(name):
    made = plan(cached(name))
    assert made.name == name and made.description
    assert not made.infeasible


def test_quickstart_is_small_and_shows_everything():
    sweep = cached("quickstart")
    made = plan(sweep)
    assert 24 <= len(sweep.configs) <= 36 and made.compiles <= 12
    assert made.flops < 1e13 and made.seconds.total < 240
    assert set(column(sweep, "architecture")) == SIX
    assert set(column(sweep, "domain")) == {"stdlib_code", "api_docs", "installed"}
    assert {name.split("@")[0] for name in column(sweep, "tokenizer")} == {"bytes", "bpe:512"}
    widths = column(sweep, "width")
    assert len(set(column(sweep, "batch")[widths == 48])) == 2
    u, epochs = column(sweep, "u"), column(sweep, "epochs")
    assert (u < 1).sum() >= 5 and (u > 1).sum() >= 15
    assert (epochs > 7).sum() >= 10 and epochs.max() <= 20 and (epochs <= 2.1).sum() >= 8


def test_gap174_crosses_the_factors_of_the_source_with_both_sides_of_the_crossover():
    sweep = cached("gap174")
    cells = {cell_key(run): run for run in sweep.configs}
    assert len(cells) == 174
    assert set(column(sweep, "architecture")) == SIX
    assert set(column(sweep, "tokenizer")) == {"bytes", "o200k_base[:32000]", "o200k_base[:128000]"}
    assert set(column(sweep, "epochs").round(1)) == {1.0} and len(set(column(sweep, "batch"))) == 3
    # The N that a fit of the sweep's runs takes.
    np.testing.assert_array_equal(column(sweep, "N"), column(sweep, RUN_ROLES["N"]))
    n, d, u = column(sweep, "N"), column(sweep, "D"), column(sweep, "u")
    np.testing.assert_allclose(u, d / n**0.74)
    assert abs(np.corrcoef(np.log(n), np.log(d))[0, 1]) < 0.5
    domains = column(sweep, "domain")
    assert set(domains) == {"web", "code", "science", "mixed"}
    for domain in set(domains):
        assert (u[domains == domain] < 0.5).any() and (u[domains == domain] > 3).any(), domain


def test_four_of_five_cells_of_gap174_can_detect_what_the_law_predicts_by_the_pilot():
    pilot = files("sweeps") / "studies" / "gap" / "pilot.parquet"
    expected = expected_from(pd.read_parquet(str(pilot)), Path(str(pilot)))
    detects = {}
    for cell in cached("gap174").cells:
        run, draws = cell.config, cell.settings["draws"]
        assert run is not None
        found = expected(run)
        assert found is not None
        # A one-sided test at 2.5 % that finds it in four of five repetitions.
        power = norm.cdf(predict_gap(count(run.model).nonembedding, run.tokens) / found.error * draws**0.5 - 1.96)
        detects[cell_key(run)] = power >= 0.8
    assert np.mean(list(detects.values())) >= 0.8


def test_gap1000_asks_every_question_on_a_split_of_its_own():
    splits: dict[int, set[str]] = {}
    for cell in cached("gap1000").cells:
        assert cell.config is not None and cell.config.data.half is not None
        splits.setdefault(cell.config.data.split_seed, set()).add(cell.block.partition("_")[0])
    assert all(len(questions) == 1 for questions in splits.values()), splits
    once = [cell for cell in cached("gap1000").cells if cell.block == "once"]
    u = np.array([cell.values["u"] for cell in once])
    assert (u < 0.5).any() and (u > 200).any()


def test_the_forecast_runs_lie_beyond_those_that_the_laws_are_fitted_to():
    fitted = np.array([cell.values["flops"] for cell in cached("gap1000").cells if cell.block == "once"])
    forecast = column(cached("gap_forecast"), "flops")
    assert forecast.min() > 1.5 * fitted.max() and forecast.max() > 25 * fitted.max()


def test_isoflop_spends_each_budget_on_every_size():
    sweep = cached("isoflop")
    budgets: dict[str, list] = {}
    for cell in sweep.cells:
        assert cell.config and cell.config.model.architecture == "dense"
        budgets.setdefault(cell.block, []).append(cell.config)
    assert len(budgets) >= 5
    for name, configs in budgets.items():
        spent = [flops(config.model).train * config.tokens for config in configs]
        np.testing.assert_allclose(spent, float(name), rtol=0.02)
        sizes = [count(config.model).nonembedding for config in configs]
        assert len(set(sizes)) >= 5 and max(sizes) / min(sizes) > 15
        ratios = [config.tokens / n for config, n in zip(configs, sizes, strict=True)]
        assert max(ratios) > 20 > min(ratios)


def test_twins_pairs_every_run_and_doubles_the_epochs():
    configs = cached("twins").configs
    ids = {config.run_id for config in configs}
    assert all(config.data.half and config.twin().run_id in ids for config in configs)
    for domain in ("web", "code"):
        repeated = [c for c in configs if c.data.domain == domain and c.data.unique_tokens == 100_000]
        epochs = sorted({round(config.epochs) for config in repeated})
        assert epochs == [1, 2, 4, 8, 16, 32]
    assert sum(config.epochs == pytest.approx(1, abs=0.01) and config.tokens > 10**6 for config in configs) == 6


def test_compute_optimal_spends_each_budget_on_the_same_sizes_in_three_recipes():
    spent: dict[str, set] = {}
    for cell in cached("compute_optimal").cells:
        run, n = cell.config, cell.values["N_total"]
        assert run is not None and isinstance(n, int)
        flops = 6 * n * run.tokens
        budget = min([3.2e10, 8.5e10, 2.26e11, 6e11, 1.6e12], key=lambda c: abs(np.log(c / flops)))
        assert flops == pytest.approx(budget, rel=0.01)
        spent.setdefault(cell.block, set()).add((budget, n))
        warmup = run.optimizer.warmup_steps * run.batch_tokens
        expected = min(250_000, 0.99 * run.tokens) if cell.block == "fixed_warmup" else 0.05 * run.tokens
        assert warmup == pytest.approx(expected, abs=run.batch_tokens, rel=0.01)
    assert len(spent) == 3 and len(set(map(frozenset, spent.values()))) == 1
    for budget in (3.2e10, 1.6e12):
        sizes = [n for at, n in spent["tuned_rate"] if at == budget]
        assert len(sizes) >= 6 and max(sizes) > 10 * min(sizes)


def test_in_repetition_every_length_of_repeated_text_is_also_read_once():
    cells = {
        (run.model.width, run.optimizer.weight_decay, run.tokens, round(run.epochs))
        for run in cached("repetition").configs
    }
    assert {epochs for *_, epochs in cells} == {1, 2, 4, 8, 16, 32, 64}
    assert all((*cell[:3], 1) in cells for cell in cells if cell[3] in (4, 16, 64))
    assert {cell[1] for cell in cells} == {0, 0.1, 1}


def test_batch_noise_has_three_rates_a_factor_of_two_apart_for_every_size_and_batch():
    rates: dict[tuple, set] = {}
    for run in cached("batch_noise").configs:
        rates.setdefault((run.model.width, run.batch_tokens), set()).add(run.optimizer.lr)
    assert len(rates) == 32
    for tried in rates.values():
        low, middle, high = sorted(tried)
        assert middle / low == pytest.approx(2) and high / middle == pytest.approx(2)
