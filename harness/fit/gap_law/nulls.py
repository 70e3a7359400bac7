"""What the rule says about three simulated truths on the same design: what this design could have found.

One table is drawn of each truth, fitted like the real one but for the rounded crossover, the epochs test (the truths
have none) and the bootstrap, in whose place stand errors from the curvature.

If the rule does not say `supported` where the law is true, a failure to support it is the design's; if it says
`supported` of a truth without N, support means nothing.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.fit.certainty.information import raw_values
from harness.fit.gap_law.assess import Assessment, assess
from harness.fit.gap_law.published import predict_gap

SCATTER = 0.08


@dataclass(frozen=True)
class Null:
    """A simulated truth, what the rule should say on a design that can tell, and what it says on this one."""

    truth: str
    expected: str
    verdict: str
    reason: str

    @property
    def passed(self) -> bool:
        return self.verdict == self.expected


def simulate_nulls(frame: pd.DataFrame, assessment: Assessment, seed: int = 0) -> tuple[Null, ...]:
    """Replace the gaps of a table by three simulated ones and assess each.

    The noise of a row is its standard error; without one, in the truth without a gap, the median |G| of the table.
    """
    rng = np.random.default_rng(seed)
    rows = len(frame)
    noise = frame["G_se"].fillna(0.0).to_numpy(float) if "G_se" in frame.columns else np.zeros(rows)
    floor = float(np.median(np.abs(frame["G"])))
    tokens_only = assessment.fits["gap_n_free"]
    value = {
        name: float(v[0]) for name, v in raw_values(tokens_only.problem, tokens_only.identified.theta[None]).items()
    }
    tokens = frame["D"].to_numpy(float)
    fitted_tokens = tokens_only.problem.raw_columns["D"]  # processed or unique
    means = {
        ("no gap, noise only", "no_detectable_gap"): np.zeros(rows),
        ("G = a D^-b as fitted here", "n_free"): value["a"] * fitted_tokens ** -value["b"],
        ("the law with its published constants", "supported"): predict_gap(frame["N"], tokens),
    }
    found = []
    for (truth, expected), mean in means.items():
        spread = noise if mean.any() or (noise > 0).all() else np.where(noise > 0, noise, floor)
        gap = mean * (1.0 + SCATTER * rng.standard_normal(rows)) + spread * rng.standard_normal(rows)
        said = assess(frame.assign(G=gap))
        found.append(Null(truth, expected, said.word.value, said.reason))
    return tuple(found)
