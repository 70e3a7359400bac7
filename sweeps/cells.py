"""One cell of a sweep: its settings resolved into a run, or the reason why it cannot run."""

import dataclasses
import functools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from models.config import BaseSize, ModelConfig, TrainingObjective, make_config
from models.count import Which, count, flops
from models.intervention import defaults_of, get_intervention, intervention_names, name_of
from models.sizes import choose_heads, shape_for
from sweeps.config import DataConfig, OptimizerConfig, ProbeConfig, RunConfig, read_interventions
from sweeps.expression import Scalar
from sweeps.published_gap import PUBLISHED_GAP
from sweeps.rules import RateRule, vocab_of
from sweeps.spec import INTERVENTION_SETTINGS, Settings

LONGEST_RUN = 10**15
DEFAULTS: Mapping[str, Any] = {
    "architecture": "dense",
    "params_kind": "nonembedding",
    "activation": "gelu",
    "tied": True,
    "qk_norm": False,
    "experts": None,
    "moe_every": None,
    "objective": "next",
    "mask_share": 0.15,
    "counted": None,
    "patch": 1,
    "forecast": False,
    "parametrization": "standard",
    "base_width": 64,
    "base_depth": 2,
    "domain": "stdlib_code",
    "tokenizer": "bytes",
    "twins": False,
    "draws": 1,
    "context": 128,
    "batch": 8,
    "epochs": 1.0,
    "lr": RateRule(rule="width", c=0.02),
    "warmup": 0.05,
    "small_probe_windows": 16,
}
# These settings go to the optimizer under their own names. Those that are not given keep the defaults of RunConfig.
_OPTIMIZER = "weight_decay beta1 beta2 eps momentum clip schedule final_lr_ratio decay_fraction".split()
DERIVED = "N N_total N_nonembedding N_active N_trainable D U u steps vocab flops flops_6nd".split()
# The names that a filter may use. The settings `tokens` and `unique_tokens` are rules; their numbers are D and U. The
# number of draws may depend on what the filter leaves.
FILTER_NAMES = frozenset([*DERIVED, "half"]) | Settings.__annotations__.keys() - {"tokens", "unique_tokens", "draws"}


@dataclasses.dataclass(frozen=True)
class Cell:
    """A point of the grid with one seed and one draw: the run, or the reason why it cannot run.

    Attributes:
        block: the block's name, or its place in the spec.
        settings: the spec's settings, defaults included, by the names of `sweeps.spec.Settings`.
        seed: the seed of the run.
        config: the run; None if the cell is infeasible.
        reason: why the cell is infeasible; None if it is not.
    """

    block: str
    settings: Mapping[str, Any]
    seed: int
    config: RunConfig | None
    reason: str | None

    @property
    def params_kind(self) -> Which:
        """The convention of N in the cell's rules and in u."""
        return self.settings["params_kind"]

    @functools.cached_property
    def values(self) -> Mapping[str, Scalar]:
        """The run's value for every one of FILTER_NAMES; for an infeasible cell only those that the spec gives."""
        plain = {key: self.settings.get(key) for key in FILTER_NAMES}
        plain = {key: value for key, value in plain.items() if isinstance(value, (str, int, float))}
        return plain | derived(self.config, self.params_kind) if self.config else plain


def refusals(infeasible: Iterable[tuple[str, str]]) -> list[str]:
    """A line for each (block, reason) of infeasible runs, with their number: thousands of draws may have one reason."""
    counts = Counter(infeasible)
    return [f"{block}: {count:,} run{'s' * (count > 1)}: {reason}" for (block, reason), count in counts.items()]


