"""Loss of a network that is pruned while it trains: the average count of parameters stands for N (arXiv 2501.12486).

N_bar is the mean over training tokens of the parameters that are not zero; a dense run has N_bar = N, and training
costs 6 N_bar D FLOPs. D counts tokens, L is in nats per token. The paper's own A, B and E were not at hand.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Array, Float

from harness.fit.laws import chinchilla
from harness.fit.laws.law import Columns, Parameters, Scales

Numbers = float | Float[np.ndarray, "runs"]


def average_count(
    dense: Numbers, sparsity: Numbers, start: Numbers = 0.25, end: Numbers = 0.75, power: float = 3.0, kept: Numbers = 0
) -> Numbers:
    """N_bar of a run pruned from no sparsity at `start` to `sparsity` at `end`, both as shares of its tokens.

    Args:
        dense: parameters that may be pruned, before any is.
        power: sparsity(t) = sparsity * (1 - (1 - x)^power), x from 0 at `start` to 1 at `end`: 1 is a line, 3 the cubic
            ramp of Zhu and Gupta.
        kept: further parameters that are never pruned, such as embeddings.
    """
    ramp = (end - start) * (1.0 - 1.0 / (power + 1.0))
    return kept + dense * (1.0 - sparsity * (ramp + 1.0 - end))


def _renamed(values: Mapping, old: str, new: str) -> dict:
    return dict(values) | {new: values[old]}


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    return chinchilla.predict(parameters, _renamed(columns, "N_bar", "N"))


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    return chinchilla.rescale(parameters, _renamed(scales, "N_bar", "N"))


LAW = replace(
    chinchilla.LAW,
    id="average_parameter",
    formula="L = E + A/N_bar^alpha + B/D^beta, N_bar the mean count of non-zero parameters over the training tokens",
    parameters=tuple(replace(p, published=None) for p in chinchilla.LAW.parameters),
    columns=("N_bar", "D"),
    predict=predict,
    source="Jin et al. 2025 (arXiv 2501.12486), form; start at 25 % and end at 75 % of compute are near its best",
    rescale=rescale,
    combinations=tuple(replace(c, published=None) for c in chinchilla.LAW.combinations),
)
