"""The figures of a fit to any table: rows and law, residuals, profiles, windows of extrapolation, choices, budgets."""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from harness.fit.allocation.allocation import Allocation
from harness.fit.allocation.lines import LossRuns
from harness.fit.results.result import Estimate, LikelihoodProfile
from harness.fit.results.robustness import SensitivityCase
from harness.report.figure_axes import (
    ACCENT,
    FAINT,
    SIZE_COLOURS,
    SignedLog,
    blank,
    line_axis,
    log_axis,
    size_colours,
    size_scale,
    value_axis,
)
from harness.report.fit_rows import FittedRows, LawCurve

BAND = "#efece5"


def fit_figure(rows: FittedRows, curves: Sequence[LawCurve]) -> go.Figure:
    """Draw rows and law along the column with the widest range; or the response against the law, if it reads many."""
    if not curves:
        return _observed_against_law(rows)
    (across, x), *rest = rows.columns.items()
    figure = blank(460, log_axis(rows.titles[across], x), top=64 if rest else 24, showlegend=False)
    figure.update_yaxes(value_axis(rows.titles[rows.response], rows.observed, *(curve.y for curve in curves)))
    colours = _curve_colours(rows, curves)
    for curve, colour in zip(curves, colours, strict=True):
        if np.isfinite(curve.low).all() and np.isfinite(curve.high).all():
            _add_band(figure, curve.x, curve.low, curve.high, colour)
        figure.add_scatter(
            x=curve.x, y=curve.y, mode="lines", line={"color": colour, "width": 1.6}, hoverinfo="skip", meta="law",
        )  # fmt: skip
    _add_rows(figure, rows, x, rows.observed)
    return figure


def _observed_against_law(rows: FittedRows) -> go.Figure:
    title = rows.titles[rows.response]
    axes = value_axis(f"{title}, by the law", rows.predicted), value_axis(title, rows.observed)
    figure = blank(460, *axes, top=64 if rows.columns else 24, showlegend=False)
    ends = np.array([rows.predicted.min(), rows.predicted.max()])
    figure.add_scatter(x=ends, y=ends, mode="lines", line={"color": FAINT, "width": 1}, hoverinfo="skip", meta="law")
    _add_rows(figure, rows, rows.predicted, rows.observed)
    return figure


def _curve_colours(rows: FittedRows, curves: Sequence[LawCurve]) -> list[str]:
    role = rows.coloured_by
    if role is None:
        return [SIZE_COLOURS[3]] * len(curves)
    values = rows.columns[role]
    return size_colours(np.asarray([curve.at for curve in curves]), values.min(), values.max())


def _add_band(figure: go.Figure, x: np.ndarray, low: np.ndarray, high: np.ndarray, colour: str) -> None:
    figure.add_scatter(
        x=np.concatenate([x, x[::-1]]), y=np.concatenate([low, high[::-1]]), fill="toself", mode="none",
        fillcolor=colour, opacity=0.18, hoverinfo="skip", meta="band", showlegend=False,
    )  # fmt: skip


def _add_rows(figure: go.Figure, rows: FittedRows, x: np.ndarray, y: np.ndarray) -> None:
    """Add a marker for each row, hollow if it was not fitted, coloured by the second column of the law."""
    role = rows.coloured_by
    marker: dict[str, Any] = {"size": 7, "line": {"width": np.where(rows.held_out, 1.2, 0.0)}}
    if role is None:
        marker |= {"color": SIZE_COLOURS[3]}
    else:
        figure.update_layout(coloraxis=size_scale(rows.columns[role], rows.titles[role]))
        marker |= {"color": np.log10(rows.columns[role]), "coloraxis": "coloraxis"}
    figure.add_scatter(
        x=x, y=y, mode="markers", text=rows.names, meta="rows", showlegend=False,
        customdata=np.stack([rows.observed, rows.predicted, rows.residual], axis=1),
        hovertemplate="%{text}<br>%{customdata[0]:.5g}, by the law %{customdata[1]:.5g}"
        "<br>%{customdata[2]:.2f} s.d. from it<extra></extra>",
        marker=marker | {"symbol": np.where(rows.held_out, "circle-open", "circle")},
    )  # fmt: skip


def residual_axis(scale: SignedLog, residual: Float[np.ndarray, "rows"], title: str) -> dict[str, Any]:
    """Return an axis of standard deviations, linear about zero and wide enough for the residual farthest from it."""
    marks = (-1000, -100, -30, -10, -4, -2, 0, 2, 4, 10, 30, 100, 1000)
    reach = max(float(np.max(np.abs(residual))), 3.0) * 1.2
    marks = [m for m in marks if abs(m) <= reach]
    ticks = {"tickvals": scale.place(np.asarray(marks, float)), "ticktext": [f"{m}".replace("-", "−") for m in marks]}
    limit = float(scale.place(np.asarray(reach)))
    return line_axis(title) | ticks | {"range": [-limit, limit], "zeroline": True, "zerolinecolor": FAINT}


