"""Expands a spec into a sweep: multiplies and zips its axes, filters the cells, adds seeds, resolves every cell."""

import ast
import dataclasses
import importlib.resources
import itertools
import math
import os
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sweeps.cells import DEFAULTS, FILTER_NAMES, Cell, resolve
from sweeps.complaints import input_error, key_text, nearest, shorten
from sweeps.config import RunConfig
from sweeps.errors import InputError
from sweeps.expression import ExpressionError, MissingValue, holds, parse_expression
from sweeps.spec import (
    KNOWN_KEYS,
    MOST_CELLS,
    SETTINGS,
    Block,
    ExtraSeeds,
    Settings,
    Spec,
    WantedDraws,
    read_spec,
    settings_like,
)

# How many draws of a cell, of which as many are wanted as its gap needs, are run before the first look at their spread:
# with eight the spread is known to a factor of 1.3 either way. Four that happened to agree ended the search too soon.
FIRST_DRAWS = 8
# (the first run of a cell, what is wanted) -> the number of draws to run.
DrawsOf = Callable[[RunConfig, WantedDraws], int]

# Pairs of ways to set the same thing. A level of settings that uses one way cancels what an earlier level set the other
# way.
ALTERNATIVES: tuple[tuple[frozenset[str], frozenset[str]], ...] = (
    (frozenset({"batch"}), frozenset({"batch_tokens"})),
    (frozenset({"tokens"}), frozenset({"flops"})),
    (frozenset({"epochs"}), frozenset({"unique_tokens"})),
    (frozenset({"params", "aspect"}), frozenset({"width", "depth", "heads", "ffn_width"})),
)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A sweep's cells, in the order of the spec; no two of them are the same run."""

    name: str
    description: str
    cells: tuple[Cell, ...]

    @property
    def configs(self) -> tuple[RunConfig, ...]:
        """The feasible runs."""
        return tuple(cell.config for cell in self.cells if cell.config)


def preset_names() -> tuple[str, ...]:
    """The names of the sweeps that come with isogap."""
    folder = importlib.resources.files("sweeps") / "presets"
    return tuple(sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".yaml")))


def read_sweep_text(source: str | Path) -> str:
    """The YAML text of a file, or else of the preset of that name; InputError if there is neither, or none readable."""
    if os.path.exists(source):  # False, not an error, for names that no file can have
        try:
            return Path(source).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise InputError(Path(source), "file", reason, "a readable YAML file in UTF-8") from None
    if str(source) not in preset_names():
        raise InputError("sweep", "SWEEP", str(source), f"a YAML file, or a preset: {', '.join(preset_names())}")
    return (importlib.resources.files("sweeps") / "presets" / f"{source}.yaml").read_text(encoding="utf-8")


def first_draws(run: RunConfig, wanted: WantedDraws) -> int:
    """The draws of a cell before anything is known of their spread."""
    return min(FIRST_DRAWS, wanted.most)


def load(source: str | Path, draws_of: DrawsOf = first_draws) -> Sweep:
    """The sweep in a YAML file, or the preset of that name; InputError if there is none, or it cannot be used."""
    return expand(read_spec(read_sweep_text(source), source), source, draws_of)


def expand(spec: Spec, where: object, draws_of: DrawsOf = first_draws) -> Sweep:
    """All cells of a spec.

    Args:
        draws_of: how many draws a cell has whose spec wants as many as its gap needs.

    Raises:
        InputError: the axes do not fit together, a filter cannot be used or leaves nothing, two cells are one run, or
            there are too many cells.
    """
    base = _override(DEFAULTS, spec.defaults, where, "defaults")
    cells: list[Cell] = []
    for index, block in enumerate(spec.blocks):
        path = f"blocks[{index}]"
        cells += _block_cells(block, base, where, path, MOST_CELLS - len(cells), draws_of)
        if len(cells) > MOST_CELLS:
            raise InputError(where, path, f"{len(cells)} cells", f"at most {MOST_CELLS:,} in a sweep")
    cells = _started(cells)
    _refuse_equal(cells, where)
    return Sweep(spec.name, spec.description, tuple(cells))


def _started(cells: list[Cell]) -> list[Cell]:
    """The cells with the run that each starts from. Those for which there is not just one are infeasible."""
    made: list[Cell] = []
    by_block: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        block = cell.settings.get("start_from")
        if block is not None and cell.config is not None:
            earlier = by_block.get(block, [])
            alike = [c.config for c in earlier if c.config and c.config.model == cell.config.model]
            found = _closest(cell.config, alike)
            reason = None if earlier else f"no earlier block is called {block!r}"
            if reason is None and len(found) != 1:
                reason = (
                    f"start_from: {len(found)} runs of {block!r} have its model, context and vocabulary, and its seed"
                )
            reason = reason or _unfit(cell.config, found[0], str(block))
            config = None if reason else cell.config.model_copy(update={"start_from": found[0].run_id})
            cell = dataclasses.replace(cell, config=config, reason=reason)
        made.append(cell)
        by_block[cell.block].append(cell)
    return made


