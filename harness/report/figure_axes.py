"""Axes and colours that all figures share: the gap's axis, which shows negative gaps too, and N as a colour."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float
from plotly.colors import sample_colorscale, sequential

INK, FAINT, GRID, BARS = "#222222", "#6b6b6b", "#e6e4df", "rgba(110,110,110,0.45)"
ACCENT = "#b3541e"
# Viridis without its light end, which cannot be seen on white paper. Its lightness is monotone, so that the order of
# sizes can be read without hue.
SIZE_COLOURS = sequential.Viridis[:9]
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "pentagon", "hexagon", "bowtie")
# Half a 95 % interval, in standard errors.
HALF_INTERVAL = 1.96
# Values within so many decades of each other are drawn as one value.
NARROW = 0.004


def numbers(frame: pd.DataFrame, column: str) -> Float[np.ndarray, "rows"]:
    """Read a column as floats, nan where there is no number."""
    return np.asarray(frame[column], dtype=float)


@dataclass(frozen=True)
class SignedLog:
    """An axis that is logarithmic on both sides of zero and linear near it, so that negative gaps have a place.

    A value x stands at asinh(x / (2 scale)) / log 10: far from zero a decade is one unit.
    """

    scale: float

    @staticmethod
    def of(*values: Float[np.ndarray, "..."]) -> "SignedLog":
        """Choose a scale below nine tenths of the sizes |x|; or below all if all x > 0, for a logarithmic axis."""
        pooled = np.concatenate([np.ravel(np.asarray(v, float)) for v in values])
        sizes = np.abs(pooled[np.isfinite(pooled) & (pooled != 0)])
        if not len(sizes):
            return SignedLog(1.0)
        return SignedLog(float(sizes.min() / 3 if (pooled > 0).all() else np.quantile(sizes, 0.1)))

    def place(self, values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Return the positions of values on the axis."""
        return np.arcsinh(np.asarray(values, float) / (2 * self.scale)) / math.log(10)

    def bars(self, values: Float[np.ndarray, "rows"], se: Float[np.ndarray, "rows"]) -> dict[str, Any]:
        """Return 95 % error bars, which are asymmetric on this axis; of length 0 without a standard error."""
        half = HALF_INTERVAL * np.nan_to_num(np.asarray(se, float), posinf=0.0)
        up, down = self.place(values + half) - self.place(values), self.place(values) - self.place(values - half)
        return {"array": up, "arrayminus": down, "symmetric": False, "color": BARS, "thickness": 1, "width": 0}

    def axis(self, title: str, *values: Float[np.ndarray, "..."]) -> dict[str, Any]:
        """Return an axis over the values with one tick per decade, or ticks at 1, 2 and 5 for few decades."""
        placed = self.place(np.concatenate([np.ravel(np.asarray(v, float)) for v in values]))
        placed = placed[np.isfinite(placed)]
        low, high = (placed.min(), placed.max()) if len(placed) else (-1.0, 1.0)
        pad = 0.06 * max(high - low, 0.5)
        low, high = low - pad, high + pad
        first = math.ceil(math.log10(self.scale) - 0.2)
        decades = [10.0**k for k in range(first, first + 20)]
        steps = (1, 2, 5) if high - low < 3 else (1,)
        marks = [0.0] + [sign * step * decade for decade in decades for step in steps for sign in (1, -1)]
        marks = sorted(m for m in marks if low <= self.place(np.asarray(m)) <= high)
        every = math.ceil(len(marks) / 9)
        zero = marks.index(0.0) if 0.0 in marks else 0
        marks = [m for i, m in enumerate(marks) if (i - zero) % every == 0]
        labels = [f"{m:g}".replace("-", "\N{MINUS SIGN}") for m in marks]
        ticks = {"tickmode": "array", "tickvals": self.place(np.asarray(marks)), "ticktext": labels}
        return line_axis(title) | ticks | {"range": [low, high], "zeroline": True, "zerolinecolor": FAINT}


def line_axis(title: str) -> dict[str, Any]:
    """Return a linear axis as plotly's layout takes it."""
    return {
        "title": {"text": title, "standoff": 8, "font": {"size": 13}}, "tickfont": {"size": 12},
        "gridcolor": GRID, "linecolor": FAINT, "ticks": "outside",
        "ticklen": 4, "tickcolor": FAINT, "zeroline": False, "automargin": True,
    }  # fmt: skip


