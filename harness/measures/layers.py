"""How diverse the hidden features of each layer are, what its attention does, and how evenly its router loads experts.

The features are the residual stream after each block, at two positions of each held-out window: the middle and the
last one. Their energy is that of points on the unit sphere that repel each other, which is low where features are
diverse; their effective rank is the number of directions that they fill. Of attention the mean entropy of a position's
weights over the heads is told, and how far back it looks in the mean. Layers are numbered from 1.
"""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Int32

from harness.data.mixture import Mixture
from harness.measures.declared import Measure
from models.compute import Compute
from models.config import ModelConfig
from models.decode import TrainedModel
from models.intervention import Tap
from models.transformer import build_model, token_losses
from sweeps.config import RunConfig

# The most windows whose features are compared: the distances of all pairs of features are computed.
MOST_WINDOWS = 256
# The most windows whose attention is looked at: the weights of all pairs of positions are computed.
ATTENTION_WINDOWS = 16
# Features that are nearer than this on the unit sphere count as so near: equal ones would have an infinite energy.
NEAREST = 1e-3


def sphere_energy(features: Float[Array, "n width"]) -> Float[Array, ""]:
    """The mean over all pairs of 1 over their distance, after each feature was scaled to length 1.

    It is the hyperspherical energy with s = 1 (Liu et al. 2018, "Learning towards minimum hyperspherical energy") over
    the number of pairs. Independent uniform points on a sphere of many dimensions have about 0.71.
    """
    unit = features / jnp.linalg.norm(features, axis=1, keepdims=True)
    square = jnp.maximum(2.0 - 2.0 * unit @ unit.T, NEAREST**2)
    count = features.shape[0]
    return jnp.where(jnp.eye(count, dtype=jnp.bool_), 0.0, square**-0.5).sum() / (count * (count - 1))


def effective_rank(features: Float[Array, "n width"]) -> Float[Array, ""]:
    """The exponential of the entropy of the shares of the variance along the principal directions.

    The source is Roy and Vetterli 2007, "The effective rank", applied to the covariance of the features.
    """
    centred = features - features.mean(0)
    variance = jnp.linalg.svd(centred, compute_uv=False) ** 2
    share = variance / variance.sum()
    return jnp.exp(-(share * jnp.log(jnp.maximum(share, 1e-30))).sum())


@functools.partial(jax.jit, static_argnums=(0, 4))
def _statistics(
    config: ModelConfig, params: nnx.State, biases: nnx.State, windows: Int[Array, "W T+1"], tap: Tap
) -> tuple[Float[Array, " depth"], Float[Array, " depth"], list[Float[Array, ""]]]:
    """(Energy and effective rank of each block's features, the variation of the loads of each mixture layer)."""
    outputs: list[Float[Array, "W T width"]] = []

    def collect(place, activations):
        activations = tap(place, activations)
        if place == "block_out":
            outputs.append(activations.reshape(windows.shape[0], -1, config.width))
        return activations

    _, _, loads = token_losses(config, params, biases, windows, training=False, compute=Compute(), tap=collect)
    energies, ranks = [], []
    for output in outputs:
        positions = output.shape[1]
        features = output[:, jnp.asarray([positions // 2, positions - 1])].reshape(-1, config.width)
        energies.append(sphere_energy(features))
        ranks.append(effective_rank(features))
    variations = [load.std() / jnp.maximum(load.mean(), 1e-9) for load in loads]
    return jnp.stack(energies), jnp.stack(ranks), variations


@functools.partial(jax.jit, static_argnums=(0, 4))
def _attention(
    config: ModelConfig, params: nnx.State, biases: nnx.State, windows: Int[Array, "W T+1"], tap: Tap
) -> tuple[Float[Array, " depth"], Float[Array, " depth"]]:
    """(Mean entropy of the weights of attention in nats, mean distance in positions) of each layer."""
    inputs: list[Float[Array, "n width"]] = []
    begun = False

    def collect(place, activations):
        nonlocal begun
        activations = tap(place, activations)
        if place == "branch_in" and begun:  # the first one of a block goes into attention
            inputs.append(activations)
        begun = place == "block_in"
        return activations

    token_losses(config, params, biases, windows, training=False, compute=Compute(), tap=collect)
    blocks = build_model(config, params, biases, Compute()).blocks
    entropies, distances = [], []
    for block, x in zip(blocks, inputs, strict=True):
        weights = block.attention.weights(x, windows.shape[0])
        place = jnp.arange(weights.shape[1], dtype=jnp.float32)
        apart = jnp.abs(place[:, None] - place[None])
        entropies.append(-(weights * jnp.log(jnp.maximum(weights, 1e-30))).sum(-1).mean())
        distances.append((weights * apart).sum(-1).mean())
    return jnp.stack(entropies), jnp.stack(distances)


def measure_layers(
    run: RunConfig, text: Mixture, heldout: Int32[np.ndarray, "W T+1"], model: TrainedModel
) -> Mapping[str, float]:
    """The columns of each layer L: `feature_energy_L`, `feature_rank_L`, `attention_entropy_L` in nats and
    `attention_distance_L` in positions; and of each mixture layer `router_load_cv_L`.
    """
    config, params, biases, tap = model
    energies, ranks, variations = _statistics(config, params, biases, jnp.asarray(heldout[:MOST_WINDOWS]), tap)
    entropies, distances = _attention(config, params, biases, jnp.asarray(heldout[:ATTENTION_WINDOWS]), tap)
    numbers = range(1, config.depth + 1)
    mixtures = [layer for layer in numbers if config.is_moe_layer(layer - 1)]
    of_layers = (
        ("feature_energy", energies, numbers), ("feature_rank", ranks, numbers),
        ("attention_entropy", entropies, numbers), ("attention_distance", distances, numbers),
    )  # fmt: skip
    return {
        f"{name}_{layer}": float(value)
        for name, values, places in (*of_layers, ("router_load_cv", variations, mixtures))
        for layer, value in zip(places, values, strict=True)
    }


LAYERS = Measure(measure_layers)
