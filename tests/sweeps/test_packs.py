"""Packs: nothing lost, one program a signature, and no cheaper number of slots."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.config import make_config
from sweeps.config import DataConfig, OptimizerConfig, RunConfig
from sweeps.memory import run_bytes
from sweeps.packs import CPU_GAIN, SLOTS, interpolated, packs

MODELS = {width: make_config("dense", vocab=257, context=64, width=width, depth=2, heads=2) for width in (16, 32)}


def run(steps: int, seed: int = 0, width: int = 16, batch: int = 4, lr: float = 1e-3) -> RunConfig:
    return RunConfig(
        model=MODELS[width],
        data=DataConfig(domain="mixed", tokenizer="bytes", unique_tokens=1000),
        optimizer=OptimizerConfig(lr=lr),
        steps=steps,
        batch=batch,
        seed=seed,
    )


RUNS = st.lists(
    st.tuples(st.integers(1, 2000), st.integers(0, 99), st.sampled_from([16, 32]), st.sampled_from([4, 8])),
    max_size=40,
    unique=True,
)


def padded_time(lengths: list[int], slots: int) -> float:
    lengths = sorted(lengths, reverse=True)
    return (
        sum(max(lengths[i : i + slots]) for i in range(0, len(lengths), slots)) * slots / interpolated(CPU_GAIN, slots)
    )


@given(RUNS, st.randoms())
@settings(max_examples=60, deadline=None)
def test_packs_hold_every_run_once_and_are_the_cheapest(values, shuffle: random.Random):
    configs = [run(*value) for value in values]
    made = packs(configs)
    assert sorted(config.run_id for pack in made for config in pack.runs) == sorted(c.run_id for c in configs)
    for signature in {pack.signature for pack in made}:
        group = [pack for pack in made if pack.signature == signature]
        assert len({pack.slots for pack in group}) == 1 and group[0].slots in SLOTS
        assert all(len(pack.runs) == pack.slots for pack in group[:-1]) and 0 < len(group[-1].runs) <= group[-1].slots
        assert {config.signature() for pack in group for config in pack.runs} == {signature}
        lengths = [config.steps for pack in group for config in pack.runs]
        assert lengths == sorted(lengths, reverse=True)
        best = min(padded_time(lengths, slots) for slots in SLOTS)
        assert padded_time(lengths, group[0].slots) == pytest.approx(best)
    shuffled = list(configs)
    shuffle.shuffle(shuffled)
    assert packs(shuffled) == made


def test_equal_lengths_pack_and_very_unequal_ones_do_not():
    (equal,) = packs([run(1000, seed) for seed in range(8)])
    assert equal.slots == 8 and equal.steps == 1000
    unequal = packs([run(10**k, width=32) for k in range(6)])
    assert [pack.slots for pack in unequal] == [1] * 6
    (lonely,) = packs([run(10)])
    assert lonely.slots == 1


def test_the_memory_limit_holds_but_one_run_is_always_packed():
    configs = [run(1000, seed) for seed in range(16)]
    one = run_bytes(configs[0])
    assert {pack.slots for pack in packs(configs, memory_limit=5 * one)} == {4}
    assert {pack.slots for pack in packs(configs, memory_limit=one // 2)} == {1}


def test_an_accelerator_that_gains_more_packs_more():
    configs = [run(100 + 40 * k, seed) for seed in range(4) for k in range(4)]
    fast = packs(configs, gain={1: 1.0, 16: 16.0})
    assert [pack.slots for pack in fast] == [16]
    assert all(pack.slots < 16 for pack in packs(configs))


def test_ids_name_the_slots_and_the_runs():
    first, second = packs([run(10)])[0], packs([run(10, seed=1)])[0]
    assert first.pack_id != second.pack_id
    pair = packs([run(10), run(10, seed=1)])
    assert len({first.pack_id, second.pack_id, *(pack.pack_id for pack in pair)}) == 2 + len(pair)


def test_ten_thousand_runs():
    made = packs([run(100 + index % 7, lr=1e-6 * (index + 1)) for index in range(10_000)])
    assert sum(len(pack.runs) for pack in made) == 10_000
