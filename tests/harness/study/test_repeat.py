"""A repeat beside the committed study: words, numbers against its intervals, and the text that both read."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from harness.study import repeat as module
from harness.study.judges import report_study
from harness.study.repeat import repeat_of
from harness.study.studies import studies_folder


def claim(name: str, ruling: str, *numbers: tuple[str, float | None, float | None, float | None]) -> dict:
    keys = ("name", "estimate", "low", "high")
    evidence = [dict(zip(keys, each, strict=True)) for each in numbers]
    return {"id": name, "claim": f"what {name} says", "ruling": ruling, "evidence": evidence}


def texts(*pairs: tuple[str, str | None]) -> pd.DataFrame:
    return pd.DataFrame(pairs, columns=["domain", "corpus_hash"])


@pytest.fixture
def committed(tmp_path, monkeypatch) -> Path:
    """A committed study `small` of three claims, without its table."""
    folder = tmp_path / "studies" / "small"
    folder.mkdir(parents=True)
    claims = [
        claim("S-1", "supported", ("power", 0.5, 0.4, 0.6), ("floor", 1.0, None, 2.0)),
        claim("S-2", "not_resolved", ("slope of 12 cells", 3.0, 2.0, 4.0)),
        claim("S-3", "not_supported", ("shift", None, None, None)),
    ]
    (folder / "verdict.json").write_text(json.dumps({"claims": claims}))
    monkeypatch.setattr(module, "studies_folder", lambda: tmp_path / "studies")
    return folder


def test_words_and_numbers_are_counted_against_the_intervals_of_the_study(committed, tmp_path):
    found = [
        claim("S-1", "supported", ("floor", -7.0, -8.0, -6.0), ("power", 0.61, 0.3, 0.9)),
        claim("S-2", "supported", ("slope of 11 cells", 4.0, 3.0, 5.0)),
        claim("S-3", "not_supported", ("shift", 1.0, 0.5, 1.5)),
        claim("S-4", "supported"),
    ]
    repeat = repeat_of("small", {"claims": found}, pd.DataFrame(), tmp_path)
    assert str(repeat) == (
        "2 of 3 words as in the study; 2 of 3 numbers inside of its intervals; text: not recorded in the study"
    )
    assert repeat is not None
    rows = [tuple(row.values()) for row in repeat.rows()]
    assert rows == [
        ("S-1", "what S-1 says", "supported", "supported", "floor", "-7 [-8, -6]", "1 [unbounded, 2]", "inside"),
        ("", "", "", "", "power", "0.61 [0.3, 0.9]", "0.5 [0.4, 0.6]", "outside"),
        ("S-2", "what S-2 says", "supported", "not resolved", "slope of 11 cells", "4 [3, 5]", "3 [2, 4]", "inside"),
        ("S-3", "what S-3 says", "not supported", "not supported", "shift", "1 [0.5, 1.5]", "not known", ""),
    ]


def test_only_a_repeat_of_a_committed_study_is_compared(committed, tmp_path):
    verdict = json.loads((committed / "verdict.json").read_text())
    assert repeat_of("other", verdict, pd.DataFrame(), tmp_path) is None
    assert repeat_of("small", verdict, pd.DataFrame(), committed / ".." / "small") is None
    assert repeat_of("small", {"claims": [claim("T-1", "supported")]}, pd.DataFrame(), tmp_path) is None


@pytest.mark.parametrize(
    ("here", "there", "said"),
    [
        (texts(("a", "1"), ("b", "2")), texts(("a", "1"), ("b", "2"), ("c", "3")), "the same as in the study"),
        (texts(("a", "1"), ("b", "9")), texts(("a", "1"), ("b", "2")), "other than in the study: b"),
        (texts(("a", "1")), pd.DataFrame({"domain": ["a"]}), "not recorded in the study"),
        (texts(("a", None)), texts(("a", "1")), "not recorded here"),
        (texts(("a", "1"), ("b", "2")), texts(("a", "1"), ("b", None)), "other than in the study: b"),
    ],
)
def test_the_text_is_compared_by_its_hashes(committed, tmp_path, here, there, said):
    there.to_parquet(committed / "runs.parquet")
    verdict = json.loads((committed / "verdict.json").read_text())
    assert str(repeat_of("small", verdict, here, tmp_path)).endswith(f"text: {said}")


def test_a_copy_of_a_study_has_all_words_and_numbers_of_it(tmp_path, isogap):
    for name in ("runs.parquet", "study.yaml"):
        shutil.copy(studies_folder() / "trainable" / name, tmp_path)
    ended = isogap("report", tmp_path)
    line = "4 of 4 words as in the study; 4 of 4 numbers inside of its intervals; text: not recorded in the study"
    assert ended.status == 0 and line in ended.out and line in (tmp_path / "runs.html").read_text()
    assert "outside" not in ended.out
    assert report_study(tmp_path / "runs.parquet") == tmp_path / "runs.html"
