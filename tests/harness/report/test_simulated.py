"""Pages of simulated tables: the truth beside its fit, and the figures of every oracle."""

import numpy as np
import pandas as pd
import pytest

from harness.fit.known_truth import Truth, write_truth
from harness.report.oracle_figures import FIGURES, phase_map
from harness.report.write import write_report
from harness.theory import gap_worlds, jeon_van_roy, random_features
from sweeps.errors import InputError


def saved(folder, name: str, table: pd.DataFrame, truth: Truth):
    path = folder / f"{name}.csv"
    table.to_csv(path, index=False)
    write_truth(truth, path)
    return path


@pytest.mark.slow
def test_a_gap_table_gets_the_verdicts_page_and_its_truth(tmp_path):
    path = saved(tmp_path, "source", *gap_worlds.simulate_gaps("source", seed=2))
    written = write_report(path, bootstrap=20, nulls=False)
    html = written.read_text()
    assert written == tmp_path / "source.html"
    for section in ("truth", "constants", "collapse", "residuals", "provenance"):
        assert f'id="{section}"' in html
    for absent in ("losses", "measurement", "cost"):  # there are no curves, no probes and no machine
        assert f'<section id="{absent}"' not in html
    assert (
        "supported" in html[: html.index("</h1>")]
        and "isogap fit source.csv --law gap --truth source.truth.json" in html
    )


def test_figure_1_of_the_frontier(tmp_path):
    table, truth = jeon_van_roy.simulate_bound(budgets=(1e8, 1e10, 1e12), widths=15)
    _, ((left, _), (right, _)) = FIGURES["jeon_van_roy"](table, truth)
    curves = [trace for trace in left.data if trace.mode == "lines"]
    assert len(curves) == 3
    for curve, marked in zip(curves, next(t for t in left.data if t.mode == "markers").y, strict=True):
        lowest = int(np.argmin(curve.y))
        assert 0 < lowest < 14 and min(curve.y) >= marked  # U-shaped, and the optimum below
    drawn, line = right.data
    assert drawn.y[1] / drawn.x[1] == pytest.approx(35.7, rel=0.01)  # T*/p* at 10^10
    assert np.diff(np.log(line.y)) / np.diff(np.log(line.x)) == pytest.approx(1.0)
    html = write_report(saved(tmp_path, "frontier", table, truth), bootstrap=0).read_text()
    assert "The truth" in html and "holds the truth" in html


def test_experiments_are_drawn_beside_the_theory():
    table, truth = random_features.simulate_random_features(sizes=(10, 30), modes=100, noise=0.1, ridge=1.0, draws=3)
    _, ((left, _), _) = FIGURES["random_features"](table, truth)
    dots = next(trace for trace in left.data if trace.name == "experiments")
    assert sorted(dots.y) == sorted(table["simulated_test"])


def test_tables_that_no_simulator_wrote_need_a_law(tmp_path):
    path = tmp_path / "runs.csv"
    pd.DataFrame({"N": [1.0], "G": [2.0]}).to_csv(path, index=False)
    with pytest.raises(InputError, match="runs.csv: --law: missing"):
        write_report(path)
    write_truth(Truth("gap_source", "exact", "gap", {"z": 0.74}, {}, "0 s"), path)
    with pytest.raises(InputError, match="runs.csv: columns: got 'N, G'"):
        write_report(path)
    with pytest.raises(InputError, match="SOURCE"):
        write_report(tmp_path / "absent.csv")


@pytest.mark.parametrize(("alpha", "beta", "name"), [(0.75, 0.25, "Ia"), (0.7, 1.3, "III"), (0.4, 0.8, "IVa")])
def test_the_map_of_phases_has_the_published_borders(alpha, beta, name):
    """Ia, II and III lie at 2 alpha > 1, II and III at 2 beta > 1, divided by beta = alpha."""
    figure = phase_map(alpha, beta)
    (heat, point) = figure.data
    assert (point.x[0], point.y[0]) == (alpha, beta)
    column, row = np.argmin(np.abs(heat.x - alpha)), np.argmin(np.abs(heat.y - beta))
    assert heat.text[row][column].startswith(f"{name}: ")
    across, up = np.meshgrid(heat.x, heat.y)
    shown = np.vectorize(lambda text: text.split(":")[0])(np.asarray(heat.text))
    inside = (np.abs(2 * across - 1) > 0.05) & (np.abs(2 * up - 1) > 0.05) & (np.abs(up - across) > 0.02)
    for phase, where in (
        ("Ia", (2 * across > 1) & (2 * up < 1)),
        ("II", (2 * across > 1) & (2 * up > 1) & (up < across)),
        ("III", (2 * across > 1) & (2 * up > 1) & (up > across)),
        ("", (2 * (across + up) < 0.98)),
    ):
        assert set(shown[where & inside]) == {phase}
    assert {note["text"] for note in figure.to_dict()["layout"]["annotations"]} == {
        "Ia",
        "Ib",
        "Ic",
        "II",
        "III",
        "IVa",
        "IVb",
    }
