"""Accelerators are known by the names that JAX gives them."""

import pytest

from harness.train.accelerators import peak_flops


@pytest.mark.parametrize(
    ("kind", "tera"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H200", 989),
        ("NVIDIA A100-SXM4-40GB", 312),
        ("TPU v4", 275),
        ("TPU v5 lite", 197),
        ("TPU v5e", 197),
        ("TPU v5", 459),
        ("TPU v5p", 459),
        ("TPU v6 lite", 918),
    ],
)
def test_documented_peaks(kind, tera):
    assert peak_flops(kind) == tera * 1e12


@pytest.mark.parametrize("kind", ["cpu", "", "NVIDIA H100 PCIe", "NVIDIA H100 NVL", "TPU v4 lite", "NVIDIA GB200"])
def test_other_devices_have_no_known_peak(kind):
    assert peak_flops(kind) is None
