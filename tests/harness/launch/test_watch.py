"""What is shown while a sweep trains, of heartbeats and statuses made by hand."""

import dataclasses
import io
import json

import pytest
from rich.console import Console

from harness.files import write_json
from harness.launch import watch as module
from harness.launch.watch import Watch, header, time_shares, watching
from harness.record import heartbeat
from harness.record.heartbeat import Heartbeat, HeartbeatWriter, read_heartbeats
from harness.record.progress import Reached
from harness.record.status import Status, run_folder, write_status
from models.config import make_config
from models.count import count
from sweeps.config import DataConfig, OptimizerConfig, RunConfig


def run(seed: int) -> RunConfig:
    model = make_config("dense", vocab=257, context=16, width=16, depth=1, heads=2)
    data = DataConfig(domain="", tokenizer="bytes", unique_tokens=1000)
    return RunConfig(model=model, data=data, optimizer=OptimizerConfig(lr=0.1), steps=100, batch=2, seed=seed)


RUNS = [run(seed) for seed in range(40)]
PENDING = {config.run_id: Status("pending", 0, 100) for config in RUNS}


@dataclasses.dataclass
class Spent(heartbeat.Spent):
    training: float = 80.0
    evaluation: float = 11.0
    compiling: float = 4.0

    @property
    def total(self) -> float:
        return 100.0


@dataclasses.dataclass
class Slot:
    config: RunConfig
    step: int = 50
    last_loss: float | None = 3.25


def screen(terminal: bool, height: int = 24) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, color_system=None, width=150, height=height)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def shown(console: Console, watch: Watch) -> list[str]:
    """The lines of the display alone."""
    with console.capture() as capture:
        console.print(watch._display(*watch._look()))
    return capture.get().splitlines()


def finish(out, config: RunConfig, gap: float | None) -> None:
    folder = run_folder(out, config.run_id)
    if gap is not None:
        write_json(folder / "gap.json", {"gap_probe": gap})
    write_status(folder, Status("done" if gap is not None else "diverged", 100, 100, 2.125))


def test_runs_in_slots_and_runs_that_ended(tmp_path):
    console, writer = screen(True), HeartbeatWriter(tmp_path, Spent())
    watch = Watch(console, tmp_path, RUNS, PENDING)
    assert "nothing in a slot yet" in "\n".join(shown(console, watch))
    writer.set_slots([Slot(RUNS[0]), Slot(RUNS[1], 0, None), Slot(run(99))])
    writer.write()
    lines = shown(console, watch)
    assert "0 of 40 runs done, 2 running, 0 tokens/s, 91% of the time computing, 0:01:40 elapsed" in lines[0]
    (first,) = [line for line in lines if RUNS[0].run_id in line]
    assert "dense" in first and "50/100" in first and "50%" in first and "3.2500" in first
    assert f"{count(RUNS[0].model).total:,}" in first and run(99).run_id not in "\n".join(lines)
    finish(tmp_path, RUNS[0], -0.0321)
    writer.set_slots([Slot(RUNS[1])])
    writer.write()
    lines = shown(console, watch)
    (first,) = [line for line in lines if RUNS[0].run_id in line]
    assert "1 of 40 runs done, 1 running" in lines[0]
    assert "done" in first and "-0.0321" in first and "2.1250" in first
    finish(tmp_path, RUNS[7], None)  # between two looks: only the launcher knows
    watch.ended([RUNS[7].run_id, RUNS[7].run_id])
    lines = shown(console, watch)
    assert "1 diverged" in lines[0] and sum(RUNS[7].run_id in line for line in lines) == 1


def test_runs_that_came_and_went_between_two_looks_are_counted(tmp_path):
    console, writer = screen(True), HeartbeatWriter(tmp_path, Spent())
    watch = Watch(console, tmp_path, RUNS, PENDING)
    for config in RUNS[:3]:
        writer.set_slots([Slot(config)])
    finish(tmp_path, RUNS[0], 0.01)
    writer.write()
    assert "1 of 40 runs done, 1 running" in shown(console, watch)[0]
    finish(tmp_path, RUNS[1], 0.01)  # its last steps were recorded a while after it left its slot
    assert "2 of 40 runs done, 1 running" in shown(console, watch)[0]


