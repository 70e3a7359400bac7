"""What is known to be true of a simulated table, and what a fit of that table made of it."""

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.fit.result import FitResult, number, span
from sweeps.errors import InputError


@dataclass(frozen=True)
class Truth:
    """The world a table is from. `isogap simulate` writes one beside each table, `isogap fit --truth` reads it.

    Attributes:
        oracle: the simulator's name.
        regime: where its answers hold and how exactly, in sentences.
        law: id of the law whose constants are known.
        parameters: true values, by the names of that law's parameters or identified combinations.
        settings: what the simulator was asked for.
        cost: what the simulation took, with its unit.
        where: the rows of the table in which that law holds, as `isogap fit --where` takes it; None for all.
        roles: columns of the table that fill roles of the law, as `--set` takes them.
    """

    oracle: str
    regime: str
    law: str
    parameters: Mapping[str, float]
    settings: Mapping[str, float | int | str]
    cost: str
    where: str | None = None
    roles: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """One true value beside what the fit says of it.

    Attributes:
        estimate: None where the fit does not identify it.
        covered: whether the 95 % interval holds the truth; None where there is no interval.
        error: estimate minus truth.
    """

    name: str
    truth: float
    estimate: float | None
    se: float | None
    ci_low: float | None
    ci_high: float | None
    covered: bool | None
    error: float | None


def compare(result: FitResult, truth: Truth) -> list[Found]:
    """What a fit says of every true value; a constant of which the fit knows nothing is left out.

    Raises:
        InputError: the fitted law has none of the constants.
    """
    known = {
        name: (value.estimate if value.identified else None, value.se, value.ci_low, value.ci_high)
        for name, value in result.parameters.items()
    }
    for entry in result.identifiability["identified_combinations"]:
        known[entry["combination"]] = (entry["estimate"], entry["se"], entry["ci_low"], entry["ci_high"])
    rows = []
    for name, value in truth.parameters.items():
        if name not in known:
            continue
        estimate, se, low, high = known[name]
        if estimate is None:
            rows.append(Found(name, value, None, None, None, None, None, None))
            continue
        held = None if low is None and high is None else (low is None or low <= value) and (
            high is None or value <= high
        )  # fmt: skip
        rows.append(Found(name, value, estimate, se, low, high, held, estimate - value))
    if not rows:
        raise InputError("--truth", "parameters", ", ".join(truth.parameters), f"constants of the law {result.law}")
    return rows


def render_truth(found: list[Found], truth: Truth) -> str:
    """The comparison as text for a terminal."""
    console = Console(width=110, record=True, file=io.StringIO())
    table = Table(title=Text(f"beside the truth of {truth.oracle}: {truth.regime}", "italic"), title_justify="left")
    for heading in ("constant", "truth", "estimate", "error", "95 % interval", "holds the truth"):
        table.add_column(heading, justify="left" if heading == "constant" else "right")
    for row in found:
        told = "not identified" if row.estimate is None else number(row.estimate)
        held = "" if row.covered is None else ("yes" if row.covered else "no")
        interval = "" if row.estimate is None else span(row.ci_low, row.ci_high)
        table.add_row(*map(Text, (row.name, number(row.truth), told, number(row.error), interval, held)))
    console.print(table)
    return console.export_text()


def path_of(table: Path) -> Path:
    """Where the truth of a table stands: `gaps.truth.json` beside `gaps.csv`."""
    return table.with_name(f"{table.stem}.truth.json")


def fit_command(table: Path | str, truth: Truth) -> str:
    """The command that fits the true law to the table and compares."""
    options = "".join(f" --set {role}={column}" for role, column in truth.roles.items())
    options += "" if truth.where is None else f' --where "{truth.where}"'
    return f"isogap fit {table} --law {truth.law}{options} --truth {path_of(Path(table))}"


def write_truth(truth: Truth, table: Path) -> None:
    path_of(table).write_text(json.dumps(asdict(truth), indent=1, allow_nan=False) + "\n")


def read_truth(path: Path) -> Truth:
    """
    Raises:
        InputError: no such file, or one that `isogap simulate` did not write.
    """
    expected = "a truth.json written by `isogap simulate`"
    try:
        truth = Truth(**json.loads(path.read_text()))
        values = dict(truth.parameters)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(path, "--truth", type(error).__name__, expected) from None
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(path, f"parameters.{name}", value, "a number")
    return truth
