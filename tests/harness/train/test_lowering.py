"""The programs lower for accelerators that this machine has not: all six architectures, training and evaluation."""

import jax
import pytest

from harness.train.programs import Key, mesh_for, trace
from models.compute import compute_for
from models.config import ARCHITECTURES, BaseSize, make_config
from sweeps.shape import Shape


@pytest.mark.parametrize(
    ("architecture", "base"),
    [*((architecture, None) for architecture in ARCHITECTURES), ("top2", BaseSize(8, 2, 4))],
    ids=[*ARCHITECTURES, "top2 in CompleteP"],
)
def test_programs_lower_for_cuda_and_tpu(architecture, base):
    depth = 2 if architecture == "switch_top1" else 1  # whose every second layer is a mixture
    model = make_config(architecture, vocab=257, context=16, width=16, depth=depth, heads=2, base=base)
    shape = Shape(model, 2, architecture in ("dense", "parallel"), "adamw", 4)
    key = Key(shape, 2, compute_for("cuda"), mesh_for(2, 2, jax.devices()[:1]))
    for name, traced in trace(key, turns=3).items():
        for platform in ("cuda", "tpu"):
            text = traced.lower(lowering_platforms=(platform,)).as_text()
            if name in ("advance", "evaluate"):
                assert "bf16" in text and "dot_general" in text
