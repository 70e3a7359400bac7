"""The figure that most studies of losses need: lines or points with intervals over one quantity."""

import textwrap
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from harness.study.figures import FAINT, MARKS, blank_figure

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# More series than MOST_INSIDE have their legend beside the figure; more labels of x than MOST_LABELS are small. A
# logarithmic axis that spans less than a factor of FLAT has even labels, one below NARROW labels between powers of ten,
# and one beyond WIDE none but powers.
MOST_INSIDE, MOST_LABELS, FLAT, NARROW, WIDE = 5, 6, 2.0, 30.0, 3000.0
# A label of y with more letters is folded: a figure has room for about 46.
LONGEST_LABEL = 42


class Series(NamedTuple):
    """Points of one colour.

    Attributes:
        x, y: where they are.
        low, high: the ends of the interval of y at each; None for none.
        line: how they are joined, a style of matplotlib's; an empty one for points alone.
        mark: how they are marked; an empty one for a line alone, None for one of the figure's own marks.
    """

    x: ArrayLike
    y: ArrayLike
    low: ArrayLike | None = None
    high: ArrayLike | None = None
    line: str = "-"
    mark: str | None = None


def series_figure(
    series: Mapping[str, Series],
    x: str,
    y: str,
    *,
    log_x: bool = False,
    log_y: bool = False,
    band: tuple[float, float] | None = None,
    levels: Mapping[str, float] | None = None,
    ticks: Mapping[float, str] | None = None,
) -> "Figure":
    """Draw series in colours from dark to light, in their order.

    Args:
        series: what the legend says -> the points.
        x, y: the labels of the axes.
        band: two values of y between which what is measured agrees with what is claimed.
        levels: what is written at a dashed horizontal line -> its y.
        ticks: the values of x that are labelled, with their labels, in place of matplotlib's.
    """
    from matplotlib import colormaps
    from matplotlib.ticker import NullLocator

    beside = len(series) > MOST_INSIDE
    figure, ((axes,),) = blank_figure(6.4 if beside else 4.6, 3.6)
    if band is not None:
        axes.axhspan(*band, color="#e9e6df", zorder=0)
    for text, value in (levels or {}).items():
        axes.axhline(value, color=FAINT, lw=0.8, ls=(0, (4, 3)))
        place = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "bottom"}
        axes.annotate(text, (1, value), fontsize=7, color=FAINT, **place)
    colours = colormaps["viridis"](np.linspace(0, 0.85, max(len(series), 1)))
    for place, (label, each) in enumerate(series.items()):
        at, value = np.asarray(each.x, float), np.asarray(each.y, float)
        mark = MARKS[place % len(MARKS)] if each.mark is None else each.mark
        axes.plot(at, value, marker=mark, ms=4, lw=1, ls=each.line, color=colours[place], label=label)
        if each.low is not None and each.high is not None:
            # Lines, and not `vlines`, which a legend does not see when it looks for room.
            ends = np.stack([np.asarray(each.low, float), np.asarray(each.high, float)])
            axes.plot(np.stack([at, at]), ends, color=colours[place], lw=1)
    axes.set(xscale="log" if log_x else "linear", yscale="log" if log_y else "linear", xlabel=x)
    axes.set_ylabel(y if "\n" in y else textwrap.fill(y, LONGEST_LABEL))
    if log_y:
        _label_values(axes.yaxis)
    if log_x:
        _label_values(axes.xaxis)
    if not ticks:
        ticks = _whole_numbers([each.x for each in series.values()])
    if ticks:
        axes.set_xticks(list(ticks), list(ticks.values()), fontsize=6.5 if len(ticks) > MOST_LABELS else None)
        axes.xaxis.set_minor_locator(NullLocator())
    if beside:
        figure.legend(fontsize=7, frameon=False, loc="outside right upper")
    else:
        axes.legend(fontsize=7, frameon=False)
    return figure


def _whole_numbers(xs: Iterable[ArrayLike]) -> dict[float, str]:
    """The labels of an axis of few small whole numbers, such as layers, between which there is nothing; else none."""
    values = np.unique(np.concatenate([np.ravel(np.asarray(x, float)) for x in xs] or [np.zeros(0)]))
    whole = 0 < len(values) <= MOST_LABELS and values[-1] < 100 and bool(np.all(values == np.round(values)))
    return {float(value): f"{value:,.0f}" for value in values} if whole else {}


def _label_values(axis: "Axis") -> None:
    """Label a logarithmic axis by values, unless it spans more powers of ten than it has room for."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

    low, high = axis.get_view_interval()
    if high > WIDE * low:
        return
    if high < FLAT * low:
        axis.set_major_locator(MaxNLocator(5))
    else:
        axis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if high < NARROW * low else (1.0, 3.0)))
    axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axis.set_minor_locator(NullLocator())
