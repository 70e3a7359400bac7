import numpy as np
import pytest

from harness.fit.compare import aicc, compare, folds_of
from harness.fit.fitting import fit
from harness.fit.laws.registry import get_law
from harness.fit.problem.centred import centre
from sweeps.errors import InputError


def test_aicc_is_akaikes_criterion_with_its_correction():
    assert aicc(-10.0, 3, 100) == pytest.approx(26.0 + 24.0 / 96.0)
    assert aicc(-10.0, 3, 4) == np.inf


def test_the_true_law_is_first_and_the_criteria_agree(crossing):
    table = compare(["gap_n_free", "gap_free_n", "gap"], crossing(1), holdout="N > 5e8")
    assert [row.law for row in table][0] == "gap"
    assert table[0].delta_aicc == table[0].delta_bic == table[0].delta_cv == 0.0
    assert all(row.delta_aicc > 50 and row.delta_cv < -20 and row.delta_cv_se > 0 for row in table[1:])
    assert table[0].holdout_log_score == max(row.holdout_log_score or -np.inf for row in table)


def test_where_the_laws_coincide_the_smaller_is_not_beaten(ordinary):
    table = {row.law: row for row in compare(["gap_n_free", "gap_free_n", "gap"], ordinary(1))}
    assert table["gap_n_free"].delta_bic == 0.0
    assert (table["gap"].degrees, table["gap_free_n"].degrees) == (
        6,
        4,
    )  # what was searched
    gain = table["gap"].log_likelihood - table["gap_free_n"].log_likelihood
    assert -1e-3 < gain < 5.0  # what a kink fitted to noise gains
    assert table["gap"].aicc > table["gap_free_n"].aicc > table["gap_n_free"].aicc


def test_seeds_of_a_configuration_share_a_fold(ordinary):
    problem = centre(get_law("gap_n_free"), ordinary(2).assign(cluster=np.arange(174) // 3))
    fold = folds_of(problem, seed=0)
    assert np.all(fold.reshape(-1, 3) == fold.reshape(-1, 3)[:, :1])
    assert np.bincount(fold).min() >= 30


def test_laws_of_different_responses_do_not_compare(ordinary):
    with pytest.raises(InputError, match="same response"):
        compare(["gap", "chinchilla"], ordinary(0))


@pytest.mark.slow
def test_a_comparison_and_a_fit_show_themselves_in_notebooks(losses):
    compared = compare(["chinchilla", "tied"], losses(9, rows=40))
    html = compared._repr_html_()
    assert all(f"<td>{law.law}</td>" in html for law in compared)
    bars = compared.figure().data[0]
    assert list(bars.x) == [law.law for law in compared] and max(bars.y) == 0.0
    fitted = fit("chinchilla", losses(9, rows=40), bootstrap=0, sensitivity=False)
    assert "95 % interval" in fitted._repr_html_() and "<td>alpha</td>" in fitted._repr_html_()
    known = [name for name, value in fitted.parameters.items() if value.identified]
    assert [trace.y[0] for trace in fitted.figure().data if tuple(trace.x) == (1.0,)] == known


def test_a_law_with_too_few_rows_is_left_out_and_the_others_are_ranked(losses):
    table = losses(4, rows=8)
    ranked = compare(["farseer", "chinchilla", "kaplan"], table)
    assert {law.law for law in ranked} == {"chinchilla", "kaplan"}
    assert [warning.code for warning in ranked.warnings] == ["law_left_out"]
    assert "at least 10 rows" in ranked.warnings[0].message and "farseer" in str(ranked.shown()[-1])
    with pytest.raises(InputError, match="at least"):
        compare(["farseer", "chinchilla"], losses(4, rows=4))


def test_a_law_without_scatter_blanks_no_other(crossing):
    """Gaps that one law meets exactly: its density is infinite, and the rivals are still scored and ranked."""
    table = crossing(5, rows=40, scatter=0.0)
    ranked = compare(["gap", "gap_n_free", "gap_free_n"], table)
    rivals = [law for law in ranked if law.law != "gap"]
    scores = [law.heldout_score for law in rivals if law.heldout_score is not None]
    assert len(scores) == 2 and scores == sorted(scores, reverse=True)
    assert np.isfinite([(law.aicc, law.delta_aicc) for law in rivals]).all()


def test_laws_of_gaps_that_are_zero_are_not_ranked(crossing):
    noise = np.random.default_rng(0).standard_normal(80) * 1e-3
    ranked = compare(["gap_n_free", "gap_free_n"], crossing(0, rows=80).assign(G=noise, G_se=1e-3))
    found = ranked.nothing
    assert not len(ranked) and found is not None and ranked.shown() == [found.finding]
    assert found.verdict == "no_detectable_gap" and found.p_value > 0.01
    assert (found.rows, found.mean, found.sd) == (80, pytest.approx(noise.mean()), pytest.approx(noise.std()))
    assert found.finding.startswith("no gap detected, so no ranking of laws: 80 gaps with a mean of")
