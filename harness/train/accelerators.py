"""What an accelerator can do and hold, by which the sizes of dispatches and evaluations are chosen."""

import dataclasses
import re
from typing import Any

import jax

# Dense bfloat16 FLOP/s of one device, from the makers' data sheets: NVIDIA's of the H100 SXM, H200 SXM and A100, Google
# Cloud's pages of the TPU v4, v5e, v5p and v6e. JAX calls a v5e "TPU v5 lite", a v5p "TPU v5" or "TPU v5p", a v6e "TPU
# v6 lite". The H100 PCIe and NVL are slower, and are not here.
_PEAKS = {
    r"NVIDIA H100 80GB HBM3": 989e12,
    r"NVIDIA H200": 989e12,
    r"NVIDIA A100\b.*": 312e12,
    r"TPU v4": 275e12,
    r"TPU v5( lite|e)": 197e12,
    r"TPU v5p?": 459e12,
    r"TPU v6( lite|e)": 918e12,
}


def peak_flops(device_kind: str) -> float | None:
    """Dense bfloat16 FLOP/s that a device is built for, by its `device_kind`; None for one that is not known."""
    return next((peak for name, peak in _PEAKS.items() if re.fullmatch(name, device_kind)), None)


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """One device that is not a CPU.

    Attributes:
        peak: see `peak_flops`.
        memory: bytes that JAX may use of its memory; None if it does not tell.
    """

    peak: float | None
    memory: int | None


def accelerator_of(device: Any) -> Accelerator | None:
    """What is known of a device of JAX; None for a CPU.

    The memory is that of this process's first device, because only a process of the device's own host may ask it, and
    all hosts must choose the same sizes. They have devices of one kind.
    """
    if device.platform == "cpu":
        return None
    stats = jax.local_devices()[0].memory_stats() or {}
    return Accelerator(peak_flops(device.device_kind), stats.get("bytes_limit"))
