"""Routed language models: how experts saturate, which dense size equals a routed one, and where routing ends.

Clark et al. 2022 (arXiv 2202.01169). N is the number of parameters of the dense base model, E of experts per routed
layer.
"""

from typing import Any

import jax.numpy as jnp

from harness.fit.laws.law import Parameters


def saturated(experts_less_one: Any, parameters: Parameters) -> Any:
    """The saturating number of experts: E_start at E = 1 (a dense model), E_max for ever more of them."""
    p = parameters
    offset = 1.0 / (1.0 / p["E_start"] - 1.0 / p["E_max"])
    return 1.0 / (1.0 / (experts_less_one + offset) + 1.0 / p["E_max"])


def log10_loss(parameters: Parameters, log10_n: Any, log10_experts: Any) -> Any:
    """The bilinear form; `log10_experts` is of the saturated number."""
    p = parameters
    return p["a"] * log10_n + p["b"] * log10_experts + p["c"] * log10_n * log10_experts + p["d"]


def effective_parameters(parameters: Parameters, n: Any, experts: Any) -> Any:
    """The size of the dense model with the loss of a routed one (the paper's effective parameter count)."""
    p = parameters
    routed, dense = jnp.log10(saturated(experts - 1.0, p)), jnp.log10(p["E_start"])
    loss = log10_loss(p, jnp.log10(n), routed)
    return 10.0 ** ((loss - p["b"] * dense - p["d"]) / (p["a"] + p["c"] * dense))


def cutoff(parameters: Parameters) -> Any:
    """The size of the base model beyond which more experts no longer help: where b + c log10 N is 0."""
    return 10.0 ** (-parameters["b"] / parameters["c"])
