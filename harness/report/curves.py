"""Loss curves: training loss and evaluations of every run, a figure for each kind of text and tokenizer."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float

from harness.gaps.roles import RUN_ROLES
from harness.report.figure_axes import INK, blank, line_axis, log_axis, numbers, short, size_colours, size_scale

CURVE_BINS = 60
# The kinds of line in a figure, each with its dash, width and opacity.
LINES = (("training loss, smoothed", "solid", 0.8, 0.55), ("held-out", "solid", 2.0, 1.0), ("seen", "dot", 1.6, 1.0))
Curve = tuple[Float[np.ndarray, "points"], Float[np.ndarray, "points"]]


@dataclass(frozen=True)
class LossCurves:
    """The losses of one run over training.

    Attributes:
        text: the run's domain and tokenizer; runs that share them are drawn in one figure.
        n: parameters without embeddings.
        label: what a reader sees on pointing at it.
        unit: the unit of the loss.
        lines: for each kind of line, tokens processed and the loss. Step 0 is left out: it has no place on a log axis.
    """

    text: str
    n: float
    label: str
    unit: str
    lines: dict[str, Curve]


def smooth(
    tokens: Float[np.ndarray, "steps"], loss: Float[np.ndarray, "steps"], bins: int = CURVE_BINS
) -> tuple[Float[np.ndarray, "bins"], Float[np.ndarray, "bins"]]:
    """Average tokens and loss in bins of equal width in log tokens; steps whose loss is not finite are left out."""
    finite = np.isfinite(loss)
    tokens, loss = tokens[finite].astype(float), loss[finite].astype(float)
    if len(tokens) <= bins:
        return tokens, loss
    edges = np.geomspace(tokens[0], tokens[-1], bins + 1)[1:-1]
    place = np.searchsorted(edges, tokens, side="right")
    counts = np.bincount(place, minlength=bins)
    kept = counts > 0
    means = [np.bincount(place, values, bins)[kept] / counts[kept] for values in (tokens, loss)]
    return means[0], means[1]


def bytes_per_token(runs: pd.DataFrame, evals: pd.DataFrame) -> dict[str, float]:
    """Bytes per token of each run's text, measured on its corpus or, where that is unknown, on its held-out probe."""
    heldout = evals.query("probe == 'heldout'")
    ratios = numbers(heldout, "probe_bytes") / numbers(heldout, "probe_tokens")
    probed = dict(zip(heldout["run_id"], ratios.tolist(), strict=True))
    known = zip(runs["run_id"], numbers(runs, "bytes_per_token").tolist(), strict=True)
    return {run: ratio if math.isfinite(ratio) else probed.get(run, math.nan) for run, ratio in known}


def loss_curves(runs: pd.DataFrame, series: pd.DataFrame, evals: pd.DataFrame) -> tuple[LossCurves, ...]:
    """Read the curves of every run from a sweep's three tables; none if no step or no evaluation was recorded.

    Losses are in nats per token, or in bits per byte if the sweep has several tokenizers.
    """
    if series.empty or evals.empty:
        return ()
    steps, probes = ({str(run): rows for run, rows in table.groupby("run_id")} for table in (series, evals))
    ratios = bytes_per_token(runs, evals) if len(set(runs["tokenizer"])) > 1 else None
    return tuple(
        LossCurves(
            text=f"{row['domain']}, {row['tokenizer']}",
            n=float(row[RUN_ROLES["N"]]),
            label=f"{row['run_id']}: {row['architecture']}, N {short(row[RUN_ROLES['N']])}, {row['epochs']:.3g} epochs",
            unit="nats per token" if ratios is None else "bits per byte",
            lines=_lines(
                steps.get(row["run_id"]),
                probes.get(row["run_id"]),
                1.0 if ratios is None else 1.0 / (math.log(2.0) * ratios[row["run_id"]]),
            ),
        )
        for row in runs.to_dict("records")
    )


def _lines(steps: pd.DataFrame | None, probes: pd.DataFrame | None, unit: float) -> dict[str, Curve]:
    lines: dict[str, Curve] = {}
    if steps is not None:
        lines[LINES[0][0]] = smooth(numbers(steps, "tokens"), numbers(steps, "train_loss"))
    if probes is not None:
        for name, probe in ((LINES[1][0], "heldout"), (LINES[2][0], "seen")):
            own = probes.loc[(probes["probe"] == probe) & (probes["tokens"] > 0)]
            lines[name] = (numbers(own, "tokens"), numbers(own, "loss"))
    return {name: (tokens, loss * unit) for name, (tokens, loss) in lines.items()}


def curve_figures(curves: Sequence[LossCurves]) -> dict[str, go.Figure]:
    """Draw a figure for each text of which any step was recorded."""
    ordered = sorted(curves, key=lambda curve: curve.text)
    groups = {text: list(group) for text, group in groupby(ordered, key=lambda curve: curve.text)}
    return {text: _figure(group) for text, group in groups.items() if any(LINES[0][0] in own.lines for own in group)}


def _figure(curves: Sequence[LossCurves]) -> go.Figure:
    """One trace for each size and kind of line, runs separated by gaps: traces stay few when runs are many."""
    n = np.asarray([curve.n for curve in curves])
    figure, xs, ys = blank(520), [], []
    for name, dash, width, opacity in LINES:
        line = {"color": INK, "width": width, "dash": dash}
        figure.add_scatter(x=[None], y=[None], mode="lines", name=name, legendgroup=name, line=line, opacity=opacity)
    sizes = np.unique(n)
    for size, colour in zip(sizes, size_colours(sizes, n.min(), n.max()), strict=True):
        for name, dash, width, opacity in LINES:
            x, y, text = [], [], []
            for curve in curves:
                if curve.n != size:
                    continue
                tokens, loss = curve.lines.get(name, (np.empty(0), np.empty(0)))
                x += [*tokens.tolist(), None]
                y += [*loss.tolist(), None]
                text += [curve.label] * (len(tokens) + 1)
                xs.append(tokens)
                ys.append(loss)
            figure.add_scatter(
                x=x, y=y, text=text, mode="lines", name=name, legendgroup=name, showlegend=False,
                line={"color": colour, "width": width, "dash": dash}, opacity=opacity, connectgaps=False,
                hovertemplate=f"%{{text}}<br>{name} %{{y:.4f}} at %{{x:.3s}} tokens<extra></extra>",
            )  # fmt: skip
    figure.add_scatter(
        x=[None], y=[None], mode="markers", marker={"color": [np.log10(n.min())], "coloraxis": "coloraxis"},
        showlegend=False, hoverinfo="skip",
    )  # fmt: skip
    drawn = np.concatenate(ys)
    drawn = drawn[np.isfinite(drawn)]
    low, high = (float(drawn.min()), float(drawn.max())) if len(drawn) else (0.0, 1.0)
    figure.update_layout(coloraxis=size_scale(n), margin={"t": 64})
    figure.update_xaxes(log_axis("tokens processed", *xs))
    pad = 0.04 * (high - low)
    figure.update_yaxes(line_axis(f"loss, {curves[0].unit}"), range=[low - pad, high + pad])
    return figure
