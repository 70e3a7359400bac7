"""A sweep as its author writes it: YAML text to validated values, or one InputError naming the field.

    name: example
    defaults: {domain: stdlib_code, context: 128, tokens: 20 N}
    blocks:
      - grid: {architecture: [dense, parallel], params: [1e5, 1e6]}   # every combination
        zip: {batch: [8, 16], lr: [1e-3, 2e-3]}                       # paired; several zips as a list
        where: N_total < 5e5 or architecture == "dense"
        seeds: 1
        extra_seeds: {count: 2, share: 0.15}

A later level (sweep's defaults, block's defaults, axes) overrides an earlier one, and of two ways to say the same thing
(`batch` or `batch_tokens`, `tokens` or `flops`, `epochs` or `unique_tokens`, `params` or `width` and `depth`) the later
level's way.
"""

import difflib
import math
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

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
    with_config,
)
from typing_extensions import TypedDict

from models.config import ARCHITECTURES, Activation
from models.count import Which
from sweeps.errors import InputError
from sweeps.rules import RateRule, Real, Tokens, Whole, mixture_name, vocab_of

MOST_CELLS = 100_000
Positive = Annotated[Real, Field(gt=0)]
Share = Annotated[Real, Field(ge=0, le=1)]
Size = Annotated[Whole, Field(gt=0, le=1_000_000)]
Seed = Annotated[Whole, Field(ge=0, lt=2**31)]
SeedCount = Annotated[Whole, Field(ge=1, le=MOST_CELLS)]


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


def _is_rule(value: object) -> str:
    return "<rule>" if isinstance(value, (dict, RateRule)) else "<number>"


Rate = Annotated[Annotated[Positive, Tag("<number>")] | Annotated[RateRule, Tag("<rule>")], Discriminator(_is_rule)]


@with_config(ConfigDict(extra="forbid"))
class Settings(TypedDict, total=False):
    """What a user may set for a cell. Only the fields that were given are there.

    Attributes:
        params: target number of parameters N; `params_kind` says which N, here, in token and learning-rate rules and
            in u = D / N^0.74. Or an explicit shape: width, depth, and heads, ffn_width if not the usual ones.
        tokens: D; a number, `20 N` or `0.1 N^0.74`, N being what the shape actually has.
        flops: or the training operations to spend (`models.count.flops`, exact, full mask), which give D.
        domain: a corpus, or a mixture of several with fixed shares: {web: 0.5, code: 0.5}.
        split_seed: another one holds out other documents.
        twins: two runs a cell, on disjoint halves of the documents, whose losses on each other's text give the gap.
        epochs: R, so that U = D / R; or unique_tokens: U, spelled as `tokens` is.
        batch: sequences a step; or batch_tokens.
        lr: peak learning rate, or a RateRule.
        warmup: share of the steps.
    """

    architecture: Annotated[str, AfterValidator(_architecture)]
    params: Annotated[Whole, Field(gt=0, le=10**13)]
    params_kind: Which
    aspect: Annotated[Real, Field(ge=1, le=1000)]
    width: Size
    depth: Annotated[Whole, Field(gt=0, le=10_000)]
    heads: Size
    ffn_width: Size
    activation: Activation
    tied: Annotated[bool, Field(strict=True)]
    qk_norm: Annotated[bool, Field(strict=True)]
    experts: Annotated[Whole, Field(gt=0, le=100_000)]
    domain: Annotated[Line, BeforeValidator(mixture_name)]
    tokenizer: Annotated[Line, AfterValidator(_tokenizer)]
    context: Size
    batch: Size
    batch_tokens: Annotated[Whole, Field(gt=0, le=10**9)]
    tokens: Tokens
    flops: Positive
    epochs: Positive
    unique_tokens: Tokens
    heldout_fraction: Annotated[Real, Field(gt=0, lt=1)]
    split_seed: Seed
    twins: Annotated[bool, Field(strict=True)]
    optimizer: Literal["adamw", "sgd"]
    lr: Rate
    weight_decay: Annotated[Real, Field(ge=0)]
    beta1: Share
    beta2: Share
    eps: Positive
    momentum: Share
    clip: Positive
    warmup: Annotated[Real, Field(ge=0, lt=1)]
    schedule: Literal["constant", "cosine", "wsd"]
    final_lr_ratio: Share
    decay_fraction: Share
    probe_windows: Size
    probes_per_octave: Size
    keep: Literal["final", "none"]


# Of each pair, one way or the other; a level that says one makes the earlier levels' other void.
ALTERNATIVES: tuple[tuple[frozenset[str], frozenset[str]], ...] = (
    (frozenset({"batch"}), frozenset({"batch_tokens"})),
    (frozenset({"tokens"}), frozenset({"flops"})),
    (frozenset({"epochs"}), frozenset({"unique_tokens"})),
    (frozenset({"params", "aspect"}), frozenset({"width", "depth", "heads", "ffn_width"})),
)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ExtraSeeds(_Part):
    """`count` further seeds for a `share` of the cells, evenly spread over those for which `where` holds."""

    count: SeedCount
    share: Annotated[Real, Field(gt=0, le=1)] = 1.0
    where: str | None = None


class Block(_Part):
    """Cells that are the product of `grid` axes and of `zip` groups. A count of seeds means 0, 1, ..."""

    name: Line | None = None
    defaults: Settings = {}
    grid: dict[str, Any] = {}
    zip: dict[str, Any] | list[dict[str, Any]] = {}
    where: str | None = None
    seeds: Annotated[
        Annotated[SeedCount, Tag("<number>")] | Annotated[list[Seed], Field(min_length=1), Tag("<list>")],
        Discriminator(lambda value: "<list>" if isinstance(value, list) else "<number>"),
    ] = 1
    extra_seeds: ExtraSeeds | None = None


