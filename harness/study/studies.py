"""The studies that come with isogap: what each asks, the sweeps that answer it, and its folder."""

import importlib.resources
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sweeps.complaints import nearest
from sweeps.errors import InputError

# The file that declares a study, and beside it its table of runs and its verdict.
DECLARATION, RUNS, VERDICT = "study.yaml", "runs.parquet", "verdict.json"


class Forecast(BaseModel):
    """Forecasts of a study: what some of its blocks say of the cells of a sweep, written down before it is run.

    Attributes:
        sweep: the preset that is forecast. It is run when the forecasts are written down.
        fitted_to: the blocks whose cells are fitted.
        file: the name of the file of forecasts, beside the table of runs.
        gap, loss: of the study of the gap the ids of the competing laws of the gap, and of the held-out loss. What a
            study of losses forecasts its `Paper` says.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sweep: str
    fitted_to: tuple[str, ...]
    file: Annotated[str, Field(pattern=r"^\w+\.jsonl$")]
    gap: tuple[str, ...] = ()
    loss: tuple[str, ...] = ()


class Study(BaseModel):
    """A question of a paper, and how it is answered here.

    Attributes:
        question: in a sentence.
        paper: whose claims are judged: authors, year and arXiv number.
        minutes: what all of it takes on two cores.
        sweeps: presets, in the order in which they are run.
        forecasts: what is forecast before it is run, in the order in which that is done, after all other sweeps.
        judge: how the runs are judged, a name of `harness.study.judges`.
        times: whether the times of all shapes are measured after the last run, as `isogap time` does it, and stand in
            the table of runs (`harness.study.times`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    question: str
    paper: str = ""
    minutes: Annotated[float, Field(gt=0)] | None = None
    sweeps: Annotated[tuple[str, ...], Field(min_length=1)]
    judge: str
    forecasts: tuple[Forecast, ...] = ()
    times: bool = False

    @property
    def presets(self) -> tuple[str, ...]:
        """All sweeps in the order in which they are run, those that are forecast last."""
        return (*self.sweeps, *(forecast.sweep for forecast in self.forecasts))


def studies_folder() -> Path:
    """The folder of the studies, one folder each."""
    return Path(str(importlib.resources.files("sweeps") / "studies"))


def study_names() -> tuple[str, ...]:
    """The names of the studies."""
    return tuple(sorted(file.parent.name for file in studies_folder().glob("*/" + DECLARATION)))


def load_study(name: str) -> Study:
    """The study of this name; InputError if there is none."""
    if name not in study_names():
        raise InputError("study", "NAME", name, nearest(name, study_names(), "study"))
    return read_study(studies_folder() / name / DECLARATION)


def read_study(file: Path) -> Study:
    """Read a declaration; InputError for one that is not valid."""
    try:
        return Study.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(file, ".".join(map(str, first["loc"])), first["input"], first["msg"]) from None
    except (OSError, yaml.YAMLError) as error:
        raise InputError(file, "file", type(error).__name__, "the declaration of a study") from None


def study_of(source: Path) -> Path | None:
    """The declaration of the study whose table of runs this is, or None: a parquet file beside a `study.yaml`.

    The folder of a study stands for the table in it.
    """
    if source.is_dir():
        source = source / RUNS
    file = source.with_name(DECLARATION)
    return file if source.suffix == ".parquet" and source.is_file() and file.is_file() else None
