"""The arguments and options that several commands of `isogap` have."""

from pathlib import Path
from typing import Annotated, Any

from typer import Argument, CallbackParam, Option

from sweeps.errors import InputError


def writable(param: CallbackParam, file: Any) -> Any:
    """Refuse a file in a folder that does not exist before the work, not after."""
    option = param.opts[0]
    if file is not None and not Path(file).absolute().parent.is_dir():
        raise InputError(file, option, "no such folder", "a file in a folder that exists")
    if file is not None and Path(file).is_dir():
        raise InputError(file, option, "a folder", "a file")
    return file


SweepArgument = Annotated[str, Argument(metavar="SWEEP", help="a sweep's YAML file, or the name of a preset")]
# Text, not a path: "s3://bucket" as a path would lose a slash.
FolderArgument = Annotated[str, Argument(metavar="DIR", help="a sweep's folder, or its URL: s3://BUCKET/NAME")]
FILE_OF_RUNS = (
    "a file of runs: CSV with commas, semicolons or tabs, JSON, JSON lines or parquet, also compressed; - is the "
    "standard input"
)
SourceArgument = Annotated[
    str, Argument(metavar="SOURCE", help=f"the folder of a sweep or study, or its URL, or {FILE_OF_RUNS}")
]
FitArgument = Annotated[
    str,
    Argument(
        metavar="FIT.json",
        help=f"the file that `isogap fit --json` wrote; with --score a sweep's folder or its URL, or {FILE_OF_RUNS}",
    ),
]
RegisterFile = Annotated[
    Path | None,
    Option(metavar="FILE", callback=writable, help="also write the predictions down as forecasts, one JSON line each"),
]
ScoreFile = Annotated[
    Path | None, Option(metavar="FILE", help="instead: score the forecasts of FILE on runs, which are the argument")
]
Cache = Annotated[Path | None, Option(help="folder of prepared text and compiled programs; by default the user's")]
JsonFlag = Annotated[bool, Option("--json", help="print JSON instead of a table")]
JsonFile = Annotated[
    Path | None,
    Option("--json", metavar="FILE", callback=writable, help="also write the result to FILE as JSON"),
]
Workers = Annotated[
    int | None,
    Option(min=1, help="processes that share the cores, by default as many as were fastest; on Slurm jobs"),
]
MaxMinutes = Annotated[float | None, Option(help="stop at a checkpoint after this time; the same command goes on")]
SetOption = Annotated[
    list[str], Option("--set", metavar="ROLE=COLUMN", help="which column fills a role, e.g. N=params; may be repeated")
]
Where = Annotated[
    str | None, Option(help="use only the rows that meet this condition on columns or roles, e.g. 'params > 20M'")
]
Holdout = Annotated[
    str | None, Option(help="do not fit the rows that meet this condition, but score their predictions")
]
By = Annotated[str | None, Option(metavar="COLUMN", help="take the runs of each value of this column on their own")]
Estimator = Annotated[
    str, Option(help="of a sweep's runs, which gap: twin, control, probe, online, or best (twin, else probe)")
]
Units = Annotated[
    str, Option(help="of a sweep's runs, how text is counted: in tokens, or in bytes to compare tokenizers")
]
LawOption = Annotated[
    str | None, Option(help="the id of a law (`isogap laws` lists them), or an expression such as 'E + A/N**alpha'")
]
Fix = Annotated[
    list[str], Option("--fix", metavar="NAME=VALUE", help="hold a constant of the law, e.g. E=1.6; may be repeated")
]
Bootstrap = Annotated[
    int, Option(min=0, help="refits to resampled runs, for the errors; 0 takes errors from the curvature")
]
