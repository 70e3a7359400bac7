"""Reads the YAML text of a sweep into validated values; one InputError names a field that is wrong.

`sweeps/README.md` describes every key and setting, and how a later level of settings overrides an earlier one.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
    model_validator,
    with_config,
)
from typing_extensions import TypedDict

from models.config import ARCHITECTURES, Activation, ObjectiveKind
from models.count import Which
from models.intervention import field_types, intervention_names
from sweeps.complaints import input_error, shorten, yaml_place
from sweeps.config import OptimizerKind, Schedule
from sweeps.errors import InputError
from sweeps.rules import (
    MEASURES,
    RATE_QUANTITIES,
    Counted,
    PowerOf,
    RateRule,
    Real,
    Tokens,
    Whole,
    mixture_name,
    vocab_of,
)

MOST_CELLS = 100_000
_Positive = Annotated[Real, Field(gt=0)]
_Share = Annotated[Real, Field(ge=0, le=1)]
_Size = Annotated[Whole, Field(gt=0, le=1_000_000)]
_Seed = Annotated[Whole, Field(ge=0, lt=2**31)]
_SeedCount = Annotated[Whole, Field(ge=1, le=MOST_CELLS)]


def _line(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError("a text in one line")
    return text


Line = Annotated[str, AfterValidator(_line)]


def _tokenizer(name: str) -> str:
    vocab_of(name)
    return name


def _architecture(name: str) -> str:
    if name not in ARCHITECTURES:
        raise ValueError(f"one of {', '.join(ARCHITECTURES)}")
    return name


def _measure(name: str) -> str:
    if name not in MEASURES:
        raise ValueError(f"one of {', '.join(MEASURES)}")
    return name


def _is_rule(value: object) -> str:
    return "<rule>" if isinstance(value, (dict, RateRule)) else "<number>"


Rate = Annotated[Annotated[_Positive, Tag("<number>")] | Annotated[RateRule, Tag("<rule>")], Discriminator(_is_rule)]


class WantedDraws(BaseModel, frozen=True, extra="forbid"):
    """As many draws as a cell needs, by the spread of those that have ended, but at most `most`.

    Attributes:
        se: until the standard error of the cell's gap is at most this, nats per token.
        detect: until a gap as large as that of the published law would be found at the 5 % level in four of five
            repetitions.
        most: the most draws.
    """

    se: _Positive | None = None
    detect: Literal["law"] | None = None
    most: _SeedCount

    @model_validator(mode="after")
    def _one_aim(self):
        if (self.se is None) == (self.detect is None):
            raise ValueError("either se or detect")
        return self


def _is_wanted(value: object) -> str:
    return "<wanted>" if isinstance(value, (dict, WantedDraws)) else "<number>"


NumberOfDraws = Annotated[
    Annotated[_SeedCount, Tag("<number>")] | Annotated[WantedDraws, Tag("<wanted>")], Discriminator(_is_wanted)
]


@with_config(ConfigDict(extra="forbid"))
class OwnSettings(TypedDict, total=False):
    """What a user may set for a cell beside interventions, as `sweeps/README.md` describes it."""

    architecture: Annotated[str, AfterValidator(_architecture)]
    params: Annotated[Whole, Field(gt=0, le=10**13)]
    params_kind: Which
    aspect: Annotated[Real, Field(ge=1, le=1000)]
    width: _Size
    depth: Annotated[Whole, Field(gt=0, le=10_000)]
    heads: _Size
    ffn_width: _Size
    activation: Activation
    tied: Annotated[bool, Field(strict=True)]
    qk_norm: Annotated[bool, Field(strict=True)]
    experts: Annotated[Whole, Field(gt=0, le=100_000)]
    moe_every: Annotated[Whole, Field(gt=0, le=10_000)]
    objective: ObjectiveKind
    mask_share: Annotated[Real, Field(gt=0, lt=1)]
    counted: Counted
    patch: _Size
    forecast: Annotated[bool, Field(strict=True)]
    parametrization: Literal["standard", "complete_p"]
    base_width: Annotated[Whole, Field(gt=1, le=1_000_000, multiple_of=2)]
    base_depth: Annotated[Whole, Field(gt=0, le=10_000)]
    domain: Annotated[Line, BeforeValidator(mixture_name)]
    tokenizer: Annotated[Line, AfterValidator(_tokenizer)]
    context: _Size
    batch: _Size
    batch_tokens: Annotated[Whole, Field(gt=0, le=10**9)]
    tokens: Tokens
    flops: _Positive
    epochs: _Positive
    unique_tokens: Tokens
    heldout_fraction: Annotated[Real, Field(gt=0, lt=1)]
    split_seed: _Seed
    twins: Annotated[bool, Field(strict=True)]
    draws: NumberOfDraws
    optimizer: OptimizerKind
    lr: Rate
    weight_decay: Annotated[Real, Field(ge=0)]
    beta1: _Share
    beta2: _Share
    eps: _Positive
    momentum: _Share
    clip: _Positive
    warmup: Annotated[Real, Field(ge=0, lt=1)]
    schedule: Schedule
    final_lr_ratio: _Share
    decay_fraction: _Share
    probe_windows: _Size
    small_probe_windows: _Size
    probes_per_octave: _Size
    keep_losses: Annotated[bool, Field(strict=True)]
    probe_domains: list[Line]
    measures: list[Annotated[Line, AfterValidator(_measure)]]
    keep: Literal["final", "state", "none"]
    start_from: Line
    start_optimizer: Literal["fresh", "carried"]


def _of_intervention(hint: Any) -> Any:
    """The type of a field of an intervention, with the spellings of numbers that specs have."""
    if get_origin(hint) is Annotated:
        kind, *bounds = get_args(hint)
        return Annotated[_of_intervention(kind), *bounds]
    return {float: Real, int: Whole, bool: Annotated[bool, Field(strict=True)]}.get(hint, hint)


# A setting of each field of each intervention, such as `prune_sparsity`; to type checkers they are not known.
INTERVENTION_SETTINGS: Mapping[str, tuple[str, str]] = {
    f"{name}_{field}": (name, field) for name in intervention_names() for field in field_types(name)
}
if taken := INTERVENTION_SETTINGS.keys() & OwnSettings.__annotations__.keys():
    raise ValueError(f"interventions may not have settings of these names: {', '.join(sorted(taken))}")
if TYPE_CHECKING:
    Settings = OwnSettings
else:
    of_interventions = {
        key: _of_intervention(field_types(name)[field]) for key, (name, field) in INTERVENTION_SETTINGS.items()
    }
    # What a user may set for a cell. Only the fields that were given are there.
    Settings = with_config(ConfigDict(extra="forbid"))(
        TypedDict("Settings", get_type_hints(OwnSettings, include_extras=True) | of_interventions, total=False)
    )


class ExtraSeeds(BaseModel, frozen=True, extra="forbid"):
    """`count` further seeds for a `share` of the cells, evenly spread over those for which `where` holds."""

    count: _SeedCount
    share: Annotated[Real, Field(gt=0, le=1)] = 1.0
    where: str | None = None


class Block(BaseModel, frozen=True, extra="forbid"):
    """Cells that are the product of `grid` axes and of `zip` groups. A number n as `seeds` means seeds 0 to n - 1."""

    name: Line | None = None
    defaults: Settings = {}
    grid: dict[str, Any] = {}
    zip: dict[str, Any] | list[dict[str, Any]] = {}
    where: str | None = None
    seeds: Annotated[
        Annotated[_SeedCount, Tag("<number>")] | Annotated[list[_Seed], Field(min_length=1), Tag("<list>")],
        Discriminator(lambda value: "<list>" if isinstance(value, list) else "<number>"),
    ] = 1
    extra_seeds: ExtraSeeds | None = None


class Spec(BaseModel, frozen=True, extra="forbid"):
    """A whole sweep; its blocks' cells follow one another."""

    name: Line
    description: str = ""
    defaults: Settings = {}
    blocks: Annotated[list[Block], Field(min_length=1)]


