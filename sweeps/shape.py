"""What runs must have in common to be trained by one compiled program, and how many bytes such a run needs."""

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Iterable
from typing import Any

from models.config import LOGITS_LIMIT, ModelConfig
from models.count import count, flops, parts
from models.intervention import get_intervention, name_of, on_device, probes_of, without_floats
from sweeps.config import OptimizerKind, RunConfig

# Tokens of a micro-batch on a CPU: on two cores a longer one does not lower the time per token, because its activations
# no longer fit the caches. On accelerators only a longer one fills the device.
MICRO_TOKENS = 2048
# Bytes of an accelerator's memory for each token of a micro-batch. One token of a model of 124M parameters (12 layers
# of width 768, context 1,024) takes 1.5 MB by `run_bytes`, beside a state of 2 GB. So the 60 GB that
# JAX uses of an H100 give 32,768 tokens, and the 16 GB of a TPU v5e 8,192.
MICRO_TOKEN_BYTES = 1_800_000
# Bytes of a float32.
FLOAT = 4


@dataclasses.dataclass(frozen=True)
class Shape:
    """All that a compiled program depends on; seeds, the optimizer's numbers, data and lengths are its inputs.

    Attributes:
        micro_batch: number of sequences whose gradient is computed at once, in one turn. A batch is 1, 2, 4, ...
            micro-batches.
        accumulates: whether batches are longer than one micro-batch, so that gradients are added up.
        optimizer: the kind of optimizer.
        probe_windows: the most windows of an evaluation, of all probe sets together.
        interventions: the fields of those that are on, but for their numbers, which are inputs of the program.
    """

    model: ModelConfig
    micro_batch: int
    accumulates: bool
    optimizer: OptimizerKind
    probe_windows: int
    interventions: tuple[Any, ...] = ()

    @functools.cached_property
    def signature(self) -> str:
        """12 hex digits of the hash of all fields; a base size and an objective count only where there is one."""
        fields = dataclasses.asdict(self)
        for name in ("base", "objective"):  # fields that were added after packs had been recorded
            if fields["model"][name] is None:
                del fields["model"][name]
        if not self.model.aim.forecast:
            fields["model"].get("objective", {}).pop("forecast", None)
        fields["interventions"] = {name_of(own): dataclasses.asdict(own) for own in self.interventions}
        if not self.interventions:  # so were these
            del fields["interventions"]
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def turn_tokens(self) -> int:
        """Tokens of one turn of one run."""
        return self.micro_batch * self.model.context

    @property
    def turn_flops(self) -> int:
        """Training operations of one turn of one run."""
        return flops(self.model).train * self.turn_tokens

    @property
    def added_time(self) -> float:
        """By how much longer a turn takes with the interventions, as a share of its time."""
        return sum(get_intervention(name_of(fields)).cost(fields) for fields in self.interventions)


def micro_tokens_of(platform: str, memory: int | None) -> int:
    """Tokens per micro-batch on a platform: a power of two.

    Args:
        memory: bytes of one accelerator; None, if it is not known, is taken for an H100.
    """
    if platform == "cpu":
        return MICRO_TOKENS
    return 2**15 if memory is None else 1 << max(MICRO_TOKENS, memory // MICRO_TOKEN_BYTES).bit_length() - 1


def shape_of(config: RunConfig, micro_tokens: int) -> Shape:
    """The shape of the program that trains a run.

    The batch is halved while it is even and longer than `micro_tokens`, so that runs whose batches differ by powers of
    two share a program. A mixture of experts keeps its batch whole, because loads and capacities are those of a batch.
    """
    micro, divisor = config.batch, parts_of(config.interventions)
    while config.model.moe is None and micro % (2 * divisor) == 0 and micro * config.model.context > micro_tokens:
        micro //= 2
    kind, windows = config.optimizer.kind, config.probe_sets * config.probe.windows
    windows += sum(probes_of(config.interventions).values())
    on = tuple(map(without_floats, filter(on_device, config.interventions)))
    return _shape(config.model, micro, micro != config.batch, kind, windows, on)


def parts_of(interventions: Iterable[Any]) -> int:
    """The number of equal parts into which the sequences of a turn must be divisible."""
    return math.lcm(*(get_intervention(name_of(fields)).parts(fields) for fields in interventions))


# Equal shapes are one object, so that a sweep of 10,000 runs hashes each shape once.
_shape = functools.lru_cache(maxsize=1 << 12)(Shape)


def turns_per_step(config: RunConfig, shape: Shape) -> int:
    """The number of turns of one step of a run."""
    return config.batch // shape.micro_batch


def turns_of(config: RunConfig, shape: Shape) -> int:
    """The number of turns of a whole run."""
    return config.steps * turns_per_step(config, shape)


def run_bytes(shape: Shape) -> int:
    """Bytes of one run in training, all in float32: its state exactly, one turn's activations by a rule of thumb.

    The rule was within a factor of 1.5 of the temporary memory that XLA reports for the compiled gradient on CPU, for
    dense models of width 32 to 128, the four mixtures at width 64, and vocabularies of 257 to 32,000.
    """
    return state_bytes(shape) + _activation_bytes(shape.model, shape.micro_batch)


def state_bytes(shape: Shape) -> int:
    """Bytes of the parameters, gradients, sums of gradients if any, moments, and of what interventions keep.

    AdamW has two moments of each parameter, SGD and Muon one; Muon has two of the vocabulary's tables.
    """
    copies = (4 if shape.optimizer == "adamw" else 3) + shape.accumulates
    copies += sum(get_intervention(name_of(fields)).copies(fields) for fields in shape.interventions)
    tables = parts(shape.model)["embedding"] if shape.optimizer == "muon" else 0
    return round(FLOAT * (copies * count(shape.model).total + tables))


@functools.lru_cache(maxsize=1 << 12)
def _activation_bytes(model: ModelConfig, batch: int) -> int:
    """Estimated bytes of what the backward pass keeps of the forward pass.

    For each position and block they are: about 16 widths for the input, two norms, queries, keys, values, their rotated
    copies, the attention's output, the residual and the gradients in flight; the scores and their softmax, of which
    causal attention has half; each hidden feature before and after its nonlinearity. A mixture has hidden features for
    every slot (1.5 slots per visit if nothing may be dropped, since slots come in blocks). The logits are kept with
    their exponentials and their gradient.
    """
    rows = batch * model.positions
    gates = 3 if model.activation == "swiglu" else 2
    hidden = 0.0
    for layer in range(model.depth):
        visited = model.ffn_width
        if model.moe and model.is_moe_layer(layer):
            slots = model.moe.experts_per_token * (model.moe.capacity_factor or 1.5) + model.moe.shared_experts
            visited = slots * (model.moe.expert_width + model.width) + 2 * model.moe.experts
        hidden += gates * visited
    keys = model.positions if model.aim.kind == "masked" else (model.positions + 1) / 2
    scores = 2 * model.heads * keys
    blocks = hidden + model.depth * (16 * model.width + scores)
    logits = min(3 * batch * model.context * model.vocab, 3 * LOGITS_LIMIT)
    return round(FLOAT * (rows * blocks + logits))
