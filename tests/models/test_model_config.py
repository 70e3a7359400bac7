"""Configurations: what is refused, and active widths that match the dense model."""

import dataclasses
import math
from typing import Any

import pytest

from models.config import ARCHITECTURES, ModelConfig, MoEConfig, default_moe, make_config

SIZES: dict[str, Any] = {"vocab": 11, "context": 8, "width": 12, "depth": 2, "heads": 3}


def sizes(**changes: int) -> dict[str, Any]:
    return SIZES | changes


MODEL = ModelConfig(**SIZES, ffn_width=24)
MOE = MoEConfig("top2", experts=4, experts_per_token=2, expert_width=8)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        *(
            ({name: 0}, f"{name} must be positive")
            for name in ("vocab", "context", "width", "depth", "heads", "ffn_width")
        ),
        ({"heads": 5}, "width 12 must split into 5 heads"),
        ({"heads": 4}, "width 12 must split into 4 heads of even width"),
        ({"activation": "relu"}, "activation 'relu' is none of gelu, swiglu"),
        ({"block": "sandwich"}, "block 'sandwich' is none of sequential, parallel"),
        ({"rope_base": 1.0}, "rope_base"),
        ({"rope_base": math.nan}, "rope_base"),
    ],
)
def test_a_model_that_means_nothing_is_refused(change, complaint):
    with pytest.raises(ValueError, match=complaint):
        dataclasses.replace(MODEL, **change)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"routing": "soft"}, "routing 'soft' is none of"),
        ({"experts": 0}, "experts_per_token"),
        ({"routing": "hash", "experts": 65_537}, "hash has at most 65536 experts"),
        ({"experts_per_token": 0}, "experts_per_token"),
        ({"experts_per_token": 5}, "experts_per_token 5 must lie in 1..experts"),
        ({"expert_width": 0}, "expert_width"),
        ({"every": 0}, "every"),
        ({"shared_experts": -1}, "shared_experts"),
        ({"capacity_factor": 0.0}, "capacity_factor"),
        ({"eval_capacity_factor": math.nan}, "eval_capacity_factor"),
        ({"balance_weight": -1.0}, "balance_weight"),
        ({"z_weight": math.inf}, "z_weight"),
        ({"bias_rate": math.nan}, "bias_rate"),
    ],
)
def test_a_mixture_that_means_nothing_is_refused(change, complaint):
    with pytest.raises(ValueError, match=complaint):
        dataclasses.replace(MOE, **change)


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="'mamba' is none of dense, parallel, switch_top1"):
        make_config("mamba", **SIZES)
    with pytest.raises(ValueError, match="'soft' is none of"):
        default_moe("soft", 24)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="must be a multiple of 4"):
        default_moe("fine_grained_shared", 26)
    with pytest.raises(ValueError, match="experts_per_token 2 must lie in"):
        default_moe("top2", 24, experts=0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("activation", ["gelu", "swiglu"])
def test_the_active_width_of_every_mixture_is_the_dense_one(architecture, activation):
    config = make_config(architecture, **sizes(width=24), activation=activation)
    assert config.architecture == architecture
    assert config.ffn_width == (96 if activation == "gelu" else 64)
    if config.moe:
        assert (config.moe.experts_per_token + config.moe.shared_experts) * config.moe.expert_width == config.ffn_width


def test_swiglu_has_the_parameters_of_gelu_by_default():
    for width in range(48, 512, 16):
        gelu, swiglu = (make_config("dense", **sizes(width=width, heads=2), activation=a) for a in ("gelu", "swiglu"))
        assert swiglu.ffn_width % 8 == 0
        assert 3 * swiglu.ffn_width == pytest.approx(2 * gelu.ffn_width, rel=0.1)


def test_which_layers_are_mixtures():
    switch = make_config("switch_top1", **sizes(depth=5))
    assert [switch.is_moe_layer(layer) for layer in range(5)] == [False, True, False, True, False]
    top2 = make_config("top2", **SIZES)
    assert top2.is_moe_layer(0) and top2.is_moe_layer(1)
    assert not make_config("dense", **SIZES).is_moe_layer(0)
    assert dataclasses.replace(top2, block="parallel").architecture == "parallel_top2"
