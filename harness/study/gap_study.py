"""The verdict of the gap law's study: every claim, the checks of the instrument, and the law that describes the gap."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest, t

from harness.fit.gap_law.claims import ARITHMETIC, SOURCE_BLOCK, Blocks, judge_claims
from harness.fit.gap_law.rulings import JudgedClaim, Ruling
from harness.fit.gap_law.surface import fit_surface
from harness.fit.quantities.memorised import memory_of_models
from harness.fit.results.result import StrictJson
from harness.forecasts.score import ForecastScores
from harness.study.cells import BLOCK, blocks_of
from harness.study.contest import LawContest, law_contests
from harness.study.documents import DocumentShare, document_shares
from harness.study.forecasts import score
from harness.study.slopes import GroupSlopes, group_slopes
from harness.study.studies import Forecast

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
        blocks: the cells that were judged, block by block; not part of what is written.
        claims: the claims of the source, by the twin gap.
        online: the same claims by the online gap, which is the source's estimator; but for the claim of the estimator.
        checks: placebos, permutations and a null.
        laws: the competing laws on several sets of cells.
        slopes: the powers of N and D in the gaps of every group of cells.
        memory: a row for each cell of repeated text: bits that the model holds of its text, per parameter.
        documents: for each block the share of the gap that is memory of documents, not of the windows that were read.
        forecasts: the stem of a file of forecasts -> its scores, once a run that was forecast has finished.
    """

    blocks: Blocks
    claims: tuple[JudgedClaim, ...]
    online: tuple[JudgedClaim, ...]
    checks: tuple[Check, ...]
    laws: tuple[LawContest, ...]
    slopes: tuple[GroupSlopes, ...]
    memory: list[dict[str, Any]]
    documents: tuple[DocumentShare, ...]
    forecasts: Mapping[str, ForecastScores]

    @property
    def headline(self) -> str:
        """The finding in a sentence."""
        count = Counter(claim.ruling for claim in self.claims)
        sums = sum(claim.rows == ARITHMETIC and claim.ruling is Ruling.SUPPORTED for claim in self.claims)
        law = next(claim for claim in self.claims if claim.id == "S0-1").ruling
        says = {
            Ruling.SUPPORTED: "The gap law is supported",
            Ruling.NOT_SUPPORTED: "The gap law is not supported",
            Ruling.NOT_RESOLVED: "These runs do not decide on the gap law",
        }
        return (
            f"{says[law]}: of fifteen claims {count[Ruling.SUPPORTED]} are supported, {sums} of these by arithmetic"
            f" alone, {count[Ruling.NOT_SUPPORTED]} are not, and {count[Ruling.NOT_RESOLVED]} are not resolved."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings."""
        return {
            "headline": self.headline,
            "claims": [claim.to_dict() for claim in self.claims],
            "online": [claim.to_dict() for claim in self.online],
            "checks": [asdict(check) for check in self.checks],
            "laws": [asdict(contest) for contest in self.laws],
            "slopes": [asdict(group) for group in self.slopes],
            "memory": self.memory,
            "documents": [asdict(share) for share in self.documents],
            "forecasts": {name: scores.to_dict() for name, scores in self.forecasts.items()},
        }


def judge_gap_study(
    runs: pd.DataFrame, seed: int = 0, forecasts: Iterable[Forecast] = (), folder: Path = Path()
) -> GapVerdict:
    """Judge the study's runs, all of them or those that have ended.

    Args:
        runs: what `harness.study.cells.study_runs` returns.
        forecasts: what the study declares to forecast.
        folder: where the files of forecasts are; none need exist.

    Raises:
        InputError: no finished pair of twins, or a file of forecasts that was changed.
    """
    blocks = blocks_of(runs)
    return GapVerdict(
        blocks=blocks,
        claims=judge_claims(blocks),
        online=online_claims(blocks),
        checks=instrument_checks(runs, blocks, seed),
        laws=law_contests(runs, seed),
        slopes=group_slopes(blocks),
        memory=memory_of(blocks),
        documents=tuple(document_shares(runs)),
        forecasts=score(forecasts, runs, folder),
    )


def online_claims(blocks: Blocks) -> tuple[JudgedClaim, ...]:
    """The claims judged by the online gap in the place of the twin gap; cells without one are left out."""
    by_online = {}
    for name, rows in blocks.items():
        known = rows.dropna(subset=["gap_online", "gap_online_se"]).drop(columns=["G_shared"], errors="ignore")
        by_online[name] = known.assign(G=known["gap_online"], G_se=known["gap_online_se"])
    return tuple(claim for claim in judge_claims(by_online) if claim.id != "S0-4")


def instrument_checks(runs: pd.DataFrame, blocks: Blocks, seed: int = 0) -> tuple[Check, ...]:
    """The checks that data allow: placebos of pairs and of cells, and N permuted among the cells of text read once.

    Pairs are tested by their errors from within, cells by their errors from the spread between draws, which are the
    errors of the gaps that claims are judged by. Placebos of the source's own study are counted apart, because they
    were measured while all pairs had the same halves of held-out text.
    """
    checks = []
    pairs = runs.loc[runs["half"] == "a"].dropna(subset=["placebo_twin", "placebo_twin_se"])
    cells = pd.concat(blocks.values()).dropna(subset=["placebo_gap", "placebo_se"])
    for part, of_source in (("the source's own study", True), ("the other blocks", False)):
        own = pairs.loc[(pairs[BLOCK] == SOURCE_BLOCK) == of_source]
        if len(own):
            scores = np.abs(own["placebo_twin"].to_numpy(float) / own["placebo_twin_se"].to_numpy(float))
            checks.append(_check(f"pairs of twins, {part}: a gap between two halves of held-out text", scores > 1.96))
        own = cells.loc[(cells[BLOCK] == SOURCE_BLOCK) == of_source]
        if len(own):
            scores = (own["placebo_gap"] / own["placebo_se"]).abs().to_numpy(float)
            beyond = scores > t.ppf(0.975, own["placebo_degrees"].to_numpy(float))
            checks.append(_check(f"cells, {part}: the mean of such gaps over the draws", beyond))
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


def memory_of(blocks: Blocks) -> list[dict[str, Any]]:
    """Bits that models hold of text that they read several times, by cell, per parameter without embeddings."""
    rows = [rows for name, rows in blocks.items() if name in ("epochs", "converged") and len(rows)]
    if not rows:
        return []
    cells = pd.concat(rows, ignore_index=True)
    # The tokens that were read, since a run reads whole windows: 3,968 of 4,096.
    held = memory_of_models(cells.assign(U=cells["D"] / cells["epochs"]))
    columns = ["block", "N", "D", "U", "epochs", "G", "G_se", "bits", "bits_per_parameter", "share_of_capacity"]
    return [dict(row) for _, row in held[columns].iterrows()]
