"""Annealing of the learning rate as Tissue et al. 2024 (arXiv 2408.11029) describe it: a loss at every step of a run.

L(s) = L0 + A S1^-alpha - C S2, with S1 the sum of the rate over the steps up to s, and S2 the sum over the steps of a
momentum m_i = 0.999 m_(i-1) + lr_(i-1) - lr_i. A row is a step of a run: `run` (its name), `step`, `lr` (the rate at
that step), `L` (nats per token). How rates between rows are taken, and the warm-up before the first row, is said in
`_schedule.py`; the warm-up counts in S1 and not in S2. One model size a fit. Whole runs are held out by a condition,
such as --holdout "schedule not in ['cosine_24000', 'constant_24000']": the schedule is read from all rows.

S2 is linear in the annealing and never ends: on a long constant tail after a decay the law predicts a gain without
bound. The decay of the momentum is the paper's largest; `lr_anneal_free` fits it.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from harness.fit.laws._schedule import annealed, summed_rates
from harness.fit.laws.law import Columns, Law, Parameter, Parameters

DECAY = 0.999

PARAMETERS = (
    Parameter("L0", "log", 1e-6, 100.0, (2.0,)),
    Parameter("A", "log", 1e-8, 1e6, (0.5,)),
    Parameter("alpha", "identity", 0.0, 4.0, (0.2, 0.5, 1.0)),
)


def derive(columns: Columns) -> dict[str, Float[np.ndarray, "rows"]]:
    return {
        "S1": summed_rates(columns),
        "S2": annealed(columns, np.array([DECAY]))[:, 0] / (1.0 - DECAY),
    }


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    p = parameters
    return p["L0"] + p["A"] * jnp.exp(-p["alpha"] * jnp.log(columns["S1"])) - p["C"] * columns["S2"]


LAW = Law(
    id="lr_anneal",
    formula="L = L0 + A S1^-alpha - C S2, momentum of S2 decaying by 0.999 a step",
    response="L",
    parameters=(*PARAMETERS, Parameter("C", "log", 1e-10, 1e6, (0.4,))),
    columns=("step", "lr"),
    predict=predict,
    source="form: Tissue et al. 2024 (arXiv 2408.11029); its constants were not checked against the paper",
    objective="log_huber",
    labels=("run",),
    signed=("step", "lr"),
    derive=derive,
    linear=("L0", "A", "C"),
    alternatives=("lr_anneal_free",),
)