def resolve(settings: Mapping[str, Any]) -> tuple[RunConfig | None, str | None]:
    """The run of a cell with seed 0, or the reason why it cannot run; the other one is None.

    D is rounded to whole steps. U is rounded to whole windows, so that D / U is as near as possible to the number of
    epochs that was asked for. `RunConfig` says what D, U and the epochs are after rounding.
    """
    try:
        model = _model(settings)
    except ValueError as error:
        return None, str(error)
    n, context = count(model).of(settings["params_kind"]), model.context
    batch = settings["batch"] if "batch" in settings else max(1, round(settings["batch_tokens"] / context))
    tokens = settings["tokens"].tokens(n) if "tokens" in settings else settings["flops"] / flops(model).train
    if tokens > LONGEST_RUN:
        return None, f"D would be {tokens:.1e} tokens, more than {LONGEST_RUN:.0e}"
    steps = max(1, round(tokens / (batch * context)))
    if "epochs" in settings:
        windows = round(steps * batch / settings["epochs"])
        unique = windows * context + 1
        too_short = f"U = D / {settings['epochs']:g} is less than one window of {context} tokens"
    else:
        unique = round(min(settings["unique_tokens"].tokens(n), LONGEST_RUN))
        too_short = f"U = {unique} is less than one window of {context} + 1 tokens"
    if unique <= context:
        return None, too_short
    rate = settings["lr"]
    if isinstance(rate, RateRule):
        # Rule `width` is the standard parametrisation's answer to the width, which CompleteP replaces.
        width = model.base.width if model.base and rate.rule == "width" else model.width
        rate = rate.rate(params=n, width=width, batch_tokens=batch * context, tokens=steps * batch * context)
    try:
        config = RunConfig(
            model=model,
            data=DataConfig(
                domain=settings["domain"],
                tokenizer=settings["tokenizer"],
                unique_tokens=unique,
                half="a" if settings["twins"] else None,
                **_given(settings, heldout_fraction="heldout_fraction", split_seed="split_seed"),
            ),
            optimizer=OptimizerConfig(
                lr=rate,
                warmup_steps=min(round(settings["warmup"] * steps), steps - 1),
                **_given(settings, kind="optimizer", **{key: key for key in _OPTIMIZER}),
            ),
            probe=ProbeConfig(**_probe(settings)),
            steps=steps,
            batch=batch,
            interventions=interventions_of(settings),
            **_given(settings, keep="keep", start_optimizer="start_optimizer"),
        )
    except ValidationError as error:
        return None, error.errors()[0]["msg"].removeprefix("Value error, ")
    return config, None


def interventions_of(settings: Mapping[str, Any]) -> tuple[Any, ...]:
    """The fields of the interventions that these settings turn on; ValueError for some that do not fit together."""
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for key in settings.keys() & INTERVENTION_SETTINGS.keys():
        name, field = INTERVENTION_SETTINGS[key]
        found[name][field] = settings[key]
    return read_interventions(dict(found))


def derived(config: RunConfig, which: Which) -> dict[str, Scalar]:
    """The quantities of a run by their names in the glossary and the settings; `which` is the convention of N and u."""
    model, optimizer = config.model, config.optimizer
    counts, work = count(model), flops(model)
    n = counts.of(which)
    return {
        "N": n,
        "N_total": counts.total,
        "N_nonembedding": counts.nonembedding,
        "N_active": counts.active,
        "N_trainable": counts.trainable,
        "D": config.tokens,
        "U": config.data.unique_tokens,
        "epochs": config.epochs,
        "u": config.tokens / n**PUBLISHED_GAP.z,  # the variable of the published gap law, for orientation
        "steps": config.steps,
        "vocab": model.vocab,
        "flops": work.train * config.tokens,
        "flops_6nd": work.six_n * config.tokens,
        "params": n,
        "aspect": model.width / model.depth,
        "width": model.width,
        "depth": model.depth,
        "heads": model.heads,
        "ffn_width": model.ffn_width,
        **mixture_columns(model),
        **objective_columns(model),
        "parametrization": "complete_p" if model.base else "standard",
        "base_width": model.base.width if model.base else 0,
        "base_depth": model.base.depth if model.base else 0,
        "batch": config.batch,
        "batch_tokens": config.batch_tokens,
        "heldout_fraction": config.data.heldout_fraction,
        "split_seed": config.data.split_seed,
        "twins": config.data.half is not None,
        "half": config.data.half or "",
        "optimizer": optimizer.kind,
        "lr": optimizer.lr,
        "warmup": optimizer.warmup_steps / config.steps,
        **{key: getattr(optimizer, key) for key in _OPTIMIZER},
        "probe_windows": config.probe.windows,
        "small_probe_windows": config.probe_windows(-1),
        "probes_per_octave": config.probe.per_octave,
        "keep_losses": config.probe.keep_losses,
        "probe_domains": ", ".join(config.probe.domains),
        "measures": ", ".join(config.probe.measures),
        "keep": config.keep,
        "start_optimizer": config.start_optimizer,
        **_off_columns(),
        **{
            key: value
            for name in map(name_of, config.interventions)
            for key, value in intervention_columns(config, name).items()
        },
    }


