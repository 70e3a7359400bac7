"""Whether a cell could detect the gap that the published law predicts; `isogap plan` prints this for each cell."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from harness.data.mixture import available_tokens, stores_of
from harness.data.store import TokenStore
from harness.data.windows import cut_windows
from harness.fit.gap_law.constants import predict_gap
from harness.gaps.estimators import DETECTABLE, tokens_needed
from harness.gaps.pilot_errors import Expected
from models.count import count
from models.objective import counted
from sweeps.cells import Cell
from sweeps.config import RunConfig
from sweeps.errors import InputError
from sweeps.spec import WantedDraws

# Standard deviations over groups of documents, in nats per token: of mean losses, and of the differences between twins.
# Twins of 150,000 parameters had, after one epoch of 2 M tokens of web, code and science, 0.27, 0.55 and 0.35 for
# mean losses, and 0.15, 0.35 and 0.044 for differences. Both grow with the gap. `isogap gaps` prints both for finished
# runs.
DOCUMENT_SD, PAIRED_SD = 0.4, 0.15
# Held-out windows by which the share of targets that count is estimated.
_LOOKED_AT = 256


def occupied(draws: float, places: float) -> float:
    """The expected number of different places that are hit when `draws` places are drawn at random out of `places`."""
    return places * -math.expm1(draws * math.log1p(-1 / places)) if places > 1 else min(draws, places)


def expectation(
    opened: Callable[..., TokenStore], pilot: Callable[[RunConfig], Expected | None] | None = None
) -> Callable[[Cell], dict[str, Any]]:
    """A function that applies `expect` to cells whose text is on this machine, and gives an empty dict for others.

    Args:
        opened: `harness.data.store.prepare` with its argument `cache` bound; it opens each text once.
        pilot: what a pilot says of a run (`pilot_errors.expected_from`), where there is one.
    """

    def of(cell: Cell) -> dict[str, Any]:
        config = cell.config
        assert config is not None
        try:
            stores = stores_of(opened, config.data)
        except InputError:
            return {}
        found = pilot(config) if pilot else None
        return expect(config, stores, cell.settings["draws"], found and found.error)

    return of


def expect(
    config: RunConfig, stores: tuple[TokenStore, ...], draws: int | WantedDraws = 1, measured: float | None = None
) -> dict[str, Any]:
    """The gap that the published law predicts for a run, and the gap that its cell can detect.

    Args:
        draws: those of the cell. Where as many are wanted as the gap needs, the cell's error is the wanted one, or that
            of the most draws.
        measured: the standard error of one draw that a pilot says; None to assume typical spreads of documents.

    Returns:
        predicted_gap: the gap of the published law at this N (without embeddings) and D, nats per token.
        pool_windows: windows of text that there are for the draws of a cell like this.
        expected_se: the standard error to expect of the gap of one draw, by the best estimator (twins, if any).
        cell_se: that of the mean over the draws.
        detectable_gap: the smallest mean over the draws that is found in four of five repetitions.
        detectable: whether the predicted gap is at least as large.
        eval_tokens_needed: evaluation tokens that count, on each side, which detect the predicted gap, in documents as
            long as here.
    """
    predicted = float(predict_gap(N=count(config.model).nonembedding, D=config.tokens))
    parts = zip(stores, config.data.parts, strict=True)
    seen = sum(_groups(store, share * config.data.unique_tokens) for store, (share, _) in parts)
    heldout = sum(store.groups_held_out for store in stores)
    in_windows, of_tokens = _counted(config, stores)
    windows = config.probe.windows * in_windows
    on_seen, on_heldout = occupied(windows, seen), occupied(windows, heldout)
    if config.data.half is None:
        se, sd = DOCUMENT_SD * math.sqrt(1 / on_seen + 1 / on_heldout), DOCUMENT_SD * math.sqrt(2)
    else:
        se, sd = PAIRED_SD / 2 * math.sqrt(2 / on_seen), PAIRED_SD / math.sqrt(2)
    if measured is not None:
        se, sd = measured, measured * math.sqrt(on_seen)
    # A side of n documents has the error sd / sqrt(n).
    tokens = config.probe.windows * config.model.context * of_tokens
    needed = tokens_needed(tokens, sd / math.sqrt(on_seen), predicted / DETECTABLE)
    if isinstance(draws, WantedDraws):
        cell_se = max(draws.se or predicted / DETECTABLE, se / math.sqrt(draws.most))
    else:
        cell_se = se / math.sqrt(draws)
    return {
        "predicted_gap": predicted,
        "expected_se": se,
        "cell_se": cell_se,
        "pool_windows": available_tokens(tuple(share for share, _ in config.data.parts), stores)
        // config.model.context,
        "detectable_gap": DETECTABLE * cell_se,
        "detectable": predicted >= DETECTABLE * cell_se * (1 - 1e-9),  # a wanted error is just small enough
        "eval_tokens_needed": float(f"{needed:.2g}"),
    }


def _counted(config: RunConfig, stores: tuple[TokenStore, ...]) -> tuple[float, float]:
    """(The share of windows with a target that counts, the share of targets that count), by held-out windows.

    At least one target is taken to count: a sweep of a text without any is refused when it runs, as is one too short.
    """
    context, in_windows, of_tokens = config.model.context, 0.0, 0.0
    for store, (share, _) in zip(stores, config.data.parts, strict=True):
        windows = min(_LOOKED_AT, (len(store.heldout) - 1) // context)
        if config.model.objective is None or windows < 1:
            return 1.0, 1.0
        counts = counted(config.model, cut_windows(store.heldout, context, np.arange(windows)))
        in_windows += share * max(float(counts.any(axis=1).mean()), 1 / windows)
        of_tokens += share * max(float(counts.mean()), 1 / counts.size)
    return in_windows, of_tokens


def _groups(store: TokenStore, tokens: float) -> float:
    """The expected number of groups of documents in this many tokens of the train stream."""
    documents = tokens / len(store.train) * len(store.train_groups)
    return max(1.0, occupied(documents, store.groups_trained_on))