SETTINGS: TypeAdapter[Settings] = TypeAdapter(Settings)


def settings_like(name: str) -> tuple[str, ...]:
    """The settings to suggest in the place of an unknown one: those of the intervention with which it begins, or else
    those of no intervention."""
    same = [key for key, (intervention, _) in INTERVENTION_SETTINGS.items() if name.startswith(intervention)]
    return tuple(same or OwnSettings.__annotations__)


# Known keys to suggest in place of an unknown one, by the name of the mapping that holds it.
KNOWN_KEYS: Mapping[str, tuple[str, ...]] = {
    "": tuple(Spec.model_fields),
    "blocks": tuple(Block.model_fields),
    "defaults": tuple(OwnSettings.__annotations__),
    "extra_seeds": tuple(ExtraSeeds.model_fields),
    "<rule>": tuple(RateRule.model_fields),
    "<wanted>": tuple(WantedDraws.model_fields),
    **dict.fromkeys(RATE_QUANTITIES, tuple(PowerOf.model_fields)),
}


class _Loader(yaml.SafeLoader):
    """A safe YAML loader for which a key given twice is an error; by default the last one would win."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if name is not None and name != "<<" and name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {name!r} given twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def read_spec(text: str, where: object) -> Spec:
    """The spec in a YAML text; an InputError from `where` names a field that is wrong."""
    try:
        raw = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise InputError(where, "YAML", yaml_place(error), "well-formed YAML") from None
    except Exception as error:  # PyYAML lets AttributeError, ValueError and others out for hostile scalars and depths
        raise InputError(where, "YAML", shorten(str(error)), "plain numbers, texts, lists and mappings") from None
    if not isinstance(raw, dict):
        raise InputError(where, "YAML", shorten(raw), f"a mapping with {', '.join(Spec.model_fields)}")
    try:
        return Spec.model_validate(raw)
    except (ValidationError, RecursionError) as error:
        raise input_error(where, "", error, KNOWN_KEYS) from None
