import numpy as np
import pytest

from harness.data.mixture import Mixture, mixture_of, train_batches
from harness.data.store import TokenStore, prepare
from harness.data.windows import window_index
from harness.gaps.probes import Probe, effective_groups, probe_sets
from models.config import make_config
from sweeps.config import DataConfig, OptimizerConfig, ProbeConfig, RunConfig
from sweeps.errors import InputError

CONTEXT, UNIQUE = 64, 60_000


def run(steps: int = 10_000, batch: int = 4, windows: int = 200, unique: int = UNIQUE, domain="one", **data):
    model = make_config("dense", vocab=257, context=CONTEXT, width=16, depth=1, heads=2)
    return RunConfig(
        model=model, data=DataConfig(domain=domain, tokenizer="bytes", unique_tokens=unique, **data),
        optimizer=OptimizerConfig(lr=0.1), probe=ProbeConfig(windows=windows), steps=steps, batch=batch,
    )  # fmt: skip


@pytest.fixture(scope="module")
def store(text_folder, cache) -> TokenStore:
    return prepare(f"text:{text_folder}", "bytes", cache, 0.2)


@pytest.fixture(scope="module")
def halves(text_folder, cache) -> tuple[TokenStore, ...]:
    return tuple(prepare(f"text:{text_folder}", "bytes", cache, 0.2, half=half) for half in ("a", "b"))


def sets(store: TokenStore, config: RunConfig) -> dict[str, Probe]:
    return probe_sets(config, mixture_of(config, (store,)))


def rows(probe: Probe | np.ndarray) -> set[bytes]:
    tokens = probe.tokens if isinstance(probe, Probe) else probe.reshape(-1, CONTEXT + 1)
    return {row.tobytes() for row in tokens}


def consumed(store: TokenStore, config: RunConfig, steps: int) -> np.ndarray:
    return train_batches(mixture_of(config, (store,)), config.seed, 0, steps, config.batch)


def test_seen_windows_are_windows_of_the_prefix(store):
    config = run()
    seen = sets(store, config)["seen"]
    assert len(seen.tokens) == 200 and rows(seen) <= rows(consumed(store, config, config.windows // 4 + 1))


@pytest.mark.parametrize("seed", [0, 1])
def test_before_an_epoch_is_over_only_consumed_windows_are_seen(store, seed):
    config = run(steps=30, windows=1000).model_copy(update={"seed": seed})
    seen = sets(store, config)["seen"]
    assert len(seen.tokens) == 120 and rows(seen) == rows(consumed(store, config, 30))
    fewer = run(steps=30, windows=50).model_copy(update={"seed": seed})
    assert rows(sets(store, fewer)["seen"]) < rows(consumed(store, config, 30))


def test_runs_that_consumed_everything_are_measured_on_the_same_windows(store):
    one, other = sets(store, run()), sets(store, run(batch=7).model_copy(update={"seed": 2}))
    for name in ("seen", "heldout"):
        assert (one[name].tokens == other[name].tokens).all()


@pytest.mark.parametrize(("name", "side"), [("seen", "train"), ("heldout", "heldout")])
def test_a_row_is_what_one_document_has_in_one_window(store, name, side):
    probe = sets(store, run())[name]
    stream, offsets = np.asarray(getattr(store, side)), getattr(store, f"{side}_offsets")
    document_of = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    groups = getattr(store, f"{side}_groups")
    for tokens, targets in zip(probe.tokens, probe.target_row, strict=True):
        window = probe.window[targets[0]]
        start = window * CONTEXT
        assert (stream[start : start + CONTEXT + 1] == tokens).all()
        documents = document_of[start + 1 : start + CONTEXT + 1]
        assert (probe.document[targets] == documents).all() and (probe.window[targets] == window).all()
        assert (probe.group[targets] == groups[documents]).all()
        assert (probe.source[targets] == store.group_sources[groups[documents]]).all()
    assert (np.bincount(probe.target_row.ravel()) == probe.token_counts).all() and (probe.token_counts > 0).all()
    assert probe.byte_counts.sum() == (probe.tokens[:, 1:] < 256).sum()
    assert len(set(zip(probe.window, probe.document, strict=True))) == len(probe.window)


def test_losses_are_added_up_by_row(store):
    probe = sets(store, run(windows=20))["heldout"]
    losses = np.random.default_rng(0).random(probe.target_row.shape).astype(np.float32)
    sums = probe.sums(losses)
    assert sums.sum() == pytest.approx(float(losses.astype(np.float64).sum()), rel=1e-12)
    assert sums[3] == pytest.approx(float(losses[probe.target_row == 3].sum(dtype=np.float64)))


def test_a_twin_is_measured_on_what_the_other_sees_and_shares_no_group_with_it(halves):
    config = run(half="a", unique=30_000)
    mine, others = (mixture_of(c, (s,)) for c, s in zip((config, config.twin()), halves, strict=True))
    ours, theirs = probe_sets(config, mine, others), probe_sets(config.twin(), others, mine)
    assert (ours["other"].tokens == theirs["seen"].tokens).all()
    assert (ours["other"].group == theirs["seen"].group).all()
    assert (ours["heldout"].tokens == theirs["heldout"].tokens).all()
    names = halves[0].group_names
    assert names == halves[1].group_names
    parts = [{names[g] for g in ours[name].group} for name in ("seen", "other", "heldout")]
    assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])


