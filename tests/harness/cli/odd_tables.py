"""Odd and bad files of one table, made by rule: 20 runs whose losses obey Chinchilla's law at published constants.

Each has a name that is the same in every process.
"""

import bz2
import gzip
import io
import itertools
import json
import lzma
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd

N, D = (grid.ravel() for grid in np.meshgrid([2e7, 6e7, 1.8e8, 5.4e8], [5e8, 2e9, 8e9, 3.2e10, 1.28e11], indexing="ij"))
LOSS = np.round(1.8172 + 482.01 * N**-0.3478 + 2085.43 * D**-0.3658, 8)
RUNS = pd.DataFrame({"n_params": N.astype(int), "tokens": D.astype(int), "val_loss": LOSS})
ROLES = {"N": "n_params", "D": "tokens", "L": "val_loss"}
CSV = RUNS.to_csv(index=False)


class Odd(NamedTuple):
    """A file and what is expected of it.

    Attributes:
        make: its content, when it is needed.
        told: words that the output has to hold: of a good file the roles, of a bad one the complaint.
        rows: how many rows of a good file are fitted; None for a bad one.
        options: further arguments of `isogap fit`.
        name: the name of the file.
    """

    make: Callable[[], bytes | str]
    told: str
    rows: int | None = 20
    options: tuple[str, ...] = ()
    name: str = "runs.csv"


def written(frame: pd.DataFrame, sep: str = ",", decimal: str = ".", end: str = "\n") -> str:
    return frame.to_csv(index=False, sep=sep, decimal=decimal, lineterminator=end)


def encoded(frame: pd.DataFrame, sep: str, decimal: str, end: str, mark: str, encoding: str) -> bytes:
    return (mark + written(frame, sep, decimal, end)).encode(encoding)


def cut(make: Callable[[], bytes], share: float) -> bytes:
    """The first part of a file."""
    return make()[: int(share * len(make()))]


def named(**columns: str) -> pd.DataFrame:
    """The table with other names: role = name."""
    return RUNS.rename(columns={ROLES[role]: name for role, name in columns.items()})


def with_cell(row: int, column: str, cell: str) -> str:
    """The table with one cell (rows from 1) replaced by a text."""
    table = RUNS.astype(object)
    table.loc[row - 1, column] = cell
    return table.to_csv(index=False)


def packed(name: str, data: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), data)
    return made.getvalue()


def parquet(frame: pd.DataFrame, **options) -> bytes:
    made = io.BytesIO()
    frame.to_parquet(made, **options)
    return made.getvalue()


def dialects() -> Iterator[tuple[str, Odd]]:
    """Every encoding with every delimiter and end of line; the name of a column of words is not ASCII."""
    encodings = {"utf-8": "", "utf-8-sig": "", "utf-16": "", "utf-16-le": "\ufeff", "utf-16-be": "\ufeff", "cp1252": ""}
    separators = {"commas": (",", "."), "semicolons": (";", ","), "tabs": ("\t", "."), "bars": ("|", ".")}
    ends = {"unix": "\n", "windows": "\r\n", "old mac": "\r"}
    for (encoding, mark), (kind, (sep, decimal)), (end, mark_of_end) in itertools.product(
        encodings.items(), separators.items(), ends.items()
    ):
        table = RUNS.assign(Größe="groß")
        make = partial(encoded, table, sep, decimal, mark_of_end, mark, encoding)
        yield f"{encoding}, {kind}, {end}", Odd(make, "N = n_params, D = tokens, L = val_loss")


def numbers() -> Iterator[tuple[str, Odd]]:
    """Numbers as people write them."""
    forms: dict[str, Callable[[int], str]] = {
        "millions": lambda v: f"{v / 1e6:g}M",
        "billions": lambda v: f"{v / 1e9:g}B",
        "blank before unit": lambda v: f"{v / 1e6:g} m",
        "thousands by commas": lambda v: f"{v:,}",
        "by blanks": lambda v: f"{v:,}".replace(",", " "),
        "by fixed blanks": lambda v: f"{v:,}".replace(",", "\u00a0"),
        "by narrow blanks": lambda v: f"{v:,}".replace(",", "\u202f"),
        "by apostrophes": lambda v: f"{v:,}".replace(",", "'"),
        "by underscores": lambda v: f"{v:_}",
        "powers": lambda v: f"{v:e}",
        "capital powers": lambda v: f"{v:E}",
        "signs": lambda v: f"+{v}",
        "points": lambda v: f"{v}.0",
        "blanks around": lambda v: f"  {v}  ",
        "thousands of thousands": lambda v: f"{v / 1e3:g}k",
    }
    for name, form in forms.items():
        table = RUNS.assign(n_params=[form(v) for v in RUNS.n_params], tokens=[form(v) for v in RUNS.tokens])
        yield f"numbers: {name}", Odd(lambda t=table: written(t), "N = n_params, D = tokens, L = val_loss")
    quoted = RUNS.to_csv(index=False, quoting=1)
    yield "numbers: all quoted", Odd(lambda: quoted, "N = n_params")
    yield (
        "numbers: decimal commas in commas",
        Odd(lambda: written(RUNS.assign(val_loss=[f"{v:.8f}".replace(".", ",") for v in LOSS])), "L = val_loss"),
    )
    yield (
        "numbers: percent",
        Odd(lambda: written(RUNS.assign(val_loss=[f"{100 * v:.6f}%" for v in LOSS])), "L = val_loss"),
    )


