"""Strict dtypes and ranks for every test of the models, tiny members of the family, and a plain numpy transformer.

The plain transformer is written from the papers' formulas, loops over heads, queries, tokens and experts, computes in
float64 and shares nothing with `models` but the names of the parameters, and how keys are made for what is drawn.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.optimize import linear_sum_assignment

from models.compute import Compute
from models.config import ModelConfig, TrainingObjective, make_config
from models.moe import MixtureOfExperts
from models.transformer import init, logits, token_losses

# What training draws with.
KEY = 7


@pytest.fixture(autouse=True, scope="module")
def strict(hurried_module):
    """No silent promotion of dtypes or ranks."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def filled(shapes, seed: int):
    """Random values for a tree of shapes, without compiling a draw: norm scales about 1, matrices by their fan-in."""
    rng = np.random.default_rng(seed)

    def leaf(path, shape):
        name, draw = jax.tree_util.keystr(path), rng.normal(size=shape.shape)
        if "scale" in name:
            draw = 1 + 0.2 * draw
        elif "bias" in name:
            draw = 0.1 * draw
        elif "baseline" in name:
            draw = 0.02 * draw
        elif "embedding" in name or "head" in name:
            draw = 0.3 * draw
        else:
            draw = draw / math.sqrt(shape.shape[-2])
        return jnp.asarray(draw, jnp.float32)

    return jax.tree_util.tree_map_with_path(leaf, shapes)


@dataclasses.dataclass(frozen=True)
class Tiny:
    """A member of the family, 3 sequences of 20 tokens, and its compiled programs.

    Attributes:
        objective: (params, biases, tokens, compute) -> (mean loss and auxiliary losses, (losses, stats, loads)); what
            lets a router learn by reinforcement is not in it.
        train: (params, biases, tokens) -> the objective and its gradient, in float32.
        evaluate: (params, biases, tokens) -> logits of the inputs, in evaluation mode.
    """

    config: ModelConfig
    params: nnx.State
    biases: nnx.State
    tokens: jax.Array
    objective: Callable
    train: Callable
    evaluate: Callable


def tiny_config(architecture: str, balance_weight: float | None = None, **options) -> ModelConfig:
    """One layer of width 16, or two; capacities small enough that tokens are dropped."""
    depth = 1 if architecture in ("parallel", "expert_choice", "fine_grained_shared") else 2
    sizes: dict[str, Any] = {
        "vocab": 17,
        "context": 20,
        "width": 16,
        "depth": depth,
        "heads": 2,
        "ffn_width": 16,
        "experts": 4,
    }
    config = make_config(architecture, **sizes | options)
    if config.moe is not None and balance_weight is not None:
        config = dataclasses.replace(config, moe=dataclasses.replace(config.moe, balance_weight=balance_weight))
    if config.moe is None or config.moe.capacity_factor in (None, 1.0):
        return config
    return dataclasses.replace(
        config, moe=dataclasses.replace(config.moe, capacity_factor=0.75, eval_capacity_factor=1.0)
    )


@pytest.fixture(scope="session")
def tiny():
    """tiny(architecture, balance_weight, **options of make_config) -> Tiny, each compiled once a session."""

    @functools.cache
    def build(architecture: str, **options) -> Tiny:
        config = tiny_config(architecture, **options)
        params, biases = filled(jax.eval_shape(lambda key: init(config, key), jax.random.key(0)), 1)
        tokens = jnp.asarray(np.random.default_rng(2).integers(0, config.vocab, (3, 21)), jnp.int32)

        def objective(params, biases, tokens, compute):
            losses, stats, loads = token_losses(
                config, params, biases, tokens, training=True, compute=compute, key=jax.random.key(KEY)
            )
            return losses.mean() + stats.aux_loss, (losses, stats, loads)

        @jax.jit
        def train(params, biases, tokens):
            return jax.value_and_grad(objective, has_aux=True)(params, biases, tokens, Compute())

        def evaluate(params, biases, tokens):
            return logits(config, params, biases, tokens[:, :-1], compute=Compute())

        return Tiny(config, params, biases, tokens, objective, train, jax.jit(evaluate))

    return build


@pytest.fixture(scope="session")
def moe_layer():
    """moe_layer(config, seed) -> (state, apply): a mixture layer; apply(state, x, batch, training), the last two
    static. The rows have the ids 0, 1, ... and draw with KEY."""

    @functools.cache
    def build(config: ModelConfig, seed: int):
        graph, shapes = nnx.split(nnx.eval_shape(lambda: MixtureOfExperts(config)))
        apply = jax.jit(
            lambda state, x, batch, training: nnx.merge(graph, state)(
                x, batch, training, Compute(experts="batched"), jnp.arange(len(x)), jax.random.key(KEY)
            ),
            static_argnums=(2, 3),
        )
        return filled(shapes, seed), apply

    return build


