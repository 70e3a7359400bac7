"""Figures that check the measurement: estimators against each other, gaps that are truly zero, and twins."""

from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from harness.fit.results.shown import number
from harness.record.columns import ESTIMATORS
from harness.report.figure_axes import (
    FAINT,
    HALF_INTERVAL,
    INK,
    SIZE_COLOURS,
    SignedLog,
    blank,
    line_axis,
    log_axis,
    short,
    size_colours,
)
from harness.report.fit_figures import quantile_figure
from harness.report.marks import Marks
from harness.report.page_tables import html_table

PLACEBO_LIMIT = 2.0
# The share of placebo scores expected beyond the limit: P(|z| > 2) of a standard normal.
EXPECTED_BEYOND = 2 * (1 - NormalDist().cdf(PLACEBO_LIMIT))
COLOURS = {"online": "#b9b4a7", "probe": "#6b6b6b", "control": "#31688e", "twin": "#b3541e"}


def label(row: dict[str, Any]) -> str:
    """Name a cell in a few words."""
    return f"{row['domain']}, N {short(row['N_nonembedding'])}, {row['epochs']:.3g} × U {short(row['U'])}"


def side_by_side(rows: Sequence[dict[str, Any]]) -> go.Figure:
    """Draw the four estimators of each cell of twins, with 95 % bars."""
    x = line_axis("gap, nats per token") | {"zeroline": True, "zerolinecolor": INK}
    figure = blank(160 + 34 * len(rows), x, top=64)
    places = np.arange(len(rows), 0, -1.0)
    for offset, name in zip((0.27, 0.09, -0.09, -0.27), ESTIMATORS, strict=True):
        known = [i for i, row in enumerate(rows) if row[f"gap_{name}"] is not None]
        figure.add_scatter(
            x=[rows[i][f"gap_{name}"] for i in known], y=[places[i] + offset for i in known], mode="markers", name=name,
            error_x={"array": [HALF_INTERVAL * rows[i][f"gap_{name}_se"] for i in known], "thickness": 1.5, "width": 0},
            marker={"size": 7, "color": COLOURS[name]}, hovertemplate=f"{name} %{{x:.4f}}<extra></extra>",
        )  # fmt: skip
    figure.update_yaxes(tickvals=places.tolist(), ticktext=[label(row) for row in rows], showgrid=False)
    figure.update_layout(margin={"l": 250})
    return figure


def over_training(rows: Sequence[dict[str, Any]], details: Sequence[dict[str, Any]]) -> go.Figure:
    """Draw the twin gap after every evaluation against epochs, one line per cell."""
    curves = [
        (row, [point for point in each["trajectory"] if point.get("gap_twin") is not None])
        for row, each in zip(rows, details, strict=True)
    ]
    return _lines(curves, "epochs", log_axis("epochs", *(_column(points, "epochs") for _, points in curves)))


def by_recency(rows: Sequence[dict[str, Any]], details: Sequence[dict[str, Any]]) -> go.Figure:
    """Draw the twin gap against the tokens read since a window was last seen, one line per cell."""
    curves = []
    for row, each in zip(rows, details, strict=True):
        bins = [bin_ for bin_ in each["recency"] if bin_["since_to"] is not None and bin_.get("gap_twin") is not None]
        middles = [bin_ | {"since": (bin_["since_from"] + bin_["since_to"]) / 2} for bin_ in bins]
        curves.append((row, middles))
    title = "tokens read since the text was last seen (middle of a halving)"
    return _lines(curves, "since", log_axis(title, *(_column(points, "since") for _, points in curves)))


def _column(points: Sequence[dict[str, Any]], name: str) -> np.ndarray:
    return np.asarray([point[name] for point in points], float)


def _lines(curves: Sequence[tuple[dict[str, Any], list[dict[str, Any]]]], across: str, axis: dict[str, Any]):
    figure = blank(460, axis, line_axis("twin gap, nats per token"), top=64)
    places = np.arange(1.0, len(curves) + 1)
    for (row, points), colour in zip(curves, size_colours(places, 1.0, max(2.0, len(curves))), strict=True):
        figure.add_scatter(
            x=_column(points, across), y=_column(points, "gap_twin"), mode="lines+markers", name=label(row),
            error_y={"array": HALF_INTERVAL * _column(points, "gap_twin_se"), "thickness": 1, "width": 0},
            line={"color": colour, "width": 1.5}, marker={"size": 5},
            hovertemplate=f"{label(row)}<br>%{{y:.4f}} at %{{x:.3s}}<extra></extra>",
        )  # fmt: skip
    return figure


def estimators_table(rows: Sequence[dict[str, Any]]) -> str:
    """Write the estimators of each cell as numbers, with the scores of the placebos and the spread over documents."""
    headings = (
        "twins", *ESTIMATORS, "minimum detectable", *(f"placebo / s.e., {name}" for name in ESTIMATORS),
        "online lag", "documents' s.d.", "differences' s.d.", "noise scale, tokens",
    )  # fmt: skip
    body = [
        [
            label(row), *(_with_error(row, name) for name in ESTIMATORS), row["minimum_detectable_gap"],
            *(row[f"placebo_{name}_z"] for name in ESTIMATORS), row["online_lag"], row["document_sd"],
            row["paired_sd"], row["noise_scale"],
        ]
        for row in rows
    ]  # fmt: skip
    return html_table(headings, body, tall=True)


def _with_error(row: dict[str, Any], name: str) -> str:
    value, se = row[f"gap_{name}"], row[f"gap_{name}_se"]
    return "–" if value is None else f"{number(value)} ± {number(se)}".replace("-", "\N{MINUS SIGN}")


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
    """Return placebo gaps over their standard errors, for the marks that have both."""
    placebo, se = marks.placebo, marks.placebo_se
    usable = np.isfinite(placebo) & np.isfinite(se) & (se > 0)
    return placebo[usable] / se[usable]


def placebo_figure(scores: Float[np.ndarray, "rows"]) -> go.Figure:
    """Draw the scores in order against the quantiles of a standard normal, with a band between the limits."""
    return quantile_figure(scores, "placebo gap / its s.e.", limit=PLACEBO_LIMIT)
