"""Heartbeats against what a process was made to do, by a clock of the test's own."""

import dataclasses
import json
import math
import socket
import time

import pytest

from harness.record import heartbeat
from harness.record.heartbeat import (
    HeartbeatReader,
    HeartbeatWriter,
    clear_heartbeats,
    keep_killed,
    read_heartbeats,
    read_killed,
)  # fmt: skip
from models.config import make_config
from models.count import flops
from sweeps.config import DataConfig, OptimizerConfig, RunConfig


@dataclasses.dataclass
class Spent(heartbeat.Spent):
    seconds: float = 0.0

    @property
    def total(self) -> float:
        return self.seconds

    def work(self, seconds: float, tokens: int) -> None:
        self.seconds += seconds
        self.training += seconds
        self.tokens += tokens


@dataclasses.dataclass
class Slot:
    config: RunConfig
    step: int = 0
    last_loss: float | None = None


def run(width: int, seed: int = 0) -> RunConfig:
    model = make_config("dense", vocab=257, context=16, width=width, depth=1, heads=2)
    data = DataConfig(domain="", tokenizer="bytes", unique_tokens=1000)
    return RunConfig(model=model, data=data, optimizer=OptimizerConfig(lr=0.1), steps=1000, batch=2, seed=seed)


def test_a_beat_tells_shares_slots_and_speeds(tmp_path):
    spent, one, other = Spent(), Slot(run(16)), Slot(run(16, 1))
    writer = HeartbeatWriter(tmp_path, spent, "a")
    spent.seconds = spent.compiling = 4.0
    writer.set_slots([one, other])
    writer.write()
    for _ in range(40):  # 80 s at 32 tokens/s, of two runs at 16
        spent.work(2.0, 64)
        one.step, other.step = one.step + 1, other.step + 1
        one.last_loss, other.last_loss = 2.5, math.nan
        writer.set_slots([one, other])
        writer.write()
    spent.evaluation, spent.seconds = 16.0, 100.0
    writer.write()
    (last,) = read_heartbeats(tmp_path)
    assert (last.name, last.since, last.tokens, last.serial, last.ended) == ("a", 100.0, 2560, 42, False)
    assert (last.training_seconds, last.evaluation_seconds, last.compile_seconds) == (80.0, 16.0, 4.0)
    assert last.utilisation == pytest.approx(0.96)
    # Of the last 30 s, 16 passed with nothing trained.
    assert last.tokens_per_second == pytest.approx(32 * 14 / 30)
    assert [s.run_id for s in last.slots] == [one.config.run_id, other.config.run_id]
    assert [(s.step, s.steps, s.tokens, s.train_loss) for s in last.slots] == [
        (40, 1000, 1280, 2.5), (40, 1000, 1280, None),
    ]  # fmt: skip
    assert last.slots[0].tokens_per_second == pytest.approx(16 * 14 / 30)
    (speed,) = last.speeds
    assert speed.flops_per_token == flops(one.config.model).train
    assert (speed.tokens, speed.seconds) == (2560, pytest.approx(96.0))  # what was waited for is not its doing


def test_each_model_has_its_speed(tmp_path):
    spent, small, large = Spent(), Slot(run(16)), Slot(run(64))
    writer = HeartbeatWriter(tmp_path, spent)
    for slot, tokens, seconds in ((small, 1000, 2.0), (large, 300, 6.0)):
        writer.set_slots([slot])
        spent.work(seconds, tokens)
        writer.set_slots([])
        spent.seconds += 5.0  # nothing trains
        spent.compiling += 5.0
    writer.write()
    (last,) = read_heartbeats(tmp_path)
    assert {s.flops_per_token: (s.tokens, s.seconds) for s in last.speeds} == {
        flops(small.config.model).train: (1000, pytest.approx(2.0)),
        flops(large.config.model).train: (300, pytest.approx(6.0)),
    }
    assert last.slots == ()


def test_what_a_killed_process_had_not_saved_is_kept(tmp_path):
    spent = Spent(saved=time.monotonic() - 7.0)
    killed, idle, ended = (HeartbeatWriter(tmp_path, spent, name) for name in ("killed", "idle", "ended"))
    for writer in (killed, ended):
        writer.set_slots([Slot(run(16))])
    killed.write()
    idle.write()
    with ended:
        pass
    assert read_killed(tmp_path) == []
    with HeartbeatWriter(tmp_path, Spent(), "killed"):  # another process of that name
        (first,) = read_killed(tmp_path)
        assert (first.name, first.host) == ("killed", socket.gethostname()) and 7.0 <= first.unsaved_seconds < 60.0
    clear_heartbeats(tmp_path)
    assert [(kept.name, kept.unsaved_seconds > 0) for kept in read_killed(tmp_path)] == [
        ("idle", False),
        ("killed", True),
    ]
    assert read_heartbeats(tmp_path) == []
    keep_killed(tmp_path)
    assert len(read_killed(tmp_path)) == 2


def test_a_thread_beats_until_the_end_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(heartbeat, "HEARTBEAT_SECONDS", 0.01)
    with HeartbeatWriter(tmp_path, Spent(), "a"):
        deadline = time.monotonic() + 10
        while read_heartbeats(tmp_path)[0].serial < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert read_heartbeats(tmp_path)[0].serial >= 4 and not read_heartbeats(tmp_path)[0].ended
    assert read_heartbeats(tmp_path)[0].ended
    assert [path.name for path in (tmp_path / "workers").iterdir()] == ["a.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "a"}', "\xff"])
def test_what_cannot_be_read_is_passed_over(text, tmp_path):
    HeartbeatWriter(tmp_path, Spent(), "good").write()
    (tmp_path / "workers" / "bad.json").write_text(text)
    fields = json.loads((tmp_path / "workers" / "good.json").read_text())
    (tmp_path / "workers" / "worse.json").write_text(json.dumps(fields | {"since": "long"}))
    assert [last.name for last in read_heartbeats(tmp_path)] == ["good"]
    assert [last.name for last in HeartbeatReader(tmp_path).read()] == ["good"]
    clear_heartbeats(tmp_path)
    assert read_heartbeats(tmp_path) == read_heartbeats(tmp_path / "nowhere") == []


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path):
    (tmp_path / "workers").write_text("a file")
    HeartbeatWriter(tmp_path, Spent()).write()
    assert read_heartbeats(tmp_path) == []


def test_a_process_that_beats_no_more_is_dead_and_may_come_back(tmp_path):
    now, spent, slot = 0.0, Spent(), Slot(run(16))
    heartbeats, writer = HeartbeatReader(tmp_path, lambda: now), HeartbeatWriter(tmp_path, spent, "a")
    spent.work(10.0, 320)
    writer.set_slots([slot])
    writer.write()
    assert not heartbeats.read()[0].ended
    now = 119.0
    assert not heartbeats.read()[0].ended
    now = 121.0
    for _ in range(2):
        (dead,) = heartbeats.read()
        assert dead.ended and dead.slots == () and dead.tokens == 320 and dead.tokens_per_second == 0.0
    assert read_heartbeats(tmp_path) == []  # who has no clock of its own sees that too
    writer.write()
    (back,) = heartbeats.read()
    assert not back.ended and len(back.slots) == 1
