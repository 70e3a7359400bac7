"""A kind of option that Typer does not have."""

from typing import Any

import typer.core


class OptionalFile(typer.core.TyperCommand):
    """A command whose `--json` may stand without a FILE: the JSON then goes to the terminal, as for the file `-`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        filled = []
        for argument, after in zip(args, [*args[1:], "--"], strict=True):
            filled += [argument, "-"] if argument == "--json" and after.startswith("--") else [argument]
        return super().parse_args(ctx, filled)
