"""The figures of the gap: where the runs lie, the collapse, the gap against tokens, the residuals of the law."""

from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float

from harness.fit.forecast import predict
from harness.fit.gap_law.published import SOURCE_D, SOURCE_N, predict_gap
from harness.fit.result import FitResult, number
from harness.fit.table import RUN_ROLES
from harness.gaps.contrast import DETECTABLE
from harness.report.axes import (
    ACCENT,
    FAINT,
    INK,
    SIZES,
    SignedLog,
    blank,
    line_axis,
    log_axis,
    numbers,
    short,
    size_colours,
    size_scale,
    symbols_of,
)
from sweeps.published_gap import PUBLISHED_GAP

PUBLISHED_U_STAR = 1.0
CONSTANTS = ("A", "alpha", "z", "beta", "u_star")


def describe(rows: pd.DataFrame) -> list[str]:
    """What a reader sees on pointing at a run."""
    texts = []
    for row in rows.to_dict("records"):
        settled = {True: "settled", False: "not settled"}.get(row["converged"], "not known whether settled")
        texts.append(
            f"<b>{row['run_id']}</b> seed {row['seed']}<br>{escape(row['architecture'])}, {escape(row['domain'])},"
            f" {escape(row['tokenizer'])}<br>N {short(row[RUN_ROLES['N']])}, D {short(row['D'])}, U {short(row['U'])},"
            f" {row['epochs']:.3g} epochs, batch {short(row['batch_tokens'])} tokens<br>"
            f"gap {number(row['G'])} ± {number(row['G_se'])} (s.e.),"
            f" minimum detectable {number(DETECTABLE * row['G_se'])}, {row['estimator']}<br>{settled}"
        )
    return texts


def undetected(rows: pd.DataFrame) -> Float[np.ndarray, "rows"]:
    """Rows whose gap is smaller, either way, than what their design detects."""
    return np.abs(numbers(rows, "G")) < DETECTABLE * numbers(rows, "G_se")


