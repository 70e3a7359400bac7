"""A sweep from its spec to its tables in this process: what is kept, what is retried, what stops it."""

import json
import shutil
import signal
import time
from pathlib import Path

import pytest
import yaml

from harness.record.status import Status, read_status, run_folder, write_status
from harness.record.sweep_folder import read_configs
from harness.record.table import runs_table
from harness.train.session import Stop

EXTENSION = """
  - name: later
    defaults: {tokens: 1600, lr: 0.003}
"""


def states(out: Path) -> list[str]:
    return [read_status(run_folder(out, run.run_id), run.steps, live=False).state for run in read_configs(out)]


def stamps(out: Path) -> dict[str, int]:
    """When each file of the runs was written."""
    return {str(f.relative_to(out)): f.stat().st_mtime_ns for f in (out / "runs").rglob("*") if f.is_file()}


@pytest.fixture
def copied(finished, tmp_path) -> Path:
    return shutil.copytree(finished, tmp_path / "copy")


def test_a_finished_sweep(finished, finished_runs):
    assert states(finished) == ["done", "done", "diverged", "done", "done", "done"]
    assert {path.name for path in finished.iterdir()} == {
        "sweep.yaml", "manifest.json", "environment.json", "packing.json", "configs.jsonl", "runs", "lock", "workers",
    }  # fmt: skip
    facts = json.loads((finished / "environment.json").read_text())
    (hashes,) = facts["data"].values()
    assert set(hashes) == {"corpus", "tokenizer", "tokens"} and len(facts["devices"]) == 2
    assert facts["packages"]["jax"] and facts["sweep_sha256"]


def test_a_finished_sweep_trains_nothing(copied, lab, isogap, monkeypatch):
    before = stamps(copied)
    monkeypatch.setattr("harness.launch.sweep.run_packs", lambda *_: pytest.fail("it was about to train"))
    ended = isogap("run", lab.spec, "--out", copied, "--cache", lab.cache)
    assert ended.status == 3 and "1 diverged, 5 done" in ended.out and "not finite at step" in ended.out
    assert stamps(copied) == before


def test_a_diverged_run_that_is_retried_diverges_again_and_the_others_stay(copied, lab, isogap, finished, tables):
    before = stamps(copied)
    command = ("run", lab.spec, "--out", copied, "--cache", lab.cache, "--retry")
    assert isogap(*command, "failed,lost").status == 3 and stamps(copied) == before
    assert isogap(*command, "diverged, failed").status == 3
    changed = {Path(file).parts[1] for file, stamp in stamps(copied).items() if before.get(file) != stamp}
    assert changed == {read_configs(copied)[2].run_id} and tables(copied) == tables(finished)


def test_an_extended_sweep_keeps_what_was_finished(copied, lab, isogap, finished, tables, tmp_path):
    before = stamps(copied)
    spec = tmp_path / "longer.yaml"
    spec.write_text(lab.spec.read_text() + EXTENSION)
    assert isogap("run", spec, "--out", copied, "--cache", lab.cache).status == 3
    assert states(copied) == ["done", "done", "diverged", "done", "done", "done", "done"]
    after = stamps(copied)
    assert {file: after[file] for file in before} == before
    assert len({Path(file).parts[1] for file in after}) == 7
    # The old runs' rows are the same, and the new spec stands in the folder.
    for old, new in zip(tables(finished).values(), tables(copied).values(), strict=True):
        assert new.startswith(old) or new.splitlines()[: len(old.splitlines())] == old.splitlines()
    assert yaml.safe_load((copied / "sweep.yaml").read_text())["blocks"][-1]["name"] == "later"
    assert (copied / "sweep-1.yaml").read_text() == lab.spec.read_text()


@pytest.fixture
def two_texts(lab, tmp_path, text_corpus) -> tuple[Path, Path]:
    """A sweep of four short runs of one pack, two of them on a text that may vanish; the spec and that text."""
    other = text_corpus(tmp_path / "other", 2)
    spec = yaml.safe_load(lab.spec.read_text())
    spec["blocks"] = [
        {
            "grid": {"domain": [f"text:{lab.text}", f"text:{other}"]},
            "seeds": 2,
            "defaults": {"tokens": 1600, "lr": 0.01},
        }
    ]
    path = tmp_path / "two.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path, other