def residual_frame(
    x: dict[str, Any], residual: Float[np.ndarray, "rows"], title: str
) -> tuple[go.Figure, Float[np.ndarray, "rows"]]:
    """Return a figure of residuals in standard deviations without its marks, with a band of ± 2, and their places.

    Args:
        x: the horizontal axis.
        title: the title of the vertical axis.
    """
    scale = SignedLog(1.0)
    figure = blank(320, x, residual_axis(scale, residual, title), showlegend=False)
    limit = float(scale.place(np.asarray(2.0)))
    figure.add_hrect(y0=-limit, y1=limit, fillcolor=BAND, line_width=0, layer="below")
    return figure, scale.place(residual)


def column_residual_figures(rows: FittedRows) -> dict[str, go.Figure]:
    """Draw the residuals against each of the law's columns of numbers, by role."""
    figures = {}
    for role, values in rows.columns.items():
        title = f"({rows.response} − law) / its s.d."
        figure, places = residual_frame(value_axis(rows.titles[role], values), rows.residual, title)
        _add_rows(figure, rows, values, places)
        figures[role] = figure.update_layout(coloraxis_showscale=False)
    return figures


def quantile_figure(
    scores: Float[np.ndarray, "rows"],
    title: str,
    names: np.ndarray | None = None,
    *,
    limit: float = 2.0,
    height: int = 420,
) -> go.Figure:
    """Draw scores in order against the quantiles of a standard normal, with a band between the limits.

    Args:
        title: the title of the vertical axis.
        names: what each score is called, for a reader who points at it.
    """
    count, order = len(scores), np.argsort(scores)
    quantiles = np.asarray([NormalDist().inv_cdf((i + 0.5) / count) for i in range(count)])
    reach, across = max(3.0, float(np.max(np.abs(scores))) * 1.1), max(3.0, float(quantiles[-1]) * 1.05)
    x = line_axis("quantile of a standard normal") | {"range": [-across, across]}
    figure = blank(height, x, line_axis(title) | {"range": [-reach, reach]}, showlegend=False)
    figure.add_hrect(y0=-limit, y1=limit, fillcolor=BAND, line_width=0, layer="below")
    ends = [-across, across]
    figure.add_scatter(x=ends, y=ends, mode="lines", line={"color": FAINT, "width": 1}, hoverinfo="skip")
    figure.add_scatter(
        x=quantiles, y=scores[order], mode="markers", text=None if names is None else names[order],
        marker={"size": 7, "color": SIZE_COLOURS[3]}, meta="scores",
        hovertemplate=f"{'' if names is None else '%{text}<br>'}%{{y:.2f}} s.d.<extra></extra>",
    )  # fmt: skip
    return figure


def profile_figure(name: str, profile: LikelihoodProfile, limit: float, entry: Estimate) -> go.Figure:
    """Draw how far 2 log L falls when one constant is held at other values, with the limit of its 95 % interval."""
    values, falls = np.asarray(profile.values), np.asarray(profile.falls)
    logs = (values > 0).all() and values.max() / values.min() > 20
    figure = blank(300, log_axis(name, values) if logs else line_axis(name), showlegend=False)
    if logs and (decades := np.log10(values.max() / values.min())) > 4:  # the figure is narrow, and 10^-15 is long
        figure.update_xaxes(dtick=math.ceil(decades / 4))
    figure.update_yaxes(line_axis("fall of 2 log L") | {"range": [-0.06 * limit, 1.25 * limit]})
    figure.add_hline(y=limit, line={"color": FAINT, "width": 1, "dash": "dash"})
    if entry.estimate is not None:
        figure.add_vline(x=entry.estimate, line={"color": ACCENT, "width": 1.5})
    figure.add_scatter(
        x=values, y=falls, mode="lines+markers", line={"color": SIZE_COLOURS[3], "width": 1.6}, marker={"size": 4},
        hovertemplate="%{x:.4g}<br>2 log L %{y:.2f} lower<extra></extra>", meta="profile",
    )  # fmt: skip
    return figure


def sensitivity_figure(cases: Sequence[SensitivityCase], names: Sequence[str]) -> go.Figure:
    """Draw each constant under each choice, divided by its value as fitted; constants of one sign only."""
    figure = blank(150 + 26 * len(cases), top=24)
    fitted, places = cases[0].estimates, np.arange(len(cases), 0, -1.0)
    shares = []
    for i, name in enumerate(names):
        known = [(case, y) for case, y in zip(cases, places, strict=True) if name in case.estimates]
        x = np.asarray([case.estimates[name] / fitted[name] for case, _ in known])
        shares.append(x)
        figure.add_scatter(
            x=x, y=[y + 0.36 * (0.5 - (i + 0.5) / len(names)) for _, y in known], mode="markers", name=name,
            marker={"size": 7, "color": SIZE_COLOURS[round(i * 8 / max(len(names) - 1, 1))]}, meta="choices",
            customdata=[case.estimates[name] for case, _ in known], text=[case.case for case, _ in known],
            hovertemplate=f"%{{text}}<br>{name} %{{customdata:.4g}}<extra></extra>",
        )  # fmt: skip
    figure.add_vline(x=1.0, line={"color": FAINT, "width": 1})
    figure.update_xaxes(log_axis("relative to the fit", *shares))
    figure.update_yaxes(
        line_axis("") | {"tickvals": places.tolist(), "ticktext": [case.case for case in cases], "showgrid": False}
    )
    return figure.update_layout(margin={"l": 190}, legend={"y": -64 / (78 + 26 * len(cases))})


