"""Progress and time to go against arithmetic."""

import dataclasses
import random

import pytest

from harness.record import heartbeat
from harness.record.heartbeat import Heartbeat, HeartbeatWriter, InSlot, Speed
from harness.record.lock import sweep_lock
from harness.record.progress import Tally, progress
from harness.record.status import State, Status
from models.config import make_config
from models.count import flops
from sweeps.config import DataConfig, OptimizerConfig, RunConfig


def run(width: int, steps: int) -> RunConfig:
    model = make_config("dense", vocab=257, context=16, width=width, depth=1, heads=2)
    data = DataConfig(domain="", tokenizer="bytes", unique_tokens=1000)
    return RunConfig(model=model, data=data, optimizer=OptimizerConfig(lr=0.1), steps=steps, batch=2)


SMALL, LARGE = run(16, 1000), run(64, 400)
RUNS = {config.run_id: config for config in (SMALL, LARGE)}
STATES: list[State] = ["pending", "running", "interrupted", "done", "diverged", "failed", "lost"]
HEARTBEAT = Heartbeat("a", "host", 1, 1, False, 100.0, 70.0, 20.0, 4.0, 0.9, 3200, 32.0, (), (), ())


def cost(config: RunConfig, steps: int = 1) -> int:
    return flops(config.model).train * config.batch_tokens * steps


def speed(config: RunConfig, tokens: int, seconds: float) -> Speed:
    return Speed(flops(config.model).train, tokens, seconds)


def test_time_to_go_is_what_is_left_of_each_model_at_its_speed_over_the_processes():
    tally = Tally(RUNS, [Status("running", 600, 1000), Status("running", 100, 400)])
    ahead = InSlot(LARGE.run_id, 150, 400, 150 * 32, 3.0)
    one = dataclasses.replace(HEARTBEAT, speeds=(speed(SMALL, 6400, 10.0), speed(LARGE, 320, 30.0)))
    two = dataclasses.replace(HEARTBEAT, speeds=(speed(SMALL, 6400, 30.0),), slots=(ahead,))
    gone = dataclasses.replace(HEARTBEAT, ended=True, tokens_per_second=0.0)
    tally.follow([two])
    reached = tally.reached([one, two, gone], live=True)
    # 400 steps of 32 tokens at 320 a second, and 250 at 320 / 30; one process trains, the other has nothing to do.
    assert reached.eta_seconds == pytest.approx(400 * 32 / 320 + 250 * 32 / (320 / 30))
    assert reached.tokens == 32 * 750 and reached.tokens_total == 32 * 1400
    assert reached.flops == cost(SMALL, 600) + cost(LARGE, 150)
    assert reached.flops_total == cost(SMALL, 1000) + cost(LARGE, 400)
    assert reached.tokens_per_second == 64.0 and reached.utilisation == pytest.approx(0.9)
    assert reached.workers == (one, two) and reached.states == {"running": 2}
    assert tally.status(LARGE.run_id) == Status("running", 150, 400, 3.0)
    # A process between two packs trains too.
    assert reached.eta_seconds is not None
    between = dataclasses.replace(one, left=(SMALL.run_id,))
    assert tally.reached([between, two], live=True).eta_seconds == pytest.approx(reached.eta_seconds / 2)
    both = tally.reached([one, dataclasses.replace(two, slots=())], live=True).eta_seconds
    assert both == pytest.approx((400 * 32 / 320 + 250 * 32 / (320 / 30)) / 2)


def test_a_model_not_trained_yet_takes_as_long_for_a_flop_as_the_nearest():
    huge = run(256, 10)
    tally = Tally(
        RUNS | {huge.run_id: huge}, [Status("done", 1000, 1000), Status("done", 400, 400), Status("pending", 0, 10)]
    )
    heartbeat = dataclasses.replace(HEARTBEAT, speeds=(speed(SMALL, 100, 1.0), speed(LARGE, 100, 2.0)))
    per_flop = 2.0 / (100 * flops(LARGE.model).train)
    assert tally.reached([heartbeat], live=True).eta_seconds == pytest.approx(cost(huge, 10) * per_flop)


def test_what_will_not_be_trained_is_not_waited_for():
    tally = Tally(RUNS, [Status("diverged", 10, 1000), Status("done", 400, 400)])
    reached = tally.reached([HEARTBEAT], live=True)
    assert reached.eta_seconds == 0.0
    assert reached.tokens == reached.tokens_total == 32 * 410 and reached.flops == reached.flops_total


def test_a_run_that_has_ended_is_not_begun_again_by_an_old_beat():
    tally = Tally(RUNS, [Status("done", 1000, 1000, 2.0), Status("pending", 0, 400)])
    tally.follow(
        [dataclasses.replace(HEARTBEAT, slots=(InSlot(SMALL.run_id, 900, 1000, 0), InSlot("stranger", 1, 2, 3)))]
    )
    assert tally.status(SMALL.run_id).state == "done" and tally.reached([], True).states == {"done": 1, "pending": 1}


@pytest.mark.parametrize("seed", range(5))
def test_sums_that_follow_are_those_of_the_statuses_they_end_with(seed):
    print(f"seed {seed}")
    chance = random.Random(seed)
    tally = Tally(RUNS, [Status("pending", 0, run.steps) for run in RUNS.values()])
    for _ in range(50):
        config = chance.choice([SMALL, LARGE])
        state = chance.choice(STATES)
        tally.move(config.run_id, Status(state, chance.randint(0, config.steps), config.steps))
    afresh = Tally(RUNS, [tally.status(run_id) for run_id in RUNS])
    heartbeats = [dataclasses.replace(HEARTBEAT, speeds=(speed(SMALL, 10, 1.0),))]
    assert tally.reached(heartbeats, True) == afresh.reached(heartbeats, True)


def test_no_time_is_told_where_none_is_known(tmp_path):
    waiting = [Status("pending", 0, 1000), Status("pending", 0, 400)]
    with sweep_lock(tmp_path):
        reached, _ = progress(tmp_path, RUNS, waiting)
        assert reached.live and reached.eta_seconds is None and reached.tokens_per_second == 0.0
    tally = Tally(RUNS, waiting)
    assert tally.reached([HEARTBEAT], True).eta_seconds is None  # it still compiles
    moving = dataclasses.replace(HEARTBEAT, speeds=(speed(SMALL, 100, 1.0),))
    reached = tally.reached([moving], False)
    assert reached.eta_seconds is None and reached.tokens_per_second is None  # nothing runs


class Spent(heartbeat.Spent):
    @property
    def total(self) -> float:
        return 10.0


class Slot:
    config, step, last_loss = SMALL, 10, 4.0


def test_a_folder_is_read_with_its_beats_while_a_process_holds_it(tmp_path):
    writer = HeartbeatWriter(tmp_path, Spent(training=5.0, evaluation=1.0, compiling=2.0, tokens=320))
    writer.set_slots([Slot()])
    writer.write()
    statuses = [Status("pending", 0, 1000), Status("pending", 0, 400)]
    with sweep_lock(tmp_path):
        reached, told = progress(tmp_path, RUNS, statuses)
    assert told == [Status("running", 10, 1000, 4.0), statuses[1]] and reached.tokens == 320
    reached, told = progress(tmp_path, RUNS, statuses)
    assert told == statuses and reached.utilisation == pytest.approx(0.6) and not reached.live
