"""The file of registered forecasts: one line of JSON for each, to which lines are only ever added.

Each line ends with the SHA-256 of its own text before that field, and names the SHA-256 of the whole line before it. So
a line that was changed, removed or put in between is noticed. What no file can show by itself is that its last lines
were removed, or that all of it was written anew: the SHA-256 of the last line, published elsewhere, shows that too.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from harness.files import write_bytes
from harness.fit.results.shown import Showable, Shown
from sweeps.errors import InputError

# Roles that tell runs apart. A point that has them keeps them even if the law does not read them, so that the runs that
# were meant are scored later.
TELLING = ("N", "D", "U", "epochs", "B", "lr", "flops")
OWN_HASH = ', "sha256": "'
AS_WRITTEN = "a file that `isogap predict --register` wrote and nothing has changed since"


class RegisteredForecast(BaseModel):
    """A prediction of a fitted law at one point.

    Attributes:
        registered: when it was written down, in UTC.
        isogap, git_commit: the version that made it, and the commit of its source if that is a checkout.
        constants: the estimates of the law's constants; None for one without a finite value.
        response: the role that is predicted, such as L or G, in the unit of the fitted table: nats per token for these.
        by, group: the column and the value of the group whose fit it is; None for the fit of one table.
        point: by role what the law reads, and what else tells the run apart, such as N for a law of D alone. They are
            raw counts, and names for labels.
        low, high: the 95 % interval of the law; None for a fit without a confidence set.
        run_low, run_high: the 95 % interval of one new run, without the error of measuring it.
        rows, rows_sha256: the number of the fitted rows and their hash (`harness.fit.problem.rows_hash`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    registered: AwareDatetime
    isogap: str
    git_commit: str | None
    law: str
    formula: str
    constants: dict[str, float | None]
    response: str
    by: str | None
    group: str | None
    point: dict[str, float | str]
    prediction: float
    low: float | None
    high: float | None
    run_low: float | None
    run_high: float | None
    rows: int
    rows_sha256: str

    @property
    def key(self) -> tuple[object, ...]:
        """What makes two forecasts the same: law, group, fitted rows, response and point."""
        return (self.law, self.by, self.group, self.rows_sha256, self.response, *sorted(self.point.items()))

    @property
    def place(self) -> dict[str, float | str]:
        """The point, with the group that it is of."""
        return self.point if self.by is None else {self.by: str(self.group), **self.point}


@dataclass(frozen=True)
class Registered(Showable):
    """What was added to a file of forecasts.

    Attributes:
        file: the file.
        added: the forecasts that were added.
        before: those that were not, since the file had them already, as the file has them.
        lines: how many lines the file has now.
        last: the SHA-256 of its last line; None for a file without lines.
    """

    file: str
    added: tuple[RegisteredForecast, ...]
    before: tuple[RegisteredForecast, ...]
    lines: int
    last: str | None

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings."""
        return {
            "file": self.file,
            "added": [forecast.model_dump(mode="json") for forecast in self.added],
            "before": [forecast.model_dump(mode="json") for forecast in self.before],
            "lines": self.lines,
            "last_sha256": self.last,
        }

    def shown(self) -> list[Shown]:
        """How many forecasts were added and how many were there already, and the hash of the last line."""
        told: list[Shown] = []
        if self.before:
            dates = sorted({f"{forecast.registered:%Y-%m-%d}" for forecast in self.before})
            total = len(self.before) + len(self.added)
            told.append(
                f"{len(self.before)} of {total} forecasts are in {self.file} already (the same law, rows and point, "
                f"registered {', '.join(dates)}); nothing was added for them"
            )
        if self.added:
            told.append(
                f"{len(self.added)} registered in {self.file}, which has {self.lines} lines now; SHA-256 of the last "
                f"one: {self.last}"
            )
        return told


def read_forecasts(file: Path) -> tuple[RegisteredForecast, ...]:
    """Read the forecasts of a file, in the order in which they were registered.

    Raises:
        InputError: no such file, or one that is damaged or was changed.
    """
    try:
        return _parsed(file, file.read_bytes())
    except FileNotFoundError:
        raise InputError(file, "forecasts", "no such file", "a file that `isogap predict --register` wrote") from None


def append_forecasts(file: Path, forecasts: Sequence[RegisteredForecast]) -> Registered:
    """Add forecasts to a file, or begin it; those that it has already are left out.

    Raises:
        InputError: no such folder, or a file that is damaged or was changed: nothing is added to it.
    """
    place = file.resolve()  # a link stays a link
    if not place.parent.is_dir():
        raise InputError(file, "forecasts", "no such folder", "a file in a folder that exists")
    with _locked(place):
        content = place.read_bytes()
        known = {forecast.key: forecast for forecast in _parsed(file, content)}
        added: dict[tuple[object, ...], RegisteredForecast] = {}
        before = []
        for forecast in forecasts:
            if forecast.key in known:
                before.append(known[forecast.key])
            else:
                added.setdefault(forecast.key, forecast)
        lines = content.split(b"\n")[:-1]
        for forecast in added.values():
            lines.append(_line(forecast, _hash(lines[-1]) if lines else None))
        if added:
            write_bytes(place, b"".join(line + b"\n" for line in lines))
    return Registered(str(file), (*added.values(),), (*before,), len(lines), _hash(lines[-1]) if lines else None)


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Hold a file, which is made if it is not there, until the block ends: who adds to it replaces it as a whole."""
    while True:
        # Opened for writing, since a file system over a network refuses the lock of one that is only read.
        with open(file, "ab") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(held.fileno()), os.stat(file)):
                yield
                return
        # Another process replaced it in the meantime.


def _hash(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def _line(forecast: RegisteredForecast, previous: str | None) -> bytes:
    fields = forecast.model_dump(mode="json") | {"previous": previous}
    text = json.dumps(fields, allow_nan=False).removesuffix("}")
    return f'{text}{OWN_HASH}{_hash(text.encode())}"}}'.encode()


def _parsed(file: Path, content: bytes) -> tuple[RegisteredForecast, ...]:
    """The forecasts of a file's content; InputError if any line is not as it was written."""
    lines = content.split(b"\n")
    if lines.pop():
        raise InputError(file, f"line {len(lines) + 1}", "a line without an end", AS_WRITTEN)
    forecasts, previous = [], None
    for number, line in enumerate(lines, 1):
        text, _, own = line.rpartition(OWN_HASH.encode())
        if own != f'{_hash(text)}"}}'.encode():
            raise InputError(file, f"line {number}", "a line that does not fit its own SHA-256", AS_WRITTEN)
        try:
            fields = json.loads(text + b"}")
            if fields.pop("previous") != previous:
                raise InputError(file, f"line {number}", "a line that does not follow the one before it", AS_WRITTEN)
            forecasts.append(RegisteredForecast.model_validate(fields))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(map(str, first["loc"]))
            raise InputError(file, f"line {number}, {field}", first["input"], first["msg"]) from None
        except (ValueError, KeyError, AttributeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(file, f"line {number}", type(error).__name__, AS_WRITTEN) from None
        previous = _hash(line)
    return tuple(forecasts)
