"""Counts the bytes that a training step and a decoded token move between memory and processor.

The accounting is that of a machine whose cache forgets at once. A product of matrices reads both factors and writes its
result; what is done element by element reads what it takes and writes what it gives. A backward pass moves twice as
much as the forward pass, as it makes two products of each and reads what it had kept. Compilers fuse some of this, and
caches hold some: the numbers order shapes by their memory traffic, as FLOPs order them by their arithmetic.

Inbar and Sernau (arXiv 2406.18922) predict step times by memory copies. Which they count could not be checked, so this
is our count, not theirs.
"""

from dataclasses import dataclass
from typing import Literal

from models.config import ModelConfig, MoEConfig
from models.count import count

# How often an update reads or writes an array of the size of the parameters: AdamW reads gradient, parameter and two
# moments and writes the last three; SGD has one moment; Muon has one, too, and reads or writes its matrices 7 times in
# each of 5 steps of Newton and Schulz, and 3 times to normalise them. One more read is for the norm of the gradient.
UPDATES = {"adamw": 8, "sgd": 6, "muon": 44}


@dataclass(frozen=True)
class Traffic:
    """Bytes moved, read or written.

    Attributes:
        parameters: of the parameters, their gradients and the optimizer's moments.
        activations: of what has a size per position: the features of all layers, and the logits.
        scores: of what has a size per pair of positions: attention's scores and weights.
        cache: of keys, values and router scores of earlier positions.
    """

    parameters: float
    activations: float
    scores: float
    cache: float = 0.0

    @property
    def total(self) -> float:
        """All bytes."""
        return self.parameters + self.activations + self.scores + self.cache


def step_traffic(
    config: ModelConfig,
    batch: int,
    *,
    optimizer: Literal["adamw", "sgd", "muon"] = "adamw",
    turns: int = 1,
    parameter_bytes: int = 4,
    activation_bytes: int = 4,
) -> Traffic:
    """The bytes of a training step on `batch` sequences of the model's context.

    Args:
        turns: the number of micro-batches whose gradients are added up, each of which reads the parameters and writes
            a gradient.
        parameter_bytes, activation_bytes: bytes of a number.
    """
    rows = batch * config.positions
    sizes = count(config)
    # The forward pass reads the matrices; the backward pass reads them again and writes their gradients.
    passes = turns * (2 * _parameters_read(config, rows / turns) + sizes.trainable)
    sums = 3 * turns * sizes.trainable if turns > 1 else 0
    parameters = passes + sums + UPDATES[optimizer] * sizes.trainable
    return Traffic(
        parameters=parameter_bytes * parameters,
        activations=activation_bytes * 3 * rows * _features(config),
        scores=activation_bytes * 3 * rows * _scores(config, config.positions),
    )


def decode_traffic(
    config: ModelConfig, batch: int, slots: int, *, parameter_bytes: int = 4, activation_bytes: int = 4
) -> Traffic:
    """The bytes of decoding one token of each of `batch` sequences.

    Args:
        slots: positions for which the cache has room; all are read, used or not (`models.decode`).
        parameter_bytes, activation_bytes: bytes of a number.
    """
    chosen = config.moe.experts if config.moe and config.moe.routing == "expert_choice" else 0
    mixtures = sum(config.is_moe_layer(layer) for layer in range(config.depth))
    kept = 2 * config.width * config.depth + chosen * mixtures
    return Traffic(
        parameters=parameter_bytes * _parameters_read(config, batch),
        activations=activation_bytes * batch * _features(config),
        scores=activation_bytes * batch * _scores(config, slots),
        cache=activation_bytes * batch * kept * (slots + 1),
    )


def _parameters_read(config: ModelConfig, rows: float) -> float:
    """The parameters that a forward pass over some rows reads: all but the experts that no row visits."""
    sizes, moe = count(config), config.moe
    # Of an untied embedding only the lines of the rows' own tokens are read.
    read = sizes.total - (0 if config.tied else sizes.embedding)
    if moe is None or moe.experts == moe.experts_per_token:
        return read
    expert = (sizes.total - sizes.active) / (moe.experts - moe.experts_per_token)  # one of every mixture layer
    return read - expert * (moe.experts - experts_visited(moe, rows))


def experts_visited(moe: MoEConfig, rows: float) -> float:
    """The mean number of a mixture's experts that some rows visit, if each row visits k of E alike: E (1-(1-k/E)^n)."""
    return moe.experts * (1 - (1 - moe.experts_per_token / moe.experts) ** rows)


def _features(config: ModelConfig) -> float:
    """Numbers that a forward pass moves for each position, but for those of pairs of positions."""
    patch = config.aim.patch
    width, gates = config.width, 2 if config.activation == "swiglu" else 1
    norms = 2 * (1 if config.block == "parallel" else 2)
    # Queries, keys and values, two of them turned; the two products of attention; its output; two sums to the residual.
    attention = 6 + 4 + (4 if config.qk_norm else 0) + 4 + 2 + 6
    block = (norms + attention) * width

    def feed_forward(hidden: float, visits: int) -> float:
        """In and out of each matrix, and of the nonlinearity."""
        return gates * (visits * width + hidden) + (gates + 1) * hidden + hidden + visits * width

    total = 0.0
    for layer in range(config.depth):
        moe = config.moe if config.is_moe_layer(layer) else None
        if moe is None:
            total += block + feed_forward(config.ffn_width, 1)
            continue
        visits = moe.experts_per_token
        total += block + (0 if moe.routing == "hash" else width + 3 * moe.experts)  # the router and its softmax
        total += feed_forward(visits * moe.expert_width, visits) + 3 * visits * width + width  # to the experts and back
        if moe.shared_experts:
            total += feed_forward(moe.shared_experts * moe.expert_width, 1) + 2 * width
    # The embedding's rows and their sum; the last norm; the logits of each token, and the pass over them.
    return total + (patch + 1) * width + 2 * width + patch * (width + 2 * config.vocab)


def _scores(config: ModelConfig, keys: int) -> float:
    """Numbers that a forward pass moves for each position and its keys: scores written, softmax, weights read."""
    return 4 * config.heads * keys * config.depth
