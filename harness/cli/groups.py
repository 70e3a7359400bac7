"""The commands that ask whether the gap's law is one law: `isogap universality` and `isogap collapse`."""

from typing import Annotated

import typer

from harness.cli.options import Estimator, JsonFile, LawOption, SetOption, SourceArgument, Units, Where, open_named


def universality(
    source: SourceArgument,
    by: Annotated[str, typer.Option(metavar="COLUMN", help="tokenizer, architecture, batch, domain or any column")],
    law: LawOption = "gap",
    set_: SetOption = [],  # noqa: B006
    where: Where = None,
    margin: Annotated[float, typer.Option(min=0, help="within which two exponents are as good as equal")] = 0.05,
    estimator: Estimator = "best",
    units: Units = "tokens",
    bootstrap: Annotated[int, typer.Option(min=19, help="simulated tables a test, and resampled ones a fit")] = 200,
    json_: JsonFile = None,
) -> None:
    """Whether groups of runs share a law's exponents: nested fits, tests of difference and of equality."""
    from harness.cli.universality import render
    from harness.fit.shared.universality import universality as test_groups
    from harness.source import read_source
    from harness.terminal import working

    frame = read_source(open_named(source), [law], set_, where, None, estimator, units)
    with working("fitting"):
        found = test_groups(frame, by, law=law, margin=margin, bootstrap=bootstrap, source=str(source))
    print(render(found), end="")
    if json_:
        json_.write_text(found.to_json())


def collapse(
    source: SourceArgument,
    set_: SetOption = [],  # noqa: B006
    where: Where = None,
    estimator: Estimator = "best",
    units: Units = "tokens",
    permutations: Annotated[int, typer.Option(min=19, help="shuffles of N over the curves")] = 199,
    json_: JsonFile = None,
) -> None:
    """Whether the gap's curves over D fall on one curve of D/N^z, and whether that says anything about z."""
    from harness.fit.shared.collapse import collapse as judge
    from harness.source import read_source
    from harness.terminal import working

    frame = read_source(open_named(source), ["gap_spline"], set_, where, None, estimator, units)
    with working("fitting"):
        found = judge(frame, permutations=permutations, source=str(source))
    print(found.finding)
    for warning in found.warnings:
        print(f"warning ({warning.code}): {warning.message}")
    if json_:
        json_.write_text(found.to_json())
