"""The functions of `from harness import ...`: lazily imported, on tables in memory and on files."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import harness
from harness.fit.results.result import FitResult

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def runs() -> pd.DataFrame:
    """48 runs of two domains whose losses obey Chinchilla's law; sizes stand in a column `params`."""
    rng = np.random.default_rng(3)
    n, d = (10 ** rng.uniform(low, high, 48) for low, high in ((6, 9), (8, 11)))
    loss = (1.8 + 480 * n**-0.35 + 2085 * d**-0.37) * np.exp(0.002 * rng.standard_normal(48))
    return pd.DataFrame({"params": n, "D": d, "L": loss, "domain": np.resize(["web", "code"], 48)})


def run(code: str) -> str:
    """What a new Python prints."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_imports_nothing_heavy():
    heavy = "{'jax', 'numpy', 'pandas', 'scipy', 'plotly', 'typer', 'rich'}"
    assert run(f"import sys, harness; print({heavy} & sys.modules.keys() or 'nothing')") == "nothing\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        "from harness import fit, gaps, report",
        "import harness.fit.results.result, harness.gaps.estimators; from harness import fit, gaps, report",
        "from harness import fit, gaps, report; from harness.fit.results.result import FitResult",
        "import harness; fit, gaps, report = harness.fit, harness.gaps, harness.report; import harness.fit.compare",
    ],
)
def test_a_name_means_the_function_whatever_was_imported_before(code):
    names = "[function.__name__ for function in (fit, gaps, report, harness.fit)]"
    assert (
        run(f"{code}; import harness; print({names})")
        == str(["fit_runs", "measure_gaps", "write_report_page", "fit_runs"]) + "\n"
    )


def test_names_are_offered_typed_and_found():
    assert dir(harness) == harness.__all__ and all(callable(getattr(harness, name)) for name in harness.__all__)
    tree = ast.parse((ROOT / "harness" / "__init__.py").read_text())
    (typed,) = [node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    homes = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in typed.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }  # fmt: skip
    assert homes == {name: harness._HOMES[name] for name in harness.__all__} == harness._HOMES
    with pytest.raises(AttributeError, match="nonesuch"):
        _ = harness.nonesuch


@pytest.mark.slow
def test_a_table_in_memory_and_its_file_give_the_same_fit(runs, tmp_path):
    choices = {"set": {"N": "params"}, "where": "domain == 'web'", "bootstrap": 5, "sensitivity": False}
    runs.to_csv(tmp_path / "runs.csv", index=False)
    fitted = harness.fit(runs, "chinchilla", **choices)
    from_file = harness.fit(tmp_path / "runs.csv", "chinchilla", **choices)
    assert isinstance(fitted, FitResult) and fitted.rows == 24
    assert fitted.to_dict() | {"source": ""} == from_file.to_dict() | {"source": ""}
    rows = harness.read_runs(runs, "chinchilla", set={"N": "params"}, where="domain == 'web'")
    again = harness.fit(rows, "chinchilla", bootstrap=5, sensitivity=False)
    assert again.parameters == fitted.parameters


def test_a_fit_is_used_in_memory_and_from_its_file(runs, tmp_path):
    fitted = harness.fit(runs, "chinchilla", set={"N": "params"}, bootstrap=20, sensitivity=False)
    (tmp_path / "fit.json").write_text(json.dumps(fitted.to_dict()))
    for source in (fitted, tmp_path / "fit.json", str(tmp_path / "fit.json")):
        predictions = harness.predict(source, {"N": [1e8], "D": [1e10]})
        (row,) = predictions.table.to_dict("records")
        assert f"<td>{row['prediction']:.4g} [" in predictions._repr_html_() and len(predictions.figure().data) == 2
        assert row["prediction"] == pytest.approx(1.8 + 480 * 1e8**-0.35 + 2085 * 1e10**-0.37, rel=0.01)
        assert row["run_low"] < row["low"] < row["prediction"] < row["high"] < row["run_high"]
        (budget,) = harness.allocate(source, [1e20]).budgets.to_dict("records")
        assert 6 * budget["N"] * budget["D"] == pytest.approx(1e20, rel=1e-6)


@pytest.mark.slow
def test_laws_are_compared_and_groups_fitted(runs):
    rows = harness.read_runs(runs, "chinchilla", set={"N": "params"})
    assert [row.law for row in harness.compare(rows, ["kaplan_floor", "chinchilla"])][0] == "chinchilla"
    groups = harness.fit_by(rows, "chinchilla", "domain", bootstrap=0, sensitivity=False)
    assert {name: fitted.rows for name, fitted in groups.items()} == {"web": 24, "code": 24}


@pytest.mark.slow
def test_the_gap_law_is_judged():
    rng = np.random.default_rng(3)
    n, u = 10 ** rng.uniform(5, 9, 60), 10 ** rng.uniform(-2, 3, 60)
    gaps = harness.predict_gap(n, u * n**0.74) * np.exp(0.05 * rng.standard_normal(60))
    table = pd.DataFrame({"params": n, "D": u * n**0.74, "G": gaps})
    verdict = harness.verdict(table, set={"N": "params"}, bootstrap=0, nulls=False)
    assert verdict.fit.rows == 60 and len(verdict.sentences) == 10
    assert verdict.headline in verdict._repr_html_() and verdict.figure().layout["title"]["text"] == verdict.headline


def test_rows_that_are_left_out_are_warned_of(runs):
    with pytest.warns(UserWarning, match="1 of 48 rows dropped: L is missing"):
        harness.read_runs(runs.assign(L=runs["L"].mask(runs.index == 3)), "chinchilla", set={"N": "params"})
    with pytest.raises(harness.InputError, match="size"):
        harness.fit(runs, "chinchilla", set={"N": "size"})


@pytest.mark.slow
def test_a_sweep_is_planned_measured_and_reported(finished, lab, tmp_path):
    planned = harness.plan(lab.spec, cache=lab.cache, calibrate=False)
    assert sum(cell.reason is None for cell in planned.cells) == 6
    gaps = harness.gaps(finished)
    table = gaps.table
    assert {"gap_probe", "gap_probe_se"} <= set(table.columns) and len(table) == len(gaps.cells) > 0
    assert gaps._repr_html_().count("<tr>") == 1 + len(table) and len(gaps.figure().data) == 4
    details = harness.gaps(finished, table["run_id"].iloc[0])
    assert details.run_id == table["run_id"].iloc[0] and details.trajectory and details.run_id in details._repr_html_()
    assert len(harness.run(lab.spec, finished, cache=lab.cache)) == 6  # nothing is left to train