def names() -> Iterator[tuple[str, Odd]]:
    """Usual names, names with units, names within names."""
    usual = {
        "N": "N n params num_params parameters n_parameters Parameter_Count model_size non_embedding_params",
        "D": "D d tokens_D n_tokens train_tokens training_tokens total_tokens tokens_seen dataset_tokens",
        "L": "L loss final_loss validation_loss eval_loss test_loss heldout_loss loss_final",
    }
    for role, choices in usual.items():
        for name in choices.split():
            told = "" if name == role else f"{role} = {name}"
            yield f"name: {name}", Odd(lambda r=role, n=name: written(named(**{r: n})), told)
    nested = {"config.n_params": "N", "config/tokens": "D", "summary.val_loss": "L", "eval/loss": "L", "Val Loss": "L"}
    for name, role in nested.items():
        yield f"name: {name}", Odd(lambda r=role, n=name: written(named(**{r: n})), f"{role} = {name}")
    units = [
        ("Params (M)", "N", 1e6),
        ("params_m", "N", 1e6),
        ("Parameters [B]", "N", 1e9),
        ("N (millions)", "N", 1e6),
        ("model_size_b", "N", 1e9),
        ("Tokens (B)", "D", 1e9),
        ("tokens_b", "D", 1e9),
        ("D (in billions)", "D", 1e9),
        ("Tokens {T}", "D", 1e12),
        ("tokens_k", "D", 1e3),
    ]
    for name, role, unit in units:
        table = RUNS.assign(**{ROLES[role]: RUNS[ROLES[role]] / unit}).rename(columns={ROLES[role]: name})
        yield f"unit: {name}", Odd(lambda t=table: written(t), f"{role} = {name} x {unit:g}")
    ways = {"set": ("--set", "N=width"), "expression": ("--set", "N=12*width**2/width*width/12*1")}
    yield "set: a column", Odd(lambda: written(named(N="width")), "", 20, ways["set"])
    squared = RUNS.assign(n_params=np.sqrt(RUNS.n_params / 12)).rename(columns={"n_params": "width"})
    yield "set: an expression", Odd(lambda: written(squared), "", 20, ("--set", "N=12*width**2"))
    yield "set: no such column", Odd(lambda: CSV, "--set N: got 'width'", None, ways["set"])
    yield "set: no such role", Odd(lambda: CSV, "one of the roles", None, ("--set", "size=n_params"))
    yield "set: words", Odd(lambda: written(RUNS.assign(w="x")), "column w: got 'x'", None, ("--set", "N=w"))
    yield "two names of one role", Odd(lambda: written(RUNS.assign(params=1)), "N = n_params")
    yield "no name of a role", Odd(lambda: written(named(L="score")), "a column for the role L", None)


def shapes_of_json() -> Iterator[tuple[str, Odd]]:
    records = RUNS.to_dict(orient="records")
    told = "N = n_params, D = tokens, L = val_loss"
    ragged = [{k: v for k, v in row.items() if i or k != "val_loss"} | {"note": i} for i, row in enumerate(records)]
    flat = {
        "records": records,
        "columns": RUNS.to_dict(orient="list"),
        "an object of records": {"runs": records, "v": 2},
        "words for numbers": [{k: str(v) for k, v in row.items()} for row in records],
    }
    for kind, content in flat.items():
        yield f"json: {kind}", Odd(lambda c=content: json.dumps(c), told, 20, (), "runs.json")
        yield f"json: {kind}, indented", Odd(lambda c=content: json.dumps(c, indent=2), told, 20, (), "runs.json")
    lines = "\n".join(map(json.dumps, records))
    yield "json: lines", Odd(lambda: lines, told, 20, (), "runs.jsonl")
    yield "json: lines with blank ones", Odd(lambda: lines.replace("\n", "\n\n") + "\n", told, 20, (), "runs.jsonl")
    yield "json: lines of windows", Odd(lambda: lines.replace("\n", "\r\n"), told, 20, (), "runs.jsonl")
    nested = [
        {"config": {"n_params": r["n_params"]}, "data": {"tokens": r["tokens"]}, "val_loss": r["val_loss"]}
        for r in records
    ]
    yield "json: nested", Odd(lambda: json.dumps(nested), "N = config.n_params, D = data.tokens", 20, (), "runs.json")
    yield "json: ragged", Odd(lambda: json.dumps(ragged), "1 of 20 rows dropped: L is missing", 19, (), "runs.json")
    nan = json.dumps(records).replace(str(records[4]["val_loss"]), "NaN", 1)
    yield "json: NaN", Odd(lambda: nan, "1 of 20 rows dropped", 19, (), "runs.json")
    lists = [row | {"losses": [1.0, 2.0]} for row in records]
    yield "json: lists in cells", Odd(lambda: json.dumps(lists), told, 20, (), "runs.json")
    refused = {
        "a number": ("3", "got"),
        "a word": ('"runs"', "got"),
        "numbers": ("[1, 2]", "record 1"),
        "empty list": ("[]", "rows"),
        "empty object": ("{}", "got"),
        "cut": (json.dumps(records)[:-40], "JSON"),
        "a comma too many": (json.dumps(records)[:-1] + ",]", "JSON"),
        "one line cut": (lines + '\n{"n_params": ', "line 21"),
        "records and a number": (json.dumps([*records, 3]), "record 21"),
        "columns of two lengths": (json.dumps(flat["columns"] | {"tokens": [1, 2]}), "got"),
        "null": ("null", "got"),
        "by rows": (RUNS.to_json(orient="index"), "got"),
        "deep": ("[" * 3000 + "]" * 3000, "got"),
    }
    for kind, (text, words) in refused.items():
        yield f"json: {kind}", Odd(lambda t=text: t, words, None, (), "runs.json")


