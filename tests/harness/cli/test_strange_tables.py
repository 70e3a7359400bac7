"""One small table of losses as strangers would write it: the same constants and the same optimum in every form.

What has to come out was found by other means: at 1e21 FLOPs N is 1.74e9, D 9.58e10, with 55 tokens a parameter.
"""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import least_squares

from harness.fit.problem.columns import levels

LOSSES = [
    4.735459, 4.138655, 3.772, 3.528201, 3.376827, 4.327741, 3.74429, 3.363679, 3.109894, 2.960374, 4.032868, 3.447466,
    3.050153, 2.831974, 2.678968, 3.83744, 3.247195, 2.874237, 2.642558, 2.502277,
]  # fmt: skip
N, D = (grid.ravel() for grid in np.meshgrid([2e7, 6e7, 1.8e8, 5.4e8], [5e8, 2e9, 8e9, 3.2e10, 1.2e11], indexing="ij"))
PLAIN = pd.DataFrame({"n_params": N, "tokens": D, "loss_final": LOSSES})
QUICK = ("--law", "chinchilla", "--bootstrap", 0, "--no-sensitivity")
CSV = PLAIN.to_csv(index=False)
WORDS = PLAIN.assign(Name=[f"run-{row}" for row in range(20)])
WIDE = pd.concat([PLAIN, pd.DataFrame(0.5, PLAIN.index, [f"eval/task_{task}/loss" for task in range(130)])], axis=1)

# Name of the case -> the file's content and further options.
SAME = {
    "plain": (CSV, ()),
    "si": (PLAIN.assign(n_params=[f"{n / 1e6:g}M" for n in N], tokens=[f"{d / 1e9:g}B" for d in D]).to_csv(), ()),
    "thousands": (PLAIN.assign(n_params=[f"{n:,.0f}" for n in N], tokens=[f"{d:,.0f}" for d in D]).to_csv(), ()),
    "semi": (PLAIN.to_csv(index=False, sep=";", decimal=","), ()),
    "tab": (PLAIN.to_csv(index=False, sep="\t"), ()),
    "rows.json": (PLAIN.to_json(orient="records"), ()),
    "rows.jsonl": (PLAIN.to_json(orient="records", lines=True), ()),
    "comment_line": (f"# exported 2026\n{CSV}", ()),
    "wide": (WIDE.to_csv(index=False), ()),
    "units": (pd.DataFrame({"Params (M)": N / 1e6, "Tokens (B)": D / 1e9, "Val Loss": LOSSES}).to_csv(index=False), ()),
    "log10": (
        pd.DataFrame({"log10_N": np.log10(N), "log10_D": np.log10(D), "L": LOSSES}).to_csv(index=False),
        ("--set", "N=10**log10_N", "--set", "D=10**log10_D"),
    ),
}


@pytest.fixture(scope="module")
def right() -> dict[str, float]:
    """The constants by scipy: Huber's loss on log residuals, from the constants of Besiroglu et al."""

    def residuals(p):
        return np.log(np.exp(p[0]) + np.exp(p[1] - p[2] * np.log(N)) + np.exp(p[3] - p[4] * np.log(D))) - np.log(LOSSES)

    start = [np.log(1.8), np.log(480), 0.35, np.log(2000), 0.37]
    p = least_squares(residuals, start, loss="huber", f_scale=1e-3, xtol=1e-14, ftol=1e-14, gtol=1e-14).x
    return {"E": np.exp(p[0]), "A": np.exp(p[1]), "alpha": p[2], "B": np.exp(p[3]), "beta": p[4]}


@pytest.mark.parametrize("case", SAME)
def test_the_same_table_gives_the_same_constants(case, right, tmp_path, isogap):
    text, options = SAME[case]
    (tmp_path / case).write_text(text)
    ended = isogap("fit", tmp_path / case, *QUICK, *options, "--json", tmp_path / "fit.json")
    assert ended.status == 0 and ended.err == "", ended.err
    fitted = json.loads((tmp_path / "fit.json").read_text())
    found = {name: fitted["parameters"][name]["estimate"] for name in right}
    assert found == pytest.approx(right, rel=2e-3)


