import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import predict_gap
from harness.fit.fitting import fit
from harness.fit.gap_law.constants import collapse_constants, estimated_constants, unidentified_constants
from harness.fit.results.result import CombinationEstimate

counts = st.floats(1e3, 1e13)


@given(counts, counts)
def test_log_gap_is_the_sum_of_its_terms(n, d):
    """log G = log A - alpha log N + log f(D/N^z)."""
    u = d / n**0.74
    log_f = np.log(1.0 if u <= 1.0 else u**-0.42)
    assert np.log(predict_gap(n, d)) == pytest.approx(np.log(0.86) - 0.31 * np.log(n) + log_f, rel=1e-12)


def test_published_values_and_broadcasting():
    """At 20 tokens a parameter the law predicts 7.5e-4, 2.8e-4, 1.1e-4 and 4.1e-5 nats for N = 1e6 .. 1e9."""
    n = np.array([1e6, 1e7, 1e8, 1e9])
    np.testing.assert_allclose(predict_gap(n, 20 * n), [7.5e-4, 2.8e-4, 1.1e-4, 4.1e-5], rtol=0.02)
    assert predict_gap(n[:, None], n[None, :]).shape == (4, 4)


def test_doubling_n_needs_tokens_times_two_to_the_z_for_the_same_side_of_the_crossover():
    n = 1e8
    edge = n**0.74
    assert predict_gap(n, edge * 0.999) == predict_gap(n, 1.0)
    assert predict_gap(2 * n, edge * 2**0.74 * 1.001) < predict_gap(2 * n, 1.0)


def test_the_import_brings_no_jax():
    code = "import sys; from harness import predict_gap; predict_gap(1e6, 1e7); sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.fixture(scope="module")
def fitted(crossing):
    return fit("gap", crossing(21), bootstrap=0, sensitivity=False)


def known_only(fit, **combinations):
    """The fit as if only beta and these combinations were identified."""
    parameters = {name: dataclasses.replace(p, identified=name == "beta") for name, p in fit.parameters.items()}
    entries = tuple(CombinationEstimate(name, value, 0.0, None, None, None) for name, value in combinations.items())
    return dataclasses.replace(
        fit,
        parameters=parameters,
        identifiability=dataclasses.replace(fit.identifiability, identified_combinations=entries),
    )


def test_where_all_constants_are_identified_a_collapse_is_drawn_at_the_estimates(fitted):
    assert unidentified_constants(fitted) == []
    constants = collapse_constants(fitted, 0.01)
    assert constants == estimated_constants(fitted)
    assert constants is not None and constants.alpha == fitted.parameters["alpha"].estimate


def test_a_collapse_without_z_is_drawn_on_the_valley_of_equal_fits(fitted, crossing):
    """Above the crossover G = exp(h) N^-s D^-beta, whatever z is."""
    rows = crossing(3)
    valley = known_only(fitted, **{"alpha - z*beta": 0.1, "log A + beta*log u_star": -0.7})
    constants = collapse_constants(valley, float((rows.D / rows.N**0.74).min()))
    assert constants is not None and constants.z == 0.74
    beta = fitted.parameters["beta"].estimate
    np.testing.assert_allclose(
        predict_gap(rows.N, rows.D, *constants), np.exp(-0.7) * rows.N**-0.1 * rows.D**-beta, rtol=1e-9
    )


def test_where_too_little_is_known_no_fitted_collapse_is_drawn(fitted):
    assert collapse_constants(known_only(fitted, **{"alpha - z*beta": 0.1}), 1.0) is None


def test_a_constant_without_a_value_leaves_no_set(fitted):
    lost = fitted.parameters | {"z": dataclasses.replace(fitted.parameters["z"], estimate=None)}
    assert estimated_constants(dataclasses.replace(fitted, parameters=lost)) is None
