"""What a forced f does to the exponents of a gap whose true f is another; a line of JSON for each design and law.

python scripts/wrong_f.py [--replicates 40] [--scatter 0.05] [--figure FILE.html]

Random features with noise (b = 1.5, sigma^2 = 1) and a fixed ridge: G = N^-alpha f(D/N^z) with alpha = 0.5, z = 1.5,
slopes from 1/3 to 1. Design `small`: N of 100 to 3,000, D of 10^3 to 10^7, where that is true to some percent only, as
of any real sweep; design `large`: N of 10^6 to 10^8 and ridges of a thousand samples, where it is true to 10^-4; design
`aligned`: the same sizes, each at the same D/N^1.5.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from harness.fit.fitting import fit
from harness.fit.forecast import predict
from harness.fit.known_truth import interval_holds
from harness.report.figure_axes import ACCENT, FAINT, INK, numbers, size_colours
from harness.theory.random_features import losses
from harness.theory.spectrum import power_law_spectrum

TRUTH = {"alpha": 0.5, "z": 1.5, "beta": 1.0}
# Flat and then a power with a kink, the same rounded, and two powers rounded, which is right to 0.3 %.
LAWS = ("gap", "gap_smooth", "gap_broken")


def design(name: str) -> pd.DataFrame:
    """N, D and the exact gap."""
    if name == "small":
        sizes, samples, modes = np.geomspace(100, 3000, 6), np.geomspace(1e3, 1e7, 12), 1e6
    else:
        sizes, modes = np.geomspace(1e6, 1e8, 5), 1e15
        samples = 266.0 * np.geomspace(0.1, 10.0, 12) * (1e7**1.5 if name == "large" else 1.0)
    n, d = (values.ravel() for values in np.meshgrid(sizes, samples, indexing="ij"))
    d = d * n**1.5 if name == "aligned" else d
    ridge, a = (1.0, 1.8) if name == "small" else (1e3, 2.0)
    return pd.DataFrame({"N": n, "D": d, "G": losses(power_law_spectrum(modes, 1.5, a), n, d, ridge, noise=1.0).gap})


def measured(exact: pd.DataFrame, seed: int, scatter: float) -> pd.DataFrame:
    noise = np.exp(scatter * np.random.default_rng(seed).standard_normal(len(exact)))
    return exact.assign(G=exact["G"] * noise)


def study(name: str, law: str, replicates: int, scatter: float) -> dict:
    """Estimates without noise, and their means, spreads, coverage and scatter with it."""
    exact = design(name)
    clean = fit(law, exact, bootstrap=0, sensitivity=False)
    found = [fit(law, measured(exact, seed, scatter), sensitivity=False) for seed in range(replicates)]
    row: dict = {"design": name, "law": law, "rows": len(exact)}
    row["scatter_without_noise"] = clean.scatter.log_residual_sd
    row["scatter"] = float(np.mean([each.scatter.log_residual_sd for each in found]))
    for constant, truth in TRUTH.items():
        known = [each.parameters[constant] for each in found if each.parameters[constant].identified]
        values = np.asarray([value.estimate for value in known], float)
        held = [interval_holds(value.ci_low, value.ci_high, truth) is not False for value in known]
        row[constant] = {
            "truth": truth, "without_noise": clean.parameters[constant].estimate, "mean": float(values.mean()),
            "sd": float(values.std(ddof=1)), "coverage": float(np.mean(held)), "identified": len(known),
        }  # fmt: skip
    return row


def figure(rows: list[dict], scatter: float) -> go.Figure:
    """The collapse under the wrong f, and the estimates of every f."""
    shown = measured(design("small"), 0, scatter)
    wrong = fit("gap_smooth", shown, bootstrap=0, sensitivity=False)
    alpha, z = (float(wrong.parameters[name].estimate or 0.0) for name in ("alpha", "z"))
    drawn = make_subplots(
        1, 4, column_widths=[0.46, 0.18, 0.18, 0.18], horizontal_spacing=0.055,
        subplot_titles=(f"a good collapse at a wrong f: alpha {alpha:.3f}, z {z:.3f}", "alpha", "z", "beta"),
    )  # fmt: skip
    n, d = numbers(shown, "N"), numbers(shown, "D")
    sizes = np.unique(n)
    for size, colour in zip(sizes, size_colours(sizes, sizes.min(), sizes.max()), strict=True):
        own = n == size
        drawn.add_scatter(
            x=d[own] / size**z, y=numbers(shown, "G")[own] * size**alpha, mode="markers", name=f"N {size:.0f}",
            marker={"color": colour, "size": 7}, row=1, col=1,
        )  # fmt: skip
    grid = np.geomspace((d / n**z).min(), (d / n**z).max(), 200)
    size = float(np.median(n))
    curve = numbers(predict(wrong, pd.DataFrame({"N": size, "D": grid * size**z})), "prediction") * size**alpha
    drawn.add_scatter(
        x=grid, y=curve, mode="lines", name="flat, rounded, power: the fit", line={"color": INK}, row=1, col=1
    )
    for column, (name, truth) in enumerate(TRUTH.items(), start=2):
        for place, law in enumerate(LAWS):
            for name_of, shift, filled in (("small", -0.15, False), ("large", 0.15, True)):
                row = next(row for row in rows if row["design"] == name_of and row["law"] == law)
                colour = INK if law == "gap_broken" else ACCENT
                drawn.add_scatter(
                    x=[place + shift], y=[row[name]["mean"]], error_y={"type": "data", "array": [2 * row[name]["sd"]]},
                    mode="markers", showlegend=False, row=1, col=column,
                    marker={"size": 9, "color": colour, "symbol": "circle" if filled else "circle-open"},
                )  # fmt: skip
        panel: Any = {"row": 1, "col": column}  # plotly types both as texts
        drawn.add_hline(y=truth, line={"color": FAINT, "dash": "dash", "width": 1}, **panel)
        drawn.update_xaxes(
            tickvals=[0, 1, 2], ticktext=["kink", "rounded", "two<br>powers"], range=[-0.5, 2.5], row=1, col=column
        )
    drawn.update_xaxes(type="log", title="D/N<sup>z</sup>", exponentformat="power", dtick=1, row=1, col=1)
    drawn.update_yaxes(type="log", title="G N<sup>alpha</sup>", exponentformat="power", dtick=1, row=1, col=1)
    drawn.update_layout(
        template="simple_white", width=1180, height=430, margin={"l": 60, "r": 10, "t": 40, "b": 50},
        legend={"x": 0.01, "y": 0.02, "yanchor": "bottom"}, font={"family": "system-ui, sans-serif", "size": 12},
    )  # fmt: skip
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicates", type=int, default=40)
    parser.add_argument("--scatter", type=float, default=0.05)
    parser.add_argument("--figure", type=Path)
    given = parser.parse_args()
    rows = []
    for name in ("small", "large", "aligned"):
        for law in LAWS:
            rows.append(study(name, law, given.replicates, given.scatter))
            print(json.dumps(rows[-1]), flush=True)
    if given.figure:
        figure(rows, given.scatter).write_html(given.figure, include_plotlyjs=True, config={"displayModeBar": False})


if __name__ == "__main__":
    main()
