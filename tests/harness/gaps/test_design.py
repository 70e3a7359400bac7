import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.store import prepare
from harness.gaps import design as detect
from harness.gaps.design import expect, occupied
from models.config import TrainingObjective, make_config
from sweeps.config import DataConfig, OptimizerConfig, ProbeConfig, RunConfig


@given(st.integers(1, 200), st.integers(1, 200))
def test_different_places_among_draws(draws, places):
    assert 1 - 1e-9 <= occupied(draws, places) <= min(draws, places) + 1e-9
    if places > 1:
        # Each place is missed by all draws with the probability (1 - 1/n)^k.
        assert occupied(draws, places) == pytest.approx(places * (1 - (1 - 1 / places) ** draws))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("texts")
    words = np.random.default_rng(0).integers(0, 10**6, (100, 120))
    for number, row in enumerate(words):
        (root / f"{number}.txt").write_text(" ".join(f"w{value:06d}" for value in row))
    return prepare(f"text:{root}", "bytes", root / "cache", 0.3)


def run(windows: int, half=None, unique: int = 30_001, objective=None) -> RunConfig:
    model = make_config("dense", vocab=257, context=32, width=32, depth=2, heads=2, objective=objective)
    data = DataConfig(domain="one", tokenizer="bytes", unique_tokens=unique, half=half)
    optimizer, probe = OptimizerConfig(lr=0.1), ProbeConfig(windows=windows)
    return RunConfig(model=model, data=data, optimizer=optimizer, probe=probe, steps=100, batch=8)


def test_many_windows_are_as_good_as_the_documents_there_are(store):
    found = expect(run(10**6), (store,))
    seen = 70 * (1 - (1 - 1 / 70) ** (30_001 / len(store.train) * 70))
    se = detect.DOCUMENT_SD * math.sqrt(1 / seen + 1 / 30)
    assert found["detectable_gap"] == pytest.approx(2.8 * se, rel=1e-3)
    twins = expect(run(10**6, half="a"), (store,))
    assert twins["detectable_gap"] == pytest.approx(2.8 * detect.PAIRED_SD / math.sqrt(2 * seen), rel=1e-3)


def test_as_many_tokens_as_are_needed_make_the_predicted_gap_detectable(store):
    found = expect(run(20, half="a"), (store,))
    assert not found["detectable"] and found["detectable_gap"] > found["predicted_gap"]
    # A side of n documents has the error sd / sqrt(n), and as many tokens a document as here.
    on_seen = occupied(20, 70 * (1 - (1 - 1 / 70) ** (30_001 / len(store.train) * 70)))
    per_document = 20 * 32 / on_seen
    documents = found["eval_tokens_needed"] / per_document
    assert 2.8 * detect.PAIRED_SD / math.sqrt(2 * documents) == pytest.approx(found["predicted_gap"], rel=0.03)


def test_tokens_and_windows_that_do_not_count_tell_nothing(store):
    """A quarter of the tokens is hidden in every window; one letter in eight is a w, and few windows have 32 spaces."""
    whole, masked = (expect(run(50, objective=aim), (store,)) for aim in (None, TrainingObjective("masked", 0.25)))
    assert masked["detectable_gap"] == whole["detectable_gap"]
    assert masked["eval_tokens_needed"] == pytest.approx(whole["eval_tokens_needed"] / 4, rel=0.05)
    letters = expect(run(50, objective=TrainingObjective(counted=((ord("w"), ord("w")),))), (store,))
    assert letters["eval_tokens_needed"] == pytest.approx(whole["eval_tokens_needed"] / 8, rel=0.1)
    # One digit in ten is a 7, in the middle of seven letters: of 32 tokens about 24 are digits.
    rare = expect(run(50, objective=TrainingObjective(counted=((1, 2),))), (store,))
    assert rare["detectable_gap"] > 5 * whole["detectable_gap"]