@pytest.fixture(scope="session")
def plain():
    """The plain implementation: attention, feed_forward, mixture, logits."""
    return SimpleNamespace(
        attention=plain_attention, feed_forward=plain_feed_forward, mixture=plain_mixture, logits=plain_logits
    )


def _softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _layer_norm(x, scale):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * scale


def _turned(x, base):
    """Rotary positions as complex numbers: x [time, head]."""
    half = x.shape[1] // 2
    angle = np.arange(len(x))[:, None] * base ** (-np.arange(half) / half)
    z = (x[:, :half] + 1j * x[:, half:]) * np.exp(1j * angle)
    return np.concatenate([z.real, z.imag], 1)


def plain_attention(config: ModelConfig, weights: dict, x: np.ndarray) -> np.ndarray:
    """x [time, width]: one sequence, head by head and query by query."""
    both_ways = config.objective is not None and config.objective.kind == "masked"
    size = config.width // config.heads
    out = np.zeros_like(x)
    for head in range(config.heads):
        columns = slice(head * size, (head + 1) * size)
        q, k, v = (x @ weights[name][:, columns] for name in ("query", "key", "value"))
        if config.qk_norm:
            q, k = (
                z / np.sqrt((z**2).mean(-1, keepdims=True) + 1e-5) * scale
                for z, scale in ((q, weights["query_scale"]), (k, weights["key_scale"]))
            )
        q, k = _turned(q, config.rope_base), _turned(k, config.rope_base)
        for t in range(len(x)):
            divisor = math.sqrt(size) if config.base is None else size / math.sqrt(config.base.head_width)
            seen = len(x) if both_ways else t + 1
            out[t, columns] = _softmax(k[:seen] @ q[t] / divisor) @ v[:seen]
    return out @ weights["out"]


def plain_feed_forward(x, up, down, gate=None):
    hidden = x @ up
    if gate is not None:
        z = x @ gate
        return (z / (1 + np.exp(-z)) * hidden) @ down
    return (0.5 * hidden * (1 + np.tanh(math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3)))) @ down


