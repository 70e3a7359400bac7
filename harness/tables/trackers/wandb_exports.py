"""Tables that were exported from W&B: of its page of runs, of one of its charts, or in Python as its manual does."""

import ast
import json
from pathlib import Path
from typing import Any

import pandas as pd

from harness.tables.files import read_file
from harness.tables.trackers.runs import Tell, TrackedRun, curve_of, flat

# Where an export may keep what names a run, and how it ended.
_NAMES = ("run_id", "id", "ID", "name", "Name")
_STATES = ("state", "State")
# Columns, or the beginnings of columns, that hold all settings or all final metrics of a run.
_SETTINGS = ("config",)
_METRICS = ("summary", "summary_metrics", "summaryMetrics")


def read_wandb_export(path: Path, tell: Tell) -> list[TrackedRun]:
    """Read an exported table, CSV or JSON, of one of three kinds.

    A row for each run: cells that hold a run's whole `config` or `summary`, as in W&B's manual, become columns. A chart
    over `Step`, with columns `RUN - METRIC`. A history (`run.history()`, `runs.histories()`) with a row for each step:
    a column `_step`, and either no column that names the run or the same names in many rows.

    Raises:
        InputError: a file that is not a table.
    """
    frame = _frame(path)
    if any(str(name).endswith("__MIN") for name in frame.columns):
        return _chart(frame)
    names = {name: column for name, column in (("run_id", _first(frame, _NAMES)), ("state", _first(frame, _STATES)))}
    if "_step" in frame.columns and (names["run_id"] is None or frame[names["run_id"]].duplicated().any()):
        groups = {path.stem: frame} if names["run_id"] is None else dict(list(frame.groupby(names["run_id"])))
        return [_curve(str(run), history.set_index("_step")) for run, history in groups.items()]
    told = [f"{name} is the column {column}" for name, column in names.items() if column not in (None, name)]
    if told:
        tell(", ".join(told))
    rows: list[dict[str, Any]] = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [_tracked(row, names, number) for number, row in enumerate(rows, 1)]


def _frame(path: Path) -> pd.DataFrame:
    """The table of a file; also of the object of columns, each an object of rows, that pandas' `to_json` writes."""
    if path.suffix == ".json":
        try:
            content = json.loads(path.read_text())
        except ValueError:
            content = None  # JSON lines, or what read_file complains about
        if isinstance(content, dict) and content and all(isinstance(column, dict) for column in content.values()):
            if len({tuple(column) for column in content.values()}) == 1:
                return pd.DataFrame(content)
    return read_file(path)


def _first(frame: pd.DataFrame, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in frame.columns), None)


def _chart(frame: pd.DataFrame) -> list[TrackedRun]:
    """The runs of a chart."""
    step, *columns = map(str, frame.columns)
    runs: dict[str, dict[str, str]] = {}
    for column in columns:
        run, _, metric = column.rpartition(" - ")
        if not metric.endswith(("__MIN", "__MAX")):
            runs.setdefault(run, {})[column] = metric
    history = frame.set_index(step)
    return [
        _curve(run, pd.DataFrame({metric: history[column] for column, metric in metrics.items()}))
        for run, metrics in runs.items()
    ]


def _curve(run_id: str, history: pd.DataFrame) -> TrackedRun:
    """A run of which a table has the metrics by step: its curve, and the last value of each metric."""
    rows = [(step, flat(row.dropna().to_dict())) for step, row in history.iterrows()]
    last = {name: value for _, row in rows for name, value in row.items()}
    return TrackedRun(run_id, final=last, curve=curve_of(rows))


def _tracked(row: dict[str, Any], names: dict[str, str | None], number: int) -> TrackedRun:
    run_id, state = (row.pop(column, None) if (column := names[name]) else None for name in ("run_id", "state"))
    config, final = {}, {}
    for name, value in row.items():
        outer, _, inner = name.partition(".")
        settings = _object(value)
        if outer in _SETTINGS and (inner or settings):
            config |= {inner: value} if inner else settings
        elif outer in _METRICS and (inner or settings):
            final |= {inner: value} if inner else settings
        else:
            final[name] = value
    about = {name: str(final.pop(name)) for name in ("run_name", "experiment", "project") if final.get(name)}
    if state is not None:
        about["state"] = str(state).lower()
    return TrackedRun(str(run_id or number), about, config, final)


def _object(cell: Any) -> dict[str, Any]:
    """The dictionary in a cell, also as the text that Python or JSON writes; empty if there is none."""
    if isinstance(cell, str) and cell.startswith("{"):
        try:
            cell = json.loads(cell)
        except ValueError:
            try:
                cell = ast.literal_eval(_Numbers().visit(ast.parse(cell, mode="eval")))
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                return {}
    return cell if isinstance(cell, dict) else {}


class _Numbers(ast.NodeTransformer):
    """Makes numbers of the names nan and inf, which Python writes for them."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(float(node.id)) if node.id in ("nan", "inf") else node
