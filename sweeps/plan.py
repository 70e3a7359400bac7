"""What a sweep will cost before it runs: sizes, FLOPs, memory, packs, compiles, time, and cells that cannot run."""

import dataclasses
import functools
import heapq
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from models.count import count, flops
from sweeps.calibration import TWO_CORES, Calibration
from sweeps.cells import Cell, derived
from sweeps.config import DataConfig, RunConfig
from sweeps.errors import InputError
from sweeps.grid import Sweep
from sweeps.packs import Pack, choose_slots, packs
from sweeps.shape import Shape, run_bytes, shape_of

# (text, tokenizer and split) -> the number of tokens that a run may train on.
AvailableTokens = Callable[[DataConfig], int]
# Raises InputError for a run that cannot be trained or measured on its text.
CheckText = Callable[[RunConfig], None]
# A run -> further columns of its row in the plan.
Expect = Callable[[Cell], Mapping[str, Any]]
# A placeholder for U: cells that differ only in their unique tokens share one look-up of the available tokens.
ANY_UNIQUE_TOKENS = 2
_QUANTITIES = (
    "N N_total N_nonembedding N_active N_trainable D U epochs u steps batch batch_tokens width depth heads lr vocab "
    "flops flops_6nd"
).split()


@dataclasses.dataclass(frozen=True)
class PlannedCell:
    """A cell, and whether it will run.

    Attributes:
        run_id: the run's id; None if no configuration was found.
        memory_bytes: the memory that the run needs when it trains alone.
        reason: why it will not run; None if it will.
        expected: further columns of the cell's row.
    """

    cell: Cell
    run_id: str | None
    memory_bytes: int | None
    reason: str | None
    expected: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def row(self) -> Mapping[str, Any]:
        """A flat row for tables: names and settings, the glossary's quantities, the head's shares, the reason."""
        cell, config = self.cell, self.cell.config
        names = {key: cell.settings[key] for key in ("architecture", "tokenizer", "domain", "params_kind")}
        numbers = derived(config, cell.params_kind) if config else {}
        return {
            "run_id": self.run_id,
            "block": cell.block,
            **names,
            "seed": cell.seed,
            "half": config.data.half if config else None,
            **{key: numbers.get(key) for key in _QUANTITIES},
            "head_share_parameters": count(config.model).head_share if config else None,
            "head_share_flops": flops(config.model).head_share if config else None,
            "memory_bytes": self.memory_bytes,
            **self.expected,
            "reason": self.reason,
        }


@dataclasses.dataclass(frozen=True)
class Seconds:
    """The estimated seconds of the process that is busy longest; starting it counts as compiling."""

    compile: float
    training: float
    evaluation: float

    @property
    def total(self) -> float:
        """The sum of the three."""
        return self.compile + self.training + self.evaluation


@dataclasses.dataclass(frozen=True)
class Division:
    """How runs are divided among processes.

    Attributes:
        packs: the packs of all runs, see `sweeps.packs`.
        processes: number of processes that train packs at the same time, each on its share of the cores.
        calibration: the speed of each process.
    """

    packs: tuple[Pack, ...]
    processes: int
    seconds: Seconds
    calibration: Calibration

    @property
    def compiles(self) -> int:
        """The number of compilations: one for each signature and each process that trains it."""
        return len(self.packs)


@dataclasses.dataclass(frozen=True)
class Plan(Division):
    """A sweep, and how the cells that will run are dealt to processes."""

    name: str
    description: str
    cells: tuple[PlannedCell, ...]

    @property
    def runs(self) -> tuple[RunConfig, ...]:
        """The runs that will be trained."""
        return tuple(cell.cell.config for cell in self.cells if cell.cell.config and cell.reason is None)

    @property
    def infeasible(self) -> tuple[PlannedCell, ...]:
        """The cells that will not run."""
        return tuple(cell for cell in self.cells if cell.reason is not None)

    @property
    def flops(self) -> int:
        """Exact training operations of the runs, without padding and evaluation."""
        return sum(flops(run.model).train * run.tokens for run in self.runs)

    @property
    def flops_6nd(self) -> int:
        """Training operations of the runs by the convention 6 N D."""
        return sum(flops(run.model).six_n * run.tokens for run in self.runs)

    def to_json(self) -> str:
        """The whole plan as one JSON object, with the cells as flat rows."""
        value = {
            "name": self.name,
            "description": self.description,
            "runs": len(self.runs),
            "infeasible": len(self.infeasible),
            "compiles": self.compiles,
            "processes": self.processes,
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
    check_text: CheckText | None = None,
    expect: Expect | None = None,
) -> Plan:
    """The plan of a sweep on this machine.

    Args:
        available_tokens: called once for each text, tokenizer and split; if it raises InputError, that is the reason
            why their cells will not run. None leaves the corpora unchecked.
        machine_bytes: the machine's memory; a run that alone needs more is infeasible. None leaves it unchecked.
        memory_limit: the bytes that a pack may need; None for no limit.
        check_text: called for each run whose text is there; the reason why it will not run is what it raises.
        expect: gives further columns for the rows of feasible cells.
    """
    pool_of = functools.cache(functools.partial(_pool, available_tokens)) if available_tokens else None
    cells = tuple(
        _planned(cell, pool_of, calibration.micro_tokens, machine_bytes, check_text, expect) for cell in sweep.cells
    )
    configs = [cell.cell.config for cell in cells if cell.cell.config and cell.reason is None]
    division = divide(configs, calibration, memory_limit)
    return Plan(**vars(division), name=sweep.name, description=sweep.description, cells=cells)


