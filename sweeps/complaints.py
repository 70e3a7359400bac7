"""A mistake in a file as one line: which field, its value, and what was expected there."""

import difflib
import math
import reprlib
from collections.abc import Collection, Mapping
from typing import Any

import yaml
from pydantic import ValidationError

from sweeps.errors import InputError

# Tags of a union's branches, which pydantic puts into the place of an error. Authors of specs do not know them.
TAGS = ("<number>", "<rule>", "<wanted>", "<list>", "[key]")


def shorten(value: object) -> Any:
    """The value itself, or a short text in place of a long or nested one."""
    if value is None or isinstance(value, (bool, float)) or (isinstance(value, int) and abs(value) < 10**15):
        return value
    short = reprlib.Repr()
    short.maxstring = short.maxother = 60
    if isinstance(value, str):
        return value if len(value) <= 80 else value[:77] + "..."
    return short.repr(value) if not isinstance(value, int) else f"about 1e{int(math.log10(abs(value)))}"


def key_text(key: str) -> str:
    """A key as it stands in a path: quoted unless it is a plain name."""
    return key if key.isidentifier() else repr(shorten(key))


def input_error(
    where: object,
    path: str,
    error: ValidationError | RecursionError,
    known: Mapping[str, tuple[str, ...]],
    index: int | None = None,
) -> InputError:
    """The first of pydantic's complaints as an InputError.

    Args:
        where: the file the spec is from.
        path: the place of the validated part in the spec, such as `blocks[0].grid.lr`; empty for the whole.
        known: the keys to suggest for an unknown one, by the name of the mapping that holds it.
        index: the value's number if it is on an axis; `path` and `index` then replace the field's own name.
    """
    if isinstance(error, RecursionError):
        return InputError(where, path or "YAML", "...", "less nesting")
    complaints = error.errors(include_url=False, include_context=False)
    # An unknown key is reported before a missing one, because a misspelling causes both complaints.
    first = next((complaint for complaint in complaints if complaint["type"] == "extra_forbidden"), complaints[0])
    tagged = first["loc"]
    parts = [part for part in tagged if part not in TAGS]
    unknown = first["type"] == "extra_forbidden"
    expected = _expected(first["msg"])
    if unknown:
        names = [part for part in tagged[:-1] if isinstance(part, str)]
        expected = nearest(str(tagged[-1]), known.get(names[-1] if names else "", ()))
    if index is not None:
        path, parts = f"{path}[{index}]", parts[1:]
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{key_text(part)}" if path else key_text(part)
    value = None if first["type"] == "missing" else shorten(first["input"])
    return InputError(where, path or "YAML", value, expected)


def file_error(path: object, error: ValidationError, content: str) -> InputError:
    """The first of pydantic's complaints about a JSON file; `content` says what the file should hold."""
    first = error.errors(include_url=False)[0]
    field = ".".join(map(str, first["loc"])) or "JSON"
    return InputError(path, field, first["input"], f"{content} ({first['msg']})")


def _expected(message: str) -> str:
    for prefix in ("Input should be ", "Value error, "):
        message = message.removeprefix(prefix)
    message = message.split(" or instance of")[0].replace("valid dictionary", "mapping")
    return "this field" if message == "Field required" else message[:1].lower() + message[1:]


def nearest(name: str, known: Collection[str], kind: str = "key") -> str:
    """What was expected instead of an unknown name of a `kind`: the known name that is most like it, or all of them."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"a known {kind}; did you mean {close[0]!r}?" if close else f"one of {', '.join(sorted(known))}"


def yaml_place(error: yaml.YAMLError) -> str:
    """Line, column and reason of an error in YAML."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else str(problem)
