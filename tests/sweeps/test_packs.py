"""Packs: nothing lost, one program a shape, and no number of slots that would end sooner."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.config import make_config
from sweeps.config import DataConfig, OptimizerConfig, RunConfig
from sweeps.packs import SLOTS, by_shape, choose_slots, makespan, packs
from sweeps.shape import Shape, run_bytes, shape_of, turns_per_step

MODELS = {width: make_config("dense", vocab=257, context=64, width=width, depth=2, heads=2) for width in (16, 32)}
MICRO = 2048
TABLE = {1: 1.0, 2: 1.9, 4: 2.0}


def gain(shape: Shape, slots: int) -> float:
    """Two cores: a second run is nearly free, a third is not."""
    return TABLE[min(slots, 4)]


def run(steps: int, seed: int = 0, width: int = 16, batch: int = 4, lr: float = 1e-3) -> RunConfig:
    return RunConfig(
        model=MODELS[width],
        data=DataConfig(domain="installed", tokenizer="bytes", unique_tokens=1000),
        optimizer=OptimizerConfig(lr=lr),
        steps=steps,
        batch=batch,
        seed=seed,
    )


RUNS = st.lists(
    st.tuples(st.integers(1, 2000), st.integers(0, 99), st.sampled_from([16, 32]), st.sampled_from([4, 8, 64, 256])),
    max_size=40,
    unique=True,
)


def simulated(lengths: list[int], slots: int) -> int:
    """Turns of a loop that gives each free slot the next run, turn by turn."""
    waiting, left, turns = list(lengths), [0] * slots, 0
    while waiting or any(left):
        left = [waiting.pop(0) if not rest and waiting else rest for rest in left]
        left = [max(0, rest - 1) for rest in left]
        turns += 1
    return turns


@given(st.lists(st.integers(1, 30), max_size=12), st.sampled_from(SLOTS[:4]))
def test_the_makespan_is_that_of_a_loop_that_refills_its_slots(lengths, slots):
    assert makespan(lengths, slots) == simulated(lengths, slots)


@given(RUNS, st.randoms(), st.integers(1, 3))
@settings(max_examples=60)
def test_packs_hold_every_run_once_in_slots_that_end_soonest(values, shuffle: random.Random, parts):
    configs = [run(*value) for value in values]
    slots = choose_slots(configs, MICRO, gain)
    made = packs(configs, MICRO, slots, parts)
    assert sorted(config.run_id for pack in made for config in pack.runs) == sorted(c.run_id for c in configs)
    assert set(slots) == {pack.shape.signature for pack in made}
    for signature, group in itertools.groupby(made, key=lambda pack: pack.shape.signature):
        group = list(group)
        assert {pack.slots for pack in group} == {slots[signature]} and len(group) <= parts
        assert {shape_of(config, MICRO) for pack in group for config in pack.runs} == {group[0].shape}
        for pack in group:
            lengths = [config.steps * config.batch for config in pack.runs]
            assert lengths == sorted(lengths, reverse=True) and lengths
    for shape, runs in by_shape(configs, MICRO).items():
        lengths = [config.steps * turns_per_step(config, shape) for config in runs]
        cost = {n: makespan(lengths, n) * n / gain(shape, n) for n in SLOTS}
        assert cost[slots[shape.signature]] == pytest.approx(min(cost.values()))
    shuffled = list(configs)
    shuffle.shuffle(shuffled)
    assert packs(shuffled, MICRO, slots, parts) == made


def test_workers_get_equal_work():
    made = packs(
        [run(100 + 10 * k, seed=k) for k in range(40)], MICRO, dict.fromkeys([shape_of(run(1), MICRO).signature], 2), 3
    )
    assert len(made) == 3
    assert max(pack.turns for pack in made) <= 1.15 * min(pack.turns for pack in made)


def test_runs_fill_the_cores_and_a_lonely_one_has_them_all():
    for count, slots in ((1, 1), (2, 2), (9, 2)):
        assert list(choose_slots([run(1000, seed) for seed in range(count)], MICRO, gain).values()) == [slots]


def test_the_memory_limit_holds_but_one_run_is_always_packed():
    configs = [run(1000, seed) for seed in range(16)]
    one = run_bytes(shape_of(configs[0], MICRO))
    more = lambda shape, slots: float(slots)  # noqa: E731
    for limit, slots in ((None, 16), (17 * one, 16), (5 * one, 4), (one // 2, 1)):
        assert set(choose_slots(configs, MICRO, more, limit).values()) == {slots}


def test_a_mixture_alone_has_the_slots_of_a_pack():
    mixture = make_config("top2", vocab=257, context=64, width=16, depth=2, heads=2)
    configs = [run(10), run(10).model_copy(update={"model": mixture})]
    chosen = choose_slots(configs, MICRO, gain, mixture_slots=2)
    assert [chosen[shape_of(config, MICRO).signature] for config in configs] == [1, 2]
    one = run_bytes(shape_of(configs[1], MICRO))
    assert choose_slots(configs[1:], MICRO, gain, one, mixture_slots=2) == {shape_of(configs[1], MICRO).signature: 1}


def test_ids_name_the_slots_and_the_runs():
    signature = shape_of(run(10), MICRO).signature
    ids = [
        pack.pack_id
        for runs, slots in (([run(10)], 1), ([run(10)], 2), ([run(10, seed=1)], 1), ([run(10), run(10, seed=1)], 2))
        for pack in packs(runs, MICRO, {signature: slots})
    ]
    assert len(set(ids)) == 4


def test_ten_thousand_runs():
    configs = [run(100 + index % 7, lr=1e-6 * (index + 1)) for index in range(10_000)]
    made = packs(configs, MICRO, choose_slots(configs, MICRO, gain))
    assert sum(len(pack.runs) for pack in made) == 10_000


def test_hundreds_of_runs_train_side_by_side_where_that_gains_and_fits():
    configs = [run(1000, seed) for seed in range(600)]
    one = run_bytes(shape_of(configs[0], MICRO))
    linear = lambda shape, slots: float(slots)  # noqa: E731
    saturated = lambda shape, slots: float(min(slots, 64))  # noqa: E731
    assert set(choose_slots(configs[:512], MICRO, linear).values()) == {512}
    assert set(choose_slots(configs[:512], MICRO, linear, 300 * one).values()) == {256}
    assert set(choose_slots(configs[:512], MICRO, saturated).values()) == {64}
    assert set(choose_slots(configs, MICRO, gain).values()) == {4}  # two cores, as before there were so many
