"""`aspect_ratio` with one exponent for parameters, tokens and shape, as its authors fit it (arXiv 2501.18107)."""

from dataclasses import replace

from jaxtyping import Array, Float

from harness.fit.laws import aspect_ratio
from harness.fit.laws.law import Columns, Parameters, Scales


def _free(parameters: Parameters) -> dict:
    return dict(parameters) | {"beta": parameters["alpha"], "gamma": parameters["alpha"]}


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    return aspect_ratio.predict(_free(parameters), columns)


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    raw = aspect_ratio.rescale(_free(parameters), scales)
    return {name: raw[name] for name in parameters}


LAW = replace(
    aspect_ratio.LAW,
    id="aspect_ratio_tied",
    formula="L = (E + A/N^alpha + B/D^alpha) (1 + eps R^alpha), R = w/d",
    parameters=tuple(p for p in aspect_ratio.LAW.parameters if p.name not in ("beta", "gamma")),
    predict=predict,
    source="Scaling Inference-Efficient Language Models (arXiv 2501.18107); tied exponents from a secondary source",
    rescale=rescale,
)
