import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.report.figure_axes import SignedLog, log_axis, short, size_colours

finite = st.floats(-1e3, 1e3, allow_subnormal=False)


@given(finite, finite)
def test_the_axis_keeps_order_and_sign(a, b):
    scale = SignedLog(0.01)
    assert scale.place(np.asarray(-a)) == -scale.place(np.asarray(a))
    if a < b:
        assert scale.place(np.asarray(a)) <= scale.place(np.asarray(b))


def test_far_from_zero_a_decade_is_one_unit():
    scale = SignedLog(1e-4)
    places = scale.place(np.asarray([0.01, 0.1, 1.0, 10.0]))
    np.testing.assert_allclose(np.diff(places), 1.0, atol=1e-4)
    np.testing.assert_allclose(places, np.log10(np.asarray([0.01, 0.1, 1.0, 10.0]) / 1e-4), atol=1e-4)


def test_error_bars_end_where_the_interval_ends():
    scale, values = SignedLog(0.01), np.asarray([0.5, -0.2])
    bars, placed = scale.bars(values, np.asarray([0.1, 0.3])), scale.place(values)
    np.testing.assert_allclose(placed + bars["array"], scale.place(np.asarray([0.696, 0.388])))
    np.testing.assert_allclose(placed - bars["arrayminus"], scale.place(np.asarray([0.304, -0.788])))


def test_an_unknown_error_draws_no_bar():
    bars = SignedLog(0.01).bars(np.asarray([0.5, 0.5]), np.asarray([np.nan, np.inf]))
    assert not bars["array"].any() and not bars["arrayminus"].any()


def test_ticks_say_the_value_they_stand_at():
    values = np.asarray([-0.3, 0.002, 4.0])
    scale = SignedLog.of(values)
    axis = scale.axis("G", values)
    assert len(axis["tickvals"]) >= 3
    said = np.asarray([float(text.replace("−", "-")) for text in axis["ticktext"]])
    np.testing.assert_allclose(scale.place(said), axis["tickvals"])
    assert axis["range"][0] < scale.place(values).min() and axis["range"][1] > scale.place(values).max()
    assert "0" in axis["ticktext"]


@pytest.mark.parametrize("values", [[0.0], [], [1e-9, 1e3], [5.0, 5.0], [-1.0]])
def test_any_values_have_an_axis(values):
    values = np.asarray(values, float)
    low, high = SignedLog.of(values).axis("G", values)["range"]
    assert low < high
    low, high = log_axis("D", values)["range"]
    assert low < high


def test_a_single_length_has_ticks_around_it():
    axis = log_axis("D", np.asarray([3072.0]))
    low, high = axis["range"]
    inside = {t: v for v, t in zip(axis["tickvals"], axis["ticktext"], strict=True) if low <= np.log10(v) <= high}
    assert inside == {"1k": 1e3, "2k": 2e3, "5k": 5e3}


@given(st.floats(1e-3, 1e20), st.floats(0.005, 4.0))
def test_every_range_has_round_ticks_in_it(low, decades):
    values = np.asarray([low, low * 10**decades])
    axis = log_axis("L", values)
    ends = axis["range"]
    assert ends[0] < np.log10(values[0]) and ends[1] > np.log10(values[1])
    if "tickvals" in axis:
        inside = [tick for tick in axis["tickvals"] if ends[0] <= np.log10(tick) <= ends[1]]
        assert 2 <= len(inside) <= 12
        assert all(float(f"{tick:.6g}") == pytest.approx(tick, rel=1e-9) for tick in inside)


def test_larger_models_have_other_colours_and_one_size_has_one():
    colours = size_colours(np.asarray([1e4, 1e6, 1e8]), 1e4, 1e8)
    assert len(set(colours)) == 3
    assert len(set(size_colours(np.asarray([1e6, 1e6]), 1e6, 1e6))) == 1


@pytest.mark.parametrize(("value", "text"), [(7, "7"), (27_500, "27.5k"), (1.3e6, "1.3M"), (4e12, "4T")])
def test_counts_are_short(value, text):
    assert short(value) == text
