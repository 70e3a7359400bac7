"""More odd and bad files of the table of `odd_tables`: headings, rows and cells that are not as they should be."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from odd_tables import CSV, RUNS, Odd, named, with_cell, written

TOLD = "N = n_params, D = tokens, L = val_loss"
LINES = CSV.splitlines()


def around(*before: str, after: tuple[str, ...] = ()) -> str:
    return "\n".join([*before, *LINES, *after]) + "\n"


def layouts() -> Iterator[tuple[str, Odd]]:
    """Lines around, between and within the rows."""
    wide = pd.concat([RUNS, pd.DataFrame(0.5, RUNS.index, [f"eval/task_{i}/acc" for i in range(130)])], axis=1)
    good = {
        "comment lines": around("# exported 2026", "# by hand"),
        "a comment at the end": around(after=("# end",)),
        "blank lines": CSV.replace("\n", "\n\n"),
        "blank lines before": "\n\n\n" + CSV,
        "no end of line": CSV.rstrip("\n"),
        "a comma at the end of lines": CSV.replace("\n", ",\n"),
        "blanks after commas": CSV.replace(",", ", "),
        "blanks as delimiters": CSV.replace(",", "   "),
        "a number of each row": RUNS.to_csv(),
        "a quoted heading": CSV.replace("val_loss", '"val_loss"'),
        "quoted words with commas": written(RUNS.assign(note="a, b; c")),
        "quoted words with quotes": written(RUNS.assign(note='say "a"')),
        "quoted words of two lines": written(RUNS.assign(note="a\nb")),
        "words with signs": written(RUNS.assign(note="=1+1; @x; #y")),
        "dates": written(RUNS.assign(at="2026-11-28 12:00")),
        "truth values": written(RUNS.assign(tied="True")),
        "an empty column": written(RUNS.assign(x=np.nan)),
        "an empty heading": written(RUNS.assign(x=1)).replace(",x\n", ",\n", 1),
        "an emoji": written(RUNS.assign(note="\U0001f600")),
        "130 columns": written(wide),
        "a heading of 5,000 letters": written(RUNS.assign(**{"x" * 5000: 1})),
        "shuffled rows": written(RUNS.sample(frac=1, random_state=0)),
        "columns in another order": written(pd.DataFrame(RUNS, columns=["val_loss", "tokens", "n_params"])),
        "headings in capitals": CSV.replace("n_params,tokens", "N_PARAMS,TOKENS"),
    }
    for name, text in good.items():
        told = "L = val_loss" if "capitals" in name else TOLD
        yield f"layout: {name}", Odd(lambda t=text: t, told)
    twice = pd.concat([RUNS, RUNS.head(4)])
    yield "layout: rows twice", Odd(lambda: written(twice), "4 rows stand twice in the table", 24)
    cells = LINES[7].split(",")
    mixed = [f"{loss:.6f}".replace(".", "," if row % 2 else ".") for row, loss in enumerate(RUNS.val_loss)]
    bad = {
        "nothing": ("", "an empty file"),
        "blanks only": (" \n\t\n", "an empty file"),
        "comments only": ("# a\n# b\n", "comments only"),
        "headings only": (LINES[0] + "\n", "rows: got 0"),
        "headings twice": ("\n".join([*LINES[:10], LINES[0], *LINES[10:]]), "row 10, column n_params"),
        "a name twice": (CSV.replace("tokens", "n_params"), "names that differ"),
        "no headings": ("\n".join(LINES[1:]), "columns for the roles N, D, L"),
        "units below the headings": (
            around().replace("\n", "\ncount,count,nats\n", 1),
            "row 1, column n_params: got 'count'",
        ),
        "a row too short": (CSV.replace(LINES[7], ",".join(cells[:2])), "row 7: got '2 cells'"),
        "a row too long": (CSV.replace(LINES[7], LINES[7] + ",5"), "row 7: got '4 cells'"),
        "a title above": (around("Results of 2026"), "got"),
        "an open quote": (CSV.replace(LINES[7], '"' + LINES[7]), "got"),
        "one column": (written(pd.DataFrame(RUNS, columns=["val_loss"])), "columns for the roles N, D"),
        "one row": ("\n".join(LINES[:2]), "rows: got 1"),
        "five rows": ("\n".join(LINES[:6]), "rows: got 5"),
        "HTML": ("<html><body><p>404</p></body></html>", "got"),
        "a sum at the end": (around(after=("total,,",)), "row 21, column n_params: got 'total'"),
        "prose": ("The loss fell.\nThen it rose again.\n", "got"),
        "YAML": ("runs:\n - n_params: 1\n", "got"),
        "Python": ("import os\nprint(os)\n", "got"),
        "a binary file": (bytes(range(256)).decode("latin-1"), "binary"),
        "zeros": ("\0" * 100, "binary"),
        "semicolons in half of the rows": (
            "\n".join([*LINES[:11], *(x.replace(",", ";") for x in LINES[11:])]),
            "row 11",
        ),
        "points and commas in one column": (written(RUNS.assign(val_loss=mixed), sep=";"), "column val_loss"),
        "an Excel error in a column": (written(RUNS.assign(tokens="#REF!")), "a column for the role D"),
    }
    for name, (text, words) in bad.items():
        yield f"layout: {name}", Odd(lambda t=text: t, words, None)


def cells() -> Iterator[tuple[str, Odd]]:
    """One cell of each role in row 13 that is not a positive number: the row is left out, or the cell is named."""
    left_out = [
        "",
        "nan",
        "NaN",
        "inf",
        "-inf",
        "Infinity",
        "0",
        "-1",
        "-3e8",
        "n/a",
        "null",
        "None",
        "-",
        "1e999",
        "1e-400",
    ]
    refused = [
        "crashed",
        "1.2.3",
        "0x10",
        "--",
        "2026-01-01",
        "=1+1",
        "#REF!",
        "\U0001f600",
        "1e",
        "True",
        "3 or 4",
        "x" * 3000,
    ]
    for role, column in (("N", "n_params"), ("D", "tokens"), ("L", "val_loss")):
        for cell in left_out:
            told = f"1 of 20 rows dropped: {role} is missing or not positive"
            yield f"cell: {role} {cell!r}", Odd(lambda c=column, x=cell: with_cell(13, c, x), told, 19)
        for cell in refused:
            told = f"row 13, column {column}"
            yield f"cell: {role} {cell[:12]!r}", Odd(lambda c=column, x=cell: with_cell(13, c, x), told, None)


def sizes() -> Iterator[tuple[str, Odd]]:
    """Numbers far from any run's, and designs that cannot show a law: a result with a warning that names it."""
    huge = RUNS.assign(n_params=RUNS.n_params * 1e250)
    tiny = RUNS.assign(tokens=RUNS.tokens * 1e-250)
    for name, table, told in (
        ("huge", huge, "tokens_per_parameter"),
        ("tiny", tiny, "count_below_one"),
        ("in millions", RUNS.assign(n_params=RUNS.n_params / 1e6), "tokens_per_parameter"),
        ("in other units", RUNS.assign(n_params=RUNS.n_params / 1e6, tokens=RUNS.tokens / 1e9), "count_below_one"),
        ("FLOPs in GFLOPs", RUNS.assign(flops=6e-9 * RUNS.n_params * RUNS.tokens), "flops_not_6nd"),
        ("one size", RUNS.assign(n_params=10**8), "one_value"),
        ("one loss", RUNS.assign(val_loss=3.0), "not_identified"),
        ("one run", RUNS.assign(run="a"), "checkpoints"),
        ("equal rows", pd.concat([RUNS.head(1)] * 20), "duplicated_rows"),
    ):
        yield f"sizes: {name}", Odd(lambda t=table: written(t), told, 20, ("any fit",))
    yield (
        "sizes: half at 1e300",
        Odd(lambda: written(RUNS.assign(val_loss=RUNS.val_loss.where(RUNS.index < 10, 1e300))), "", 20, ("any fit",)),
    )
    yield "condition: no row", Odd(lambda: CSV, "--where: got 'val_loss > 9'", None, ("--where", "val_loss > 9"))
    yield "condition: no such column", Odd(lambda: CSV, "--where: got 'size > 9'", None, ("--where", "size > 9"))
    yield "condition: code", Odd(lambda: CSV, "--where", None, ("--where", "@frame.to_csv('x') == 1"))
    yield "condition: of words", Odd(lambda: written(RUNS.assign(w="a")), "--where", None, ("--where", "w > 3"))
    yield "condition: holds out nothing", Odd(lambda: CSV, "--holdout", None, ("--holdout", "tokens > 1e20"))
    yield "condition: holds out all", Odd(lambda: CSV, "rows: got 0", None, ("--holdout", "tokens > 0"))
    yield (
        "condition: backticks",
        Odd(
            lambda: written(named(L="Val Loss")),
            "L = Val Loss",
            int((RUNS.val_loss < 4.0).sum()),
            ("--where", "`Val Loss` < 4"),
        ),
    )
