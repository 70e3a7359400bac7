"""What a sweep will cost before it costs anything: sizes, FLOPs, memory, packs, compiles, time, and what cannot run."""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from typing import Any

from models.count import count, flops
from sweeps.calibration import TWO_CORES, Calibration
from sweeps.cells import Cell, derived
from sweeps.config import RunConfig
from sweeps.errors import InputError
from sweeps.grid import Sweep
from sweeps.memory import run_bytes
from sweeps.packs import Pack, choose_slots, packs
from sweeps.shape import shape_of

# (domain, tokenizer, heldout_fraction) -> tokens of the pool a run may train on.
AvailableTokens = Callable[[str, str, float], int]
_QUANTITIES = (
    "N N_total N_nonembedding N_active N_trainable D U epochs u steps batch batch_tokens width depth heads lr vocab "
    "flops flops_6nd"
).split()


@dataclasses.dataclass(frozen=True)
class PlannedCell:
    """A cell, and whether it will run.

    Attributes:
        run_id: of the run; None if no configuration was found.
        memory_bytes: the run's need when it trains alone.
        reason: why it will not run; None if it will.
    """

    cell: Cell
    run_id: str | None
    memory_bytes: int | None
    reason: str | None

    @functools.cached_property
    def row(self) -> Mapping[str, Any]:
        """A flat row for tables: names and settings, the quantities of the glossary, shares of the head, the reason."""
        cell, config = self.cell, self.cell.config
        names = {key: cell.settings[key] for key in ("architecture", "tokenizer", "domain", "params_kind")}
        numbers = derived(config, cell.params_kind) if config else {}
        return {
            "run_id": self.run_id,
            "block": cell.block,
            **names,
            "seed": cell.seed,
            **{key: numbers.get(key) for key in _QUANTITIES},
            "head_share_parameters": count(config.model).head_share if config else None,
            "head_share_flops": flops(config.model).head_share if config else None,
            "memory_bytes": self.memory_bytes,
            "reason": self.reason,
        }


@dataclasses.dataclass(frozen=True)
class Seconds:
    """Estimated time on one worker, in seconds."""

    compile: float
    training: float
    evaluation: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.compile + self.training + self.evaluation


@dataclasses.dataclass(frozen=True)
class Plan:
    """A sweep and its cost.

    Attributes:
        packs: of the cells that will run; see `sweeps.packs`.
        compiles: distinct signatures.
        flops, flops_6nd: training operations of these runs, exact and as 6 N D; padding and evaluation not included.
    """

    name: str
    description: str
    cells: tuple[PlannedCell, ...]
    packs: tuple[Pack, ...]
    compiles: int
    flops: int
    flops_6nd: int
    seconds: Seconds
    calibration: Calibration

    @property
    def runs(self) -> tuple[RunConfig, ...]:
        """The runs that will be trained."""
        return tuple(cell.cell.config for cell in self.cells if cell.cell.config and cell.reason is None)

    @property
    def infeasible(self) -> tuple[PlannedCell, ...]:
        """The cells that will not run."""
        return tuple(cell for cell in self.cells if cell.reason is not None)

    def to_json(self) -> str:
        """Everything, as one JSON object; the cells as flat rows."""
        value = {
            "name": self.name,
            "description": self.description,
            "runs": len(self.runs),
            "infeasible": len(self.infeasible),
            "compiles": self.compiles,
            "flops": self.flops,
            "flops_6nd": self.flops_6nd,
            "seconds": {**dataclasses.asdict(self.seconds), "total": self.seconds.total},
            "cells": [cell.row for cell in self.cells],
            "packs": [_pack_row(pack, self.calibration) for pack in self.packs],
            "calibration": json.loads(self.calibration.to_json()),
        }
        return json.dumps(value, allow_nan=False)


def plan(
    sweep: Sweep,
    available_tokens: AvailableTokens | None = None,
    calibration: Calibration = TWO_CORES,
    machine_bytes: int | None = None,
    memory_limit: int | None = None,
) -> Plan:
    """The plan of a sweep on one worker.

    Args:
        available_tokens: asked once for each corpus, tokenizer and held-out fraction; an InputError of it is the reason
            why their cells will not run. None leaves the corpora unchecked.
        machine_bytes: the machine's memory; a run that needs more alone is infeasible. None leaves it unchecked.
        memory_limit: bytes a pack may need; None for any.
    """
    held = functools.cache(functools.partial(_held, available_tokens)) if available_tokens else None
    micro_tokens = calibration.micro_tokens
    cells = tuple(_planned(cell, held, micro_tokens, machine_bytes) for cell in sweep.cells)
    configs = [cell.cell.config for cell in cells if cell.cell.config and cell.reason is None]
    made = packs(
        configs,
        micro_tokens,
        choose_slots(configs, micro_tokens, calibration.gain, memory_limit, calibration.mixture_slots),
    )
    times = [pack_time(pack, calibration) for pack in made]
    seconds = Seconds(
        compile=sum(calibration.compile_time(pack.shape.model) for pack in made),
        training=sum(training for training, _ in times),
        evaluation=sum(evaluation for _, evaluation in times),
    )
    return Plan(
        name=sweep.name,
        description=sweep.description,
        cells=cells,
        packs=made,
        compiles=len(made),
        flops=sum(flops(config.model).train * config.tokens for config in configs),
        flops_6nd=sum(flops(config.model).six_n * config.tokens for config in configs),
        seconds=seconds,
        calibration=calibration,
    )


def _held(available_tokens: AvailableTokens, domain: str, tokenizer: str, heldout_fraction: float) -> int | str:
    """The tokens, or why there are none: returned, because a cache keeps no exceptions."""
    try:
        return available_tokens(domain, tokenizer, heldout_fraction)
    except InputError as error:
        return str(error)


def _planned(
    cell: Cell, held: Callable[[str, str, float], int | str] | None, micro_tokens: int, machine_bytes: int | None
) -> PlannedCell:
    config = cell.config
    if config is None:
        return PlannedCell(cell, None, None, cell.reason)
    memory, data = run_bytes(shape_of(config, micro_tokens)), config.data
    reason = None
    if machine_bytes is not None and memory > machine_bytes:
        reason = f"needs {memory / 1e9:.2g} GB, more than the machine's {machine_bytes / 1e9:.2g} GB"
    elif held is not None:
        pool = held(data.domain, data.tokenizer, data.heldout_fraction)
        if isinstance(pool, str):
            reason = pool
        elif data.unique_tokens > pool:
            reason = f"U = {data.unique_tokens:,} tokens, but {data.domain} holds {pool:,} as {data.tokenizer}"
    return PlannedCell(cell, config.run_id, memory, reason)


def pack_time(pack: Pack, calibration: Calibration) -> tuple[float, float]:
    """(training, evaluation) seconds of a pack, compiled already."""
    evaluations = sum(len(run.evaluation_steps()) for run in pack.runs)
    training = pack.turns * calibration.turn_time(pack.shape, pack.slots)
    return training, evaluations * calibration.evaluation_time(pack.shape)


def _pack_row(pack: Pack, calibration: Calibration) -> dict[str, Any]:
    return {
        "pack_id": pack.pack_id,
        "signature": pack.shape.signature,
        "slots": pack.slots,
        "turns": pack.turns,
        "runs": [config.run_id for config in pack.runs],
        "seconds": sum(pack_time(pack, calibration)),
    }
