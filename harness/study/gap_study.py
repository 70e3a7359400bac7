"""The verdict of the gap law's study: every claim, the checks of the instrument, and the law that describes the gap."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from harness.fit.compare import compare
from harness.fit.gap_law.claims import Blocks, judge_claims
from harness.fit.gap_law.rulings import JudgedClaim, Ruling
from harness.fit.gap_law.surface import fit_surface
from harness.fit.quantities.memorised import memory_of_models
from harness.fit.results.result import StrictJson
from harness.forecasts.score import ForecastScores
from harness.study.cells import blocks_of
from harness.study.documents import DocumentShare, document_shares
from harness.study.forecasts import score
from sweeps.errors import InputError

# The laws that compete to describe the gap of text read once, and of all text.
FRESH_LAWS = ("gap", "gap_smooth", "gap_n_free", "gap_free_n", "gap_kaplan", "gap_classical")
REPEATED_LAWS = (*FRESH_LAWS, "gap_epochs")
N_PERMUTATIONS = 400
# The share of 5 % tests on tables without an effect that may be positive, beyond which a test is not to be trusted.
FALSE_LIMIT = 0.08


@dataclass(frozen=True)
class Check:
    """A test of the instrument on data without an effect.

    Attributes:
        name: what was tested, in words.
        trials: number of tests.
        positive: share of them that found an effect at 5 %.
        low, high: the 95 % interval of that share.
        passed: whether the share may be 5 %, or less.
    """

    name: str
    trials: int
    positive: float
    low: float
    high: float
    passed: bool


@dataclass(frozen=True)
class GapVerdict(StrictJson):
    """What the runs of the study say.

    Attributes:
        claims: the claims of the source, by the twin gap.
        online: the same claims by the online gap, which is the source's estimator.
        checks: placebos, permutations and a null.
        laws: name of a set of cells -> the competing laws on it, the best first.
        memory: a row for each cell of repeated text: bits that the model holds of its text, per parameter.
        documents: for each block the share of the gap that is memory of documents, not of the windows that were read.
        forecasts: the scores of what was forecast of the largest runs; None before the first of these has finished.
    """

    claims: tuple[JudgedClaim, ...]
    online: tuple[JudgedClaim, ...]
    checks: tuple[Check, ...]
    laws: Mapping[str, list[dict[str, Any]]]
    memory: list[dict[str, Any]]
    documents: tuple[DocumentShare, ...]
    forecasts: ForecastScores | None = None

    @property
    def headline(self) -> str:
        """The finding in a sentence."""
        counts = {word: [claim.id for claim in self.claims if claim.ruling is word] for word in Ruling}
        law = next(claim for claim in self.claims if claim.id == "S0-1").ruling
        says = {
            Ruling.SUPPORTED: "The gap law is supported",
            Ruling.NOT_SUPPORTED: "The gap law is not supported",
            Ruling.NOT_RESOLVED: "These runs do not decide on the gap law",
        }
        return (
            f"{says[law]}: of fifteen claims {len(counts[Ruling.SUPPORTED])} are supported,"
            f" {len(counts[Ruling.NOT_SUPPORTED])} are not, and {len(counts[Ruling.NOT_RESOLVED])} are not resolved."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings."""
        return {
            "headline": self.headline,
            "claims": [claim.to_dict() for claim in self.claims],
            "online": [claim.to_dict() for claim in self.online],
            "checks": [asdict(check) for check in self.checks],
            "laws": dict(self.laws),
            "memory": self.memory,
            "documents": [share.to_dict() for share in self.documents],
            "forecasts": None if self.forecasts is None else self.forecasts.to_dict(),
        }


def judge_gap_study(runs: pd.DataFrame, seed: int = 0, forecasts: Path | None = None) -> GapVerdict:
    """Judge the study's runs, all of them or those that have ended.

    Args:
        runs: what `harness.study.cells.study_runs` returns.
        forecasts: the file of what was forecast (`harness.study.forecasts`); it need not exist.

    Raises:
        InputError: no finished pair of twins, or a file of forecasts that was changed.
    """
    blocks = blocks_of(runs)
    return GapVerdict(
        claims=judge_claims(blocks),
        online=judge_claims({name: by_online(rows) for name, rows in blocks.items()}),
        checks=instrument_checks(runs, blocks, seed),
        laws=competing_laws(blocks, seed),
        memory=memory_of(blocks),
        documents=tuple(document_shares(runs)),
        forecasts=score(forecasts, runs) if forecasts is not None and forecasts.is_file() else None,
    )


def by_online(rows: pd.DataFrame) -> pd.DataFrame:
    """The cells with the online gap in the place of the twin gap; those without one are left out."""
    known = rows.dropna(subset=["gap_online", "gap_online_se"]).drop(columns=["G_shared"], errors="ignore")
    return known.assign(G=known["gap_online"], G_se=known["gap_online_se"])


def instrument_checks(runs: pd.DataFrame, blocks: Blocks, seed: int = 0) -> tuple[Check, ...]:
    """The checks that data allow: placebos of all runs, and N permuted among the cells of text read once."""
    checks = []
    placebo = runs.dropna(subset=["placebo_twin", "placebo_twin_se"])
    if len(placebo):
        scores = np.abs(placebo["placebo_twin"].to_numpy(float) / placebo["placebo_twin_se"].to_numpy(float))
        checks.append(_check("gaps between two halves of held-out text, which no model has read", scores > 1.96))
    if "once" in blocks:
        rng, rows, found = np.random.default_rng(seed), blocks["once"], []
        for _ in range(N_PERMUTATIONS):
            surface = fit_surface(rows.assign(N=rng.permutation(rows["N"].to_numpy())))
            if surface is not None:
                value, se = surface.slope(1)
                found.append(abs(value) > surface.half_width(se))
        if found:
            checks.append(_check("the slope in N after N was permuted among the cells", np.asarray(found)))
    return tuple(checks)


def _check(name: str, positive: np.ndarray) -> Check:
    count, total = int(positive.sum()), len(positive)
    interval = binomtest(count, total).proportion_ci(0.95)
    passed = bool(interval.low <= 0.05) and count / total <= FALSE_LIMIT
    return Check(name, total, count / total, float(interval.low), float(interval.high), passed)


def competing_laws(blocks: Blocks, seed: int = 0) -> dict[str, list[dict[str, Any]]]:
    """The laws of the gap ranked on text read once, and on text read once and repeatedly by the same architecture."""
    sets = {"text read once": (("once",), FRESH_LAWS), "all text": (("once", "epochs", "converged"), REPEATED_LAWS)}
    ranked = {}
    for name, (parts, laws) in sets.items():
        known = [blocks[part] for part in parts if part in blocks]
        if not known:
            continue
        rows = pd.concat(known, ignore_index=True).drop(columns=["G_shared"], errors="ignore")
        try:
            found = compare(laws, rows.assign(holdout=False), seed=seed)
        except InputError:
            continue
        ranked[name] = [law.to_dict() for law in found]
    return ranked


def memory_of(blocks: Blocks) -> list[dict[str, Any]]:
    """Bits that models hold of text that they read several times, by cell, per parameter without embeddings."""
    rows = [rows for name, rows in blocks.items() if name in ("epochs", "converged") and len(rows)]
    if not rows:
        return []
    held = memory_of_models(pd.concat(rows, ignore_index=True))
    columns = ["block", "N", "D", "U", "epochs", "G", "G_se", "bits", "bits_per_parameter", "share_of_capacity"]
    return [dict(row) for _, row in held[columns].iterrows()]
