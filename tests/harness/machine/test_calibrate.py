"""What a calibration concludes from what it times, on a machine that is made up."""

import json

import pytest

from harness.machine import calibrate
from harness.machine.trial import Trial
from models.config import make_config
from sweeps.calibration import TWO_CORES
from sweeps.shape import Shape


class Team:
    """Processes that start in 2 s and train 3 times as fast as one run alone."""

    def __init__(self, shape: Shape, processes: int):
        self.processes = processes

    def wait(self) -> None: ...

    def measure(self) -> tuple[float, float]:
        return 2.0, 3e9


def test_seconds_and_speeds_are_those_of_this_machine(monkeypatch):
    compiled: list[tuple[int, int, bool]] = []

    def try_out(shape: Shape, slots: int, whole: bool = True) -> Trial:
        compiled.append((shape.model.width, slots, whole))
        return Trial(10.0, 128, lambda count: (shape, slots, count), (lambda: "evaluation") if whole else None)

    def seconds(call) -> float:
        """One run trains 1e9 operations a second, and several together 1.5 times as many."""
        asked = call()
        if asked == "evaluation":
            return 0.25
        shape, slots, turns = asked
        return 0.1 + turns * slots * shape.turn_flops / (1e9 if slots == 1 else 1.5e9)

    monkeypatch.setattr(calibrate, "_trial", try_out)
    monkeypatch.setattr(calibrate, "_seconds", seconds)
    monkeypatch.setattr(calibrate, "PinnedTeam", Team)
    found = calibrate.calibrate(lambda what: None)
    cores = found.devices
    assert {case[:2] for case in compiled} == {(width, slots) for width in (32, 256) for slots in (1, cores)}
    assert json.loads(found.to_json())["platform"] == "cpu"
    small, large = (make_config("dense", vocab=257, context=128, width=w, depth=2, heads=w // 16) for w in (32, 256))
    for model in (small, large):
        assert found.flops_per_second(model) == pytest.approx(1e9)
        assert found.compile_time(model) == pytest.approx(10.0)
        assert found.gain(Shape(model, 8, False, "adamw", 64), cores) == pytest.approx(1.0 if cores == 1 else 1.5)
    mixture = make_config("top2", vocab=257, context=128, width=32, depth=6, heads=2)
    as_usual = TWO_CORES.compile_time(mixture) / TWO_CORES.compile_time(small)
    assert found.compile_time(mixture) / found.compile_time(small) == pytest.approx(as_usual)
    of_small = Shape(small, 8, False, "adamw", 64)
    assert found.evaluation_time(of_small, 1, calibrate.PROBE) == pytest.approx(0.25 + 0.1)
    if cores > 1:
        assert found.workers is not None and found.workers.start_seconds == 2.0
        assert found.workers.gain == {32: {1: pytest.approx(3.0)}, 256: {1: pytest.approx(1.5)}}
