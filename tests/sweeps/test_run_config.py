"""When a run is evaluated, and what its id depends on."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from models.config import make_config
from sweeps.config import DataConfig, OptimizerConfig, ProbeConfig, RunConfig

MODEL = make_config("dense", vocab=257, context=16, width=16, depth=1, heads=2)


def run(steps: int, per_octave: int = 1, **changes) -> RunConfig:
    data = DataConfig(domain="d", tokenizer="bytes", unique_tokens=1000)
    optimizer, probe = OptimizerConfig(lr=0.1), ProbeConfig(per_octave=per_octave)
    values = dict[str, Any](model=MODEL, data=data, optimizer=optimizer, probe=probe, steps=steps, batch=2)
    return RunConfig(**(values | changes))


@given(steps=st.integers(1, 10**6), per_octave=st.integers(1, 6))
def test_evaluations_span_the_run_and_thin_out_towards_its_start(steps, per_octave):
    marks = run(steps, per_octave).evaluation_steps()
    assert marks[0] == 0 and marks[-1] == steps and steps // 2 in marks
    assert list(marks) == sorted(set(marks))
    # In every octave below the end, up to rounding: at least one, at most `per_octave` and those at its two ends.
    low, high = steps / 2, float(steps)
    while low >= 32:
        inside = [mark for mark in marks if low - 1 <= mark <= high + 1]
        assert 1 <= len(inside) <= per_octave + 2
        low, high = low / 2, high / 2
    assert all(mark >= 16 for mark in marks if mark not in (0, steps // 2, steps))


def test_evaluations_of_known_lengths():
    assert run(1).evaluation_steps() == (0, 1)
    assert run(31).evaluation_steps() == (0, 15, 31)
    assert run(512).evaluation_steps() == (0, 16, 32, 64, 128, 256, 512)
    assert run(512, 2).evaluation_steps() == (0, 16, 23, 32, 45, 64, 91, 128, 181, 256, 362, 512)


def test_the_id_is_of_the_whole_value():
    first = run(100)
    assert RunConfig.model_validate_json(first.canonical_json()) == first
    others = [
        run(101),
        run(100, seed=1),
        run(100, optimizer=OptimizerConfig(lr=0.2, schedule="wsd")),
        run(100, data=DataConfig(domain="e", tokenizer="bytes", unique_tokens=1000)),
    ]
    assert len({first.run_id, *(other.run_id for other in others)}) == 5