def test_a_text_that_vanished_fails_its_runs_until_they_are_retried(two_texts, lab, isogap, tmp_path):
    spec, text = two_texts
    out, away = tmp_path / "out", tmp_path / "away"
    text.rename(away)
    command = ("run", spec, "--out", out, "--cache", lab.cache)
    ended = isogap(*command)
    assert ended.status == 3 and states(out) == ["done", "done", "failed", "failed"]
    reasons = runs_table(out)["reason"].tolist()
    assert reasons[:2] == ["", ""] and all(str(text) in reason for reason in reasons[2:])
    assert "2 done, 2 failed" in ended.out
    away.rename(text)
    before = stamps(out)
    assert isogap(*command).status == 3 and stamps(out) == before
    ended = isogap(*command, "--retry", "failed")
    assert ended.status == 0 and states(out) == ["done"] * 4
    kept = {file for file in before if before[file] == stamps(out)[file]}
    assert len({Path(file).parts[1] for file in kept if "status" in file}) == 2


def test_a_text_that_changed_is_refused_before_anything_is_touched(two_texts, lab, isogap, tmp_path):
    spec, text = two_texts
    out = tmp_path / "out"
    command = ("run", spec, "--out", out, "--cache", lab.cache, "--max-minutes", 0)
    assert isogap(*command).status == 0 and isogap(*command).status == 0
    recorded = json.loads((out / "environment.json").read_text())["data"]
    assert len(recorded) == 2
    text.rename(tmp_path / "away")
    assert isogap(*command).status == 0
    assert json.loads((out / "environment.json").read_text())["data"] == recorded
    (tmp_path / "away").rename(text)
    (text / "00.txt").write_text("other words")
    spec.write_text(spec.read_text().replace("seeds: 2", "seeds: 3"))
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != "lock"}
    ended = isogap(*command)
    assert ended.status == 2 and ended.err.count("\n") == 1
    assert f"{out / 'environment.json'}: data.text:{text} bytes: got" in ended.err
    assert "the text has changed since" in ended.err and "use a new --out folder" in ended.err
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != "lock"} == before


def test_two_splits_of_one_text_are_no_change(two_texts, lab, isogap, tmp_path):
    spec, _ = two_texts
    value = yaml.safe_load(spec.read_text())
    value["blocks"][0]["grid"]["heldout_fraction"] = [0.1, 0.2]
    spec.write_text(yaml.safe_dump(value))
    command = ("run", spec, "--out", tmp_path / "out", "--cache", lab.cache, "--max-minutes", 0)
    for _ in range(2):
        ended = isogap(*command)
        assert ended.status == 0 and "8 pending" in ended.out, ended
    assert len(json.loads((tmp_path / "out" / "environment.json").read_text())["data"]) == 4


def test_only_runs_of_this_process_are_running(two_texts, lab, isogap, tmp_path, monkeypatch):
    spec, _ = two_texts
    out, seen = tmp_path / "out", []
    command = ("run", spec, "--out", out, "--cache", lab.cache)
    isogap(*command, "--max-minutes", 0)
    first, second, *rest = read_configs(out)
    write_status(run_folder(out, first.run_id), Status("running", 7, first.steps, 5.5))
    write_status(run_folder(out, second.run_id), Status("done", second.steps, second.steps, 4.5))

    def look(*_):
        seen.extend(read_status(run_folder(out, run.run_id), run.steps) for run in (first, second, *rest))

    monkeypatch.setattr("harness.launch.sweep.run_packs", look)
    isogap(*command)
    assert seen[0] == Status("interrupted", 7, first.steps, 5.5)
    assert [status.state for status in seen[1:]] == ["done", "pending", "pending"]


def test_a_fault_of_one_pack_is_written_down_and_the_others_go_on(two_texts, lab, isogap, tmp_path, monkeypatch):
    spec, _ = two_texts
    out = tmp_path / "out"

    def fail(*_):
        raise MemoryError("no room\nfor anything")

    with monkeypatch.context() as patch:
        patch.setattr("harness.train.pack.compile_ahead", fail)
        ended = isogap("run", spec, "--out", out, "--cache", lab.cache)
    assert ended.status == 3 and states(out) == ["failed"] * 4
    folder = run_folder(out, read_configs(out)[0].run_id)
    assert read_status(folder, 0).reason == "MemoryError: no room"
    assert "Traceback" in (folder / "error.txt").read_text()
    assert isogap("run", spec, "--out", out, "--cache", lab.cache, "--retry", "failed").status == 0
    assert states(out) == ["done"] * 4 and not (folder / "error.txt").exists()


