"""The figures of the simulated tables of each oracle: a headline, and figures with captions."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from harness.fit.known_truth import Truth
from harness.report.figure_axes import (
    ACCENT,
    FAINT,
    INK,
    SIZE_COLOURS,
    blank,
    line_axis,
    log_axis,
    numbers,
    short,
    size_colours,
)
from harness.theory import lottery, plrf, students
from sweeps.errors import InputError

# Columns that read better under another name.
_SHORT_NAMES = {"N_total": "N", "flops": "C"}
LOSS, TRAIN = "val_loss_final100", "train_loss_final100"
Drawing = tuple[go.Figure, str]


def _curves(
    table: pd.DataFrame, x: str, y: str, by: str, titles: tuple[str, str], *, mode: str = "lines",
    dotted: str | None = None,
) -> go.Figure:  # fmt: skip
    """Draw a line for each value of `by`, lighter for larger ones, on log axes, and the column `dotted` as dots."""
    figure = blank(440)
    sizes = np.unique(numbers(table, by))
    for size, colour in zip(sizes, size_colours(sizes, sizes.min(), sizes.max()), strict=True):
        label = f"{_SHORT_NAMES.get(by, by)} {short(size) if size < 1e15 else f'{size:.3g}'}"
        own = table.loc[numbers(table, by) == size].sort_values(x)
        hover = f"{label}<br>{_SHORT_NAMES.get(x, x)} %{{x:.4g}}<br>%{{y:.4g}}<extra></extra>"
        for column, dash in ((y, "solid"), (dotted, "dot")):
            if column is not None:
                figure.add_scatter(
                    x=numbers(own, x), y=numbers(own, column), mode=mode if column == y else "lines", name=label,
                    line={"color": colour, "width": 1.6, "dash": dash}, marker={"color": colour, "size": 6},
                    showlegend=column == y, hovertemplate=hover,
                )  # fmt: skip
    values = [numbers(table, column) for column in (y, dotted) if column is not None]
    return _axes(figure, titles, numbers(table, x), np.concatenate(values))


def _axes(figure: go.Figure, titles: tuple[str, str], x: np.ndarray, y: np.ndarray) -> go.Figure:
    figure.update_xaxes(log_axis(titles[0], x[np.isfinite(x)]))
    figure.update_yaxes(log_axis(titles[1], y[np.isfinite(y)]))
    return figure


def _power(figure: go.Figure, x: np.ndarray, at: tuple[float, float], exponent: float, name: str) -> None:
    """Add a dashed power law through a point."""
    ends = np.asarray([x.min(), x.max()])
    figure.add_scatter(
        x=ends, y=at[1] * (ends / at[0]) ** exponent, mode="lines", name=name, hoverinfo="skip",
        line={"color": INK, "width": 1.3, "dash": "dash"},
    )  # fmt: skip


def _jeon_van_roy(table: pd.DataFrame, truth: Truth) -> tuple[str, list[Drawing]]:
    curves, best = (table.loc[table["kind"] == kind] for kind in ("curve", "optimum"))
    left = _curves(curves, "n", LOSS, "flops", ("n, width", "bound on the excess log-loss, nats a sample"))
    marker = {"color": ACCENT, "size": 8}
    left.add_scatter(x=numbers(best, "n"), y=numbers(best, LOSS), mode="markers", name="best width", marker=marker)
    p, t = numbers(best, "N_total"), numbers(best, "T")
    right = blank(440)
    right.add_scatter(
        x=p, y=t, mode="lines+markers", name="compute-optimal", line={"color": ACCENT},
        customdata=numbers(best, "flops"),
        hovertemplate="p* %{x:.4g}<br>T* %{y:.4g}<br>C %{customdata:.3g}<extra></extra>",
    )  # fmt: skip
    _power(right, p, (float(p[-1]), float(t[-1])), 1.0, "slope 1")
    d, k = (truth.settings[name] for name in ("d", "K"))
    return f"The best split of compute between width and data tends to equal shares (d = {d}, K = {k:g})", [
        (
            left,
            "The bound along curves of equal compute C = d n T. Each has its best width; a wrong split of more compute"
            " can be worse than the right one of less.",
        ),
        (
            _axes(right, ("p* = d n*, parameters", "T*, samples"), p, t),
            "Parameters and samples at the optima, with a line of slope 1 through the last: the local slope falls"
            " towards 1 from above.",
        ),
    ]


def _students(table: pd.DataFrame, truth: Truth) -> tuple[str, list[Drawing]]:
    cells = students.cell_means(table)
    violated = cells["violated"].tolist().count(True)
    titles = ("T, samples, each read once", "excess log-loss, nats a sample")
    left = _curves(cells, "T", "loss", "n", titles, mode="lines+markers", dotted="bound")
    across = ("n, width", "excess log-loss averaged over the stream")
    right = _curves(cells, "n", "stream_loss", "T", across, mode="lines+markers")
    try:
        fitted = students.frontier_slope(table)
        slope = (
            f"Along the students' own compute-optimal frontier T* grows as p*^{fitted.slope:.2f}"
            f" (95 % interval {fitted.low:.2f} to {fitted.high:.2f})."
        )
    except InputError:
        slope = "Too few widths, samples or teachers for a frontier."
    where = "nowhere" if violated == 0 else f"in {violated} of {len(cells)} cells"
    return f"Trained students exceed the bound {where}", [
        (left, f"Excess log-loss of trained students, exact against their teachers, and the bound (dotted). {slope}"),
        (right, "The quantity the theorem is about: the excess at each sample before it was learned from, averaged."),
    ]  # fmt: skip


def _random_features(table: pd.DataFrame, truth: Truth) -> tuple[str, list[Drawing]]:
    titles = ("N, features", "test loss, mean square")
    left = _curves(table, "N_total", LOSS, "D", titles)
    if "simulated_test" in table:
        left.add_scatter(
            x=numbers(table, "N_total"), y=numbers(table, "simulated_test"), mode="markers", name="experiments",
            marker={"color": INK, "size": 4},
            error_y={"type": "data", "array": 2 * numbers(table, "simulated_test_se"), "thickness": 1},
        )  # fmt: skip
    right = _curves(table, "D", "gap_probe", "N_total", ("D, samples", "gap, test minus training loss"))
    return "Random features with ridge: test loss and gap by features and samples", [
        (left, "Test loss, a line for each number of samples; dots with bars of two standard errors are experiments."),
        (right, "The gap of the same students, a line for each number of features."),
    ]


def _gradient_flow(table: pd.DataFrame, truth: Truth) -> tuple[str, list[Drawing]]:
    reused, fresh = (table.loc[table["data"] == kind] for kind in ("reused", "fresh"))
    largest = numbers(table, "N_total").max()
    # On fresh samples the gap is zero, and P is only the number of samples it is measured with: the largest is drawn.
    fresh = fresh.loc[numbers(fresh, "P") == numbers(fresh, "P").max()]
    wide = reused.loc[numbers(reused, "N_total") == largest]
    titles = ("t, passes over the samples at rate 1", "loss (dotted: training)")
    left = _curves(wide, "t", LOSS, "P", titles, dotted=TRAIN)
    above = wide.loc[numbers(wide, "gap_probe") > 0]
    middle = _curves(above, "t", "gap_probe", "P", ("t", "gap, test minus training loss"))
    right = _curves(fresh, "t", LOSS, "N_total", ("t, on fresh samples", "loss"))
    return "Gradient flow on reused samples, and on fresh ones", [
        (left, f"Test and training losses of N = {short(largest)} by number of reused samples P."),
        (
            middle,
            "The gap of the same runs, less the luck of their samples with the twin on fresh ones, whose gap is 0.",
        ),
        (right, "The same flow on fresh samples: time is the bottleneck first, then the number of features."),
    ]


def phase_map(alpha: float, beta: float) -> go.Figure:
    """Draw the phases of one-pass SGD over both exponents with a point marked; white is where the risk is infinite."""
    across = np.linspace(0.02, max(1.2, 1.2 * alpha), 160)
    up = np.linspace(0.0, max(1.4, 1.2 * beta), 160)
    phases = [[plrf.phase(float(a), float(b)) for a in across] for b in up]
    names = sorted({phase.name for row in phases for phase in row if phase is not None})
    code = np.asarray([[np.nan if phase is None else names.index(phase.name) for phase in row] for row in phases])
    text = [
        ["" if p is None else f"{p.name}: d* ~ C^{p.size:.3g}, P* ~ C^-{p.loss:.3g}" for p in row] for row in phases
    ]
    figure = blank(440)
    figure.add_heatmap(
        x=across, y=up, z=code, text=text, showscale=False, opacity=0.55, hovertemplate="%{text}<extra></extra>",
        colorscale=SIZE_COLOURS,
    )  # fmt: skip
    for place, name in enumerate(names):
        rows, columns = np.nonzero(code == place)
        figure.add_annotation(x=across[columns].mean(), y=up[rows].mean(), text=name, showarrow=False)
    figure.add_scatter(x=[alpha], y=[beta], mode="markers", name="here", marker={"color": ACCENT, "size": 10})
    figure.update_xaxes(line_axis("alpha, of features x_j ~ j<sup>-alpha</sup>"))
    figure.update_yaxes(line_axis("beta, of the target, j<sup>-beta</sup>"))
    return figure


def _plrf(table: pd.DataFrame, truth: Truth) -> tuple[str, list[Drawing]]:
    figure = _curves(table, "flops", LOSS, "N_total", ("C = d r B, FLOPs", "expected risk"))
    best = table.loc[table["frontier"].astype(bool)].sort_values("flops")
    x, y = numbers(best, "flops"), numbers(best, LOSS)
    figure.add_scatter(x=x, y=y, mode="markers", name="frontier", marker={"color": ACCENT, "size": 6})
    exponent = truth.parameters["alpha"]
    _power(figure, x, (float(x[-1]), float(y[-1])), -exponent, f"C^-{exponent:.3g}")
    alpha, beta = (float(truth.settings[name]) for name in ("alpha", "beta"))
    return f"One-pass SGD on power-law data: {truth.regime.split(';')[0]}", [
        (
            figure,
            "Expected risk of every size d against compute; the frontier, and the power law of its phase (dashed).",
        ),
        (phase_map(alpha, beta), "The phases; point at one for its compute-optimal exponents there."),
    ]


def _lottery(table: pd.DataFrame, truth: Truth) -> tuple[str, list[Drawing]]:
    single = table.loc[table["members"] == 1]
    figure = blank(440)
    figure.add_scatter(
        x=numbers(single, "width"), y=numbers(single, LOSS), mode="markers", name="networks",
        marker={"color": FAINT, "size": 4, "opacity": 0.5},
    )  # fmt: skip
    means = single.groupby("width")[LOSS].mean()
    x, y = np.asarray(means.index, float), means.to_numpy(float)
    figure.add_scatter(x=x, y=y, mode="lines+markers", name="mean", line={"color": ACCENT})
    fitted = lottery.loss_slope(single)
    _power(figure, x, (float(x[0]), float(y[0])), -truth.parameters["alpha"], f"width^-{truth.parameters['alpha']:g}")
    return f"The mean error falls as width^{fitted.slope:.2f} (95 % interval {fitted.low:.2f} to {fitted.high:.2f})", [
        (
            _axes(figure, ("width", "mean square error of x²"), x, numbers(single, LOSS)),
            f"Networks of every width and seed, their mean, and a power law. {truth.regime}",
        )
    ]


FIGURES: dict[str, Callable[[pd.DataFrame, Truth], tuple[str, list[Drawing]]]] = {
    "jeon_van_roy": _jeon_van_roy,
    "students": _students,
    "random_features": _random_features,
    "gradient_flow": _gradient_flow,
    "plrf": _plrf,
    "lottery": _lottery,
}
