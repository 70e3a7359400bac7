"""The program `isogap`, also as `python -m harness`."""

import sys

from harness.machine.huge_pages import ask_for_huge_pages

# They train, or measure how fast this machine does.
COMPUTING = ("run", "plan")
# They fit, or train small networks: half of a short fit is compiling.
FITTING = ("fit", "compare", "universality", "collapse", "allocate", "optima", "report", "simulate")


def start() -> None:
    """Run the command in a process made ready for it."""
    if sys.argv[1:2] and sys.argv[1] in COMPUTING:
        ask_for_huge_pages()
    if sys.argv[1:2] and sys.argv[1] in FITTING and "--help" not in sys.argv:
        from harness.files import default_cache
        from harness.machine.platform import keep_programs

        keep_programs(default_cache())
    from harness.cli.main import main

    main()


if __name__ == "__main__":
    start()
