"""The accountant against the actual parameter tree, hand-worked examples and published tables."""

import dataclasses
from typing import Any

import jax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.compute import Compute
from models.config import ARCHITECTURES, ModelConfig, MoEConfig, TrainingObjective, make_config
from models.count import count, flops, parts
from models.transformer import init, logits
from models.weights import is_table

WORKED = ModelConfig(vocab=256, context=128, width=64, depth=2, heads=4, ffn_width=256)


def leaf_sizes(tree) -> list[int]:
    return [leaf.size for leaf in jax.tree.leaves(tree)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("activation", "tied", "qk_norm"), [("gelu", True, False), ("swiglu", False, True)])
def test_counts_are_those_of_the_parameter_tree(architecture, activation, tied, qk_norm):
    config = make_config(
        architecture,
        vocab=257,
        context=16,
        width=24,
        depth=3,
        heads=2,
        activation=activation,
        tied=tied,
        qk_norm=qk_norm,
    )
    params, biases = jax.eval_shape(lambda key: init(config, key), jax.random.key(0))
    counts = count(config)
    assert counts.trainable == sum(leaf_sizes(params))
    assert counts.total == sum(leaf_sizes(params)) + sum(leaf_sizes(biases))
    vocabulary = [size for size in leaf_sizes(params) if size == 257 * 24]
    assert len(vocabulary) == (1 if tied else 2)
    assert counts.nonembedding == counts.total - sum(vocabulary)


@pytest.mark.parametrize(
    "objective", [TrainingObjective("masked"), TrainingObjective(patch=4), TrainingObjective("masked", 0.5, None, 2)]
)
@pytest.mark.parametrize("tied", [True, False])
def test_the_tables_of_objectives_are_counted(objective, tied):
    sizes = {"vocab": 57, "context": 16, "width": 24, "depth": 2, "heads": 2, "tied": tied}
    config = make_config("dense", **sizes, objective=objective)
    params, _ = jax.eval_shape(lambda key: init(config, key), jax.random.key(0))
    counts, plain = count(config), count(make_config("dense", **sizes))
    tables = [leaf.size for path, leaf in jax.tree_util.tree_leaves_with_path(params) if is_table(path)]
    assert counts.total == sum(leaf_sizes(params)) and sum(tables) == parts(config)["embedding"]
    assert counts.embedding == tables[0] == objective.patch * 58 * 24
    assert len(tables) == (1 if tied else 2) and (tied or tables[1] == objective.patch * 57 * 24)
    assert counts.nonembedding == plain.nonembedding


def test_patches_divide_the_work_of_the_blocks():
    # By hand, of WORKED with patches of 4 tokens: 32 positions. The blocks' matrices and scores are used once for
    # 4 tokens; each token has its own logits.
    patched = dataclasses.replace(WORKED, objective=TrainingObjective(patch=4))
    work = flops(patched)
    assert work.forward == (196_608 + 4 * 32 * 64 * 2) // 4 + 32_768 and work.head == 32_768
    assert work.train == 3 * work.forward
    assert work.six_n == 6 * count(patched).active // 4
    assert work.palm == (6 * 2 * 49_152 + 12 * 2 * 64 * 32) // 4 + 6 * 256 * 64


def test_an_encoder_attends_to_all():
    work = flops(dataclasses.replace(WORKED, objective=TrainingObjective("masked")))
    assert work.forward_causal == work.forward == flops(WORKED).forward


def test_the_worked_example():
    # 2 layers of 4 x 64^2 + 2 x 64 x 256 = 49,152 matrix elements, two flops each; attention 4 x 128 x 64 x 2 layers;
    # logits 2 x 64 x 256.
    work = flops(WORKED)
    assert work.forward == 196_608 + 65_536 + 32_768 == 294_912
    assert work.train == 884_736
    assert work.forward_causal == 262_400
    assert work.head == 32_768
    assert count(WORKED).nonembedding == 2 * (49_152 + 2 * 64) + 64


@pytest.mark.parametrize(
    ("millions", "depth", "width", "ffn_width", "heads", "ratio"),
    [
        (73, 10, 640, 2560, 10, 1.03),
        (305, 20, 1024, 4096, 16, 1.10),
        (552, 24, 1280, 5120, 10, 1.08),
        (1100, 26, 1792, 7168, 14, 1.04),
        (1600, 28, 2048, 8192, 16, 1.03),
        (6800, 40, 3584, 14336, 28, 0.99),
    ],
)
def test_hoffmann_reproduces_their_table_a4(millions, depth, width, ffn_width, heads, ratio):
    # Their ratios of appendix F's operations to 6 N come out when the two vocabulary terms are left out; their N holds
    # one extra width^2 matrix a layer (relative positions). Context 2048, vocabulary 32,000.
    config = ModelConfig(32_000, 2048, width, depth, heads, ffn_width)
    layers = flops(config).hoffmann - 3 * (2 * 2 * 32_000 * width)
    n = count(config).total + depth * width**2
    assert n == pytest.approx(millions * 1e6, rel=0.04)
    assert layers / (6 * n) == pytest.approx(ratio, abs=0.006)


def test_gpt2_small_without_biases_and_positions():
    # 124,439,808 parameters as released, of which position table 1024 x 768, and biases: 13 x 768 = 9984 a layer
    # (4 attention, 4 + 1 feed-forward, 2 norm shifts; 4 x 768 for the hidden layer counted in the 4) and the final one.
    config = ModelConfig(50_257, 1024, 768, 12, 12, 3072)
    biases = 12 * (3 * 768 + 768 + 3072 + 768 + 2 * 768) + 768
    assert count(config).total == 124_439_808 - 1024 * 768 - biases


