"""Arguments and options that several commands of `isogap` take."""

from pathlib import Path
from typing import Annotated

import typer

SweepArgument = Annotated[str, typer.Argument(metavar="SWEEP", help="a sweep's YAML file, or a preset's name")]
# Text, not a path: "s3://bucket" as a path would lose a slash.
FolderArgument = Annotated[str, typer.Argument(metavar="DIR", help="a sweep's folder, or its URL: s3://BUCKET/NAME")]
SourceArgument = Annotated[
    str, typer.Argument(metavar="SOURCE", help="a sweep's folder or its URL, or a CSV or parquet of runs")
]
JsonFlag = Annotated[bool, typer.Option("--json", help="print JSON instead of a table")]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="write the result as JSON")]
Cache = Annotated[Path | None, typer.Option(help="folder of prepared data and compiled programs")]
SetOption = Annotated[list[str], typer.Option("--set", metavar="ROLE=COLUMN", help="put a column in a role")]
Where = Annotated[
    str | None, typer.Option(help="use the rows with this condition on the file's own columns, e.g. 'params > 1e5'")
]
Holdout = Annotated[str | None, typer.Option(help="score the rows with this condition, do not fit them")]
Estimator = Annotated[
    str, typer.Option(help="which gap of a sweep's folder: best (twin, else probe), twin, control, probe or online")
]
Units = Annotated[str, typer.Option(help="of a sweep's folder: tokens, or bytes for several tokenizers")]


FitArgument = Annotated[Path, typer.Argument(metavar="FIT.json", help="what `isogap fit --json` wrote")]
LawOption = Annotated[str, typer.Option(help="a law's id; `isogap laws` lists them")]
Bootstrap = Annotated[int, typer.Option(min=0, help="refits to resampled clusters")]
