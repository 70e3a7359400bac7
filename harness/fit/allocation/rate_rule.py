"""The power law that the best learning rates of several sizes follow, as a rule of a sweep's spec."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import chdtrc, stdtrit

from harness.fit.allocation.isoflop import MISSED
from harness.fit.problem.fit_status import FitWarning

# A quantity that differs by less than this share between sizes does not vary.
VARIES = 0.02
# A quantity whose log keeps to a line in the others this closely (residual over spread) is not told apart from them.
FOLLOWS = 0.1

Span = tuple[float, float, float]  # an estimate with its 95 % limits


@dataclass(frozen=True)
class PowerRule:
    """lr = c times (quantity / at)^power for every quantity; without quantities the same rate for all sizes.

    Attributes:
        c: with its 95 % limits.
        at: quantity -> where its factor is 1.
        powers: quantity -> the exponent, with its 95 % limits.
        degrees: the degrees of freedom of the limits.
    """

    c: Span
    at: Mapping[str, float]
    powers: Mapping[str, Span]
    degrees: int

    @property
    def setting(self) -> str:
        """The line of YAML that gives a sweep these rates."""
        if not self.powers:
            return f"lr: {self.c[0]:.3g}"
        powers = [f"{name}: {{at: {self.at[name]:g}, p: {power[0]:.3f}}}" for name, power in self.powers.items()]
        return f"lr: {{rule: power, c: {self.c[0]:.3g}, {', '.join(powers)}}}"


def fit_rule(
    lr: Float[np.ndarray, "sizes"], log_se: Float[np.ndarray, "sizes"], degrees: int,
    quantities: Mapping[str, Float[np.ndarray, "sizes"]],
) -> tuple[PowerRule, tuple[FitWarning, ...]]:  # fmt: skip
    """Fit log lr by weighted least squares to the logs of those quantities that vary and that can be told apart.

    Where the rule misses the optima by more than their errors allow (chi-squared at the 5 % level), the limits are from
    the scatter about the rule instead: wider by the scale factor of the Particle Data Group, with Student's t for the
    remaining degrees of freedom.

    Args:
        lr: the best rate of each size, at least one.
        log_se: the standard error of its log.
        degrees: the degrees of freedom of these errors.
        quantities: name -> the value of each size, the more important ones first.
    """
    chosen, warnings = _told_apart(quantities, len(lr))
    at = {name: float(f"{np.exp(np.log(quantities[name]).mean()):.2g}") for name in chosen}
    design = np.column_stack([np.ones(len(lr)), *(np.log(quantities[name] / at[name]) for name in chosen)])
    weighted = design / log_se[:, None]
    covariance = np.linalg.inv(weighted.T @ weighted)
    fitted = covariance @ weighted.T @ (np.log(lr) / log_se)
    squares, left = float(np.sum(((np.log(lr) - design @ fitted) / log_se) ** 2)), len(lr) - design.shape[1]
    if left and chdtrc(left, squares) <= MISSED:
        degrees, factor = left, float(np.sqrt(squares / left))
        message = (
            f"the rule misses the optima (chi-squared {squares:.1f} for {left} degrees of freedom): they follow "
            "no such power law, or their errors are larger; the limits are from their scatter"
        )
        warnings.append(FitWarning("rule_misses_optima", message))
    else:
        factor = 1.0
    reach = stdtrit(degrees, 0.975) * factor * np.sqrt(np.diag(covariance))
    low, high = fitted - reach, fitted + reach
    c = (float(np.exp(fitted[0])), float(np.exp(low[0])), float(np.exp(high[0])))
    spans = zip(fitted[1:].tolist(), low[1:].tolist(), high[1:].tolist(), strict=True)
    return PowerRule(c, at, dict(zip(chosen, spans, strict=True)), degrees), tuple(warnings)


def _told_apart(quantities: Mapping[str, Float[np.ndarray, "sizes"]], sizes: int) -> tuple[list[str], list[FitWarning]]:
    """The quantities whose powers the sizes tell apart, and a warning for each other one that varies."""
    chosen: list[str] = []
    warnings = []
    for name, values in quantities.items():
        logs = np.log(values)
        if np.ptp(logs) < VARIES:
            continue
        others = np.column_stack([np.ones(sizes), *(np.log(quantities[other]) for other in chosen)])
        apart = logs - others @ np.linalg.lstsq(others, logs, rcond=None)[0]
        if len(chosen) + 1 >= sizes or np.std(apart) < FOLLOWS * np.std(logs):
            message = (
                f"{name} follows {' and '.join(chosen)} in the {sizes} sizes with an optimum, so that its power cannot "
                "be told apart: the rule holds where it keeps following"
            )
            warnings.append(FitWarning("not_told_apart", message))
        else:
            chosen.append(name)
    return chosen, warnings
