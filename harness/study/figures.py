"""The figures of the gap law's study, as images for its page and for the repository. matplotlib draws them.

The style (`image_of`) and the figure of the claims are those of every study.
"""

import io
import logging
import textwrap
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from harness.fit.gap_law.claims import Blocks
from harness.fit.gap_law.constants import predict_gap, reduced_data
from harness.fit.gap_law.rule import TESTED_LAW
from harness.fit.gap_law.rulings import DecidingNumber, JudgedClaim, Ruling
from harness.forecasts.score import ForecastScores
from harness.study.forecasts import FORECAST_BLOCKS, READ_ONCE
from sweeps.published_gap import PUBLISHED_GAP

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 160
INK, FAINT, GRID, ACCENT = "#222222", "#6b6b6b", "#e6e4df", "#b3541e"
RULING_COLOURS = {Ruling.SUPPORTED: "#2b6f77", Ruling.NOT_SUPPORTED: ACCENT, Ruling.NOT_RESOLVED: "#8a8a8a"}
MARKS = ("o", "s", "D", "^", "v", "P", "X", "h")
# The laws of each response whose forecasts are shown beside those of the law under test, and the largest error, in %.
SHOWN_LAWS = 4
SHOWN_PERCENT = 1000.0
# The figure of the claims: the colour of what is claimed, the height of a number and of a scale in inches, and the
# characters of a line of a label.
CLAIMED = "#e9e6df"
LINE_HEIGHT, SCALE_HEIGHT, LABEL = 0.26, 0.24, 62


def draw_figures(
    blocks: Blocks, claims: tuple[JudgedClaim, ...], kind: str, forecasts: Mapping[str, ForecastScores]
) -> dict[str, bytes]:
    """Draw the figures for which there are cells: name -> image.

    Args:
        kind: png or svg.
        forecasts: the scores of each file of forecasts, by the name of its figure.
    """
    drawn: dict[str, Callable[[], Figure]] = {"claims": lambda: claims_figure(claims)}
    read_once = [blocks[name].assign(forecast=name in FORECAST_BLOCKS) for name in READ_ONCE if name in blocks]
    if read_once:
        drawn["gap"] = lambda: once_figure(pd.concat(read_once, ignore_index=True))
    if "epochs" in blocks:
        drawn["epochs"] = lambda: epochs_figure(blocks["epochs"])
    groups = {name: by for name, by in GROUPED.items() if name in blocks}
    if groups:
        drawn["groups"] = lambda: groups_figure(blocks, groups)
    for name, scores in forecasts.items():
        if scores.forecasts:
            drawn[name] = partial(forecasts_figure, scores)
    return {name: image_of(figure, kind) for name, figure in drawn.items()}


# Block -> (the column of its groups, what they are called).
GROUPED: Mapping[str, tuple[str, str]] = {
    "architectures": ("architecture", "architecture, equal total N"),
    "tokenizers": ("tokenizer", "tokenizer, bits per byte"),
    "domains": ("domain", "text"),
    "temperature": ("B", "tokens of a batch"),
}


