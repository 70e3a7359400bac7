"""Tuning of learning rates: a sweep trained at several rates, the best rate of each size, and the rule they follow."""

import dataclasses
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.files import default_cache, open_folder, write_text
from harness.fit.allocation.best_rates import BestRate, RateGrid, best_rates
from harness.fit.allocation.rate_rule import PowerRule, fit_rule
from harness.fit.problem.fit_status import FitWarning
from harness.fit.results.shown import Showable, Shown, TextTable, finite_rows, number, span, warning_lines
from harness.launch.sweep import run_sweep
from harness.record.sweep_folder import read_configs
from harness.record.table import runs_table
from harness.train.session import Session
from models.config import is_published
from sweeps.cells import objective_columns
from sweeps.config import RunConfig
from sweeps.errors import InputError
from sweeps.grid import read_sweep_text
from sweeps.rules import RATE_QUANTITIES
from sweeps.tuning import rates_between, tuning_text

# What a sweep's rates are multiplied by, unless the caller says otherwise: from a quarter to four times, by sqrt(2).
FACTORS = tuple(2 ** (k / 2) for k in range(-4, 5))
# Quantities of rule `power` -> columns of the table of runs.
COLUMNS = {"width": "width", "batch_tokens": "batch_tokens", "tokens": "D", "params": "N_nonembedding"}
_MODEL_OPTIONS = ("activation", "tied", "qk_norm")
_WHY = {
    "lowest": "the best rate is the lowest that was tried, so that the optimum may be lower: add lower rates",
    "highest": "the best rate is the highest that was tried, so that the optimum may be higher: add higher rates",
    "unstable": "the best rate is the highest at which no run diverged: add rates between it and the lowest that did",
    "flat": "the losses do not tell where their minimum is: add seeds, or rates further apart",
    "few": "too few rates with a loss near the least one: add rates or seeds",
}


@dataclasses.dataclass(frozen=True)
class SizeRates:
    """One size (all settings but rate, seed and text), the rates at which it was trained, and the best of them.

    Attributes:
        facts: `recipe` (what has nothing to do with size), width, depth, N_nonembedding, D, batch_tokens.
        rates: the rates that were tried, rising.
        losses: the mean held-out loss at each of them, nats per token; None where a run diverged or has not ended.
        replicates: number of seeds and texts.
        best: the best rate.
    """

    facts: dict[str, Any]
    rates: tuple[float, ...]
    losses: tuple[float | None, ...]
    replicates: int
    best: BestRate


@dataclasses.dataclass(frozen=True)
class TunedRates(Showable):
    """The best learning rates of a sweep's sizes, and for each recipe the rule that they follow.

    Attributes:
        sizes: in the order of the sweep.
        rules: recipe -> rule; a recipe without any optimum has none.
    """

    sizes: tuple[SizeRates, ...]
    rules: dict[str, PowerRule]
    warnings: tuple[FitWarning, ...]

    def shown(self) -> list[Shown]:
        """The sizes with their best rates, the rules with their limits and as lines of YAML, and the warnings."""
        columns = ("recipe", "width", "depth", "N_nonembedding", "D", "batch_tokens")
        rows = []
        for size in self.sizes:
            best = size.best
            rate = best.status if best.lr is None else f"{number(best.lr)} {span(best.low, best.high)}"
            tried = f"{number(size.rates[0])} to {number(size.rates[-1])}"
            rows.append([*(_text(size.facts[name]) for name in columns), tried, str(size.replicates), rate])
        headings = (*columns, "rates tried", "replicates", "best rate [95 %]")
        parts: list[Shown] = [TextTable("best learning rates", headings, rows, ("recipe", headings[-1]))]
        for recipe, rule in self.rules.items():
            powers = [f"power of {name} {number(p[0])} {span(*p[1:])}" for name, p in rule.powers.items()]
            parts.append(f"{recipe}: " + ", ".join([f"c {number(rule.c[0])} {span(*rule.c[1:])}", *powers]))
            parts.append(f"  {rule.setting}")
        return [*parts, *warning_lines(self.warnings)]

    def to_json(self) -> str:
        """Everything as JSON; what is not known is null."""
        sizes = [
            size.facts
            | {"rates": size.rates, "losses": size.losses, "replicates": size.replicates, "status": size.best.status}
            | {"lr": size.best.lr, "ci_low": size.best.low, "ci_high": size.best.high, "log_se": size.best.log_se}
            for size in self.sizes
        ]
        rules = [
            {"recipe": recipe, "setting": rule.setting, "c": _span(rule.c), "at": dict(rule.at)}
            | {"powers": {name: _span(power) for name, power in rule.powers.items()}, "degrees": rule.degrees}
            for recipe, rule in self.rules.items()
        ]
        warnings = [{"code": warning.code, "message": warning.message} for warning in self.warnings]
        return json.dumps({"sizes": finite_rows(sizes), "rules": rules, "warnings": warnings}, allow_nan=False)