class Spec(_Part):
    """A whole sweep; its blocks' cells follow one another."""

    name: Line
    description: str = ""
    defaults: Settings = {}
    blocks: Annotated[list[Block], Field(min_length=1)]


_SETTINGS: TypeAdapter[Settings] = TypeAdapter(Settings)
# The names to suggest from, by the last name on the way to an unknown key.
_KNOWN: Mapping[str, tuple[str, ...]] = {
    "": tuple(Spec.model_fields),
    "blocks": tuple(Block.model_fields),
    "defaults": tuple(Settings.__annotations__),
    "extra_seeds": tuple(ExtraSeeds.model_fields),
    "<rule>": tuple(RateRule.model_fields),
}


class _Loader(yaml.SafeLoader):
    """Safe YAML in which a key given twice is an error instead of the last one's victory."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if name is not None and name != "<<" and name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {name!r} given twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def read_spec(text: str, where: object) -> Spec:
    """The spec in a YAML text.

    Raises:
        InputError: from `where`, naming the field.
    """
    try:
        raw = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise InputError(where, "YAML", _yaml_place(error), "well-formed YAML") from None
    except Exception as error:  # PyYAML lets AttributeError, ValueError and others out for hostile scalars and depths
        raise InputError(where, "YAML", shorten(str(error)), "plain numbers, texts, lists and mappings") from None
    if not isinstance(raw, dict):
        raise InputError(where, "YAML", shorten(raw), f"a mapping with {', '.join(Spec.model_fields)}")
    try:
        return Spec.model_validate(raw)
    except (ValidationError, RecursionError) as error:
        raise _input_error(where, "", error) from None


def read_file(path: Path) -> str:
    """The text of a spec.

    Raises:
        InputError: not a readable UTF-8 file.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise InputError(path, "file", reason, "a readable YAML file in UTF-8") from None


def read_axis(values: object, field: str, where: object, path: str) -> list[dict[str, Any]]:
    """One axis, `field: values`, as the settings it takes in turn. A value that is no list is a list of one.

    Raises:
        InputError: an unknown field, no values, or a value the field does not take.
    """
    if field not in Settings.__annotations__:
        raise InputError(where, path, field, _nearest(field, tuple(Settings.__annotations__)))
    values = values if isinstance(values, list) else [values]
    if not values:
        raise InputError(where, path, values, "at least one value")
    taken = []
    for index, value in enumerate(values):
        try:
            taken.append(dict(_SETTINGS.validate_python({field: value})))
        except (ValidationError, RecursionError) as error:
            raise _input_error(where, path, error, index) from None
    return taken


def override(earlier: Mapping[str, Any], later: Mapping[str, Any], where: object, path: str) -> dict[str, Any]:
    """The settings of `earlier`, with those of `later` in their place.

    Raises:
        InputError: `later` says one thing in two ways.
    """
    void: set[str] = set()
    for one, other in ALTERNATIVES:
        for chosen, left in ((one, other), (other, one)):
            if chosen & later.keys():
                if left & later.keys():
                    both = sorted((chosen | left) & later.keys())
                    raise InputError(where, path, ", ".join(both), "one way of saying it, not both")
                void |= left
    return {**{key: value for key, value in earlier.items() if key not in void}, **later}


def shorten(value: object) -> Any:
    """The value, or a short text where it is a long or nested thing."""
    if value is None or isinstance(value, (bool, float)) or (isinstance(value, int) and abs(value) < 10**15):
        return value
    short = reprlib.Repr()
    short.maxstring = short.maxother = 60
    if isinstance(value, str):
        return value if len(value) <= 80 else value[:77] + "..."
    return short.repr(value) if not isinstance(value, int) else f"about 1e{int(math.log10(abs(value)))}"


def key_text(key: str) -> str:
    """A key as it stands in a path: quoted unless it is a plain name."""
    return key if key.isidentifier() else repr(shorten(key))


def _input_error(where: object, path: str, error: ValidationError | RecursionError, index: int | None = None):
    """One complaint of pydantic in our words; for an axis, `path` and `index` replace the field's own name."""
    if isinstance(error, RecursionError):
        return InputError(where, path or "YAML", "...", "less nesting")
    complaints = error.errors(include_url=False, include_context=False)
    # A misspelled key may be why another is missing.
    first = next((complaint for complaint in complaints if complaint["type"] == "extra_forbidden"), complaints[0])
    # The tags of unions are ours, not the author's.
    tagged = first["loc"]
    parts = [part for part in tagged if part not in ("<number>", "<rule>", "<list>", "[key]")]
    unknown = first["type"] == "extra_forbidden"
    expected = _expected(first["msg"])
    if unknown:
        names = [part for part in tagged[:-1] if isinstance(part, str)]
        expected = _nearest(str(tagged[-1]), _KNOWN.get(names[-1] if names else "", ()))
    if index is not None:
        path, parts = f"{path}[{index}]", parts[1:]
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{key_text(part)}" if path else key_text(part)
    value = "nothing" if first["type"] == "missing" else shorten(first["input"])
    return InputError(where, path or "YAML", value, expected)


def _expected(message: str) -> str:
    for prefix in ("Input should be ", "Value error, "):
        message = message.removeprefix(prefix)
    message = message.split(" or instance of")[0].replace("valid dictionary", "mapping")
    return "this field" if message == "Field required" else message[:1].lower() + message[1:]


def _nearest(name: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"a known key; did you mean {close[0]!r}?" if close else f"one of {', '.join(sorted(known))}"


def _yaml_place(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else str(problem)
