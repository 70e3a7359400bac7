"""How many bytes a run needs: its state exactly, its activations by a rule of thumb.

The rule was within a factor of 1.5 of the temporary memory that XLA reports for the compiled gradient on CPU, for dense
models of width 32 to 128, the four mixtures at width 64, and vocabularies of 257 to 32,000.
"""

import functools

from models.config import LOGITS_LIMIT, ModelConfig
from models.count import count
from sweeps.shape import Shape

FLOAT = 4


def run_bytes(shape: Shape) -> int:
    """Bytes of one run in training, all in float32: parameters, gradients, moments, one turn's activations."""
    return state_bytes(shape) + _activation_bytes(shape.model, shape.micro_batch)


def state_bytes(shape: Shape) -> int:
    """Parameters, gradients, what is added up of them, the optimizer's moments: two for AdamW, one for SGD."""
    copies = (4 if shape.optimizer == "adamw" else 3) + shape.accumulates
    return copies * FLOAT * count(shape.model).total


@functools.lru_cache(maxsize=1 << 12)
def _activation_bytes(model: ModelConfig, batch: int) -> int:
    """What the backward pass keeps of the forward pass.

    A row and block: the input, two norms, queries, keys, values, their rotated copies, the attention's output, the
    residual and the gradients in flight, about 16 widths; the causal half of the scores and of their softmax; each
    hidden feature before and after its nonlinearity, in a mixture for every slot (half of them more than visits where
    nothing may be dropped, since slots come in blocks). Then the logits, their exponentials and their gradient.
    """
    rows = batch * model.context
    gates = 3 if model.activation == "swiglu" else 2
    hidden = 0.0
    for layer in range(model.depth):
        visited = model.ffn_width
        if model.moe and model.is_moe_layer(layer):
            slots = model.moe.experts_per_token * (model.moe.capacity_factor or 1.5) + model.moe.shared_experts
            visited = slots * (model.moe.expert_width + model.width) + 2 * model.moe.experts
        hidden += gates * visited
    scores = 2 * model.heads * (model.context + 1) / 2
    blocks = hidden + model.depth * (16 * model.width + scores)
    logits = min(3 * rows * model.vocab, 3 * LOGITS_LIMIT)
    return round(FLOAT * (rows * blocks + logits))
