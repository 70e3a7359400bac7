"""What every tracker keeps of a run, and the tables that are made of it: a row per run, and a row per run and step."""

import importlib
import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pandas as pd

from harness.tables.files import typed
from harness.tables.read import column_taken
from sweeps.complaints import shorten
from sweeps.errors import InputError

# A tracker is named like its package and like its module here; that module defines `read_NAME(store, curves, tell)`.
KINDS = ("tensorboard", "mlflow", "wandb", "trackio")
Tell = Callable[[str], object]
# The columns of every tracker that are neither settings nor metrics.
_ABOUT = ("run_id", "run_name", "experiment", "project", "state")
_TOLD_ROLES = ("N", "D", "U", "L", "L_train", "flops")
# Roles whose settings are constant along a run, and so stand beside every step of its curve. D, flops and epochs are
# not among them: a run's settings hold what it was to reach at its end.
_CONSTANT_ROLES = ("N", "U", "B", "lr", "group")


@dataclass(frozen=True)
class TrackedRun:
    """One run as a tracker keeps it.

    Attributes:
        run_id: what tells it from the other runs of the store.
        about: run_name, experiment or project, and state, as far as the tracker knows them. The state is `finished`,
            or else what the tracker says: failed, killed, crashed, running; unfinished if it only knows no end.
        config: the settings, which may be nested.
        final: the last value of every metric, or what else the tracker's summary holds; may be nested.
        curve: the metrics that were logged at each step, with the step as index; empty if none were, or none asked for.
    """

    run_id: str
    about: Mapping[str, str | None] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    final: Mapping[str, Any] = field(default_factory=dict)
    curve: pd.DataFrame = field(default_factory=pd.DataFrame)


class Imported(NamedTuple):
    """The tables that are made of a store.

    Attributes:
        runs: a row for each run: run_id, then run_name, experiment or project, and state where the tracker knows them,
            the settings, and the final metrics. Names of nested values are joined by dots.
        curves: a row for each run and step: run_id, step, the settings that a fit takes for N, U, B, lr and group, and
            the metrics; empty if curves were not asked for.
    """

    runs: pd.DataFrame
    curves: pd.DataFrame


def import_runs(
    tracker: str, store: str | None = None, *, curves: bool = False, tell: Tell = warnings.warn
) -> Imported:
    """Read the runs of a tracker's store as tables that can be fitted.

    Args:
        tracker: tensorboard, mlflow, wandb or trackio.
        store: a folder of TensorBoard's event files; MLflow's folder, database or tracking URI; a folder of W&B's
            runs, a table that was exported from W&B, or ENTITY/PROJECT on its server; Trackio's folder, by default the
            one that it writes to.
        curves: whether to read the metrics of every step, too.
        tell: called with a sentence about what is damaged, unfinished or without a loss, and one about the columns
            that a fit will take unasked.

    Raises:
        InputError: an unknown tracker, a store that cannot be read, or one without runs.
        ModuleNotFoundError: the tracker's package is not installed.
    """
    if tracker not in KINDS:
        raise InputError("import", "tracker", tracker, f"one of {', '.join(KINDS)}")
    reader = getattr(importlib.import_module(f"harness.tables.trackers.{tracker}"), f"read_{tracker}")
    told: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the trackers' packages; what matters to the user is told
        found: Sequence[TrackedRun] = reader(store, curves, told.append)
    for sentence in told:
        tell(sentence)
    if not found:
        raise InputError(store or tracker, "runs", 0, "a store that holds at least one run")
    runs = _runs_table(found, tell)
    _tell_of_states(runs, tell)
    _tell_of_roles(found, runs, tell)
    return Imported(runs, _curves_table(found, runs) if curves else pd.DataFrame())


