"""Pure power laws: the best learning rate, batch or weight decay of a run, and other quantities that are one product.

Rows are optima, as `isogap optima` extracts them, unless a law says otherwise. N counts parameters, D tokens.
"""

import inspect
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from harness.fit.laws.law import Law, Parameter, law


def power_law(response: str, source: str, **published: float) -> Callable[[Callable[..., Any]], Law]:
    """Declares a law `response = prefactor * product of powers`, fitted by least squares on logs.

    The function's arguments are the columns; behind the star stand the prefactor and one exponent for each column, in
    their order. `published` are constants of the source, in raw units.
    """

    def declare(function: Callable[..., Any]) -> Law:
        arguments = inspect.signature(function).parameters.values()
        columns = [a.name for a in arguments if a.kind is a.POSITIONAL_OR_KEYWORD]
        prefactor, *exponents = [a.name for a in arguments if a.kind is a.KEYWORD_ONLY]
        pairs = list(zip(columns, exponents, strict=True))
        unit = " ".join([response, *(f"{column}^-{name}" for column, name in pairs)])
        return law(
            f"{response} = {prefactor} " + " ".join(f"{column}^{name}" for column, name in pairs),
            response=response,
            parameters=(
                Parameter(prefactor, "log", 1e-8, 1e8, (1.0,), published.get(prefactor), unit),
                *(Parameter(name, "identity", -8.0, 8.0, (0.5,), published.get(name)) for name in exponents),
            ),
            source=source,
            objective="log_squares",
            linear=(prefactor,),
        )(function)

    return declare


STEP_LAW = "Li et al. 2025 (arXiv 2503.04715), as their repository states it"


@power_law("lr", STEP_LAW, c=1.79, a=-0.713, b=0.307)
def steplaw_lr(N, D, *, c, a, b):
    """The learning rate that reaches the lowest loss, by Li et al. 2025 (Step Law, arXiv 2503.04715).

    Optima of grids over rate and batch: `lr` (peak), `N` (parameters without embeddings), `D` (tokens).
    """
    return c * N**a * D**b


@power_law("B", STEP_LAW, d=0.58, e=0.571)
def steplaw_batch(D, *, d, e):
    """The batch that reaches the lowest loss, by Li et al. 2025 (Step Law, arXiv 2503.04715).

    Optima of grids over rate and batch: `B` (tokens), `D` (tokens).
    """
    return d * D**e


@power_law("lr", "form: Porian et al. 2024 (arXiv 2406.19146), from memory")
def porian_lr(N, *, c, a):
    """The optimal learning rate of a model size, by Porian et al. 2024 (arXiv 2406.19146)."""
    return c * N**a


@power_law("B", "form: Porian et al. 2024 (arXiv 2406.19146), from memory")
def porian_batch(N, *, c, a):
    """The optimal batch of a model size, by Porian et al. 2024 (arXiv 2406.19146).

    `B` in sequences or tokens: the prefactor has that unit.
    """
    return c * N**a


@power_law(
    "B", "form: Bergsma et al. 2025 (arXiv 2505.13738); of its constants only m between 0.367 and 0.391 was found"
)
def power_lines_b_opt(D, *, c, m):
    """The batch that reaches the lowest loss, by Bergsma et al. 2025 (Power Lines, arXiv 2505.13738).

    `B` in sequences or tokens: the prefactor has that unit.
    """
    return c * D**m


@power_law("B", "form: Bergsma et al. 2025 (arXiv 2505.13738); the exponent as notes on the paper give it", m=0.47)
def power_lines_b_crit(D, *, c, m):
    """The critical batch, by Bergsma et al. 2025 (Power Lines, arXiv 2505.13738): D_min/S_min of `es_tradeoff`."""
    return c * D**m


