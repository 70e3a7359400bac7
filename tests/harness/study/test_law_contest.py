"""Which law describes gaps best, on simulated tables of runs whose law is known."""

import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from harness.study.contest import law_contests

DRAWS, SPREAD = 4, 0.1


def drawn(block: str, cells: list[tuple[float, float, float]], rng: np.random.Generator, **recipe: object):
    """The table of runs of cells (N, D, epochs) whose gaps are 4e-4 N^0.4 D^-0.1 epochs^1.2, times 9 on web text."""
    rows = []
    for n, d, epochs in cells:
        row = {
            "block": block, "status": "done", "half": "a", "seed": 0, "architecture": "dense", "tokenizer": "bytes",
            "domain": "science", "width": 8, "depth": 1, "N_total": n, "N_nonembedding": n, "N_active": n, "D": d,
            "U": d / epochs, "epochs": epochs, "flops": 6 * n * d, "D_bytes": d, "batch_tokens": 256, "lr": 0.01,
            "schedule": "cosine", "weight_decay": 0.1, "bytes_per_token": 1.0, "gap_online": None, "gap_probe": 0.1,
            "placebo_twin": 0.0, "placebo_twin_se": 1e-3, "gap_drift": 0.0, "noise_scale": 1.0, "converged": True,
            "train_loss_final100": 2.0, "val_loss_final100": 1.2 + 40 / d**0.3,
        } | recipe  # fmt: skip
        true = 4e-4 * n**0.4 * d**-0.1 * epochs**1.2 * (9 if row["domain"] == "web" else 1)
        for draw in range(DRAWS):
            measured = true * (1 + SPREAD * rng.standard_normal())
            run = {"run_id": f"{block}{len(rows)}", "draw": draw, "gap_twin": measured, "gap_twin_se": SPREAD * true}
            rows.append(row | run)
    return pd.DataFrame(rows)


def table(rng: np.random.Generator) -> pd.DataFrame:
    once = [(n, d, 1.0) for n in (3e3, 1e4, 1e5, 1e6) for d in (1e4, 1e5, 1e6)]
    repeated = [(n, d, epochs) for n in (1e4, 1e5, 1e6) for d in (6e4, 5e5) for epochs in (4.0, 16.0, 64.0)]
    other = [drawn("domains", once, rng, domain="web"), drawn("nuisances", once, rng, lr=0.02)]
    return pd.concat([drawn("once", once, rng), drawn("epochs", repeated, rng), *other], ignore_index=True)


@pytest.mark.slow
def test_the_true_form_is_the_best_and_its_constants_are_found():
    runs = table(np.random.default_rng(0))
    contests = {contest.cells: contest for contest in law_contests(runs)}
    fresh, everything = contests["text read once"], contests["all text, of one recipe"]
    # There is no cell of the source's own study, and cells of other recipes or rates do not enter.
    assert len(contests) == 2 and (fresh.rows, everything.rows) == (12, 30)
    behind = {law["law"]: law["delta_aicc"] for law in fresh.ranked}
    assert behind["gap_free_n"] < 6 and behind["gap"] > 10 and behind["gap_n_free"] > 10
    best = everything.ranked[0]["law"]
    assert best == "G(N, D, epochs) = a*N**c*D**-b*epochs**r" and everything.ranked[0]["delta_aicc"] == 0
    found = {row["constant"]: row for row in everything.constants if row["law"] == best}
    for name, truth in {"c": 0.4, "b": 0.1, "r": 1.2}.items():
        assert found[name]["low"] <= truth <= found[name]["high"] and found[name]["high"] - found[name]["low"] < 0.1
    assert {row["law"] for row in everything.constants} == {best, "gap"}
    json.dumps([asdict(contest) for contest in contests.values()], allow_nan=False)


def test_tables_with_too_few_cells_have_no_contest():
    runs = drawn("once", [(1e4, 1e5, 1.0)], np.random.default_rng(0))
    assert law_contests(runs) == () and law_contests(runs.assign(gap_twin=None)) == ()
