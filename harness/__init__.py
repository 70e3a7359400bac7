"""isogap: trains grids of small language models, measures their generalization gaps, and fits scaling laws to them.

From Python: `from harness import read_runs, fit, compare`, or `import harness` and `harness.fit(...)`. Each function is
imported on its first use, so that importing this package costs neither JAX nor pandas. Three of them, `fit`, `gaps` and
`report`, bear the names of subpackages: as an attribute of this package the name means the function, and what is in the
subpackage is imported from it, as in `from harness.fit.results.result import FitResult`.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.door.folders import measure_gaps as gaps
    from harness.door.folders import plan_runs as plan
    from harness.door.folders import train_runs as run
    from harness.door.tables import allocate_compute as allocate
    from harness.door.tables import allocate_table as allocate_runs
    from harness.door.tables import collapse_runs as collapse
    from harness.door.tables import compare_laws as compare
    from harness.door.tables import cross_recipes as crossover
    from harness.door.tables import fit_groups as fit_by
    from harness.door.tables import fit_runs as fit
    from harness.door.tables import group_universality as universality
    from harness.door.tables import judge_gap_law as verdict
    from harness.door.tables import list_laws as laws
    from harness.door.tables import memorised_bits_of_runs as memorised_bits
    from harness.door.tables import predict_points as predict
    from harness.door.tables import register_forecasts, score_forecasts
    from harness.door.tables import transfer_losses as transfer
    from harness.door.tables import write_report_page as report
    from harness.fit.allocation.time_budget import best_in_time
    from harness.fit.gap_law.constants import predict_gap
    from harness.fit.quantities.pass_rates import pass_rates_of_models as pass_rates
    from harness.fit.shared.exponents import compare_exponents
    from harness.source import read_runs
    from harness.tables.trackers.runs import import_runs
    from harness.tuning import tune_rates as tune
    from sweeps.errors import InputError

# Where each function is defined, and its name there.
_HOMES = {
    "allocate_runs": ("harness.door.tables", "allocate_table"),
    "allocate": ("harness.door.tables", "allocate_compute"),
    "collapse": ("harness.door.tables", "collapse_runs"),
    "compare": ("harness.door.tables", "compare_laws"),
    "crossover": ("harness.door.tables", "cross_recipes"),
    "fit": ("harness.door.tables", "fit_runs"),
    "fit_by": ("harness.door.tables", "fit_groups"),
    "laws": ("harness.door.tables", "list_laws"),
    "memorised_bits": ("harness.door.tables", "memorised_bits_of_runs"),
    "predict": ("harness.door.tables", "predict_points"),
    "register_forecasts": ("harness.door.tables", "register_forecasts"),
    "score_forecasts": ("harness.door.tables", "score_forecasts"),
    "transfer": ("harness.door.tables", "transfer_losses"),
    "universality": ("harness.door.tables", "group_universality"),
    "verdict": ("harness.door.tables", "judge_gap_law"),
    "gaps": ("harness.door.folders", "measure_gaps"),
    "plan": ("harness.door.folders", "plan_runs"),
    "report": ("harness.door.tables", "write_report_page"),
    "run": ("harness.door.folders", "train_runs"),
    "compare_exponents": ("harness.fit.shared.exponents", "compare_exponents"),
    "best_in_time": ("harness.fit.allocation.time_budget", "best_in_time"),
    "pass_rates": ("harness.fit.quantities.pass_rates", "pass_rates_of_models"),
    "predict_gap": ("harness.fit.gap_law.constants", "predict_gap"),
    "import_runs": ("harness.tables.trackers.runs", "import_runs"),
    "read_runs": ("harness.source", "read_runs"),
    "tune": ("harness.tuning", "tune_rates"),
    "InputError": ("sweeps.errors", "InputError"),
}
__all__ = [
    "InputError", "allocate", "allocate_runs", "best_in_time", "collapse", "compare", "compare_exponents", "crossover",
    "fit", "fit_by", "gaps", "import_runs", "laws", "memorised_bits", "pass_rates", "plan", "predict", "predict_gap",
    "read_runs", "register_forecasts", "report", "run", "score_forecasts", "transfer", "tune", "universality",
    "verdict",
]  # fmt: skip


class _Door(ModuleType):
    """This package as a module: no subpackage takes the place of a function of the same name."""

    def __setattr__(self, name: str, value: Any) -> None:
        # Python sets a subpackage as an attribute of its package when it is first imported.
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


def __getattr__(name: str) -> Any:
    """Import a function of this package on its first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, function = _HOMES[name]
    globals()[name] = getattr(import_module(module), function)
    return globals()[name]


def __dir__() -> list[str]:
    """The names that a notebook completes."""
    return __all__


def _refuse_strangers() -> None:
    """Check that the packages beside this one are isogap's.

    Raises:
        ImportError: the working folder, or another on the import path, has a package of the same name.
    """
    home = Path(__file__).resolve().parents[1]
    for name in ("models", "sweeps"):
        spec = find_spec(name)
        places = [*(spec.submodule_search_locations or ()), spec.origin or ""] if spec else []
        if places and Path(places[0]).resolve() != home / name:
            raise ImportError(
                f"{places[0]} stands in the place of isogap's own package {home / name}: rename it, or start Python in "
                "another folder"
            )


sys.modules[__name__].__class__ = _Door
# `python -m harness` needs no check: it takes the working folder off the import path before it imports another package.
if sys.argv[:1] != ["-m"]:
    _refuse_strangers()
