"""Fixed sets of windows on which the gap is measured: seen in training, and held out."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Int32, Int64

from harness.data.batches import cut_windows, window_count, window_index
from harness.data.permutation import mix
from harness.data.store import TokenStore
from sweeps.errors import InputError


@dataclass(frozen=True)
class Probe:
    """Windows to evaluate, cut exactly as in training.

    Attributes:
        tokens: inputs and targets, one window a row.
        target_group: cluster of each target: the source file it stems from, numbered 0..clusters - 1 within the probe.
        groups: for each cluster its index into the store's group_names.
        documents: number of documents of each cluster that the targets touch.
        target_bytes: UTF-8 bytes of all targets.
    """

    tokens: Int32[np.ndarray, "windows context+1"]
    target_group: Int32[np.ndarray, "windows context"]
    groups: Int32[np.ndarray, "clusters"]
    documents: Int64[np.ndarray, "clusters"]
    target_bytes: int

    @property
    def token_counts(self) -> Int64[np.ndarray, "clusters"]:
        """Number of targets of each cluster."""
        return np.bincount(self.target_group.ravel(), minlength=len(self.groups))


def probe_sets(
    store: TokenStore, context: int, unique_tokens: int, seed: int, steps: int, batch: int, probe_windows: int
) -> dict[str, Probe]:
    """The probes `seen` and `heldout` of a run.

    `seen` is a uniform sample of the windows that the run's first `steps` steps consume: after less than one epoch
    only those are eligible, so for a measurement in the first epoch give the steps done by then. `heldout` is a
    uniform sample of the windows of the held-out stream, the same for all runs on a store. Samples are drawn by hash
    of the window, so runs that consumed the same windows are measured on the same ones.

    Args:
        unique_tokens: U, the prefix of the train stream that the run trains on.
        seed: the run's data seed (its order of windows).
        steps: steps of training done, at least 1.
        batch: windows a step.
        probe_windows: windows in each probe; fewer where there are not so many.

    Raises:
        InputError: either stream is shorter than one window.
    """
    windows = window_count(unique_tokens, context)
    consumed = np.arange(windows)
    if steps * batch < windows:
        consumed = window_index(np.arange(steps * batch), windows, seed)
    seen = _sample(consumed, probe_windows)
    held = _sample(np.arange(_held_out_windows(len(store.heldout), context)), probe_windows)
    return {
        "seen": _probe(store, store.train, store.train_offsets, store.train_groups, context, seen),
        "heldout": _probe(store, store.heldout, store.heldout_offsets, store.heldout_groups, context, held),
    }


def _held_out_windows(tokens: int, context: int) -> int:
    if tokens <= context:
        expected = f"less than {tokens}, the tokens of held-out text there are to measure on"
        raise InputError("data", "context", context, expected)
    return window_count(tokens, context)


def _sample(windows: Int[np.ndarray, "candidates"], size: int) -> Int[np.ndarray, "windows"]:
    """The `size` windows with the smallest hashes, in the order of the stream."""
    order = np.argsort(mix(windows.astype(np.uint64) + np.uint64(0x5851F42D4C957F2D)), kind="stable")
    return np.sort(windows[order[:size]])


def _probe(
    store: TokenStore,
    stream: Int[np.ndarray, "tokens"],
    offsets: Int[np.ndarray, "documents+1"],
    document_groups: Int[np.ndarray, "documents"],
    context: int,
    index: Int[np.ndarray, "windows"],
) -> Probe:
    tokens = cut_windows(stream, context, index)
    places = index[:, None] * context + np.arange(1, context + 1)
    documents = np.searchsorted(offsets, places, side="right") - 1
    groups, clusters = np.unique(document_groups[documents], return_inverse=True)
    return Probe(
        tokens=tokens,
        target_group=clusters.reshape(places.shape).astype(np.int32),
        groups=groups.astype(np.int32),
        documents=np.bincount(np.searchsorted(groups, document_groups[np.unique(documents)]), minlength=len(groups)),
        target_bytes=int(store.token_bytes[tokens[:, 1:]].sum(dtype=np.int64)),
    )
