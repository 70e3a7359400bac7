"""Losses and best sizes on one axis: compute, parameters, or the size of the training set."""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws.law import (
    Combination,
    Parameter,
    Parameters,
    PositiveColumn,
    by_group,
    coefficient,
    exponent,
    floor,
    law,
)

_EXPONENTS = (0.03, 0.1, 0.2, 0.4, 0.8, 1.6)


@law(
    "L = E + A/C^alpha, C in the role flops",
    parameters=(floor(), coefficient("A", "L flops^alpha"), exponent("alpha", _EXPONENTS)),
    source="form: Hestness et al. 2017 (arXiv 1712.00409), Henighan et al. 2020 (arXiv 2010.14701), and Porian et al. "
    "2024 (arXiv 2406.19146) on the optima of isoFLOP profiles",
)
def compute_power(flops, *, E, A, alpha):
    """A loss that falls with training compute to a floor, for one recipe or for compute-optimal models.

    C is the role `flops`, training FLOPs (any fixed unit); L is nats per token, or an error. `crossover` compares such
    curves of several recipes (Xiao, arXiv 2409.15156), `frontier` also saturates at small compute.
    """
    return E + A * flops**-alpha


CROSSOVER = replace(
    by_group(compute_power, ("E", "A", "alpha")),
    id="crossover",
    formula="L = E[group] + A[group]/flops^alpha[group]",
    source="Xiao 2024 (arXiv 2409.15156): claim; form from memory, no constants published that could be checked",
    about="""Learning curves of several recipes, which may cross: L = E_i + A_i/C^alpha_i.

Xiao (arXiv 2409.15156) reports that recipes that win at small scale may lose at large scale. Each recipe (role `group`:
a name) has its own floor, amplitude and exponent; C is the role `flops`, training FLOPs, L nats per token. For floors
that are equal two curves meet at C = (A_1/A_2)^(1/(alpha_1 - alpha_2)). `harness.fit.shared.crossover` finds
where fitted curves cross, and how sure that is.""",
)


@law(
    "L = A (flops + B)^-alpha + E",
    parameters=(
        coefficient("A", "L flops^alpha"),
        Parameter("B", "log", 1e-8, 1e3, (1e-4, 1e-2, 0.3), unit="flops"),
        exponent("alpha", _EXPONENTS),
        floor(),
    ),
    source="form: Nezhurina et al. 2025 (arXiv 2506.04598), released code; their constants were not at hand",
    alternatives=("compute_power",),
    id="frontier",
)
def saturating_frontier(flops, *, A, B, alpha, E):
    """The compute frontier of a training procedure, saturating at both ends: error = A (C + B)^-alpha + E.

    Nezhurina et al. (arXiv 2506.04598) compare procedures by such curves through the Pareto-optimal runs of each, and
    extrapolate them. C is the role `flops`; L is an error or a loss; B is the compute below which training changes
    nothing. `harness.fit.allocation.frontier_runs` finds the frontier of a table of runs: fitting every run instead
    answers another question.
    """
    return E + A * PositiveColumn(flops + B) ** -alpha


def _log_compute(N: PositiveColumn, D: PositiveColumn) -> Float[Array, "rows"]:
    return jnp.log(6.0) + N.log + D.log


@law(
    "L = a - b log C, C = 6 N D",
    parameters=(
        Parameter("a", "identity", -300.0, 300.0, (1.0,)),
        Parameter("b", "identity", -10.0, 10.0, (0.02,), unit="L"),
    ),
    source="form from memory: More Compute Is What You Need (arXiv 2404.19484); no constants of the paper are used",
    objective="squares",
    # a is the loss at C = 1. Centred columns have another unit of C, so a changes by b times the log of that unit.
    raw=lambda p, scales: {"a": scales["L"] * (p["a"] + p["b"] * (jnp.log(scales["N"]) + jnp.log(scales["D"])))},
    alternatives=("compute_only_curved",),
)
def compute_only(N, D, *, a, b):
    """Loss as a straight line in the log of compute, whatever its split into parameters and tokens (arXiv 2404.19484).

    The paper's response is bits per character; any loss will do. The form is from memory of the paper, and none of its
    constants is used. It has no floor, and it says that every shape of a budget is as good as any other;
    `compute_only_curved` adds the term that refutes it.
    """
    return a - b * _log_compute(N, D)


# A rise that can be seen: twice the standard deviation between seeds of a small language model, in nats per token.
VISIBLE_RISE = 0.01


def plateau(parameters: Parameters, rise: float = VISIBLE_RISE) -> Float[Array, ""]:
    """How many times larger or smaller than the best N a model may be until its loss has risen by `rise`."""
    return jnp.exp(jnp.sqrt(rise / parameters["q"]))


