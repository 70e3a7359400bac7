"""When a run is evaluated, and what its id depends on."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.config import make_config
from sweeps.config import DataConfig, OptimizerConfig, ProbeConfig, RunConfig, online_span

MODEL = make_config("dense", vocab=257, context=16, width=16, depth=1, heads=2)


def run(steps: int, per_octave: int = 1, **changes) -> RunConfig:
    data = DataConfig(domain="d", tokenizer="bytes", unique_tokens=1000)
    optimizer, probe = OptimizerConfig(lr=0.1), ProbeConfig(per_octave=per_octave)
    values = dict[str, Any](model=MODEL, data=data, optimizer=optimizer, probe=probe, steps=steps, batch=2)
    return RunConfig(**(values | changes))


@given(steps=st.integers(1, 10**6), per_octave=st.integers(1, 6))
def test_evaluations_span_the_run_and_thin_out_towards_its_start(steps, per_octave):
    config = run(steps, per_octave)
    marks = config.evaluation_steps()
    assert marks[0] == 0 and marks[-1] == steps and steps // 2 in marks
    assert list(marks) == sorted(set(marks))
    last = online_span(steps)
    assert set(last) <= set(marks) and last[2] == steps and last[2] - last[0] == min(100, steps - steps // 2)
    assert abs(last[0] + last[2] - 2 * last[1]) <= 1
    marks = tuple(mark for mark in marks if mark in (0, steps // 2, steps) or mark not in last)
    # In every octave below the end, up to rounding: at least one, at most `per_octave` and those at its two ends.
    low, high = steps / 2, float(steps)
    while low >= 32:
        inside = [mark for mark in marks if low - 1 <= mark <= high + 1]
        assert 1 <= len(inside) <= per_octave + 2
        low, high = low / 2, high / 2
    assert all(mark >= 16 for mark in marks if mark not in (0, steps // 2, steps))


def test_evaluations_of_known_lengths():
    assert run(1).evaluation_steps() == (0, 1)
    assert run(31).evaluation_steps() == (0, 15, 23, 31)
    assert run(512).evaluation_steps() == (0, 16, 32, 64, 128, 256, 412, 462, 512)
    assert run(512, 2).evaluation_steps() == (0, 16, 23, 32, 45, 64, 91, 128, 181, 256, 362, 412, 462, 512)
    # An epoch of 62 steps, of which the second half has an online gap of its own.
    longer = DataConfig(domain="d", tokenizer="bytes", unique_tokens=2000)
    assert run(512, data=longer).first_epoch == 62
    assert run(512, data=longer).evaluation_steps() == (0, 16, 31, 32, 46, 62, 64, 128, 256, 412, 462, 512)


def test_a_twin_reads_the_other_half_and_is_its_twins_twin():
    one = run(100, data=DataConfig(domain="d", tokenizer="bytes", unique_tokens=1000, half="a"))
    other = one.twin()
    assert other.data.half == "b" and other.run_id != one.run_id and other.twin() == one
    assert other.model_copy(update={"data": one.data}) == one and one.probe_sets == 3
    with pytest.raises(ValueError, match="no twin"):
        run(100).twin()


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


def test_runs_that_earlier_versions_recorded_keep_their_ids():
    """The id that a version without draws and small probes gave to this run."""
    model = make_config("dense", vocab=257, context=32, width=32, depth=2, heads=2)
    data = DataConfig(domain="stdlib_code", tokenizer="bytes", unique_tokens=10**4)
    config = RunConfig(model=model, data=data, optimizer=OptimizerConfig(lr=1e-3), steps=100, batch=4)
    assert config.run_id == "d86d9b6be1b8"
    assert RunConfig.model_validate_json(config.canonical_json()) == config
    changed = [
        config.model_copy(update={"data": data.model_copy(update={"draw": 1})}),
        config.model_copy(update={"probe": ProbeConfig(small_windows=8)}),
    ]
    assert len({config.run_id, *(each.run_id for each in changed)}) == 3
    assert [RunConfig.model_validate_json(each.canonical_json()) for each in changed] == changed


def test_small_probes_come_before_the_last_step():
    config = run(400, probe=ProbeConfig(windows=128, small_windows=16))
    assert [config.probe_windows(step) for step in (0, 200, 399, 400)] == [16, 16, 16, 128]
    # 62 windows of text fill the seen probe at the end; nothing is evaluated twice to fill up the others.
    assert config.windows == 62 and config.evaluated_windows(400) == 128 + 62
    assert config.evaluated_windows(200) == 32
