"""The losses of documents, which every evaluation records and from which gaps are measured."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from harness.data.windows import window_visits
from harness.gaps.estimators import Side
from harness.gaps.probes import Probe
from harness.record.segments import read_segments
from sweeps.config import RunConfig

LN2 = math.log(2.0)


@dataclasses.dataclass(frozen=True)
class ProbeRows:
    """The losses of one probe after one step; a row is the part of one document that lies in one window.

    Attributes:
        window, document, group, source: what each row is part of, as numbers (see `harness.gaps.probes.Probe`).
        visits: how often the run (for the probe `other`: its twin) has read the window so far.
        since: tokens that this run (or twin) has read since the last visit; -1 without a visit.
        tokens, bytes: how many tokens are predicted, and how many bytes of text these are.
        loss: sum of the losses of these tokens, nats.
    """

    window: Int[np.ndarray, "rows"]
    document: Int[np.ndarray, "rows"]
    group: Int[np.ndarray, "rows"]
    source: Int[np.ndarray, "rows"]
    visits: Int[np.ndarray, "rows"]
    since: Int[np.ndarray, "rows"]
    tokens: Int[np.ndarray, "rows"]
    bytes: Int[np.ndarray, "rows"]
    loss: Float[np.ndarray, "rows"]

    def __len__(self) -> int:
        return len(self.window)

    def only(self, chosen: Bool[np.ndarray, "rows"]) -> "ProbeRows":
        """The chosen rows."""
        return ProbeRows(*(getattr(self, name)[chosen] for name in ROW_COLUMNS))

    def of_windows(self, other: "ProbeRows") -> "ProbeRows":
        """The rows of those windows of which the other has rows."""
        return self.only(np.isin(self.window, other.window))

    def side(self, less: "ProbeRows | None" = None, *, bits: bool = False, by: str = "group") -> Side:
        """The losses as one side of a contrast.

        Args:
            less: the same rows of another model or another step, whose losses are subtracted.
            bits: whether losses are in bits per byte, not in nats per token.
            by: the column that holds the clusters.

        Raises:
            ValueError: `less` has rows of other windows or documents.
        """
        losses = self.loss
        if less is not None:
            for name in ("window", "document", "tokens"):
                if not np.array_equal(getattr(self, name), getattr(less, name)):
                    raise ValueError("losses of other windows")
            losses = losses - less.loss
        counts = self.bytes if bits else self.tokens
        return Side(1.0, losses / LN2 if bits else losses, counts, getattr(self, by))


ROW_COLUMNS = tuple(field.name for field in dataclasses.fields(ProbeRows))
_NONE = ProbeRows(*(np.empty(0, np.float64 if name == "loss" else np.int64) for name in ROW_COLUMNS))


@dataclasses.dataclass(frozen=True)
class DocumentLosses:
    """The losses of all documents of a run, by step and probe."""

    parts: Mapping[tuple[int, str], ProbeRows]

    def at(self, step: int, probe: str) -> ProbeRows:
        """The rows of one probe after a step; no rows if it was not evaluated then."""
        return self.parts.get((step, probe), _NONE)

    @property
    def steps(self) -> list[int]:
        """The steps after which the run was evaluated."""
        return sorted({step for step, _ in self.parts})


def probe_rows(
    config: RunConfig, step: int, probes: Mapping[str, Probe], losses: Mapping[str, Float[np.ndarray, "windows T"]]
) -> dict[str, ProbeRows]:
    """The rows of each probe after a step, from the losses of its targets in nats."""
    rows = {}
    for name, probe in probes.items():
        visits, since = np.zeros(len(probe.window), np.int64), np.full(len(probe.window), -1)
        if name in ("seen", "other"):
            # A twin reads its own windows in the same order, since its batch, seed and number of windows are the same.
            visits, last = window_visits(probe.window, step * config.batch, config.windows, config.seed)
            since = np.where(last >= 0, (step * config.batch - 1 - last) * config.model.context, -1)
        rows[name] = ProbeRows(
            probe.window, probe.document, probe.group, probe.source, visits.astype(np.int32), since,
            probe.token_counts.astype(np.int32), probe.byte_counts.astype(np.int32), probe.sums(losses[name]),
        )  # fmt: skip
    return rows


def segment_columns(evaluations: Iterable[tuple[int, Mapping[str, ProbeRows]]]) -> dict[str, list | np.ndarray]:
    """Evaluations as the columns of a segment: step, probe, and the columns of `ProbeRows`."""
    flat = [(step, name, rows) for step, probes in evaluations for name, rows in probes.items()]
    if not flat:
        return {}
    columns: dict[str, list | np.ndarray] = {
        "step": np.repeat([step for step, _, _ in flat], [len(rows) for _, _, rows in flat]),
        "probe": [name for _, name, rows in flat for _ in range(len(rows))],
    }
    return columns | {name: np.concatenate([getattr(rows, name) for _, _, rows in flat]) for name in ROW_COLUMNS}


def documents_of(table: pd.DataFrame) -> DocumentLosses:
    """The losses in a table with the columns of a segment."""
    parts = {}
    for key, group in table.groupby(["step", "probe"], sort=False) if len(table) else ():
        step, probe = cast(tuple[int, str], key)
        parts[int(step), probe] = ProbeRows(*(np.asarray(group[name]) for name in ROW_COLUMNS))
    return DocumentLosses(parts)


def read_documents(folder: Path) -> DocumentLosses:
    """The losses of a run's folder; InputError if a segment is damaged."""
    return documents_of(read_segments(folder, "documents"))