@pytest.mark.parametrize(
    ("architecture", "activation", "objective"),
    [
        ("dense", "gelu", None),
        ("dense", "swiglu", None),
        ("parallel", "gelu", None),
        ("parallel", "swiglu", None),
        ("dense", "gelu", TrainingObjective("masked")),
        ("dense", "gelu", TrainingObjective(patch=4)),
    ],
)
def test_the_compiler_counts_the_same_forward_pass(architecture, activation, objective):
    # Up to context 64 attention is computed in one chunk, with the full mask. XLA adds what is elementwise.
    sizes: dict[str, Any] = {"vocab": 512, "context": 64, "width": 128, "depth": 2, "heads": 2}
    config = make_config(architecture, **sizes, activation=activation, objective=objective)
    params, biases = jax.eval_shape(lambda key: init(config, key), jax.random.key(0))
    tokens = jax.ShapeDtypeStruct((2, 64), jax.numpy.int32)
    lowered = jax.jit(lambda p, b, t: logits(config, p, b, t, compute=Compute())).lower(params, biases, tokens)
    cost = lowered.cost_analysis()
    assert cost is not None
    assert cost["flops"] / (2 * 64) == pytest.approx(flops(config).forward, rel=0.05)


def test_palm_counts_the_head_once_and_attention_twice_over():
    work = flops(WORKED)
    matrices = 2 * 49_152 + 256 * 64
    assert work.palm == 6 * matrices + 12 * 2 * 64 * 128
    assert work.kaplan == 6 * count(WORKED).nonembedding + 6 * 2 * 128 * 64


def test_mixtures_count_visited_experts_and_the_router():
    # One mixture layer in two (`every` = 2), swiglu experts of 3 x width x expert_width elements.
    moe = MoEConfig("fine_grained_shared", experts=8, experts_per_token=3, expert_width=16, shared_experts=2, every=2)
    config = ModelConfig(300, 32, 32, 2, 2, 80, activation="swiglu", moe=moe)
    expert, router, bias = 3 * 32 * 16, 32 * 8, 8
    dense = 2 * (4 * 32**2 + 2 * 32) + 32 + 3 * 32 * 80 + 300 * 32
    counts = count(config)
    assert counts.total == dense + 10 * expert + router + bias
    assert counts.active == dense + 5 * expert + router + bias
    assert counts.trainable == counts.total - bias
    matrices = 2 * 4 * 32**2 + 3 * 32 * 80 + 5 * expert + router
    assert flops(config).forward == 2 * matrices + 4 * 32 * 32 * 2 + 2 * 300 * 32


def test_what_the_other_routers_have_is_counted():
    # One mixture layer in two, gelu experts of 2 x width x width elements; a table of 11 rows.
    sizes: dict[str, Any] = {
        "vocab": 11,
        "context": 8,
        "width": 16,
        "depth": 2,
        "heads": 2,
        "ffn_width": 16,
        "experts": 5,
    }
    dense = count(make_config("dense", vocab=11, context=8, width=16, depth=2, heads=2, ffn_width=16))
    routers = {"hash": 0, "balanced": 16 * 5, "reinforce": 16 * 5 + 17}  # the baseline has a constant, too
    for name, router in routers.items():
        config = make_config(name, **sizes)
        counts = count(config)
        assert counts.total == dense.total + 4 * 2 * 16**2 + router and counts.active == dense.total + router
        assert parts(config)["router"] == router and counts.trainable == counts.total
    several: list[dict[str, Any]] = [sizes | {"experts": experts} for experts in (1, 8, 64)]
    assert {count(make_config("hash", **each)).active for each in several} == {dense.total}


def test_capacity_pads_the_visited_experts_only():
    config = make_config("switch_top1", vocab=257, context=32, width=32, depth=2, heads=2)
    work = flops(config)
    assert work.forward_padded - work.forward == pytest.approx(0.25 * 2 * (2 * 32 * 128))


@pytest.mark.parametrize("architecture", ["top2", "expert_choice", "fine_grained_shared"])
def test_mixtures_match_the_dense_compute_up_to_the_router(architecture):
    dense, routed = (
        make_config(name, vocab=257, context=64, width=64, depth=4, heads=4) for name in ("dense", architecture)
    )
    assert routed.moe is not None
    router = 4 * 2 * 64 * routed.moe.experts
    assert flops(routed).forward == flops(dense).forward + router
    assert count(routed).total > 1.5 * count(dense).total


@given(
    st.sampled_from(ARCHITECTURES),
    st.integers(1, 12),
    st.integers(2, 24),
    st.sampled_from(["gelu", "swiglu"]),
    st.booleans(),
)
@settings(max_examples=200)
def test_orders_that_always_hold(architecture, depth, pairs, activation, tied):
    config = make_config(
        architecture, vocab=300, context=64, width=8 * pairs, depth=depth, heads=2, activation=activation, tied=tied
    )
    counts, work = count(config), flops(config)
    assert counts.active <= counts.total and counts.trainable <= counts.total
    assert counts.total - counts.nonembedding == counts.embedding * (1 if tied else 2)
    assert counts.active - counts.active_nonembedding == counts.total - counts.nonembedding
    assert work.forward_causal <= work.forward <= work.forward_padded
    assert work.train == 3 * work.forward
    # Matrices dominate: the forward pass cannot cost less than two operations for each active matrix element.
    vectors = config.width * (2 * depth + 1) + (config.moe.experts * depth if config.moe else 0)
    assert work.forward >= 2 * (counts.active_nonembedding - vectors)
