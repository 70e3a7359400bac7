"""Tables for a terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.fit.table import CONTAMINATED
from harness.launch.watch import eta, header
from harness.record.configs import read_configs
from harness.record.lock import is_live
from harness.record.progress import Reached, progress
from harness.record.status import read_status, run_folder
from harness.record.table import ESTIMATORS
from harness.terminal import lines, print_rows
from sweeps.plan import Plan, PlannedCell, pack_time


def sweep_status(out: Path) -> tuple[list[dict[str, Any]], Reached]:
    """A row a run (run_id, architecture, domain, tokenizer, state, step, steps, tokens, train_loss in nats, reason),
    and how far the whole is; no rows while a new sweep is prepared.

    Raises:
        InputError: the folder holds no sweep.
    """
    live = is_live(out)
    if live and not (out / "manifest.json").is_file():
        return [], progress(out, {}, ())[0]
    runs = {config.run_id: config for config in read_configs(out)}  # an id is a hash, 20 us
    statuses = [read_status(run_folder(out, run_id), config.steps, live=live) for run_id, config in runs.items()]
    reached, statuses = progress(out, runs, statuses)
    rows = [
        {
            "run_id": run_id,
            "architecture": config.model.architecture,
            "domain": config.data.domain,
            "tokenizer": config.data.tokenizer,
            "state": status.state,
            "step": status.step,
            "steps": status.steps,
            "tokens": status.step * config.batch_tokens,
            "train_loss": status.train_loss,
            "reason": status.reason,
        }
        for (run_id, config), status in zip(runs.items(), statuses, strict=True)
    ]
    return rows, reached


def print_status(out: Path, rows: Sequence[dict[str, Any]], reached: Reached) -> None:
    """The rows, how much is done, how fast it goes, and the time to go."""
    if not rows:
        print(f"{out}: being prepared: its text is read, and its runs are not laid out yet")
        return
    print("\n".join(lines(rows)))
    share = reached.flops / reached.flops_total if reached.flops_total else 1.0
    to_go = "ETA: not running" if reached.eta_seconds is None and not reached.live else eta(reached)
    print(", ".join(f"{count} {state}" for state, count in sorted(reached.states.items())))
    print(f"{reached.tokens:,} of {reached.tokens_total:,} tokens, {share:.0%} of the FLOPs; {to_go}")
    if reached.live:
        print(header(reached))


def _shared(planned: Plan) -> str:
    return "" if planned.processes == 1 else f", {planned.processes} processes at a time"


def print_plan(planned: Plan) -> None:
    """Cells, packs, what cannot run and why, and the sums."""
    names = "run_id block architecture tokenizer domain seed N_total N_nonembedding N_active D U epochs u flops".split()
    running = [cell for cell in planned.cells if cell.reason is None]
    _print_lines("cells", [{name: cell.row[name] for name in names} | _rounded(cell) for cell in running])
    rows = [
        {"pack": p.pack_id, "runs": len(p.runs), "slots": p.slots, "turns": p.turns,
         "architecture": p.runs[0].model.architecture, "seconds": sum(pack_time(p, planned.calibration))}
        for p in planned.packs
    ]  # fmt: skip
    _print_lines("packs", rows)
    for cell in planned.infeasible:
        print(f"infeasible: {cell.cell.block} seed {cell.cell.seed}: {cell.reason}")
    seconds = planned.seconds
    print(
        f"{planned.name}: {len(running)} runs in {len(planned.packs)} packs, {planned.compiles} compiles, "
        f"{planned.flops:.3g} FLOPs ({planned.flops_6nd:.3g} as 6ND); {len(planned.infeasible)} infeasible cells"
    )
    print(
        f"about {seconds.total:.0f} s on {planned.calibration.device}{_shared(planned)}: "
        f"{seconds.compile:.0f} s compiling, {seconds.training:.0f} s training, "
        f"{seconds.evaluation:.0f} s evaluating; text not yet prepared comes on top"
    )


def _print_lines(title: str, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        print("\n".join([title, *lines(rows), ""]))


def _rounded(cell: PlannedCell) -> dict[str, Any]:
    return {
        **{name: cell.row.get(name) for name in ("half", "predicted_gap", "detectable_gap", "detectable")},
        "flops": float(cell.row["flops"]),  # exact, it is as wide as three columns
        "memory_MB": round(cell.memory_bytes / 1e6) if cell.memory_bytes else None,
    }


def print_laws() -> None:
    """Every law with what it reads (a role of several columns has a star), its formula and source."""
    from harness.fit.laws.law import get_law, law_ids

    for law in map(get_law, law_ids()):
        reads = ", ".join((*law.columns, *(f"{role}*" for role in law.vectors), *law.labels))
        print(f"{law.id}: {law.response} of {reads}\n    {law.formula}\n    {law.source}")


def print_law(law_id: str) -> None:
    """One law: formula, columns, parameters with their published values, and those of several cases where there are."""
    from harness.fit.laws.law import get_law, published_cases

    law = get_law(law_id)
    print(
        f"{law.id}: {law.formula}\nresponse {law.response}; columns {', '.join(law.roles[:-1])}\nsource: {law.source}"
    )
    print_rows([{"parameter": p.name, "published": p.published, "low": p.low, "high": p.high} for p in law.parameters])
    if cases := published_cases(law_id):
        print("published constants")
        print_rows(cases)


def print_gaps(rows: Sequence[dict[str, Any]]) -> None:
    """A line a cell: the estimators with their standard errors, and what they make of text that was truly unseen."""
    lines_ = []
    for row in rows:
        line = {
            name: row[name]
            for name in ("run_id", "architecture", "domain", "tokenizer", "N_nonembedding", "D", "epochs")
        }
        line["seeds"] = row["seeds"]
        line |= {name: _measured(row, f"gap_{name}") for name in ESTIMATORS}
        line |= {"detectable": row["minimum_detectable_gap"], "law says": row["predicted_gap"]}
        line["tokens for it"] = row["eval_tokens_needed"]
        line |= {f"z {name}": row[f"placebo_{name}_z"] for name in ESTIMATORS}
        lines_.append(line | {"lag": row["online_lag"], "converged": row["converged"]})
    print("\n".join(lines(lines_)) if lines_ else "no finished run")
    for name, what in (("document_sd", "mean losses"), ("paired_sd", "differences between twins")):
        known = [row[name] for row in rows if row[name] is not None]
        if known:
            print(f"spread of {what} over groups of documents: {sum(known) / len(known):.3g} nats per token")
    leaking = sorted({row["domain"] for row in rows if (row["contamination"] or 0.0) > CONTAMINATED})
    if leaking:
        print(f"warning: more than 1 % of the held-out 13-grams stand in the training text of {', '.join(leaking)}")


def _measured(row: dict[str, Any], name: str) -> str:
    value, se = row[name], row[f"{name}_se"]
    return "" if value is None else f"{value:.4f} +- {se:.4f}"


def print_gap_details(found: dict[str, Any]) -> None:
    """A run's gap by recency, over its evaluations, and the false alarms of its placebos."""
    print(found["run_id"])
    for name in ("recency", "trajectory"):
        print()
        _print_lines(name, found[name])
    told = ", ".join(f"{name} {count}" for name, count in found["placebos"].items())
    print(f"of 20 placebos beyond 1.96 standard errors: {told}")
