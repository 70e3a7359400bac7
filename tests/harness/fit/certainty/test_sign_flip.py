import numpy as np
import pandas as pd

from harness.fit.certainty.sign_flip import detect
from harness.fit.laws.registry import get_law
from harness.fit.problem.centred import centre


def table(seed, gap, clusters=60):
    rng = np.random.default_rng(seed)
    tokens = 10 ** rng.uniform(6, 10, clusters)
    return pd.DataFrame({"D": tokens, "G": gap(tokens) + 1e-3 * rng.standard_normal(clusters), "G_se": 1e-3})


def found(frame):
    return detect(centre(get_law("gap_n_free"), frame))


def test_noise_alone_is_called_a_gap_as_often_as_the_level_says():
    p_values = [found(table(seed, np.zeros_like)).p_value for seed in range(200)]
    assert np.mean(np.array(p_values) < 0.01) <= 0.03
    assert 0.35 < np.median(p_values) < 0.65


def test_gaps_of_two_standard_errors_at_few_tokens_are_found():
    power = [found(table(seed, lambda d: 2e-3 * (d / 1e6) ** -0.4)).detected for seed in range(40)]
    assert np.mean(power) > 0.8


def test_negative_gaps_are_no_gap():
    assert not found(table(0, lambda d: -5e-3 * np.ones_like(d))).detected


def on_one_text(seed):
    """No gap; half of the variance of every row is one error that all share, as on the same held-out documents."""
    rng = np.random.default_rng(seed)
    errors = 1e-3 * (rng.standard_normal(60) + rng.standard_normal()) / np.sqrt(2)
    return pd.DataFrame({"D": 10 ** rng.uniform(6, 10, 60), "G": errors, "G_se": 1e-3})


def test_errors_that_rows_are_known_to_share_are_no_gap():
    tables = [on_one_text(seed) for seed in range(200)]
    shared = [(1e-3 / np.sqrt(2),)] * 60
    assert np.mean([found(table.assign(G_shared=shared)).detected for table in tables]) <= 0.03
    assert np.mean([found(table).detected for table in tables]) > 0.1  # taken for independent: 21 % on 174 rows
    strong = pd.DataFrame(tables[0]).assign(G=tables[0]["G"] + 5e-3, G_shared=shared)
    assert found(strong).detected


def curves(seed, gap, runs=6, rows=12):
    """Runs of several checkpoints whose errors are shared by all of a run: their signs have 2^6 flips only."""
    rng = np.random.default_rng(seed)
    tokens = np.tile(np.arange(1, rows + 1) * 1e9, runs)
    noise = np.repeat(1e-3 * rng.standard_normal(runs), rows) + 1e-4 * rng.standard_normal(runs * rows)
    return pd.DataFrame({"D": tokens, "G": gap + noise, "G_se": 1e-3, "run": np.repeat(np.arange(runs), rows)})


def test_a_gap_is_found_in_few_runs_and_noise_in_few_runs_is_none():
    assert np.mean([found(curves(seed, 0.01)).detected for seed in range(20)]) > 0.9
    assert np.mean([found(curves(seed, 0.0)).detected for seed in range(200)]) <= 0.03
    assert not found(curves(0, 0.01, runs=1)).detected
