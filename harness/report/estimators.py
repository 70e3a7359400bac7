"""Checks on the measurement: the two estimators of the gap against each other, and gaps that are truly zero."""

from statistics import NormalDist

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float

from harness.report.axes import FAINT, SIZES, SignedLog, blank, line_axis, numbers
from harness.report.figures import describe

BEYOND = 2.0
# P(|z| > 2) of a standard normal.
EXPECTED = 2 * (1 - NormalDist().cdf(BEYOND))


def estimator_figure(rows: pd.DataFrame) -> go.Figure:
    """The online gap against the probe gap, with the line on which they agree."""
    probe, online = numbers(rows, "gap_probe"), numbers(rows, "gap_online")
    scale = SignedLog.of(probe, online)
    figure = blank(420, showlegend=False)
    both = np.concatenate([probe, online])
    ends = scale.place(np.asarray([both.min(), both.max()]))
    figure.add_scatter(x=ends, y=ends, mode="lines", line={"color": FAINT, "width": 1}, hoverinfo="skip")
    figure.add_scatter(
        x=scale.place(probe), y=scale.place(online), mode="markers", text=describe(rows), customdata=online,
        hovertemplate="%{text}<br>online gap %{customdata:.4g}<extra></extra>", marker={"size": 8, "color": SIZES[3]},
        error_x=scale.bars(probe, numbers(rows, "gap_probe_se")),
        error_y=scale.bars(online, numbers(rows, "gap_online_se")),
    )  # fmt: skip
    figure.update_xaxes(scale.axis("probe gap, nats per token", probe))
    figure.update_yaxes(scale.axis("online gap, nats per token", online))
    return figure


def placebo_scores(rows: pd.DataFrame) -> Float[np.ndarray, "rows"]:
    """Placebo gaps over their standard errors, those that have both."""
    placebo, se = numbers(rows, "placebo"), numbers(rows, "placebo_se")
    usable = np.isfinite(placebo) & np.isfinite(se) & (se > 0)
    return placebo[usable] / se[usable]


def placebo_figure(scores: Float[np.ndarray, "rows"]) -> go.Figure:
    """The scores in order against the quantiles of a standard normal."""
    count = len(scores)
    quantiles = np.asarray([NormalDist().inv_cdf((i + 0.5) / count) for i in range(count)])
    reach = max(3.0, float(np.max(np.abs(scores))) * 1.1)
    figure = blank(420, showlegend=False)
    figure.add_hrect(y0=-BEYOND, y1=BEYOND, fillcolor="#efece5", line_width=0, layer="below")
    figure.add_scatter(x=[-3, 3], y=[-3, 3], mode="lines", line={"color": FAINT, "width": 1}, hoverinfo="skip")
    figure.add_scatter(
        x=quantiles, y=np.sort(scores), mode="markers", marker={"size": 8, "color": SIZES[3]},
        hovertemplate="placebo / s.e. %{y:.2f}<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(line_axis("quantile of a standard normal"), range=[-3, 3])
    figure.update_yaxes(line_axis("placebo gap / its s.e."), range=[-reach, reach])
    return figure
