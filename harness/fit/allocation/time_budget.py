"""Find which shape of model has the lowest loss after a given time of training (arXiv 2406.18922).

The time of a step follows from what the step copies (law `time_law`), the number of tokens from that time, and the loss
from both (law `time_loss`).
"""

from dataclasses import dataclass

import pandas as pd

from harness.fit.forecast import predict
from harness.fit.results.result import FitResult
from sweeps.errors import InputError


@dataclass(frozen=True)
class TimeBudget:
    """What every shape reaches in a given time.

    Attributes:
        seconds: the time of training.
        shapes: the best shape first; the columns that were given, and `step_seconds`, `D` (tokens) and `prediction`
            (nats per token) with the 95 % interval of the fit of losses: the times are taken as known.
    """

    seconds: float
    shapes: pd.DataFrame

    @property
    def best(self) -> dict[str, float]:
        """The shape with the lowest predicted loss."""
        return {str(name): value for name, value in self.shapes.iloc[0].items()}

    def _repr_html_(self) -> str:
        return f"<p>After {self.seconds:g} s of training, best shape first:</p>{self.shapes.to_html(index=False)}"


def best_in_time(times: FitResult, losses: FitResult, shapes: pd.DataFrame, seconds: float) -> TimeBudget:
    """Rank shapes of models by the loss that they reach in `seconds`.

    Args:
        times: a fit of `time_law`, t in seconds a step.
        losses: a fit of `time_loss`.
        shapes: N, B (tokens a step) and the columns x[...] of the fit of times.

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
    return TimeBudget(seconds, predict(losses, table).sort_values("prediction").reset_index(drop=True))