def image_of(draw: Callable[[], "Figure"], kind: str) -> bytes:
    """Draw a figure in the style of the studies: the image as png or svg."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells a new user of the fonts that it looks for
    import matplotlib

    settings: dict[Any, Any] = {
        "font.size": 9, "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.6, "axes.edgecolor": FAINT,
        "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "isogap", "axes.axisbelow": True,
    }  # fmt: skip
    content = io.BytesIO()
    with matplotlib.rc_context(settings):
        figure = draw()
        figure.savefig(content, format=kind, dpi=DOTS_PER_INCH, metadata={"Date": None} if kind == "svg" else None)
    return content.getvalue()


def blank_figure(width: float, height: float, columns: int = 1, rows: int = 1) -> tuple["Figure", Any]:
    """A figure of this size in inches, and its axes [rows, columns]."""
    from matplotlib.figure import Figure

    figure = Figure((width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _sizes(rows: pd.DataFrame) -> list[tuple[float, pd.DataFrame, Any]]:
    """(N, its cells in the order of D, a colour) of every size; sizes within 12 % are one."""
    from matplotlib import colormaps

    rounded = np.round(np.log10(rows["N"].to_numpy(float)) * 10) / 10
    values = np.unique(rounded)
    colours = colormaps["viridis"](np.linspace(0.0, 0.85, len(values)))
    of_sizes = [rows.loc[rounded == value].sort_values("D") for value in values]
    return [(float(own["N"].mean()), own, c) for own, c in zip(of_sizes, colours, strict=True)]


def _bars(rows: pd.DataFrame) -> np.ndarray:
    """95 % error bars that end above zero on a logarithmic axis."""
    gap, half = rows["G"].to_numpy(float), 1.96 * rows["G_se"].to_numpy(float)
    return np.stack([np.minimum(half, 0.95 * np.abs(gap)), half])


def once_figure(rows: pd.DataFrame) -> "Figure":
    """Draw the gap of text read once against D, with the published law; and its ratio to the law against u.

    Args:
        rows: cells with N, D, G, G_se, and `forecast`, true for those that were forecast: their marks are open.
    """
    law = predict_gap(rows["N"], rows["D"])
    rows = rows.assign(law=law, ratio=rows["G"] / law, u=reduced_data(rows["N"], rows["D"]))
    figure, ((left, right),) = blank_figure(9.0, 3.8, columns=2)
    for size, own, colour in _sizes(rows):
        label = f"N = {size:,.0f}"
        law, bars = own["law"].to_numpy(float), _bars(own)
        style = {"color": colour, "marker": "o", "markersize": 4, "lw": 1}
        for axes, x, y, error in ((left, own["D"], own["G"], bars), (right, own["u"], own["ratio"], bars / law)):
            axes.errorbar(x, y, error, label=label, **style)
            axes.plot(x[own["forecast"]], y[own["forecast"]], **style | {"lw": 0, "mfc": "white", "zorder": 3})
        kink = size**PUBLISHED_GAP.z
        if own["D"].min() < kink:
            left.plot([own["D"].min(), kink], predict_gap(size, np.ones(2)), color=colour, lw=1, ls=(0, (4, 3)))
    # Beyond its kink the law knows no N.
    falling = np.array([max(rows["D"].min(), rows["N"].min() ** PUBLISHED_GAP.z), rows["D"].max()], float)
    left.plot(falling, predict_gap(rows["N"].min(), falling), color=INK, lw=1, ls=(0, (4, 3)))
    middle = np.sqrt(falling.prod())
    left.annotate(
        "the law, all N", (middle, predict_gap(rows["N"].min(), middle)), (4, 4), textcoords="offset points", fontsize=7
    )
    left.set(xscale="log", yscale="log", xlabel="D, tokens (each read once)", ylabel="gap, nats per token")
    left.set_title("measured (open: forecast before it was run), and the law (dashed)", loc="left", fontsize=9)
    named = (found[::-1] for found in left.get_legend_handles_labels())
    figure.legend(*named, fontsize=7, frameon=False, ncols=5, loc="outside lower left")
    right.axhline(1, color=INK, lw=1, ls=(0, (4, 3)))
    right.axvline(1, color=FAINT, lw=0.8)
    right.set(xscale="log", yscale="log", xlabel="u = D/N$^{0.74}$", ylabel="gap over the law's")
    right.set_title("if the law held, all marks would lie on the dashed line", loc="left", fontsize=9)
    for axes, least in ((left, rows["G"].to_numpy().min()), (right, rows["ratio"].to_numpy().min())):
        _plain_ticks(axes)
        if least > 0:  # error bars that reach zero would take half of the figure
            axes.set_ylim(bottom=0.6 * least)
    return figure


def _plain_ticks(axes: Any) -> None:
    """Mark 1, 2 and 5 of every decade of a logarithmic vertical axis with plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def epochs_figure(rows: pd.DataFrame) -> "Figure":
    """Draw the gap against epochs: at a fixed D, and at a fixed number of unique tokens."""
    figure, ((left, right),) = blank_figure(9.0, 3.4, columns=2)
    for axes, role, title in ((left, "D", "at fixed D"), (right, "U", "at fixed U (D grows with epochs)")):
        rounded = np.round(np.log2(rows[role].to_numpy(float)))
        value = pd.Series(rounded).mode().iloc[0]
        chosen = rows.loc[rounded == value]
        for size, own, colour in _sizes(chosen):
            own = own.sort_values("epochs")
            label = f"N = {size:,.0f}"
            axes.errorbar(own["epochs"], own["G"], _bars(own), color=colour, marker="o", ms=4, lw=1, label=label)
            law = predict_gap(own["N"], own["D"])
            axes.plot(own["epochs"], law, color=colour, lw=1, ls=(0, (4, 3)), alpha=0.8)
        axes.set(xscale="log", yscale="log", xlabel="epochs D/U", ylabel="gap, nats per token")
        axes.set_title(f"{title}: {role} = {chosen[role].median():,.0f}; the law dashed", loc="left", fontsize=9)
        _plain_ticks(axes)
    figure.legend(*left.get_legend_handles_labels(), fontsize=7, frameon=False, ncols=5, loc="outside lower left")
    return figure


