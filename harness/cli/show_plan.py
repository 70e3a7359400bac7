"""`isogap plan`: cells, packs, what cannot run and why, and the totals."""

from pathlib import Path
from typing import Any

from harness.launch.planning import plan_sweep
from harness.terminal import print_lines
from sweeps.plan import Plan, PlannedCell, pack_time


def show_plan(sweep: str, json_: bool, cache: Path | None, calibrate: bool) -> None:
    """Plan a sweep and print the plan."""
    planned = plan_sweep(sweep, cache, calibrate)
    if json_:
        print(planned.to_json())
    else:
        _print_plan(planned)


def _print_plan(planned: Plan) -> None:
    """Print cells, packs, what cannot run and why, and the totals."""
    names = "run_id block architecture tokenizer domain seed N_total N_nonembedding N_active D U epochs u flops".split()
    running = [cell for cell in planned.cells if cell.reason is None]
    print_lines("cells", [{name: cell.row[name] for name in names} | _rounded(cell) for cell in running])
    rows = [
        {"pack": p.pack_id, "runs": len(p.runs), "slots": p.slots, "turns": p.turns,
         "architecture": p.runs[0].model.architecture, "seconds": sum(pack_time(p, planned.calibration))}
        for p in planned.packs
    ]  # fmt: skip
    print_lines("packs", rows)
    for cell in planned.infeasible:
        print(f"infeasible: {cell.cell.block} seed {cell.cell.seed}: {cell.reason}")
    seconds = planned.seconds
    several = "" if planned.processes == 1 else f", {planned.processes} processes at a time"
    print(
        f"{planned.name}: {len(running)} runs in {len(planned.packs)} packs, {planned.compiles} compiles, "
        f"{planned.flops:.3g} FLOPs ({planned.flops_6nd:.3g} as 6ND); {len(planned.infeasible)} infeasible cells"
    )
    print(
        f"about {seconds.total:.0f} s on {planned.calibration.device}{several}: "
        f"{seconds.compile:.0f} s compiling, {seconds.training:.0f} s training, "
        f"{seconds.evaluation:.0f} s evaluating; text not yet prepared comes on top"
    )


def _rounded(cell: PlannedCell) -> dict[str, Any]:
    """Further columns of a cell in the listing, with its FLOPs in few digits."""
    return {
        **{name: cell.row.get(name) for name in ("half", "predicted_gap", "detectable_gap", "detectable")},
        "flops": float(cell.row["flops"]),  # the exact number is as wide as three columns
        "memory_MB": round(cell.memory_bytes / 1e6) if cell.memory_bytes else None,
    }
