import json

import numpy as np
import pytest

from harness.fit.fitting import solve
from harness.fit.gap_law.contest import epochs_test
from harness.fit.gap_law.findings import coverage_at
from harness.fit.gap_law.judge import ErrorKind
from harness.fit.gap_law.nulls import judge_simulated
from harness.fit.gap_law.verdict import verdict

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(crossing):
    return verdict(crossing(21), bootstrap=40)


def test_the_law_is_supported_where_it_is_true_and_can_be_tested(found):
    assert found.verdict == "supported"
    assert [row.law for row in found.comparison][0] in ("gap", "gap_smooth")
    assert [null.verdict for null in found.nulls] == ["no_detectable_gap", "n_free", "supported"]


def test_the_first_sentence_is_about_the_sources_own_design(found):
    """u = 1e9/(1.3e10)^0.74 = 33 is the least that its ranges allow."""
    assert "none of its runs can reach u = 1" in found.sentences[0]
    assert "between 33 and" in found.sentences[0]
    assert [claim.id for claim in found.claims[:2]] == ["source_design", "coverage"]
    assert {"S0-1", "S0-2", "S0-5", "alpha_z_beta", "epochs", "nulls"} <= {claim.id for claim in found.claims}


def test_the_verdict_is_strict_json(found):
    data = json.loads(found.to_json())
    assert data["verdict"] == "supported"
    assert data["fits"]["gap"]["parameters"]["alpha"]["identified"] is True
    assert data["coverage"]["published_z"]["u_below_1"] + data["coverage"]["published_z"]["u_above_1"] == 174


def test_the_judgement_names_its_errors(found, crossing):
    """The table is judged with intervals of the bootstrap, what is simulated with those of the curvature."""
    assert found.judgement.errors is ErrorKind.BOOTSTRAP
    beta, estimate = found.judgement.evidence.exponents["beta"], found.fit.parameters["beta"]
    assert (beta.ci_low, beta.ci_high) == (estimate.ci_low, estimate.ci_high)
    quick, _ = judge_simulated(crossing(21))
    assert quick.errors is ErrorKind.CURVATURE and quick.word == found.judgement.word
    assert quick.evidence.exponents["beta"].ci_low != beta.ci_low


def test_a_notebook_shows_the_headline_and_every_sentence(found):
    shown = found._repr_html_()
    assert found.headline in shown and shown.count("<p>") == 1 + len(found.sentences)


def test_rows_are_counted_on_both_sides(crossing):
    table = crossing(0)
    u = table.D / table.N**0.74
    found = coverage_at(table.N.to_numpy(), table.D.to_numpy(), 0.74)
    assert (found.u_below_03, found.u_above_3) == (int((u < 0.3).sum()), int((u > 3).sum()))
    assert found.to_dict()["u_below_0.3"] == found.u_below_03


def test_ordinary_runs_cannot_tell_the_law_from_one_without_n(ordinary):
    assert judge_simulated(ordinary(3))[0].word == "n_free"


def test_a_gap_that_grows_with_n_refutes_the_law(ordinary):
    """Classical overfitting, G ~ N/D: identified slopes of the wrong sign."""
    table = ordinary(4)
    grown = table.assign(G=0.3 * table.N**0.5 * table.D**-0.8 * (table.G / table.G.mean()) ** 0)
    rng = np.random.default_rng(4)
    judgement, _ = judge_simulated(grown.assign(G=grown.G * (1 + 0.08 * rng.standard_normal(174))))
    assert judgement.word != "supported"


def test_a_dependence_on_epochs_is_found_and_its_absence_too(crossing):
    table = crossing(8).assign(epochs=np.exp(np.random.default_rng(80).uniform(0, 3, 174)))
    gap = solve("gap", table)
    absent = epochs_test(table, gap, "table")
    assert absent is not None and not absent.matter
    repeated = table.assign(G=table.G * table.epochs**0.3)
    present = epochs_test(repeated, solve("gap", repeated), "table")
    assert present is not None and present.matter
    assert present.rho.estimate == pytest.approx(0.3, abs=0.03)
    assert epochs_test(table.assign(epochs=1.0), gap, "table") is None
