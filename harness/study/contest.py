"""Which law describes the gaps of the study best: declared laws and other forms, ranked on cells that share a recipe.

The forms were written down before any run of `gap1000` was trained; a pilot and a quarter of `gap174` were known then.
"""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.fit.compare import compare
from harness.fit.fitting import fit
from harness.fit.gap_law.claims import SOURCE_BLOCK
from harness.fit.gap_law.rule import TESTED_LAW
from harness.fit.results.shown import finite_rows
from harness.gaps.shared_documents import SHARED
from harness.study.cells import BLOCK, study_cells
from sweeps.errors import InputError

# The declared laws of the gap of text read once, and forms that no paper has: the gap by what has been learned, and a
# gap that falls with D before it grows.
FRESH_LAWS = (
    "gap", "gap_smooth", "gap_n_free", "gap_free_n", "gap_kaplan", "gap_classical",
    "G = a*N**c*L**-m", "G = a*N**c*D**-b + k*N**m*D**n",
)  # fmt: skip
# For text that is read several times also: a power of the epochs, saturating or not, and sums of what one epoch and
# what the others leave.
REPEATED_LAWS = (
    "gap", "gap_free_n", "gap_kaplan", "gap_classical",
    "gap_powers",
    "G = S*a*N**c*D**-b*epochs**r/(1 + a*N**c*D**-b*epochs**r)",
    "G = a*N**c*D**-b + P*(epochs-1)*(N/U)**k",
    "G = a*N**c*D**-b + P*(epochs-1)**d*N**k*U**-m",
)  # fmt: skip
# What the source's own study is fitted by: its law, and the rivals of `harness.fit.gap_law.rule`.
SOURCE_LAWS = ("gap", "gap_n_free", "gap_free_n", "gap_kaplan")
# The recipe that most blocks share; cells of other recipes may have other prefactors. The block of nuisances has other
# rates under the same recipe, and the source's own study stands by itself.
RECIPE = {"architecture": "dense", "tokenizer": "bytes", "domain": "science", "batch_tokens": 256, "weight_decay": 0.1}
APART = ("nuisances", SOURCE_BLOCK)


@dataclass(frozen=True)
class LawContest:
    """Laws on the same cells.

    Attributes:
        cells: which cells these are, in words.
        rows: their number.
        ranked: the laws, the best first, as `harness.fit.compare` describes them.
        constants: a row for each constant of the best law and of the law under test, with its 95 % interval.
    """

    cells: str
    rows: int
    ranked: list[dict[str, Any]]
    constants: list[dict[str, Any]]


def law_contests(runs: pd.DataFrame, seed: int = 0) -> tuple[LawContest, ...]:
    """Rank the laws on text read once, on all text of one recipe, and on the cells of the source's own study.

    Sets that have no cells, or too few, are left out.

    Args:
        runs: what `harness.study.cells.study_runs` returns.
    """
    base = runs.loc[(runs[list(RECIPE)] == pd.Series(RECIPE)).all(axis=1)]
    sets = {
        "text read once": (runs.loc[runs[BLOCK] == "once"], FRESH_LAWS),
        "all text, of one recipe": (base.loc[~base[BLOCK].isin(APART)], REPEATED_LAWS),
        "the source's own study": (runs.loc[runs[BLOCK] == SOURCE_BLOCK], SOURCE_LAWS),
    }
    found = [_contest(name, chosen, laws, seed) for name, (chosen, laws) in sets.items()]
    return tuple(contest for contest in found if contest is not None)


def _contest(name: str, runs: pd.DataFrame, laws: tuple[str, ...], seed: int) -> LawContest | None:
    try:
        cells = study_cells(runs)
        # The ranking takes the errors of cells as independent; the intervals of constants do not.
        ranked = compare(laws, cells.drop(columns=[SHARED], errors="ignore").assign(holdout=False), seed=seed)
    except InputError:  # no finished pair of twins, or too few cells
        return None
    if not ranked:
        return None
    constants = [row for law in dict.fromkeys((ranked[0].law, TESTED_LAW)) for row in _constants(law, cells)]
    return LawContest(name, len(cells), finite_rows(law.to_dict() for law in ranked), constants)


def _constants(law: str, cells: pd.DataFrame) -> list[dict[str, Any]]:
    """The constants of a law; none if it cannot be fitted."""
    try:
        found = fit(law, cells, bootstrap=0, sensitivity=False)
    except InputError:
        return []
    return [
        {"law": law, "constant": name, "identified": each.identified, "estimate": each.estimate,
         "low": each.ci_low, "high": each.ci_high}
        for name, each in found.parameters.items()
    ]  # fmt: skip