def test_fail_fast_stops_within_the_pack(lab, isogap, tmp_path, finished, tables):
    out = tmp_path / "out"
    command = ("run", lab.spec, "--out", out, "--cache", lab.cache)
    ended = isogap(*command, "--fail-fast")
    # Of the first pack two runs had begun when one of them diverged; nothing else is.
    assert ended.status == 3 and sorted(states(out)) == ["diverged", "interrupted"] + 4 * ["pending"]
    # A run that diverged in an earlier invocation stops nothing, neither its own pack nor the next one.
    assert isogap(*command, "--fail-fast").status == 3
    assert tables(out) == tables(finished) and not (out / "checkpoints").exists()


def test_no_time_trains_nothing_and_says_so(lab, isogap, tmp_path):
    ended = isogap("run", lab.spec, "--out", tmp_path / "out", "--cache", lab.cache, "--max-minutes", 0)
    assert ended.status == 0 and "6 pending" in ended.out


@pytest.mark.parametrize(("room", "slots"), [(10.0, 2), (2.5, 1)])
def test_the_packs_are_those_that_were_planned(lab, isogap, tmp_path, monkeypatch, room, slots):
    plan = ("plan", lab.spec, "--cache", lab.cache, "--json")
    most = max(cell["memory_bytes"] for cell in json.loads(isogap(*plan).out)["cells"])
    sizes = {"SC_PAGE_SIZE": int(most * room), "SC_PHYS_PAGES": 1}  # of a machine that has room for so many runs
    monkeypatch.setattr("os.sysconf", sizes.__getitem__)
    planned = {pack["signature"]: pack["slots"] for pack in json.loads(isogap(*plan).out)["packs"]}
    out = tmp_path / "out"
    assert isogap("run", lab.spec, "--out", out, "--cache", lab.cache, "--max-minutes", 0).status == 0
    assert json.loads((out / "packing.json").read_text())["slots"] == planned and set(planned.values()) == {slots}


def test_reasons_to_stop():
    assert not Stop()() and not Stop(deadline=time.monotonic() + 1e6)()
    assert Stop(deadline=time.monotonic() - 1e-3)() and Stop(failed=True)()
    signalled = Stop()
    signalled.take(signal.SIGTERM, None)
    assert signalled() and signalled.signal_number == signal.SIGTERM


def test_cells_that_cannot_be_are_named_and_passed_over(lab, isogap, tmp_path):
    spec = yaml.safe_load(lab.spec.read_text())
    spec["blocks"] = [{"name": "impossible", "defaults": {"tokens": 1600, "lr": 0.1, "width": 15}}]
    path = tmp_path / "impossible.yaml"
    path.write_text(yaml.safe_dump(spec))
    ended = isogap("run", path, "--out", tmp_path / "out", "--cache", lab.cache)
    assert "infeasible, not run: impossible" in ended.out
    assert ended.status == 2 and "no feasible cell" in ended.err and ended.err.count("\n") == 1


def test_runs_for_which_the_text_does_not_suffice_are_told_of_before_training(lab, isogap, tmp_path):
    """10^9 unique tokens are more bytes than any laboratory's text has; the same tokens in many epochs are not."""
    spec = yaml.safe_load(lab.spec.read_text())
    grid = {"unique_tokens": [320, 1e9]}
    spec["blocks"] = [{"defaults": {"tokens": 1e9, "lr": 0.01}, "grid": grid}]
    (tmp_path / "long.yaml").write_text(yaml.safe_dump(spec))
    where = ("--out", tmp_path / "out", "--cache", lab.cache)
    ended = isogap("run", tmp_path / "long.yaml", *where, "--max-minutes", 0)
    (told,) = [line for line in ended.out.splitlines() if "will fail" in line]
    assert ended.status == 0 and told.startswith("1 of the runs will fail: ") and "data.unique_tokens: got" in told
    assert states(tmp_path / "out") == ["pending", "pending"]
