"""What the laws of Henighan et al. (arXiv 2010.14701) share: L = L_inf + (x0/x)^alpha, and its published constants."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws import _one_variable
from harness.fit.laws.law import Columns, Law, Parameter, Parameters, Scales

PF_DAY = 8.64e19  # FLOPs: 1e15 a second for a day


class Published(NamedTuple):
    """Constants of one modality: nats per token, N without embeddings, compute in PF-days; no errors are published.

    `n` and `c` are (L_inf, x0, alpha) of the loss in N and in compute; `optimum` is (C0, a) of N = (C/C0)^a.
    """

    n: tuple[float, float, float] | None
    c: tuple[float, float, float] | None
    optimum: tuple[float | None, float] | None


# Table 1 of the paper. Of text within pairs with images only the loss in N is given.
MODALITIES = {
    "language": Published((0.0, 1.47e14, 0.070), (0.0, 3.47e8, 0.048), (3.3e-13, 0.73)),
    "image 8x8": Published((3.12, 8.0e1, 0.24), (3.13, 1.8e-8, 0.19), (5.3e-14, 0.64)),
    "image 16x16": Published((2.64, 2.8e2, 0.22), (2.64, 1.6e-8, 0.16), (4.8e-12, 0.75)),
    "image 32x32": Published((2.20, 6.3e1, 0.13), (2.21, 3.6e-9, 0.10), (1.6e-13, 0.65)),
    "image VQ 16x16": Published((3.99, 2.7e4, 0.13), (4.09, 6.1e-7, 0.11), (6.2e-14, 0.64)),
    "image VQ 32x32": Published((3.07, 1.9e4, 0.14), (3.17, 2.6e-6, 0.12), (9.4e-13, 0.70)),
    "text-to-image, text": Published((0.0, 5.6e8, 0.037), None, None),
    "text-to-image, image": Published((2.0, 5.1e3, 0.16), (1.93, 1.5e-6, 0.15), (None, 0.70)),
    "image-to-text, text": Published((0.0, 7.0e8, 0.039), None, None),
    "image-to-text, image": Published((2.0, 5.5e3, 0.15), (1.97, 1.5e-6, 0.16), (3.3e-12, 0.72)),
    "video VQ": Published((1.01, 3.7e4, 0.24), (0.95, 2.2e-5, 0.14), (1.13e-12, 0.71)),
    "math": Published((0.28, 1.1e4, 0.16), (0.14, 1.4e-5, 0.17), (2.3e-12, 0.69)),
}


def optimal_parameters(modality: str, pf_days: float) -> float:
    """Published compute-optimal N (without embeddings) at a budget; the modality must have both constants."""
    published = MODALITIES[modality].optimum
    if published is None or published[0] is None:
        raise KeyError(f"no published optimum of {modality}")
    return (pf_days / published[0]) ** published[1]


def published(axis: str, x0: str) -> tuple[dict[str, Any], ...]:
    """The constants of one axis, a row a modality."""
    found = {name: getattr(constants, axis) for name, constants in MODALITIES.items()}
    return tuple(
        {"modality": name, "L_inf": values[0], x0: values[1], "alpha": values[2]}
        for name, values in found.items()
        if values is not None
    )


def law(law_id: str, role: str, x0: str, unit: str) -> Law:
    """The law on one axis."""

    def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
        p = parameters
        return p["L_inf"] + jnp.exp(p["alpha"] * (jnp.log(p[x0]) - jnp.log(columns[role])))

    def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
        p = dict(parameters)
        return p | {
            "L_inf": p["L_inf"] * scales["L"],
            x0: p[x0] * scales[role] * scales["L"] ** (1.0 / p["alpha"]),
        }

    return Law(
        id=law_id,
        formula=f"L = L_inf + ({x0}/{role})^alpha",
        response="L",
        parameters=(
            _one_variable.floor_parameter("L_inf"),
            Parameter(x0, "log", 1e-80, 1e20, (1e-20, 1e-8, 1e-4, 1e-2, 1.0)),
            Parameter("alpha", "log", 0.01, 4.0, (0.05, 0.15, 0.4, 1.0)),
        ),
        columns=(role,),
        predict=predict,
        source=f"Henighan et al. 2020 (arXiv 2010.14701), table 1, {x0} published in {unit}",
        objective="log_huber",
        linear=("L_inf",),
        rescale=rescale,
    )
