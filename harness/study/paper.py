"""A study of losses: how its runs are judged, and the worlds with known answers on which its rules are tried.

Each is one file in `harness/study/papers` or a folder of it, which defines a `Paper` under its own name in capitals.
Nothing else knows it by name: `isogap study`, the page, `scripts/claims.py` and the tests find it there.
"""

import functools
import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from harness.forecasts.registry_file import RegisteredForecast
from harness.study.loss_verdict import LossVerdict
from harness.study.loss_worlds import LossWorld


@dataclass(frozen=True)
class Paper:
    """A study of losses.

    Attributes:
        judge: the table of runs (`harness.study.cells.study_runs`), also of those few that have ended -> what they say.
            Raises InputError if none has.
        worlds: simulated answers to the study's question, with the words that they should get.
        forecast: what the runs of the blocks that a study's declaration says foretell of a further sweep, which is
            written down before that is run; None for a study without `forecasts`.
    """

    judge: Callable[[pd.DataFrame], LossVerdict]
    worlds: tuple[LossWorld, ...]
    forecast: Callable[[pd.DataFrame], Sequence[RegisteredForecast]] | None = None


@functools.cache
def _modules() -> dict[str, str]:
    """The module of each study of losses by the name of its file, in `harness.study.papers` or in a folder of it."""
    folder = Path(__file__).with_name("papers")
    found = pkgutil.walk_packages([str(folder)], "harness.study.papers.")
    return {module.name.rpartition(".")[2]: module.name for module in found if not module.ispkg}


def paper_names() -> tuple[str, ...]:
    """The names of all studies of losses, which are those of their files."""
    return tuple(sorted(_modules()))


@functools.cache
def get_paper(name: str) -> Paper:
    """The study of this name, one of `paper_names`."""
    return getattr(importlib.import_module(_modules()[name]), name.upper())