def _text(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _span(values: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip(("estimate", "ci_low", "ci_high"), values, strict=True))


def train_rates(sweep: str, session: Session, *, factors: Sequence[float] = (), between: Sequence[float] = ()) -> int:
    """Train a sweep at several learning rates, and return the exit status of `run_sweep`.

    Rates that the folder holds already are kept, so that another call with other factors adds to them.

    Args:
        sweep: a YAML file, or the name of a preset.
        factors: what the sweep's own rates are multiplied by; by default FACTORS.
        between: instead of factors, the lowest and the highest rate; each rate is about twice the one before.

    Raises:
        InputError: a bad spec, numbers that are no rates, or a folder that cannot be used.
    """
    numbers = [*factors, *between]
    if not all(0 < value < float("inf") for value in numbers):
        raise InputError("--between" if between else "--factors", "value", numbers, "numbers above 0")
    if between and (len(between) != 2 or not between[0] < between[1]):
        raise InputError("--between", "value", [*between], "the lowest and the highest rate, LOW,HIGH")
    if between and factors:
        raise InputError("--factors", "value", [*factors], "no --between beside it")
    rates = rates_between(*between) if between else ()
    text = tuning_text(read_sweep_text(sweep), sweep, factors=sorted(set(factors)) or FACTORS, rates=rates)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{Path(sweep).stem}.yaml"
        write_text(file, text)
        return run_sweep(str(file), session)


def check_quantities(over: Sequence[str]) -> None:
    """Raise InputError for a quantity that is none of RATE_QUANTITIES."""
    for name in over:
        if name not in RATE_QUANTITIES:
            raise InputError("--over", "value", name, f"some of {', '.join(RATE_QUANTITIES)}")


def read_rates(out: Path, over: Sequence[str] = ("width", "batch_tokens", "tokens")) -> TunedRates:
    """Find the best rate of each size in a folder that `train_rates` filled, and the rule of each recipe.

    Args:
        over: the quantities that the rule may depend on, of RATE_QUANTITIES, the more important ones first; those that
            do not vary, or follow those before them, are left out.

    Raises:
        InputError: no sweep in the folder, an unknown quantity, or no size that was trained at several rates.
    """
    check_quantities(over)
    configs = read_configs(out)
    table = runs_table(out).set_index("run_id")
    sizes: dict[str, list[RunConfig]] = {}
    for config in configs:
        sizes.setdefault(_size(config).run_id, []).append(config)
    recipes: dict[str, list[list[RunConfig]]] = {}
    for members in sizes.values():
        if len({config.optimizer.lr for config in members}) > 1:
            recipes.setdefault(_recipe(members[0]), []).append(members)
    if not recipes:
        raise InputError(out, "lr", "one rate for every size", "a folder that `isogap tune` has filled")
    found: list[SizeRates] = []
    rules, warnings = {}, []
    waiting = sum(status not in ("done", "diverged") for status in table["status"])
    if waiting:
        message = f"{waiting} of {len(configs)} runs have no result; if they have not ended, the same command goes on"
        warnings.append(FitWarning("incomplete", message))
    for recipe, groups in recipes.items():
        best, degrees = best_rates([_grid(members, table) for members in groups])
        tuned = [_summary(recipe, *pair, table) for pair in zip(groups, best, strict=True)]
        found += tuned
        for size in tuned:
            if size.best.lr is None:
                message = f"{recipe}, width {size.facts['width']}, D {size.facts['D']:,}: {_WHY[size.best.status]}"
                warnings.append(FitWarning(f"optimum_{size.best.status}", message))
        known = [size for size in tuned if size.best.lr is not None]
        if known:
            lr, log_se = (np.array([getattr(size.best, name) for size in known]) for name in ("lr", "log_se"))
            values = {name: np.array([size.facts[COLUMNS[name]] for size in known], float) for name in over}
            rules[recipe], told = fit_rule(lr, log_se, degrees, values)
            warnings += told
    return TunedRates(tuple(found), rules, tuple(warnings))


def tune_rates(
    sweep: str | Path,
    out: str | Path,
    *,
    factors: Sequence[float] = (),
    between: Sequence[float] = (),
    over: Sequence[str] = ("width", "batch_tokens", "tokens"),
    workers: int | None = None,
    max_minutes: float | None = None,
    cache: str | Path | None = None,
) -> TunedRates:
    """Train a sweep at several learning rates, and find the best rate of each size and the rule that they follow.

    Args:
        sweep: a YAML file, or the name of a preset.
        out: the folder for the runs or its URL, new or existing; what it holds is kept and used.
        factors, between: see `train_rates`.
        over: see `read_rates`.
        workers, max_minutes, cache: see `harness.run`.

    Raises:
        InputError: a bad spec, numbers that are no rates, or a folder that cannot be used.
    """
    check_quantities(over)
    folder = open_folder(str(out))
    cache = default_cache() if cache is None else Path(cache)
    session = Session(folder, cache, workers=workers, max_minutes=max_minutes)
    train_rates(str(sweep), session, factors=factors, between=between)
    return read_rates(folder, over)


def _size(config: RunConfig) -> RunConfig:
    """A run without what differs between the rates and the replicates of a size."""
    data = config.data.model_copy(update={"half": None, "draw": 0})
    return config.model_copy(
        update={"optimizer": config.optimizer.model_copy(update={"lr": 1.0}), "data": data, "seed": 0}
    )


def _recipe(config: RunConfig) -> str:
    """What a run has that is no size, in words: settings that are not at their defaults are named."""
    model, optimizer = config.model, config.optimizer
    words = [model.architecture, config.data.domain, config.data.tokenizer]
    options = {field.name: field.default for field in dataclasses.fields(model) if field.name in _MODEL_OPTIONS}
    words += [f"{name} {getattr(model, name)}" for name, usual in options.items() if getattr(model, name) != usual]
    if model.base:
        words.append(f"complete_p from {model.base.width} x {model.base.depth}")
    if model.moe:
        words.append(f"{model.moe.experts} experts")
        words += [] if is_published(model.moe) else [f"moe_every {model.moe.every}"]
    if model.objective:
        words += [f"{name} {value}" for name, value in objective_columns(model).items()]
    words += [
        f"{name} {getattr(optimizer, name)}"
        for name, field in type(optimizer).model_fields.items()
        if name not in ("lr", "warmup_steps") and getattr(optimizer, name) != field.default
    ]
    return ", ".join(words)


def _grid(members: Sequence[RunConfig], table: pd.DataFrame) -> RateGrid:
    rows = table.loc[[config.run_id for config in members]]
    replicates = [(config.seed, config.data.half, config.data.draw) for config in members]
    return RateGrid(
        np.array([config.optimizer.lr for config in members]),
        rows["heldout_loss"].to_numpy(float),
        np.array([replicates.index(replicate) for replicate in replicates]),
        (rows["status"] == "diverged").to_numpy(),
    )


def _summary(recipe: str, members: Sequence[RunConfig], best: BestRate, table: pd.DataFrame) -> SizeRates:
    rows = table.loc[[config.run_id for config in members]]
    names = ("width", "N_nonembedding", "D", "batch_tokens")
    facts = {"recipe": recipe, "depth": members[0].model.depth} | {name: int(rows[name].iloc[0]) for name in names}
    means = rows.groupby("lr")["heldout_loss"].agg(lambda losses: losses.mean(skipna=False))
    losses = tuple(None if np.isnan(loss) else float(loss) for loss in means.astype(float))
    replicates = len({(config.seed, config.data.half, config.data.draw) for config in members})
    return SizeRates(facts, tuple(map(float, means.index)), losses, replicates, best)
