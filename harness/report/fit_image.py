"""`isogap fit --figure`: one figure of a fit as a page that answers to the mouse, or as an image for a paper.

Images are drawn by matplotlib, because plotly needs a browser to write one.
"""

import io
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.files import write_files, write_text
from harness.fit.laws.registry import get_law
from harness.fit.results.result import FitResult
from harness.report.figure_axes import ACCENT, FAINT, SIZE_COLOURS, short, value_axis
from harness.report.fit_figures import BAND
from harness.report.fit_rows import FittedRows, LawCurve, fitted_rows, law_curves
from harness.report.table_page import fit_page
from sweeps.errors import InputError

ENDINGS = (".html", ".png", ".svg")
SIZE, DOTS_PER_INCH = (7.0, 6.4), 200  # inches; 1400 x 1280 dots


def check_figure(path: Path) -> None:
    """Check, before the work, that a figure can be written.

    Raises:
        InputError: an ending that is none of `ENDINGS`, or a folder.
    """
    if path.suffix.lower() not in ENDINGS or path.is_dir():
        raise InputError("--figure", "value", str(path), f"a file whose name ends in {', '.join(ENDINGS)}")


def write_fit_figure(path: Path, result: FitResult, frame: pd.DataFrame) -> None:
    """Draw the rows with the fitted law, and their residuals, as the file's ending says.

    Args:
        frame: the table in roles that was fitted.

    Raises:
        InputError: a fit without finite predictions.
    """
    rows = fitted_rows(result, frame)
    if rows is None:
        raise InputError("--figure", "value", str(path), "a fit that predicts a number in every row")
    curves = law_curves(result, rows)
    ending = path.suffix.lower()
    if ending == ".html":
        write_text(path, fit_page(result, get_law(result.law), rows, curves))
    else:
        title = f"{result.formula}, {result.rows} rows, {result.status.value.replace('_', ' ')}"
        write_files({path: fit_image(rows.drawn(), curves, title, ending.removeprefix("."))})


def fit_image(rows: FittedRows, curves: Sequence[LawCurve], title: str, kind: str) -> bytes:
    """Draw the rows with the law, and below them the residuals in standard deviations, as an image.

    Args:
        kind: png or svg.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells a new user of the fonts that it looks for
    import matplotlib
    from matplotlib.figure import Figure

    settings: dict[Any, Any] = {"font.size": 9, "axes.grid": True, "grid.color": "#e6e4df", "svg.hashsalt": "isogap"}
    content = io.BytesIO()
    # A name of a column in a script that the font lacks is worth a box in the figure, not a warning to the user.
    with matplotlib.rc_context(settings), warnings.catch_warnings(action="ignore"):
        figure = Figure(SIZE, layout="constrained")
        above, below = figure.subplots(2, 1, height_ratios=(2, 1))
        marks = _draw_law(above, rows, curves)
        above.set_title(_plain(title), fontsize=10, loc="left")
        across = next(iter(rows.columns), None) if curves else None
        x = rows.predicted if across is None else rows.columns[across]
        below.axhspan(-2, 2, color=BAND, zorder=0)
        below.axhline(0, color=FAINT, linewidth=0.8)
        _draw_rows(below, rows, x, rows.residual)
        _set_axis(below, "x", f"{rows.titles[rows.response]}, by the law" if across is None else rows.titles[across], x)
        below.set_ylabel("residual, s.d.")
        if marks is not None and rows.coloured_by is not None:
            bar = figure.colorbar(marks, ax=[above, below], aspect=40, pad=0.02)
            bar.set_label(_plain(rows.titles[rows.coloured_by]))
            ticks = np.linspace(*bar.mappable.get_clim(), 4)
            bar.set_ticks(ticks.tolist(), labels=[short(10**tick) for tick in ticks])
        figure.savefig(content, format=kind, dpi=DOTS_PER_INCH, metadata={"Date": None} if kind == "svg" else None)
    return content.getvalue()


def _draw_law(axes: Any, rows: FittedRows, curves: Sequence[LawCurve]) -> Any:
    """Draw the rows and the law, and return the marks, whose colours are a scale."""
    response = rows.titles[rows.response]
    if not curves:
        ends = [rows.predicted.min(), rows.predicted.max()]
        axes.plot(ends, ends, color=FAINT, linewidth=1)
        _set_axis(axes, "x", f"{response}, by the law", rows.predicted)
        _set_axis(axes, "y", response, rows.observed)
        return _draw_rows(axes, rows, rows.predicted, rows.observed)
    across, x = next(iter(rows.columns.items()))
    for curve in curves:
        colour = (
            ACCENT if curve.at is None or rows.coloured_by is None else _colours()(_scale(rows)(np.log10(curve.at)))
        )
        if np.isfinite(curve.low).all() and np.isfinite(curve.high).all():
            axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.18, linewidth=0)
        axes.plot(curve.x, curve.y, color=colour, linewidth=1.3)
    _set_axis(axes, "x", rows.titles[across], x)
    _set_axis(axes, "y", response, rows.observed, *(curve.y for curve in curves))
    return _draw_rows(axes, rows, x, rows.observed)


def _draw_rows(axes: Any, rows: FittedRows, x: np.ndarray, y: np.ndarray) -> Any:
    """Draw a mark for each row, hollow if it was held out."""
    role, drawn = rows.coloured_by, None
    for mask, hollow in ((~rows.held_out, False), (rows.held_out, True)):
        if not mask.any():
            continue
        colours = {"color": SIZE_COLOURS[3]}
        if role is not None:
            values = _colours()(_scale(rows)(np.log10(rows.columns[role][mask])))
            colours = {"edgecolors": values, "facecolors": "none" if hollow else values}
        elif hollow:
            colours = {"edgecolors": SIZE_COLOURS[3], "facecolors": "none"}
        axes.scatter(x[mask], y[mask], s=14, linewidths=0.9, zorder=3, **colours)
    if role is not None:
        from matplotlib.cm import ScalarMappable

        drawn = ScalarMappable(_scale(rows), _colours())
    return drawn


def _colours() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("sizes", SIZE_COLOURS)


def _scale(rows: FittedRows) -> Any:
    from matplotlib.colors import Normalize

    assert rows.coloured_by is not None
    logs = np.log10(rows.columns[rows.coloured_by])
    return Normalize(logs.min(), max(logs.max(), logs.min() + 1e-9))


def _set_axis(axes: Any, which: str, title: str, *values: np.ndarray) -> None:
    """Give an axis its title, and the range, scale and ticks that it has on a page."""
    layout = value_axis(title, *values)
    getattr(axes, f"set_{which}label")(_plain(title))
    if layout.get("type") != "log":
        return
    getattr(axes, f"set_{which}scale")("log")
    getattr(axes, f"set_{which}lim")(*(10.0**end for end in layout["range"]))
    if "ticktext" in layout:
        low, high = layout["range"]
        ticks = zip(layout["tickvals"], layout["ticktext"], strict=True)
        inside = [(value, text) for value, text in ticks if low <= np.log10(value) <= high]
        getattr(axes, f"set_{which}ticks")([value for value, _ in inside], labels=[text for _, text in inside])
        getattr(axes, f"set_{which}ticks")([], minor=True)


def _plain(text: str) -> str:
    """A text in which matplotlib reads no formula between dollar signs."""
    return text.replace("$", r"\$")
