"""The constants of the gap law as a fit gives them: one full set, from which curves can be drawn."""

import math

from harness.fit.results.result import FitResult
from sweeps.published_gap import PUBLISHED_GAP, GapConstants


def estimated_constants(fit: FitResult) -> GapConstants | None:
    """The best point of a fit of the gap law, identified or not; None if a constant has no finite value there."""
    values = {name: fit.parameters[name].estimate for name in GapConstants._fields}
    known = {name: value for name, value in values.items() if value is not None}
    return GapConstants(**known) if len(known) == len(values) else None


def unidentified_constants(fit: FitResult) -> list[str]:
    """The names of the law's constants that the rows do not identify."""
    return [name for name in GapConstants._fields if not fit.parameters[name].identified]


def collapse_constants(fit: FitResult, smallest_u: float) -> GapConstants | None:
    """The fitted constants at which a collapse can be drawn; None where the rows fix too few.

    Where alpha or z is not identified, but the slopes and the height of the branch above the crossover are, every z
    fits equally well. Then this is the set of that valley with the published z and its crossover below all rows.

    Args:
        smallest_u: the smallest D/N^z of the rows at the published z.
    """
    if fit.parameters["alpha"].identified and fit.parameters["z"].identified:
        return estimated_constants(fit)
    known = {name: combination.estimate for name, combination in fit.combinations.items()}
    beta, z = fit.parameters["beta"], PUBLISHED_GAP.z
    slope, height = known.get("alpha - z*beta"), known.get("log A + beta*log u_star")
    if not beta.identified or beta.estimate is None or slope is None or height is None:
        return None
    u_star = smallest_u / 10
    height_at_one = math.exp(height - beta.estimate * math.log(u_star))
    return GapConstants(height_at_one, slope + z * beta.estimate, z, beta.estimate, u_star)
