"""`isogap study`: the studies there are, or one of them carried out."""

from pathlib import Path

import typer

from harness.files import default_cache, open_folder, read_object
from harness.fit.gap_law.rulings import Ruling
from harness.study.carry_out import PAGE, carry_out
from harness.study.cells import read_study_runs
from harness.study.repeat import VERDICT, repeat_of
from harness.study.studies import RUNS, Study, load_study, study_names
from harness.terminal import print_rows
from harness.train.session import Session
from sweeps.errors import InputError
from sweeps.grid import load


def study(
    name: str | None, out: str | None, workers: int | None, max_minutes: float | None, cache: Path | None
) -> None:
    """Print the studies; or run one, write its results, print what was found, and exit with its status.

    Raises:
        InputError: no study of that name, or a folder that cannot be used.
        typer.Exit: after a study, with the exit status.
    """
    if name is None:
        print_rows([_listed(load_study(name)) for name in study_names()])
        return
    chosen = load_study(name)
    if out is None:
        expected = f"the folder of its sweeps and results, as in `isogap study {name} --out runs/{name}`"
        raise InputError(f"study {name}", "--out", None, expected)
    folder = open_folder(out)
    session = Session(folder, cache or default_cache(), workers=workers, max_minutes=max_minutes)
    status = carry_out(chosen, folder, session)
    if status in (0, 3) and (folder / PAGE).is_file():
        print_findings(chosen.name, folder / RUNS, folder / PAGE)
        print(folder / PAGE)
    raise typer.Exit(status)


def print_findings(name: str, table: Path, page: Path) -> None:
    """Print what a study has found, from the verdict beside its page: of a repeat, beside the committed study."""
    found = read_object(page.with_name(VERDICT))
    print(found["headline"])
    repeat = repeat_of(name, found, read_study_runs(table), table.parent)
    if repeat is not None:
        print_rows(repeat.rows())
        print(repeat)
    else:
        print_rows([
            {"claim": claim["id"], "what is claimed": claim["claim"], "verdict": Ruling(claim["ruling"]).words}
            for claim in found["claims"]
        ])  # fmt: skip


def _listed(declared: Study) -> dict[str, object]:
    runs = {run.run_id for sweep in declared.presets for run in load(sweep).configs}
    return {
        "study": declared.name, "question": declared.question, "runs": f"{len(runs):,}",
        "minutes of two cores": declared.minutes and f"{declared.minutes:.0f}", "paper": declared.paper,
    }  # fmt: skip
