"""What the presets promise, from the loaded sweeps."""

import functools

import numpy as np
import pytest

from harness.gaps.roles import RUN_ROLES
from models.config import ARCHITECTURES
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
    assert set(preset_names()) >= {"quickstart", "gap174", "isoflop", "twins"}


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
    assert set(column(sweep, "architecture")) == set(ARCHITECTURES)
    assert set(column(sweep, "domain")) == {"stdlib_code", "api_docs", "installed"}
    assert {name.split("@")[0] for name in column(sweep, "tokenizer")} == {"bytes", "bpe:512"}
    widths = column(sweep, "width")
    assert len(set(column(sweep, "batch")[widths == 48])) == 2
    u, epochs = column(sweep, "u"), column(sweep, "epochs")
    assert (u < 1).sum() >= 5 and (u > 1).sum() >= 15
    assert (epochs > 7).sum() >= 10 and epochs.max() <= 20 and (epochs <= 2.1).sum() >= 8


def test_gap174_can_tell_the_gap_law_right_from_wrong():
    sweep = cached("gap174")
    assert len(sweep.configs) == 174
    assert set(column(sweep, "architecture")) == set(ARCHITECTURES)
    assert set(column(sweep, "tokenizer")) == {"bytes", "o200k_base[:32000]", "o200k_base[:128000]"}
    assert set(column(sweep, "domain")) == {"web", "code", "science", "mixed"}
    # The N that a fit of the sweep's runs takes.
    np.testing.assert_array_equal(column(sweep, "N"), column(sweep, RUN_ROLES["N"]))
    n, d, u = column(sweep, "N"), column(sweep, "D"), column(sweep, "u")
    np.testing.assert_allclose(u, d / n**0.74)
    assert (u < 0.3).mean() >= 0.3 and (u > 3).mean() >= 0.3
    assert abs(np.corrcoef(np.log(n), np.log(d))[0, 1]) < 0.5
    assert len(set(column(sweep, "batch"))) >= 5
    seeds = list(seeds_by_cell(sweep).values())
    assert set(seeds) == {1, 3} and seeds.count(3) >= 0.15 * len(seeds)


@pytest.mark.parametrize("factor", ["architecture", "tokenizer", "domain"])
def test_gap174_crosses_its_factors_with_both_sides_of_the_crossover(factor):
    sweep = cached("gap174")
    u, values = column(sweep, "u"), column(sweep, factor)
    for value in set(values):
        assert (u[values == value] < 0.3).sum() >= 4 and (u[values == value] > 3).sum() >= 4, value


def test_gap174_varies_the_batch_alone():
    sweep = cached("gap174")
    batch = [cell.config for cell in sweep.cells if cell.block == "batch" and cell.config]
    assert len({config.batch for config in batch}) >= 5
    assert len({(config.optimizer.lr, config.model) for config in batch}) == 1
    tokens = [config.tokens for config in batch]
    assert max(tokens) / min(tokens) < 1.02


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
