"""`isogap study`: the studies there are, or one of them carried out."""

from pathlib import Path

import typer

from harness.files import default_cache, open_folder, read_object
from harness.fit.gap_law.rulings import Ruling
from harness.study.carry_out import PAGE, carry_out, runs_left
from harness.study.studies import VERDICT, Study, load_study, study_names
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
        raise InputError("study", "--out", None, f"a folder for its sweeps and results, as in --out runs/{name}")
    folder = open_folder(out)
    session = Session(folder, cache or default_cache(), workers=workers, max_minutes=max_minutes)
    status = carry_out(chosen, folder, session)
    if status in (0, 3) and not runs_left(chosen, folder):
        print_found(folder / PAGE)
        print(folder / PAGE)
    raise typer.Exit(status)


def print_found(page: Path) -> None:
    """Print the verdict beside a page, and of a repeat what the study that comes with isogap found."""
    found = read_object(page.with_name(VERDICT))
    repeat = found.get("repeat")
    there = {row["claim"]: {"in the study": row["in_study"]} for row in repeat["words"]} if repeat else {}
    print(found["headline"])
    print_rows([
        {"claim": claim["id"], "what is claimed": claim["claim"], "verdict": Ruling(claim["ruling"]).words}
        | (there.get(claim["id"], {"in the study": None}) if repeat else {})
        for claim in found["claims"]
    ])  # fmt: skip
    if repeat:
        for row in repeat["numbers"]:
            if not row["inside"]:
                print(f"{row['claim']}: {row['number']}: {row['here']}, in the study {row['in_study']}")
        print(repeat["summary"])


def _listed(declared: Study) -> dict[str, object]:
    runs = {run.run_id for sweep in declared.presets for run in load(sweep).configs}
    return {
        "study": declared.name, "question": declared.question, "runs": f"{len(runs):,}",
        "minutes of two cores": declared.minutes and f"{declared.minutes:.0f}", "paper": declared.paper,
    }  # fmt: skip
