"""The forecasts of a study on simulated runs: registered before the largest cells, scored when these have ended."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from harness.fit.gap_law.claims import judge_claims
from harness.forecasts.registry_file import append_forecasts
from harness.study.cells import design_cells, study_cells
from harness.study.figures import draw_figures
from harness.study.forecasts import register, score
from harness.study.gap_study import GapVerdict
from harness.study.page import study_page
from harness.study.studies import Forecast as Declared
from harness.study.studies import Study
from sweeps.errors import InputError
from sweeps.grid import load

LOSS_SD, GAP_SD = 0.004, 0.05
DECLARED = Declared(
    sweep="gap_forecast", fitted_to=("once",), file="first.jsonl", gap=("gap_classical",),
    loss=("hestness", "moe_sparsity"),
)  # fmt: skip
SECOND = DECLARED.model_copy(update={"sweep": "gap_confirm", "fitted_to": ("once", "forecast"), "file": "second.jsonl"})
STUDY = Study(name="s", question="?", sweeps=("gap1000",), judge="gap", forecasts=(DECLARED, SECOND))


def loss(d):
    return 1.2 + 40 / d**0.3


def gap(n, d):
    return 2e-3 * n / d


@pytest.fixture(scope="module")
def simulated(run_row):
    """A function that makes the runs of cells whose losses and gaps obey laws, each draw with a scatter of its own."""

    def draw_cells(cells, block, draws, seed):
        rng, rows = np.random.default_rng(seed), []
        for (n, d), count in zip(cells, draws, strict=True):
            for draw in range(count):
                measured = {
                    "val_loss_final100": loss(d) * np.exp(LOSS_SD * rng.standard_normal()),
                    "gap_twin": gap(n, d) * (1 + GAP_SD * rng.standard_normal()),
                    "gap_twin_se": GAP_SD * gap(n, d),
                }
                rows.append(run_row(block, n, d, run_id=f"{block}{len(rows)}", draw=draw, **measured))
        return pd.DataFrame(rows)

    return draw_cells


@pytest.fixture(scope="module")
def once(simulated):
    """25 cells of 3 to 9 draws on a grid of N and D."""
    cells = [(n, d) for n in (3e3, 1e4, 3e4, 1e5, 3e5) for d in (1e4, 3e4, 1e5, 3e5, 1e6)]
    return simulated(cells, "once", np.resize([3, 5, 9], 25), 0)


@pytest.fixture(scope="module")
def largest(simulated):
    """The cells that are forecast, a single draw of each."""
    points = design_cells(load("gap_forecast"))
    return simulated(list(points[["N", "D"]].itertuples(index=False)), "forecast", [1] * len(points), 1)


def test_the_points_are_the_cells_of_the_sweep():
    points = design_cells(load("gap_forecast"))
    # The text of D predicted tokens has one more.
    assert len(points) == 11 and set(points["U"] - points["D"]) == {1} and set(points["epochs"]) == {1.0}
    asked = [3e5, 3e5, 1e6, 1e6, 1e6, 3e6, 3e6, 3e6, 1e7, 1e7, 3e7]
    np.testing.assert_allclose(points["N"], asked, rtol=0.1)
    reduced = points["D"] / points["N"] ** 0.74
    np.testing.assert_allclose(reduced, [256, 512, 64, 128, 256, 4, 16, 64, 1, 3, 0.5], rtol=0.1)


def test_the_error_of_a_loss_is_known_also_of_a_cell_of_one_draw(once, largest):
    cells = study_cells(pd.concat([once, largest], ignore_index=True))
    of_draw = (cells["L_se"] / cells["L"] * cells["draws"] ** 0.5).to_numpy(float)
    # The spread was the same everywhere, which the 25 cells together know to about 8 %.
    np.testing.assert_allclose(of_draw, LOSS_SD, rtol=0.25)
    few = study_cells(largest)
    assert np.all(few["L_se"].isna())  # nothing says how draws differ


@pytest.mark.slow
def test_every_law_forecasts_every_cell_before_and_is_scored_after(once, largest, tmp_path):
    told = []
    found = register(DECLARED, study_cells(once), tmp_path, tell=told.append)
    assert len(found.added) == 22 and {(each.law, each.response) for each in found.added} == {
        ("gap_classical", "G"), ("hestness", "L")
    }  # fmt: skip
    (line,) = told
    assert line.startswith("no forecast by moe_sparsity: ") and " P" in line
    assert score(STUDY.forecasts, once, tmp_path) == {}
    # The study goes on after an interruption: there are more cells now, but what was forecast stays.
    before = (tmp_path / "first.jsonl").read_bytes()
    both = pd.concat([once, largest], ignore_index=True)
    assert register(DECLARED, study_cells(both), tmp_path, tell=told.append).added == ()
    assert (tmp_path / "first.jsonl").read_bytes() == before
    scores = score(STUDY.forecasts, both, tmp_path)["first"]
    assert scores.missing == () and len(scores.forecasts) == 22
    # Both laws are true, so that about 95 % of the intervals hold what was measured.
    assert all(law.coverage is not None and law.coverage >= 9 / 11 for law in scores.laws)
    losses = next(law for law in scores.laws if law.response == "L")
    assert losses.largest_error is not None and losses.largest_error < 5 * LOSS_SD


@pytest.mark.slow
def test_no_law_forecasts_anew_from_other_rows_however_it_is_written(once, tmp_path):
    written = ("gap_classical with p=1", "G = a*D**-b")
    declared = DECLARED.model_copy(update={"gap": written, "loss": ()})
    cells = study_cells(once)
    assert len(register(declared, cells, tmp_path).added) == 22
    assert register(declared, cells.iloc[1:], tmp_path).added == ()


@pytest.mark.slow
def test_a_second_sweep_is_forecast_from_more_blocks_and_scored_apart(once, largest, simulated, tmp_path):
    """The same law forecasts both sweeps; each has a file, and is scored on its own cells alone."""
    both = pd.concat([once, largest], ignore_index=True)
    points = design_cells(load("gap_confirm"))
    assert len(register(DECLARED.model_copy(update={"loss": ()}), study_cells(once), tmp_path).added) == 11
    added = register(SECOND.model_copy(update={"loss": ()}), study_cells(both), tmp_path).added
    assert len(added) == len(points) and {each.rows for each in added} == {36}
    assert list(score(STUDY.forecasts, both, tmp_path)) == ["first"]
    cells = list(points[["N", "D"]].itertuples(index=False))
    everything = pd.concat([both, simulated(cells, "confirm", [2] * len(points), 2)], ignore_index=True)
    scores = score(STUDY.forecasts, everything, tmp_path)
    assert [len(each.forecasts) for each in scores.values()] == [11, len(points)]
    for each in scores["second"].forecasts:
        assert each.measured == pytest.approx(gap(each.point["N"], each.point["D"]), rel=5 * GAP_SD)


def test_cells_without_a_block_that_is_fitted_are_refused(once, tmp_path):
    with pytest.raises(InputError, match=r"forecasts\.fitted_to: got 'forecast', expected a block with finished cells"):
        register(SECOND, study_cells(once), tmp_path)


def test_the_verdict_and_the_page_show_the_scores(largest, forecast_at, tmp_path):
    pytest.importorskip("matplotlib")
    file = tmp_path / "first.jsonl"
    points = [{"N": float(n), "D": float(d)} for n, d in largest[["N_nonembedding", "D"]].itertuples(index=False)]
    append_forecasts(file, [forecast_at(point=point) for point in points])
    append_forecasts(file, [forecast_at(law="tied", point=points[0], run_low=None, run_high=None)])
    scores = score(STUDY.forecasts, largest, tmp_path)
    verdict = GapVerdict({}, judge_claims({}), (), (), (), (), [], (), scores)
    written = json.loads(verdict.to_json())["forecasts"]["first"]
    assert [law["law"] for law in written["laws"]] == ["chinchilla", "tied"]
    images = draw_figures({}, verdict.claims, "svg", verdict.forecasts)
    page = study_page(STUDY, largest, verdict, images, None)
    section = page[page.index('id="forecasts"') : page.index('id="online"')]
    assert section.count("<svg") == 1 and "chinchilla" in section and "tied" in section
    none = study_page(STUDY, largest, replace(verdict, forecasts={}), {"claims": images["claims"]}, None)
    assert 'id="forecasts"' not in none
