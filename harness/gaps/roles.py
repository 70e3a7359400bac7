"""The roles of a sweep's table of runs: which of its columns are N, D and L, and the gap of one estimator as G."""

import numpy as np
import pandas as pd

from harness.fit.problem.fit_status import FitWarning
from harness.record.columns import ESTIMATORS
from sweeps.errors import InputError

# Share of the held-out 13-grams in training text above which a gap is not to be trusted.
CONTAMINATED = 0.01
# N is not N_total: embeddings of 128,000 tokens would be most of a small model, but they take no part in its layers.
RUN_ROLES = {"N": "N_nonembedding", "D": "D", "U": "U", "L": "val_loss_final100", "L_train": "train_loss_final100",
             "B": "batch_tokens", "lr": "lr", "flops": "flops", "epochs": "epochs", "seed": "seed"}  # fmt: skip
_TWIN_COLUMNS = ("half", "gap_twin", "gap_twin_se", "gap_twin_bpb", "gap_twin_bpb_se", "gap_probe_se")
# Runs that agree in these differ in their seed only.
_CONFIGURATION = (
    "architecture", "tokenizer", "domain", "width", "depth", "N_total", "D", "U", "batch_tokens", "lr", "schedule",
    "weight_decay",
)  # fmt: skip


def is_runs_table(frame: pd.DataFrame) -> bool:
    """Whether a table is one of a sweep's runs, exported or simulated."""
    return {"run_id", "status", RUN_ROLES["N"], "D"} <= set(frame.columns)


def roles_for_runs(
    frame: pd.DataFrame, estimator: str = "best", units: str = "tokens"
) -> tuple[pd.DataFrame, tuple[FitWarning, ...]]:
    """The tidy table of a sweep's runs in roles: finished runs only, the gap of one estimator with its error.

    Runs of one configuration that differ only in their seed share a `cluster`. A pair of twins has one gap and one row.

    Args:
        frame: the table `runs` of a sweep, one row per run; without a column of a gap only its losses are read.
        estimator: `probe` (same parameters, seen against held-out documents), `online`, `control`, `twin`; or `best`,
            the twin gap of runs that have one and the probe gap of the others.
        units: `tokens`, or `bytes`: D and U in bytes of text and gaps in bits per byte, so that runs on different
            tokenizers can be compared.

    Returns:
        the rows, and warnings that say how many were left out and why.

    Raises:
        InputError: another estimator, a missing column, or no finished run with a gap.
    """
    estimators = ("best", *ESTIMATORS)
    if estimator not in estimators:
        raise InputError("runs", "estimator", estimator, f"one of {', '.join(estimators)}")
    if units not in ("tokens", "bytes") or (units == "bytes" and estimator == "online"):
        raise InputError("runs", "units", units, "tokens or bytes; bytes for any estimator but online")
    suffix = "_bpb" if units == "bytes" else ""
    gap = f"gap_{estimator}{suffix}"
    if not any(column.startswith("gap_") for column in frame.columns):
        gap = RUN_ROLES["L"]
    elif estimator == "best":
        frame, gap = _best(frame, suffix), "G"
    elif estimator == "twin":
        frame = frame.loc[frame["half"] != "b"]
    measured, warnings = _measured(frame, gap)
    chosen = RUN_ROLES | ({"D": "D_bytes", "U": "U_bytes"} if units == "bytes" else {})
    table = measured.assign(**{role: measured[column] for role, column in chosen.items() if column in frame.columns})
    if gap != RUN_ROLES["L"]:
        table["G"], table["estimator"] = measured[gap], measured.get("estimator", estimator)
        if f"{gap}_se" in frame.columns:
            table["G_se"] = measured[f"{gap}_se"]
    configuration = [column for column in _CONFIGURATION if column in frame.columns]
    table["cluster"] = ["|".join(map(str, values)) for values in measured[configuration].to_numpy()]
    return table.reset_index(drop=True), warnings


def _check_columns(frame: pd.DataFrame, columns: tuple[str, ...]) -> None:
    for column in columns:
        if column not in frame.columns:
            raise InputError("runs", column, ", ".join(map(str, frame.columns)), f"a column {column}")


def _best(frame: pd.DataFrame, suffix: str) -> pd.DataFrame:
    """One row per run, or per pair of twins if both have ended, with the best gap as G."""
    _check_columns(frame, (f"gap_probe{suffix}", "status"))
    known = frame.assign(**{name: np.nan for name in _TWIN_COLUMNS if name not in frame})
    kept = known.loc[known[f"gap_twin{suffix}"].isna() | (known["half"] != "b")]
    paired = np.asarray(kept[f"gap_twin{suffix}"].notna())
    gaps = {
        role: np.where(paired, kept[f"gap_twin{suffix}{se}"], kept[f"gap_probe{suffix}{se}"])
        for role, se in (("G", ""), ("G_se", "_se"))
    }
    return kept.assign(**gaps, estimator=np.where(paired, "twin", "probe"))


def _measured(frame: pd.DataFrame, gap: str) -> tuple[pd.DataFrame, tuple[FitWarning, ...]]:
    """The finished runs that have a gap, and warnings: how many runs were left out, and how many of the gaps were
    measured on held-out text that also occurs in the training text.
    """
    _check_columns(frame, (gap, "status", RUN_ROLES["N"], "D"))
    warnings = []
    done = frame.loc[frame["status"] == "done"]
    for status, count in frame.loc[frame["status"] != "done", "status"].value_counts().items():
        warnings.append(FitWarning("runs_left_out", f"{count} of {len(frame)} runs left out: {status}"))
    measured = done.loc[done[gap].notna()]
    if len(measured) < len(done):
        warnings.append(FitWarning("runs_left_out", f"{len(done) - len(measured)} finished runs have no {gap}"))
    if measured.empty:
        raise InputError("runs", gap, 0, f"at least one finished run with a {gap}")
    if "contamination" in measured and (leaking := measured["contamination"] > CONTAMINATED).any():
        domains = ", ".join(sorted(set(measured.loc[leaking, "domain"])))
        message = (
            f"{int(leaking.sum())} of {len(measured)} gaps are of text that leaks: more than 1 % of the held-out "
            f"13-grams stand in the training text of {domains}"
        )
        warnings.append(FitWarning("contaminated", message))
    return measured, tuple(warnings)
