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
DECLARED = Declared(fitted_to="once", sweep="gap_forecast", gap=("gap_classical",), loss=("hestness", "moe_sparsity"))
STUDY = Study(name="s", question="?", sweeps=("gap1000",), judge="gap", forecast=DECLARED)


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
    file, told = tmp_path / "forecasts.jsonl", []
    found = register(STUDY, study_cells(once), file, tell=told.append)
    assert len(found.added) == 22 and {(each.law, each.response) for each in found.added} == {
        ("gap_classical", "G"), ("hestness", "L")
    }  # fmt: skip
    (line,) = told
    assert line.startswith("no forecast by moe_sparsity: ") and " P" in line
    assert score(file, once) is None
    # The study goes on after an interruption: there are more cells now, but what was forecast stays.
    before = file.read_bytes()
    both = pd.concat([once, largest], ignore_index=True)
    assert register(STUDY, study_cells(both), file, tell=told.append).added == () and file.read_bytes() == before
    scores = score(file, both)
    assert scores is not None and scores.missing == () and len(scores.forecasts) == 22
    # Both laws are true, so that about 95 % of the intervals hold what was measured.
    assert all(law.coverage is not None and law.coverage >= 9 / 11 for law in scores.laws)
    losses = next(law for law in scores.laws if law.response == "L")
    assert losses.largest_error is not None and losses.largest_error < 5 * LOSS_SD


def test_no_law_forecasts_anew_from_other_rows_however_it_is_written(once, tmp_path):
    written = ("gap_classical with p=1", "G = a*D**-b")
    study = STUDY.model_copy(update={"forecast": DECLARED.model_copy(update={"gap": written, "loss": ()})})
    file, cells = tmp_path / "forecasts.jsonl", study_cells(once)
    assert len(register(study, cells, file).added) == 22
    assert register(study, cells.iloc[1:], file).added == ()


def test_a_study_without_forecasts_or_cells_is_refused(once, tmp_path):
    cells = study_cells(once)
    with pytest.raises(InputError, match="a study that declares forecasts"):
        register(STUDY.model_copy(update={"forecast": None}), cells, tmp_path / "f.jsonl")
    with pytest.raises(InputError, match="a block with finished cells"):
        register(STUDY, cells.assign(block="epochs"), tmp_path / "f.jsonl")


def test_the_verdict_and_the_page_show_the_scores(largest, forecast_at, tmp_path):
    pytest.importorskip("matplotlib")
    file = tmp_path / "forecasts.jsonl"
    points = [{"N": float(n), "D": float(d)} for n, d in largest[["N_nonembedding", "D"]].itertuples(index=False)]
    append_forecasts(file, [forecast_at(point=point) for point in points])
    append_forecasts(file, [forecast_at(law="tied", point=points[0], run_low=None, run_high=None)])
    scores = score(file, largest)
    assert scores is not None
    verdict = GapVerdict({}, judge_claims({}), (), (), (), (), [], (), scores)
    written = json.loads(verdict.to_json())["forecasts"]
    assert [law["law"] for law in written["laws"]] == ["chinchilla", "tied"]
    images = draw_figures({}, verdict.claims, "svg", verdict.forecasts)
    page = study_page(STUDY, largest, verdict, images)
    section = page[page.index('id="forecasts"') : page.index('id="online"')]
    assert section.count("<svg") == 1 and "chinchilla" in section and "tied" in section
    none = study_page(STUDY, largest, replace(verdict, forecasts=None), {"claims": images["claims"]})
    assert 'id="forecasts"' not in none and json.loads(replace(verdict, forecasts=None).to_json())["forecasts"] is None
