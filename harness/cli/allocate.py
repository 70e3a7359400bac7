"""`isogap allocate`: compute-optimal sizes from a stored fit, or from a table of runs by one of three approaches."""

import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.cli.render import render
from harness.files import open_folder
from harness.fit.allocation.allocation import Allocation, allocate_by, allocate_fit, allocate_runs, check_approach
from harness.fit.allocation.lines import READ, check_budgets, shift_from_half
from harness.fit.laws.held import parse_held, with_held
from harness.fit.problem.columns import check_roles, column_of
from harness.fit.problem.fit_status import FitWarning
from harness.fit.results.result import FitResult
from harness.fit.results.shown import Shown, warning_lines
from harness.source import is_stored_fit, parse_roles, read_fits, read_runs
from harness.tables.read import read_table
from harness.terminal import working
from sweeps.errors import InputError


def answer(
    source: str, approach: int | None, flops: Sequence[float], set_: Sequence[str], where: str | None, *,
    by: str | None = None, z: float | None = None, anchor: float | None = None, json_: str | None = None,
    **options: Any,
) -> None:  # fmt: skip
    """Allocate the budgets, print the result and write it as JSON.

    Args:
        source: FIT.json, or what `read_runs` reads.
        by: allocate the runs of each value of this column on their own.
        z, anchor: add the factors of `Allocation.shifted`, by which the rule D ~ N^z moves N.
        json_: a file for JSON, or `-` for the terminal in place of the tables.
        options: those of `_from_runs`.

    Raises:
        InputError: unusable input.
    """
    shift = _checked_shift(z, anchor)
    budgets = check_budgets(list(flops))
    if is_stored_fit(source):
        if approach not in (None, 3) or set_ or where or by:
            expected = "a table of runs for --approach 1 or 2, --set, --where or --by"
            raise InputError("allocate", "SOURCE", source, expected)
        by, fits = read_fits(Path(source))
        shown, rows = [], {}
        for name, fitted in fits.items():
            found = _shifted(allocate_fit(fitted, budgets), shift)
            shown += [*([f"{by} {name}"] if by else []), *_answers(found, fitted)]
            rows[name] = found.to_dict()["budgets"]
        written = {"by": by, "groups": rows} if by else rows[""]
    else:
        # Messages about rows that were dropped are not JSON, so they go to stderr.
        with redirect_stdout(sys.stderr) if json_ == "-" else nullcontext(), working("fitting"):
            groups, warnings = _from_runs(open_folder(source), approach, list(flops), set_, where, by, **options)
        groups = {name: _shifted(found, shift) for name, found in groups.items()}
        shown = [part for name, found in groups.items() for part in (*([f"{by} {name}"] if by else []), *found.shown())]
        shown += warning_lines(warnings)
        rows = {name: found.to_dict() for name, found in groups.items()}
        written = {"by": by, "groups": rows} if by else rows[""]
    if json_ != "-":
        print(render(shown), end="")
        if shift:
            print(about_shift(*shift))
    if json_:
        text = json.dumps(written, indent=1, allow_nan=False)
        print(text) if json_ == "-" else Path(json_).write_text(text)


def _shifted(found: Allocation, shift: tuple[float, float] | None) -> Allocation:
    return found.shifted(*shift) if shift else found


def _answers(found: Allocation, fitted: FitResult) -> list[Shown]:
    """What is new in the allocation of a stored fit: its exponents and the other warnings belong to the fit."""
    own = [warning for warning in found.warnings if warning not in fitted.warnings]
    return [f"{found.method}; C is {found.counted}", found.sizes(), *warning_lines(own)]


def _from_runs(
    source: Path, approach: int | None, flops: Sequence[float], settings: Sequence[str], where: str | None,
    by: str | None, *, method: str | None = None, noise: str | None = None, law: str = "chinchilla",
    fix: Sequence[str] = (), bootstrap: int | None = None, estimator: str = "best", units: str = "tokens",
) -> tuple[dict[str, Allocation], tuple[FitWarning, ...]]:  # fmt: skip
    """Read the runs and allocate the budgets by the approach that was asked for: once, or by the values of a column."""
    law = with_held(law, parse_held(fix))
    approach = check_approach(approach, method, law, noise)
    frame = read_runs(
        source, law if approach == 3 else "chinchilla", set=parse_roles(settings), where=where, estimator=estimator,
        units=units, tell=print,
    )  # fmt: skip
    if noise is not None:
        frame = frame.assign(L_se=_noise(noise, frame, str(source)))
    choices = {"method": method, "law": law, "bootstrap": bootstrap, "source": str(source)}
    if by is None:
        return {"": allocate_runs(frame, flops, approach, **choices)}, ()
    return allocate_by(frame, by, flops, approach, **choices)


def _noise(noise: str, frame: pd.DataFrame, source: str) -> np.ndarray:
    """Read the standard deviation of each loss: one number, or a file with columns `loss` and `sd`.

    Between the rows of the file log sd is linear in log loss; beyond its ends sd is constant.
    """
    check_roles(frame, READ, source)
    loss = column_of(frame, "L", source)
    try:
        sd = float(noise)
    except ValueError:
        table = read_table(Path(noise))[0]
        known, sds = (np.log(column_of(table, name, noise)) for name in ("loss", "sd"))
        order = np.argsort(known)
        return np.exp(np.interp(np.log(loss), known[order], sds[order]))
    if not 0 <= sd < np.inf:
        raise InputError("--noise", "sd", noise, "a standard deviation in nats, or a CSV of loss and sd")
    return np.full(len(loss), sd)


def _checked_shift(z: float | None, anchor: float | None) -> tuple[float, float] | None:
    """Check the two options before the work, which takes minutes; None where neither was given."""
    if (z is None) != (anchor is None):
        raise InputError("allocate", "--z, --anchor", (z, anchor), "both: the shift depends on where the rules agree")
    if z is None or anchor is None:
        return None
    shift_from_half(1.0, z, anchor)
    return z, anchor


def about_shift(z: float, anchor: float) -> str:
    """Explain what the factors of `Allocation.shifted` mean, and what they do not mean."""
    a = 1.0 / (1.0 + z)
    return (
        f"D = kappa N^{z:g} at C = 6 N D: N ~ C^{a:.4f}, D ~ C^{1 - a:.4f}, where D ~ N has C^0.5. In N that is a "
        f"factor (C/{anchor:.3g})^{a - 0.5:.4f} if the two agree at {anchor:.3g} FLOPs: x{2 ** (a - 0.5):.3f} per "
        f"doubling of C, x{10 ** (a - 0.5):.3f} per decade. It depends on that anchor, so that no one percentage "
        "describes it; and it is no optimum: holding D/N^z fixed minimises no loss."
    )
