"""Progress and time to go against arithmetic."""

import time

import pytest

from harness.record import progress as module
from harness.record.progress import mark_start, progress
from harness.record.status import Status, run_folder, sweep_lock, write_status
from models.config import make_config
from models.count import flops
from sweeps.config import DataConfig, OptimizerConfig, RunConfig


def run(width: int, steps: int) -> RunConfig:
    model = make_config("dense", vocab=257, context=16, width=width, depth=1, heads=2)
    data = DataConfig(domain="", tokenizer="bytes", unique_tokens=1000)
    return RunConfig(model=model, data=data, optimizer=OptimizerConfig(lr=0.1), steps=steps, batch=2)


SMALL, LARGE = run(16, 1000), run(64, 400)


def cost(config: RunConfig, steps: int) -> int:
    return flops(config.model).train * config.batch_tokens * steps


def test_time_to_go_is_what_is_left_at_the_speed_since_the_start(tmp_path, monkeypatch):
    runs = (SMALL, LARGE)
    write_status(run_folder(tmp_path, SMALL.run_id), Status("interrupted", 200, 1000))
    mark_start(tmp_path, runs)
    started = time.time()
    monkeypatch.setattr(module.time, "time", lambda: started + 50.0)
    statuses = [Status("running", 600, 1000), Status("running", 100, 400)]
    with sweep_lock(tmp_path):
        reached = progress(tmp_path, runs, statuses)
    trained = cost(SMALL, 400) + cost(LARGE, 100)
    left = cost(SMALL, 400) + cost(LARGE, 300)
    assert reached.eta_seconds == pytest.approx(50.0 * left / trained, rel=1e-2)
    assert reached.tokens == 32 * 700 and reached.tokens_total == 32 * 1400
    assert reached.flops == cost(SMALL, 600) + cost(LARGE, 100)
    assert reached.flops_total == cost(SMALL, 1000) + cost(LARGE, 400)


def test_what_will_not_be_trained_is_not_waited_for(tmp_path):
    mark_start(tmp_path, (SMALL, LARGE))
    statuses = [Status("diverged", 10, 1000), Status("done", 400, 400)]
    with sweep_lock(tmp_path):
        reached = progress(tmp_path, (SMALL, LARGE), statuses)
    assert reached.eta_seconds == 0.0
    assert reached.tokens == reached.tokens_total == 32 * 410 and reached.flops == reached.flops_total


def test_no_time_is_told_where_none_is_known(tmp_path):
    waiting = [Status("pending", 0, 1000), Status("pending", 0, 400)]
    with sweep_lock(tmp_path):
        assert progress(tmp_path, (SMALL, LARGE), waiting).eta_seconds is None  # it still prepares its text
        mark_start(tmp_path, (SMALL, LARGE))
        assert progress(tmp_path, (SMALL, LARGE), waiting).eta_seconds is None  # it still compiles
    moving = [Status("interrupted", 500, 1000), Status("pending", 0, 400)]
    assert progress(tmp_path, (SMALL, LARGE), moving).eta_seconds is None  # nothing runs