def test_of_a_mixture_each_part_has_its_share_of_the_probes(text_folder, cache):
    stores = tuple(prepare(f"text:{text_folder / name}", "bytes", cache, 0.2) for name in ("asyncio", "email"))
    config = run(domain="0.25 one + 0.75 other", windows=100)
    probes = probe_sets(config, mixture_of(config, stores))
    for probe in probes.values():
        assert len(probe.tokens) == 100
        second = probe.group >= len(stores[0].group_names)
        assert len(set(probe.window[second])) == 75 and len(set(probe.window[~second])) == 25
    held = probes["heldout"]
    documents = len(stores[0].heldout_groups)
    # Documents are numbered part after part, like groups.
    assert ((held.document >= documents) == (held.group >= len(stores[0].group_names))).all()


def test_effective_groups_are_those_of_the_windows_read(store):
    config = run(steps=50)
    mixture = mixture_of(config, (store,))
    document_of = np.repeat(np.arange(len(store.train_groups)), np.diff(store.train_offsets))
    read = window_index(np.arange(10 * 4, 30 * 4), config.windows, config.seed)
    counts = np.bincount(store.train_groups[document_of[read * CONTEXT + CONTEXT // 2]])
    assert effective_groups(config, mixture, 10, 30) == pytest.approx(counts.sum() ** 2 / (counts**2).sum())


def test_small_streams_give_what_they_have_and_too_small_ones_are_refused(tmp_path):
    for k in range(40):
        (tmp_path / f"{k}.txt").write_text(f"number {k} of some short texts, all of which end in {k * k} " * 3)
    store = prepare(f"text:{tmp_path}", "bytes", tmp_path / "cache", 0.2)
    config = run(unique=400, windows=10**6)
    probes = sets(store, config)
    held = len(store.heldout)
    assert len(probes["seen"].tokens) == 399 // CONTEXT and len(probes["heldout"].tokens) == (held - 1) // CONTEXT
    long = Mixture((store,), (1,), held)
    with pytest.raises(InputError, match=f"less than {held}, the tokens of held-out text"):
        probe_sets(config, long)


def test_draws_read_and_are_measured_on_other_text(store):
    context, few = CONTEXT, run(steps=50, windows=20, unique=50 * CONTEXT + 1)
    pool, held = ((len(stream) - 1) // context for stream in (store.train, store.heldout))
    draws = [few.model_copy(update={"data": few.data.model_copy(update={"draw": draw})}) for draw in range(6)]
    assert pool > 6 * 50 and held > 6 * 20  # there is text enough for all of them
    for draw, config in enumerate(draws):
        piece = store.train[draw * 50 * context : (draw + 1) * 50 * context + 1].astype(np.int32)
        expected = {piece[i * context : (i + 1) * context + 1].tobytes() for i in range(50)}
        assert rows(consumed(store, config, 13)) == expected and rows(sets(store, config)["seen"]) <= expected
    held_out = [sets(store, config)["heldout"] for config in draws]
    assert len(set().union(*(set(probe.window) for probe in held_out))) == 6 * 20


def test_a_small_probe_is_part_of_the_large_one(halves):
    config = run(steps=100, windows=40, half="a").model_copy(update={"seed": 3})
    config = config.model_copy(update={"data": config.data.model_copy(update={"draw": 2})})
    own, other = (mixture_of(each, (store,)) for each, store in zip((config, config.twin()), halves, strict=True))
    large, small = probe_sets(config, own, other), probe_sets(config, own, other, 8)
    for name, probe in small.items():
        assert len(probe.tokens) == 8 and rows(probe) <= rows(large[name])
