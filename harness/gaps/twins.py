"""Applies the estimators to twins, two runs on disjoint halves of the documents, and writes pair.json.

The twin of a run is trained neither on the run's text nor on the held-out text, so it is the control of the probe gap.
Each of the two is also evaluated on what the other has seen, which gives the twin gap document by document. Both gaps
are contrasts of differences of losses, which vary far less from one document to the next than losses do.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from harness.files import json_bytes
from harness.gaps.document_losses import DocumentLosses, ProbeRows, read_documents
from harness.gaps.estimators import NO_GAP, Gap, Side, control_gap, halves, probe_gap, spread, twin_gap
from harness.gaps.one_run import finite_or_none, gap_columns
from harness.record.status import run_folder
from sweeps.config import RunConfig

# A standard error is trusted only if it comes from at least this many groups of documents.
FEWEST = 10


def pair_files(out: Path, config: RunConfig, own: DocumentLosses) -> dict[Path, bytes]:
    """pair.json of a run and of its twin, to be written; empty until both have been evaluated at their ends.

    The run that ends last writes both files; if the two end at once, both write the same bytes.
    """
    twin = config.twin()
    other = read_documents(run_folder(out, twin.run_id))
    if config.steps not in other.steps:
        return {}
    pairs = {config: (own, other), twin: (other, own)}
    # Every pair has its own halves for its placebos: with the same halves in all, the draws of a cell were not
    # independent, and what its documents have by chance in common with one half of the text stayed in their mean.
    seed = int(min(config.run_id, twin.run_id), 16)
    return {
        run_folder(out, run.run_id) / "pair.json": json_bytes(measure_pair(losses, losses_of_twin, run.steps, seed))
        for run, (losses, losses_of_twin) in pairs.items()
    }


def measure_pair(own: DocumentLosses, twin: DocumentLosses, step: int, seed: int) -> dict[str, float | None]:
    """The content of pair.json for a run, in nats per token, or in bits per byte if the name ends in `_bpb`.

    The placebos are the same estimators between two halves of the held-out text, which neither run has seen, drawn with
    the seed. document_sd and paired_sd, the standard deviations over groups of documents of a mean loss and of a mean
    difference, are computed back from the standard errors.
    """
    values: dict[str, float] = {}
    nats = loss_differences(own, twin, step)
    for suffix, (seen, other, heldout) in (("", nats), ("_bpb", loss_differences(own, twin, step, bits=True))):
        values |= gap_columns(f"gap_twin{suffix}", twin_gap(seen, other))
        values |= gap_columns(f"gap_control{suffix}", control_gap(seen, heldout))
    placebo = placebo_gaps(own, twin, step, seed)
    values |= {
        **gap_columns("placebo_twin", placebo["twin"]),
        **gap_columns("placebo_control", placebo["control"]),
        "document_sd": spread(own.at(step, "heldout").side()),
        "paired_sd": spread(nats[2]),
    }
    return finite_or_none(values)


def loss_differences(
    own: DocumentLosses, twin: DocumentLosses, step: int, *, bits: bool = False
) -> tuple[Side, Side, Side]:
    """The sides of L - L', run less twin: on what the run has seen, on what the twin has seen, and on held-out text."""
    seen = own.at(step, "seen").side(twin.at(step, "other"), bits=bits)
    other = own.at(step, "other").side(twin.at(step, "seen"), bits=bits)
    return seen, other, own.at(step, "heldout").side(twin.at(step, "heldout"), bits=bits)


def gap_sides(
    estimator: str, own: DocumentLosses, twin: DocumentLosses | None, step: int, *, bits: bool = False
) -> tuple[Side, ...]:
    """The sides whose contrast is the gap of a run by an estimator; for `online` its held-out side alone.

    Without the losses of a twin (it may have failed after its gap was measured) they are those of the probe gap, whose
    error is larger.
    """
    if estimator in ("online", "probe") or twin is None:
        seen, heldout = (own.at(step, name).side(bits=bits) for name in ("seen", "heldout"))
        return (heldout,) if estimator == "online" else (heldout, seen._replace(weight=-1.0))
    seen, other, heldout = loss_differences(own, twin, step, bits=bits)
    if estimator == "control":
        return heldout, seen._replace(weight=-1.0)
    return other._replace(weight=0.5), seen._replace(weight=-0.5)


def placebo_gaps(own: DocumentLosses, twin: DocumentLosses | None, step: int, seed: int) -> dict[str, Gap]:
    """Every estimator between two halves of the held-out documents, drawn by a hash with the seed: truly zero gaps."""
    heldout = own.at(step, "heldout")
    gaps = {"probe": probe_gap(*halves(heldout.side(), seed))}
    if twin is not None:
        paired = halves(heldout.side(twin.at(step, "heldout")), seed)
        gaps |= {"control": control_gap(*paired), "twin": twin_gap(*paired)}
    return gaps


