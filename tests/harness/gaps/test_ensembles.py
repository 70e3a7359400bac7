"""The loss of a mean prediction, against probabilities written out."""

import itertools

import numpy as np
import pandas as pd
import pytest
import yaml

from harness.gaps.ensembles import ensemble_columns, ensemble_losses, ensembles_table
from harness.record.table import runs_table
from sweeps.errors import InputError


def test_an_ensemble_predicts_the_mean_of_its_members_probabilities():
    probability = np.random.default_rng(0).uniform(1e-6, 1, (4, 30))
    got = ensemble_losses(-np.log(probability))
    for size in range(1, 5):
        sets = itertools.combinations(range(4), size)
        expected = np.mean([-np.log(probability[list(members)].mean(0)).mean() for members in sets])
        assert got[size - 1] == pytest.approx(expected, rel=1e-9)
    assert np.all(np.diff(got) < 0)


def test_equal_members_are_one_and_improbable_tokens_have_finite_losses():
    losses = np.tile(np.array([0.1, 2000.0, 3.0]), (10, 1))
    np.testing.assert_allclose(ensemble_losses(losses), losses[0].mean())


@pytest.mark.slow
def test_a_sweep_of_seeds_has_ensembles(lab, tmp_path, isogap):
    settings = {
        "domain": f"text:{lab.text}", "context": 16, "width": 16, "depth": 1, "heads": 2, "batch": 2, "tokens": 3200,
        "probe_windows": 8, "epochs": 3, "lr": 0.01,
    }  # fmt: skip
    blocks = [{"name": "kept", "defaults": {"keep_losses": True}, "seeds": 3}, {"name": "plain", "seeds": 2}]
    (tmp_path / "seeds.yaml").write_text(yaml.safe_dump({"name": "x", "defaults": settings, "blocks": blocks}))
    out = tmp_path / "out"
    assert isogap("run", tmp_path / "seeds.yaml", "--out", out, "--cache", lab.cache).status == 0
    assert isogap("export", out, "--what", "ensembles", "--to", tmp_path / "e.csv").status == 0
    table = ensembles_table(out)
    losses = table["heldout_loss"].to_numpy()
    assert list(table["members"]) == [1, 2, 3] and np.all(np.diff(losses) < 0)
    runs = runs_table(out)
    assert losses[0] == pytest.approx(runs["heldout_loss"].to_numpy()[:3].mean(), rel=1e-5)
    columns = ensemble_columns(out, runs)
    assert columns["members"][:3].tolist() == [1, 2, 3] and pd.isna(columns["members"][3:]).all()
    assert columns["ensemble_loss"][:3].tolist() == losses.tolist()


def test_a_sweep_without_kept_losses_has_none(finished):
    with pytest.raises(InputError, match="keep_losses: true"):
        ensembles_table(finished)
    assert ensemble_columns(finished, runs_table(finished)) == {}
