"""The known truth of a simulated table, and its comparison with a fit of that table."""

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from harness.fit.laws.law import Law
from harness.fit.laws.registry import get_law, law_ids
from harness.fit.results.result import FitResult, TruthCheck, covers, estimate_cells
from harness.fit.results.shown import TextTable, number
from sweeps.errors import InputError


@dataclass(frozen=True)
class Truth:
    """The simulated world that a table is from. `isogap simulate` writes one beside each table, `isogap fit` reads it.

    Attributes:
        oracle: the simulator's name.
        regime: where the simulator's answers hold and how exactly, in sentences.
        law: id of the law whose constants are known.
        parameters: true values, by the names of that law's parameters or identified combinations.
        settings: the simulator's settings.
        cost: what the simulation cost, with its unit.
        where: a condition on the rows of the table in which that law holds, for `isogap fit --where`; None for all.
        roles: role of the law -> column of the table that fills it, for `--set`.
    """

    oracle: str
    regime: str
    law: str
    parameters: Mapping[str, float]
    settings: Mapping[str, float | int | str]
    cost: str
    where: str | None = None
    roles: Mapping[str, str] = field(default_factory=dict)


def check_law(truth: Truth, law: Law) -> None:
    """Raise InputError unless the law has the true law's response and columns, and some of the known constants."""
    names = {p.name for p in law.parameters} | {c.label for c in law.combinations}
    known = get_law(truth.law)
    if not names & truth.parameters.keys():
        raise InputError("--truth", "parameters", ", ".join(truth.parameters), f"constants of the law {law.id}")
    if (law.response, set(law.columns)) != (known.response, set(known.columns)):
        law_reads, known_reads = (f"{each.response} of {', '.join(each.columns)}" for each in (law, known))
        raise InputError("--truth", "law", f"{known.id} ({known_reads})", f"one of {law_reads}")


def interval_holds(low: float | None, high: float | None, value: float) -> bool | None:
    """Whether an interval, perhaps open on a side, holds a value; None where it is open on both."""
    return None if low is None and high is None else covers(low, high, value)


def compare_with_truth(result: FitResult, truth: Truth) -> list[TruthCheck]:
    """Set every true value beside its estimate; constants that the fitted law does not have are left out."""
    entries = {**result.parameters, **result.combinations}
    rows = []
    for name, value in truth.parameters.items():
        entry = entries.get(name)
        if entry is None:
            continue
        if entry.identified and entry.estimate is not None:
            covered = interval_holds(entry.ci_low, entry.ci_high, value)
            numbers = (entry.estimate, entry.se, entry.ci_low, entry.ci_high, covered, entry.estimate - value)
        else:
            numbers = (None,) * 6
        rows.append(TruthCheck(name, value, *numbers))
    return rows


def truth_table(checks: Sequence[TruthCheck], truth: Truth) -> TextTable:
    """The true constants beside their estimates, a row per constant."""
    columns = ("constant", "truth", "estimate", "error", "95 % interval", "holds the truth")
    rows = []
    for check in checks:
        estimate, _, interval = estimate_cells(check)
        covered = {None: "", True: "yes", False: "no"}[check.covered]
        rows.append((check.name, number(check.truth), estimate, number(check.error), interval, covered))
    return TextTable(f"beside the truth of {truth.oracle}: {truth.regime}", columns, rows, {"constant"})


def path_of(table: Path) -> Path:
    """The path of a table's truth: `gaps.truth.json` beside `gaps.csv`."""
    return table.with_name(f"{table.stem}.truth.json")


def fit_command(table: Path | str, truth: Truth) -> str:
    """The command that fits the true law to the table and compares."""
    options = "".join(f" --set {role}={column}" for role, column in truth.roles.items())
    options += "" if truth.where is None else f' --where "{truth.where}"'
    source, beside = shlex.quote(str(table)), shlex.quote(str(path_of(Path(table))))
    return f"isogap fit {source} --law {truth.law}{options} --truth {beside}"


def write_truth(truth: Truth, table: Path) -> None:
    """Write the truth beside the table."""
    path_of(table).write_text(json.dumps(asdict(truth), indent=1, allow_nan=False) + "\n")


def read_truth(path: Path) -> Truth:
    """Read what `isogap simulate` wrote beside a table; InputError if it did not write such a file."""
    expected = "written by `isogap simulate` beside its table"
    try:
        truth = Truth(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(path, "truth", type(error).__name__, expected) from None
    for each in fields(Truth):
        value = getattr(truth, each.name)
        wanted = dict if each.name in ("parameters", "settings", "roles") else str
        if not (isinstance(value, wanted) and (value or wanted is dict)) and not (
            each.name == "where" and value is None
        ):
            raise InputError(path, each.name, value, "an object" if wanted is dict else "text")
    if truth.law not in law_ids():
        raise InputError(path, "law", truth.law, "a law's id; `isogap laws` lists them")
    for name, value in truth.parameters.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise InputError(path, f"parameters.{name}", value, "a finite number")
    return truth
