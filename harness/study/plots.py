"""The figure that most studies of losses need: lines or points with intervals over one quantity."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from harness.study.figures import FAINT, MARKS, blank_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# A logarithmic axis that spans less than a factor of FLAT has labels at equal distances, below NARROW several between
# powers of ten, and below WIDE one. Numbers from LARGE on are written as powers of ten.
FLAT, NARROW, WIDE, LARGE = 3.0, 30.0, 300.0, 1e6
# More labels of x than these are small; an axis of fewer whole numbers has a label at each.
MANY_LABELS = 6
# The legend below a figure: the most columns, the characters of a line, those that a mark and its room are worth, and
# the height of a line in inches.
_COLUMNS, _LINE, _MARK, _HEIGHT = 4, 84, 8, 0.17
# The series with this for `of` is drawn in grey: what is published or claimed, beside what was measured.
REFERENCE = "reference"
# The colours of kinds that have no order, which also those can tell apart who see few colours (Okabe and Ito 2008).
_KINDS = ("#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


class Series(NamedTuple):
    """Points of one colour.

    Attributes:
        x, y: where they are.
        low, high: the ends of the interval of y at each; None for none.
        line: how they are joined, a style of matplotlib's; an empty one for points alone.
        mark: how they are marked; an empty one for a line alone, None for one of the figure's own marks.
        of: what the series shows, where several show the same: these have one colour, and one of the figure's own
            marks. `REFERENCE` for a line that was not measured. By default a series has a colour of its own.
    """

    x: ArrayLike
    y: ArrayLike
    low: ArrayLike | None = None
    high: ArrayLike | None = None
    line: str = "-"
    mark: str | None = None
    of: str | None = None


def series_figure(
    series: Mapping[str, Series],
    x: str,
    y: str,
    *,
    title: str,
    kinds: bool = False,
    log_x: bool = False,
    log_y: bool = False,
    band: tuple[float, float] | None = None,
    levels: Mapping[str, float] | None = None,
    ticks: Mapping[float, str] | None = None,
) -> "Figure":
    """Draw series in their order, with the legend below them.

    Args:
        series: what the legend says -> the points.
        x, y: the labels of the axes, with units.
        title: what is seen.
        kinds: whether the series are kinds without an order; else they have colours from dark to light.
        band: two values of y between which what is measured agrees with what is claimed.
        levels: what is written beside a dashed horizontal line -> its y.
        ticks: the values of x that are labelled, with their labels, in place of matplotlib's.
    """
    figure, ((axes,),) = blank_figure(4.6, 3.4)
    if band is not None:
        axes.axhspan(*band, color="#e9e6df", zorder=0)
    for text, value in (levels or {}).items():
        axes.axhline(value, color=FAINT, lw=0.8, ls=(0, (4, 3)))
        place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "annotation_clip": False}
        axes.annotate(text, (1, value), (3, 0), fontsize=7, color=FAINT, va="center", **place)
    shown = dict.fromkeys(each.of or label for label, each in series.items() if each.of != REFERENCE)
    colours = dict(zip(shown, _colours(len(shown), kinds), strict=True)) | {REFERENCE: FAINT}
    marks = {name: MARKS[place % len(MARKS)] for place, name in enumerate(colours)}
    for label, each in series.items():
        at, value = np.asarray(each.x, float), np.asarray(each.y, float)
        name = each.of or label
        mark = marks[name] if each.mark is None else each.mark
        axes.plot(at, value, marker=mark, ms=4, lw=1, ls=each.line, color=colours[name], label=label)
        if each.low is not None and each.high is not None:
            axes.vlines(at, np.asarray(each.low, float), np.asarray(each.high, float), color=colours[name], lw=1)
    axes.set(xscale="log" if log_x else "linear", yscale="log" if log_y else "linear", xlabel=x, ylabel=y)
    axes.set_title(title, loc="left", fontsize=8.5)
    if ticks is None and not log_x:
        ticks = _whole_numbers(list(series.values()))
    label_ticks(axes, ticks)
    legend_below(figure, axes)
    return figure


def legend_below(figure: "Figure", axes: "Axes") -> None:
    """Write the legend of the axes below them, where it hides no points, in a figure that is higher by its lines."""
    handles, labels = axes.get_legend_handles_labels()
    if not labels:
        return
    columns = min(_COLUMNS, max(1, _LINE // (max(map(len, labels)) + _MARK)))
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + _HEIGHT * -(-len(labels) // columns))
    figure.legend(handles, labels, fontsize=7, frameon=False, loc="outside lower left", ncols=columns)


def as_power_of_ten(value: float) -> str:
    """A large number in two digits, as a person writes it: 8.6×10⁹."""
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{digits}×10{str(int(power)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def _colours(count: int, kinds: bool) -> Sequence[object]:
    from matplotlib import colormaps

    if kinds and count <= len(_KINDS):
        return _KINDS[:count]
    return list(colormaps["viridis"](np.linspace(0, 0.85, count)))


def _whole_numbers(series: Sequence[Series]) -> dict[float, str] | None:
    """The labels of an axis of few whole numbers: one at each, and none between them. None for any other axis."""
    found = np.unique(np.concatenate([np.asarray(each.x, float) for each in series] or [np.zeros(0)]))
    whole = len(found) <= MANY_LABELS and bool(np.all(found == np.round(found)))
    return {value: f"{value:,g}" for value in found.tolist()} if whole and len(found) else None


def label_ticks(axes: "Axes", ticks: Mapping[float, str] | None = None) -> None:
    """Label the axes: x at the `ticks` if there are any, and logarithmic axes by values as a person writes them."""
    from matplotlib.ticker import NullLocator

    if ticks:
        axes.set_xticks(list(ticks), list(ticks.values()), fontsize=6.5 if len(ticks) > MANY_LABELS else None)
        axes.xaxis.set_minor_locator(NullLocator())
    elif axes.get_xscale() == "log":
        _label_logarithmic(axes.xaxis, axes.get_xlim(), (1.0, 2.0, 5.0))
    if axes.get_yscale() == "log":
        _label_logarithmic(axes.yaxis, axes.get_ylim(), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0))


def _label_logarithmic(axis: "Axis", limits: tuple[float, float], between: tuple[float, ...]) -> None:
    from matplotlib.ticker import LogFormatterSciNotation, LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

    low, high = limits
    if high < FLAT * low:
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    else:
        marked = between if high < NARROW * low else (1.0, 3.0) if high < WIDE * low else (1.0,)
        axis.set_major_locator(LogLocator(subs=marked))
    large = LogFormatterSciNotation(labelOnlyBase=False, minor_thresholds=(np.inf, np.inf))
    axis.set_major_formatter(large if high > LARGE else StrMethodFormatter("{x:,g}"))
    axis.set_minor_locator(NullLocator())
