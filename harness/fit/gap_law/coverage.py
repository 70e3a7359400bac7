"""Which part of the law's range a table covers, and how large its gaps are beside the published prediction."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from harness.fit.gap_law.constants import predict_gap, reduced_data


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


def coverage_at(n: Float[np.ndarray, "rows"], d: Float[np.ndarray, "rows"], z: float) -> Coverage:
    """Count the rows on either side of the crossover for an exponent; n and d are raw counts."""
    u = reduced_data(n, d, z)
    return Coverage(
        z=z,
        u_below_03=int(np.sum(u < 0.3)),
        u_below_1=int(np.sum(u < 1.0)),
        u_above_1=int(np.sum(u > 1.0)),
        u_above_3=int(np.sum(u > 3.0)),
        u_min=float(u.min()),
        u_max=float(u.max()),
    )


def magnitude_of(
    n: Float[np.ndarray, "rows"], d: Float[np.ndarray, "rows"], gap: Float[np.ndarray, "rows"]
) -> Magnitude:
    """Compare the median gap with the medians that the published constants predict."""
    raw, scaled = predict_gap(n, d), predict_gap(n / 1e6, d / 1e9)
    return Magnitude(float(np.median(gap)), float(np.median(raw)), float(np.median(scaled)))
