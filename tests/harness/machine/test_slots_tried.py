"""How many slots a calibration tries, on a machine that is made up."""

import pytest

from harness.machine import calibrate
from harness.train.accelerators import Accelerator
from models.config import make_config
from sweeps.shape import Shape, run_bytes

SHAPE = Shape(make_config("dense", vocab=257, context=64, width=32, depth=2, heads=2), 8, False, "adamw", 64)
ONE = run_bytes(SHAPE)


@pytest.mark.parametrize(
    ("known", "devices", "saturates", "tried"),
    [
        (None, 2, 1000, [1, 2]),
        (None, 1, 1000, [1]),
        (Accelerator(989e12, 10**12), 1, 1000, [1, 4, 16, 64, 256]),
        (Accelerator(989e12, 10**12), 8, 1000, [1, 8, 32, 128, 512]),
        (Accelerator(989e12, 100 * ONE), 1, 1000, [1, 4, 16, 64]),
        (Accelerator(989e12, ONE), 1, 1000, [1]),
        (Accelerator(None, None), 1, 1000, [1, 4, 16, 64]),
        (Accelerator(989e12, 10**12), 1, 16, [1, 4, 16, 64]),
    ],
)
def test_slots_are_tried_while_they_gain_and_fit_the_memory(known, devices, saturates, tried, monkeypatch):
    measured = {}

    def measure(shape: Shape, slots: int) -> dict[str, float]:
        measured[slots] = float(min(slots, saturates))
        return {"speed": measured[slots]}

    monkeypatch.setattr(calibrate, "_measure", measure)
    gains = calibrate._gains(SHAPE, 1.0, devices, known, lambda what: None)
    assert sorted(gains) == tried and sorted({1, *measured}) == tried
    assert all(gains[slots] == speed for slots, speed in measured.items())
