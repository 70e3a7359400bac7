import dataclasses

import numpy as np
import pytest

from harness import predict_gap
from harness.report import figures


def fit_of(material):
    return material.verdict.fits["gap"]


def range_of(figure):
    return figure.layout.yaxis.range


def runs_in(figure):
    return [trace for trace in figure.data if trace.meta == "runs"]


def test_where_the_law_holds_every_run_lies_on_the_published_curve(material):
    """With A N^-alpha f(u) as the gap, G N^alpha is A f(u) for every run."""
    rows = material.rows.assign(G=predict_gap(material.rows["N_nonembedding"], material.rows["D"]), G_se=0.0)
    source = figures.constants_of(fit_of(material), published=True)
    assert source is not None
    figure = figures.collapse_figure(rows, source, source)
    curve = figure.data[0]
    for trace in runs_in(figure):
        expected = np.interp(np.log(trace.x), np.log(curve.x), curve.y)
        np.testing.assert_allclose(trace.y, expected, atol=0.01)


@pytest.mark.parametrize("published", [True, False])
def test_every_gap_is_drawn_also_the_negative_ones(material, published):
    constants = figures.constants_of(fit_of(material), published=published)
    source = figures.constants_of(fit_of(material), published=True)
    assert constants is not None and source is not None
    figure = figures.collapse_figure(material.rows, constants, source)
    drawn = np.concatenate([trace.y for trace in runs_in(figure)])
    negative = int((material.rows["gap_probe"] < 0).sum())
    assert negative >= 2
    assert len(drawn) == len(material.rows) and int(np.sum(drawn < 0)) == negative
    low, high = range_of(figure)
    assert low < drawn.min() and drawn.max() < high


def known_only(fit, **combinations):
    """The fit as if only beta and these combinations were identified."""
    parameters = {name: dataclasses.replace(p, identified=name == "beta") for name, p in fit.parameters.items()}
    entries = [{"combination": name, "estimate": value} for name, value in combinations.items()]
    return dataclasses.replace(
        fit, parameters=parameters, identifiability=fit.identifiability | {"identified_combinations": entries}
    )


def test_a_collapse_without_z_is_drawn_on_the_valley_of_equal_fits(material):
    """Above the crossover G = exp(h) N^-s D^-beta, whatever z is."""
    fit = fit_of(material)
    valley = known_only(fit, **{"alpha - z*beta": 0.1, "log A + beta*log u_star": -0.7})
    constants = figures.drawn_constants(material.rows, valley)
    assert constants is not None and constants["z"] == 0.74
    n, d, beta = material.rows["N_nonembedding"], material.rows["D"], fit.parameters["beta"].estimate
    np.testing.assert_allclose(predict_gap(n, d, **constants), np.exp(-0.7) * n**-0.1 * d**-beta, rtol=1e-9)


def test_where_too_little_is_known_no_fitted_collapse_is_drawn(material):
    assert figures.drawn_constants(material.rows, known_only(fit_of(material), **{"alpha - z*beta": 0.1})) is None


def test_gaps_below_what_is_detectable_are_hollow(material):
    rows = material.rows
    below = np.abs(rows["gap_probe"]) < rows["minimum_detectable_gap"]
    assert 0 < below.sum() < len(rows)
    symbols = [s for trace in runs_in(figures.gap_figure(rows, fit_of(material))) for s in trace.marker.symbol]
    assert sum(symbol.endswith("-open") for symbol in symbols) == below.sum()


def test_without_values_there_is_no_fitted_curve_and_no_residual(material):
    fit = fit_of(material)
    lost = dataclasses.replace(
        fit, parameters=fit.parameters | {"z": dataclasses.replace(fit.parameters["z"], estimate=None)}
    )
    assert figures.constants_of(lost, published=False) is None
    assert figures.residual_figures(material.rows, lost) == []
    assert len(runs_in(figures.gap_figure(material.rows, lost))) == 3


def test_residuals_are_the_gap_minus_the_law_over_its_spread(material):
    rows, fit = material.rows, fit_of(material)
    law = predict_gap(
        rows["N_nonembedding"], rows["D"], **{name: fit.parameters[name].estimate for name in figures.CONSTANTS}
    )
    expected = (rows["gap_probe"] - law) / np.sqrt(rows["gap_probe_se"] ** 2 + (fit.scatter["tau"] * law) ** 2)
    residual = figures.standardized_residuals(rows, fit)
    assert residual is not None
    np.testing.assert_allclose(residual, expected, rtol=1e-6)


def test_a_run_that_lies_far_off_is_still_in_the_figure(material):
    rows = material.rows.assign(G=material.rows["G"] + 50 * material.rows["gap_probe_se"])
    figure = figures.residual_figures(rows, fit_of(material))[0]
    drawn = np.concatenate([trace.y for trace in runs_in(figure)])
    low, high = range_of(figure)
    assert low < drawn.min() and drawn.max() < high


def test_coverage_marks_every_run_at_its_u_and_the_source_above_one(material):
    figure = figures.coverage_figure(material.runs)
    source, *marks = figure.data
    # (1e9 tokens, 1.3e10 parameters) and (4e12, 7e7): the corners of the source's ranges.
    assert source.x == pytest.approx((33.3, 6.25e6), rel=0.02)
    drawn = np.sort(np.concatenate([trace.x for trace in marks]))
    np.testing.assert_allclose(drawn, np.sort(material.runs["D"] / material.runs["N_nonembedding"] ** 0.74))