@pytest.mark.parametrize("case", ["plain", "units"])
def test_the_optimum_does_not_depend_on_the_units(case, tmp_path, isogap):
    (tmp_path / case).write_text(SAME[case][0])
    budget = ("--approach", 3, "--flops", 1e21, "--bootstrap", 0, "--json", tmp_path / "optimum.json")
    assert isogap("allocate", tmp_path / case, *budget).status == 0
    (optimum,) = json.loads((tmp_path / "optimum.json").read_text())["budgets"]
    assert optimum["N"] == pytest.approx(1.74e9, rel=0.01)
    assert optimum["D"] == pytest.approx(9.58e10, rel=0.01)
    assert optimum["tokens_per_parameter"] == pytest.approx(55, rel=0.02)


def test_units_that_no_name_hints_at_are_doubted_by_every_command(tmp_path, isogap):
    table = pd.DataFrame({"N": N / 1e6, "D": D / 1e9, "L": LOSSES})
    table.to_csv(tmp_path / "runs.csv", index=False)
    fitted = tmp_path / "fit.json"
    ended = isogap("fit", tmp_path / "runs.csv", *QUICK, "--json", fitted)
    codes = {warning["code"] for warning in json.loads(fitted.read_text())["warnings"]}
    assert {"count_below_one", "tokens_per_parameter"} <= codes and "warning (count_below_one)" in ended.out
    assert "warning (far_beyond)" in isogap("predict", fitted, "--at", "N=1e9,D=2e10").out
    assert "warning (far_beyond)" in isogap("allocate", fitted, "--flops", 1e21).out
    runs = isogap("allocate", tmp_path / "runs.csv", "--approach", 3, "--flops", 1e21, "--bootstrap", 0)
    assert "warning (tokens_per_parameter)" in runs.out and "warning (far_beyond)" in runs.out


HEADINGS = pd.DataFrame([{name: name for name in PLAIN}])
REFUSED = {
    "wandb_text": (WORDS.astype(object).replace(LOSSES[12], "crashed"), "row 13, column loss_final: got 'crashed'"),
    "duphead": (pd.concat([PLAIN[:9], HEADINGS, PLAIN[9:]]), "row 10, column n_params"),
    "header_only": (PLAIN.head(0), "rows: got 0, expected at least one row below the names of the columns"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_the_cell_at_fault_is_named(case, tmp_path, isogap):
    table, words = REFUSED[case]
    table.to_csv(tmp_path / "runs.csv", index=False)
    ended = isogap("fit", tmp_path / "runs.csv", *QUICK)
    assert ended.status == 2 and words in ended.err and ended.err.count("\n") == 1


def test_a_condition_writes_no_file(tmp_path, isogap, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs.csv").write_text(CSV)
    ended = isogap("fit", "runs.csv", *QUICK, "--where", "@frame.to_csv('x') == 1")
    assert ended.status == 2 and [file.name for file in tmp_path.iterdir()] == ["runs.csv"]


@pytest.mark.slow
def test_unique_tokens_that_are_rounded_are_no_size_of_their_own(tmp_path, isogap):
    """U differs from a constant by 0.03 %, as tokens that were counted and tokens that were reported do."""
    table = PLAIN.assign(U=1e9 * (1 + 3e-4 * np.resize([0, 1, -1], 20)))
    table.to_csv(tmp_path / "runs.csv", index=False)
    roles = ("--law", "data_constrained", "--bootstrap", 0, "--no-sensitivity", "--json", tmp_path / "fit.json")
    assert isogap("fit", tmp_path / "runs.csv", *roles).status == 0
    fitted = json.loads((tmp_path / "fit.json").read_text())
    told = [warning["message"] for warning in fitted["warnings"] if warning["code"] == "one_value"]
    assert len(told) == 1 and told[0].startswith("U is 1e+09 in every row")


def test_levels_join_what_rounding_parts_and_nothing_else():
    assert levels(np.array([5.0, 1.0, 1.0003, 5.0, 2.0])) == pytest.approx([1.0, 2.0, 5.0])
    dense = np.geomspace(1.0, 10.0, 10_000)  # neighbours are closer than rounding, and the range is wide
    assert len(levels(dense)) == pytest.approx(np.log(10) / np.log(1.002), rel=0.1)