def _points(figure: go.Figure, rows: pd.DataFrame, x: np.ndarray, y: np.ndarray, bars: dict[str, Any] | None) -> None:
    """A marker a run: symbol by architecture, colour by N, hollow below the minimum detectable gap."""
    hollow, texts = undetected(rows), np.asarray(describe(rows), object)
    figure.update_layout(coloraxis=size_scale(numbers(rows, RUN_ROLES["N"])))
    for architecture, symbol in symbols_of(rows).items():
        mine = np.asarray(rows["architecture"] == architecture)
        symbols = [f"{symbol}-open" if open_ else symbol for open_ in hollow[mine]]
        own = {name: value[mine] if isinstance(value, np.ndarray) else value for name, value in (bars or {}).items()}
        colours = np.log10(numbers(rows, RUN_ROLES["N"])[mine])
        figure.add_scatter(
            x=x[mine], y=y[mine], mode="markers", text=texts[mine], hovertemplate="%{text}<extra></extra>",
            marker={"symbol": symbols, "size": 9, "color": colours, "coloraxis": "coloraxis", "line": {"width": 1.3}},
            error_y=own or None, showlegend=False, legendgroup=architecture, meta="runs",
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
    """Which part of u = D/N^z the runs cover, at the published z, beside the source's own ranges."""
    u = numbers(runs, "D") / numbers(runs, RUN_ROLES["N"]) ** PUBLISHED_GAP.z
    source = (SOURCE_D[0] / SOURCE_N[1] ** PUBLISHED_GAP.z, SOURCE_D[1] / SOURCE_N[0] ** PUBLISHED_GAP.z)
    done = np.asarray(runs["status"] == "done")
    figure = blank(220)
    figure.add_scatter(
        x=source, y=["source", "source"], mode="lines", line={"color": "#c9c4ba", "width": 22}, showlegend=False,
        hovertemplate="the source's ranges: u from %{x:.3g}<extra></extra>",
    )  # fmt: skip
    for mask, name, colour in ((done, "finished", SIZES[2]), (~done, "not finished", "#9a9a9a")):
        if not mask.any():
            continue
        texts = [
            f"{run}, N {short(n)}, D {short(d)}"
            for run, n, d in zip(runs["run_id"], numbers(runs, RUN_ROLES["N"]), numbers(runs, "D"), strict=True)
        ]
        figure.add_scatter(
            x=u[mask], y=[name] * int(mask.sum()), mode="markers", text=np.asarray(texts, object)[mask],
            marker={"symbol": "line-ns", "size": 20, "line": {"color": colour, "width": 1.6}}, showlegend=False,
            hovertemplate="u %{x:.3g}<br>%{text}<extra></extra>",
        )  # fmt: skip
    figure.add_vline(x=PUBLISHED_U_STAR, line={"color": ACCENT, "width": 1.5})
    figure.add_annotation(
        x=0, xref="x", y=1.0, yref="paper", yanchor="bottom", text="u* = 1", showarrow=False, font={"color": ACCENT}
    )
    axis = log_axis("u = D/N<sup>0.74</sup>, raw counts", u, np.asarray(source))
    figure.update_xaxes(axis | {"range": [min(axis["range"][0], -1.0), axis["range"][1]]})
    figure.update_yaxes(
        type="category", categoryorder="array", categoryarray=["not finished", "finished", "source"], automargin=True
    )
    return figure


def constants_of(fit: FitResult, *, published: bool) -> dict[str, float] | None:
    """The gap law's constants, the source's or the best point's; None if one has no value."""
    values = {
        name: parameter.published if published else parameter.estimate
        for name, parameter in fit.parameters.items()
        if name in CONSTANTS
    }
    known = {name: value for name, value in values.items() if value is not None}
    return known if len(known) == len(values) else None


def drawn_constants(rows: pd.DataFrame, fit: FitResult) -> dict[str, float] | None:
    """The fitted constants a collapse can be drawn at; None where the rows fix too few.

    Where z is not identified, but slopes and height of the branch above the crossover are, all z fit alike: then the
    member of that valley with the source's z, its crossover below all rows.
    """
    if all(fit.parameters[name].identified for name in ("alpha", "z")):
        return constants_of(fit, published=False)
    known = {entry["combination"]: entry["estimate"] for entry in fit.identifiability["identified_combinations"]}
    beta = fit.parameters["beta"]
    slope, height = known.get("alpha - z*beta"), known.get("log A + beta*log u_star")
    if not beta.identified or beta.estimate is None or slope is None or height is None:
        return None
    u_star = float(np.min(numbers(rows, "D") / numbers(rows, RUN_ROLES["N"]) ** PUBLISHED_GAP.z)) / 10
    return {
        "A": float(np.exp(height - beta.estimate * np.log(u_star))),
        "alpha": slope + PUBLISHED_GAP.z * beta.estimate,
        "z": PUBLISHED_GAP.z,
        "beta": beta.estimate,
        "u_star": u_star,
    }


def collapse_figure(rows: pd.DataFrame, constants: dict[str, float], source: dict[str, float]) -> go.Figure:
    """G N^alpha against D/N^z at one set of constants, with its A f(u) and the source's drawn through."""
    n, d = numbers(rows, RUN_ROLES["N"]), numbers(rows, "D")
    u, lift = d / n ** constants["z"], n ** constants["alpha"]
    gap, se = numbers(rows, "G") * lift, numbers(rows, "G_se") * lift
    grid = np.geomspace(u.min() / 3, u.max() * 3, 300)
    # With N = 1 the law is A f(u).
    curves = [("A f(u), the source's constants", predict_gap(1.0, grid, **source), "dash", INK)]
    if constants != source:
        curves.append(("A f(u), fitted here", predict_gap(1.0, grid, **constants), "solid", ACCENT))
    scale = SignedLog.of(gap, *(curve for _, curve, _, _ in curves))
    figure = blank(460)
    for name, curve, dash, colour in curves:
        figure.add_scatter(
            x=grid, y=scale.place(curve), mode="lines", name=name, line={"dash": dash, "color": colour, "width": 1.8},
            hoverinfo="skip",
        )  # fmt: skip
    _points(figure, rows, u, scale.place(gap), scale.bars(gap, se))
    alpha, z = (number(constants[name]) for name in ("alpha", "z"))
    figure.update_xaxes(log_axis(f"u = D/N<sup>{z}</sup>, raw counts", grid))
    title = f"G·N<sup>{alpha}</sup>, nats per token × parameters<sup>{alpha}</sup>"
    figure.update_yaxes(scale.axis(title, gap, *(curve for _, curve, _, _ in curves)))
    figure.update_layout(margin={"t": 64})
    return figure


def gap_figure(rows: pd.DataFrame, fit: FitResult | None) -> go.Figure:
    """The gap against tokens, N as colour; the fitted law at a few N where it has values."""
    gap, se = numbers(rows, "G"), numbers(rows, "G_se")
    n, d = numbers(rows, RUN_ROLES["N"]), numbers(rows, "D")
    curves = []
    if fit is not None and constants_of(fit, published=False) is not None:
        grid = np.geomspace(d.min(), d.max(), 120)
        for size in np.unique(np.quantile(n, [0.0, 0.5, 1.0], method="nearest")):
            curve = numbers(predict(fit, pd.DataFrame({"N": np.full(120, size), "D": grid})), "prediction")
            curves.append((size, grid, curve))
    scale = SignedLog.of(gap, *(curve for _, _, curve in curves))
    figure = blank(500)
    for size, grid, curve in curves:
        figure.add_scatter(
            x=grid, y=scale.place(curve), mode="lines", hoverinfo="skip", showlegend=False,
            line={"color": size_colours(np.asarray([size]), n.min(), n.max())[0], "width": 1.5},
        )  # fmt: skip
    _points(figure, rows, d, scale.place(gap), scale.bars(gap, se))
    figure.update_xaxes(log_axis("D, tokens processed", d))
    figure.update_yaxes(scale.axis("G, nats per token", gap, *(curve for _, _, curve in curves)))
    figure.update_layout(margin={"t": 64})
    return figure


def standardized_residuals(rows: pd.DataFrame, fit: FitResult) -> Float[np.ndarray, "rows"] | None:
    """(G - law) over the standard deviation the fit gives the row: its own error and the law's scatter tau."""
    if constants_of(fit, published=False) is None or fit.scatter["tau"] is None:
        return None
    expected = numbers(predict(fit, pd.DataFrame({name: numbers(rows, name) for name in ("N", "D")})), "prediction")
    noise = np.nan_to_num(numbers(rows, "G_se")) if "G_se" in rows else np.zeros(len(rows))
    spread = np.hypot(noise, fit.scatter["tau"] * expected)
    return (numbers(rows, "G") - expected) / np.maximum(spread, 1e-300)


def residual_figures(rows: pd.DataFrame, fit: FitResult) -> list[go.Figure]:
    """The residuals against N, D and epochs; none where the law has no values."""
    residual = standardized_residuals(rows, fit)
    if residual is None:
        return []
    scale = SignedLog(1.0)
    figures = []
    for column, title in (
        (RUN_ROLES["N"], "N, parameters (non-embedding)"),
        ("D", "D, tokens processed"),
        ("epochs", "epochs D/U"),
    ):
        x = numbers(rows, column)
        figure = blank(320, showlegend=False)
        figure.add_hrect(
            y0=float(scale.place(np.asarray(-2.0))), y1=float(scale.place(np.asarray(2.0))), fillcolor="#efece5",
            line_width=0, layer="below",
        )  # fmt: skip
        _points(figure, rows, x, scale.place(residual), None)
        figure.update_xaxes(log_axis(title, x))
        figure.update_yaxes(residual_axis(scale, residual))
        figure.update_layout(coloraxis_showscale=False)
        figures.append(figure)
    return figures


def residual_axis(scale: SignedLog, residual: Float[np.ndarray, "rows"]) -> dict[str, Any]:
    """An axis of standard deviations: linear about zero, so that the bulk is seen, and wide enough for what is far."""
    marks = (-1000, -100, -30, -10, -4, -2, 0, 2, 4, 10, 30, 100, 1000)
    reach = max(float(np.max(np.abs(residual))), 3.0) * 1.2
    marks = [m for m in marks if abs(m) <= reach]
    ticks = {"tickvals": scale.place(np.asarray(marks, float)), "ticktext": [f"{m}".replace("-", "−") for m in marks]}
    limit = float(scale.place(np.asarray(reach)))
    title = "(G − law) / its s.d."
    return line_axis(title) | ticks | {"range": [-limit, limit], "zeroline": True, "zerolinecolor": FAINT}
