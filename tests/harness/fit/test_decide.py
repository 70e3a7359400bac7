from dataclasses import replace

import pytest

from harness.fit.decide import HEADLINES, Evidence, Word, agrees, decide

FOUND = {"alpha": (0.312, 0.30, 0.32, 0.31), "z": (0.75, 0.72, 0.78, 0.74), "beta": (0.42, 0.41, 0.43, 0.42)}
AICC = {"gap": -1000.0, "gap_n_free": -500.0, "gap_free_n": -520.0, "gap_kaplan": -700.0}
GOOD = Evidence(True, AICC, FOUND, epochs_matter=False)


@pytest.mark.parametrize(
    ("evidence", "word"),
    [
        (GOOD, Word.SUPPORTED),
        (replace(GOOD, epochs_matter=None), Word.SUPPORTED),
        (replace(GOOD, detected=False), Word.NO_DETECTABLE_GAP),
        (replace(GOOD, epochs_matter=True), Word.NOT_SUPPORTED),
        (replace(GOOD, aicc=AICC | {"gap_n_free": -1001.0}), Word.N_FREE),
        (replace(GOOD, aicc=AICC | {"gap_n_free": -1001.0}, epochs_matter=True), Word.NOT_SUPPORTED),
        (replace(GOOD, aicc=AICC | {"gap_kaplan": -1030.0}), Word.NOT_SUPPORTED),
        (replace(GOOD, aicc=AICC | {"gap_kaplan": -999.0}), Word.NOT_IDENTIFIED),
        (replace(GOOD, exponents={"beta": FOUND["beta"]}), Word.NOT_IDENTIFIED),
        (replace(GOOD, exponents=FOUND | {"beta": (0.98, 0.95, 1.01, 0.42)}), Word.NOT_SUPPORTED),
    ],
)
def test_each_kind_of_evidence_has_its_word(evidence, word):
    said, reason = decide(evidence)
    assert said is word
    assert reason and said in HEADLINES


def test_agreement_is_an_interval_or_closeness():
    assert agrees(0.5, 0.3, 0.7, 0.42)
    assert agrees(0.44, 0.43, 0.45, 0.42)
    assert agrees(0.9, None, 1.0, 0.42)
    assert not agrees(0.5, 0.48, 0.52, 0.42)
