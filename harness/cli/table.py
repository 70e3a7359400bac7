"""The program `isogap`, and its table of commands: `command` adds one with its options, its work, and what the process
needs before it.

The options are declared in `harness.cli.commands`, which imports Typer alone. The module of a command's work is
imported when the command is called, so that every `--help` answers at once.
"""

import functools
import gc
import importlib
import importlib.metadata
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer
import typer.core
from typer import Option

from harness.files import default_cache
from harness.processes import ask_for_huge_pages

HELP = """isogap trains grids of small language models, measures losses and generalization gaps, and fits scaling laws.

A table of runs that you have: `isogap fit FILE --law chinchilla`, then `compare` and `report`; `isogap laws` lists the
laws. A sweep of your own: `isogap plan SWEEP.yaml`, then `isogap run SWEEP.yaml --out DIR` and `isogap report DIR`. A
question of a paper: `isogap study` lists them.
"""

app = typer.Typer(name="isogap", no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)

# Command -> the function that does its work as `module:function`, which takes the command's options by name, and the
# fixed arguments that it takes beside them.
WORK: dict[str, tuple[str, Mapping[str, Any]]] = {}


def make_ready(trains: bool, compiles: bool) -> None:
    """Make this process ready for a command, if necessary by restarting it.

    Args:
        trains: whether the command trains models or measures their speed: the process then gets memory in huge pages.
        compiles: whether it compiles JAX programs; these are then cached, because half of a short fit is compiling.
    """
    if trains:
        ask_for_huge_pages()
    if compiles:
        # Looking for unreachable objects after every 700 new ones took 0.4 of the 4.4 s of a short fit.
        gc.set_threshold(100_000)
        importlib.import_module("harness.machine.platform").keep_programs(default_cache())


def function_named(target: str) -> Callable[..., Any]:
    """Import a function by `module:function`."""
    module, _, function = target.partition(":")
    return getattr(importlib.import_module(module), function)


def command(
    group: typer.Typer, name: str, work: str, *, trains: bool = False, compiles: bool = False,
    fixed: Mapping[str, Any] | None = None, **settings: Any,
) -> Callable[[Callable[..., None]], Callable[..., None]]:  # fmt: skip
    """Declare a command by a function without a body, whose parameters are its options.

    Args:
        group: the program, or a part of it such as `isogap fetch`.
        name: the name of the command within its group.
        work: `module:function`, which takes the options by name. What it returns, if anything, is printed.
        trains, compiles: see `make_ready`.
        fixed: further arguments of the work, beside the options.
        settings: further arguments of Typer's `command`.
    """

    def enter(options: Callable[..., None]) -> Callable[..., None]:
        WORK[name] = (work, fixed or {})

        @functools.wraps(options)
        def call(**given: Any) -> None:
            make_ready(trains, compiles)
            target, more = WORK[name]
            answer = function_named(target)(**given, **more)
            if isinstance(answer, list):
                function_named("harness.terminal:print_rows")(answer)
            elif answer is not None:
                print(answer)

        return group.command(name, **settings)(call)

    return enter


def _print_versions(asked: bool) -> None:
    """Print the versions of isogap and of what it computes with, and end."""
    if asked:
        print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("isogap", "jax", "flax", "optax")))
        raise typer.Exit


@app.callback(help=HELP)
def _isogap(
    version: Annotated[
        bool, Option("--version", callback=_print_versions, is_eager=True, help="print the versions, and end")
    ] = False,
) -> None: ...


class OptionalFile(typer.core.TyperCommand):
    """A command whose `--json` may stand without a FILE: the JSON then goes to the terminal, as for the file `-`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the file `-` where none follows."""
        filled = []
        for argument, after in zip(args, [*args[1:], "--"], strict=True):
            filled += [argument, "-"] if argument == "--json" and after.startswith("--") else [argument]
        return super().parse_args(ctx, filled)