@law(
    "L = a - b log C + q (log N - log(k C^g))^2, C = 6 N D",
    like=compute_only,
    parameters=(
        *compute_only.parameters,
        Parameter("q", "identity", 0.0, 10.0, (0.01, 0.1), unit="L"),
        Parameter("k", "log", 1e-12, 1e12, (0.1, 1.0), unit="N N^-g D^-g"),
        Parameter("g", "identity", -1.0, 2.0, (0.3, 0.6)),
    ),
    source="a test of `compute_only` (arXiv 2404.19484): that law is q = 0",
    combinations=(
        Combination("q", lambda p: p["q"], 0.0),
        Combination("N/N* where L has risen by 0.01", plateau),
    ),
    alternatives=(),
)
def compute_only_curved(N, D, *, a, b, q, k, g):
    """`compute_only` with what refutes it: the curvature q of the loss in log N at a given compute.

    N* = k C^g is the best size for a budget. The law of arXiv 2404.19484 says q = 0, and then N* means nothing; a q
    whose interval lies above zero refutes it. By Besiroglu et al.'s constants at 1e19 FLOPs the loss is .034 nats above
    the lowest at twice the best N, and .138 at four times the best N.
    """
    off = N.log - jnp.log(k) - g * _log_compute(N, D)
    return a - b * _log_compute(N, D) + q * off**2


PF_DAY = 8.64e19  # FLOPs: 1e15 a second for a day

# Table 1 of Henighan et al. (arXiv 2010.14701), per kind of data: (L_inf, x0, alpha) of L = L_inf + (x0/x)^alpha, with
# x = N (without embeddings) and with x = compute (PF-days), L_inf in nats per token; and (C0, a) of the best size,
# N = (C/C0)^a. No errors are published. For the text half of image-text pairs only the loss in N was published.
HENIGHAN_TABLE = {
    "language": ((0.0, 1.47e14, 0.070), (0.0, 3.47e8, 0.048), (3.3e-13, 0.73)),
    "image 8x8": ((3.12, 8.0e1, 0.24), (3.13, 1.8e-8, 0.19), (5.3e-14, 0.64)),
    "image 16x16": ((2.64, 2.8e2, 0.22), (2.64, 1.6e-8, 0.16), (4.8e-12, 0.75)),
    "image 32x32": ((2.20, 6.3e1, 0.13), (2.21, 3.6e-9, 0.10), (1.6e-13, 0.65)),
    "image VQ 16x16": ((3.99, 2.7e4, 0.13), (4.09, 6.1e-7, 0.11), (6.2e-14, 0.64)),
    "image VQ 32x32": ((3.07, 1.9e4, 0.14), (3.17, 2.6e-6, 0.12), (9.4e-13, 0.70)),
    "text-to-image, text": ((0.0, 5.6e8, 0.037), None, None),
    "text-to-image, image": ((2.0, 5.1e3, 0.16), (1.93, 1.5e-6, 0.15), (None, 0.70)),
    "image-to-text, text": ((0.0, 7.0e8, 0.039), None, None),
    "image-to-text, image": ((2.0, 5.5e3, 0.15), (1.97, 1.5e-6, 0.16), (3.3e-12, 0.72)),
    "video VQ": ((1.01, 3.7e4, 0.24), (0.95, 2.2e-5, 0.14), (1.13e-12, 0.71)),
    "math": ((0.28, 1.1e4, 0.16), (0.14, 1.4e-5, 0.17), (2.3e-12, 0.69)),
}
IN_SIZE, IN_COMPUTE, BEST_SIZE = range(3)


def _published_cases(which: int, *names: str) -> tuple[dict[str, Any], ...]:
    """One of the three sets of constants, one row per kind of data that has it."""
    rows = {kind: sets[which] for kind, sets in HENIGHAN_TABLE.items()}
    return tuple({"modality": kind} | dict(zip(names, values, strict=True)) for kind, values in rows.items() if values)


def henighan_optimal_parameters(modality: str, pf_days: float) -> float:
    """Published compute-optimal N (without embeddings) at a budget in PF-days.

    Raises KeyError for an unknown kind of data, or one without both constants.
    """
    constants = HENIGHAN_TABLE[modality][BEST_SIZE]
    if constants is None or constants[0] is None:
        raise KeyError(f"no published optimum of {modality}")
    return (pf_days / constants[0]) ** constants[1]


def _henighan_parameters(x0: str, role: str) -> tuple[Parameter, ...]:
    return (
        floor("L_inf"),
        Parameter(x0, "log", 1e-80, 1e20, (1e-20, 1e-8, 1e-4, 1e-2, 1.0), unit=f"{role} L^1/alpha"),
        Parameter("alpha", "log", 0.01, 4.0, (0.05, 0.15, 0.4, 1.0)),
    )


@law(
    "L = L_inf + (N_c/N)^alpha",
    parameters=_henighan_parameters("N_c", "N"),
    source="Henighan et al. 2020 (arXiv 2010.14701), table 1, N_c published in parameters without embeddings",
    published_cases=_published_cases(IN_SIZE, "L_inf", "N_c", "alpha"),
)
def henighan_n(N, *, L_inf, N_c, alpha):
    """Loss of autoregressive models of many kinds of data, in parameters: L = L_inf + (N_c/N)^alpha.

    Henighan et al. (arXiv 2010.14701): the same form for images, video, mathematics and text pairs, L_inf being the
    entropy of the data and the second term the divergence from it. N without embeddings, L in nats per token; models
    are trained until more data do not matter. Published constants per kind of data: `isogap laws henighan_n`.
    """
    return L_inf + jnp.exp(alpha * (jnp.log(N_c) - N.log))