@pytest.mark.parametrize("height", [10, 24, 60])
def test_the_display_fits_the_terminal(height, tmp_path):
    console, writer = screen(True, height), HeartbeatWriter(tmp_path, Spent())
    watch = Watch(console, tmp_path, RUNS, PENDING)
    for config in RUNS[30:]:
        finish(tmp_path, config, 0.01)
    watch.ended([config.run_id for config in RUNS[30:]])
    writer.set_slots([Slot(config) for config in RUNS[:30]])
    writer.write()
    lines = shown(console, watch)
    assert len(lines) < max(height, 12)
    bars = sum("50/100" in line for line in lines)
    assert bars >= 1 and (bars == 30 or f"and {30 - bars} more" in "\n".join(lines))


def test_a_file_gets_a_line_now_and_then_and_where_the_time_went(tmp_path, monkeypatch):
    times = [0.0]
    console, writer = screen(False), HeartbeatWriter(tmp_path, Spent())
    watch = Watch(console, tmp_path, RUNS, PENDING, lambda: times[-1])
    writer.set_slots([Slot(RUNS[0])])
    writer.write()
    for now in (1.0, 14.0, 16.0, 20.0, 32.0):
        times.append(now)
        watch.update()
    times.append(123.0)
    finish(tmp_path, RUNS[0], 0.0)
    watch.ended([RUNS[0].run_id])
    watch.close()
    lines = written(console).splitlines()
    assert [line.split(" runs")[0] for line in lines[:3]] == ["0 of 40", "0 of 40", "1 of 40"]
    shares = "of 0:02:03 80% was training, 11% evaluation, 4% waiting for programs to compile, 5% other work"
    assert lines[3:] == [shares]


def test_shares_are_of_the_time_of_all_processes():
    one = Heartbeat("a", "host", 1, 1, False, 100.0, 60.0, 10.0, 0.0, 0.7, 0, 0.0, (), (), ())
    text = time_shares([one, dataclasses.replace(one, since=300.0, training_seconds=300.0, evaluation_seconds=0)], 310)
    assert text.startswith("of 0:05:10 90% was training, 2% evaluation, ")
    assert time_shares([], 310.0) == "" and time_shares([dataclasses.replace(one, since=0.0)], 1.0) == ""


def test_the_time_to_go_of_a_study_is_beside_that_of_its_block():
    reached = Reached(0, 0, 0, 0, 70.0, True, {"running": 1}, 1.0, 0.5, 10.0, ())
    assert header(reached).endswith("ETA: 0:01:10")
    assert header(reached, 600.0).endswith("ETA: 0:01:10 for this block, 0:11:10 for all")
    assert header(dataclasses.replace(reached, eta_seconds=None), 600.0).endswith("ETA: not known yet")


@pytest.mark.parametrize("terminal", [True, False])
def test_watching_looks_by_itself_and_forgets_an_earlier_process(terminal, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(module, "LINE_SECONDS", 0.0)
    HeartbeatWriter(tmp_path, Spent(), "earlier").write()
    console = screen(terminal)
    with watching(console, tmp_path, RUNS[:1], PENDING) as watch:
        assert read_heartbeats(tmp_path) == []
        with HeartbeatWriter(tmp_path, Spent()) as writer:
            writer.set_slots([Slot(RUNS[0])])
            writer.write()
            for _ in range(500):
                if "50/100" in written(console) or "1 running" in written(console):
                    break
                module.time.sleep(0.01)
            assert ("50/100" in written(console)) == terminal
            finish(tmp_path, RUNS[0], 0.0)
            writer.set_slots([])
        watch.ended([RUNS[0].run_id])
    last = written(console).splitlines()[-2:]
    assert "1 of 1 runs done" in last[0] and "ETA: 0:00:00" in last[0] and "% was training" in last[1]
    assert json.loads(next((tmp_path / "workers").iterdir()).read_text())["ended"]
