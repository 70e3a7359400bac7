import dataclasses

import numpy as np
import pytest

from harness import predict_gap
from harness.fit.fitting import fit
from harness.fit.gap_law.constants import collapse_constants, estimated_constants, unidentified_constants
from harness.fit.results.result import CombinationEstimate


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
