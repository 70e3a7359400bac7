import json
from dataclasses import replace

import numpy as np
import pytest

from harness.cli.render import render
from harness.fit.results.no_gap import NoGap
from harness.fit.shared.equivalence import Difference
from harness.fit.shared.exponents import compare_exponents
from harness.fit.shared.nested import ALL_OWN, OWN_PREFACTORS, RatioTest
from harness.fit.shared.universality import Universal, Universality, decide_universality, judge_universality
from harness.theory.verdict_worlds import draw_groups
from sweeps.errors import InputError

pytestmark = pytest.mark.slow

DESIGN = {"rows": 240, "scatter": 0.04}


@pytest.fixture(scope="module")
def level():
    """Equal exponents, prefactors 1.6 apart."""
    return judge_universality(draw_groups(3, ratio=1.6, **DESIGN), "group", bootstrap=59)


@pytest.fixture(scope="module")
def apart():
    """alpha differs by 0.1."""
    return judge_universality(draw_groups(4, apart=0.1, **DESIGN), "group", bootstrap=59)


def test_another_prefactor_does_not_break_universality(level):
    assert level.verdict == "universal"
    assert {d.quantity for d in level.differences} == {"alpha", "z", "beta"}
    assert all(d.equivalent and d.power > 0.5 for d in level.differences)
    shares = [r for r in level.ratios if r.parameter == "A"]
    assert [r.model for r in shares] == ["own level", "own prefactors"]
    for ratio in shares:
        assert ratio.groups == ("a", "b")
        assert ratio.ci_low < 1 / 1.6 < ratio.ci_high and ratio.ci_high - ratio.ci_low < 0.1
    (crossover,) = (r for r in level.ratios if r.parameter == "u_star")
    assert crossover.ci_low < 1 < crossover.ci_high


def test_own_prefactors_are_what_the_rows_ask_for(level):
    """AICc penalises every further constant, and the tests agree."""
    best = min(level.models, key=lambda model: model.aicc)
    assert "A" in best.own and len(best.own) < 5
    assert next(model for model in level.models if model.id == "shared").delta_aicc > 100
    steps = {(test.smaller, test.larger): test for test in level.tests}
    assert steps["shared", "own level"].p_value == pytest.approx(1 / 60)
    assert steps["own level", "own prefactors"].p_value > 0.05
    assert steps[OWN_PREFACTORS, ALL_OWN].directions == 3


def test_an_exponent_apart_by_a_tenth_is_found(apart):
    assert apart.verdict == "not_universal"
    assert "alpha differs by" in apart.reason
    (alpha,) = (d for d in apart.differences if d.quantity == "alpha")
    assert alpha.differs and alpha.difference == pytest.approx(-0.1, abs=0.02)
    steps = {test.larger: test for test in apart.tests if test.smaller == OWN_PREFACTORS}
    assert steps[ALL_OWN].p_value == steps[f"{OWN_PREFACTORS}, alpha"].p_value == pytest.approx(1 / 60)
    assert steps[f"{OWN_PREFACTORS}, alpha"].likelihood_ratio > steps[f"{OWN_PREFACTORS}, beta"].likelihood_ratio


def test_a_larger_model_is_never_less_likely(level, apart):
    for found in (level, apart):
        assert all(test.likelihood_ratio >= 0 for test in found.tests)
        by_id = {model.id: model.log_likelihood for model in found.models}
        assert by_id[ALL_OWN] == max(by_id.values())
        (points,) = found.figure().data
        assert list(points.x) == [d.difference for d in found.differences if d.identified]
        assert found.reason in found._repr_html_()


def test_on_one_branch_only_combinations_are_compared(ordinary):
    table = ordinary(6, 240, 0.04).assign(group=np.tile(["a", "b"], 120))
    found = judge_universality(table, "group", bootstrap=59)
    assert isinstance(found, Universality) and found.verdict == "not_resolved"
    assert "not every group identifies alpha, z" in found.reason
    known = {d.quantity for d in found.differences if d.identified}
    assert "beta" in known and "alpha - z*beta" in known and "z" not in known
    level = next(r for r in found.ratios if (r.model, r.parameter) == ("own level", "A"))
    assert level.ratio is not None and abs(level.ratio - 1) < 0.05


