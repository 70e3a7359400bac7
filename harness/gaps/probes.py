"""Fixed sets of windows on which a run is measured: seen in training, held out, and seen by its twin alone."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Int32, Int64

from harness.data.mixture import Mixture, heldout_windows, locate, read_windows, share_out
from harness.data.permutation import mix
from harness.data.windows import window_index
from harness.gaps.estimators import effective_number
from sweeps.config import RunConfig


@dataclass(frozen=True)
class Probe:
    """Windows to evaluate, cut exactly as in training. A row is the part of one document that lies in one window.

    Attributes:
        tokens: inputs and targets of each window.
        target_row: the row that each target belongs to.
        window: for each row, the number of its window in the mixture's stream.
        document, group, source: for each row, its document, group and source, numbered across the parts of the mixture.
            Groups and sources have the same numbers in both halves of twins and on both sides of the split.
        token_counts, byte_counts: for each row, the number of targets and of their UTF-8 bytes.
    """

    tokens: Int32[np.ndarray, "windows context+1"]
    target_row: Int32[np.ndarray, "windows context"]
    window: Int32[np.ndarray, "rows"]
    document: Int32[np.ndarray, "rows"]
    group: Int32[np.ndarray, "rows"]
    source: Int32[np.ndarray, "rows"]
    token_counts: Int64[np.ndarray, "rows"]
    byte_counts: Int64[np.ndarray, "rows"]

    def sums(self, losses: Float[np.ndarray, "windows context"]) -> Float[np.ndarray, "rows"]:
        """The sum over each row of the losses of its targets."""
        return np.bincount(self.target_row.ravel(), losses.astype(np.float64).ravel(), len(self.window))


def probe_sets(config: RunConfig, mixture: Mixture, other: Mixture | None = None) -> dict[str, Probe]:
    """The probes `seen` and `heldout` of a run, and `other`, what its twin sees.

    `seen` is a uniform sample of the windows that the run reads, which are not all windows if it ends within its first
    epoch; each part of a mixture gives its share of them. `heldout` is a uniform sample of the held-out windows in the
    same shares. Samples are drawn by a hash of the window, so that runs that read the same windows are measured on the
    same ones, and a run's `other` is its twin's `seen`.

    Args:
        mixture, other: what the run reads, and what its twin reads if it has one.

    Raises:
        InputError: the held-out text is shorter than one window.
    """
    size = config.probe.windows
    heldout = heldout_windows(mixture)
    wanted = share_out(size, tuple(map(float, mixture.windows)))
    sets = {
        "seen": _probe(mixture, "train", _seen(config, mixture.windows), mixture.windows),
        "heldout": _probe(mixture, "heldout", _sample([np.arange(most) for most in heldout], heldout, wanted), heldout),
    }
    if other is not None:
        sets["other"] = _probe(other, "train", _seen(config.twin(), other.windows), other.windows)
    return sets


def effective_groups(config: RunConfig, mixture: Mixture, first: int, stop: int) -> float:
    """The effective number of groups of documents among the windows that the steps first .. stop - 1 read.

    A window counts for the group in which its middle token lies.
    """
    positions = np.arange(first * config.batch, stop * config.batch)
    part, number = locate(window_index(positions, config.windows, config.seed), mixture.windows)
    counts = []
    for which, store in enumerate(mixture.stores):
        middles = number[part == which] * mixture.context + mixture.context // 2
        documents = np.searchsorted(store.train_offsets, middles, side="right") - 1
        counts.append(np.bincount(store.train_groups[documents], minlength=1))
    return effective_number(np.concatenate(counts))


def _seen(config: RunConfig, windows: tuple[int, ...]) -> Int[np.ndarray, "sampled"]:
    consumed, total = np.arange(sum(windows)), config.steps * config.batch
    if total < len(consumed):
        consumed = np.sort(window_index(np.arange(total), len(consumed), config.seed))
    part, number = locate(consumed, windows)
    of_parts = [number[part == which] for which in range(len(windows))]
    wanted = share_out(config.probe.windows, tuple(float(len(in_part)) for in_part in of_parts))
    return _sample(of_parts, windows, wanted)


def _sample(
    candidates: list[Int[np.ndarray, "candidates"]], windows: tuple[int, ...], sizes: tuple[int, ...]
) -> Int[np.ndarray, "sampled"]:
    """The candidates of each part with the smallest hashes, `sizes` of them, in the order of the mixture's stream.

    `windows` is how many windows each part has.
    """
    sampled = []
    for in_part, start, size in zip(candidates, np.cumsum((0, *windows[:-1])), sizes, strict=True):
        order = np.argsort(mix(in_part.astype(np.uint64) + np.uint64(0x5851F42D4C957F2D)), kind="stable")
        sampled.append(start + np.sort(in_part[order[:size]]))
    return np.concatenate(sampled)


def _probe(mixture: Mixture, side: str, index: Int[np.ndarray, "windows"], windows: tuple[int, ...]) -> Probe:
    part, number = locate(index, windows)
    tokens = read_windows(mixture, side, index, windows)
    context = mixture.context
    places = number[:, None] * context + np.arange(1, context + 1)
    document, group, source = (np.empty(places.shape, np.int64) for _ in range(3))
    sizes = np.zeros(places.shape, np.int64)
    documents_before = groups_before = sources_before = 0
    for which, store in enumerate(mixture.stores):
        in_part = part == which
        offsets, groups = getattr(store, f"{side}_offsets"), getattr(store, f"{side}_groups")
        numbers = np.searchsorted(offsets, places[in_part], side="right") - 1
        document[in_part] = documents_before + numbers
        group[in_part] = groups_before + groups[numbers]
        source[in_part] = sources_before + store.group_sources[groups[numbers]]
        sizes[in_part] = store.token_bytes[tokens[in_part, 1:]]
        documents_before += len(groups)
        groups_before += len(store.group_names)
        sources_before += len(store.source_names)
    # Within a window documents follow one another: a row begins where the document changes.
    begins = np.ones(document.shape, bool)
    begins[:, 1:] = document[:, 1:] != document[:, :-1]
    row = np.cumsum(begins.ravel()) - 1
    first = np.flatnonzero(begins)
    return Probe(
        tokens=tokens,
        target_row=row.reshape(places.shape).astype(np.int32),
        window=np.repeat(index, context)[first].astype(np.int32),
        document=document.ravel()[first].astype(np.int32),
        group=group.ravel()[first].astype(np.int32),
        source=source.ravel()[first].astype(np.int32),
        token_counts=np.bincount(row, minlength=len(first)),
        byte_counts=np.bincount(row, sizes.ravel(), len(first)).astype(np.int64),
    )
