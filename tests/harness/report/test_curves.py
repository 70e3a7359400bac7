import math

import numpy as np
import pandas as pd
import pytest

from harness.report.curves import CURVE_BINS, bytes_per_token, curve_figures, loss_curves, smooth


def test_smoothing_keeps_a_constant_and_averages_noise():
    tokens = np.arange(1, 20001) * 256.0
    position, loss = smooth(tokens, np.full(20000, 3.25))
    assert len(loss) <= CURVE_BINS and np.all(loss == 3.25)
    assert np.all(np.diff(position) > 0)
    noisy = 3.25 + 0.5 * np.random.default_rng(0).standard_normal(20000)
    # The last bin of equal ratios holds about a sixth of all steps.
    assert smooth(tokens, noisy)[1][-1] == pytest.approx(3.25, abs=5 * 0.5 / math.sqrt(2000))


def test_steps_that_are_not_finite_are_passed_over():
    tokens, loss = smooth(np.arange(1.0, 6.0), np.asarray([2.0, np.nan, 1.5, np.inf, 1.0]))
    assert tokens.tolist() == [1.0, 3.0, 5.0] and loss.tolist() == [2.0, 1.5, 1.0]


def runs_of(*tokenizers: str) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    ids = [f"run{i}" for i in range(len(tokenizers))]
    runs = pd.DataFrame({
        "run_id": ids, "domain": "d", "tokenizer": tokenizers, "architecture": "dense",
        "N_nonembedding": 1000, "epochs": 1.0,
        "bytes_per_token": [4.0] + [None] * (len(ids) - 1),
    })  # fmt: skip
    series = pd.concat([pd.DataFrame({"run_id": i, "tokens": [10, 20], "train_loss": [3.0, 2.0]}) for i in ids])
    evals = pd.concat(
        [
            pd.DataFrame({
                "run_id": i, "probe": ["heldout", "seen"] * 2, "tokens": [0, 0, 20, 20], "loss": [5.0, 5.0, 2.2, 2.0],
                "probe_bytes": 300, "probe_tokens": 100,
            })
            for i in ids
        ]
    )  # fmt: skip
    return runs, series, evals


def values_of(figure, name):
    trace = next(t for t in figure.data if t.legendgroup == name and t.hovertemplate)
    return [y for y in trace.y if y is not None]


def titles_of(figure) -> str:
    return figure.layout.yaxis.title.text


def test_one_tokenizer_is_drawn_in_nats_per_token():
    (name, figure), *rest = curve_figures(loss_curves(*runs_of("bytes", "bytes"))).items()
    assert name == "d, bytes" and not rest
    assert values_of(figure, "held-out") == [2.2, 2.2] and values_of(figure, "seen") == [2.0, 2.0]
    assert values_of(figure, "training loss, smoothed") == [3.0, 2.0, 3.0, 2.0]
    assert "nats per token" in titles_of(figure)


def test_several_tokenizers_are_drawn_in_bits_per_byte():
    figures = curve_figures(loss_curves(*runs_of("bpe:9", "bytes")))
    assert set(figures) == {"d, bpe:9", "d, bytes"}
    assert values_of(figures["d, bpe:9"], "held-out") == pytest.approx([2.2 / math.log(2) / 4.0])
    assert values_of(figures["d, bytes"], "held-out") == pytest.approx([2.2 / math.log(2) / 3.0])
    assert "bits per byte" in titles_of(figures["d, bytes"])


def test_bytes_per_token_come_from_the_corpus_or_the_probe():
    runs, _, evals = runs_of("bpe:9", "bytes")
    assert bytes_per_token(runs, evals) == {"run0": 4.0, "run1": 3.0}


def test_nothing_recorded_draws_nothing():
    runs, _, _ = runs_of("bytes")
    assert curve_figures(loss_curves(runs, pd.DataFrame(), pd.DataFrame())) == {}
