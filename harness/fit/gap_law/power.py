"""What a design could find out: sweeps are simulated at a law's constants with the errors to expect, and fitted."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.fit.compare import aicc
from harness.fit.gap_law.constants import predict_gap
from harness.fit.gap_law.contest import with_unique_tokens
from harness.fit.gap_law.rule import CLEARLY_BETTER, RESOLUTION, RIVALS, TESTED_EXPONENTS, TESTED_LAW
from harness.fit.laws.registry import get_law
from harness.fit.problem.centred import Problem, centre
from harness.fit.problem.raw_units import raw_values
from harness.fit.search.solver import minimise_cases
from harness.fit.search.starts import grid_of_starts

SIMULATIONS = 200
# Starts of each fit, spread over the law's grid. The truth is one more for the law itself.
STARTS = 8
# How many times the draws of the design are tried.
TIMES = (1.0, 4.0, 16.0, 64.0)
# The power that a design should have.
ENOUGH_POWER = 0.8
# The correlation of log N and log D above which a table cannot tell their exponents apart.
PROPORTIONAL = 0.95


@dataclass(frozen=True)
class ForeseenConstant:
    """A constant of the law: its truth, the middle 95 % of its estimates, and half their width."""

    truth: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half the width of the middle 95 % of the estimates."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Foreseen:
    """What sweeps of a design would find if the law held.

    Attributes:
        times: how many times the draws of the design.
        constants: by name.
        told_apart: rival -> the share of sweeps in which the law is clearly better by AICc (`gap_law.rule`).
        power: the share of sweeps in which it is clearly better than every rival.
    """

    times: float
    constants: Mapping[str, ForeseenConstant]
    told_apart: Mapping[str, float]
    power: float

    @property
    def answers(self) -> bool:
        """Whether the sweep would answer: the exponents are known to within 0.1, and the rivals are told apart."""
        known = all(self.constants[name].half_width <= RESOLUTION for name in TESTED_EXPONENTS)
        return known and self.power >= ENOUGH_POWER


@dataclass(frozen=True)
class Power:
    """What a design can find out, with its own draws and with more of them.

    Attributes:
        cells: number of cells with an expected error.
        simulations: number of simulated sweeps.
        correlation: of log N and log D over the cells; above 0.95 their exponents cannot be told apart.
        foreseen: for the design's draws, then for more, up to the first that answers.
    """

    cells: int
    simulations: int
    correlation: float
    foreseen: tuple[Foreseen, ...]

    @property
    def times_needed(self) -> float | None:
        """How many times the draws of the design an answer takes; None if the most that were tried give none."""
        return next((each.times for each in self.foreseen if each.answers), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings."""
        return asdict(self) | {"times_needed": self.times_needed}

    def lines(self) -> list[str]:
        """The answer in sentences."""
        own = self.foreseen[0]
        constants = ", ".join(f"{name} {c.truth:g} ({c.low:.3g} to {c.high:.3g})" for name, c in own.constants.items())
        rivals = ", ".join(f"{rival} {share:.0%}" for rival, share in own.told_apart.items())
        told = [
            f"{self.simulations} simulated sweeps of {self.cells} cells in which the published law holds:",
            f"  the middle 95 % of the estimates: {constants}",
            f"  told apart from its rivals: {rivals}; from all of them {own.power:.0%}",
        ]
        if self.correlation > PROPORTIONAL:
            told.append(
                f"  D is nearly proportional to a power of N (correlation of the logs {self.correlation:.3f}): such"
                " cells cannot tell the exponents of N and D apart"
            )
        needed = self.times_needed
        if needed == 1.0:
            told.append("  the sweep would answer: exponents to within 0.1, all rivals told apart")
        elif needed is not None:
            told.append(f"  {needed:g} times the draws would answer: exponents to within 0.1, all rivals told apart")
        else:
            told.append(f"  {self.foreseen[-1].times:g} times the draws would not be enough: other cells are needed")
        return told


def power_of(
    cells: pd.DataFrame, *, times: Sequence[float] = TIMES, simulations: int = SIMULATIONS, seed: int = 0
) -> Power:
    """Simulate sweeps at the published gap law and fit the law and its rivals.

    Args:
        cells: N, D, U and G_se, the standard error to expect of each cell's gap, nats per token.
        times: multiples of the design's draws; they are tried in this order until one gives an answer.
    """
    truth = np.asarray(predict_gap(cells["N"].to_numpy(float), cells["D"].to_numpy(float)))
    noise = np.random.default_rng(seed).standard_normal((simulations, len(cells)))
    foreseen = []
    for factor in times:
        error = cells["G_se"].to_numpy(float) / np.sqrt(factor)
        foreseen.append(_foreseen(cells.assign(G=truth, G_se=error), truth + error * noise, factor))
        if foreseen[-1].answers:
            break
    correlation = np.corrcoef(np.log(cells["N"]), np.log(cells["D"]))[0, 1]
    return Power(len(cells), simulations, float(np.nan_to_num(correlation)), tuple(foreseen))


def _foreseen(frame: pd.DataFrame, gaps: Float[np.ndarray, "simulations cells"], times: float) -> Foreseen:
    law = get_law(TESTED_LAW)
    problem = centre(law, frame)
    theta, loss = _fits(problem, gaps)
    published = {p.name: p.published for p in law.parameters}
    estimates = raw_values(problem, theta)
    constants = {}
    for name, value in published.items():
        low, high = np.quantile(estimates[name], [0.025, 0.975])
        constants[name] = ForeseenConstant(float(value or 0.0), float(low), float(high))
    own = _criteria(problem, loss)
    told_apart, clear = {}, np.full(len(gaps), True)
    # As in the verdict, a rival may mean unique tokens by D.
    tables = [table for table in (frame, with_unique_tokens(frame)) if table is not None]
    for rival in RIVALS:
        behind = np.full(len(gaps), np.inf)
        for table in tables:
            other = centre(get_law(rival), table)
            behind = np.minimum(behind, _criteria(other, _fits(other, gaps)[1]) - own)
        told_apart[rival] = float(np.mean(behind > CLEARLY_BETTER))
        clear &= behind > CLEARLY_BETTER
    return Foreseen(times, constants, told_apart, float(np.mean(clear)))


def _fits(
    problem: Problem, gaps: Float[np.ndarray, "simulations cells"]
) -> tuple[Float[np.ndarray, "simulations parameters"], Float[np.ndarray, "simulations"]]:
    """The best fit to each simulated sweep, and minus its log likelihood up to a constant that all laws share."""
    grid = grid_of_starts(problem)
    starts = grid[:: max(1, len(grid) // STARTS)]
    targets = gaps / problem.scales[problem.law.response]
    found = minimise_cases(problem, np.tile(starts, (len(gaps), 1, 1)), targets=targets.__getitem__)
    return found.theta, found.loss


def _criteria(problem: Problem, losses: Float[np.ndarray, "simulations"]) -> Float[np.ndarray, "simulations"]:
    rows, degrees = len(problem.response), len(problem.model.parameters)
    return np.asarray([aicc(-float(loss), degrees, rows) for loss in losses])