@law(
    "L = L_inf + (C_c/flops)^alpha",
    parameters=_henighan_parameters("C_c", "flops"),
    source="Henighan et al. 2020 (arXiv 2010.14701), table 1, C_c published in PF-days of 8.64e19 FLOPs",
    published_cases=_published_cases(IN_COMPUTE, "L_inf", "C_c", "alpha"),
)
def henighan_c(flops, *, L_inf, C_c, alpha):
    """Loss of autoregressive models of many kinds of data at the best use of compute: L = L_inf + (C_c/C)^alpha.

    Henighan et al. (arXiv 2010.14701). C is the role `flops`; the published constants (`isogap laws henighan_c`) are in
    PF-days of 8.64e19 FLOPs, L in nats per token. The floor in compute and the floor in parameters describe the same
    entropy: that they agree is a test (for mathematics they are published as .14 and .28).
    """
    return L_inf + jnp.exp(alpha * (jnp.log(C_c) - flops.log))


@law(
    "N = k flops^a",
    response="N",
    parameters=(
        Parameter("k", "log", 1e-8, 1e8, (1.0,), unit="N flops^-a"),
        exponent("a", (0.3, 0.5, 0.7, 1.0), low=-4.0),
    ),
    source="Henighan et al. 2020 (arXiv 2010.14701), table 1, as (C/C0)^a, C0 in PF-days of 8.64e19 FLOPs",
    objective="log_squares",
    linear=("k",),
    published_cases=_published_cases(BEST_SIZE, "C0", "a"),
)
def henighan_n_opt(flops, *, k, a):
    """Compute-optimal size as a power of compute: N = k C^a.

    N is the best model size at the budget C (role `flops`, training FLOPs), one row per budget. Henighan et al. (arXiv
    2010.14701) publish exponents of .64 to .75 for all kinds of data. All were measured with the same choices of
    training and counting; Porian et al. (arXiv 2406.19146) showed that other choices give about .50. `by_group` of this
    law asks whether kinds of data share one exponent.
    """
    return k * flops**a


HESTNESS = "form: Hestness et al. 2017 (arXiv 1712.00409); their exponents could not be checked and are not given here"


@law(
    "L = alpha D^beta + gamma",
    parameters=(
        coefficient("alpha", "L D^-beta"),
        Parameter("beta", "identity", -4.0, 0.0, tuple(-x for x in _EXPONENTS)),
        floor("gamma"),
    ),
    source=HESTNESS,
)
def hestness(D, *, alpha, beta, gamma):
    """Generalization error of the best model, in the size of the training set: L = alpha D^beta + gamma, beta < 0.

    Hestness et al. (arXiv 1712.00409). D is the number of training samples (m in the paper), L the validation loss or
    error of the best model size at that D, gamma the loss that more data do not remove. Changes of architecture move
    alpha and leave beta where it is: fit `by_group`. Below some D the model only guesses, and the law fails.
    """
    return gamma + alpha * D**beta


@law(
    "N = alpha D^beta",
    response="N",
    parameters=(
        Parameter("alpha", "log", 1e-8, 1e8, (1.0,), unit="N D^-beta"),
        exponent("beta", (0.3, 0.6, 1.0), low=-4.0),
    ),
    source=HESTNESS,
    objective="log_squares",
    linear=("alpha",),
)
def hestness_size(D, *, alpha, beta):
    """Size of the best model for a training set: N = alpha D^beta.

    Hestness et al. (arXiv 1712.00409): s(m), the parameters of the model that generalizes best from D samples, grows as
    a power below one, so that models grow more slowly than data. One row per training set, N the best size there.
    """
    return alpha * D**beta


@law(
    "L = (X0/X)^alpha",
    parameters=(
        Parameter("X0", "log", 1e-40, 1e40, (1.0,), unit="X L^1/alpha"),
        Parameter("alpha", "log", 1e-4, 4.0, (0.03, 0.1, 0.3)),
    ),
    source="Yao et al. 2024 (arXiv 2410.12360); form from memory, no constants published that could be checked",
    objective="log_squares",
)
def time_series(X, *, X0, alpha):
    """Loss of time-series foundation models on one axis: L = (X0/X)^alpha.

    Yao et al. (arXiv 2410.12360): X is parameters, tokens or compute (`--set X=...`), L the negative log likelihood or
    a percentage error, above zero. Fit losses in and out of distribution (`group`) and each architecture separately.
    The law has no floor. `harness.fit.shared.exponents` fits groups together and tests the ratio of their exponents.
    """
    return jnp.exp(alpha * (jnp.log(X0) - X.log))
