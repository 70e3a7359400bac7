"""The plan of a sweep on this machine: with the text that is available here and the speed that was measured here."""

import functools
import os
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from harness.data.mixture import available_tokens, mixture_of, probe_stores, stores_of
from harness.data.store import TokenStore, prepare
from harness.files import default_cache
from harness.gaps.design import expectation
from harness.gaps.pilot_errors import expected_from
from harness.launch.packing import memory_limit_of
from harness.machine.calibration_file import calibration_of
from harness.measures.declared import check_measures
from harness.record.table import runs_table
from harness.tables.files import read_file
from harness.terminal import working
from sweeps.calibration import TWO_CORES
from sweeps.config import DataConfig, RunConfig
from sweeps.errors import InputError
from sweeps.grid import load
from sweeps.plan import Plan, plan


def plan_sweep(sweep: str, cache: Path | None, calibrate: bool, pilot: Path | None = None) -> Plan:
    """Plan a sweep for this machine; InputError if its spec is bad.

    Args:
        sweep: a spec's file, or the name of a preset.
        cache: folder of prepared text and measurements; None for the user's.
        calibrate: measure this machine once and keep the result in the cache. Otherwise two typical cores are assumed.
        pilot: the folder of a sweep, or its exported table, whose draws say what errors to expect.
    """
    cache = default_cache() if cache is None else cache
    expected = (
        None if pilot is None else expected_from(runs_table(pilot) if pilot.is_dir() else read_file(pilot), pilot)
    )
    loaded = load(sweep)
    calibration = calibration_of(cache) if calibrate else TWO_CORES
    opened = functools.cache(functools.partial(prepare, cache=cache))

    def available(data: DataConfig) -> int:
        return available_tokens(tuple(share for share, _ in data.parts), stores_of(opened, data))

    corpora = sorted({name for run in loaded.configs for _, name in run.data.parts})
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with working(f"preparing text, once: {', '.join(corpora)}"):
        return plan(
            loaded, available, calibration, memory, memory_limit_of(calibration.platform),
            functools.partial(_check_text, functools.partial(stores_of, opened)), expectation(opened, expected),
        )  # fmt: skip


def without_text(runs: Iterable[RunConfig], cache: Path) -> Counter[str]:
    """Reason -> number of runs, of those whose text cannot be read or does not suffice for them or their twins."""
    stores = functools.partial(stores_of, functools.cache(functools.partial(prepare, cache=cache)))
    reasons = Counter()
    for run in runs:
        try:
            for each in (run, *([run.twin()] if run.data.half else [])):
                _check_text(stores, each)
        except InputError as error:
            reasons[str(error).removeprefix(f"{run.run_id}: ")] += 1
    return reasons


def _check_text(stores: Callable[[DataConfig], tuple[TokenStore, ...]], run: RunConfig) -> None:
    """InputError if a run's text does not suffice, or what is to be measured on it and others cannot be."""
    probe_stores(run, mixture_of(run, stores(run.data)), stores)
    check_measures(run)
