"""Tables of runs: anyone's CSV or parquet, or the tidy table of a sweep, with columns put into roles."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from harness.fit.laws.law import Law
from harness.fit.problem.columns import evaluate
from harness.fit.problem.fit_warning import FitWarning
from sweeps.errors import InputError

# Roles that any table may fill, whatever the law; a law adds its own.
ROLES = (
    "N", "D", "U", "L", "L_train", "L_se", "G", "G_se", "B", "lr", "flops", "step", "group", "run", "epochs", "seed",
    "cluster",
)  # fmt: skip
LABELS = ("group", "run", "seed", "cluster")
SIGNED = ("G",)
ESTIMATORS = ("best", "online", "probe", "control", "twin")
UNITS = ("tokens", "bytes")
TWIN_COLUMNS = ("half", "gap_twin", "gap_twin_se", "gap_twin_bpb", "gap_twin_bpb_se", "gap_probe_se")
# Share of the held-out 13-grams in training text above which a gap is not to be trusted.
CONTAMINATED = 0.01
# Not N_total: a vocabulary of 128,000 would make most of a small model, and compute nothing between the layers.
RUN_ROLES = {"N": "N_nonembedding", "D": "D", "U": "U", "L": "val_loss_final100", "L_train": "train_loss_final100",
             "B": "batch_tokens", "lr": "lr", "flops": "flops", "epochs": "epochs", "seed": "seed"}  # fmt: skip
FAMILY = (
    "architecture",
    "tokenizer",
    "domain",
    "width",
    "depth",
    "N_total",
    "D",
    "U",
    "batch_tokens",
    "lr",
    "schedule",
)


def read_table(
    source: str | Path,
    roles: Mapping[str, str] | None = None,
    where: str | None = None,
    holdout: str | None = None,
    laws: Sequence[Law] = (),
) -> tuple[pd.DataFrame, tuple[FitWarning, ...]]:
    """A CSV or parquet file as a table with role columns beside its own.

    Args:
        roles: role -> column name, or names with commas between them for a role of several columns.
        where: a pandas condition on the file's columns; rows for which it fails are left out.
        holdout: a condition too; its rows get `holdout = True` and are scored, not fitted.
        laws: those the table is for. They may name further roles, and what they read is taken from columns of the same
            name where `roles` says nothing else.

    Returns:
        the rows that have a usable value in every role, and warnings that count the others.

    Raises:
        InputError: no such file, an unknown role or column, a condition that does not parse, or no row left.
    """
    frame = read_file(Path(source) if isinstance(source, str) else source)  # a URL of an object store is no Path
    return assign_roles(frame, dict(roles or {}), where=where, holdout=holdout, laws=laws, source=str(source))


def read_file(path: Path) -> pd.DataFrame:
    """A CSV or parquet file as it is.

    Raises:
        InputError: no such file, or one that cannot be read.
    """
    try:
        return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except FileNotFoundError:
        raise InputError(path, "SOURCE", str(path), "a CSV or parquet file of runs") from None
    except (ValueError, OSError, UnicodeDecodeError) as error:
        raise InputError(path, "SOURCE", str(error).splitlines()[0], "a readable CSV or parquet file") from None


def is_runs_table(frame: pd.DataFrame) -> bool:
    """Whether a table is one of a sweep's runs, exported or simulated."""
    return {"run_id", "status", RUN_ROLES["N"], "D"} <= set(frame.columns)


def assign_roles(
    frame: pd.DataFrame,
    roles: Mapping[str, str],
    *,
    where: str | None = None,
    holdout: str | None = None,
    laws: Sequence[Law] = (),
    source: str = "table",
) -> tuple[pd.DataFrame, tuple[FitWarning, ...]]:
    """`read_table` for a table in memory: same arguments, same errors."""
    needed = {role for law in laws for role in (*law.roles, f"{law.response}_se")}
    known = dict.fromkeys((*ROLES, *sorted(needed)))
    chosen = {role: role for role in sorted(needed) if role in frame.columns} | dict(roles)
    vectors = {role for law in laws for role in law.vectors}
    signed = {*SIGNED, *(role for law in laws for role in law.signed)}
    labels = {*LABELS, *(role for law in laws for role in law.labels)}
    filled: dict[str, str] = {}
    for role, column in chosen.items():
        if role not in known:
            raise InputError(source, "--set", f"{role}={column}", f"one of the roles {', '.join(known)}")
        for name in column.split(",") if role in vectors else [column]:
            if name not in frame.columns:
                raise InputError(
                    source, f"--set {role}", name, f"one of the columns {', '.join(map(str, frame.columns))}"
                )
            filled[f"{role}[{name}]" if role in vectors else role] = name
    kept = np.ones(len(frame), bool) if where is None else evaluate(frame, where, "--where", source)
    marked = np.zeros(len(frame), bool) if holdout is None else evaluate(frame, holdout, "--holdout", source)
    table = frame.assign(**{role: frame[column] for role, column in filled.items()}, holdout=marked).loc[kept]
    if table.empty:
        raise InputError(source, "--where", where, "a condition that leaves some rows")
    warnings = []
    for column in filled:
        role = column.split("[")[0]
        if role in labels or role.endswith("_se"):
            continue
        numbers = _numbers(table, column, source)
        bad = ~np.isfinite(numbers) | (False if role in signed else numbers <= 0)
        table = table.assign(**{column: numbers})
        if bad.any():
            problem = "missing" if role in signed else "missing or not positive"
            warnings.append(
                FitWarning("rows_dropped", f"{int(bad.sum())} of {len(table)} rows dropped: {column} is {problem}")
            )
            table = table.loc[~bad]
    if table.empty:
        raise InputError(source, "rows", 0, "at least one row in which every role has a usable value")
    table = table.reset_index(drop=True)
    table.attrs["roles"] = filled
    table.attrs["dropped"] = [warning.message for warning in warnings]
    return table, tuple(warnings)


