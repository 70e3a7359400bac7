"""What the figures of studies show: labels, ticks, colours, and legends that hide no points."""

from harness.fit.gap_law.rulings import JudgedClaim, Ruling
from harness.study.figures import claims_figure, image_of
from harness.study.loss_verdict import within
from harness.study.plots import REFERENCE, Series, as_power_of_ten, series_figure


def test_a_figure_of_series_shows_what_it_is_told():
    series = {"one": Series([1, 2], [3, 4], [2, 3], [4, 5]), "two": Series([1, 2], [1, 1], line="", mark="x")}
    options = {"band": (0.0, 1.0), "levels": {"claimed": 2.0}, "ticks": {1.0: "first"}, "log_x": True}
    image = image_of(lambda: series_figure(series, "tokens", "loss", title="Losses", **options), "svg").decode()
    for text in ("one", "two", "claimed", "first", "tokens", "loss", "Losses"):
        assert f"<!-- {text} -->" in image


def test_legends_lie_below_the_axes_and_make_the_figure_higher():
    for count in (2, 12):
        figure = series_figure({f"N = {n}": Series([1, 2], [n, n + 1]) for n in range(count)}, "x", "y", title="t")
        figure.draw_without_rendering()
        (legend,), (axes,) = figure.legends, figure.axes
        below, above = legend.get_window_extent(), axes.get_tightbbox()
        assert above is not None and below.y1 <= above.y0 + 1 and below.y0 >= 0
        assert below.x1 <= figure.bbox.x1


def test_whole_numbers_have_ticks_at_themselves_alone():
    figure = series_figure({"a": Series([1, 2, 3, 4], [1, 2, 3, 4])}, "layer", "y", title="t")
    assert [each.get_text() for each in figure.axes[0].get_xticklabels()] == ["1", "2", "3", "4"]
    figure = series_figure({"a": Series([0.5, 4], [1, 2])}, "loss", "y", title="t")
    figure.draw_without_rendering()
    assert "1.5" in [each.get_text() for each in figure.axes[0].get_xticklabels()]


def test_logarithmic_axes_have_labels_a_person_would_write():
    def labels(low: float, high: float) -> list[str]:
        figure = series_figure({"a": Series([1, 2], [low, high])}, "x", "y", title="t", log_y=True)
        figure.draw_without_rendering()
        shown = figure.axes[0].get_ylim()
        axis = figure.axes[0].yaxis
        return [axis.get_major_formatter()(at) for at in axis.get_majorticklocs() if shown[0] <= at <= shown[1]]

    assert {"2", "3"} <= set(labels(2.0, 9.0))
    assert labels(0.9, 1.12) == ["0.9", "0.95", "1", "1.05", "1.1"]
    assert labels(2_100, 29_000) == ["2,000", "3,000", "5,000", "7,000", "10,000", "15,000", "20,000", "30,000"]
    assert labels(2.0, 150.0) == ["3", "10", "30", "100"]
    assert as_power_of_ten(8.6e9) == "8.6×10⁹" and as_power_of_ten(1.4e11) == "1.4×10¹¹"


def test_series_of_one_thing_have_one_colour_and_what_was_not_measured_is_grey():
    series = {
        "a": Series([1, 2], [1, 2], line="", of="a"), "a, law": Series([1, 2], [1, 2], mark="", of="a"),
        "b": Series([1, 2], [2, 3]), "claimed": Series([1, 2], [1, 1], mark="", of=REFERENCE),
    }  # fmt: skip
    colours = [tuple(line.get_color()) for line in series_figure(series, "x", "y", title="t").axes[0].get_lines()]
    assert colours[0] == colours[1] and len(set(colours)) == 3 and colours[3] == tuple("#6b6b6b")


def _claim(id_: str, *numbers: tuple[float | None, float | None, float, float, float]) -> JudgedClaim:
    evidence = tuple(within(f"number {place}", *each) for place, each in enumerate(numbers))
    return JudgedClaim(id_, "a claim", Ruling.NOT_RESOLVED, "rows", evidence, "")


def test_numbers_share_a_scale_where_the_same_is_claimed_and_all_can_be_seen():
    one, other = (-1.0, 1.0, 0.5, 0.2, 0.8), (-1.0, 1.0, 2.0, 0.5, 3.0)
    far, open_end = (-1.0, 1.0, 4000.0, 3900.0, 4100.0), (None, 1.0, 0.5, 0.2, 0.8)
    figure = claims_figure(
        (_claim("A-1", one), _claim("A-2", other, open_end), _claim("A-3", far), _claim("A-4", open_end))
    )
    told = [[label.get_text() for label in axes.get_yticklabels()] for axes in figure.axes]
    assert told == [
        ["A-1  number 0", "A-2  number 0"], ["A-2  number 1"], ["A-3  number 0"], ["A-4  number 0"],
    ]  # fmt: skip
    assert {text.get_text() for text in figure.legends[0].get_texts()} >= {"what the claim allows"}
    assert image_of(lambda: claims_figure(()), "svg")
