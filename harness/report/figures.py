"""The figures of the gap: where the runs lie, the collapse, the gap against tokens, the residuals of the law.

They draw typed values (`Marks`, `GapConstants`) and the table of runs: nothing is read or fitted here.
"""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float

from harness.fit.gap_law.constants import predict_gap, reduced_data, source_reach
from harness.fit.results.shown import number
from harness.gaps.roles import RUN_ROLES
from harness.report.figure_axes import (
    ACCENT,
    FAINT,
    INK,
    SIZE_COLOURS,
    SignedLog,
    blank,
    log_axis,
    numbers,
    short,
    size_colours,
    size_scale,
    symbols_of,
)
from harness.report.fit_figures import residual_frame
from harness.report.marks import Marks
from sweeps.published_gap import PUBLISHED_GAP, GapConstants


def _add_marks(figure: go.Figure, marks: Marks, x: np.ndarray, y: np.ndarray, bars: dict[str, Any] | None) -> None:
    """Add a marker for each mark: symbol by architecture, colour by N, hollow below the minimum detectable gap."""
    hollow = marks.undetected
    figure.update_layout(coloraxis=size_scale(marks.n))
    for architecture, symbol in symbols_of(marks.architecture).items():
        own = marks.architecture == architecture
        symbols = [f"{symbol}-open" if open_ else symbol for open_ in hollow[own]]
        own_bars = {k: value[own] if isinstance(value, np.ndarray) else value for k, value in (bars or {}).items()}
        figure.add_scatter(
            x=x[own], y=y[own], mode="markers", text=marks.texts[own], hovertemplate="%{text}<extra></extra>",
            marker={
                "symbol": symbols, "size": 9, "color": np.log10(marks.n[own]), "coloraxis": "coloraxis",
                "line": {"width": 1.3},
            },
            error_y=own_bars or None, showlegend=False, legendgroup=architecture, meta="runs",
        )  # fmt: skip
        _legend_only(figure, architecture, symbol, architecture)
    if hollow.any():
        _legend_only(figure, "hollow: below its minimum detectable gap", "circle-open", None)


def _legend_only(figure: go.Figure, name: str, symbol: str, group: str | None) -> None:
    figure.add_scatter(
        x=[None], y=[None], mode="markers", name=name, legendgroup=group,
        marker={"symbol": symbol, "size": 9, "color": FAINT}, hoverinfo="skip",
    )  # fmt: skip


def coverage_figure(runs: pd.DataFrame) -> go.Figure:
    """Draw which part of u = D/N^z the runs cover, at the published z, beside the ranges of the published runs."""
    n, d, source = numbers(runs, RUN_ROLES["N"]), numbers(runs, "D"), source_reach()
    u, done = reduced_data(n, d), (runs["status"] == "done").to_numpy()
    each = zip(runs["run_id"], n, d, strict=True)
    texts = np.asarray([f"{run_id}, N {short(size)}, D {short(tokens)}" for run_id, size, tokens in each], object)
    figure = blank(220)
    figure.add_scatter(
        x=source, y=["source", "source"], mode="lines", line={"color": "#c9c4ba", "width": 22}, showlegend=False,
        hovertemplate="the source's ranges: u from %{x:.3g}<extra></extra>",
    )  # fmt: skip
    for mask, name, colour in ((done, "finished", SIZE_COLOURS[2]), (~done, "not finished", "#9a9a9a")):
        if not mask.any():
            continue
        figure.add_scatter(
            x=u[mask], y=[name] * int(mask.sum()), mode="markers", text=texts[mask],
            marker={"symbol": "line-ns", "size": 20, "line": {"color": colour, "width": 1.6}}, showlegend=False,
            hovertemplate="u %{x:.3g}<br>%{text}<extra></extra>",
        )  # fmt: skip
    figure.add_vline(x=PUBLISHED_GAP.u_star, line={"color": ACCENT, "width": 1.5})
    figure.add_annotation(
        x=0, xref="x", y=1.0, yref="paper", yanchor="bottom", text=f"u* = {PUBLISHED_GAP.u_star:g}",
        showarrow=False, font={"color": ACCENT},
    )  # fmt: skip
    axis = log_axis(f"u = D/N<sup>{PUBLISHED_GAP.z}</sup>, raw counts", u, np.asarray(source))
    figure.update_xaxes(axis | {"range": [min(axis["range"][0], -1.0), axis["range"][1]]})
    figure.update_yaxes(
        type="category", categoryorder="array", categoryarray=["not finished", "finished", "source"], automargin=True
    )
    return figure


