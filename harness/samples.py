"""`isogap sample`: text that the model of a finished run writes after a prompt."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.cache import load_tokenizer
from harness.files import default_cache, open_folder
from harness.record.status import run_folder
from harness.record.sweep_folder import read_configs
from harness.sampling.completions import Writer
from harness.train.final_model import load_model
from sweeps.errors import InputError

# Tokens that follow a prompt where their number is not said, if the context has room for them.
USUAL = 64
# The most completions that are written together.
ROWS = 64


def print_samples(
    out: str, run_id: str, prompt: str, tokens: int | None, temperature: float, count: int, seed: int, json_: bool,
    cache: Path | None,
) -> None:  # fmt: skip
    """Write completions and print them, each after the prompt.

    Raises:
        InputError: no such run, one that does not keep its parameters, or more tokens than the context has room for.
    """
    written = sample_text(open_folder(out), run_id, prompt, tokens, temperature, count, seed, cache)
    if json_:
        print(json.dumps(written))
        return
    for number, each in enumerate(written, 1):
        if count > 1:
            print(f"--- {number}")
        print(prompt + each["completion"])


def sample_text(
    out: Path, run_id: str, prompt: str, tokens: int | None, temperature: float, count: int, seed: int,
    cache: Path | None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Completions of a document's beginning: `completion` (text), `ids`, `ended` (whether the document has ended).

    What a token world says are ids with blanks between them.

    Args:
        out: a sweep's folder.
        prompt: follows the end of another document, as training text does, so that it may be empty.
        tokens: how many are drawn; what comes after the document's end is left out. None for 64, or what has room.

    Raises:
        InputError: as for `print_samples`.
    """
    runs = {run.run_id: run for run in read_configs(out)}
    if run_id not in runs:
        raise InputError("--run", "ID", run_id, f"a run of {out}")
    run = runs[run_id]
    model = load_model(run_folder(out, run_id))
    data, end = run.data, run.model.vocab - 1
    tokenizer = load_tokenizer(
        data.tokenizer, data.parts[0][1], cache or default_cache(), data.heldout_fraction, data.split_seed
    )
    of_world = data.tokenizer.startswith("symbols:")
    ids = np.append(end, _ids_of(prompt, end) if of_world else tokenizer.encode(prompt)).astype(np.int32)
    room = run.model.context + 1 - len(ids)
    if room < (tokens or 1):
        got = f"{len(ids)} tokens with the beginning of the document, and {tokens or 1} new ones"
        raise InputError("--prompt, --tokens", "length", got, f"at most {run.model.context + 1}, the context and one")
    writer = Writer(model, len(ids), tokens or min(USUAL, room), 1, min(count, ROWS))
    begun = writer.read(ids[None], np.array([len(ids)], np.int32))
    written = []
    for first in range(0, count, writer.rows):
        numbers = first + np.arange(writer.rows)
        streams = np.stack([np.zeros_like(numbers), numbers], axis=1)
        completions = writer.write(begun, np.zeros_like(numbers), streams, seed, temperature)
        for row in completions[: count - first]:
            length = int(np.argmax(row == end)) if (row == end).any() else len(row)
            text = "".join(f" {each}" for each in row[:length]) if of_world else tokenizer.decode(row[:length])
            written.append({"completion": text, "ids": row[:length].tolist(), "ended": length < len(row)})
    return written


def _ids_of(prompt: str, end: int) -> list[int]:
    """The ids that a prompt names; InputError for anything else."""
    words = prompt.split()
    if not all(word.isdecimal() and int(word) < end for word in words):
        raise InputError("--prompt", "ids", prompt, f"ids of a token world, from 0 to {end - 1}, with blanks between")
    return [int(word) for word in words]