def groups_figure(blocks: Blocks, groups: Mapping[str, tuple[str, str]]) -> "Figure":
    """Draw the gap of every group over the mean of all groups at the same N and D.

    The points (N, D) stand side by side in the order of N and then D; marks of the larger N are open.
    """
    from matplotlib import colormaps

    figure, (panels,) = blank_figure(3.3 * len(groups), 4.2, columns=len(groups))
    for axes, (block, (by, title)) in zip(panels, groups.items(), strict=True):
        rows = blocks[block].sort_values([by, "N", "D"])
        point = rows.groupby(by).cumcount()
        logs = pd.Series(np.log(rows["G"].clip(lower=1e-9)), rows.index)
        middle = np.exp(logs.groupby(point).transform("mean"))
        names = sorted(rows[by].unique())
        colours = colormaps["tab10"](np.arange(len(names)) % 10)
        for place, (name, colour) in enumerate(zip(names, colours, strict=True)):
            own = rows.loc[rows[by] == name]
            ratio, bars = own["G"] / middle[own.index], _bars(own) / np.asarray(middle[own.index])
            x = point[own.index] + 0.7 * (place / max(len(names) - 1, 1) - 0.5)
            style = {"color": colour, "marker": MARKS[place % len(MARKS)], "ms": 4, "lw": 0}
            axes.errorbar(x, ratio, bars, elinewidth=1, label=str(name), **style)
            larger = np.asarray(own["N"] > 2 * rows["N"].min())
            axes.plot(x[larger], ratio[larger], **style | {"mfc": "white", "zorder": 3})
        axes.axhline(1, color=FAINT, lw=0.8)
        at = rows.loc[point.drop_duplicates().index]
        labels = [f"{_short(n)}, {_short(d)}" for n, d in zip(at["N"], at["D"], strict=True)]
        axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right", fontsize=7)
        axes.set(yscale="log", xlabel="N, D")
        _plain_ticks(axes)
        axes.set_title(title, loc="left", fontsize=9)
        axes.legend(fontsize=6, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.32), ncols=2)
    panels[0].set_ylabel("gap over the mean of the groups")
    return figure


def _short(count: float) -> str:
    """A count in two digits: 9.7k, 310k, 1.3M."""
    rounded = float(f"{count:.2g}")
    power = next((power for power in (3, 2, 1) if rounded >= 1000**power), 0)
    return f"{rounded / 1000**power:g}{('', 'k', 'M', 'G')[power]}"


def forecasts_figure(scores: ForecastScores) -> "Figure":
    """Draw how far forecasts and their 95 % intervals are from what was measured, in percent; responses apart.

    Shown are the `SHOWN_LAWS` best laws of each response by their rank, and the law under test in all its forms. The
    scale is linear up to about the error of the best law and logarithmic beyond it, since some laws are a hundred times
    farther off than others; what is beyond `SHOWN_PERCENT` is cut off.
    """
    from matplotlib import colormaps

    responses = list(dict.fromkeys(law.response for law in scores.laws if law.scored))
    figure, (panels,) = blank_figure(4.5 * len(responses), 4.4, columns=len(responses))
    for axes, response in zip(panels, responses, strict=True):
        # A distance from a gap that was not above zero cannot be a share of it.
        rows = [row for row in scores.forecasts if row.response == response and row.measured > 0]
        ranked = [law.law for law in scores.laws if law.response == response]
        laws = [law for place, law in enumerate(ranked) if place < SHOWN_LAWS or law.split(" ")[0] == TESTED_LAW]
        points = sorted({row.rows: row for row in rows}.values(), key=lambda row: (row.point["N"], row.point["D"]))
        places = {row.rows: place for place, row in enumerate(points)}
        for number, law in enumerate(laws):
            own = [row for row in rows if row.law == law]
            percent = np.asarray([
                [100 * (end / row.measured - 1) for end in (
                    row.prediction if row.low is None else row.low,
                    row.prediction,
                    row.prediction if row.high is None else row.high,
                )] for row in own
            ]).reshape(-1, 3)  # fmt: skip
            x = [places[row.rows] + 0.8 * (number / max(len(laws) - 1, 1) - 0.5) for row in own]
            axes.errorbar(
                x, percent[:, 1], np.abs(percent[:, [0, 2]] - percent[:, [1]]).T, color=colormaps["tab10"](number % 10),
                marker=MARKS[number % len(MARKS)], ms=3, lw=0, elinewidth=1, label=law,
            )  # fmt: skip
        axes.axhline(0, color=INK, lw=1, ls=(0, (4, 3)))
        errors = [law.median_error for law in scores.laws if law.response == response and law.median_error]
        axes.set_yscale("symlog", linthresh=10 ** np.ceil(np.log10(100 * min(errors, default=0.01))))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_ylim(max(axes.get_ylim()[0], -SHOWN_PERCENT), min(axes.get_ylim()[1], SHOWN_PERCENT))
        labels = [f"{_short(float(row.point['N']))}, {_short(float(row.point['D']))}" for row in points]
        axes.set_xticks(range(len(points)), labels, rotation=45, ha="right", fontsize=7)
        axes.set(xlabel="N, D of the run", ylabel="forecast less measured, %")
        axes.set_title(
            {"G": "the gap", "L": "the loss on held-out text"}.get(response, response), loc="left", fontsize=9
        )
        axes.legend(fontsize=6, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.3), ncols=2)
    return figure