def _closest(run: RunConfig, alike: list[RunConfig]) -> list[RunConfig]:
    """Of the runs that a run may start from those of its seed and draw, else those of its draw, else all."""
    of_draw = [other for other in alike if other.data.draw == run.data.draw]
    of_seed = [other for other in of_draw if other.seed == run.seed]
    return of_seed or of_draw or alike


def _unfit(run: RunConfig, start: RunConfig, block: str) -> str | None:
    """Why a run cannot start from another one, or None."""
    carried = run.start_optimizer == "carried"
    if start.keep not in (("state",) if carried else ("final", "state")):
        return f"start_from: the runs of {block!r} need keep: {'state' if carried else 'final'}"
    if carried and start.optimizer.kind != run.optimizer.kind:
        return f"start_optimizer: the runs of {block!r} have the optimizer {start.optimizer.kind}"
    common = {name for _, name in start.data.parts} & {name for _, name in run.data.parts}
    if common and start.data.split != run.data.split:
        return f"start_from: the runs of {block!r} have read text that this run holds out, of {min(common)}"
    return None


def _refuse_equal(cells: list[Cell], where: object) -> None:
    """Refuse two cells that are the same run: if they were merged, one of them would seem not to have been run."""
    seen: dict[str, Cell] = {}
    for cell in cells:
        if cell.config is None:
            continue
        equal = seen.setdefault(cell.config.run_id, cell)
        if equal is not cell:
            config = cell.config
            value = f"{config.model.architecture} {config.model.width}x{config.model.depth}, {config.steps} steps"
            differing = [key for key in cell.settings if cell.settings[key] != equal.settings.get(key)]
            others = ", ".join(f"{key} {shorten(equal.settings.get(key))!r}" for key in differing) or "equal settings"
            expected = f"a run of its own; a cell of {equal.block} with {others} is the same run"
            raise InputError(where, cell.block, f"{value}, seed {cell.seed}", expected)


def _block_cells(
    block: Block, base: Mapping[str, Any], where: object, path: str, room: int, draws_of: DrawsOf
) -> list[Cell]:
    base = _override(base, block.defaults, where, f"{path}.defaults")
    axes = _axes_of(block, where, path)
    size = math.prod(len(axis) for axis in axes) * _most_seeds(block)
    if size > room:
        raise InputError(where, path, f"{shorten(size)} cells", f"at most {MOST_CELLS:,} in a sweep")
    cells = []
    for values in itertools.product(*axes):
        chosen = {key: value for part in values for key, value in part.items()}
        settings = _override(base, chosen, where, path)
        _check_complete(settings, where, path)
        cells.append(Cell(block.name or path, settings, 0, *resolve(settings)))
    if block.where is not None:
        cells = _filter(cells, block.where, where, f"{path}.where")
    return _seeded(cells, block, where, path, draws_of)


def _axes_of(block: Block, where: object, path: str) -> list[list[dict[str, Any]]]:
    """The axes of a block, each as a list of settings to take in turn; a zip group is one axis of several fields."""
    axes = [_axis(values, key, where, f"{path}.grid.{key_text(key)}") for key, values in block.grid.items()]
    groups = block.zip if isinstance(block.zip, list) else [block.zip]
    for index, group in enumerate(groups):
        place = f"{path}.zip[{index}]" if isinstance(block.zip, list) else f"{path}.zip"
        columns = {key: _axis(values, key, where, f"{place}.{key_text(key)}") for key, values in group.items()}
        if len({len(column) for column in columns.values()}) > 1:
            lengths = ", ".join(f"{key} has {len(column)}" for key, column in columns.items())
            raise InputError(where, place, lengths, "lists of equal length")
        rows = zip(*columns.values(), strict=True)
        if columns:
            axes.append([{key: value for part in row for key, value in part.items()} for row in rows])
    names = [name for axis in axes for name in axis[0]]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated:
        raise InputError(where, path, repeated, "each field in one axis only")
    return axes


def _axis(values: object, field: str, where: object, path: str) -> list[dict[str, Any]]:
    """The settings that one field takes in turn. A value that is not a list counts as a list of one."""
    if field not in Settings.__annotations__:
        raise InputError(where, path, field, nearest(field, settings_like(field)))
    values = values if isinstance(values, list) else [values]
    if not values:
        raise InputError(where, path, values, "at least one value")
    choices = []
    for index, value in enumerate(values):
        try:
            choices.append(dict(SETTINGS.validate_python({field: value})))
        except (ValidationError, RecursionError) as error:
            raise input_error(where, path, error, KNOWN_KEYS, index) from None
    return choices


