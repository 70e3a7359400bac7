from dataclasses import replace

import pytest

from harness.fit.gap_law.rule import HEADLINES, Evidence, ExponentEvidence, Word, apply_rule, lies_within

EXPONENTS = {
    "alpha": ExponentEvidence(0.312, 0.30, 0.32, 0.31),
    "z": ExponentEvidence(0.75, 0.72, 0.78, 0.74),
    "beta": ExponentEvidence(0.42, 0.41, 0.43, 0.42),
}
AICC = {"gap": -1000.0, "gap_n_free": -500.0, "gap_free_n": -520.0, "gap_kaplan": -700.0}
GOOD = Evidence(True, AICC, EXPONENTS, slope=(-0.01, 0.02), epochs_matter=False)
FREE = AICC | {"gap_n_free": -1001.0}


@pytest.mark.parametrize(
    ("evidence", "word"),
    [
        (GOOD, Word.SUPPORTED),
        (replace(GOOD, epochs_matter=None), Word.SUPPORTED),
        (replace(GOOD, detected=False), Word.NO_DETECTABLE_GAP),
        (replace(GOOD, epochs_matter=True), Word.NOT_SUPPORTED),
        (replace(GOOD, aicc=FREE), Word.N_FREE),
        (replace(GOOD, aicc=FREE, epochs_matter=True), Word.NOT_SUPPORTED),
        (replace(GOOD, aicc=FREE, slope=(-0.01, 0.2)), Word.NOT_IDENTIFIED),
        (replace(GOOD, aicc=FREE, slope=(None, 0.02)), Word.NOT_IDENTIFIED),
        (replace(GOOD, aicc=FREE, slope=None), Word.NOT_IDENTIFIED),
        (replace(GOOD, aicc=AICC | {"gap_kaplan": -1030.0}), Word.NOT_SUPPORTED),
        (replace(GOOD, aicc=AICC | {"gap_kaplan": -999.0}), Word.NOT_IDENTIFIED),
        (replace(GOOD, exponents={"beta": EXPONENTS["beta"]}), Word.NOT_IDENTIFIED),
        (replace(GOOD, exponents=EXPONENTS | {"beta": ExponentEvidence(0.98, 0.95, 1.01, 0.42)}), Word.NOT_SUPPORTED),
        (replace(GOOD, exponents=EXPONENTS | {"z": ExponentEvidence(0.74, None, None, 0.74)}), Word.NOT_IDENTIFIED),
        (replace(GOOD, exponents=EXPONENTS | {"z": ExponentEvidence(0.74, 0.2, 1.3, 0.74)}), Word.NOT_IDENTIFIED),
    ],
)
def test_each_kind_of_evidence_has_its_word(evidence, word):
    answer, reason = apply_rule(evidence)
    assert answer is word
    assert reason and answer in HEADLINES


def test_a_contradiction_is_an_interval_that_excludes_and_an_estimate_that_is_far():
    assert not ExponentEvidence(0.5, 0.3, 0.7, 0.42).contradicts
    assert not ExponentEvidence(0.44, 0.43, 0.45, 0.42).contradicts
    assert not ExponentEvidence(0.9, None, 1.0, 0.42).contradicts
    assert ExponentEvidence(0.5, 0.48, 0.52, 0.42).contradicts


def test_equivalence_needs_both_ends():
    assert lies_within(0.35, 0.5, 0.42, 0.1)
    assert not lies_within(0.35, 0.53, 0.42, 0.1) and not lies_within(0.3, 0.45, 0.42, 0.1)
    assert not lies_within(None, 0.42, 0.42, 0.1) and not lies_within(0.42, None, 0.42, 0.1)