@law(
    "tau = c (D/N)^m",
    response="tau",
    parameters=(
        Parameter("c", "log", 1e-8, 1e8, (1.0,), published=1.084, unit="tau D^-m N^m"),
        Parameter("m", "identity", -8.0, 8.0, (-0.5,), published=-0.527),
    ),
    source="Bergsma et al. 2025 (arXiv 2505.13738); constants as two independent notes on the paper give them",
    objective="log_squares",
    linear=("c",),
)
def power_lines_tau(N, D, *, c, m):
    """How long AdamW should remember, by Bergsma et al. 2025 (Power Lines, arXiv 2505.13738).

    tau = B/(lr wd D) is the timescale of the weights' average as a share of the run (lr the peak rate, wd the weight
    decay, B and D in one unit). Its optimum falls with D/N, the tokens per parameter. The optimal weight decay then is
    B/(lr D tau).
    """
    return c * jnp.exp(m * (D.log - N.log))


@power_law(
    "B",
    "form: Zhang et al. 2024 (arXiv 2410.21676); the exponent (at fixed N) as notes on the paper give it",
    b=0.47,
)
def cbs_data(D, *, c, b):
    """The critical batch as a power of the tokens at a fixed model, by Zhang et al. 2024 (arXiv 2410.21676).

    Rows: `B` (the critical batch, as `cbs_steps` gives it), `D` (tokens). The critical batch follows the data, and
    hardly the model: compare the exponent with that of `cbs_model` at fixed tokens.
    """
    return c * D**b


@power_law("B", "Zhang et al. 2024 (arXiv 2410.21676), tokens fixed: 621.341 (N/10^6)^0.087", c=186.78, a=0.087)
def cbs_model(N, *, c, a):
    """The critical batch as a power of the model's size, by Zhang et al. 2024 (arXiv 2410.21676).

    Rows: `B` (the critical batch in sequences of 512 tokens, as `cbs_steps` gives it), `N` (parameters). The published
    constants are those at fixed tokens, converted from millions of parameters to parameters; where tokens grow with the
    model the paper has B = 93.20 (N/10^6)^0.47.
    """
    return c * N**a


# Charles et al. (arXiv 2503.09799) fit a separate law to data-parallel training and to DiLoCo with each number M of
# replicas, and joint laws to DiLoCo with any M >= 1. Of the separate laws, the published constants below are those of
# data-parallel training.
DILOCO_ALONE = "Charles et al. 2025 (arXiv 2503.09799), the row of data-parallel training"
DILOCO_JOINT = "Charles et al. 2025 (arXiv 2503.09799), joint fit"


@power_law("L", DILOCO_ALONE, A=18.129, alpha=-0.0953)
def diloco(N, *, A, alpha):
    """The loss (nats per token) of one algorithm against model size (Charles et al. 2025, arXiv 2503.09799)."""
    return A * N**alpha


@power_law("L", DILOCO_JOINT, A=19.226, alpha=-0.0985, beta=0.0116)
def diloco_joint(N, M, *, A, alpha, beta):
    """The loss (nats per token) of DiLoCo against size and replicas (Charles et al. 2025, arXiv 2503.09799)."""
    return A * N**alpha * M**beta


@power_law("lr", DILOCO_ALONE, A=16319.2, alpha=-0.819)
def diloco_lr(N, *, A, alpha):
    """The best inner learning rate of one algorithm against model size (Charles et al. 2025, arXiv 2503.09799)."""
    return A * N**alpha


@power_law("lr", DILOCO_JOINT, A=22256, alpha=-0.8827, beta=0.2929)
def diloco_lr_joint(N, M, *, A, alpha, beta):
    """The best inner learning rate of DiLoCo against size and replicas (Charles et al. 2025, arXiv 2503.09799)."""
    return A * N**alpha * M**beta


@power_law("B", DILOCO_ALONE, A=0.22592, alpha=0.281)
def diloco_batch(N, *, A, alpha):
    """The best global batch (sequences) of one algorithm against model size (Charles et al. 2025, arXiv 2503.09799).

    The published prefactor gives 76 at N = 10^9, which can only be sequences, though tables call it tokens.
    """
    return A * N**alpha


@power_law("B", DILOCO_JOINT, A=0.00709, alpha=0.4695, beta=0.3399)
def diloco_batch_joint(N, M, *, A, alpha, beta):
    """The best global batch (sequences) of DiLoCo against size and replicas (Charles et al. 2025, arXiv 2503.09799)."""
    return A * N**alpha * M**beta