def _override(earlier: Mapping[str, Any], later: Mapping[str, Any], where: object, path: str) -> dict[str, Any]:
    """The settings of `earlier`, overridden by `later`, which may set each thing in one way only (ALTERNATIVES)."""
    void: set[str] = set()
    for ways in ALTERNATIVES:
        for way, other_way in (ways, ways[::-1]):
            if way & later.keys():
                if other_way & later.keys():
                    both = sorted((way | other_way) & later.keys())
                    raise InputError(where, path, ", ".join(both), "one way of saying it, not both")
                void |= other_way
    return {**{key: value for key, value in earlier.items() if key not in void}, **later}


def _check_complete(settings: Mapping[str, Any], where: object, path: str) -> None:
    if not {"tokens", "flops"} & settings.keys():
        raise InputError(where, f"{path}.tokens", None, "tokens, or flops, here or in the defaults")
    if "params" not in settings and not {"width", "depth"} <= settings.keys():
        raise InputError(where, f"{path}.params", None, "params, or width and depth, here or in the defaults")


def _filter(cells: list[Cell], expression: str, where: object, path: str) -> list[Cell]:
    try:
        tree = parse_expression(expression, FILTER_NAMES)
        kept = [cell for cell in cells if _keeps(tree, cell)]
    except ExpressionError as error:
        expected = f"a comparison of a cell's fields ({error})"
        raise InputError(where, path, shorten(expression), expected) from None
    if not kept:
        raise InputError(where, path, shorten(expression), f"a filter that leaves some of the {len(cells)} cells")
    return kept


def _keeps(tree: ast.expr, cell: Cell) -> bool:
    """Whether the filter keeps a cell. An infeasible cell that lacks a value is kept: the plan tells why."""
    try:
        return holds(tree, cell.values)
    except MissingValue:
        return True


def _most_seeds(block: Block) -> int:
    seeds = len(block.seeds) if isinstance(block.seeds, list) else block.seeds
    return seeds + (block.extra_seeds.count if block.extra_seeds else 0)


def _seeded(cells: list[Cell], block: Block, where: object, path: str, draws_of: DrawsOf) -> list[Cell]:
    seeds = block.seeds if isinstance(block.seeds, list) else list(range(block.seeds))
    if len(set(seeds)) < len(seeds):
        raise InputError(where, f"{path}.seeds", shorten(seeds), "seeds that differ")
    extra, further = block.extra_seeds, range(0)
    if extra is not None:
        further = range(max(seeds) + 1, max(seeds) + 1 + extra.count)
        if further[-1] >= 2**31:
            raise InputError(where, f"{path}.extra_seeds.count", extra.count, "seeds below 2^31")
    chosen = set() if extra is None else _spread(cells, extra, where, f"{path}.extra_seeds")
    made = []
    for index, cell in enumerate(cells):
        of_cell = (*seeds, *(further if index in chosen else ()))
        step, draws = max(of_cell) + 1, _draws(cell, draws_of, where, path)
        if (draws - 1) * step + max(of_cell) >= 2**31:
            raise InputError(where, f"{path}.seeds", shorten(max(of_cell)), f"seeds below 2^31 for {draws} draws")
        made += [
            run
            for draw in range(draws)
            for seed in of_cell
            for run in _with_twin(_with_seed(cell, seed + draw * step, draw))
        ]
    return made


def _draws(cell: Cell, draws_of: DrawsOf, where: object, path: str) -> int:
    """The number of draws of a cell; 1 for one that cannot run."""
    draws = cell.settings["draws"]
    if cell.config is None:
        return 1
    if isinstance(draws, WantedDraws) and "start_from" in cell.settings:
        raise InputError(where, f"{path}.draws", "as many as are needed", "a number, for runs that start from others")
    return draws_of(cell.config, draws) if isinstance(draws, WantedDraws) else draws


def _spread(cells: list[Cell], extra: ExtraSeeds, where: object, path: str) -> set[int]:
    """The indices of the cells that get extra seeds, evenly spread."""
    chosen = range(len(cells))
    if extra.where is not None:
        kept = {id(cell) for cell in _filter(cells, extra.where, where, f"{path}.where")}
        chosen = [index for index in chosen if id(cells[index]) in kept]
    wanted = math.ceil(extra.share * len(chosen) - 1e-9)
    return {chosen[(2 * rank + 1) * len(chosen) // (2 * wanted)] for rank in range(wanted)}


def _with_twin(cell: Cell) -> list[Cell]:
    if cell.config is None or cell.config.data.half is None:
        return [cell]
    return [cell, dataclasses.replace(cell, config=cell.config.twin())]


def _with_seed(cell: Cell, seed: int, draw: int) -> Cell:
    # The values have been checked: copies avoid validating the whole configuration again.
    config = cell.config
    if config is not None:
        data = config.data.model_copy(update={"draw": draw}) if draw else config.data
        config = config.model_copy(update={"seed": seed, "data": data})
    return dataclasses.replace(cell, seed=seed, config=config)
