"""`isogap universality` and `isogap collapse`: whether the gap's law is one law."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.cli.render import render
from harness.fit.shared.collapse import judge_collapse
from harness.fit.shared.universality import judge_universality
from harness.source import parse_roles, read_runs
from harness.terminal import working


def show_universality(
    source: str, by: str, law: str, margin: float, bootstrap: int, set_: Sequence[str], json_: Path | None,
    **choices: Any,
) -> None:  # fmt: skip
    """Test whether groups of runs share a law's exponents, print the tests, and write them as JSON."""
    frame = read_runs(source, law, set=parse_roles(set_), tell=print, **choices)
    with working("fitting"):
        tested = judge_universality(frame, by, law=law, margin=margin, bootstrap=bootstrap, source=source)
    print(render(tested.shown(), 120), end="")
    if json_:
        json_.write_text(tested.to_json())


def show_collapse(source: str, permutations: int, set_: Sequence[str], json_: Path | None, **choices: Any) -> None:
    """Test whether the gap's curves fall on one curve of D/N^z, print the finding, and write it as JSON."""
    frame = read_runs(source, "gap_spline", set=parse_roles(set_), tell=print, **choices)
    with working("fitting"):
        tested = judge_collapse(frame, permutations=permutations, source=source)
    print("\n".join(tested.shown()))
    if json_:
        json_.write_text(tested.to_json())
