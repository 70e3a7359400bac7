"""The program `isogap`, also as `python -m harness`."""

import warnings

from harness.processes import drop_working_folder


def start() -> None:
    """Run the command that the arguments name."""
    # What other libraries warn of is for programmers; users are told in lines of isogap's own.
    warnings.simplefilter("ignore")
    drop_working_folder()
    from harness.cli.main import main  # only now, because it imports the package sweeps

    main()


if __name__ == "__main__":
    start()
