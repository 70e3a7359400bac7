"""Signatures tell programs apart, and nothing else; batches are cut into turns."""

from hypothesis import given
from hypothesis import strategies as st

from models.config import make_config
from sweeps.config import DataConfig, OptimizerConfig, ProbeConfig, RunConfig
from sweeps.shape import micro_tokens_of, run_bytes, shape_of, turns_per_step


def run(steps: int = 100, **changes) -> RunConfig:
    values = {
        "model": make_config("dense", vocab=257, context=16, width=16, depth=1, heads=2),
        "data": DataConfig(domain="d", tokenizer="bytes", unique_tokens=500),
        "optimizer": OptimizerConfig(lr=0.1),
        "batch": 8,
    }
    return RunConfig(steps=steps, **(values | changes))


def test_the_signature_is_of_what_shapes_the_program():
    first = shape_of(run(), 2048)
    same = [
        run(101),
        run(seed=1),
        run(optimizer=OptimizerConfig(lr=0.2, schedule="wsd")),
        run(data=DataConfig(domain="e", tokenizer="bytes", unique_tokens=1000)),
    ]
    assert {shape_of(other, 2048).signature for other in same} == {first.signature}
    shaped = [
        run(batch=4),
        run(optimizer=OptimizerConfig(lr=0.1, kind="sgd")),
        run(probe=ProbeConfig(windows=64)),
        run(model=make_config("parallel", vocab=257, context=16, width=16, depth=1, heads=2)),
    ]
    assert len({first.signature, *(shape_of(other, 2048).signature for other in shaped)}) == 5


@given(st.integers(1, 4096), st.sampled_from([64, 512, 2048]))
def test_turns_are_equal_parts_no_longer_than_they_must_be(batch, micro_tokens):
    config = run(batch=batch)
    shape = shape_of(config, micro_tokens)
    turns = turns_per_step(config, shape)
    assert turns * shape.micro_batch == batch and turns & (turns - 1) == 0 and shape.accumulates == (turns > 1)
    assert shape.turn_tokens <= micro_tokens or shape.micro_batch % 2 == 1
    assert turns == 1 or 2 * shape.turn_tokens > micro_tokens


def test_large_batches_share_a_program_and_those_of_mixtures_stay_whole():
    shapes = {batch: shape_of(run(batch=batch), 512) for batch in (32, 64, 256)}
    assert shapes[64] == shapes[256] != shapes[32] and shapes[64].micro_batch == 32
    mixture = make_config("top2", vocab=257, context=16, width=16, depth=1, heads=2)
    assert shape_of(run(batch=256, model=mixture), 512).micro_batch == 256


def test_micro_batches_grow_with_an_accelerators_memory():
    assert micro_tokens_of("cpu", None) == micro_tokens_of("cpu", 10**12) == 2048
    assert [micro_tokens_of("cuda", gigabytes * 10**9) for gigabytes in (0, 1, 15, 60, 112)] == [
        2048, 2048, 8192, 32768, 32768,
    ]  # fmt: skip
    assert micro_tokens_of("tpu", None) == 32768
    # The largest model of the accelerator's script, GPT-2's size, fits what its micro-batch was chosen for.
    gpt2 = make_config("dense", vocab=50304, context=1024, width=768, depth=12, heads=12)
    for memory in (15 * 10**9, 60 * 10**9):
        text = DataConfig(domain="d", tokenizer="bytes", unique_tokens=10**6)
        whole = run(model=gpt2, batch=512, data=text)
        assert memory / 4 < run_bytes(shape_of(whole, micro_tokens_of("cuda", memory))) < memory
