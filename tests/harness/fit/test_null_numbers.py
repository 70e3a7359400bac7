import json

import jax
import numpy as np
import pandas as pd
import pytest

from harness.fit.fitting import fit
from harness.fit.laws.registry import get_law, law_ids
from harness.fit.results.result import FitResult
from harness.report.gather import TableRecords
from harness.report.judged import judge_any_table
from harness.report.table_page import table_page
from sweeps.errors import InputError

# Intervals take most of the time: with 60 rows these tests took 800 s, twice as long.
ROWS = 24


@pytest.fixture(autouse=True)
def forgotten():
    """The programs of each law are dropped: those of eighty laws take all 65,530 memory maps that Linux allows."""
    yield
    jax.clear_caches()


FEW = ("gap", "chinchilla", "routed", "lr_anneal")
# Every sixth of the others: all of them take 515 s of a core, and what they share is walked by these.
SOME = [law_id for law_id in law_ids() if law_id not in FEW][::6]


def rank_deficient(law_id: str) -> pd.DataFrame:
    """Rows whose columns are all in proportion to one number: no law of two columns is identified."""
    law = get_law(law_id)
    size = np.geomspace(1.0, 30.0, ROWS)
    frame = pd.DataFrame({role: (1.0 + place) * size for place, role in enumerate(law.columns)}, index=range(ROWS))
    for role in law.vectors:
        frame[f"{role}[a]"], frame[f"{role}[b]"] = 0.4, 0.6
    for role in law.labels:
        frame[role] = np.where(np.arange(ROWS) < ROWS // 2, "x", "y")
    frame[law.response] = 2.0 * size**-0.3 * np.exp(0.02 * np.random.default_rng(7).standard_normal(ROWS))
    return frame


def walked(law_id: str) -> None:
    """Fit the law, write the result and its page, and read the result again: numbers or null, and the same."""
    records = TableRecords("made up", get_law(law_id), rank_deficient(law_id), (), {})
    try:
        judged = judge_any_table(records)
    except InputError as error:
        assert "\n" not in str(error)  # rows that this law cannot have at all
        return
    result = judged.fit
    data = json.loads(result.to_json(), parse_constant=lambda name: pytest.fail(f"{name} in the JSON"))
    assert FitResult.from_dict(data).to_dict() == result.to_dict()
    for name, value in result.parameters.items():
        assert value.ci_low is None or value.ci_high is None or value.ci_low <= value.ci_high, name
    page = table_page(records, judged)
    assert ">nan<" not in page and ">inf<" not in page and " nan" not in page.replace("nan_", "")


@pytest.mark.slow
def test_gaps_that_all_lie_above_the_crossover_have_a_result(ordinary):
    """174 rows of 8 % scatter and u > 30: combinations are identified, and each is a number."""
    result = fit("gap", ordinary(4), bootstrap=20)
    data = json.loads(result.to_json(), parse_constant=lambda name: pytest.fail(f"{name} in the JSON"))
    known = {entry["combination"]: entry["estimate"] for entry in data["identifiability"]["identified_combinations"]}
    assert known["alpha - z*beta"] == pytest.approx(0.31 - 0.74 * 0.42, abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("law_id", FEW)
def test_what_a_table_cannot_tell_is_null(law_id):
    walked(law_id)


@pytest.mark.slow
@pytest.mark.parametrize("law_id", SOME)
def test_what_a_table_cannot_tell_is_null_for_other_laws(law_id):
    walked(law_id)
