"""What `isogap status` prints, of a folder made by hand."""

import json
import socket
import time

import pytest

from harness import terminal
from harness.record import heartbeat
from harness.record.heartbeat import HeartbeatWriter
from harness.record.lock import sweep_lock
from harness.record.status import Status, run_folder, write_status
from harness.record.sweep_folder import lay_out
from harness.terminal import duration, lines
from models.config import make_config
from sweeps.config import DataConfig, OptimizerConfig, RunConfig


def run(seed: int) -> RunConfig:
    model = make_config("dense", vocab=257, context=16, width=16, depth=1, heads=2)
    data = DataConfig(domain="", tokenizer="bytes", unique_tokens=1000)
    return RunConfig(model=model, data=data, optimizer=OptimizerConfig(lr=0.1), steps=100, batch=2, seed=seed)


RUNS = [run(seed) for seed in range(3)]


class Spent(heartbeat.Spent):
    @property
    def total(self) -> float:
        return 100.0


class Slot:
    config, step, last_loss = RUNS[1], 40, 3.5


@pytest.fixture
def sweep(tmp_path):
    out = tmp_path / "sweep"
    lay_out(out, "name: a\n", RUNS)
    write_status(run_folder(out, RUNS[0].run_id), Status("failed", 7, 100, reason="[red]no memory"))
    return out


def test_a_live_sweep_shows_its_processes(sweep, isogap):
    writer = HeartbeatWriter(sweep, Spent(training=60.0, evaluation=30.0, compiling=5.0), "a")
    writer.set_slots([Slot()])
    writer.write()
    with sweep_lock(sweep):
        text, told = isogap("status", sweep).out, json.loads(isogap("status", sweep, "--json").out)
    printed = text.splitlines()
    assert len(printed) == 4 + 3 and "[red]no memory" in printed[1]
    assert "1 failed, 1 pending, 1 running" in text
    assert "0 of 3 runs done, 1 running, 1 failed, 0 tokens/s, 90% of the time computing, 0:01:40 elapsed" in text
    progress, rows = told["progress"], told["runs"]
    assert rows[1]["state"] == "running" and rows[1]["step"] == 40 and rows[1]["train_loss"] == 3.5
    assert progress["utilisation"] == pytest.approx(0.9) and progress["live"] and progress["tokens"] == 32 * 47
    (worker,) = progress["workers"]
    assert worker["compile_seconds"] == 5.0 and worker["slots"][0]["run_id"] == RUNS[1].run_id
    assert "not running" in isogap("status", sweep).out
    assert json.loads(isogap("status", sweep, "--json").out)["progress"]["tokens_per_second"] is None


def test_the_work_lost_to_each_kill_is_shown(sweep, isogap):
    for name, seconds in (("a", 4.0), ("b", 8.0)):
        writer = HeartbeatWriter(sweep, Spent(saved=time.monotonic() - seconds), name)
        writer.set_slots([Slot()])
        writer.write()
    with sweep_lock(sweep):  # these two are alive
        assert "lost to" not in isogap("status", sweep).out
        assert json.loads(isogap("status", sweep, "--json").out)["killed"] == []
    killed = json.loads(isogap("status", sweep, "--json").out)["killed"]
    assert [row["name"] for row in killed] == ["a", "b"]
    assert [row["lost_seconds"] for row in killed] == pytest.approx([4.0, 8.0], abs=1.0)
    text = isogap("status", sweep).out
    assert "lost to 2 killed processes: 12." in text and f"a on {socket.gethostname()} 4." in text


def test_a_sweep_in_preparation_is_said_to_be(tmp_path, isogap):
    with sweep_lock(tmp_path):
        ended, told = isogap("status", tmp_path), json.loads(isogap("status", tmp_path, "--json").out)
    assert ended.status == 0 and ended.out.count("\n") == 1 and "prepared" in ended.out
    assert told["runs"] == [] and told["progress"]["live"] and told["progress"]["eta_seconds"] is None
    assert isogap("status", tmp_path).status == 2


def test_long_work_says_what_it_is_where_there_is_no_terminal(monkeypatch, capsys):
    monkeypatch.setattr(terminal, "SAY_SECONDS", 0.01)
    with terminal.working("preparing [text]"):
        time.sleep(0.5)
    assert capsys.readouterr().err == "preparing [text] ...\n"
    monkeypatch.setattr(terminal, "SAY_SECONDS", 60.0)
    with terminal.working("a moment's work"):
        pass
    assert capsys.readouterr().err == ""


def test_lines_are_in_columns():
    told = lines([{"name": "a", "N": None, "why": ""}, {"name": "bcd", "N": 12345, "why": "x [y]"}])
    assert told == ["name       N  why", "a", "bcd   12,345  x [y]"]


def test_a_plan_is_a_line_a_run_and_a_line_a_pack(lab, isogap, tmp_path):
    spec = tmp_path / "wide.yaml"
    spec.write_text(lab.spec.read_text() + "  - {name: odd, defaults: {tokens: 1600, lr: 0.1, width: 15}, seeds: 3}\n")
    printed = isogap("plan", spec, "--cache", lab.cache).out.split("\n")
    told = json.loads(isogap("plan", spec, "--cache", lab.cache, "--json").out)
    running = [cell for cell in told["cells"] if cell["reason"] is None]
    assert [line.split()[0] for line in printed[2:8]] == [cell["run_id"] for cell in running] and len(running) == 6
    assert printed[0] == "cells" and printed[8:10] == ["", "packs"]
    assert [line.split()[0] for line in printed[11:13]] == [pack["pack_id"] for pack in told["packs"]]
    assert printed[14].startswith("infeasible: odd: 3 runs: ") and printed[15].startswith("tiny: 6 runs in 2 packs")


def test_a_plan_tells_the_power_of_gaps_only_where_gaps_are_asked_for(lab, isogap, tmp_path):
    text = lab.spec.read_text()
    for name, change in (("losses", {}), ("gaps", {"probe_windows: 8": "probe_windows: 8, twins: true"})):
        (tmp_path / f"{name}.yaml").write_text(text.replace(*next(iter(change.items()), ("", ""))))
    told = {name: isogap("plan", tmp_path / f"{name}.yaml", "--cache", lab.cache) for name in ("losses", "gaps")}
    assert told["losses"].status == told["gaps"].status == 0
    assert "power:" not in told["losses"].out and "power: " in told["gaps"].out


@pytest.mark.parametrize(("seconds", "text"), [(0.0, "0:00:00"), (59.2, "0:01:00"), (90000.0, "1 day, 1:00:00")])
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_the_status_of_a_study_is_that_of_its_blocks(tmp_path, isogap):
    for block, runs in (("first", RUNS[:2]), ("second", RUNS[2:])):
        lay_out(tmp_path / "preset" / block, "name: a\n", runs)
    write_status(run_folder(tmp_path / "preset" / "first", RUNS[0].run_id), Status("done", 100, 100))
    for block in ("first", "third"):
        (tmp_path / "preset" / f"{block}.yaml").write_text("name: a\n")
    first, second, third = isogap("status", tmp_path).out.splitlines()
    assert first.endswith("first: 1 done, 1 pending") and second.endswith("second: 1 pending")
    assert third.endswith("third: not begun in this folder")
    told = json.loads(isogap("status", tmp_path, "--json").out)
    states = [each and each["states"] for each in told.values()]
    assert states == [{"done": 1, "pending": 1}, {"pending": 1}, None]
