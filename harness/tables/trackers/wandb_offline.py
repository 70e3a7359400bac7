"""W&B's runs on this machine: the files run-ID.wandb that its client writes, online or offline.

W&B's Python package has no reader of them any more (0.31), so the container is read here: LevelDB's log format
(https://github.com/google/leveldb/blob/main/doc/log_format.md) behind a header of 7 bytes, with zlib's CRC-32. The
records in it are the package's own protocol buffers.
"""

import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from wandb.proto.wandb_internal_pb2 import Record  # pyright: ignore[reportAttributeAccessIssue]

from harness.tables.trackers.runs import Tell, TrackedRun, curve_of, flat

_BLOCK = 32768
_HEADER = struct.Struct("<IHB")
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def read_wandb_files(paths: Sequence[Path], tell: Tell) -> list[TrackedRun]:
    """Read the runs in W&B's files; several files of one run, which was resumed, are joined in the given order.

    Of a damaged file the records in whole blocks (32 KiB) are read, which is told. A run whose file has no end is
    `unfinished`: its process was killed, or still runs.
    """
    runs: dict[str, _Run] = {}
    for path in paths:
        data = path.read_bytes()
        if not data.startswith(b":W&B"):
            tell(f"{path}: left out, because it is not a file of W&B's client")
            continue
        run_id = path.stem.removeprefix("run-")
        run = runs.setdefault(run_id, _Run(run_id))
        run.state = "unfinished"
        for content in log_records(data, path, tell):
            try:
                run.take(Record.FromString(content))
            except DecodeError as error:
                tell(f"{path}: a record that cannot be read is left out ({error})")
    return [run.tracked() for run in runs.values()]


def log_records(data: bytes, path: Path, tell: Tell) -> Iterator[bytes]:
    """The records of a file in LevelDB's log format; after damage, which is told, it goes on with the next block."""
    position = 7
    started: bytes | None = None
    while position + _HEADER.size <= len(data):
        left = _BLOCK - position % _BLOCK
        if left < _HEADER.size:
            position += left  # the end of a block, too short for a header, is padding
            continue
        checksum, length, kind = _HEADER.unpack_from(data, position)
        content = data[position + _HEADER.size : position + _HEADER.size + length]
        if len(content) < length or zlib.crc32(content, zlib.crc32(bytes([kind]))) != checksum:
            tell(f"{path}: damaged at byte {position}: {min(left, len(data) - position)} bytes are left out")
            position, started = position + left, None
            continue
        position += _HEADER.size + length
        if kind == _WHOLE:
            yield content
        elif kind == _FIRST:
            started = content
        elif started is not None:  # else its first part was damaged
            started += content
            if kind == _LAST:
                yield started
                started = None


@dataclass
class _Run:
    """A run while its records are read.

    Attributes:
        last: the last value of every metric. The client writes its summary from time to time, so that values which were
            logged after it are newer.
    """

    run_id: str
    name: str | None = None
    project: str | None = None
    state: str = "unfinished"
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    last: dict[str, Any] = field(default_factory=dict)

    def take(self, record: Record) -> None:
        """Take over what a record says of the run."""
        if record.HasField("run"):
            self.name, self.project = record.run.display_name or None, record.run.project or None
            _update(self.config, record.run.config)
        elif record.HasField("config"):
            _update(self.config, record.config)
        elif record.HasField("summary"):
            before = flat(self.summary)
            _update(self.summary, record.summary)
            after = flat(self.summary)
            self.last = {name: value for name, value in self.last.items() if name in after or name not in before}
            self.last |= {name: value for name, value in after.items() if before.get(name) != value}
        elif record.HasField("history"):
            row = {}
            for item in record.history.item:
                _set(row, item)
            step = row.get("_step", record.history.step.num)
            self.history.append((step, flat(row)))
            self.last |= flat(row)
        elif record.HasField("exit"):
            self.state = "failed" if record.exit.exit_code else "finished"

    def tracked(self) -> TrackedRun:
        """The run as its records leave it."""
        about = {"run_name": self.name, "project": self.project, "state": self.state}
        return TrackedRun(self.run_id, about, self.config, self.last, curve_of(self.history))


def _update(values: dict[str, Any], record: Any) -> None:
    """Apply a record of changes to nested values."""
    for item in record.update:
        _set(values, item)
    for item in record.remove:
        inner, name = _place(values, item)
        inner.pop(name, None)


def _set(values: dict[str, Any], item: Any) -> None:
    inner, name = _place(values, item)
    inner[name] = json.loads(item.value_json)


def _place(values: dict[str, Any], item: Any) -> tuple[dict[str, Any], str]:
    """The dictionary within nested values that an item changes, and the name of the item in it."""
    *outer, name = [item.key] if item.key else item.nested_key
    for key in outer:
        if not isinstance(values.get(key), dict):
            values[key] = {}
        values = values[key]
    return values, name