def _runs_table(found: Sequence[TrackedRun], tell: Tell) -> pd.DataFrame:
    settings, metrics = [flat(run.config) for run in found], [flat(run.final) for run in found]
    taken = {*_ABOUT, *(name for row in metrics for name in row)}
    clashing = [name for name in dict.fromkeys(name for row in settings for name in row) if name in taken]
    if clashing:
        tell(f"settings that are named like a metric are columns config.NAME: {shorten(', '.join(clashing))}")
    rows = [
        {"run_id": run.run_id}
        | {name: value for name in _ABOUT if (value := run.about.get(name)) is not None}
        | {f"config.{name}" if name in clashing else name: value for name, value in chosen.items()}
        | {f"summary.{name}" if name in _ABOUT else name: value for name, value in reached.items()}
        for run, chosen, reached in zip(found, settings, metrics, strict=True)
    ]
    columns = {name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)}
    about = [name for name in _ABOUT if name in columns]
    others = {name: _column(cells) for name, cells in columns.items() if name not in about}
    return pd.DataFrame({**{name: columns[name] for name in about}, **others})


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values under names joined by dots.

    Names that begin with _ are the tracker's own, and a value with a `_type` is a file: both are left out.
    """
    row: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            if "_type" not in value:
                row |= {f"{name}.{inner}": cell for inner, cell in flat(value).items()}
        elif not name.startswith("_"):
            row[name] = _number_or(value)
    return row


def _number_or(value: Any) -> Any:
    """The value itself, or the number that JSON lacks and trackers write as text."""
    return float(value) if isinstance(value, str) and value in ("NaN", "Infinity", "-Infinity") else value


def curve_of(rows: Iterable[tuple[Any, Mapping[str, Any]]]) -> pd.DataFrame:
    """The numbers among metrics that were logged at steps; of two values of a metric at a step the later counts."""
    steps: dict[int, dict[str, float]] = {}
    for step, row in rows:
        for name, value in row.items():
            number = _number_or(value)
            if isinstance(number, int | float) and not isinstance(number, bool):
                steps.setdefault(step, {})[name] = number
    return pd.DataFrame.from_dict(steps, orient="index").sort_index()


def _column(cells: Sequence[Any]) -> pd.Series:
    """A column of one type: numbers or truth values if every cell is one, else text."""
    plain = [json.dumps(cell, default=str) if isinstance(cell, list | tuple) else cell for cell in cells]
    column = typed(pd.Series(plain))
    kinds = {type(cell) for cell in column if not pd.isna(cell)}
    return column.map(str, na_action="ignore") if len(kinds) > 1 else column


def _curves_table(found: Sequence[TrackedRun], runs: pd.DataFrame) -> pd.DataFrame:
    usual = [column_taken(runs, role) for role in _CONSTANT_ROLES]
    frames = []
    for run, (_, row) in zip(found, runs.iterrows(), strict=True):
        # A size that was logged once, as a metric, is as constant as a setting.
        counts = run.curve.nunique()
        curve = run.curve.drop(columns=[name for name in usual if counts.get(name) == 1])
        curve = curve.dropna(how="all")
        if len(curve):
            # A metric `step` is the user's own count of steps, and the tracker's count makes way for it.
            steps = {"step": curve.index, **dict(curve.items())}
            beside = {name: row[name] for name in usual if name and name not in steps}
            frames.append(pd.DataFrame({"run_id": run.run_id, "step": steps.pop("step"), **beside, **steps}))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _tell_of_states(runs: pd.DataFrame, tell: Tell) -> None:
    if "state" in runs:
        others = Counter(state for state in runs["state"].fillna("unknown") if state != "finished")
        if others:
            counts = ", ".join(f"{count} {state}" for state, count in others.most_common())
            leave_out = """--where "state == 'finished'" leaves them out of a fit"""
            tell(f"{others.total()} of {len(runs)} runs did not finish ({counts}): {leave_out}")


def _tell_of_roles(found: Sequence[TrackedRun], runs: pd.DataFrame, tell: Tell) -> None:
    """Which columns a fit takes, which runs have no loss, and which have one from long before their end."""
    columns = {role: column_taken(runs, role) for role in _TOLD_ROLES}
    told = [", ".join(f"{role} = {column}" for role, column in columns.items() if column)]
    missing = [role for role in ("N", "D", "L") if columns[role] is None]
    if missing:
        told.append(f"no column has a usual name of {', '.join(missing)} (--set {missing[0]}=COLUMN)")
    tell(f"isogap fit takes {'; '.join(filter(None, told))}")
    if loss := columns["L"]:
        without = [position for position, missing in enumerate(runs[loss].isna()) if missing]
        if without:
            tell(f"{len(without)} of {len(runs)} runs have no {loss}: {_names(found, without)}")
        early = [position for position, run in enumerate(found) if _ends_before(run.curve, loss)]
        if early:
            count = f"{len(early)} of {len(runs)} runs"
            tell(f"{count} went on by 5 % or more after their last {loss}: {_names(found, early)}")


def _names(found: Sequence[TrackedRun], positions: Iterable[int]) -> str:
    chosen = [found[position] for position in positions]
    return shorten(", ".join(run.about.get("run_name") or run.run_id for run in chosen))


def _ends_before(curve: pd.DataFrame, metric: str) -> bool:
    """Whether a metric was last logged so long before the end of a run that it is of fewer tokens than the run has."""
    last = curve[metric].last_valid_index() if metric in curve else None
    return last is not None and bool(last < curve.index[-1] / 1.05)
