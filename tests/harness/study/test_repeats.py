"""A repeat of a study beside the study: words, numbers and losses counted by hand."""

import json

import pandas as pd
import pytest

from harness.study.repeats import Repeat, repeat_of

CLAIMS = [("A-1", "supported"), ("A-2", "not_resolved"), ("A-3", "not_supported")]
COMMITTED = {"first": (1.0, 0.8, 1.2), "second": (2.0, None, 2.5), "third": (3.0, 2.9, 3.1)}


def verdict(numbers, words=()):
    """Claims with a number each."""
    rulings = dict(CLAIMS) | dict(words)
    evidence = [
        {"name": name, "estimate": estimate, "low": low, "high": high}
        for name, (estimate, low, high) in numbers.items()
    ]
    return {
        "claims": [
            {"id": id_, "ruling": rulings[id_], "evidence": [e]} for id_, e in zip(rulings, evidence, strict=True)
        ]
    }


def table(losses, seconds, bytes_per_token=1.0):
    """Runs a, b, c and so on, of which the last has no loss."""
    ids = [chr(ord("a") + number) for number in range(len(losses))]
    return pd.DataFrame({
        "run_id": ids, "heldout_loss": losses, "wall_seconds": seconds, "bytes_per_token": bytes_per_token,
        "contamination": None,
    })  # fmt: skip


@pytest.fixture
def committed(tmp_path):
    folder = tmp_path / "committed"
    folder.mkdir()
    (folder / "verdict.json").write_text(json.dumps(verdict(COMMITTED)))
    table([2.0, 4.0, 5.0, None], 1.0).to_parquet(folder / "runs.parquet")
    return folder


def compared(committed, tmp_path, found, runs) -> Repeat:
    runs.to_parquet(tmp_path / "runs.parquet")
    repeat = repeat_of("any", found, tmp_path / "runs.parquet", committed)
    assert repeat is not None
    return repeat


def test_words_numbers_and_losses_are_counted(committed, tmp_path):
    here = COMMITTED | {"first": (1.3, 1.1, 1.5), "second": (-50.0, None, None), "third": (None, None, None)}
    repeat = compared(committed, tmp_path, verdict(here, {"A-2": "supported"}), table([2.02, 4.0, 5.2, 6.0], 2.0))
    assert [(row["here"], row["in_study"]) for row in repeat.words] == [
        ("supported", "supported"), ("supported", "not resolved"), ("not supported", "not supported"),
    ]  # fmt: skip
    # The first lies above the interval, the second within one that is open below, the third is not known here.
    assert [(row["number"], row["inside"]) for row in repeat.numbers] == [("first", False), ("second", True)]
    assert repeat.numbers[0]["in_study"] == "1 [0.8, 1.2]"
    # Differences of 1 %, 0 % and 4 %; the fourth run has no loss in the study.
    assert repeat.runs == 3 and repeat.difference == pytest.approx(0.01) and repeat.same_text == 3
    assert repeat.summary.startswith("2 of 3 words are those of the study, and 1 of 2 numbers lie in its 95 %")


def test_another_text_is_told_by_its_bytes_per_token(committed, tmp_path):
    repeat = compared(committed, tmp_path, verdict(COMMITTED), table([2.0, 4.0, 5.0], 2.0, 1.01))
    assert repeat.runs == 3 and repeat.same_text == 0 and "; 0 of them read exactly the same text" in repeat.summary


def test_the_same_text_is_told_by_the_hash_of_its_corpus_where_both_have_one(committed, tmp_path):
    table([2.0, 4.0, 5.0, None], 1.0).assign(corpus_hash=list("abcd")).to_parquet(committed / "runs.parquet")
    runs = table([2.0, 4.0, 5.0], 2.0, 1.01)
    assert compared(committed, tmp_path, verdict(COMMITTED), runs.assign(corpus_hash=list("abx"))).same_text == 2
    assert compared(committed, tmp_path, verdict(COMMITTED), runs.assign(corpus_hash=None)).same_text == 0


def test_numbers_whose_names_count_runs_are_paired_by_their_places(committed, tmp_path):
    found = verdict(COMMITTED)
    found["claims"][0]["evidence"][0] |= {"name": "first of 7 runs", "estimate": 5.0}
    repeat = compared(committed, tmp_path, found, table([2.0], 2.0))
    assert [(row["number"], row["inside"]) for row in repeat.numbers][0] == ("first of 7 runs", False)


def test_the_study_itself_is_no_repeat(committed, tmp_path):
    assert repeat_of("any", verdict(COMMITTED), committed / "runs.parquet", committed) is None
    assert repeat_of("no such study", verdict(COMMITTED), committed / "runs.parquet") is None


def test_without_the_study_s_table_its_words_are_compared_alone(committed, tmp_path):
    (committed / "runs.parquet").unlink()
    repeat = compared(committed, tmp_path, verdict(COMMITTED), table([2.0], 1.0))
    assert repeat.difference is None and repeat.runs == 0
    assert repeat.summary == "3 of 3 words are those of the study, and 3 of 3 numbers lie in its 95 % intervals."
