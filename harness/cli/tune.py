"""`isogap tune`: train a sweep at several learning rates, print the best of each size, and exit with its status."""

from pathlib import Path

import typer

from harness.cli.render import render
from harness.cli.run_sweep import end_process
from harness.files import default_cache, open_folder, write_text
from harness.train.session import Session
from harness.tuning import check_quantities, read_rates, train_rates
from sweeps.errors import InputError


def tune(
    sweep: str, out: str, factors: str | None, between: str | None, over: str, workers: int | None,
    max_minutes: float | None, cache: Path | None, json_: Path | None,
) -> None:  # fmt: skip
    """Train what has not ended yet, then print the best rates and the rule.

    Raises:
        InputError: a bad spec or option, or a folder that cannot be used.
        typer.Exit: always otherwise, with the exit status of the training.
    """
    folder = open_folder(out)
    session = Session(folder, cache or default_cache(), workers=workers, max_minutes=max_minutes)
    options = {"factors": _numbers("--factors", factors), "between": _numbers("--between", between)}
    quantities = [name.strip() for name in over.split(",")]
    check_quantities(quantities)
    status = train_rates(sweep, session, **options)
    if status in (130, 143):
        end_process(status)
    tuned = read_rates(folder, quantities)
    print(render(tuned.shown()), end="")
    if json_ is not None:
        write_text(json_, tuned.to_json())
    raise typer.Exit(status)


def _numbers(option: str, text: str | None) -> list[float]:
    """The numbers in a text such as 0.5,1,2."""
    try:
        return [float(part) for part in (text or "").split(",") if part.strip()]
    except ValueError:
        raise InputError(option, "value", text, "numbers with commas between them") from None
