"""The gaps that twins, two runs on disjoint halves of the documents, measure together: the twin and the control gap.

The twin of a run is trained neither on the run's text nor on the held-out text, so it is the control of the probe gap.
Each of the two is also evaluated on what the other has seen, which gives the twin gap document by document. Both gaps
are contrasts of differences of losses, which vary far less from one document to the next than losses do.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from harness.files import json_bytes
from harness.gaps.contrast import Gap, Side, control_gap, in_first_half, probe_gap, spread, twin_gap
from harness.gaps.document_losses import Documents, ProbeRows, read_documents
from harness.gaps.one_run import finite, gap_columns
from harness.record.status import run_folder
from sweeps.config import RunConfig

# The standard error of fewer groups of documents than this cannot be trusted.
FEWEST = 10


def pair_files(out: Path, config: RunConfig, own: Documents) -> dict[Path, bytes]:
    """pair.json of a run and of its twin, to be written; no file before both have been evaluated at their ends.

    The run that ends last writes both files; if the two end at once, both write the same bytes.
    """
    twin = config.twin()
    other = read_documents(run_folder(out, twin.run_id))
    if config.steps not in other.steps:
        return {}
    pairs = {config: (own, other), twin: (other, own)}
    return {
        run_folder(out, run.run_id) / "pair.json": json_bytes(measure_pair(mine, its, run.steps))
        for run, (mine, its) in pairs.items()
    }


def measure_pair(own: Documents, twin: Documents, step: int) -> dict[str, float | None]:
    """The content of pair.json for a run, in nats per token, or in bits per byte if the name ends in `_bpb`.

    Returns:
        gap_twin and gap_control with standard errors; placebo_twin and placebo_control, the same estimators between two
        halves of the held-out text, which neither run has seen; document_sd and paired_sd, the standard deviations over
        groups of documents of a mean loss and of a mean difference, computed back from the standard errors.
    """
    values: dict[str, float] = {}
    nats = loss_differences(own, twin, step)
    for suffix, (seen, other, held) in (("", nats), ("_bpb", loss_differences(own, twin, step, bits=True))):
        values |= gap_columns(f"gap_twin{suffix}", twin_gap(seen, other))
        values |= gap_columns(f"gap_control{suffix}", control_gap(seen, held))
    placebo = placebo_gaps(own, twin, step, 0)
    values |= {
        **gap_columns("placebo_twin", placebo["twin"]),
        **gap_columns("placebo_control", placebo["control"]),
        "document_sd": spread(own.at(step, "heldout").side()),
        "paired_sd": spread(nats[2]),
    }
    return finite(values)


def loss_differences(own: Documents, twin: Documents, step: int, *, bits: bool = False) -> tuple[Side, Side, Side]:
    """The sides of L - L', run less twin: on what the run has seen, on what the twin has seen, and on held-out text."""
    seen = own.at(step, "seen").side(twin.at(step, "other"), bits=bits)
    other = own.at(step, "other").side(twin.at(step, "seen"), bits=bits)
    return seen, other, own.at(step, "heldout").side(twin.at(step, "heldout"), bits=bits)


def placebo_gaps(own: Documents, twin: Documents | None, step: int, seed: int) -> dict[str, Gap]:
    """Every estimator between two halves of the held-out documents, drawn by a hash with the seed: truly zero."""
    held = own.at(step, "heldout")
    first = in_first_half(held.group, seed)
    gaps = {"probe": probe_gap(held.side().only(first), held.side().only(~first))}
    if twin is not None:
        paired = held.side(twin.at(step, "heldout"))
        gaps["control"] = control_gap(paired.only(first), paired.only(~first))
        gaps["twin"] = twin_gap(paired.only(first), paired.only(~first))
    return gaps


def recency(config: RunConfig, own: Documents, twin: Documents | None = None) -> list[dict[str, Any]]:
    """The gap by how often text was seen, and by how long ago, in halvings of the run.

    Returns:
        rows: `since_from` and `since_to` in tokens read since the last visit (None for any), `visits` (None for any),
        documents, gap_probe, and for twins gap_twin, with standard errors. The last halving with ten groups of
        documents holds all text that was seen later, too.
    """
    step = config.steps
    seen, held = own.at(step, "seen"), own.at(step, "heldout")
    other = own.at(step, "other")
    rows = []
    for low, high, visits in _bins(config, seen, other):
        mine, its = (_chosen(rows_, low, high, visits) for rows_ in (seen, other))
        row: dict[str, Any] = {"since_from": low, "since_to": high, "visits": visits}
        row["documents"] = len(np.unique(seen.document[mine]))
        row |= _estimate("probe", probe_gap(seen.side().only(mine), held.side()))
        if twin is not None:
            lead, lag, _ = loss_differences(own, twin, step)
            row |= _estimate("twin", twin_gap(lead.only(mine), lag.only(its)))
        rows.append(row)
    return rows


def _bins(config: RunConfig, *seen: ProbeRows) -> Iterator[tuple[int | None, int | None, int | None]]:
    """(since at least, since below, visits) of each bin."""
    probes = [rows for rows in seen if len(rows)]
    counts = sorted({int(n) for rows in probes for n in np.unique(rows.visits)})
    for visits in counts if len(counts) > 1 else ():
        if all(_enough(rows, None, None, visits) for rows in probes):
            yield None, None, visits
    high = config.tokens
    while True:
        middle = high // 2
        recent = all(_enough(rows, 0, middle, None) for rows in probes)
        if middle < config.batch_tokens or not recent:
            yield 0, high, None
            return
        if all(_chosen(rows, middle, high, None).any() for rows in probes):
            yield middle, high, None
        high = middle


def _enough(rows: ProbeRows, low: int | None, high: int | None, visits: int | None) -> bool:
    return len(np.unique(rows.group[_chosen(rows, low, high, visits)])) >= FEWEST


def _chosen(rows: ProbeRows, low: int | None, high: int | None, visits: int | None) -> np.ndarray:
    since, count = rows.since, rows.visits
    chosen = count > 0
    if low is not None and high is not None:
        chosen &= (since >= low) & (since < high)
    return chosen if visits is None else chosen & (count == visits)


def trajectory(config: RunConfig, own: Documents, twin: Documents | None = None) -> list[dict[str, Any]]:
    """The gaps after every evaluation, on what had been seen by then; they show whether a gap has converged.

    Returns:
        rows: step, tokens, epochs, gap_probe and for twins gap_twin with standard errors.
    """
    rows = []
    for step in own.steps:
        seen, held = own.at(step, "seen"), own.at(step, "heldout")
        known = seen.visits > 0
        if not known.any():
            continue
        row: dict[str, Any] = {"step": step, "tokens": step * config.batch_tokens}
        row["epochs"] = step * config.batch / config.windows
        row |= _estimate("probe", probe_gap(seen.side().only(known), held.side()))
        if twin is not None and step in twin.steps:
            lead, lag, _ = loss_differences(own, twin, step)
            row |= _estimate("twin", twin_gap(lead.only(known), lag.only(own.at(step, "other").visits > 0)))
        rows.append(row)
    return rows


def _estimate(name: str, gap: Gap) -> dict[str, float | None]:
    return finite(gap_columns(f"gap_{name}", gap))
