"""Bits per byte of equal models on three tokenizers, against losses computed token by token in numpy."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from harness.data.store import prepare
from harness.gaps.document_losses import probe_rows
from harness.gaps.one_run import evaluation_rows
from harness.train.run_batches import open_batches, stores_of
from models.compute import Compute
from models.config import make_config
from models.transformer import init, logits, token_losses
from sweeps.config import DataConfig, OptimizerConfig, ProbeConfig, RunConfig

TOKENIZERS = ("bytes", "bpe:270", "bpe:300")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Sixty documents with characters of one to four bytes."""
    folder = tmp_path_factory.mktemp("texts")
    random = np.random.default_rng(0)
    words = ["north", "süd", "восток", "запад", "東", "🌍", "the", "of", "1234", "and\n"]
    for number in range(60):
        (folder / f"{number}.txt").write_text(" ".join(random.choice(words, 150)) + f" {number}")
    return folder


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_agrees_with_an_independent_computation(text, tmp_path_factory, tokenizer):
    cache = tmp_path_factory.getbasetemp() / "bits"
    store = prepare(f"text:{text}", tokenizer, cache, 0.3)
    model = make_config("dense", vocab=store.vocab, context=16, width=32, depth=2, heads=2)
    data = DataConfig(domain=f"text:{text}", tokenizer=tokenizer, unique_tokens=3001, heldout_fraction=0.3)
    run = RunConfig(model=model, data=data, optimizer=OptimizerConfig(lr=0.1), probe=ProbeConfig(windows=40), steps=9,
                    batch=2)  # fmt: skip
    batches = open_batches(run, lambda data: stores_of(partial(prepare, cache=cache), data))
    params, biases = init(model, jax.random.key(1))
    windows = jnp.asarray(batches.probe_tokens(9))
    losses = token_losses(model, params, biases, windows, training=False, compute=Compute())[0]
    found = probe_rows(run, 9, batches.probes(9), batches.split_losses(9, np.asarray(losses)))
    row = next(row for row in evaluation_rows(9, run.batch_tokens, found) if row["probe"] == "heldout")
    measured = row["loss"] * row["probe_tokens"] / math.log(2) / row["probe_bytes"]

    tokens = batches.probes(9)["heldout"].tokens
    raw = np.asarray(logits(model, params, biases, jnp.asarray(tokens[:, :-1]), compute=Compute()), np.float64)
    largest = raw.max(axis=-1, keepdims=True)
    log_p = raw - largest - np.log(np.exp(raw - largest).sum(axis=-1, keepdims=True))
    nats, sizes = 0.0, 0
    for window, of_window in zip(tokens[:, 1:], log_p, strict=True):
        for token, scores in zip(window, of_window, strict=True):
            nats -= scores[token]
            sizes += int(store.token_bytes[token])
    assert measured == pytest.approx(nats / math.log(2) / sizes, rel=1e-6)


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_the_bytes_of_all_tokens_are_those_of_the_text(text, tmp_path_factory, tokenizer):
    store = prepare(f"text:{text}", tokenizer, tmp_path_factory.getbasetemp() / "bits", 0.3)
    written = sum(len(file.read_bytes()) for file in text.glob("*.txt"))
    tokens = [np.asarray(stream) for stream in (store.train, store.heldout)]
    assert sum(int(store.token_bytes[part].sum(dtype=np.int64)) for part in tokens) == written
