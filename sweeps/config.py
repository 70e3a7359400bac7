"""The configuration of a run: everything that decides its numbers, frozen, validated, hashed into the run's id."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from functools import cache, cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, PlainSerializer, TypeAdapter, model_validator

from models.config import ModelConfig
from models.intervention import get_intervention, intervention_names, is_on, name_of, on_device, probes_of
from sweeps.rules import parse_domain

Schedule = Literal["constant", "cosine", "wsd", "linear", "inverse_sqrt", "wsd_exponential", "two_stage", "multi_step"]
OptimizerKind = Literal["adamw", "sgd", "muon"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
# Steps at the end over which the training loss is averaged, as by the source of the gap law (clawRxiv 2604.02022).
FINAL_STEPS = 100
# Fewest steps of a first epoch with an online gap of its own: in a shorter one the loss falls too fast to measure it.
SHORTEST_EPOCH = 32


def online_span(end: int) -> tuple[int, int, int]:
    """The first, middle and last of the last 100 steps up to `end`, or of the second half if `end` is below 200."""
    start = max(end - FINAL_STEPS, end // 2)
    return start, (start + end) // 2, end


# Every class repeats `frozen`: type checkers do not inherit it, and only frozen values can be hashed.
class _Strict(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    def changed(self) -> set[str]:
        """The names of the fields that are not at their defaults."""
        return {name for name, field in type(self).model_fields.items() if getattr(self, name) != field.default}


class DataConfig(_Strict, frozen=True):
    """What a run reads.

    Attributes:
        domain: a corpus name (`stdlib_code`, `jsonl:PATH`, `hf:NAME`, ...), or a mixture: `0.5 code + 0.5 web`.
        tokenizer: `bytes`, `bpe:V`, a name of tiktoken's such as `o200k_base`, ... (see `sweeps.rules.vocab_of`).
        unique_tokens: U, the number of tokens of the train pool that the run may see.
        heldout_fraction: share of the documents' groups withheld before anything else.
        split_seed: the seed that decides which groups are withheld.
        half: the half of the other groups that the run may see; its twin sees the other half.
        draw: which U tokens of the train pool the run may see, and which held-out windows measure it. Draw 0 is the
            first U tokens; `harness.data.windows.first_window` says where the others lie.
    """

    domain: str
    tokenizer: str
    unique_tokens: Annotated[int, Field(gt=1)]
    heldout_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    split_seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    half: Literal["a", "b"] | None = None
    draw: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @property
    def parts(self) -> tuple[tuple[float, str], ...]:
        """The share and the corpus of each part of the mixture."""
        return parse_domain(self.domain)

    @property
    def split(self) -> dict[str, Any]:
        """The arguments by which `harness.data` chooses the documents that are held out and trained on."""
        return {"heldout_fraction": self.heldout_fraction, "split_seed": self.split_seed, "half": self.half}


class OptimizerConfig(_Strict, frozen=True):
    """The optimizer. Weight decay is decoupled and multiplied by the learning rate (AdamW, Loshchilov and Hutter).

    Attributes:
        kind: `adamw`, `sgd` with momentum, or `muon`.
        lr: peak learning rate.
        warmup_steps: length of the linear warm-up from 0.
        schedule: the rate after warm-up, as `sweeps/README.md` describes it.
        clip: global gradient norm above which the gradient is scaled down.
    """

    kind: OptimizerKind = "adamw"
    lr: Positive
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    beta1: Share = 0.9
    beta2: Share = 0.95
    eps: Positive = 1e-8
    momentum: Share = 0.9
    clip: Positive = 1.0
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    schedule: Schedule = "constant"
    final_lr_ratio: Share = 0.1
    decay_fraction: Share = 0.2


def _in_order(names: Any) -> Any:
    return tuple(sorted(set(names))) if isinstance(names, (list, tuple)) else names


class ProbeConfig(_Strict, frozen=True):
    """When and on how much text a run is measured.

    Attributes:
        windows: number of windows in each probe set at the last step: seen, held out, and for twins the other's text.
        small_windows: number of them that are evaluated before the last step; None for all.
        per_octave: evaluations per doubling of the step count, besides those at step 0 and at the last step.
        keep_losses: whether the held-out losses of all tokens at the last step are kept, for ensembles.
        domains: corpora on whose held-out text the run is measured, too, in alphabetical order.
        measures: what is measured of the final model beside its losses, of `sweeps.rules.MEASURES`.
    """

    windows: Annotated[int, Field(gt=0)] = 128
    small_windows: Annotated[int, Field(gt=0)] | None = None
    per_octave: Annotated[int, Field(gt=0)] = 1
    keep_losses: bool = False
    domains: Annotated[tuple[str, ...], BeforeValidator(_in_order)] = ()
    measures: Annotated[tuple[str, ...], BeforeValidator(_in_order)] = ()


def read_interventions(value: Any) -> tuple[Any, ...]:
    """The fields of the interventions that are on, by name; from a tuple of fields, or from a mapping of mappings."""
    if isinstance(value, dict):
        unknown = set(value) - set(intervention_names())
        if unknown:
            raise ValueError(f"interventions are {', '.join(intervention_names())}, not {', '.join(sorted(unknown))}")
        value = tuple(_adapter(name).validate_python(fields) for name, fields in value.items())
    return tuple(sorted(filter(is_on, value), key=name_of))


@cache
def _adapter(name: str) -> TypeAdapter:
    return TypeAdapter(get_intervention(name).fields)


def _write_interventions(value: tuple[Any, ...]) -> dict[str, Any]:
    return {name_of(fields): dataclasses.asdict(fields) for fields in value}


class RunConfig(_Strict, frozen=True):
    """One training run.

    Attributes:
        steps: optimizer steps; D = steps x batch x context tokens.
        batch: sequences of `model.context` tokens in one step.
        seed: seed of the initial parameters and of the data order.
        keep: `final` keeps the final parameters, `state` also the optimizer's state, `none` drops both with the
            checkpoints of the finished pack.
        start_from: the id of the run whose final parameters are the first ones of this run; None to draw them.
        start_optimizer: whether the optimizer begins anew (`fresh`) or with that run's state (`carried`).
        interventions: the fields of those that are on, in the order of their names (`models.intervention`); in JSON a
            mapping from their names.
    """

    model: ModelConfig
    data: DataConfig
    optimizer: OptimizerConfig
    probe: ProbeConfig = ProbeConfig()
    steps: Annotated[int, Field(gt=0)]
    batch: Annotated[int, Field(gt=0)]
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    keep: Literal["final", "state", "none"] = "none"
    start_from: Annotated[str, Field(pattern="^[0-9a-f]{12}$")] | None = None
    start_optimizer: Literal["fresh", "carried"] = "fresh"
    interventions: Annotated[
        tuple[Any, ...], BeforeValidator(read_interventions), PlainSerializer(_write_interventions)
    ] = ()

    @model_validator(mode="after")
    def _fits(self):
        if self.data.unique_tokens <= self.model.context:
            raise ValueError(
                f"data.unique_tokens {self.data.unique_tokens} does not fill a window of {self.model.context} + 1"
            )
        if self.optimizer.warmup_steps >= self.steps and self.optimizer.warmup_steps > 0:
            raise ValueError(f"optimizer.warmup_steps {self.optimizer.warmup_steps} must be below steps {self.steps}")
        if self.model.base and self.optimizer.kind != "adamw":
            raise ValueError(f"CompleteP is a parametrisation for adamw, not for {self.optimizer.kind}")
        for name, fields in ((name_of(fields), fields) for fields in self.interventions):
            intervention, parts = get_intervention(name), get_intervention(name).parts(fields)
            if self.batch % parts:
                raise ValueError(f"{name} needs a batch that is a multiple of {parts}, not {self.batch}")
            if intervention.around and sum(map(on_device, self.interventions)) > 1:
                raise ValueError(f"{name} cannot be combined with another intervention in the step")
            if intervention.check:
                intervention.check(fields, self.steps * self.batch)
        return self

    def canonical_json(self) -> str:
        """The canonical JSON of this value: keys sorted, no spaces.

        Fields that were added after runs had been recorded are left out at their defaults, so that those runs keep
        their ids.
        """
        added = {
            "data": {"draw"} - self.data.changed(),
            "probe": {"small_windows", "keep_losses", "domains", "measures"} - self.probe.changed(),
            "model": {name: True for name in ("base", "objective") if getattr(self.model, name) is None}
            | ({"objective": {"forecast"}} if self.model.objective and not self.model.objective.forecast else {}),
        } | dict.fromkeys({"interventions", "start_from", "start_optimizer"} - self.changed(), True)
        return json.dumps(self.model_dump(mode="json", exclude=added), sort_keys=True, separators=(",", ":"))

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with some fields changed, and with its own id."""
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
        """The number of windows in the unique tokens; one epoch visits each once."""
        return (self.data.unique_tokens - 1) // self.model.context

    @property
    def epochs(self) -> float:
        """The number of epochs: D over the number of tokens that one epoch predicts."""
        return self.steps * self.batch / self.windows

    @property
    def probe_sets(self) -> int:
        """The number of probe sets on which the run is measured: seen, held out, other domains', and of twins other."""
        return self._read_sets + 1 + len(self.probe.domains)

    @property
    def _read_sets(self) -> int:
        """The number of probe sets of text that is read, by the run or by its twin."""
        return 1 if self.data.half is None else 2

    def probe_windows(self, step: int) -> int:
        """The number of windows in each probe set after a step."""
        small = self.probe.small_windows
        return self.probe.windows if step == self.steps or small is None else min(small, self.probe.windows)

    def evaluated_windows(self, step: int) -> int:
        """The most windows that are evaluated after a step, those of each view of the parameters counted.

        A run has not seen more than it reads.
        """
        wanted = self.probe_windows(step)
        read = self._read_sets * min(wanted, self.windows, self.steps * self.batch)
        views = 1 + sum(get_intervention(name_of(fields)).view is not None for fields in self.interventions)
        return views * (wanted * (1 + len(self.probe.domains)) + read + sum(probes_of(self.interventions).values()))

    @property
    def first_epoch(self) -> int:
        """The number of steps of the first epoch, in which no text is read twice."""
        return min(self.steps, self.windows // self.batch)

    def twin(self) -> "RunConfig":
        """This run on the other half of the documents; ValueError if it is on no half."""
        if self.data.half is None:
            raise ValueError("a run on all documents has no twin")
        other = self.data.model_copy(update={"half": "b" if self.data.half == "a" else "a"})
        return self.model_copy(update={"data": other})

    def evaluation_steps(self) -> tuple[int, ...]:
        """The steps after which the run is evaluated, in rising order.

        They are 0, the last step and its half; `per_octave` steps in each halving of the last one down to 16; and the
        first, middle and last steps of the spans over which training losses are averaged (`online_span`).
        """
        steps, position = {0, self.steps // 2, self.steps, *online_span(self.steps)}, 1
        if self.first_epoch >= SHORTEST_EPOCH:
            steps.update(online_span(self.first_epoch))
        while (step := round(self.steps * 2.0 ** (-position / self.probe.per_octave))) >= 16:
            if position != self.probe.per_octave:  # here the step is the half, which is in already, rounded down
                steps.add(step)
            position += 1
        return tuple(sorted(steps))