def claims_figure(claims: tuple[JudgedClaim, ...]) -> "Figure":
    """Draw every number that decides a claim, with its interval and the range that is claimed.

    Numbers of which the same range is claimed are on one scale, if all can be seen on it; the others have their own.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    panels: dict[Any, list[tuple[str, DecidingNumber]]] = {}
    for claim in claims:
        for each in claim.evidence:
            if each.estimate is not None:
                panels.setdefault(_scale(claim, each), []).append((f"{claim.id}  {each.name}", each))
    lines = [len(told) for told in panels.values()]
    figure = Figure((9.0, 0.8 + LINE_HEIGHT * sum(lines) + SCALE_HEIGHT * len(lines)), layout="constrained")
    figure.suptitle("The numbers that decide, with their 95 % intervals", x=0.01, ha="left", fontsize=9)
    words = dict.fromkeys(each.ruling for told in panels.values() for _, each in told)
    keys: list[Any] = [
        Line2D([], [], color=RULING_COLOURS[word], marker="o", ms=5, lw=2, label=word.words) for word in words
    ]
    keys.append(Patch(color=CLAIMED, label="what the claim allows"))
    figure.legend(handles=keys, fontsize=7, frameon=False, loc="outside lower left", ncols=len(keys))
    if panels:
        axes = figure.subplots(len(lines), 1, squeeze=False, gridspec_kw={"height_ratios": lines})
        for (axis,), told in zip(axes, panels.values(), strict=True):
            _draw_numbers(axis, told)
    return figure


def _scale(claim: JudgedClaim, number: DecidingNumber) -> tuple[Any, ...]:
    """What numbers on one scale share: the claimed range, and how often it fits into what is shown, to a decade.

    A range with an open end has no width, so that only numbers of one claim share it.
    """
    least, most = number.claimed
    if not np.isfinite([least, most]).all():
        return claim.id, least, most
    ends = np.asarray([*number.interval, least, most, number.estimate], float)
    shown = np.ptp(ends[np.isfinite(ends)])
    return least, most, int(np.log10(shown / (most - least)))


def _draw_numbers(axis: Any, told: list[tuple[str, DecidingNumber]]) -> None:
    """Draw numbers of which the same range is claimed below each other, each with its label."""
    claimed = told[0][1].claimed
    ends = np.asarray([*claimed, *(end for _, each in told for end in (*each.interval, each.estimate))], float)
    finite = ends[np.isfinite(ends)]
    room = 0.06 * (np.ptp(finite) or abs(finite[0]) or 1.0)
    left, right = finite.min() - room, finite.max() + room
    axis.axvspan(*np.clip(claimed, left, right), color=CLAIMED, zorder=0)
    for place, (_, each) in enumerate(told):
        colour = RULING_COLOURS[each.ruling]
        axis.plot(np.clip(each.interval, left, right), [place, place], color=colour, lw=2, solid_capstyle="butt")
        axis.plot(each.estimate, place, "o", color=colour, ms=5)
    axis.set(xlim=(left, right), ylim=(len(told) - 0.5, -0.5))
    axis.set_yticks(range(len(told)), [textwrap.fill(label, LABEL) for label, _ in told], fontsize=7)
    axis.tick_params("y", length=0)
    axis.tick_params("x", labelsize=6, length=2, pad=1)
    axis.locator_params("x", nbins=6)
    axis.spines["left"].set_visible(False)
    axis.grid(visible=False)
