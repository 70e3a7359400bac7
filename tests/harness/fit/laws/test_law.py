import jax
import jax.numpy as jnp
import numpy as np
import pytest

from harness.fit.gap_law.constants import predict_gap
from harness.fit.laws.law import bind, natural, with_factor
from harness.fit.laws.registry import get_law, law_ids
from harness.fit.problem.objective import OBJECTIVES
from sweeps.errors import InputError

COLUMNS = {"N": np.array([1e6, 3e7, 2e9]), "D": np.array([2e4, 5e8, 7e10]), "U": np.array([2e4, 1e8, 7e10])}
COLUMNS |= {"h": np.array([[0.2, 0.8], [0.5, 0.5], [1.0, 0.0]])}
COLUMNS |= {"step": np.array([1e3, 2e4, 9e5]), "B": np.array([3e4, 5e5, 4e6])}
SCALES = {"N": 4e7, "D": 9e8, "U": 5e8, "G": 3e-3, "L": 2.5, "step": 3e4, "B": 2e5, "M": 3.0, "lr": 2e-3, "tau": 0.2}

VECTORS = np.array([[0.2, 0.8], [0.5, 0.5], [0.9, 0.1]])


def some_values(law):
    """The middle of a law's starts, moved off any symmetric point; several of a constant of each group or domain."""
    values = {
        p.name: p.starts[len(p.starts) // 2] * 1.1 + (0.03 if p.transform == "identity" else 0.0)
        for p in law.parameters
    }
    several = {"group": np.array([1.0, 0.9, 0.8])}
    return values | {
        p.name: values[p.name] * several.get(p.each, np.array([1.0, 1.3])) for p in law.parameters if p.each
    }


@pytest.mark.parametrize("law_id", law_ids())
def test_centring_changes_units_and_nothing_else(law_id):
    """predict(rescale(p, s), columns) = s[response] * predict(p, columns / s) for every declared law."""
    law = get_law(law_id)
    if not law.centred:
        pytest.skip("fitted on raw columns")
    columns = {name: COLUMNS.get(name, np.array([1.0, 2.0, 5.0])) for name in (*law.columns, *law.vectors)}
    labels = {name: np.array([0, 1, 2]) for name in law.labels}
    scales = {name: SCALES.get(name, 1.0) for name in (*law.columns, law.response)}
    scales |= {name: 1.0 for name in law.columns if name in law.signed}
    values = some_values(law)
    derived = law.derive(columns | labels) if law.derive else {}
    with jax.enable_x64(True):
        raw = law.predict(law.rescale(values, scales), columns | labels | derived)
        scaled = {name: column / scales.get(name, 1.0) for name, column in columns.items()}
        centred = law.predict(values, scaled | labels | derived)
    np.testing.assert_allclose(raw, scales[law.response] * np.asarray(centred), rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("law_id", law_ids())
def test_derivatives_are_those_of_finite_differences(law_id):
    """What the search goes by, against central differences of the law itself, in every constant of every law."""
    law = get_law(law_id)
    names = {role: ["a", "b"] for role in law.vectors} | {role: ["a", "b", "c"] for role in law.labels}
    bound = bind(law, names)
    columns = {name: COLUMNS.get(name, np.array([1.0, 2.0, 5.0])) for name in (*law.columns, *law.vectors)}
    columns |= {name: VECTORS for name in law.vectors if columns[name].ndim == 1}
    columns |= {name: np.array([0, 1, 2]) for name in law.labels}
    columns |= law.derive(columns) if law.derive else {}
    away = {"log": 0.0, "identity": 0.02}
    middle = [p.starts[len(p.starts) // 2] * 1.07 + away[p.transform] for p in bound.parameters]
    with jax.enable_x64(True):
        logs = [p.transform == "log" for p in bound.parameters]
        theta = jnp.array([np.log(x) if log else x for x, log in zip(middle, logs, strict=True)])

        def response(t):
            return bound.predict(natural(bound.parameters, t), columns) + jnp.zeros(3)

        slopes = np.asarray(jax.jit(jax.jacfwd(response))(theta))
        step = 1e-6 * np.eye(len(theta))
        both = np.asarray(jax.jit(jax.vmap(response))(jnp.concatenate([theta + step, theta - step])))
        differences = (both[: len(theta)] - both[len(theta) :]).T / 2e-6
    assert np.isfinite(slopes).all() and np.abs(slopes).max() > 0
    np.testing.assert_allclose(slopes, differences, rtol=1e-5, atol=1e-6 * np.abs(both).max())


@pytest.mark.parametrize("law_id", [name for name in law_ids() if get_law(name).linear])
def test_the_response_is_linear_in_the_constants_that_say_so(law_id):
    law = get_law(law_id)
    columns = {name: COLUMNS.get(name, np.array([1.0, 2.0, 5.0])) for name in law.columns}
    columns |= {name: VECTORS for name in law.vectors} | {name: np.array([0, 1, 2]) for name in law.labels}
    columns |= law.derive(columns) if law.derive else {}
    values = some_values(law)
    with jax.enable_x64(True):
        one, two, three = (
            np.asarray(law.predict(values | {name: k * values[name] for name in law.linear}, columns))
            for k in (1.0, 2.0, 3.0)
        )
    assert np.abs(three - one).max() > 0
    np.testing.assert_allclose(one + three, 2.0 * two, rtol=1e-9)


@pytest.mark.parametrize("law_id", law_ids())
def test_starts_lie_inside_the_ranges(law_id):
    for parameter in get_law(law_id).parameters:
        assert all(parameter.low <= start <= parameter.high for start in parameter.starts)


def test_the_gap_law_is_the_closed_form():
    law = get_law("gap")
    published = {p.name: p.published for p in law.parameters}
    with jax.enable_x64(True):
        predicted = law.predict(published, COLUMNS)
    np.testing.assert_allclose(predicted, predict_gap(COLUMNS["N"], COLUMNS["D"]), rtol=1e-12)


def test_a_sharp_smooth_law_is_the_kinked_one_and_a_soft_one_is_below_it():
    kinked, smooth = get_law("gap"), get_law("gap_smooth")
    published = {p.name: p.published for p in kinked.parameters}
    with jax.enable_x64(True):
        sharp = np.asarray(smooth.predict(published | {"s": 100.0}, COLUMNS))
        soft = np.asarray(smooth.predict(published | {"s": 1.0}, COLUMNS))
        target = np.asarray(kinked.predict(published, COLUMNS))
    np.testing.assert_allclose(sharp, target, rtol=1e-4)
    assert np.all(soft < target)


def test_kaplans_overfitting_at_published_constants():
    """Kaplan et al.'s L(N, D) - L(N, infinity), evaluated directly: 0.40 nats at N = 1e6, D = 2e7."""
    law = get_law("gap_kaplan")
    published = {p.name: p.published for p in law.parameters}
    with jax.enable_x64(True):
        predicted = float(law.predict(published, {"N": np.array([1e6]), "D": np.array([2e7])})[0])
    direct = ((6.4e13 / 1e6) ** (0.076 / 0.103) + 1.8e13 / 2e7) ** 0.103 - (6.4e13 / 1e6) ** 0.076
    assert predicted == pytest.approx(direct, rel=1e-9)
    assert predicted == pytest.approx(0.40, abs=0.01)


def test_a_factor_multiplies_by_a_centred_power():
    law = get_law("gap_n_free")
    wider = with_factor(law, "epochs")
    columns = {"D": COLUMNS["D"], "epochs": np.array([1.0, 2.0, 4.0])}
    assert wider.derive is not None
    columns |= wider.derive(columns)
    values = {"a": 0.5, "b": 0.4}
    with jax.enable_x64(True):
        ratio = np.asarray(wider.predict(values | {"rho_epochs": 0.7}, columns)) / np.asarray(
            law.predict(values, columns)
        )
    np.testing.assert_allclose(ratio, np.array([0.5, 1.0, 2.0]) ** 0.7)


def test_an_unknown_law_is_the_users_error():
    with pytest.raises(InputError, match="law: got 'gapp', .* did you mean 'gap'"):
        get_law("gapp")
    with pytest.raises(InputError, match="got 'nonesuch', .* or one of .*gap_kaplan"):
        get_law("nonesuch")


def test_coordinates_are_logs_where_declared():
    law = get_law("gap_n_free")
    with jax.enable_x64(True):
        values = natural(
            (*law.parameters, *OBJECTIVES["normal"].parameters), jnp.log(jnp.array([2.0, np.e**0.3, 0.08]))
        )
    assert [float(values[name]) for name in ("a", "b", "tau")] == pytest.approx([2.0, 0.3, 0.08])
