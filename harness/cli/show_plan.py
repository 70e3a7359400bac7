"""`isogap plan`: cells, packs, what cannot run and why, the totals, and what the sweep would find out."""

import json
import operator
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from harness.data.windows import shared_windows
from harness.gaps.cells import cell_key
from harness.launch.planning import plan_sweep
from harness.terminal import print_lines, working
from sweeps.cells import refusals
from sweeps.config import RunConfig
from sweeps.errors import InputError
from sweeps.plan import Plan, PlannedCell, pack_time
from sweeps.spec import WantedDraws


def show_plan(sweep: str, json_: bool, cache: Path | None, calibrate: bool, power: bool, pilot: Path | None) -> None:
    """Plan a sweep and print the plan.

    Raises:
        InputError: a bad spec; or with `power` a sweep without text here, or of fewer cells than the law has constants.
    """
    planned = plan_sweep(sweep, cache, calibrate, pilot)
    if not json_:
        _print_plan(planned)
    if not power:
        if json_:
            print(planned.to_json())
        return
    design = cells_of(planned)
    if len(design) < 7:
        expected = "at least 7 cells whose text is on this machine, for the constants of the law gap"
        raise InputError(sweep, "--power", f"{len(design)} cells", expected)
    with working("simulating sweeps"):
        from harness.fit.gap_law.power import power_of  # JAX, which a plan alone does not need

        found = power_of(design)
    if json_:
        print(json.dumps(json.loads(planned.to_json()) | {"power": found.to_dict()}, allow_nan=False))
    else:
        print("\n".join(found.lines()))


def cells_of(planned: Plan) -> pd.DataFrame:
    """The cells of a plan whose text is on this machine: N, D, U, the published law's gap, and the error to expect."""
    rows = []
    for config, cells in _by_cell(planned).items():
        row = cells[0].row
        if "cell_se" in row:
            sizes = (row["N_nonembedding"], config.tokens, config.data.unique_tokens)
            rows.append((*sizes, row["predicted_gap"], row["cell_se"], row["detectable"]))
    return pd.DataFrame(rows, columns=["N", "D", "U", "predicted_gap", "G_se", "detectable"])


def _by_cell(planned: Plan) -> dict[RunConfig, list[PlannedCell]]:
    groups: dict[RunConfig, list[PlannedCell]] = defaultdict(list)
    for cell in planned.cells:
        if cell.reason is None and cell.cell.config is not None:
            groups[cell_key(cell.cell.config)].append(cell)
    return groups


def _print_plan(planned: Plan) -> None:
    """Print cells, packs, what cannot run and why, and the totals."""
    names = "run_id block architecture tokenizer domain seed N_total N_nonembedding N_active D U epochs u flops".split()
    running = [cell for cell in planned.cells if cell.reason is None]
    print_lines("cells", [{name: cell.row[name] for name in names} | _rounded(cell) for cell in running])
    times = [pack_time(pack, planned.calibration) for pack in planned.packs]
    rows = [
        {"pack": p.pack_id, "runs": len(p.runs), "slots": p.slots, "turns": p.turns,
         "architecture": p.runs[0].model.architecture, "seconds": sum(time)}
        for p, time in zip(planned.packs, times, strict=True)
    ]  # fmt: skip
    print_lines("packs", rows)
    for line in refusals((cell.cell.block, str(cell.reason)) for cell in planned.infeasible):
        print(f"infeasible: {line}")
    _print_draws(planned)
    seconds = planned.seconds
    several = "" if planned.processes == 1 else f", {planned.processes} processes at a time"
    print(
        f"{planned.name}: {len(running)} runs in {len(planned.packs)} packs, {planned.compiles} compiles, "
        f"{planned.flops:.3g} FLOPs ({planned.flops_6nd:.3g} as 6ND); {len(planned.infeasible)} infeasible cells"
    )
    print(
        f"about {seconds.total:.0f} s on {planned.calibration.device}{several}: "
        f"{seconds.compile:.0f} s compiling, {seconds.training:.0f} s training{_added(planned, times)}, "
        f"{seconds.evaluation:.0f} s evaluating; text not yet prepared comes on top"
    )
    design = cells_of(planned)
    if len(design) and _asks_for_gaps(planned):
        print(
            f"power: {design['detectable'].sum()} of {len(design)} cells would detect the gap that the published law"
            " predicts for them in four of five repetitions"
        )


def _asks_for_gaps(planned: Plan) -> bool:
    """Whether a sweep is made to measure gaps: it has twins, or draws until a gap is known."""
    cells = _by_cell(planned).items()
    return any(run.data.half or isinstance(own[0].cell.settings["draws"], WantedDraws) for run, own in cells)


def _added(planned: Plan, times: Sequence[tuple[float, float]]) -> str:
    """What interventions add to the time of training, as a part of it; `times` are those of the packs."""
    added = [pack.shape.added_time / (1 + pack.shape.added_time) for pack in planned.packs]
    training = [training for training, _ in times]
    share = sum(map(operator.mul, training, added)) / (sum(training) or 1.0)
    return f" ({share:.0%} of it by interventions)" if share else ""


def _print_draws(planned: Plan) -> None:
    """Say which cells get more draws than are planned, and how much text the draws of a cell share."""
    wanted, shared = [], []
    for config, cells in _by_cell(planned).items():
        draws, pool = cells[0].cell.settings["draws"], cells[0].row.get("pool_windows")
        if isinstance(draws, WantedDraws):
            wanted.append(draws.most)
        most = draws.most if isinstance(draws, WantedDraws) else draws
        if pool is not None and (share := shared_windows(most, config.windows, pool)) > 0.0:
            shared.append(share)
    if wanted:
        print(
            f"draws: {len(wanted)} cells begin with few draws, which are planned here, and get more until their gap is"
            f" known as wanted: up to {sum(wanted)} draws in all"
        )
    if shared:
        print(
            f"draws: the text does not reach for disjoint draws of {len(shared)} cells: up to {max(shared):.0%} of"
            " their windows are read by several draws"
        )


def _rounded(cell: PlannedCell) -> dict[str, Any]:
    """Further columns of a cell in the listing, with its FLOPs in few digits."""
    return {
        **{name: cell.row.get(name) for name in ("half", "predicted_gap", "detectable_gap", "detectable")},
        "flops": float(cell.row["flops"]),  # the exact number is as wide as three columns
        "memory_MB": round(cell.memory_bytes / 1e6) if cell.memory_bytes else None,
    }
