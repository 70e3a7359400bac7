"""What isogap does on this machine's accelerator: one table for each part, and all figures as JSON.

python scripts/accelerator.py --seconds 470 --to accelerator.json

resume    all architectures train, are killed three times and resume: are the numbers the same to the last bit?
mfu       model FLOP/s utilization at 1M, 10M, 50M and 124M parameters, by exact operations and as PaLM counts them, and
          the program's memory against the estimate of `isogap plan`. Elsewhere 50.3M had 39.8 % on one H100.
packed    throughput of 1 to 512 models of 1M parameters side by side, with their memory
bfloat16  losses in bfloat16 against float32
pilot     gaps of twins on Python's library against those of the same runs on the CPU

Each part has a process of its own, and a share of the time that is left; a part that fails or is stopped ends no other.
What was left out says why. It needs no network and no files. The exit status is 1 if a part failed or resumed runs
differ.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from harness.files import write_json

HERE = Path(__file__).resolve().parent
# Share of the time that each part may take of what it and those after it have, in the order in which they run. What a
# part leaves goes to those after it.
SHARES = {"device": 15, "resume": 200, "mfu": 85, "packed": 85, "bfloat16": 35, "pilot": 50}


def run_part(part: str, seconds: float, small: bool) -> dict[str, Any]:
    """The rows that a part wrote, its seconds, and `problem`: in words why it did not come to its end, or None."""
    with tempfile.TemporaryDirectory() as folder:
        rows, log = Path(folder) / "rows", Path(folder) / "log"
        command = [sys.executable, str(HERE / "accelerator_parts.py"), part, str(rows), str(seconds)]
        began, problem = time.monotonic(), None
        with open(log, "w") as file:
            # In a group of its own, so that the processes that it started are stopped with it.
            child = subprocess.Popen(
                [*command, *["--small"] * small], stdout=file, stderr=file, start_new_session=True, cwd=HERE.parent
            )
            try:
                status = child.wait(seconds)
                if status:
                    last = log.read_text().strip().splitlines()[-1:]
                    problem = f"exit {status}: {''.join(last)[:300]}"
            except subprocess.TimeoutExpired:
                problem = f"stopped: it has a share of {seconds:.0f} s of the time"
            finally:
                _stop(child)
        lines = rows.read_text().splitlines() if rows.exists() else []
    taken = round(time.monotonic() - began, 1)
    return {"rows": [json.loads(line) for line in lines], "seconds": taken, "problem": problem}


def _stop(child: subprocess.Popen) -> None:
    """Kill what is left of its group."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    child.wait()


def table_of(found: dict[str, Any]) -> Table:
    """A part's rows, with a column for each name that one of them has."""
    table = Table()
    names = list(dict.fromkeys(name for row in found["rows"] for name in row))
    for name in names:
        table.add_column(name.replace("_", " "), justify="left" if name == "skipped" else "right", overflow="fold")
    for row in found["rows"]:
        table.add_row(*(_cell(name, row.get(name)) for name in names))
    return table


def _cell(name: str, value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    if isinstance(value, float) and name.startswith("mfu"):
        return f"{value:.1%}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def failed(parts: dict[str, dict[str, Any]]) -> bool:
    """Whether a part did not come to its end by itself, or a resumed run's numbers differ."""
    differs = any(row.get("identical") is False for found in parts.values() for row in found["rows"])
    return differs or any(found["problem"] for found in parts.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=470.0, help="for all parts together")
    parser.add_argument("--parts", nargs="+", choices=SHARES, default=list(SHARES))
    parser.add_argument("--to", type=Path, default=Path("accelerator.json"), help="the file of JSON")
    parser.add_argument("--small", action="store_true", help="sizes for a test on a CPU")
    args = parser.parse_args()
    end, console = time.monotonic() + args.seconds, Console(width=None if sys.stdout.isatty() else 140)
    asked, parts = [part for part in SHARES if part in args.parts], {}
    for at, part in enumerate(asked):
        left = end - time.monotonic()
        parts[part] = run_part(part, left * SHARES[part] / sum(SHARES[later] for later in asked[at:]), args.small)
        if part == "packed":
            parts[part]["rows"].sort(key=lambda row: row["slots"])
        problem, seconds = parts[part]["problem"], parts[part]["seconds"]
        console.print(f"{part}, {seconds:.0f} s" + (f"; {problem}" if problem else ""), markup=False, highlight=False)
        if parts[part]["rows"]:
            console.print(table_of(parts[part]))
        write_json(args.to, {"small": args.small, "parts": parts})  # after each, so that nothing is lost
    sys.exit(failed(parts))


if __name__ == "__main__":
    main()
