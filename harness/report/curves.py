"""Loss curves: training loss and evaluations of every run, a figure for each kind of text and tokenizer."""

import math

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float

from harness.fit.table import RUN_ROLES
from harness.report.axes import INK, blank, line_axis, log_axis, numbers, short, size_colours, size_scale

BINS = 60
LINES = (("training loss, smoothed", "solid", 0.8, 0.55), ("held-out", "solid", 2.0, 1.0), ("seen", "dot", 1.6, 1.0))


def smooth(
    tokens: Float[np.ndarray, "steps"], loss: Float[np.ndarray, "steps"], bins: int = BINS
) -> tuple[Float[np.ndarray, "bins"], Float[np.ndarray, "bins"]]:
    """Means of tokens and loss over equal ratios of tokens; values that are not finite are passed over."""
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
    """Bytes per token of each run's text: of its corpus where measured, else of its own held-out probe."""
    held = evals.query("probe == 'heldout'")
    ratios = numbers(held, "probe_bytes") / numbers(held, "probe_tokens")
    probed = dict(zip(held["run_id"], ratios.tolist(), strict=True))
    known = zip(runs["run_id"], numbers(runs, "bytes_per_token").tolist(), strict=True)
    return {run: ratio if math.isfinite(ratio) else probed.get(run, math.nan) for run, ratio in known}


def curve_figures(runs: pd.DataFrame, series: pd.DataFrame, evals: pd.DataFrame) -> dict[str, go.Figure]:
    """A figure for each domain and tokenizer with recorded runs; bits per byte if the sweep has several tokenizers."""
    if series.empty or evals.empty:
        return {}
    shared = len(set(runs["tokenizer"])) == 1
    ratio = {run: math.nan for run in runs["run_id"]} if shared else bytes_per_token(runs, evals)
    unit = {run: 1.0 if shared else 1.0 / (math.log(2.0) * ratio[run]) for run in runs["run_id"]}
    title = "loss, nats per token" if shared else "loss, bits per byte"
    recorded = {
        kind: {str(run): rows for run, rows in table.groupby("run_id")}
        for kind, table in (("series", series), ("evals", evals))
    }
    figures = {}
    for text, group in runs.groupby(runs["domain"] + ", " + runs["tokenizer"], sort=True):
        if any(run in recorded["series"] for run in group["run_id"]):
            figures[str(text)] = _figure(group, recorded, unit, title)
    return figures


def _lines(run: str, recorded: dict[str, dict[str, pd.DataFrame]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(tokens, loss) of one run by kind of line, nats per token; step 0 has no place on a log axis."""
    steps, found = recorded["series"].get(run), {}
    if steps is not None:
        found[LINES[0][0]] = smooth(numbers(steps, "tokens"), numbers(steps, "train_loss"))
    probes = recorded["evals"].get(run)
    for name, probe in ((LINES[1][0], "heldout"), (LINES[2][0], "seen")):
        if probes is not None:
            mine = probes.loc[(probes["probe"] == probe) & (probes["tokens"] > 0)]
            found[name] = (numbers(mine, "tokens"), numbers(mine, "loss"))
    return found


def _figure(runs: pd.DataFrame, recorded: dict[str, dict[str, pd.DataFrame]], unit: dict[str, float], title: str):
    """One trace a size and kind of line, runs parted by gaps: traces stay few when runs are many."""
    n = numbers(runs, RUN_ROLES["N"])
    lines = {run: _lines(run, recorded) for run in runs["run_id"]}
    figure, xs, ys = blank(520), [], []
    for name, dash, width, opacity in LINES:
        line = {"color": INK, "width": width, "dash": dash}
        figure.add_scatter(x=[None], y=[None], mode="lines", name=name, legendgroup=name, line=line, opacity=opacity)
    sizes = np.unique(n)
    for size, colour in zip(sizes, size_colours(sizes, n.min(), n.max()), strict=True):
        group = runs.loc[n == size]
        for name, dash, width, opacity in LINES:
            x, y, text = [], [], []
            for row in group.to_dict("records"):
                tokens, loss = lines[row["run_id"]].get(name, (np.empty(0), np.empty(0)))
                loss = loss * unit[row["run_id"]]
                label = f"{row['run_id']}: {row['architecture']}, N {short(size)}, {row['epochs']:.3g} epochs"
                x += [*tokens.tolist(), None]
                y += [*loss.tolist(), None]
                text += [label] * (len(tokens) + 1)
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
    figure.update_yaxes(line_axis(title), range=[low - 0.04 * (high - low), high + 0.04 * (high - low)])
    return figure