def test_the_result_is_strict_json_and_a_page_of_tables(level):
    data = json.loads(level.to_json())
    assert data["verdict"] == "universal" and data["groups"] == {"a": 120, "b": 120}
    assert set(data["estimates"]) == {"a", "b"} and data["shared"]["tau"]["estimate"] > 0.1  # prefactors differ
    assert data["estimates"]["a"]["alpha"]["identified"] is True
    text = render(level.shown(), 120)
    assert text.startswith("gap by group: universal")
    for word in ("own prefactors", "90 % interval", "A: a / b", "margin shown"):
        assert word in text


def test_groups_have_to_exist_and_be_large_enough(crossing):
    table = crossing(0, 40).assign(kind=["x"] * 33 + ["y"] * 6 + [None])
    with pytest.raises(InputError, match="--by"):
        judge_universality(table, "tokenizer")
    with pytest.raises(InputError, match="at least two values of kind with 7 rows each"):
        judge_universality(table, "kind")
    with pytest.raises(InputError, match="single numbers"):
        judge_universality(table, "kind", law=replace(universality_law(), labels=("run",)))


def universality_law():
    from harness.fit.laws.registry import get_law

    return get_law("gap")


def difference(value, low, high, quantity="alpha"):
    return Difference(
        quantity, ("a", "b"), value, 0.01, low, high,
        -0.05 <= low and high <= 0.05, abs(value) > 0.05 and not low <= 0 <= high, 0.9, 0.04,
    )  # fmt: skip


NEAR, FAR, WIDE = difference(0.0, -0.01, 0.01), difference(0.1, 0.08, 0.12), difference(0.0, -0.2, 0.2)
UNKNOWN = Difference("z", ("a", "b"), None, None, None, None, False, False, 0.0, None)


@pytest.mark.parametrize(
    ("p_value", "found", "word", "said"),
    [
        (0.5, [NEAR], Universal.UNIVERSAL, "to within 0.05 ("),
        (0.01, [NEAR], Universal.UNIVERSAL, "exact equality is rejected"),
        (0.01, [FAR], Universal.NOT_UNIVERSAL, "alpha differs by 0.1"),
        (0.01, [FAR, UNKNOWN], Universal.NOT_UNIVERSAL, "alpha differs by 0.1"),
        (0.5, [FAR], Universal.NOT_RESOLVED, "are not rejected"),
        (0.5, [WIDE], Universal.NOT_RESOLVED, "shows equality to within"),
        (0.01, [WIDE], Universal.NOT_RESOLVED, "are rejected"),
        (0.5, [NEAR, UNKNOWN], Universal.NOT_RESOLVED, "identifies z; equal to within 0.05 are alpha"),
    ],
)
def test_each_kind_of_evidence_has_its_word(p_value, found, word, said):
    step = RatioTest(OWN_PREFACTORS, ALL_OWN, 9.0, p_value, 3.0, 3, 199)
    verdict, reason = decide_universality([step], found, ("alpha", "z"), 0.05)
    assert verdict is word and said in reason


def test_gaps_that_are_zero_have_no_exponents_to_share_or_to_compare(ordinary):
    table = ordinary(6, rows=430)
    noise = np.random.default_rng(6).normal(-0.0006, 0.004, len(table))
    nothing = table.assign(G=noise, group=np.resize(["a", "b"], len(table)))
    found = judge_universality(nothing, "group", bootstrap=9)
    assert isinstance(found, NoGap) and found.rows == 430 and abs(found.mean + 0.0006) < 0.0008
    with pytest.raises(InputError, match="no gap detected, so no comparison of beta"):
        compare_exponents("gap", nothing, "beta", ("a", "b"), bootstrap=9)
