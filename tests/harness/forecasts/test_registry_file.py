"""The file of forecasts: what was written stays, and what was changed is noticed."""

import hashlib
import json
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.forecasts.registry_file import append_forecasts, read_forecasts
from sweeps.errors import InputError


@pytest.fixture
def file(tmp_path, forecast_at):
    """Three forecasts that were registered at two times."""
    path = tmp_path / "forecasts.jsonl"
    append_forecasts(path, [forecast_at(1e9), forecast_at(2e9)])
    append_forecasts(path, [forecast_at(4e9, constants={"E": None}, run_low=None, run_high=None)])
    return path


def test_forecasts_are_read_as_they_were_written(file, forecast_at):
    assert read_forecasts(file) == (
        forecast_at(1e9), forecast_at(2e9), forecast_at(4e9, constants={"E": None}, run_low=None, run_high=None)
    )  # fmt: skip


def test_each_line_names_the_hash_of_the_line_before_as_sha256sum_finds_it(file):
    first, second, third = file.read_text().splitlines()
    assert json.loads(first)["previous"] is None
    found = subprocess.run(["sha256sum"], input=first.encode(), capture_output=True, check=True).stdout.split()[0]
    assert json.loads(second)["previous"] == found.decode()
    assert json.loads(third)["previous"] == hashlib.sha256(second.encode()).hexdigest()


def test_adding_keeps_every_byte(file, forecast_at):
    before = file.read_bytes()
    found = append_forecasts(file, [forecast_at(8e9)])
    assert file.read_bytes().startswith(before) and file.read_bytes().count(b"\n") == found.lines == 4
    assert found.last == hashlib.sha256(file.read_bytes().splitlines()[-1]).hexdigest()


def test_the_same_forecast_again_adds_nothing_and_says_so(file, forecast_at):
    before = file.read_bytes()
    found = append_forecasts(file, [forecast_at(1e9, prediction=3.0), forecast_at(2e9)])
    assert file.read_bytes() == before and found.added == () and len(found.before) == 2
    assert found.shown() == [
        f"2 of 2 forecasts are in {file} already (the same law, rows and point, registered 2026-05-01); nothing was "
        "added for them"
    ]
    # Another law, other rows, another response and another group are other forecasts.
    others = [
        forecast_at(1e9, **change)
        for change in ({"law": "tied"}, {"rows_sha256": "cd" * 32}, {"response": "G"}, {"by": "a", "group": "b"})
    ]
    assert len(append_forecasts(file, [*others, others[0]]).added) == 4


def _without(lines, place):
    return lines[:place] + lines[place + 1 :]


@pytest.mark.parametrize(
    ("line", "change"),
    [
        (1, lambda lines: [lines[0].replace("2.2", "2.3"), *lines[1:]]),
        (2, lambda lines: [lines[0], lines[1].replace("2026-05", "2026-04"), lines[2]]),
        (3, lambda lines: [*lines[:2], lines[2].replace("2.2", "2.3")]),
        (1, lambda lines: _without(lines, 0)),
        (2, lambda lines: _without(lines, 1)),
        (1, lambda lines: [lines[1], lines[0], lines[2]]),
        (2, lambda lines: [lines[0], lines[0], *lines[1:]]),
        (2, lambda lines: [lines[0], "", *lines[1:]]),
        (4, lambda lines: [*lines, "{}"]),
        (4, lambda lines: [*lines, "a note"]),
    ],
)
def test_an_altered_line_is_noticed_and_nothing_is_added(file, forecast_at, line, change):
    file.write_text("".join(f"{each}\n" for each in change(file.read_text().splitlines())))
    altered = file.read_bytes()
    with pytest.raises(InputError, match=f"line {line}"):
        read_forecasts(file)
    with pytest.raises(InputError, match=f"line {line}"):
        append_forecasts(file, [forecast_at(8e9)])
    assert file.read_bytes() == altered


def test_a_line_whose_own_hash_was_made_anew_is_noticed_by_the_next(file):
    first, *others = file.read_text().splitlines()
    text = first.replace("2.2", "2.3").rpartition(', "sha256": "')[0]
    forged = f'{text}, "sha256": "{hashlib.sha256(text.encode()).hexdigest()}"}}'
    file.write_text("".join(f"{each}\n" for each in (forged, *others)))
    with pytest.raises(InputError, match="line 2: got 'a line that does not follow"):
        read_forecasts(file)


def test_a_line_that_was_cut_short_is_noticed(file):
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(InputError, match="line 3: got 'a line without an end'"):
        read_forecasts(file)


def test_a_file_or_folder_that_does_not_exist(tmp_path, forecast_at):
    with pytest.raises(InputError, match="no such file"):
        read_forecasts(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="no such folder"):
        append_forecasts(tmp_path / "none" / "forecasts.jsonl", [forecast_at()])


def test_what_several_processes_add_at_once_is_all_there(tmp_path, forecast_at):
    file = tmp_path / "forecasts.jsonl"
    with ThreadPoolExecutor(8) as pool:  # a lock is of an open file, so that it parts threads as it parts processes
        list(pool.map(lambda place: append_forecasts(file, [forecast_at(1e9 * place)]), range(1, 25)))
    assert {forecast.point["N"] for forecast in read_forecasts(file)} == {1e9 * place for place in range(1, 25)}
