"""The programs lower for accelerators that this machine has not: all architectures, training and evaluation."""

import jax
import pytest

from harness.train.accelerators import Accelerator
from harness.train.programs import Key, dispatch_turns, mesh_for, trace
from models.compute import compute_for
from models.config import ARCHITECTURES, BaseSize, make_config
from sweeps.shape import Shape


@pytest.mark.parametrize(
    ("architecture", "base"),
    [
        *((architecture, None) for architecture in ARCHITECTURES),
        ("top2", BaseSize(8, 2, 4)),
        ("reinforce", BaseSize(8, 2, 4)),
    ],
    ids=[*ARCHITECTURES, "top2 in CompleteP", "reinforce in CompleteP"],
)
def test_programs_lower_for_cuda_and_tpu(architecture, base, monkeypatch):
    monkeypatch.setattr("harness.train.evaluation.accelerator_of", lambda device: Accelerator(None, None))
    mixture = make_config(architecture, vocab=257, context=16, width=16, depth=1, heads=2).moe
    depth = mixture.every if mixture else 1
    model = make_config(architecture, vocab=257, context=16, width=16, depth=depth, heads=2, base=base)
    shape = Shape(model, 2, architecture in ("dense", "parallel"), "adamw", 256)
    key = Key(shape, 2, compute_for("cuda"), mesh_for(2, 2, jax.devices()[:1]))
    for name, traced in trace(key, turns=3).items():
        for platform in ("cuda", "tpu"):
            text = traced.lower(lowering_platforms=(platform,)).as_text()
            if name in ("advance", "evaluate"):
                assert "bf16" in text and "dot_general" in text
                assert name != "evaluate" or "tensor<1x2x128x17xi32>" in text  # both runs at once


@pytest.mark.parametrize(
    ("platform", "accelerator", "windows"),
    [
        ("cuda", Accelerator(989e12, 60 * 10**9), "1x4x128"),  # 512 at once, of up to four runs
        ("tpu", Accelerator(197e12, 10**8), "8x1x64"),  # as many as fit a twentieth of 100 MB, of one run at a time
    ],
    ids=["H100", "a TPU of little memory"],
)
def test_sizes_derived_from_the_device_lower(platform, accelerator, windows, monkeypatch):
    monkeypatch.setattr("harness.train.evaluation.accelerator_of", lambda device: accelerator)
    shape = Shape(make_config("dense", vocab=257, context=16, width=16, depth=1, heads=2), 2, False, "adamw", 512)
    key = Key(shape, 512, compute_for(platform), mesh_for(512, 2, jax.devices()[:1]))
    turns = dispatch_turns(shape.turn_flops * key.slots, accelerator)
    lowered = {
        name: traced.lower(lowering_platforms=(platform,)).as_text() for name, traced in trace(key, turns).items()
    }
    assert f"tensor<{windows}x17xi32>" in lowered["evaluate"]
    assert f"tensor<{turns}x512x2x17xi32>" in lowered["advance"]
