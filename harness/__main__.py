"""The program `isogap`, also as `python -m harness`."""

from harness.machine.processes import drop_working_folder


def start() -> None:
    """Run the command that the arguments name."""
    drop_working_folder()
    from harness.cli.main import main  # only now, because it imports the package sweeps

    main()


if __name__ == "__main__":
    start()
