"""CompleteP against its table: updates written out in numpy, sizes of activations over widths and depths, its base."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from harness.train.optimizer import hyper_of, init_moments, transform
from harness.train.step import TrainState, new_state, train_turn
from models.complete_p import Multipliers, multipliers
from models.compute import Compute
from models.config import ARCHITECTURES, BaseSize, ModelConfig, make_config
from models.intervention import no_tap
from models.moe import SelectionBias
from models.transformer import Transformer, init, logits
from sweeps.config import DataConfig, OptimizerConfig, RunConfig
from sweeps.shape import Shape

BASE = BaseSize(32, 2, 8)
VOCAB, CONTEXT, STEPS = 64, 16, 8


def model_of(width: int, depth: int, base: BaseSize | None, architecture: str = "dense") -> ModelConfig:
    return make_config(
        architecture, vocab=VOCAB, context=CONTEXT, width=width, depth=depth, heads=width // 8, base=base, tied=False
    )


def run_of(model: ModelConfig, **optimizer) -> RunConfig:
    data = DataConfig(domain="", tokenizer="bytes", unique_tokens=1000)
    return RunConfig(model=model, data=data, optimizer=OptimizerConfig(**optimizer), steps=STEPS, batch=4)


def trained(model: ModelConfig, seed: int) -> tuple[TrainState, TrainState]:
    """The state before and after eight steps at the rate 0.01 on random tokens, the same for all models."""
    shape = Shape(model, 4, False, "adamw", 4)
    hyper = jax.tree.map(jnp.asarray, hyper_of(run_of(model, lr=0.01), 1))
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, VOCAB, (STEPS, 4, CONTEXT + 1)), jnp.int32)

    @jax.jit
    def train(seed):
        before = new_state(shape, hyper._replace(seed=seed))
        turn = functools.partial(train_turn, shape, Compute())
        return before, jax.lax.scan(lambda state, batch: turn(state, hyper, batch), before, tokens)[0]

    return train(jnp.uint32(seed))


def moved(model: ModelConfig) -> float:
    """How far the logits of some tokens move in these steps, root mean square."""
    before, after = trained(model, 1)
    tokens = jnp.asarray(np.random.default_rng(1).integers(0, VOCAB, (4, CONTEXT)), jnp.int32)
    scores = jax.jit(lambda state: logits(model, state.params, state.biases, tokens, compute=Compute()))
    return float(jnp.sqrt(jnp.mean((scores(after) - scores(before)) ** 2)))


@pytest.mark.slow
def test_the_steps_of_logits_do_not_depend_on_the_width(hurried):
    # The coordinate check of Yang et al. (2022): at one rate, the sizes of activations after some steps.
    narrow = moved(model_of(32, 1, None))
    assert moved(model_of(256, 1, BaseSize(32, 1, 8))) == pytest.approx(narrow, rel=0.3)
    assert moved(model_of(256, 1, None)) > 2.5 * narrow


@pytest.mark.slow
def test_the_steps_of_the_residual_stream_do_not_depend_on_the_depth(hurried):
    tokens = jnp.asarray(np.random.default_rng(1).integers(0, VOCAB, (4, CONTEXT)), jnp.int32)

    def step_of_stream(model: ModelConfig) -> float:
        @jax.jit
        def stream(state):
            graph, *_ = nnx.split(Transformer(model), nnx.Param, SelectionBias)
            module = nnx.merge(graph, state.params, state.biases)
            x = module.embed(tokens)
            for block in module.blocks:
                x, _ = block(x, 4, False, Compute(), no_tap)
            return x

        before, after = trained(model, 1)
        return float(jnp.sqrt(jnp.mean((stream(after) - stream(before)) ** 2)))

    shallow = step_of_stream(model_of(32, 2, None))
    assert step_of_stream(model_of(32, 8, BASE)) == pytest.approx(shallow, rel=0.3)
    assert step_of_stream(model_of(32, 8, None)) > 3 * shallow


@pytest.mark.slow
def test_at_the_base_it_is_the_standard_model_to_the_bit(hurried):
    standard, complete = (trained(model_of(32, 1, base), 3)[1] for base in (None, BaseSize(32, 1, 8)))
    for one, other in zip(jax.tree.leaves(standard.params), jax.tree.leaves(complete.params), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_parameter_has_the_factors_of_the_table(architecture):
    model = model_of(128, 8, BASE, architecture)  # four times as wide and as deep as the base
    params, _ = jax.eval_shape(lambda key: init(model, key), jax.random.key(0))
    found = jax.tree.leaves(multipliers(model, params), is_leaf=lambda node: isinstance(node, Multipliers))
    seen = set()
    for (path, _), own in zip(jax.tree_util.tree_leaves_with_path(params), found, strict=True):
        name = jax.tree_util.keystr(path)
        kind = next(kind for kind in ("router", "baseline", "embedding", "head", "scale", "") if kind in name)
        expected = {"router": (1 / 4, 1 / 4), "embedding": (1, 1 / 4), "head": (1, 1 / 4), "": (1 / 4, 1 / 16)}
        expected["baseline"] = expected["router"]
        expected["scale"] = (1, 1 / 16) if "blocks" in name else (1, 1 / 4)
        assert own == expected[kind], name
        seen.add(kind)
    routers = {"router"} if model.moe and architecture != "hash" else set()
    assert seen - {"baseline"} == {"embedding", "head", "scale", ""} | routers
    assert ("baseline" in seen) == (architecture == "reinforce")
    assert multipliers(model_of(128, 8, None, architecture), params) is None


def test_initial_values_have_the_spreads_of_the_table():
    model = model_of(128, 8, BASE, "top2")
    params, _ = init(model, jax.random.key(0))
    block = nnx.to_pure_dict(params)["blocks"][0]
    spreads = {
        "query": 128**-0.5, "out": (2 * 2 * 128) ** -0.5, "up": 128**-0.5, "down": (2 * 2 * 256) ** -0.5,
        "router": 32**0.5 / 128,
    }  # fmt: skip
    tree = block["attention"] | block["moe"]["experts"] | {"router": block["moe"]["router"]}
    for name, spread in spreads.items():
        assert float(jnp.std(tree[name])) == pytest.approx(spread, rel=0.1), name


def test_updates_are_those_of_adamw_with_a_rate_and_an_epsilon_of_each_parameter():
    rng = np.random.default_rng(4)
    shapes = {"matrix": (3, 4), "table": (5, 2), "scale": (6,)}
    factors = {"matrix": Multipliers(0.25, 1 / 16), "table": Multipliers(1.0, 0.25), "scale": Multipliers(1.0, 1 / 16)}
    params = {name: rng.normal(size=size) for name, size in shapes.items()}
    lr, decay, b1, b2, eps = 0.02, 0.3, 0.9, 0.95, 0.05  # an epsilon that matters
    config = run_of(model_of(32, 1, None), lr=lr, weight_decay=decay, beta1=b1, beta2=b2, eps=eps, clip=1e9)
    hyper = jax.tree.map(jnp.asarray, hyper_of(config, 1))
    got = jax.tree.map(jnp.float32, params)
    moments = init_moments("adamw", got, factors)  # pyright: ignore[reportArgumentType]
    update = transform("adamw", hyper, lr, factors)
    first, second = ({name: np.zeros(size) for name, size in shapes.items()} for _ in range(2))
    for step in range(5):
        gradient = {name: 0.1 * rng.normal(size=size) for name, size in shapes.items()}
        norm = jnp.float32(1.0)  # any below the limit
        updates, moments = update.update(jax.tree.map(jnp.float32, gradient), moments, got, norm=norm)
        got = jax.tree.map(jnp.add, got, updates)
        for name, g in gradient.items():
            first[name] = b1 * first[name] + (1 - b1) * g
            second[name] = b2 * second[name] + (1 - b2) * g**2
            mean, square = first[name] / (1 - b1 ** (step + 1)), second[name] / (1 - b2 ** (step + 1))
            # Table 1 of Dey et al.: the rate lr / w, and the decay times w, which is multiplied by that rate.
            own_lr, own_decay = lr * factors[name].rate, 0.0 if name == "scale" else decay / factors[name].rate
            direction = mean / (np.sqrt(square) + eps * factors[name].epsilon)
            params[name] = params[name] - own_lr * (direction + own_decay * params[name])
    for name, leaf in params.items():
        np.testing.assert_allclose(got[name], leaf, rtol=2e-4, atol=2e-6, err_msg=name)
