"""Find which shape of model has the lowest loss after a given time of training (arXiv 2406.18922).

The time of a step follows from what the step copies (law `time_law`), the number of tokens from that time, and the loss
from both (law `time_loss`).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from harness.fit.forecast import predict, predictions_table
from harness.fit.results.result import FitResult
from harness.fit.results.shown import Showable, TextTable
from sweeps.errors import InputError

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class TimeBudget(Showable):
    """The loss that every shape reaches in a given time.

    Attributes:
        seconds: the time of training.
        shapes: a row per shape, the best first: the given columns, `step_seconds`, `D` (tokens), and `prediction` (nats
            per token) with the 95 % interval of the fit of losses; it leaves out the errors of the times.
    """

    seconds: float
    shapes: pd.DataFrame

    @property
    def best(self) -> dict[str, float]:
        """The shape with the lowest predicted loss."""
        return {str(name): value for name, value in self.shapes.iloc[0].items()}

    def shown(self) -> list[TextTable]:
        """Every shape, the best first."""
        title = f"after {self.seconds:g} s of training, the best shape first"
        return [predictions_table(title, self.shapes)]

    def figure(self) -> "go.Figure":
        """Draw the predicted loss of every shape against its parameters, with its 95 % interval."""
        import plotly.graph_objects as go

        table = self.shapes
        limits = {"array": table["high"] - table["prediction"], "arrayminus": table["prediction"] - table["low"]}
        figure = go.Figure(go.Scatter(x=table["N"], y=table["prediction"], error_y=limits, mode="markers"))
        figure.update_xaxes(type="log", title="N, parameters")
        return figure.update_yaxes(title=f"loss after {self.seconds:g} s (nats per token)")


def best_in_time(times: FitResult, losses: FitResult, shapes: pd.DataFrame, seconds: float) -> TimeBudget:
    """Rank shapes of models by the loss that they reach in `seconds`.

    Args:
        times: a fit of `time_law`, with t in seconds per step.
        losses: a fit of `time_loss`.
        shapes: N, B (tokens per step) and the columns x[...] of the fit of times.

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
