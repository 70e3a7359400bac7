"""Steps against examples at one target loss, McCandlish et al. 2018: (S/S_min - 1)(E/E_min - 1) = 1.

Rows: `step` (steps to the target), `B` (batch, in sequences or tokens); E = B S is counted in the unit of B. Along the
ray of one batch the trade-off is S = S_min + E_min/B, so that errors of S, which are errors of E too, count on both
sides alike. B_crit = E_min/S_min. The same curve as `cbs_steps`, in the constants of Kaplan et al. 2020 (arXiv
2001.08361) and Bergsma et al. 2025 (arXiv 2505.13738, where E are tokens, D).
"""

from dataclasses import replace

from jaxtyping import Array, Float

from harness.fit.laws import cbs_steps
from harness.fit.laws.law import Columns, Combination, Parameter, Parameters, Scales


def _renamed(parameters: Parameters) -> Parameters:
    return {"a": parameters["S_min"], "b": parameters["E_min"]}


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    return cbs_steps.predict(_renamed(parameters), columns)


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    raw = cbs_steps.rescale(_renamed(parameters), scales)
    return dict(parameters) | {"S_min": raw["a"], "E_min": raw["b"]}


LAW = replace(
    cbs_steps.LAW,
    id="es_tradeoff",
    formula="(step/S_min - 1)(E/E_min - 1) = 1 with E = B step, which is step = S_min + E_min/B",
    parameters=(
        Parameter("S_min", "log", 1e-8, 1e4, (0.5,)),
        Parameter("E_min", "log", 1e-8, 1e4, (0.5,)),
    ),
    predict=predict,
    source="form: McCandlish et al. 2018 (arXiv 1812.06162), used by Kaplan et al. 2020 (arXiv 2001.08361)",
    linear=("S_min", "E_min"),
    rescale=rescale,
    combinations=(Combination("B_crit", lambda p: p["E_min"] / p["S_min"]),),
)
