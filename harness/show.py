"""Tables for a terminal."""

import collections
import datetime
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from harness.record.progress import Reached, progress
from harness.record.status import is_live, read_status, run_folder
from harness.record.table import read_configs
from sweeps.plan import Plan, PlannedCell, pack_time


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def print_rows(rows: Sequence[dict[str, Any]], title: str | None = None) -> None:
    """Rows with the same keys, as a table; numbers to the right."""
    table = Table(title=title, title_justify="left")
    for name in rows[0] if rows else ():
        numeric = all(isinstance(row[name], int | float) or row[name] is None for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_text(value) for value in row.values()))
    console = Console(markup=False)  # a reason or a path may hold brackets
    # A table wider than a terminal is folded there, but goes whole into a pipe or file.
    (console if console.is_terminal else Console(width=200, markup=False)).print(table)


@contextmanager
def working(what: str) -> Iterator[None]:
    """A spinner with the time spent, for work whose length is not known; on stderr, and only in a terminal."""
    columns, console = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()), Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        progress.add_task(what, total=None)
        yield


def sweep_status(out: Path) -> tuple[list[dict[str, Any]], Reached]:
    """A row a run (run_id, architecture, domain, tokenizer, state, step, steps, tokens, train_loss in nats, reason),
    and how far the whole is."""
    live, configs = is_live(out), read_configs(out)
    statuses = [read_status(run_folder(out, config.run_id), config.steps, live=live) for config in configs]
    rows = [
        {
            "run_id": config.run_id,
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
        for config, status in zip(configs, statuses, strict=True)
    ]
    return rows, progress(out, configs, statuses)


def print_status(rows: Sequence[dict[str, Any]], reached: Reached) -> None:
    """The rows, how much is done, and the time to go."""
    print_rows(rows)
    counts = collections.Counter(row["state"] for row in rows)
    share = reached.flops / reached.flops_total if reached.flops_total else 1.0
    eta = reached.eta_seconds
    to_go = "not running" if eta is None and "running" not in counts else "not known yet"
    if eta is not None:
        to_go = str(datetime.timedelta(seconds=math.ceil(eta)))
    print(", ".join(f"{count} {state}" for state, count in sorted(counts.items())))
    print(f"{reached.tokens:,} of {reached.tokens_total:,} tokens, {share:.0%} of the FLOPs; ETA: {to_go}")


def print_plan(planned: Plan) -> None:
    """Cells, packs, what cannot run and why, and the sums."""
    names = "run_id block architecture tokenizer domain seed N_total N_nonembedding N_active D U epochs u flops".split()
    running = [cell for cell in planned.cells if cell.reason is None]
    print_rows([{name: cell.row[name] for name in names} | _memory(cell) for cell in running], "cells")
    rows = [
        {"pack": p.pack_id, "runs": len(p.runs), "slots": p.slots, "turns": p.turns,
         "architecture": p.runs[0].model.architecture, "seconds": sum(pack_time(p, planned.calibration))}
        for p in planned.packs
    ]  # fmt: skip
    print_rows(rows, "packs")
    for cell in planned.infeasible:
        print(f"infeasible: {cell.cell.block} seed {cell.cell.seed}: {cell.reason}")
    seconds = planned.seconds
    print(
        f"{planned.name}: {len(running)} runs in {len(planned.packs)} packs, {planned.compiles} compiles, "
        f"{planned.flops:.3g} FLOPs ({planned.flops_6nd:.3g} as 6ND); {len(planned.infeasible)} infeasible cells"
    )
    print(
        f"about {seconds.total:.0f} s on {planned.calibration.device}: {seconds.compile:.0f} s compiling, "
        f"{seconds.training:.0f} s training, {seconds.evaluation:.0f} s evaluating; text not yet prepared comes on top"
    )


def _memory(cell: PlannedCell) -> dict[str, Any]:
    return {"memory_MB": round(cell.memory_bytes / 1e6) if cell.memory_bytes else None}


def print_laws() -> None:
    """A line a law."""
    from harness.fit.law import get_law, law_ids

    laws = [get_law(law_id) for law_id in law_ids()]
    print_rows([{"id": law.id, "response": law.response, "formula": law.formula, "source": law.source} for law in laws])


def print_law(law_id: str) -> None:
    """One law: formula, columns, parameters with their published values."""
    from harness.fit.law import get_law

    law = get_law(law_id)
    print(f"{law.id}: {law.formula}\nresponse {law.response}; columns {', '.join(law.columns)}\nsource: {law.source}")
    print_rows([{"parameter": p.name, "published": p.published, "low": p.low, "high": p.high} for p in law.parameters])
