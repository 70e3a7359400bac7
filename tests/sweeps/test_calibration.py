"""Times from measured numbers: closed forms, and files that cannot be used."""

import dataclasses
import json
from typing import Any

import pytest

from models.config import make_config
from models.count import flops
from models.intervention import get_intervention
from models.interventions.average import Average
from sweeps.calibration import TWO_CORES, Calibration, PinnedWorkers
from sweeps.config import DataConfig, OptimizerConfig, ProbeConfig, RunConfig
from sweeps.errors import InputError
from sweeps.packs import packs
from sweeps.plan import pack_time
from sweeps.shape import Shape, shape_of

DEVICE = Calibration(
    device="test",
    platform="cpu",
    devices=2,
    training_flops={32: 1e9, 128: 4e9},
    architecture_time={"top2": 2.0},
    packing_gain={32: {1: 1.0, 4: 2.0}, 128: {1: 1.0, 4: 8.0}},
    dispatch_seconds=0.5,
    steps_per_dispatch=10,
    compile_seconds=3.0,
    compile_seconds_per_layer={"dense": 1.0, "top2": 4.0},
    evaluation_speed=2.0,
)


def run(width: int = 32, steps: int = 100, architecture: str = "dense", seed: int = 0, **others: Any) -> RunConfig:
    return RunConfig(
        model=make_config(architecture, vocab=257, context=64, width=width, depth=2, heads=2),
        data=DataConfig(domain="installed", tokenizer="bytes", unique_tokens=64 * 16 + 1),
        optimizer=OptimizerConfig(lr=1e-3),
        probe=ProbeConfig(windows=64),
        steps=steps,
        batch=4,
        seed=seed,
        **others,
    )


@pytest.mark.parametrize(("width", "speed"), [(8, 1e9), (32, 1e9), (64, 2e9), (128, 4e9), (1024, 4e9)])
def test_speed_is_a_power_law_between_measured_widths(width, speed):
    assert DEVICE.flops_per_second(run(width).model) == pytest.approx(speed)
    assert DEVICE.flops_per_second(run(width, architecture="top2").model) == pytest.approx(speed / 2)


def shape(width: int = 32, architecture: str = "dense") -> Shape:
    return shape_of(run(width, architecture=architecture), 2048)


@pytest.mark.parametrize(
    ("width", "slots", "gain"), [(32, 1, 1.0), (32, 2, 2**0.5), (32, 64, 2.0), (64, 4, 4.0), (128, 2, 8**0.5)]
)
def test_the_gain_of_packing_lies_between_what_was_measured(width, slots, gain):
    assert DEVICE.gain(shape(width), slots) == pytest.approx(gain)


def test_step_and_evaluation_times():
    config = run()
    work = flops(config.model)
    assert DEVICE.turn_time(shape(), 1) == pytest.approx(4 * 64 * work.train / 1e9 + 0.05)
    assert DEVICE.turn_time(shape(), 4) == pytest.approx(4 * 4 * 64 * work.train / 2e9 + 0.05)
    assert DEVICE.evaluation_time(shape(), 1, 80) == pytest.approx(80 * 64 * work.forward / 2e9 + 0.5)
    assert DEVICE.evaluation_time(shape(), 4, 80) == pytest.approx(80 * 64 * work.forward / 4e9 + 0.5)
    assert DEVICE.compile_time(config.model) == 5.0
    assert DEVICE.compile_time(run(architecture="top2").model) == 11.0
    assert DEVICE.compile_time(run(architecture="expert_choice").model) == 5.0


def test_interventions_lengthen_turns_and_views_evaluations():
    plain, averaged = run(), run(interventions=(Average(decay=0.9),))
    cost = get_intervention("average").cost(averaged.interventions[0])
    times = [DEVICE.turn_time(shape_of(each, 2048), 1) - 0.05 for each in (plain, averaged)]
    assert cost > 0 and times[1] == pytest.approx((1 + cost) * times[0])
    assert averaged.evaluated_windows(averaged.steps) == 2 * plain.evaluated_windows(plain.steps)


def test_a_pack_lasts_as_long_as_its_longest_run():
    runs = [run(steps=steps, seed=seed) for seed, steps in enumerate((90, 100, 95, 100))]
    (pack,) = packs(runs, 2048, {shape().signature: 4})
    training, evaluation = pack_time(pack, DEVICE)
    assert training == pytest.approx(100 * DEVICE.turn_time(shape(), 4))
    # 64 windows are held out, and the run's text fills 16.
    assert evaluation == pytest.approx(4 * 5 * DEVICE.evaluation_time(pack.shape, 4, 64 + 16))


def test_a_slot_that_falls_free_is_taken():
    runs = [run(steps=steps, seed=seed) for seed, steps in enumerate((30, 100, 70, 50))]
    (pack,) = packs(runs, 2048, {shape().signature: 2})
    # 100 and then 30 in one slot, 70 and then 50 in the other.
    assert pack_time(pack, DEVICE)[0] == pytest.approx(130 * DEVICE.turn_time(shape(), 2))


PINNED = dataclasses.replace(DEVICE, workers=PinnedWorkers(2, 7.0, 1.5, {32: {1: 1.2, 4: 3.0}, 128: {1: 2.0}}))


def test_a_pinned_worker_has_its_share_of_what_all_train():
    worker = PINNED.one_worker()
    assert worker.devices == 1 and worker.workers is None and worker.mixture_slots == 1
    assert 2 * 4 / worker.turn_time(shape(), 4) == pytest.approx(
        4 * 2 / (4 * 4 * 64 * flops(run().model).train / 1.5e9 + 0.05)
    )
    assert worker.compile_time(run(architecture="top2").model) == 1.5 * 11.0
    # It evaluates as much slower than all cores as it trains.
    alone, together = (each.evaluation_time(shape(), 1, 80) - 0.5 for each in (worker, DEVICE))
    assert alone == pytest.approx(together / 0.6)
    with pytest.raises(ValueError, match="pinned workers"):
        worker.one_worker()


def test_json_round_trip():
    for calibration in (DEVICE, PINNED, TWO_CORES):
        assert Calibration.from_json(calibration.to_json(), "here") == calibration


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"training_flops": {}}, "training_flops"),
        ({"training_flops": {"32": -1}}, "training_flops.32"),
        ({"steps_per_dispatch": 0}, "steps_per_dispatch"),
        ({"evaluation_speed": None}, "evaluation_speed"),
        ({"crew": {"processes": 1}}, "crew.processes"),
    ],
)
def test_unusable_files_are_refused(change, field):
    text = json.dumps(dataclasses.asdict(DEVICE) | change)
    with pytest.raises(InputError, match=f"cal.json: {field}"):
        Calibration.from_json(text, "cal.json")
    with pytest.raises(InputError, match="JSON"):
        Calibration.from_json(text[:-1], "cal.json")
