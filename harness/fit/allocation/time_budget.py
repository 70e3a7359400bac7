"""Which shape of model has the lowest loss after a given time of training (arXiv 2406.18922)?

A step's time follows from what it copies (`time_law`), the tokens from the time, the loss from both (`time_loss`).
"""

import pandas as pd

from harness.fit.forecast import predict
from harness.fit.result import FitResult
from sweeps.errors import InputError


def best_in_time(times: FitResult, losses: FitResult, shapes: pd.DataFrame, seconds: float) -> pd.DataFrame:
    """Shapes with the tokens and the loss that they reach in `seconds`, the best first.

    Args:
        times: a fit of `time_law`, t in seconds a step.
        losses: a fit of `time_loss`.
        shapes: N, B (tokens a step) and the columns x[...] of the fit of times.

    Returns:
        `shapes` with `step_seconds`, `D` and `prediction` (nats per token), and its 95 % interval from the draws of
        `losses`: the times are taken as known.

    Raises:
        InputError: fits of other laws, or a missing column.
    """
    for result, law in ((times, "time_law"), (losses, "time_loss")):
        if result.law != law:
            raise InputError("time budget", "law", result.law, law)
    for role in ("N", "B"):
        if role not in shapes.columns:
            raise InputError("time budget", role, ", ".join(map(str, shapes.columns)), f"a column {role}")
    step = predict(times, shapes)["prediction"].to_numpy()
    table = shapes.assign(step_seconds=step, T=seconds, t=step / shapes["B"], D=shapes["B"] * seconds / step)
    return predict(losses, table).sort_values("prediction").reset_index(drop=True)