def plain_assignment(h: np.ndarray) -> np.ndarray:
    """The balanced assignment of the rows of h [n, experts] with the largest sum of logits, as a linear assignment to
    n places: as many of each expert as it must have, which are preferred to the one more that it may have."""
    n, experts = h.shape
    places = np.tile(np.arange(experts), n // experts + (n % experts > 0))
    bonus = np.where(np.arange(len(places)) < experts * (n // experts), 10 * np.ptp(h) + 1, 0)
    rows, chosen = linear_sum_assignment(h[:, places] + bonus[None], maximize=True)
    assert (rows == np.arange(n)).all()
    return places[chosen]


def plain_mixture(
    config: ModelConfig, weights: dict, x: np.ndarray, batch: int, training: bool, ids=None, key=None
) -> SimpleNamespace:
    """A mixture layer, token by token. Rows of x [n, width] are in (sequence, position) order.

    A router that draws does so with the key, by default KEY; the ids of rows are 0, 1, ... by default.
    """
    moe = config.moe
    assert moe is not None
    n, time, k, experts = len(x), len(x) // batch, moe.experts_per_token, moe.experts
    h = x @ weights["router"] if "router" in weights else np.zeros((n, experts))
    p = _softmax(h)
    s = 1 / (1 + np.exp(-h))
    ids = np.arange(n) if ids is None else ids
    if moe.routing == "balanced":
        assigned = plain_assignment(h) if training else h.argmax(1)
    elif moe.routing == "reinforce":
        key = jax.random.key(KEY) if key is None else key
        assigned = np.asarray(jax.random.categorical(key, jnp.asarray(h, jnp.float32))) if training else h.argmax(1)
    wants: list[list[tuple[int, float]]] = []  # (expert, gate) of each row, best first
    for row in range(n):
        if moe.routing == "hash":
            wants.append([(int(ids[row]) * 0x9E3779B9 % 2**32 // 2**16 * experts // 2**16, 1.0)])
        elif moe.routing == "reinforce":
            wants.append([(int(assigned[row]), 1.0)])
        elif moe.routing == "balanced":
            wants.append([(int(assigned[row]), p[row, assigned[row]])])
        elif moe.routing == "switch_top1":
            wants.append([(int(p[row].argmax()), p[row].max())])
        elif moe.routing == "top2":
            first, second = np.argsort(-p[row])[:2]
            both = p[row, first] + p[row, second]
            wants.append([(first, p[row, first] / both), (second, p[row, second] / both)])
        elif moe.routing == "fine_grained_shared":
            chosen = np.argsort(-(s[row] + weights["bias"]))[:k]
            wants.append([(e, s[row, e] / s[row, chosen].sum()) for e in chosen])
        else:
            start, t = row - row % time, row % time
            higher = [(p[start:row, e] > p[row, e]).sum() for e in range(experts)]
            wants.append([(e, p[row, e]) for e in range(experts) if higher[e] < k / experts * (t + 1)])
    factor = moe.capacity_factor if training else moe.eval_capacity_factor
    room = np.full(experts, n * experts if factor is None else math.ceil(factor * k * n / experts))
    load, kept, y = np.zeros(experts), np.zeros((n, experts), bool), np.zeros_like(x)
    stack = [weights["experts"][name] for name in ("up", "down", "gate") if name in weights["experts"]]
    for t in range(time):
        for sequence in range(batch):
            row = sequence * time + t
            for e, gate in wants[row]:
                load[e] += 1
                if room[e] > 0:
                    room[e] -= 1
                    kept[row, e] = True
                    y[row] += gate * plain_feed_forward(x[row], *(w[e] for w in stack))
    if moe.shared_experts:
        y += plain_feed_forward(
            x, *(weights["shared"][name] for name in ("up", "down", "gate") if name in weights["shared"])
        )
    wanted = np.zeros((n, experts), bool)
    for row, want in enumerate(wants):
        wanted[row, [e for e, _ in want]] = True
    if moe.routing == "fine_grained_shared":
        p = s / s.sum(-1, keepdims=True)
        f, mean_p = (z.reshape(batch, time, experts).mean(1) for z in (wanted / k, p))
        balance = np.mean([experts * (f[b] * mean_p[b]).sum() for b in range(batch)])
    elif moe.routing == "expert_choice":
        balance = 1.0
    else:
        first = np.bincount([want[0][0] for want in wants], minlength=experts) / n
        balance = experts * (first * p.mean(0)).sum()
    z_loss = np.mean(np.log(np.exp(h).sum(-1)) ** 2)
    return SimpleNamespace(
        y=y,
        wanted=wanted,
        kept=kept,
        load=load,
        dropped=1 - kept.sum() / load.sum(),
        loss=moe.balance_weight * balance + moe.z_weight * z_loss,
        entropy=-(p * np.log(p)).sum(-1).mean() if "router" in weights else 0.0,
    )


def plain_logits(config: ModelConfig, params: nnx.State, biases: nnx.State, tokens, training: bool):
    """(logits [batch, time, vocab] for what the model sees, the reports of the mixture layers)."""
    aim, tokens = config.objective or TrainingObjective(), np.asarray(tokens)
    tree, bias = (jax.tree.map(lambda a: np.asarray(a, np.float64), nnx.to_pure_dict(z)) for z in (params, biases))
    batch, time = tokens.shape
    branch, output = (config.base.depth / config.depth, config.base.width / config.width) if config.base else (1, 1)
    tables = np.split(tree["embedding"], aim.patch)
    x = np.sum([table[tokens[:, place :: aim.patch]] for place, table in enumerate(tables)], axis=0)
    x = x.reshape(-1, config.width)
    powers = [31 ** (aim.patch - 1 - place) for place in range(aim.patch)]
    ids = np.sum([tokens[:, place :: aim.patch] * power for place, power in enumerate(powers)], axis=0).reshape(-1)
    reports = []
    for layer in range(config.depth):
        block = tree["blocks"][layer]
        normed = _layer_norm(x, block["norm"]["scale"])
        heads = [plain_attention(config, block["attention"], z) for z in np.split(normed, batch)]
        mixed = branch * np.concatenate(heads)
        if config.block == "sequential":
            normed = _layer_norm(x + mixed, block["ffn_norm"]["scale"])
        if config.is_moe_layer(layer):
            selection = bias["blocks"][layer]["moe"] if bias else {}
            own = jax.random.fold_in(jax.random.key(KEY), 2**16 + layer)
            reports.append(plain_mixture(config, block["moe"] | selection, normed, batch, training, ids, own))
            y = reports[-1].y
        else:
            y = plain_feed_forward(
                normed, *(block["ffn"][name] for name in ("up", "down", "gate") if name in block["ffn"])
            )
        x = x + mixed + branch * y
    heads = [table[: config.vocab] for table in (tables if config.tied else np.split(tree["head"], aim.patch))]
    final = output * _layer_norm(x, tree["norm"]["scale"])
    return np.stack([final @ head.T for head in heads], 1).reshape(batch, time, config.vocab), reports