def collapse_figure(marks: Marks, constants: GapConstants, source: GapConstants = PUBLISHED_GAP) -> go.Figure:
    """Draw G N^alpha against u = D/N^z at these constants, with the curves A f(u) of these and the published ones."""
    u, lift = reduced_data(marks.n, marks.d, constants.z), marks.n**constants.alpha
    gap, se = marks.gap * lift, marks.se * lift
    grid = np.geomspace(u.min() / 3, u.max() * 3, 300)
    # With N = 1 the law is A f(u).
    curves = [("A f(u), the source's constants", predict_gap(1.0, grid, *source), "dash", INK)]
    if constants != source:
        curves.append(("A f(u), fitted here", predict_gap(1.0, grid, *constants), "solid", ACCENT))
    scale = SignedLog.of(gap, *(curve for _, curve, _, _ in curves))
    alpha, z = number(constants.alpha), number(constants.z)
    figure = blank(
        460, log_axis(f"u = D/N<sup>{z}</sup>, raw counts", grid),
        scale.axis(
            f"G·N<sup>{alpha}</sup>, nats per token × parameters<sup>{alpha}</sup>",
            gap, *(curve for _, curve, _, _ in curves),
        ),
        top=64,
    )  # fmt: skip
    for name, curve, dash, colour in curves:
        figure.add_scatter(
            x=grid, y=scale.place(curve), mode="lines", name=name, line={"dash": dash, "color": colour, "width": 1.8},
            hoverinfo="skip",
        )  # fmt: skip
    _add_marks(figure, marks, u, scale.place(gap), scale.bars(gap, se))
    return figure


def gap_figure(marks: Marks, constants: GapConstants | None) -> go.Figure:
    """Draw the gap against tokens, N as colour, and the law at the smallest, the middle and the largest N."""
    gap, n, d = marks.gap, marks.n, marks.d
    curves = []
    if constants is not None:
        grid = np.geomspace(d.min(), d.max(), 120)
        sizes = np.unique(np.quantile(n, [0.0, 0.5, 1.0], method="nearest"))
        curves = [(size, grid, predict_gap(size, grid, *constants)) for size in sizes]
    scale = SignedLog.of(gap, *(curve for _, _, curve in curves))
    y = scale.axis("G, nats per token", gap, *(curve for _, _, curve in curves))
    figure = blank(500, log_axis("D, tokens processed", d), y, top=64)
    for size, grid, curve in curves:
        figure.add_scatter(
            x=grid, y=scale.place(curve), mode="lines", hoverinfo="skip", showlegend=False,
            line={"color": size_colours(np.asarray([size]), n.min(), n.max())[0], "width": 1.5},
        )  # fmt: skip
    _add_marks(figure, marks, d, scale.place(gap), scale.bars(gap, marks.se))
    return figure


def standardized_residuals(marks: Marks, constants: GapConstants, tau: float) -> Float[np.ndarray, "marks"]:
    """Return (G - law) over the standard deviation that combines a row's own error and the law's scatter."""
    expected = predict_gap(marks.n, marks.d, *constants)
    spread = np.hypot(np.nan_to_num(marks.se), tau * expected)
    return (marks.gap - expected) / np.maximum(spread, 1e-300)


def residual_figures(marks: Marks, residual: Float[np.ndarray, "marks"]) -> list[go.Figure]:
    """Draw the residuals against N, D and epochs."""
    figures = []
    for x, title in (
        (marks.n, "N, parameters (non-embedding)"),
        (marks.d, "D, tokens processed"),
        (marks.epochs, "epochs D/U"),
    ):
        figure, places = residual_frame(log_axis(title, x), residual, "(G − law) / its s.d.")
        _add_marks(figure, marks, x, places, None)
        figure.update_layout(coloraxis_showscale=False)
        figures.append(figure)
    return figures
