"""The programs lower for accelerators that this machine has not: all six architectures, training and evaluation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from harness.train.optimizer import Hyper, hyper_of
from harness.train.step import mesh_for, programs
from models.config import ARCHITECTURES, make_config
from models.transformer import compute_for
from sweeps.config import DataConfig, OptimizerConfig, ProbeConfig, RunConfig

SLOTS, STEPS, WINDOWS = 2, 3, 4


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_programs_lower_for_cuda_and_tpu(architecture):
    depth = 2 if architecture == "switch_top1" else 1  # whose every second layer is a mixture
    model = make_config(architecture, vocab=257, context=16, width=16, depth=depth, heads=2)
    config = RunConfig(
        model=model,
        data=DataConfig(domain="", tokenizer="bytes", unique_tokens=1000),
        optimizer=OptimizerConfig(lr=1e-3),
        probe=ProbeConfig(windows=WINDOWS),
        steps=STEPS,
        batch=2,
    )
    compiled = programs(config, SLOTS, compute_for("cuda"), mesh_for(SLOTS, config.batch, jax.devices()[:1]))
    state = jax.eval_shape(compiled.initialise, jax.random.split(jax.random.key(0), SLOTS))
    hyper = Hyper(*(jnp.asarray(np.stack([column] * SLOTS)) for column in hyper_of(config)))
    tokens = jax.ShapeDtypeStruct((STEPS, SLOTS, config.batch, model.context + 1), jnp.int32)
    windows = jax.ShapeDtypeStruct((SLOTS, WINDOWS, model.context + 1), jnp.int32)
    training = compiled.advance.trace(state, hyper, tokens, jnp.int32(STEPS))
    evaluation = compiled.evaluate.trace(state.params, state.biases, windows)
    for platform in ("cuda", "tpu"):
        for traced in (training, evaluation):
            text = traced.lower(lowering_platforms=(platform,)).as_text()
            assert "bf16" in text and "dot_general" in text