def _numbers(table: pd.DataFrame, role: str, source: str) -> np.ndarray:
    try:
        return np.asarray(pd.to_numeric(table[role]), dtype=float)
    except (TypeError, ValueError):
        text = next(value for value in table[role] if not isinstance(value, int | float))
        raise InputError(source, role, text, "numbers") from None


def roles_for_runs(
    frame: pd.DataFrame, estimator: str = "best", units: str = "tokens"
) -> tuple[pd.DataFrame, tuple[FitWarning, ...]]:
    """The tidy table of a sweep's runs in roles: finished runs only, the gap of one estimator with its error.

    Runs of one configuration that differ only in their seed share a `cluster`. Twins have one gap, and one row.

    Args:
        frame: the table `runs` of a sweep (a row a run); one that no column of a gap is in has losses only.
        estimator: `probe` (same parameters, seen against held-out documents), `online`, `control`, `twin`; or `best`,
            the twin gap of runs that have one and the probe gap of the others.
        units: `tokens`, or `bytes`: D and U in bytes of text and gaps in bits per byte, in which runs on different
            tokenizers compare.

    Returns:
        the rows, and warnings that say how many were left out and why.

    Raises:
        InputError: another estimator, a missing column, or no finished run with a gap.
    """
    if estimator not in ESTIMATORS:
        raise InputError("runs", "estimator", estimator, f"one of {', '.join(ESTIMATORS)}")
    if units not in UNITS or (units == "bytes" and estimator == "online"):
        raise InputError("runs", "units", units, "tokens or bytes; bytes for any estimator but online")
    warnings, suffix = [], "_bpb" if units == "bytes" else ""
    gap = f"gap_{estimator}{suffix}"
    if not any(column.startswith("gap_") for column in frame.columns):
        gap = RUN_ROLES["L"]
    elif estimator == "best":
        frame, gap = _best(frame, suffix), "G"
    elif estimator == "twin":
        frame = frame.loc[frame["half"] != "b"]
    for column in (gap, "status", RUN_ROLES["N"], "D"):
        if column not in frame.columns:
            raise InputError("runs", column, ", ".join(map(str, frame.columns)), f"a column {column}")
    done = frame.loc[frame["status"] == "done"]
    for status, count in frame.loc[frame["status"] != "done", "status"].value_counts().items():
        warnings.append(FitWarning("runs_left_out", f"{count} of {len(frame)} runs left out: {status}"))
    measured = done.loc[done[gap].notna()]
    if len(measured) < len(done):
        warnings.append(FitWarning("runs_left_out", f"{len(done) - len(measured)} finished runs have no {gap}"))
    if measured.empty:
        raise InputError("runs", gap, 0, f"at least one finished run with a {gap}")
    if "contamination" in measured and (leaking := measured["contamination"] > CONTAMINATED).any():
        told = ", ".join(sorted(set(measured.loc[leaking, "domain"])))
        warnings.append(
            FitWarning(
                "contaminated",
                f"{int(leaking.sum())} of {len(measured)} gaps are of text that leaks: more than 1 % of the held-out "
                f"13-grams stand in the training text of {told}",
            )
        )
    chosen = RUN_ROLES | ({"D": "D_bytes", "U": "U_bytes"} if units == "bytes" else {})
    roles = {role: column for role, column in chosen.items() if column in frame.columns}
    table = measured.assign(**{role: measured[column] for role, column in roles.items()})
    if gap != RUN_ROLES["L"]:
        table["G"], table["estimator"] = measured[gap], measured.get("estimator", estimator)
        if f"{gap}_se" in frame.columns:
            table["G_se"] = measured[f"{gap}_se"]
    family = [column for column in FAMILY if column in frame.columns]
    table["cluster"] = ["|".join(map(str, values)) for values in measured[family].to_numpy()]
    return table.reset_index(drop=True), tuple(warnings)


def _best(frame: pd.DataFrame, suffix: str) -> pd.DataFrame:
    """One row a run, of twins that have both ended one a pair, with its best gap as G."""
    for column in (f"gap_probe{suffix}", "status"):
        if column not in frame.columns:
            raise InputError("runs", column, ", ".join(map(str, frame.columns)), f"a column {column}")
    known = frame.assign(**{name: np.nan for name in TWIN_COLUMNS if name not in frame})
    kept = known.loc[known[f"gap_twin{suffix}"].isna() | (known["half"] != "b")]
    paired = np.asarray(kept[f"gap_twin{suffix}"].notna())
    found = {
        role: np.where(paired, kept[f"gap_twin{suffix}{se}"], kept[f"gap_probe{suffix}{se}"])
        for role, se in (("G", ""), ("G_se", "_se"))
    }
    return kept.assign(**found, estimator=np.where(paired, "twin", "probe"))