def containers() -> Iterator[tuple[str, Odd]]:
    """Compressed files whole, cut and damaged; files under other files' endings; parquet of every type."""
    data, told = CSV.encode(), "N = n_params, D = tokens, L = val_loss"
    kinds: dict[str, Callable[[], bytes]] = {
        "gz": lambda: gzip.compress(data, mtime=0),
        "xz": lambda: lzma.compress(data),
        "bz2": lambda: bz2.compress(data),
        "zip": lambda: packed("runs.csv", data),
        "gz in zip": lambda: packed("runs.csv.gz", gzip.compress(data, mtime=0)),
        "zip in gz": lambda: gzip.compress(packed("a/b/runs.csv", data), mtime=0),
        "parquet in gz": lambda: gzip.compress(parquet(RUNS), mtime=0),
        "json in xz": lambda: lzma.compress(json.dumps(RUNS.to_dict(orient="records")).encode()),
    }
    for kind, make in kinds.items():
        yield f"packed: {kind}", Odd(make, told, 20, (), f"runs.csv.{kind.split()[-1]}")
        yield f"packed: {kind} under another ending", Odd(make, told, 20, (), "runs.txt")
        for share in (0.3, 0.97):
            yield f"packed: {kind}, {share:.0%} of it", Odd(partial(cut, make, share), "runs", None, (), "runs")
    whole = gzip.compress(data, mtime=0)
    damaged = whole[:40] + bytes([whole[40] ^ 255]) + whole[41:]
    yield "packed: gz with a wrong byte", Odd(lambda: damaged, "whole", None)
    yield "packed: an empty gz", Odd(lambda: gzip.compress(b"", mtime=0), "an empty file", None)
    for ending in ("parquet", "json", "xlsx", "gz", "csv.zip", "tsv", "dat", "CSV"):
        yield f"ending: .{ending} of a CSV", Odd(lambda: CSV, told, 20, (), f"runs.{ending}")
    yield "ending: none", Odd(lambda: CSV, told, 20, (), "runs")
    yield "ending: .csv of parquet", Odd(lambda: parquet(RUNS), told)
    types: dict[str, pd.DataFrame] = {
        "int32": RUNS.astype({"n_params": "int32"}),
        "uint64": RUNS.astype({"tokens": "uint64"}),
        "nullable": RUNS.convert_dtypes(),
        "words": RUNS.astype(str),
        "categories": RUNS.astype({"n_params": "category"}),
        "index": RUNS.set_index("n_params"),
        "dates": RUNS.assign(at=pd.Timestamp("2026-01-01")),
        "truth": RUNS.assign(tied=True),
        "lists": RUNS.assign(x=[[1, 2]] * 20),
        "objects": RUNS.assign(x=[{"a": 1}] * 20),
        "nothing": RUNS.assign(x=None),
        "arrow words": RUNS.assign(x=pd.array(["a"] * 20, "string")),
    }
    for kind, frame in types.items():
        yield f"parquet: {kind}", Odd(lambda f=frame: parquet(f), "D = tokens, L = val_loss", 20, (), "runs.parquet")
    missing = RUNS.astype({"val_loss": "Float64"})
    missing.loc[3, "val_loss"] = pd.NA
    yield "parquet: missing values", Odd(lambda: parquet(missing), "rows dropped", 19, (), "runs.parquet")
    yield "parquet: no rows", Odd(lambda: parquet(RUNS.head(0)), "rows: got 0", None, (), "runs.parquet")
    for share in (0.2, 0.9):
        yield (
            f"parquet: {share:.0%} of it",
            Odd(partial(cut, partial(parquet, RUNS), share), "parquet", None, (), "runs.parquet"),
        )
    yield "parquet: its head only", Odd(lambda: b"PAR1", "parquet", None, (), "runs.parquet")
