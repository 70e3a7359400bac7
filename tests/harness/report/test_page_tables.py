import dataclasses
import math

import pytest

from harness.fit.gap_law.nulls import Null
from harness.fit.gap_law.rule import Word
from harness.fit.laws.registry import get_law
from harness.report.page_tables import cell_text, constants_table, cost_table, html_table, nulls_table


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (math.nan, "–"), (True, "yes"), (False, "no"), (1234567, "1\u202f234\u202f567"), (-0.25, "−0.25"),
     (1.23456e-5, "1.235e−05"), ("<b> & co", "&lt;b&gt; &amp; co")],
)  # fmt: skip
def test_values_as_a_reader_wants_them(value, text):
    assert cell_text(value) == text


def test_a_sortable_table_carries_its_values_in_full():
    html = html_table(("run", "loss"), [["a", 1.23456789], ["b", None]], sortable=True)
    assert 'data-v="1.23456789"' in html and 'data-v=""' in html
    assert html.count('class="n"') == 3


def test_what_is_not_identified_has_no_number(material):
    fit = material.verdict.fit
    unknown = dataclasses.replace(fit.parameters["z"], identified=False, estimate=0.123456, ci_low=0.1, ci_high=0.2)
    html = constants_table(get_law("gap"), dataclasses.replace(fit, parameters=fit.parameters | {"z": unknown}))
    row = next(part for part in html.split("<tr>") if part.startswith('<th scope="row">z<'))
    assert "not identified" in row and "0.12" not in row and "0.74" in row


def test_costs_add_up(material):
    """36 finished runs of D tokens and 6 N_active D operations; 3, 40 and 77 steps of 256 tokens of the others."""
    done = material.runs[material.runs["status"] == "done"]
    html = cost_table(material.records.runs)
    first = html.split("<tr>")[2].split("</tr>")[0]
    tokens = int(done["D"].sum()) + (3 + 40 + 77) * 256
    assert cell_text(tokens) in first
    assert cell_text(36 * 2 * 1.5) in first
    assert html.count("<tr>") == 2 + len(material.runs[["architecture", "N_nonembedding"]].drop_duplicates())


def test_simulated_truths_say_whether_the_design_tells_them():
    html = nulls_table(
        [Null("none", Word.NO_DETECTABLE_GAP, Word.N_FREE, ""), Null("law", Word.SUPPORTED, Word.SUPPORTED, "")]
    )
    missed, told = html.split("<tr>")[2:]
    assert "<td>no detectable gap</td><td>n free</td><td>no</td>" in missed
    assert "<td>supported</td><td>supported</td><td>yes</td>" in told
