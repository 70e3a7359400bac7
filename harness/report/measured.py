"""Figures of twins: every estimator of each cell side by side, and their gaps by recency and over training."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from harness.fit.results.shown import number
from harness.record.columns import ESTIMATORS
from harness.report.figure_axes import HALF_INTERVAL, INK, blank, line_axis, log_axis, short, size_colours
from harness.report.page_tables import html_table

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
    """Draw the twin gap after every evaluation against epochs, a line a cell."""
    curves = [
        (row, [point for point in each["trajectory"] if point.get("gap_twin") is not None])
        for row, each in zip(rows, details, strict=True)
    ]
    return _lines(curves, "epochs", log_axis("epochs", *(_column(points, "epochs") for _, points in curves)))


def by_recency(rows: Sequence[dict[str, Any]], details: Sequence[dict[str, Any]]) -> go.Figure:
    """Draw the twin gap against the tokens read since a window was last seen, a line a cell."""
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
    """Write the same as numbers, with the scores of the placebos and the spread over documents."""
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
