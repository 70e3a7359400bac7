"""Groups of a table, each on its own: fits, rankings, and what is said of groups that are too small."""

import numpy as np
import pandas as pd
import pytest

from harness.fit.compare import compare
from harness.fit.fitting import fit
from harness.fit.groups import compare_by, fit_by, for_each_group
from harness.fit.results.held_out import HeldOutRow
from sweeps.errors import InputError


def two_groups(losses) -> pd.DataFrame:
    return pd.concat([losses(0, rows=40).assign(corpus="web"), losses(1, rows=40).assign(corpus="code")])


def test_each_group_is_what_it_is_alone(losses):
    table = two_groups(losses)
    ranked, warnings = compare_by(["chinchilla", "tied"], table, "corpus")
    alone = compare(["chinchilla", "tied"], losses(1, rows=40))
    assert list(ranked) == ["code", "web"] and warnings == ()
    assert [row.to_dict() for row in ranked["code"]] == [row.to_dict() for row in alone]


def test_what_is_too_small_or_lacks_a_group_is_told(losses):
    table = pd.concat([two_groups(losses), losses(2, rows=3).assign(corpus="tiny"), losses(3, rows=2)])
    counted, warnings = for_each_group(table, "corpus", lambda rows, name: (len(rows), name), "runs.csv")
    assert counted == {"code": (40, "runs.csv, corpus code"), "tiny": (3, "runs.csv, corpus tiny"),
                       "web": (40, "runs.csv, corpus web")}  # fmt: skip
    assert [(w.code, w.message) for w in warnings] == [("rows_dropped", "2 of 85 rows dropped: corpus is missing")]
    fits, _, warnings = fit_by("chinchilla", table, "corpus", bootstrap=0, sensitivity=False)
    assert list(fits) == ["code", "web"]
    assert [w.code for w in warnings] == ["group_left_out", "rows_dropped"] and "corpus tiny" in warnings[0].message
    with pytest.raises(InputError, match="--by"):
        for_each_group(table, "tokenizer", lambda rows, name: 0)
    with pytest.raises(InputError, match="at least one group"):
        for_each_group(table.assign(none=np.nan), "none", lambda rows, name: 0)


def test_held_out_rows_are_listed_with_their_runs_and_coverage(losses):
    """The law itself made the rows: 95 % intervals for a new run hold nearly all held-out ones."""
    table = two_groups(losses).assign(run=lambda t: np.resize(["a", "b"], len(t))).reset_index(drop=True)
    held = "D > 1e10"
    fits, pooled, _ = fit_by("chinchilla", table, "corpus", holdout=held, bootstrap=60, sensitivity=False)
    out = table.loc[table.D > 1e10]
    assert pooled.rows == len(pooled.by_row) == len(out) > 15
    assert sorted(row.observed for row in pooled.by_row) == pytest.approx(sorted(out.L))
    assert {run.run for run in pooled.by_run} == {f"corpus {c}, {r}" for c in ("web", "code") for r in "ab"}
    assert sum(run.rows for run in pooled.by_run) == len(out)
    errors = np.array([row.predicted - row.observed for row in pooled.by_row])
    assert pooled.rmse == pytest.approx(float(np.sqrt(np.mean(errors**2))))
    inside = [row.run_low <= row.observed <= row.run_high for row in pooled.by_row if row.run_low and row.run_high]
    assert pooled.coverage == pytest.approx(np.mean(inside)) and np.mean(inside) > 0.8
    web = fits["web"].holdout
    at = int(np.flatnonzero(table.L == web.by_row[0].observed)[0])
    assert table.corpus[at] == "web" and web.by_row[0].run == table.run[at]


def test_errors_survive_the_json(losses):
    table = losses(0, rows=60).assign(holdout=lambda t: t.N > 3e8)
    result = fit("chinchilla", table, bootstrap=10, sensitivity=False)
    again = type(result).from_dict(result.to_dict())
    assert again.holdout == result.holdout and again.sizes == result.sizes
    assert result.holdout.by_row[0].row == int(np.flatnonzero(table.holdout)[0]) + 1
    assert result.holdout.by_run == ()
    rows = result.holdout.listed()[1].rows
    assert len(rows) == result.holdout.rows and all(row[-1] in ("yes", "no") for row in rows)
    assert HeldOutRow(1, "a", 2.0, 2.0, None, None).covered is None
