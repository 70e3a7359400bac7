"""Fixed sets of windows on which a run is measured: seen in training, held out, and seen by its twin alone."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Int32, Int64

from harness.data.mixture import Mixture, heldout_windows, locate, read_windows, share_out
from harness.data.permutation import mix
from harness.data.store import TokenStore
from harness.data.windows import window_index
from harness.gaps.estimators import effective_number
from models.intervention import probes_of
from models.objective import counted
from sweeps.cells import objective_columns
from sweeps.config import RunConfig
from sweeps.errors import InputError


@dataclass(frozen=True)
class Probe:
    """Windows to evaluate, cut exactly as in training. A row is the part of one document that lies in one window.

    There are no rows without a target that counts.

    Attributes:
        tokens: inputs and targets of each window.
        counted: which targets count (`models.objective.counted`); the losses of the others are not used.
        target_row: the row that each target that counts belongs to.
        window: for each row, the number of its window in the mixture's stream.
        document, group, source: for each row, its document, group and source, numbered across the parts of the mixture.
            Groups and sources have the same numbers in both halves of twins and on both sides of the split.
        token_counts, byte_counts: for each row, the number of its targets that count, and of their UTF-8 bytes.
    """

    tokens: Int32[np.ndarray, "windows context+1"]
    counted: Bool[np.ndarray, "windows context"]
    target_row: Int32[np.ndarray, "windows context"]
    window: Int32[np.ndarray, "rows"]
    document: Int32[np.ndarray, "rows"]
    group: Int32[np.ndarray, "rows"]
    source: Int32[np.ndarray, "rows"]
    token_counts: Int64[np.ndarray, "rows"]
    byte_counts: Int64[np.ndarray, "rows"]

    def sums(self, losses: Float[np.ndarray, "windows context"]) -> Float[np.ndarray, "rows"]:
        """The sum over each row of the losses of its targets."""
        return np.bincount(self.target_row[self.counted], losses[self.counted].astype(np.float64), len(self.window))


def probe_sets(
    config: RunConfig, mixture: Mixture, other: Mixture | None = None, size: int | None = None
) -> dict[str, Probe]:
    """The probes `seen` and `heldout` of a run, and `other`, what its twin sees.

    `seen` is a uniform sample of the windows that the run reads, which are not all windows if it ends within its first
    epoch; each part of a mixture gives its share of them. `heldout` is a uniform sample of the held-out windows in the
    same shares. Samples are drawn by a hash of the window, so that runs that read the same windows are measured on the
    same ones, and a run's `other` is its twin's `seen`. Another draw is measured on other held-out windows, as far as
    they reach.

    Args:
        mixture, other: what the run reads, and what its twin reads if it has one.
        size: the number of windows of each probe, instead of the configured number; smaller probes are parts of larger
            ones.

    Raises:
        InputError: the held-out text is shorter than one window, or no token of it counts.
    """
    most = config.probe.windows
    size = most if size is None else size
    heldout, shares = heldout_windows(mixture), tuple(map(float, mixture.windows))
    firsts = [config.data.draw * each for each in share_out(most, shares)]
    index = _sample([np.arange(count) for count in heldout], heldout, share_out(size, shares), firsts)
    sets = {
        "seen": _seen_probe(config, mixture, size),
        "heldout": _probe(config, mixture, "heldout", index, *locate(index, heldout)),
    }
    if size == most and not sets["heldout"].counted.any():
        ranges = objective_columns(config.model)["counted"]
        where = "last tokens" if config.model.aim.forecast else "predicted tokens"
        expected = f"ids that occur among the {where} of the {size} held-out windows, or more probe_windows"
        raise InputError(config.run_id, "counted", ranges, expected)
    if other is not None:
        sets["other"] = _seen_probe(config.twin(), other, size)
    return sets


def own_probes(config: RunConfig, mixture: Mixture, heldout: Probe) -> dict[str, Probe]:
    """The probes of a run's interventions: held-out windows that are in none of the other probes.

    Draws take other windows, as far as they reach.

    Args:
        heldout: the run's probe of that name.

    Raises:
        InputError: there are too few held-out windows.
    """
    sizes = probes_of(config.interventions)
    if not sizes:
        return {}
    windows, wanted = heldout_windows(mixture), sum(sizes.values())
    free = np.setdiff1d(np.arange(sum(windows)), heldout.window)
    if wanted > len(free):
        held = f"at most {len(free)}, the held-out windows that are left"
        raise InputError(config.run_id, ", ".join(sizes), wanted, held)
    order = free[np.argsort(mix(free.astype(np.uint64) + np.uint64(0x14057B7EF767814F)), kind="stable")]
    taken = order[(config.data.draw * wanted + np.arange(wanted)) % len(order)]
    ends = np.cumsum(list(sizes.values()))
    parts = dict(zip(sizes, np.split(taken, ends[:-1]), strict=True))
    return {name: _probe(config, mixture, "heldout", index, *locate(index, windows)) for name, index in parts.items()}


def domain_probe(config: RunConfig, store: TokenStore, size: int) -> Probe:
    """The probe of another domain: held-out windows of its store, of which draws take others, as far as they reach.

    Args:
        size: the number of windows; smaller probes are parts of larger ones.

    Raises:
        InputError: the held-out text is shorter than one window.
    """
    mixture = Mixture((store,), (0,), config.model.context)
    windows = heldout_windows(mixture)
    index = _sample([np.arange(windows[0])], windows, (size,), [config.data.draw * config.probe.windows])
    return _probe(config, mixture, "heldout", index, *locate(index, windows))


def _seen_probe(config: RunConfig, mixture: Mixture, size: int) -> Probe:
    index = _seen(config, mixture.windows, size)
    return _probe(config, mixture, "train", index, *mixture.places(index))


def effective_groups(config: RunConfig, mixture: Mixture, first: int, stop: int) -> float:
    """The effective number of groups of documents among the windows that the steps first .. stop - 1 read.

    A window counts for the group in which its middle token lies.
    """
    positions = np.arange(first * config.batch, stop * config.batch)
    part, number = mixture.places(window_index(positions, config.windows, config.seed))
    counts = []
    for which, store in enumerate(mixture.stores):
        middles = number[part == which] * mixture.context + mixture.context // 2
        documents = np.searchsorted(store.train_offsets, middles, side="right") - 1
        counts.append(np.bincount(store.train_groups[documents], minlength=1))
    return effective_number(np.concatenate(counts))


def _seen(config: RunConfig, windows: tuple[int, ...], size: int) -> Int[np.ndarray, "sampled"]:
    consumed, total = np.arange(sum(windows)), config.steps * config.batch
    if total < len(consumed):
        consumed = np.sort(window_index(np.arange(total), len(consumed), config.seed))
    part, number = locate(consumed, windows)
    of_parts = [number[part == which] for which in range(len(windows))]
    wanted = share_out(size, tuple(float(len(in_part)) for in_part in of_parts))
    return _sample(of_parts, windows, wanted, [0] * len(windows))


def _sample(
    candidates: list[Int[np.ndarray, "candidates"]],
    windows: tuple[int, ...],
    sizes: tuple[int, ...],
    firsts: list[int],
) -> Int[np.ndarray, "sampled"]:
    """`sizes` candidates of each part, from the places `firsts` on in the order of their hashes, cyclically.

    They are returned in the order of the mixture's stream. `windows` is how many windows each part has.
    """
    sampled = []
    starts = np.cumsum((0, *windows[:-1]))
    for in_part, start, size, first in zip(candidates, starts, sizes, firsts, strict=True):
        order = np.argsort(mix(in_part.astype(np.uint64) + np.uint64(0x5851F42D4C957F2D)), kind="stable")
        taken = (first + np.arange(min(size, len(in_part)))) % max(1, len(in_part))
        sampled.append(start + np.sort(in_part[order[taken]]))
    return np.concatenate(sampled)


def _probe(
    config: RunConfig,
    mixture: Mixture,
    side: str,
    index: Int[np.ndarray, "windows"],
    part: Int[np.ndarray, "windows"],
    number: Int[np.ndarray, "windows"],
) -> Probe:
    """The windows that the run numbers `index`, which have these numbers in the streams of these parts."""
    context = mixture.context
    tokens = read_windows([getattr(store, side) for store in mixture.stores], context, part, number)
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
    counts = counted(config.model, tokens)
    token_counts = np.bincount(row, counts.ravel(), len(first)).astype(np.int64)
    kept = token_counts > 0
    row, first = np.where(kept, np.cumsum(kept) - 1, 0)[row], first[kept]
    return Probe(
        tokens=tokens,
        counted=counts,
        target_row=row.reshape(places.shape).astype(np.int32),
        window=np.repeat(index, context)[first].astype(np.int32),
        document=document.ravel()[first].astype(np.int32),
        group=group.ravel()[first].astype(np.int32),
        source=source.ravel()[first].astype(np.int32),
        token_counts=token_counts[kept],
        byte_counts=np.bincount(row[counts.ravel()], sizes[counts], len(first)).astype(np.int64),
    )
