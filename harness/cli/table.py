"""The table of commands: for each the function that does its work, and what the process needs before.

A command's options are declared in `harness.cli.commands`, which imports Typer alone. The module of its work is
imported when the command is called, so that every `--help` answers at once.
"""

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness.files import default_cache
from harness.machine.huge_pages import ask_for_huge_pages


@dataclass(frozen=True)
class Command:
    """A command's place in the program.

    Attributes:
        work: `module:function`; the function takes the command's options by name. Empty where the declaration works.
        trains: whether it trains models, or measures how fast this machine does; it then gets memory in huge pages.
        compiles: whether it compiles programs that are worth keeping: half of a short fit is compiling.
    """

    work: str = ""
    trains: bool = False
    compiles: bool = False


COMMANDS = {
    "plan": Command("harness.cli.show_plan:show_plan", trains=True),
    "run": Command("harness.cli.run_sweep:train_sweep", trains=True),
    "status": Command("harness.cli.show_status:show_status"),
    "export": Command("harness.cli.write_export:write_export"),
    "gaps": Command("harness.cli.show_gaps:show_gaps"),
    "report": Command("harness.cli.write_page:write_page", compiles=True),
    "corpora": Command("harness.cli.show_texts:show_corpora"),
    "tokenizers": Command("harness.cli.show_texts:show_tokenizers"),
    "fetch corpus": Command("harness.fetch.command:fetch_named"),
    "fetch tokenizer": Command("harness.cli.show_texts:show_fetched"),
    "fit": Command("harness.cli.show_fits:show_fit", compiles=True),
    "compare": Command("harness.cli.show_fits:show_comparison", compiles=True),
    "universality": Command("harness.cli.show_groups:show_universality", compiles=True),
    "collapse": Command("harness.cli.show_groups:show_collapse", compiles=True),
    "predict": Command("harness.cli.show_fits:show_predictions"),
    "optima": Command("harness.cli.show_optima:show_optima", compiles=True),
    "frontier": Command("harness.cli.show_optima:write_frontier"),
    "laws": Command("harness.cli.show_laws:show_laws"),
    "allocate": Command("harness.cli.allocate:answer", compiles=True),
}


def prepare(command: Command) -> None:
    """Make this process ready for a command; it may be started anew."""
    if command.trains:
        ask_for_huge_pages()
    if command.compiles:
        importlib.import_module("harness.machine.platform").keep_programs(default_cache())


def work_of(command: Command) -> Callable[..., None]:
    """Import the function that does a command's work."""
    module, _, name = command.work.partition(":")
    return getattr(importlib.import_module(module), name)


def prepared(command: Command, work: Callable[..., None]) -> Callable[..., None]:
    """The same work in a process made ready for it."""

    @functools.wraps(work)
    def call(*args: Any, **given: Any) -> None:
        prepare(command)
        work(*args, **given)

    return call


def calling(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let a declaration of options, which has no body, call the work of the command of this name."""
    command = COMMANDS[name]

    def with_work(options: Callable[..., None]) -> Callable[..., None]:
        work = functools.wraps(options)(lambda **given: work_of(command)(**given))
        return prepared(command, work)

    return with_work
