import functools
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.mixture import (
    available_tokens,
    locate,
    mixture_of,
    probe_stores,
    share_out,
    stores_of,
    train_batches,
)  # fmt: skip
from harness.data.store import TokenStore, prepare
from models.config import make_config
from sweeps.config import DataConfig, OptimizerConfig, ProbeConfig, RunConfig
from sweeps.errors import InputError

CONTEXT = 32


def run(domain: str, unique: int = 3201, vocab: int = 257, **changes) -> RunConfig:
    model = make_config("dense", vocab=vocab, context=CONTEXT, width=16, depth=1, heads=2)
    data = DataConfig(domain=domain, tokenizer="bytes", unique_tokens=unique)
    values = {"model": model, "data": data, "optimizer": OptimizerConfig(lr=0.1), "steps": 100, "batch": 4} | changes
    return RunConfig(**values)


@pytest.fixture(scope="module")
def stores(text_folder, cache) -> tuple[TokenStore, ...]:
    return tuple(prepare(f"text:{text_folder / name}", "bytes", cache, 0.2) for name in ("asyncio", "email"))


@given(st.integers(0, 10_000), st.lists(st.floats(0.01, 1.0), min_size=1, max_size=6))
def test_shares_are_whole_and_within_one_of_exact(total, shares):
    found = share_out(total, tuple(shares))
    assert sum(found) == total
    assert all(abs(n - total * share / sum(shares)) < 1 for n, share in zip(found, shares, strict=True))


def test_an_epoch_holds_every_window_of_each_part_once_in_the_shares_asked_for(stores):
    mixture = mixture_of(run("0.25 one + 0.75 other"), stores)
    assert mixture.windows == (25, 75)
    epoch = train_batches(mixture, 7, 0, 25, 4).reshape(100, CONTEXT + 1)
    wanted = [
        np.asarray(store.train[k * CONTEXT : k * CONTEXT + CONTEXT + 1], np.int32)
        for store, count in zip(stores, (25, 75), strict=True)
        for k in range(count)
    ]
    assert sorted(row.tobytes() for row in epoch) == sorted(row.tobytes() for row in wanted)


def test_the_order_is_that_of_the_run_alone(stores):
    mixture = mixture_of(run("0.5 one + 0.5 other"), stores)
    whole = train_batches(mixture, 3, 0, 60, 4)
    assert (train_batches(mixture, 3, 17, 41, 4) == whole[17:41]).all()
    assert (train_batches(mixture, 3, 34, 82, 2).reshape(24, 4, -1) == whole[17:41]).all()  # half a batch a turn
    assert not (train_batches(mixture, 4, 0, 60, 4) == whole).all()


def test_windows_are_found_in_their_parts():
    part, number = locate(np.arange(10), (3, 0, 7))
    assert part.tolist() == [0] * 3 + [2] * 7 and number.tolist() == [0, 1, 2, *range(7)]


def test_a_part_that_is_too_short_or_of_another_vocabulary_is_refused(stores):
    held = len(stores[1].train)
    with pytest.raises(InputError, match=f"at most {2 * held}, for what the train split of .*email"):
        mixture_of(run("0.5 one + 0.5 other", unique=2 * held + 2 * CONTEXT), stores)
    with pytest.raises(InputError, match="model.vocab: got 300, expected 257"):
        mixture_of(run("0.5 one + 0.5 other", vocab=300), stores)


def test_parts_and_probes_that_hold_out_what_is_read_are_refused(cache):
    """Of worlds of different numbers of documents, of which one begins with those of the other."""
    few, many, other = (f"grammar:symbols=4,order=1,documents={n}" for n in (300, 500, "300,seed=1"))
    model = make_config("dense", vocab=13, context=CONTEXT, width=16, depth=1, heads=2)
    opened = functools.partial(prepare, cache=cache)

    def on(domain: str, **probe) -> RunConfig:
        data = DataConfig(domain=domain, tokenizer="symbols:13", unique_tokens=3201)
        return run("", model=model, data=data, probe=ProbeConfig(**probe))

    def stores(data: DataConfig):
        return stores_of(opened, data)

    mixed = on(f"0.5 {few} + 0.5 {many}")
    with pytest.raises(InputError, match="holds out what grammar"):
        mixture_of(mixed, stores(mixed.data))
    apart = on(f"0.5 {few} + 0.5 {other}")
    assert len(mixture_of(apart, stores(apart.data)).stores) == 2
    for domain, refused in ((few, False), (other, False), (many, True)):
        of_run = on(few, domains=(domain,))
        if refused:
            with pytest.raises(InputError, match="holds out no document on which"):
                probe_stores(of_run, mixture_of(of_run, stores(of_run.data)), stores)
        else:
            assert len(probe_stores(of_run, mixture_of(of_run, stores(of_run.data)), stores)) == 1


def test_what_a_mixture_holds_is_set_by_its_scarcest_part(stores):
    one, other = (len(store.train) for store in stores)
    assert available_tokens((0.5, 0.5), stores) == 2 * min(one, other)
    assert available_tokens((0.01, 0.99), stores) == min(int(one / 0.01), int(other / 0.99))


def test_a_run_asks_for_the_stores_of_its_parts_and_split():
    asked = []

    def opened(*args, **split) -> TokenStore:
        asked.append((args, split))
        return cast(TokenStore, None)

    data = run("0.3 text:x + 0.7 text:y").data.model_copy(update={"half": "b", "split_seed": 4})
    stores_of(opened, data)
    split = {"heldout_fraction": 0.1, "split_seed": 4, "half": "b"}
    assert asked == [(("text:x", "bytes"), split), (("text:y", "bytes"), split)]
