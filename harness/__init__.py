"""isogap: trains grids of small language models, measures their generalization gaps, and fits scaling laws to them."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any


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


def __getattr__(name: str) -> Any:
    """`predict_gap` on first use: importing the package stays free of numpy and JAX, so that `--help` is fast."""
    if name == "predict_gap":
        from harness.fit.gap_law.published import predict_gap

        return predict_gap
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# The program, `python -m harness`, takes the working folder off the import path before it imports another package.
if sys.argv[:1] != ["-m"]:
    _refuse_strangers()
