"""A small study without twins through its sweep: its table has curves, and it is judged, drawn and shown."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml

from harness.study.carry_out import carry_out
from harness.study.cells import study_runs
from harness.study.judges import report_study
from harness.study.studies import Study, read_study
from harness.train.session import Session
from sweeps.errors import InputError

# The shape of the sweep of twins, so that its programs are compiled once.
SHAPE = {"context": 16, "width": 16, "depth": 1, "heads": 2, "batch": 2, "probe_windows": 24, "tokens": 3200}


@pytest.fixture(scope="module")
def finished(lab, tmp_path_factory):
    folder = tmp_path_factory.mktemp("losses")
    blocks = [{"name": "repetition", "grid": {"weight_decay": [0.1, 1], "epochs": [1, 4]}}]
    spec = {"name": "small", "defaults": SHAPE | {"domain": f"text:{lab.text}"}, "blocks": blocks}
    (folder / "small.yaml").write_text(yaml.safe_dump(spec))
    study = Study(name="small", question="Worth what?", sweeps=(str(folder / "small.yaml"),), judge="repetition")
    assert carry_out(study, folder / "out", Session(folder / "out", lab.cache)) == 0
    return study, folder / "out"


@pytest.mark.slow
def test_the_table_has_the_curve_of_every_run(finished):
    _, out = finished
    table = pd.read_parquet(out / "runs.parquet")
    assert len(table) == 4 and set(table["block"]) == {"repetition"}
    for row in table.to_dict("records"):
        tokens, loss = row["curve_tokens"], row["curve_loss"]
        assert tokens[-1] == row["D"] and np.all(np.diff(tokens) > 0) and len(tokens) == len(loss)
        assert loss[-1] == pytest.approx(row["heldout_loss"], rel=1e-6) and loss[0] > loss[-1]


@pytest.mark.slow
def test_rows_have_the_settings_of_interventions_that_only_other_blocks_use(finished):
    _, out = finished
    table = study_runs(out / "small" / "repetition", ["prune"])
    assert table["prune_sparsity"].tolist() == [0] * 4
    assert table["N_average"].tolist() == table["N_nonembedding"].tolist()


@pytest.mark.slow
def test_the_verdict_the_figures_and_the_page_are_written(finished):
    study, out = finished
    verdict = json.loads((out / "verdict.json").read_text())
    assert [claim["id"] for claim in verdict["claims"]] == [f"RP-{number}" for number in range(1, 7)]
    assert {file.stem for file in out.glob("*.svg")} == {"epochs", "decay", "claims"}
    page = (out / "runs.html").read_text()
    assert "Worth what?" in page and verdict["headline"].split(":")[0] in page
    for name in ("runs.html", "verdict.json", "epochs.svg"):
        (out / name).unlink()
    assert report_study(out / "runs.parquet").read_text() == page
    assert json.loads((out / "verdict.json").read_text()) == verdict and (out / "epochs.svg").is_file()
    assert read_study(out / "study.yaml") == study
    with pytest.raises(InputError, match="the declaration of the study"):
        report_study(out / "small" / "runs.parquet")


def test_a_study_with_an_unknown_judge_is_refused(finished):
    _, out = finished
    (out / "study.yaml").write_text(yaml.safe_dump({"name": "x", "question": "?", "sweeps": ["a"], "judge": "nobody"}))
    with pytest.raises(InputError, match="compute_optimal"):
        report_study(out / "runs.parquet")
