from dataclasses import replace

import pytest

from harness.report.page import page


@pytest.fixture(scope="module")
def html(material) -> str:
    return page(material.records, material.judged)


@pytest.fixture(scope="module")
def read(html, reader):
    return reader(html)


def test_the_page_is_one_file(html, read, assert_whole):
    assert_whole(html, read)


def test_the_verdict_and_its_sentences_are_said_the_sources_design_first(read, material):
    assert material.verdict.headline in read.text
    places = [read.text.index(sentence) for sentence in material.verdict.sentences]
    assert places == sorted(places)
    assert "none of its runs can reach u = 1" in material.verdict.sentences[0]


def test_every_number_among_the_constants_is_the_fits(read, material):
    fit = material.verdict.fit
    rows = {row[0]: row[1:] for row in read.rows["constants"][1:]}
    assert list(rows)[: len(fit.parameters)] == list(fit.parameters)
    expected = {name: (v.estimate, v.ci_low, v.ci_high, v.se) for name, v in fit.parameters.items() if v.identified}
    expected |= {
        c.combination: (c.estimate, c.ci_low, c.ci_high, c.se) for c in fit.identifiability.identified_combinations
    }
    assert "beta" in expected
    for name, cells in rows.items():
        estimate, interval, error, _ = (cell.replace("−", "-") for cell in cells)
        if name not in expected:
            assert (estimate, error) == ("not identified", "")
            continue
        value, low, high, se = expected[name]
        assert float(estimate) == pytest.approx(value, rel=1e-3)
        assert float(error) == pytest.approx(se, rel=1e-3)
        for said, end in zip(interval.strip("[]").split(", "), (low, high), strict=interval != "unbounded"):
            assert said == "unbounded" if end is None else float(said) == pytest.approx(end, rel=1e-3)
    source = {name: cells[3] for name, cells in rows.items()}
    assert [source[name] for name in ("A", "alpha", "z", "beta", "u_star")] == ["0.86", "0.31", "0.74", "0.42", "1"]


def test_every_run_is_named(read, material):
    named = {row[0] for row in read.rows["runs"]}
    assert set(material.runs["run_id"]) <= named


def test_runs_without_a_result_are_listed_with_their_reasons(read, material):
    rows = {row[0]: row for row in read.rows["cost"]}
    for run in material.runs[material.runs["status"] != "done"].to_dict("records"):
        assert rows[run["run_id"]][1] == run["status"]
    reasons = {row[1]: row[2] for row in read.rows["cost"] if len(row) == 9}
    assert reasons["failed"] == "XlaRuntimeError: out of <memory>"
    assert reasons["diverged"] == "loss not finite at step 40"
    assert {"interrupted", "pending"} <= reasons.keys()


def test_a_fit_without_values_has_no_residuals(html, material):
    fit, verdict = material.verdict.fit, material.verdict
    lost = replace(fit, parameters=fit.parameters | {"z": replace(fit.parameters["z"], estimate=None)})
    judged = replace(material.judged, verdict=replace(verdict, fits=verdict.fits | {"gap": lost}))
    assert '<section id="residuals"' in html
    assert '<section id="residuals"' not in page(material.records, judged)


def test_rivals_are_ranked_as_the_comparison_ranks_them(read, material):
    assert [row[0] for row in read.rows["rivals"][1:]] == [row.law for row in material.verdict.comparison]
    assert [float(row[3]) for row in read.rows["rivals"][1:]] == pytest.approx(
        [row.delta_aicc for row in material.verdict.comparison], abs=0.051
    )


def test_the_choices_and_the_checklist_are_those_of_the_fit(read, material):
    fit = material.verdict.fit
    assert [row[0] for row in read.rows["sensitivity"][1:]] == [case.case for case in fit.sensitivity]
    assert {row[0] for row in read.rows["checklist"]} >= set(fit.checklist["form"])


def test_every_constant_has_its_profile(html, figures_of, material):
    drawn = [figure for figure in figures_of(html) if figure["data"][0].get("meta") == "profile"]
    titles = [figure["layout"]["xaxis"]["title"]["text"] for figure in drawn]
    assert titles == list(material.verdict.fit.profiles) and set(titles) <= set(material.verdict.fit.parameters)
    assert titles


def test_figures_parse_and_have_units(html, figures_of):
    drawn = figures_of(html)
    titles = [axis["title"]["text"] for f in drawn for name, axis in f["layout"].items()
              if name in ("xaxis", "yaxis") and "title" in axis]  # fmt: skip
    assert len(drawn) >= 10
    assert sum("nats per token" in title for title in titles) >= 4
    assert sum("tokens" in title for title in titles) >= 3 and sum("parameters" in title for title in titles) >= 2


def test_the_spec_stands_there_to_the_letter(read, material):
    assert material.records.spec in read.text and "<made> & told" in read.text
    assert "c0ffee" in read.text and "isogap run sweep.yaml" in read.text
