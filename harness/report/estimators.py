"""Figures that check the measurement: two estimators of the gap against each other, and gaps that are truly zero."""

from statistics import NormalDist

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from harness.report.figure_axes import FAINT, SIZE_COLOURS, SignedLog, blank, line_axis
from harness.report.marks import Marks

PLACEBO_LIMIT = 2.0
# P(|z| > 2) of a standard normal.
EXPECTED_BEYOND = 2 * (1 - NormalDist().cdf(PLACEBO_LIMIT))


def estimator_figure(marks: Marks) -> go.Figure:
    """Draw the online gap against the probe gap where both are known, with the line on which they agree."""
    both = np.isfinite(marks.online)
    probe, online = marks.probe[both], marks.online[both]
    scale = SignedLog.of(probe, online)
    axes = scale.axis("probe gap, nats per token", probe), scale.axis("online gap, nats per token", online)
    figure = blank(420, *axes, showlegend=False)
    pooled = np.concatenate([probe, online])
    ends = scale.place(np.asarray([pooled.min(), pooled.max()]))
    figure.add_scatter(x=ends, y=ends, mode="lines", line={"color": FAINT, "width": 1}, hoverinfo="skip")
    figure.add_scatter(
        x=scale.place(probe), y=scale.place(online), mode="markers", text=marks.texts[both], customdata=online,
        hovertemplate="%{text}<br>online gap %{customdata:.4g}<extra></extra>",
        marker={"size": 8, "color": SIZE_COLOURS[3]},
        error_x=scale.bars(probe, marks.probe_se[both]),
        error_y=scale.bars(online, marks.online_se[both]),
    )  # fmt: skip
    return figure


def placebo_scores(marks: Marks) -> Float[np.ndarray, "scores"]:
    """Return placebo gaps over their standard errors, of the marks that have both."""
    placebo, se = marks.placebo, marks.placebo_se
    usable = np.isfinite(placebo) & np.isfinite(se) & (se > 0)
    return placebo[usable] / se[usable]


def placebo_figure(scores: Float[np.ndarray, "rows"]) -> go.Figure:
    """Draw the scores in order against the quantiles of a standard normal, with a band between the limits."""
    count = len(scores)
    quantiles = np.asarray([NormalDist().inv_cdf((i + 0.5) / count) for i in range(count)])
    reach = max(3.0, float(np.max(np.abs(scores))) * 1.1)
    x = line_axis("quantile of a standard normal") | {"range": [-3, 3]}
    y = line_axis("placebo gap / its s.e.") | {"range": [-reach, reach]}
    figure = blank(420, x, y, showlegend=False)
    figure.add_hrect(y0=-PLACEBO_LIMIT, y1=PLACEBO_LIMIT, fillcolor="#efece5", line_width=0, layer="below")
    figure.add_scatter(x=[-3, 3], y=[-3, 3], mode="lines", line={"color": FAINT, "width": 1}, hoverinfo="skip")
    figure.add_scatter(
        x=quantiles, y=np.sort(scores), mode="markers", marker={"size": 8, "color": SIZE_COLOURS[3]},
        hovertemplate="placebo / s.e. %{y:.2f}<extra></extra>",
    )  # fmt: skip
    return figure
