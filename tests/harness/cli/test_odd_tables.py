"""A corpus of odd and bad files through `isogap fit`: each is the right result with its roles told, or one line.

The truth is that of the made table: Chinchilla's law at published constants, without noise.
"""

import json
import os
import sys

import odd_rows
import odd_tables
import pytest

MAKERS = (
    odd_tables.dialects, odd_tables.numbers, odd_tables.names, odd_tables.shapes_of_json, odd_tables.containers,
    odd_rows.layouts, odd_rows.cells, odd_rows.sizes,
)  # fmt: skip
CORPUS = {name: odd for make in MAKERS for name, odd in make()}
TRUTH = {"E": 1.8172, "alpha": 0.3478, "beta": 0.3658}
# A cheap sample stands for the whole in the fast suite.
FAST = 12


def test_the_corpus_is_large_and_its_names_differ():
    assert len(CORPUS) == sum(len(list(make())) for make in MAKERS) >= 250


def cases():
    for place, name in enumerate(CORPUS):
        yield pytest.param(name, marks=() if place % FAST == 0 else pytest.mark.slow)


@pytest.mark.parametrize("name", list(cases()))
def test_a_file_is_read_rightly_or_refused_in_one_line(name, tmp_path, isogap):
    odd = CORPUS[name]
    file, written = tmp_path / odd.name, odd.make()
    file.write_bytes(written if isinstance(written, bytes) else written.encode())
    any_fit = odd.options == ("any fit",)
    options = () if any_fit else odd.options
    ended = isogap(
        "fit", file, "--law", "chinchilla", "--bootstrap", 0, "--no-sensitivity", "--json", tmp_path / "f.out", *options
    )
    if odd.rows is None:
        assert ended.status == 2, ended
        assert ended.err.startswith(f"isogap: {file}: ") and ended.err.count("\n") == 1, ended.err
        assert odd.told in ended.err and "expected" in ended.err and len(ended.err) < 1200
        # What was read rightly may be told before the line that refuses the rest.
        assert all(line.startswith(f"{file}: ") for line in ended.out.splitlines()), ended.out
        assert not (tmp_path / "f.out").exists()
        return
    assert ended.status == 0, ended.err
    assert ended.err == "" and " ".join(odd.told.split()) in " ".join(ended.out.split()), ended.out
    fitted = json.loads((tmp_path / "f.out").read_text(), parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))
    assert fitted["rows"] == odd.rows
    if not any_fit:
        estimates = {key: fitted["parameters"][key]["estimate"] for key in TRUTH}
        assert estimates == pytest.approx(TRUTH, rel=2e-3)


PLACES = {
    "blanks and brackets": "my runs [1] (old).csv", "not ASCII": "läufe-\u6570\u636e.csv", "an emoji": "\U0001f600.csv",
    "signs": "a%20b#c&d=e.csv", "a quote": "it's.csv", "two dots": "..runs..csv", "a long name": "r" * 200 + ".csv",
}  # fmt: skip


@pytest.mark.parametrize("kind", PLACES)
def test_a_file_of_any_name_is_found(kind, tmp_path, isogap):
    (tmp_path / PLACES[kind]).write_text(odd_tables.CSV)
    fit = ("--law", "chinchilla", "--bootstrap", 0, "--no-sensitivity")
    assert isogap("fit", tmp_path / PLACES[kind], *fit).status == 0
    (tmp_path / "link").symlink_to(tmp_path / PLACES[kind])
    assert isogap("fit", tmp_path / "link", *fit).status == 0


def test_what_is_no_file_is_one_line(tmp_path, isogap):
    (tmp_path / "empty folder").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "gone").symlink_to(tmp_path / "nothing")
    (tmp_path / "closed.csv").write_text(odd_tables.CSV)
    (tmp_path / "closed.csv").chmod(0)
    places = ["missing.csv", "empty folder", "loop", "gone", "missing/runs.csv", "closed.csv/runs.csv", "r" * 300]
    if os.access(tmp_path / "closed.csv", os.R_OK):  # root reads everything
        assert sys.platform == "linux" and os.geteuid() == 0
    else:
        places.append("closed.csv")
    for place in places:
        ended = isogap("fit", tmp_path / place, "--law", "chinchilla")
        assert ended.status == 2 and ended.err.startswith("isogap: ") and ended.err.count("\n") == 1, (place, ended)
        assert place.split("/")[0] in ended.err and "expected" in ended.err
