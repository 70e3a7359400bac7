"""How long weight decay lets an update last at most (Bordt et al., arXiv 2410.03249), and how a measured gap decays.

AdamW multiplies the weights by 1 - eta_t lambda at every step, besides its update; eta_t is the optimizer's learning
rate and lambda its weight decay. Of an update made at step s the share w = prod_{t=s+1..end} (1 - eta_t lambda) is left
at the end if later updates ignore it. Observed forgetting is faster; `isogap fit --law forgetting` (ours) estimates how
much.
"""

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import ArrayLike

from sweeps.errors import InputError


def cosine_rates(steps: int, peak: float, warmup: int = 0, final_ratio: float = 0.1) -> Float[np.ndarray, "steps"]:
    """Learning rates of llm.c, the paper's trainer: linear warm-up, then a cosine to `final_ratio` of the peak."""
    step = np.arange(steps)
    rising = peak * (step + 1) / max(warmup, 1)
    place = np.clip((step - warmup) / max(steps - warmup, 1), 0.0, 1.0)
    falling = peak * (final_ratio + (1.0 - final_ratio) * 0.5 * (1.0 + np.cos(np.pi * place)))
    return np.where(step < warmup, rising, falling)


def remaining_share(
    rates: ArrayLike, weight_decay: float, since: int = 0, until: ArrayLike | None = None
) -> Float[np.ndarray, "..."]:
    """The share w of an update that weight decay leaves.

    Args:
        rates: learning rate of every step.
        since: steps taken when the update had been made; 0 for the initial weights.
        until: steps taken when the share is wanted, not before `since`; the end of training by default.

    Raises:
        InputError: steps outside the run, or rates times decay not in [0, 1).
    """
    rates = np.asarray(rates, float)
    ends = np.asarray(len(rates) if until is None else until, int)
    if since < 0 or np.any(ends < since) or np.any(ends > len(rates)):
        raise InputError("forgetting", "steps", (since, ends.min(), ends.max()), f"0 <= since <= until <= {len(rates)}")
    factors = 1.0 - rates * weight_decay
    if np.any((factors <= 0.0) | (factors > 1.0)):
        raise InputError("forgetting", "rates times decay", float(1.0 - factors.min()), "numbers in [0, 1)")
    total = np.concatenate([[0.0], np.cumsum(np.log(factors))])
    return np.exp(total[ends] - total[since])


def forgetting_time(rates: ArrayLike, weight_decay: float, since: int = 0, left: float = np.exp(-1.0)) -> int | None:
    """Steps after `since` until decay alone has brought an update down to the share `left`; None if not within the run.

    At a constant rate and left = 1/e that is 1/(eta lambda).
    """
    rates = np.asarray(rates, float)
    shares = remaining_share(rates, weight_decay, since, np.arange(since, len(rates) + 1))
    below = np.flatnonzero(shares <= left)
    return int(below[0]) if len(below) else None


def with_remaining_share(
    frame: pd.DataFrame, rates: ArrayLike, weight_decay: float, exposed_until: int, source: str = "table"
) -> pd.DataFrame:
    """The rows after an exposure with their `w`, for the law `forgetting`.

    Args:
        frame: a table with the column `step` (steps taken); its other columns are kept.
        exposed_until: steps taken when the contaminated text was last seen.

    Raises:
        InputError: an unusable column, or steps beyond the rates.
    """
    if "step" not in frame.columns:
        raise InputError(source, "step", ", ".join(map(str, frame.columns)), "a column step: steps taken")
    taken = np.asarray(pd.to_numeric(pd.Series(frame["step"]), errors="coerce"), float)
    if not np.all(taken >= 0):
        raise InputError(source, "step", float(taken[~(taken >= 0)][0]), "steps taken, zero or more")
    steps = taken.astype(int)
    later = steps >= exposed_until
    return frame.loc[later].assign(w=remaining_share(rates, weight_decay, exposed_until, steps[later]))


def observed_forgetting_time(
    steps: ArrayLike, gaps: ArrayLike, exposed_until: int, left: float = np.exp(-1.0)
) -> float | None:
    """Steps after the exposure until a measured gap first falls to `left` of its value at the exposure, interpolated.

    To be compared with `forgetting_time`; None if the gap stays above. The first gap at or after the exposure counts as
    its value there.
    """
    step, gap = np.asarray(steps, float), np.asarray(gaps, float)
    order = np.argsort(step)
    step, gap = step[order][step[order] >= exposed_until], gap[order][step[order] >= exposed_until]
    if not len(gap) or not gap[0] > 0:
        raise InputError("forgetting", "gaps", list(gap[:1]), "a gap above zero at the end of the exposure")
    below = np.flatnonzero(gap <= left * gap[0])
    if not len(below):
        return None
    i = below[0]
    share = (gap[i - 1] - left * gap[0]) / (gap[i - 1] - gap[i])
    return float(step[i - 1] + share * (step[i] - step[i - 1]) - exposed_until)
