"""How a model is computed: choices that decide speed and rounding, but not what is computed."""

import dataclasses
from typing import Literal

AttentionMethod = Literal["chunked", "fused"]
ExpertsMethod = Literal["looped", "batched"]


@dataclasses.dataclass(frozen=True)
class Compute:
    """The chosen implementations. Those of a CPU are in `models.cpu`; all of them agree to rounding.

    Attributes:
        dtype: of activations and of the copy of the parameters that multiplies them. Norms, softmax, router and loss
            stay float32.
        attention: `chunked` for a CPU; `fused`, which the compilers of GPUs and TPUs recognise.
        loss: of `mean_loss`: `one_pass` computes the gradient together with the loss; `plain` leaves it to autodiff.
        padding: columns of zeros that `models.cpu.feed_forward` adds to hidden features; 0 adds none.
        experts: `looped` takes blocks of rows one by one; `batched` takes all at once, in batched matrix products.
        batch_axis: the mesh axis over whose devices the caller has split the batch, or None. Loads are then summed over
            the devices. Losses and the other statistics are those of the device's share, for the caller to average.
    """

    dtype: str = "float32"
    attention: AttentionMethod = "chunked"
    loss: Literal["one_pass", "plain"] = "one_pass"
    padding: int = 16
    experts: ExpertsMethod = "looped"
    batch_axis: str | None = None


def compute_for(platform: str) -> Compute:
    """The choices for a platform as JAX names it: `cpu`, or `cuda`, `rocm`, `gpu` and `tpu`.

    A CPU computes in float32: bfloat16 is no faster there (130-150 against 140-175 GFLOP/s).
    """
    return Compute() if platform == "cpu" else Compute("bfloat16", "fused", "plain", 0, "batched")