def _pool(available_tokens: AvailableTokens, data: DataConfig) -> int | str:
    """The available tokens, or the reason why there are none. It is returned because a cache keeps no exception."""
    try:
        return available_tokens(data)
    except InputError as error:
        return str(error)


def _planned(
    cell: Cell, pool_of: Callable[[DataConfig], int | str] | None, micro_tokens: int, machine_bytes: int | None,
    check_text: CheckText | None, expect: Expect | None,
) -> PlannedCell:  # fmt: skip
    config = cell.config
    if config is None:
        return PlannedCell(cell, None, None, cell.reason)
    memory, data = run_bytes(shape_of(config, micro_tokens)), config.data
    reason = None
    if machine_bytes is not None and memory > machine_bytes:
        reason = f"needs {memory / 1e9:.2g} GB, more than the machine's {machine_bytes / 1e9:.2g} GB"
    elif pool_of is not None:
        pool = pool_of(data.model_copy(update={"unique_tokens": ANY_UNIQUE_TOKENS}))
        if isinstance(pool, str):
            reason = pool
        elif data.unique_tokens > pool:
            reason = f"U = {data.unique_tokens:,} tokens, but {data.domain} holds {pool:,} as {data.tokenizer}"
    if check_text is not None and reason is None:
        try:
            check_text(config)
        except InputError as error:
            reason = str(error).removeprefix(f"{config.run_id}: ")  # so that runs share their reasons
    expected = expect(cell) if expect and reason is None else {}
    return PlannedCell(cell, config.run_id, memory, reason, expected)


# Pinned workers are chosen only if their estimated time is below this share of the time of one process. The margin is
# larger than the error of the estimate: where both should have been equal, they came out within 3 % of each other.
CLEARLY = 0.95


def divide(configs: Sequence[RunConfig], calibration: Calibration, memory_limit: int | None = None) -> Division:
    """Deal the runs to one process on all cores, or to pinned workers if the calibration says that these end sooner.

    The packs that train at the same time may together need `memory_limit` bytes; None for no limit.
    """
    whole = _division(configs, calibration, 1, 0.0, memory_limit)
    workers = calibration.workers
    if workers is None:
        return whole
    limit = None if memory_limit is None else memory_limit // workers.processes
    shared = _division(configs, calibration.one_worker(), workers.processes, workers.start_seconds, limit)
    return shared if shared.seconds.total < CLEARLY * whole.seconds.total else whole


def _division(
    configs: Sequence[RunConfig], calibration: Calibration, processes: int, start: float, memory_limit: int | None
) -> Division:
    micro_tokens = calibration.micro_tokens
    slots = choose_slots(configs, micro_tokens, calibration.gain, memory_limit, calibration.mixture_slots)
    made = packs(configs, micro_tokens, slots, processes, pays_for_another(calibration, slots))
    # As in `harness.launch.local`: a worker that has ended a pack takes the next one.
    busy = [(start, process, Seconds(start, 0.0, 0.0)) for process in range(processes)]
    for pack in made:
        _, process, spent = heapq.heappop(busy)
        training, evaluation = pack_time(pack, calibration)
        compiling = calibration.compile_time(pack.shape.model)
        spent = Seconds(spent.compile + compiling, spent.training + training, spent.evaluation + evaluation)
        heapq.heappush(busy, (spent.total, process, spent))
    return Division(made, processes, max(busy)[2], calibration)


def pays_for_another(calibration: Calibration, slots: Mapping[str, int]) -> Callable[[Shape], float]:
    """For each shape, how many turns take as long as compiling its program: fewer do not justify compiling again."""

    def turns(shape: Shape) -> float:
        return calibration.compile_time(shape.model) / calibration.turn_time(shape, slots[shape.signature])

    return turns


def pack_time(pack: Pack, calibration: Calibration) -> tuple[float, float]:
    """The seconds of training and of evaluation of a pack whose program is compiled."""
    training = pack.turns * calibration.turn_time(pack.shape, pack.slots)
    evaluated = Counter(run.evaluated_windows(step) for run in pack.runs for step in run.evaluation_steps())
    return training, sum(
        count * calibration.evaluation_time(pack.shape, pack.slots, windows) for windows, count in evaluated.items()
    )


def _pack_row(pack: Pack, calibration: Calibration) -> dict[str, Any]:
    return {
        "pack_id": pack.pack_id,
        "signature": pack.shape.signature,
        "slots": pack.slots,
        "turns": pack.turns,
        "runs": [config.run_id for config in pack.runs],
        "seconds": sum(pack_time(pack, calibration)),
    }
