"""The study of pruning in training: counts of parameters and excess losses, against known ones."""

import numpy as np
import pandas as pd
import pytest

from harness.study.papers.journey import _counted, _over_dense, _regret
from models.config import make_config
from models.count import count, parts


def rows_of(count_of_n):
    """Dense and pruned runs of one text whose losses are 3 N^-0.05, N being a function of the run."""
    models = [
        make_config("dense", vocab=256, context=64, width=width, depth=2, heads=2) for width in (12, 16, 20, 24, 32)
    ]
    sizes = {model.width: float(count(model).nonembedding) for model in models}
    dense = [{"width": width, "prune_sparsity": 0.0, "N_average": n} for width, n in sizes.items()]
    pruned = [{"width": 24, "prune_sparsity": s, "N_average": sizes[24] * (1 - 0.625 * s)} for s in (0.4, 0.8)]
    runs = pd.DataFrame(dense + pruned).assign(depth=2, D=1000, draw=0, prune_start=0.25, prune_end=0.75)
    runs = _counted(runs.assign(N_nonembedding=[sizes[width] for width in runs["width"]]))
    return runs.assign(L=3 * count_of_n(runs) ** -0.05)


def test_the_final_count_leaves_out_what_is_pruned():
    rows = rows_of(lambda runs: runs["N_average"])
    config = make_config("dense", vocab=256, context=64, width=24, depth=2, heads=2)
    prunable = parts(config)["attention"] + parts(config)["ffn"]
    assert rows["N_final"].iloc[-1] == count(config).nonembedding - 0.8 * prunable


@pytest.mark.parametrize(
    ("count_of_n", "power"), [(lambda runs: runs["N_average"], 1.0), (lambda runs: runs["N_initial"], 0.0)]
)
def test_the_power_tells_which_count_says_the_loss(count_of_n, power):
    rows = rows_of(count_of_n)
    found = _over_dense(rows)
    assert found["power"].tolist() == pytest.approx([power] * 2, abs=0.01)
    expected = found["L"] - 3 * found["N_average"] ** -0.05
    assert found["excess"].to_numpy() == pytest.approx(expected.to_numpy(), abs=1e-6)


def test_the_best_schedule_has_no_regret_and_another_its_distance_to_it():
    noise = np.random.default_rng(0).normal(0, 1e-4, (12, 3))
    names = pd.MultiIndex.from_tuples([(0.0, 0.5), (0.25, 0.75), (0.5, 1.0)])
    best = pd.DataFrame(noise + [0.03, 0.0, 0.01], columns=names)
    assert _regret(best) == (0.0, 0.0, 0.0)
    estimate, low, high = _regret(pd.DataFrame(noise + [0.0, 0.02, 0.01], columns=names))
    assert low is not None and high is not None and estimate is not None
    assert low < estimate < high and estimate == pytest.approx(0.02, abs=2e-4)