def isoflop_figure(
    runs: LossRuns, budgets: Sequence[np.ndarray], best: Sequence[float], lowest: Sequence[float]
) -> go.Figure:
    """Draw the loss against N at each budget of FLOPs, coloured by budget, with the optima found.

    Args:
        budgets: the rows of each budget (`harness.fit.allocation.isoflop.profiles`).
        best, lowest: N and loss of each optimum.
    """
    rows = np.concatenate(budgets)
    flops = runs.flops[rows]
    means = np.asarray([runs.flops[budget].mean() for budget in budgets])
    figure = blank(460, log_axis("N, parameters", runs.n[rows]), log_axis("L, loss", runs.loss[rows]), top=64)
    figure.update_layout(coloraxis=size_scale(flops, "C, training FLOPs"), showlegend=False)
    for budget, mean, colour in zip(budgets, means, size_colours(means, flops.min(), flops.max()), strict=True):
        figure.add_scatter(
            x=runs.n[budget], y=runs.loss[budget], mode="lines+markers", line={"color": colour, "width": 1.4},
            marker={"size": 6, "color": np.log10(runs.flops[budget]), "coloraxis": "coloraxis"}, meta="budget",
            hovertemplate=f"C {mean:.3g}<br>N %{{x:.4s}}<br>L %{{y:.4g}}<extra></extra>",
        )  # fmt: skip
    figure.add_scatter(
        x=best, y=lowest, mode="markers", meta="optima", marker={"symbol": "star", "size": 12, "color": ACCENT},
        hovertemplate="optimum<br>N %{x:.4s}<br>L %{y:.4g}<extra></extra>",
    )  # fmt: skip
    return figure


def optima_figure(found: Allocation) -> go.Figure:
    """Draw the best N and D of each budget with their 95 % limits, and the power laws through them."""
    optima, line = ({name: table[name].to_numpy(float) for name in table} for table in (found.optima, found.budgets))
    pooled = [table[role] for table in (optima, line) for role in ("N", "D")]
    compute = log_axis("C, training FLOPs", optima["flops"], line["flops"])
    figure = blank(460, compute, log_axis("N, parameters; D, tokens", *pooled))
    for role, colour in (("N", ACCENT), ("D", SIZE_COLOURS[3])):
        low, high = (line[f"{role}_{end}"] for end in ("low", "high"))
        if np.isfinite(low).all() and np.isfinite(high).all():
            _add_band(figure, line["flops"], low, high, colour)
        figure.add_scatter(
            x=line["flops"], y=line[role], mode="lines", line={"color": colour, "width": 1.4}, showlegend=False,
            hoverinfo="skip",
        )  # fmt: skip
        bars = None
        if f"{role}_low" in optima:
            up, down = optima[f"{role}_high"] - optima[role], optima[role] - optima[f"{role}_low"]
            bars = {"array": up, "arrayminus": down, "symmetric": False, "thickness": 1.2, "width": 0}
        figure.add_scatter(
            x=optima["flops"], y=optima[role], error_y=bars, mode="markers", name=f"best {role}", meta="optima",
            marker={"size": 8, "color": colour}, hovertemplate=f"{role} %{{y:.4s}} at C %{{x:.3g}}<extra></extra>",
        )  # fmt: skip
    return figure


def window_figure(scale: np.ndarray, errors: np.ndarray, edges: Sequence[float], names: np.ndarray) -> go.Figure:
    """Draw the relative errors of rows that lay beyond the fitted ones against their scale, with each window's edge.

    Args:
        scale: the scale that orders the rows, such as N D.
        errors: prediction over response less one, in per cent.
        edges: the largest fitted scale of each window.
    """
    figure = blank(380, log_axis("scale of the row", scale, np.asarray(edges)), line_axis("error, %"), showlegend=False)
    figure.update_yaxes(zeroline=True, zerolinecolor=FAINT)
    for edge in edges:
        figure.add_vline(x=edge, line={"color": FAINT, "width": 1, "dash": "dot"})
    figure.add_scatter(
        x=scale, y=errors, mode="markers", text=names, marker={"size": 7, "color": SIZE_COLOURS[3]}, meta="scored",
        hovertemplate="%{text}<br>%{y:.2f} % off<extra></extra>",
    )  # fmt: skip
    return figure