def mixture_columns(model: ModelConfig) -> dict[str, Scalar]:
    """The settings of a model's mixture layers; 0 for a dense model."""
    return {"experts": model.moe.experts, "moe_every": model.moe.every} if model.moe else {"experts": 0, "moe_every": 0}


def objective_columns(model: ModelConfig) -> dict[str, Scalar]:
    """The settings of a model's objective; `mask_share` is 0 where nothing is masked, `counted` a text: `0-9 32-32`."""
    aim = model.aim
    return {
        "objective": aim.kind,
        "mask_share": aim.mask_share if aim.kind == "masked" else 0.0,
        "counted": " ".join(f"{first}-{last}" for first, last in aim.counted) if aim.counted else "all",
        "patch": aim.patch,
        "forecast": aim.forecast,
    }


def intervention_columns(config: RunConfig, name: str) -> dict[str, Scalar]:
    """The settings of an intervention, at their defaults where it is off, and what it counts."""
    on = {name_of(fields): fields for fields in config.interventions}
    fields, counts = on.get(name, defaults_of(name)), get_intervention(name).counts
    return _columns(name, fields) | (counts(fields, config.model, config.steps, config.tokens) if counts else {})


def _columns(name: str, fields: Any) -> dict[str, Scalar]:
    return {f"{name}_{field}": value for field, value in dataclasses.asdict(fields).items()}


@functools.cache
def _off_columns() -> dict[str, Scalar]:
    """The settings of all interventions where they are off."""
    return {key: value for name in intervention_names() for key, value in _columns(name, defaults_of(name)).items()}


def _model(settings: Mapping[str, Any]) -> ModelConfig:
    """The model of a cell; ValueError if the size cannot be met, or the sizes do not fit together."""
    architecture = settings["architecture"]
    family = {key: settings[key] for key in ("context", "activation", "tied", "qk_norm", "experts", "moe_every")}
    family["vocab"] = vocab_of(settings["tokenizer"])
    family["objective"] = objective_of(settings)
    if settings["parametrization"] == "complete_p":
        base_width = settings["base_width"]
        family["base"] = BaseSize(base_width, settings["base_depth"], base_width // choose_heads(base_width))
    if "params" in settings:
        aspect = settings.get("aspect")
        return shape_for(settings["params"], settings["params_kind"], architecture, aspect=aspect, **family)
    width, depth = settings["width"], settings["depth"]
    heads, ffn_width = settings.get("heads", choose_heads(width)), settings.get("ffn_width")
    config = make_config(architecture, width=width, depth=depth, heads=heads, ffn_width=ffn_width, **family)
    if config.moe and depth < config.moe.every:
        raise ValueError(f"depth {depth} has no mixture layer; {architecture} has one in every {config.moe.every}")
    return config


def objective_of(settings: Mapping[str, Any]) -> TrainingObjective:
    """What these settings let a model predict; those that are not given are at their defaults."""
    return TrainingObjective(
        **_given(
            settings, kind="objective", mask_share="mask_share", counted="counted", patch="patch", forecast="forecast"
        )
    )


def _probe(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The probes of a cell. Where the small ones are no smaller than the last ones, there is one size only."""
    names = {"windows": "probe_windows", "per_octave": "probes_per_octave", "domains": "probe_domains"}
    given = _given(settings, **names, keep_losses="keep_losses", measures="measures")
    small = settings["small_probe_windows"]
    return given | ({"small_windows": small} if small < given.get("windows", ProbeConfig().windows) else {})


def _given(settings: Mapping[str, Any], **names: str) -> dict[str, Any]:
    """The settings that are given, as keyword arguments; `names` maps an argument to its setting."""
    return {argument: settings[name] for argument, name in names.items() if name in settings}