def log_axis(title: str, *values: Float[np.ndarray, "..."]) -> dict[str, Any]:
    """Return a logarithmic axis over positive values, with ticks at 1, 2 and 5, or in equal steps, for few decades."""
    pooled = np.concatenate([np.ravel(np.asarray(v, float)) for v in values])
    logs = np.log10(pooled[(pooled > 0) & np.isfinite(pooled)])
    low, high = (logs.min(), logs.max()) if len(logs) else (0.0, 1.0)
    # A single value gets a whole decade around it, because otherwise no tick would be near it.
    pad = 0.05 * (high - low) if high - low > NARROW else (1.0 - (high - low)) / 2
    low, high = low - pad, high + pad
    ticks = {"dtick": math.ceil((high - low) / 7), "exponentformat": "power"}
    if high - low < 0.7:
        marks = even_ticks(10**low, 10**high)
        ticks = {"tickmode": "array", "tickvals": marks, "ticktext": [short(mark) for mark in marks]}
    elif high - low < 1.5:
        marks = [step * 10.0**k for k in range(math.floor(low), math.ceil(high)) for step in (1, 2, 5)]
        ticks = {"tickmode": "array", "tickvals": marks, "ticktext": [short(mark) for mark in marks]}
    return line_axis(title) | ticks | {"type": "log", "range": [low, high], "tickangle": 0}


def even_ticks(low: float, high: float) -> list[float]:
    """Return four to nine round numbers in equal steps between two ends."""
    power = 10.0 ** math.floor(math.log10((high - low) / 4))
    step = next(power * size for size in (5, 2, 1) if power * size <= (high - low) / 4)
    return [float(f"{k * step:.12g}") for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def value_axis(title: str, *values: Float[np.ndarray, "..."]) -> dict[str, Any]:
    """Return a logarithmic axis where all finite values are above zero, else a linear one."""
    positive = all((v[np.isfinite(v)] > 0).all() for v in values)
    return log_axis(title, *values) if positive else line_axis(title)


def short(value: float) -> str:
    """Write a count for a reader: 27.5k, 1.3M, 4T, 1e+18."""
    if abs(value) >= 1e15:
        return f"{value:.3g}"
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def size_colours(n: Float[np.ndarray, "sizes"], lowest: float, highest: float) -> list[str]:
    """Return the colours of parameter counts between the lowest and the highest of a figure."""
    span = max(math.log10(highest / lowest), 1e-9)
    places = np.clip(np.log10(np.asarray(n, float) / lowest) / span, 0, 1)
    return [str(colour) for colour in sample_colorscale(SIZE_COLOURS, places.tolist())]


def size_scale(n: Float[np.ndarray, "rows"], title: str = "N, parameters (non-embedding)") -> dict[str, Any]:
    """Return the colour axis of a size, with its bar flat above the figure, where it takes no width."""
    low, high = float(np.log10(np.min(n))), float(np.log10(np.max(n)))
    if high - low < 0.02:
        low, high = low - 0.1, high + 0.1
    marks = np.linspace(low, high, 4)
    bar = {
        "orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "xanchor": "left", "len": 0.6, "thickness": 8,
        "outlinewidth": 0, "tickvals": marks, "ticktext": [short(10**m) for m in marks],
        "title": {"text": title, "side": "top", "font": {"size": 12}},
        "tickfont": {"size": 11},
    }  # fmt: skip
    return {"colorscale": SIZE_COLOURS, "cmin": low, "cmax": high, "colorbar": bar}


def symbols_of(architectures: Iterable[str]) -> dict[str, str]:
    """Return a marker for each architecture, the same in every figure."""
    names = sorted(set(architectures))
    return {name: SYMBOLS[i % len(SYMBOLS)] for i, name in enumerate(names)}


def blank(
    height: int, x: dict[str, Any] | None = None, y: dict[str, Any] | None = None, *, top: int = 24, **layout: Any
) -> go.Figure:
    """Return an empty figure in the style of the page, with its axes; `top` is the margin for what stands above it."""
    figure = go.Figure()
    figure.update_layout(
        template="none",
        height=height,
        xaxis=x or {},
        yaxis=y or {},
        font={"family": "system-ui, sans-serif", "size": 13, "color": INK},
        margin={"l": 60, "r": 16, "t": top, "b": 48},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hoverlabel={"align": "left", "bgcolor": "#ffffff", "font": {"size": 12}},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": "#b8b8b8", "activecolor": INK},
        legend={"orientation": "h", "x": 0, "y": -0.2, "yanchor": "top", "font": {"size": 12}},
        **layout,
    )
    return figure
