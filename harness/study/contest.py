"""Which law describes the gaps of the study best: declared laws and other forms, ranked on cells that share a recipe.

The forms were written down before any run of `gap1000` was trained; a pilot and a quarter of `gap174` were known then.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.fit.compare import RANKINGS, compare
from harness.fit.fitting import set_estimates, solve
from harness.fit.gap_law.claims import SOURCE_BLOCK
from harness.fit.gap_law.rule import TESTED_LAW
from harness.fit.laws.law import Law, by_group
from harness.fit.laws.registry import get_law
from harness.fit.results.shown import finite_rows
from harness.gaps.shared_documents import SHARED
from harness.study.cells import BLOCK, rate_factors, study_cells
from harness.study.forecasts import READ_ONCE
from sweeps.errors import InputError

# The declared laws of the gap of text read once, and forms that no paper has: the gap by what has been learned, and a
# gap that falls with D before it grows. Three say where the law's fall begins: at one D, at one u, at one D/N; they
# were added before the block `once_longer` was run, and `gap_capped` after.
FRESH_LAWS = (
    "gap", "gap with z=0", "gap with z=0.74", "gap with z=1", "gap_smooth", "gap_n_free", "gap_free_n", "gap_kaplan",
    "gap_classical", "gap_capped with r=1",
    "G = a*N**c*L**-m", "G = a*N**c*D**-b + k*N**m*D**n",
)  # fmt: skip
# For text that is read several times also: a power of the epochs, saturating or not, and sums of what one epoch and
# what the others leave. The last was added, with `gap_capped`, when `once_longer` was known. Of the laws without epochs
# only the one under test is ranked: the others were 590 to 1,120 behind in AICc, and took a quarter of the time.
CAPPED_SUM = "G = a*N**c/(1 + D/(w*N**(1 - c))) + a*P*(epochs-1)*(N/U)**k"
REPEATED_LAWS = (
    "gap",
    "gap_powers",
    "gap_capped",
    "G = S*a*N**c*D**-b*epochs**r/(1 + a*N**c*D**-b*epochs**r)",
    "G = a*N**c*D**-b + P*(epochs-1)*(N/U)**k",
    # Without the bound the power has no derivative in d where nothing is repeated.
    "G = a*N**c*D**-b + P*max(epochs-1, 1e-6)**d*N**k*U**-m",
    CAPPED_SUM,
)
# Laws with one constant that is the level of a gap, and that constant.
LEVELLED_LAWS = {"gap": "A", "gap_powers": "a", "gap_capped": "a", CAPPED_SUM: "a"}
# What the source's own study is fitted by: its law, and the rivals of `harness.fit.gap_law.rule`.
SOURCE_LAWS = ("gap", "gap_n_free", "gap_free_n", "gap_kaplan")
# Cells that agree in these share a level.
RECIPE_COLUMNS = ("architecture", "tokenizer", "domain", "B", "schedule", "weight_decay", "rate")
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
        constants: a row for each constant of the best law, and without levels of the law under test, with its 95 %
            interval; the levels of recipes are left out.
        left_out: why a law is not ranked, a line for each that is not.
    """

    cells: str
    rows: int
    ranked: list[dict[str, Any]]
    constants: list[dict[str, Any]]
    left_out: tuple[str, ...]


def law_contests(runs: pd.DataFrame, seed: int = 0) -> tuple[LawContest, ...]:
    """Rank the laws on text read once, on all text of one recipe, on all blocks, and on the source's own study.

    Over all blocks the laws share their exponents, and each recipe has a level of its own; the source's own study is
    not among them. Sets that have no cells, or too few, are left out.

    Args:
        runs: what `harness.study.cells.study_runs` returns.
    """
    base = runs.loc[(runs[list(RECIPE)] == pd.Series(RECIPE)).all(axis=1)]
    of_source = runs[BLOCK] == SOURCE_BLOCK
    found = (
        _contest("text read once", runs.loc[runs[BLOCK].isin(READ_ONCE)], FRESH_LAWS, seed),
        _contest("all text, of one recipe", base.loc[~base[BLOCK].isin(APART)], REPEATED_LAWS, seed),
        _contest("all blocks, a level for each recipe", runs.loc[~of_source], LEVELLED_LAWS, seed, levels=True),
        _contest("the source's own study", runs.loc[of_source], SOURCE_LAWS, seed),
    )
    return tuple(contest for contest in found if contest is not None)


def _contest(
    name: str, runs: pd.DataFrame, ids: Iterable[str], seed: int, *, levels: bool = False
) -> LawContest | None:
    try:
        cells = study_cells(runs)
        laws: dict[str, str | Law] = {law: law for law in ids}
        if levels:
            cells = cells.assign(group=_recipes(cells))
            laws = {law: by_group(get_law(law, cells.columns), (LEVELLED_LAWS[law],)) for law in ids}
        # The ranking takes the errors of cells as independent; the intervals of constants do not.
        alone = cells.drop(columns=[SHARED], errors="ignore").assign(holdout=False)
        # With levels resamplings would take a minute and more.
        ranked = compare(tuple(laws.values()), alone, seed=seed, resamplings=0 if levels else RANKINGS)
    except InputError:  # no finished pair of twins, or too few cells
        return None
    if not ranked:
        return None
    ids_of = {get_law(law, cells.columns).id: law_id for law_id, law in laws.items()}
    rows = finite_rows(law.to_dict() | {"law": ids_of[law.law]} for law in ranked)
    # Intervals of the law under test with levels, none of whose constants is identified there, take 22 s.
    described = (ids_of[ranked[0].law], *(() if levels else (TESTED_LAW,)))
    constants = [row for law_id in dict.fromkeys(described) for row in _constants(law_id, laws[law_id], cells)]
    return LawContest(name, len(cells), rows, constants, tuple(warning.message for warning in ranked.warnings))


def _recipes(cells: pd.DataFrame) -> pd.Series:
    """What tells the recipe of each cell, in words."""
    columns = cells.assign(rate=rate_factors(cells))[list(RECIPE_COLUMNS)].astype(str)
    return pd.Series([", ".join(values) for values in columns.to_numpy()], cells.index)


def _constants(name: str, law: str | Law, cells: pd.DataFrame) -> list[dict[str, Any]]:
    """The constants of a law but for those of each recipe; none if it cannot be fitted."""
    try:
        found = set_estimates(solve(law, cells))
    except InputError:
        return []
    return [
        {"law": name, "constant": constant, "identified": each.identified, "estimate": each.estimate,
         "low": each.ci_low, "high": each.ci_high}
        for constant, each in found.items()
        if "[" not in constant
    ]  # fmt: skip
