"""Eight devices compute what one does: packs over `run`, a run over `data`, its parameters whole or split."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

STEPS, SLOTS, BATCH = 30, 4, 8
# What is trained: architecture, slots, whether its parameters are split over `data`.
CASES = [
    ("dense", 8, False),
    ("dense", SLOTS, False),
    ("dense", 1, False),
    ("dense", 1, True),
    ("top2", 1, False),
    ("top2", 1, True),
]


def trained(architecture: str, slots: int, sharded: bool, devices: int) -> dict:
    """Losses of each run of a pack, in training and of its probes at the end, and how the work was laid out."""
    import jax
    import jax.numpy as jnp

    from harness.train.evaluation import PackLosses, deal
    from harness.train.optimizer import hyper_of, stack_hyper
    from harness.train.programs import Key, mesh_for, programs
    from models.compute import Compute
    from models.config import make_config
    from sweeps.config import DataConfig, OptimizerConfig, RunConfig
    from sweeps.shape import Shape

    model = make_config(architecture, vocab=64, context=16, width=32, depth=2, heads=2)
    data = DataConfig(domain="", tokenizer="bytes", unique_tokens=1000)
    run = RunConfig(model=model, data=data, optimizer=OptimizerConfig(lr=0.003), steps=STEPS, batch=BATCH)
    shape = Shape(model, BATCH, False, "adamw", 200)
    mesh = mesh_for(slots, BATCH, jax.devices()[:devices])
    compiled = programs(Key(shape, slots, Compute(), mesh, sharded))
    draw = np.random.default_rng(0)
    tokens = draw.integers(0, 12, (compiled.turns, 8, BATCH, 17)).astype(np.int32)[:, :slots]
    windows = draw.integers(0, 12, (200, 17)).astype(np.int32)
    hyper = stack_hyper([hyper_of(run.model_copy(update={"seed": seed}), 1) for seed in range(slots)])
    state, metrics = compiled.advance(compiled.initialise(hyper), hyper, tokens, jnp.int32(STEPS))
    calls, places = deal(compiled.layout, dict.fromkeys(range(slots), windows))
    losses = [
        compiled.evaluate(state.params, state.biases, call.slots, call.tokens, jnp.int32(call.count)) for call in calls
    ]
    probes = PackLosses(losses, places, dict.fromkeys(range(slots), len(windows)))
    leaves = [leaf for leaf in jax.tree.leaves(state.params) if leaf.ndim == 3]
    return {
        "train": np.asarray(metrics.train_loss)[:STEPS].tolist(),
        "probes": [probes.of(slot).tolist() for slot in range(slots)],
        "mesh": dict(mesh.shape),
        "split": all(leaf.addressable_shards[0].data.size < leaf.size // slots for leaf in leaves),
    }


@pytest.mark.slow
def test_eight_devices_compute_what_one_does():
    # Compiling is what takes the time: 49 s of tests instead of 61.
    environment = os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
    root = Path(__file__).parents[3]
    ended = subprocess.run([sys.executable, __file__], cwd=root, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    computed = json.loads(ended.stdout.splitlines()[-1])
    for architecture, slots, sharded in CASES:
        case = f"{architecture} {slots} {sharded} 8"
        one, eight = computed[f"{architecture} {slots} False 1"], computed[case]
        assert one["mesh"] == {"run": 1, "data": 1} and eight["mesh"] == {"run": slots, "data": 8 // slots}
        assert eight["split"] == sharded, case
        # Sums over a batch are split: float32 rounding, grown over the steps. Here no choice of a mixture is a tie.
        np.testing.assert_allclose(eight["train"], one["train"], rtol=1e-5, err_msg=case)
        np.testing.assert_allclose(eight["probes"], one["probes"], rtol=2e-4, atol=1e-5, err_msg=case)
        assert np.mean(eight["train"][-1]) < np.mean(eight["train"][0]) - 1.0, case


if __name__ == "__main__":
    import jax

    jax.config.update("jax_num_cpu_devices", 8)
    found = {}
    for architecture, slots, sharded in CASES:
        found[f"{architecture} {slots} {sharded} 8"] = trained(architecture, slots, sharded, 8)
        alone = f"{architecture} {slots} False 1"
        found[alone] = found.get(alone) or trained(architecture, slots, False, 1)
    print(json.dumps(found))