def recency(config: RunConfig, own: DocumentLosses, twin: DocumentLosses | None = None) -> list[dict[str, Any]]:
    """The gap by how often text was seen, and by how long ago: from D/2 to D tokens, from D/4 to D/2, and so on.

    Returns:
        rows: `since_from` and `since_to` in tokens read since the last visit (None for any), `visits` (None for any),
        documents, gap_probe, and for twins gap_twin, with standard errors. The last range begins at 0, because
        halving it would leave fewer than ten groups of documents, or less than a batch.
    """
    seen, other = own.at(config.steps, "seen"), own.at(config.steps, "other")
    return [
        {
            **part._asdict(),
            "documents": len(np.unique(seen.document[part.rows(seen)])),
            **_gaps_on(part.rows, own, twin, config.steps),
        }
        for part in _read_parts(config, [probe for probe in (seen, other) if len(probe)])
    ]


class _ReadPart(NamedTuple):
    """Text last read `since_from` to `since_to` tokens ago (None: at any time), `visits` times (None: any number)."""

    since_from: int | None
    since_to: int | None
    visits: int | None

    def rows(self, probe: ProbeRows) -> Bool[np.ndarray, "rows"]:
        """Which rows of a probe belong to this part."""
        chosen = probe.visits > 0
        if self.since_from is not None and self.since_to is not None:
            chosen &= (probe.since >= self.since_from) & (probe.since < self.since_to)
        return chosen if self.visits is None else chosen & (probe.visits == self.visits)

    def has_enough(self, probes: Sequence[ProbeRows]) -> bool:
        """Whether each probe has enough groups of documents for a standard error."""
        return all(len(np.unique(probe.group[self.rows(probe)])) >= FEWEST for probe in probes)


def _read_parts(config: RunConfig, probes: Sequence[ProbeRows]) -> Iterator[_ReadPart]:
    counts = sorted({int(n) for probe in probes for n in np.unique(probe.visits)})
    for visits in counts if len(counts) > 1 else ():
        part = _ReadPart(None, None, visits)
        if part.has_enough(probes):
            yield part
    high = config.tokens
    while (middle := high // 2) >= config.batch_tokens and _ReadPart(0, middle, None).has_enough(probes):
        part = _ReadPart(middle, high, None)
        if all(part.rows(probe).any() for probe in probes):
            yield part
        high = middle
    yield _ReadPart(0, high, None)


def trajectory(config: RunConfig, own: DocumentLosses, twin: DocumentLosses | None = None) -> list[dict[str, Any]]:
    """The gaps after every evaluation, on what had been seen by then; they show whether a gap has converged.

    A row has step, tokens, epochs, gap_probe, and for twins gap_twin, with standard errors.
    """
    rows = []
    for step in own.steps:
        if (own.at(step, "seen").visits > 0).any():
            row = {"step": step, "tokens": step * config.batch_tokens, "epochs": step * config.batch / config.windows}
            other = twin if twin is not None and step in twin.steps else None
            rows.append(row | _gaps_on(lambda probe: probe.visits > 0, own, other, step))
    return rows


def midway_gaps(config: RunConfig, own: DocumentLosses, twin: DocumentLosses) -> tuple[Gap, Gap]:
    """The twin gap midway through the first epoch, on what was read by then, and on what was not read yet.

    The windows of a run are read in random order. When half of them have been read, most of those that have not are of
    documents of which other windows have: the second gap is what a model gains on new windows of documents that it
    knows in part, and its share of the first is the part of the gap that is memory of documents, not of windows.
    Midway is the evaluation after which the share of windows that were read is nearest to one half.

    Returns:
        the two gaps, without a value if no evaluation lies within the first epoch.
    """
    halves_read = {step: abs(step * config.batch / config.windows - 0.5) for step in own.steps if step in twin.steps}
    step = min(halves_read, key=lambda step: halves_read[step], default=0)
    seen, other = own.at(step, "seen"), own.at(step, "other")
    if not 0 < step * config.batch < config.windows:
        return NO_GAP, NO_GAP
    lead, lag, _ = loss_differences(own, twin, step)
    read, unread = (
        twin_gap(lead.only(chosen(seen)), lag.only(chosen(other)))
        for chosen in (lambda probe: probe.visits > 0, lambda probe: probe.visits == 0)
    )
    return read, unread


def _gaps_on(
    chosen: Callable[[ProbeRows], Bool[np.ndarray, "rows"]], own: DocumentLosses, twin: DocumentLosses | None, step: int
) -> dict[str, float | None]:
    """The probe gap, and with a twin the twin gap, on the chosen rows of what was seen."""
    seen, other = own.at(step, "seen"), own.at(step, "other")
    gaps = gap_columns("gap_probe", probe_gap(seen.side().only(chosen(seen)), own.at(step, "heldout").side()))
    if twin is not None:
        lead, lag, _ = loss_differences(own, twin, step)
        gaps |= gap_columns("gap_twin", twin_gap(lead.only(chosen(seen)), lag.only(chosen(other))))
    return finite_or_none(gaps)
