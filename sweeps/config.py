"""A run is a value: everything that decides its numbers, frozen, validated, hashed into its id."""

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.config import ModelConfig

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


# `frozen` stands on every class: to a type checker it is not inherited, and only what is frozen can be hashed.
class _Strict(BaseModel, frozen=True):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class DataConfig(_Strict, frozen=True):
    """What is read.

    Attributes:
        domain: a corpus name (`stdlib_code`, `jsonl:PATH`, `hf:NAME`, ...).
        tokenizer: `bytes`, `bpe:V`, `tiktoken:NAME`, ...
        unique_tokens: U, the prefix of the train pool that the run may see, in tokens.
        heldout_fraction: share of the documents' groups withheld before anything else.
    """

    domain: str
    tokenizer: str
    unique_tokens: Annotated[int, Field(gt=1)]
    heldout_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1


class OptimizerConfig(_Strict, frozen=True):
    """How it is trained. Decay is decoupled and, for AdamW, multiplied by the learning rate (Loshchilov and Hutter).

    Attributes:
        kind: `adamw`, or `sgd` with momentum.
        lr: peak learning rate.
        warmup_steps: linear warm-up from 0.
        schedule: after warm-up `constant`, `cosine` to `final_lr_ratio` at the last step, or `wsd`, constant and then
            linear to `final_lr_ratio` over the last `decay_fraction` of the steps.
        clip: global gradient norm above which the gradient is scaled down.
    """

    kind: Literal["adamw", "sgd"] = "adamw"
    lr: Positive
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    beta1: Share = 0.9
    beta2: Share = 0.95
    eps: Positive = 1e-8
    momentum: Share = 0.9
    clip: Positive = 1.0
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    schedule: Literal["constant", "cosine", "wsd"] = "constant"
    final_lr_ratio: Share = 0.1
    decay_fraction: Share = 0.2


class ProbeConfig(_Strict, frozen=True):
    """When and on how much text a run is measured.

    Attributes:
        windows: windows of each probe set (seen, held-out, and the held-out set's two halves as placebo).
        per_octave: evaluations in each doubling of the step count, beside step 0 and the last.
    """

    windows: Annotated[int, Field(gt=0)] = 128
    per_octave: Annotated[int, Field(gt=0)] = 1


class RunConfig(_Strict, frozen=True):
    """One training run.

    Attributes:
        steps: optimizer steps; D = steps x batch x context tokens.
        batch: sequences of `model.context` tokens in one step.
        seed: of the initial parameters and the data order.
        keep: `final` keeps the final parameters, `none` drops them with the checkpoints of the finished pack.
    """

    model: ModelConfig
    data: DataConfig
    optimizer: OptimizerConfig
    probe: ProbeConfig = ProbeConfig()
    steps: Annotated[int, Field(gt=0)]
    batch: Annotated[int, Field(gt=0)]
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    keep: Literal["final", "none"] = "none"

    @model_validator(mode="after")
    def _fits(self):
        if self.data.unique_tokens <= self.model.context:
            raise ValueError(
                f"data.unique_tokens {self.data.unique_tokens} does not fill a window of {self.model.context} + 1"
            )
        if self.optimizer.warmup_steps >= self.steps and self.optimizer.warmup_steps > 0:
            raise ValueError(f"optimizer.warmup_steps {self.optimizer.warmup_steps} must be below steps {self.steps}")
        return self

    def canonical_json(self) -> str:
        """The one JSON text of this value: sorted keys, no spaces."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with some fields changed, which has an id of its own."""
        copied = super().model_copy(update=update, deep=deep)
        vars(copied).pop("run_id", None)
        return copied

    @cached_property
    def run_id(self) -> str:
        """The first 12 hex digits of the SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()[:12]

    @property
    def batch_tokens(self) -> int:
        """B, tokens of one step."""
        return self.batch * self.model.context

    @property
    def tokens(self) -> int:
        """D, tokens processed."""
        return self.steps * self.batch_tokens

    @property
    def windows(self) -> int:
        """Windows of the unique tokens; one epoch visits each once."""
        return (self.data.unique_tokens - 1) // self.model.context

    @property
    def epochs(self) -> float:
        """D over the tokens one epoch predicts."""
        return self.steps * self.batch / self.windows

    def evaluation_steps(self) -> tuple[int, ...]:
        """Steps after which the run is evaluated, rising: 0, the last, its half, and `per_octave` in each halving of
        the last down to 16."""
        steps, position = {0, self.steps // 2, self.steps}, 1
        while (step := round(self.steps * 2.0 ** (-position / self.probe.per_octave))) >= 16:
            if position != self.probe.per_octave:  # that one is the half, which rounds down
                steps.add(step)
            position += 1
        return tuple(sorted(steps))
