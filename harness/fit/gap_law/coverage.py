"""The rows under test as arrays, and which part of the law's range they cover."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.fit.gap_law.published import predict_gap, reduced_data


@dataclass(frozen=True)
class GapRows:
    """The measured rows that a verdict is about, read from the table once.

    Attributes:
        n, d: parameters and tokens processed, raw counts.
        gap, se: the gap and its standard error, nats per token; an error that is not known is nan.
        shared_text: whether runs are of a sweep, where runs on one text share its held-out documents.
    """

    n: Float[np.ndarray, "rows"]
    d: Float[np.ndarray, "rows"]
    gap: Float[np.ndarray, "rows"]
    se: Float[np.ndarray, "rows"]
    shared_text: bool


@dataclass(frozen=True)
class Coverage:
    """How many rows lie on either side of the crossover u = 1 at one exponent z of u = D/N^z, in raw counts."""

    z: float
    u_below_03: int
    u_below_1: int
    u_above_1: int
    u_above_3: int
    u_min: float
    u_max: float

    def to_dict(self) -> dict[str, float | int]:
        """The part `coverage` of a verdict's JSON."""
        return {"u_below_0.3" if name == "u_below_03" else name: value for name, value in vars(self).items()}


@dataclass(frozen=True)
class Magnitude:
    """Median gaps in nats per token: of the rows, and as the published constants predict them in two units of N and D.

    `raw` takes N and D as counts; `scaled` takes N in millions and D in billions. The source does not say which.
    """

    observed: float
    raw: float
    scaled: float


def gap_rows_of(frame: pd.DataFrame) -> GapRows:
    """Read a table with the roles N, D and G, and G_se where it is known."""
    se = frame["G_se"].to_numpy(float, na_value=np.nan) if "G_se" in frame.columns else np.full(len(frame), np.nan)
    n, d, gap = (frame[role].to_numpy(float) for role in ("N", "D", "G"))
    return GapRows(n, d, gap, se, "domain" in frame.columns)


def coverage_at(rows: GapRows, z: float) -> Coverage:
    """Count the rows on either side of the crossover for an exponent."""
    u = reduced_data(rows.n, rows.d, z)
    return Coverage(
        z=z,
        u_below_03=int(np.sum(u < 0.3)),
        u_below_1=int(np.sum(u < 1.0)),
        u_above_1=int(np.sum(u > 1.0)),
        u_above_3=int(np.sum(u > 3.0)),
        u_min=float(u.min()),
        u_max=float(u.max()),
    )


def magnitude_of(rows: GapRows) -> Magnitude:
    """Compare the median gap with the medians that the published constants predict."""
    raw, scaled = predict_gap(rows.n, rows.d), predict_gap(rows.n / 1e6, rows.d / 1e9)
    return Magnitude(float(np.median(rows.gap)), float(np.median(raw)), float(np.median(scaled)))
