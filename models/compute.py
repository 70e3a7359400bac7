"""How a model is computed: choices that decide speed and rounding, but not what is computed."""

import dataclasses
from typing import Literal

AttentionMethod = Literal["chunked", "fused"]
ExpertsMethod = Literal["looped", "batched"]


@dataclasses.dataclass(frozen=True)
class Compute:
    """The chosen implementations, which agree up to rounding. Those for a CPU are in `models.cpu`.

    Attributes:
        dtype: type of the activations and of the copy of the parameters that multiplies them. Norms, softmax, router
            and loss stay float32.
        attention: `chunked` for a CPU; `fused` in the form that the compilers of GPUs and TPUs recognise.
        loss: `one_pass` computes the gradient of `mean_loss` together with the loss; `plain` leaves it to autodiff.
        padding: number of zero hidden features that `models.cpu.feed_forward.pad_hidden` appends; 0 appends none.
        experts: `looped` computes blocks of rows one by one; `batched` all at once, in batched matrix products.
        batch_axis: name of the mesh axis over whose devices the caller has split the batch, or None. Expert loads are
            then summed over the devices. The loss and the other statistics are those of the device's own share of the
            batch, and the caller averages them.
    """

    dtype: str = "float32"
    attention: AttentionMethod = "chunked"
    loss: Literal["one_pass", "plain"] = "one_pass"
    padding: int = 16
    experts: ExpertsMethod = "looped"
    batch_axis: str | None = None


def compute_for(platform: str) -> Compute:
    """The choices for a platform, which JAX calls `cpu`, `cuda`, `rocm`, `gpu` or `tpu`.

    A CPU computes in float32, because bfloat16 is not faster there (130-150 GFLOP/s, float32 140-175).
    """
    return Compute() if platform == "cpu" else Compute("bfloat16", "fused", "plain", 0, "batched")
