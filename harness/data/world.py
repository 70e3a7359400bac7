"""The declaration of a token world: a corpus that is made by a procedure, whose documents are ids instead of text.

A world is one file in `harness/data/worlds`, which defines a frozen dataclass of its options and a `World` with the
file's name in capitals. A domain names it with options that differ from their defaults: `grammar`,
`chaos:systems=64,bins=32`.

So that worlds are corpora like others, an id is written as one character: id 0 as U+4E00, and so on through the CJK
Unified Ideographs. These have no upper and lower case, no composed forms and no blanks among them, so that nothing that
reads text makes two of them equal or drops one.
"""

import dataclasses
import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import numpy as np
from jaxtyping import Int, UInt32
from pydantic import TypeAdapter, ValidationError

from sweeps.errors import InputError
from sweeps.rules import MOST_SYMBOLS

_FIRST = 0x4E00


class Drawn(NamedTuple):
    """A document of a world: its group and source, as in `harness.data.documents.Document`, and its ids."""

    group: str
    source: str
    ids: Int[np.ndarray, "tokens"]


class Question(NamedTuple):
    """A task that a model may be asked, with an answer that can be checked.

    Attributes:
        prompt: the ids that the model is given.
        answer: ids that follow in a right document, without its end.
        level: how hard it is, in the world's own measure.
        group: the group of the document that the question is of.
        right: whether a completion answers it, from the completion's ids, which may go on after the answer.
    """

    prompt: Int[np.ndarray, "prompt"]
    answer: Int[np.ndarray, "answer"]
    level: int
    group: str
    right: Callable[[Int[np.ndarray, "completion"]], bool]


@dataclasses.dataclass(frozen=True)
class World:
    """What a token world is. The ids of its documents are 0 .. vocab - 2; vocab - 1 ends a document.

    Attributes:
        description, licence: what stands in the list of corpora.
        options: a frozen dataclass whose fields have defaults and, by `Annotated`, bounds; a `__post_init__` may
            raise ValueError. Equal options give equal documents on every machine.
        vocab: options -> the number of ids, with the end of the document.
        documents: options -> all documents, in any order. Two documents may be equal.
        recipe: a number that changes when the same options would give other documents.
        packages: options -> the installed packages that hold the data, whose versions decide the documents.
        extra: the extra of isogap that brings them.
        entropy: options -> nats per token of the stream of documents and their ends, where it is known exactly: the
            lowest loss of any model that sees the whole stream.
        window_entropy: (options, context) -> the same for a model that sees only windows of that many targets and the
            token before them, cut anywhere, where it is known exactly.
        ranges: options -> named ranges of ids, such as those of observations and those of actions.
        questions: (options, seed) -> endless questions, for worlds that have answers to check.
    """

    description: str
    licence: str
    options: type
    vocab: Callable[[Any], int]
    documents: Callable[[Any], Iterator[Drawn]]
    recipe: int = 1
    packages: Callable[[Any], tuple[str, ...]] = lambda options: ()
    extra: str = ""
    entropy: Callable[[Any], float | None] = lambda options: None
    window_entropy: Callable[[Any, int], float | None] = lambda options, context: None
    ranges: Callable[[Any], Mapping[str, range]] = lambda options: {}
    questions: Callable[[Any, int], Iterator[Question]] | None = None


@functools.cache
def world_names() -> tuple[str, ...]:
    """The names of all worlds, which are those of their files."""
    folder = Path(__file__).with_name("worlds")
    return tuple(sorted(module.name for module in pkgutil.iter_modules([str(folder)])))


@functools.cache
def get_world(name: str) -> World:
    """The world of this name, one of `world_names`."""
    return getattr(importlib.import_module(f"harness.data.worlds.{name}"), name.upper())


def is_world(domain: str) -> bool:
    """Whether a domain is a world, with or without options."""
    return domain.partition(":")[0] in world_names()


@functools.cache
def parse_world(domain: str) -> tuple[World, Any]:
    """The world of a domain for which `is_world` holds, and its options.

    Raises:
        InputError: an option that the world does not have, or a value that it does not take.
    """
    name, _, text = domain.partition(":")
    world = get_world(name)
    given: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        field, _, value = part.partition("=")
        if field in given or field not in option_names(world) or not value:
            raise InputError("data", "domain", domain, f"{name}, or {spelling(name)}")
        given[field] = value
    try:
        return world, TypeAdapter(world.options).validate_python(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"][:1])
        expected = first["msg"].removeprefix("Value error, ")
        complaint = f"{field}: {expected}" if field else expected
        raise InputError("data", "domain", domain, complaint) from None


def option_names(world: World) -> tuple[str, ...]:
    """The names of a world's options."""
    return tuple(get_type_hints(world.options))


def spelling(name: str) -> str:
    """How a domain of this world is spelled, with all options at their defaults: `NAME:a=1,b=2`."""
    world = get_world(name)
    fields = dataclasses.fields(world.options)
    return f"{name}:{','.join(f'{field.name}={field.default}' for field in fields)}"


def ids_to_text(ids: Int[np.ndarray, "tokens"]) -> str:
    """The text in which a document stands for its ids, one character for each.

    Raises ValueError for ids below 0 or above 20,990.
    """
    if len(ids) and not 0 <= int(np.min(ids)) <= int(np.max(ids)) < MOST_SYMBOLS - 1:
        raise ValueError(f"ids between {np.min(ids)} and {np.max(ids)}, where 0 to {MOST_SYMBOLS - 2} can be written")
    return (np.asarray(ids) + _FIRST).astype("<u2").tobytes().decode("utf-16-le")


def text_to_ids(text: str) -> UInt32[np.ndarray, "tokens"]:
    """The ids of a text, the inverse of `ids_to_text`; any other character has an id above all that can be written."""
    return np.frombuffer(text.encode("utf-32-le"), "<u4").astype(np.uint32) - np.uint32(_FIRST)
