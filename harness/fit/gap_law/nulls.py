"""Applies the verdict's rule to three simulated truths on a table's design, which shows what the design could find.

One table is drawn from each truth and fitted like the real one, with three differences: the rounded crossover is left
out, epochs are not tested (the truths have no such term), and errors come from the curvature, not from a bootstrap.

If the rule does not say `supported` where the law is true, then the design is why it cannot be supported. If the rule
says `supported` of a truth without N, then support means nothing on this design.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.fit.fitting import SolvedFit, curvature_estimates
from harness.fit.gap_law.constants import SOURCE_SCATTER, predict_gap
from harness.fit.gap_law.contest import solve_contest
from harness.fit.gap_law.judge import ErrorKind, Judgement, judge
from harness.fit.gap_law.rule import RIVALS, TESTED_LAW, Word
from harness.fit.problem.raw_units import raw_point


@dataclass(frozen=True)
class Null:
    """A simulated truth: the rule's word for it on a sufficient design, and its word and reason on this design."""

    truth: str
    expected: Word
    verdict: Word
    reason: str

    @property
    def passed(self) -> bool:
        return self.verdict == self.expected


def judge_simulated(frame: pd.DataFrame) -> tuple[Judgement, dict[str, SolvedFit]]:
    """Judge a simulated table with errors from the curvature; also return its fits of the law and the rivals."""
    fits, _ = solve_contest(frame, (TESTED_LAW, *RIVALS))
    return judge(fits, curvature_estimates(fits[TESTED_LAW]), None, ErrorKind.CURVATURE), fits


def simulate_nulls(frame: pd.DataFrame, without_n: SolvedFit, seed: int = 0) -> tuple[Null, ...]:
    """Replace the gaps of a table by three simulated ones and judge each.

    The noise of a row is its standard error. Where a row has none, the truth without a gap takes the median |G| of the
    table, and the other truths take no noise.

    Args:
        without_n: the fit of G = a D^-b to the table; the second truth has its constants.
    """
    rng = np.random.default_rng(seed)
    noise = frame["G_se"].fillna(0.0).to_numpy(float) if "G_se" in frame.columns else np.zeros(len(frame))
    floor = float(np.median(np.abs(frame["G"])))
    problem = without_n.problem
    constants = raw_point(problem, without_n.identified.theta)
    tokens = problem.raw_columns["D"]  # processed or unique, whichever that law was fitted in
    truths = (
        ("no gap, noise only", Word.NO_DETECTABLE_GAP, np.zeros(len(noise))),
        ("G = a D^-b as fitted here", Word.N_FREE, constants["a"] * tokens ** -constants["b"]),
        ("the law with its published constants", Word.SUPPORTED, predict_gap(frame["N"], frame["D"])),
    )
    nulls = []
    for truth, expected, mean in truths:
        spread = noise if mean.any() or (noise > 0).all() else np.where(noise > 0, noise, floor)
        scatter = 1.0 + SOURCE_SCATTER * rng.standard_normal(len(noise))
        gap = mean * scatter + spread * rng.standard_normal(len(noise))
        judgement, _ = judge_simulated(frame.assign(G=gap))
        nulls.append(Null(truth, expected, judgement.word, judgement.reason))
    return tuple(nulls)
