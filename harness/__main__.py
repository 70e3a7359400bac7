"""The program `isogap`, also as `python -m harness`."""

import sys

from harness.pages import ask_for_huge_pages

# They train, or measure how fast this machine does.
COMPUTING = ("run", "plan")


def start() -> None:
    """Run the command in a process made ready for it."""
    if sys.argv[1:2] and sys.argv[1] in COMPUTING:
        ask_for_huge_pages()
    from harness.cli import main

    main()


if __name__ == "__main__":
    start()
