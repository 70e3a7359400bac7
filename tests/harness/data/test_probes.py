import numpy as np
import pytest

from harness.data.batches import batches, window_count
from harness.data.probes import Probe, probe_sets
from harness.data.store import TokenStore, prepare
from sweeps.errors import InputError

CONTEXT, UNIQUE = 64, 60_000


@pytest.fixture(scope="module")
def store(text_folder, cache) -> TokenStore:
    return prepare(f"text:{text_folder}", "bytes", cache, 0.2)


def sets(store: TokenStore, seed=0, steps=10_000, batch=4, probe_windows=200) -> dict[str, Probe]:
    return probe_sets(store, CONTEXT, UNIQUE, seed, steps, batch, probe_windows)


def rows(probe: Probe | np.ndarray) -> set[bytes]:
    tokens = probe.tokens if isinstance(probe, Probe) else probe.reshape(-1, CONTEXT + 1)
    return {row.tobytes() for row in tokens}


def group_of_every_token(store: TokenStore, side: str) -> np.ndarray:
    return np.repeat(getattr(store, f"{side}_groups"), np.diff(getattr(store, f"{side}_offsets")))


def test_seen_windows_are_windows_of_the_prefix(store):
    trained = batches(store.train, CONTEXT, UNIQUE, 0, range(window_count(UNIQUE, CONTEXT)), 1)
    seen = sets(store)["seen"]
    assert len(seen.tokens) == 200 and rows(seen) <= rows(trained)


@pytest.mark.parametrize("seed", [0, 1])
def test_before_an_epoch_is_over_only_consumed_windows_are_seen(store, seed):
    consumed = batches(store.train, CONTEXT, UNIQUE, seed, range(30), 4)
    seen = sets(store, seed, steps=30, batch=4, probe_windows=1000)["seen"]
    assert len(seen.tokens) == 120 and rows(seen) == rows(consumed)
    assert rows(sets(store, seed, steps=30, batch=4, probe_windows=50)["seen"]) < rows(consumed)


def test_runs_that_consumed_everything_are_measured_on_the_same_windows(store):
    one, other = sets(store, seed=1), sets(store, seed=2, batch=7)
    for name in ("seen", "heldout"):
        assert (one[name].tokens == other[name].tokens).all()


@pytest.mark.parametrize(("name", "side"), [("seen", "train"), ("heldout", "heldout")])
def test_clusters_are_the_source_files_of_the_targets(store, name, side):
    probe = sets(store)[name]
    stream, groups = np.asarray(getattr(store, side)), group_of_every_token(store, side)
    windows = {stream[k : k + CONTEXT + 1].astype(np.int32).tobytes(): k for k in range(0, len(stream), CONTEXT)}
    for tokens, clusters in zip(probe.tokens, probe.target_group, strict=True):
        start = windows[tokens.tobytes()]
        assert (probe.groups[clusters] == groups[start + 1 : start + CONTEXT + 1]).all()
    assert probe.token_counts.sum() == probe.target_group.size and (probe.token_counts > 0).all()
    assert probe.target_bytes == (probe.tokens[:, 1:] < 256).sum()


def test_documents_are_counted_with_their_ends(store):
    probe = probe_sets(store, CONTEXT, UNIQUE, 0, 10_000, 4, 10**6)["heldout"]
    assert probe.documents.sum() == len(store.heldout_ids)
    assert probe.documents.tolist() == np.bincount(store.heldout_groups)[probe.groups].tolist()
    assert set(probe.groups) == set(store.heldout_groups)


def test_held_out_windows_are_spread_over_the_files(store):
    # 11 held-out files share the stream in proportion to their lengths; 200 windows miss only the shortest.
    assert len(sets(store)["heldout"].groups) > 0.6 * len(set(store.heldout_groups))


def test_small_streams_give_what_they_have_and_too_small_ones_are_refused(tmp_path):
    for k in range(40):
        (tmp_path / f"{k}.txt").write_text(f"short text {k} " * 3)
    store = prepare(f"text:{tmp_path}", "bytes", tmp_path / "cache", 0.2)
    held = len(store.heldout)
    probes = probe_sets(store, 16, 200, 0, 100, 2, 10**6)
    assert len(probes["seen"].tokens) == 199 // 16 and len(probes["heldout"].tokens) == (held - 1) // 16
    with pytest.raises(InputError, match=f"less than {held}, the tokens of held-out text"):
        probe_sets(store, held, len(store.train), 0, 100, 2, 5)
