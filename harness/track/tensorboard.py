"""TensorBoard: one event file per committed segment, in DIR/tensorboard/RUN_ID."""

import io
import os
from pathlib import Path

import numpy as np
import pandas as pd
from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import (
    HParamsPluginData,  # pyright: ignore[reportAttributeAccessIssue]
    SessionStartInfo,  # pyright: ignore[reportAttributeAccessIssue]
)
from tensorboard.summary.writer.record_writer import RecordWriter

from harness.record.segments import bounds
from harness.record.status import run_folder
from harness.track.rows import committed_segments, scalars, settings_of, training_clock
from sweeps.config import RunConfig


def mirror_to_tensorboard(out: Path, run: RunConfig) -> None:
    """Make the event files of a run match its committed segments: missing files are written, others are removed.

    A file has its segment's name, so that TensorBoard reads the files in the order of the steps, and its segment's time
    of modification, so that a segment written again under the same name is mirrored again. The first files also hold
    the run's settings, for TensorBoard's page HPARAMS. An event's wall time is the seconds that the run had trained:
    TensorBoard's axis RELATIVE shows them, its axis WALL begins in 1970.
    """
    source, target = run_folder(out, run.run_id), out / "tensorboard" / run.run_id
    wanted = {_name(segment): segment for segment in committed_segments(source)}
    standing = {path.name: path for path in target.iterdir()} if target.is_dir() else {}
    for name in standing.keys() - wanted.keys():
        standing[name].unlink()
    stamps = {name: os.stat(segment).st_mtime_ns for name, segment in wanted.items()}
    missing = [n for n in wanted if n not in standing or os.stat(standing[n]).st_mtime_ns != stamps[n]]
    if not missing:
        return
    target.mkdir(parents=True, exist_ok=True)
    steps, seconds = training_clock(source)
    for name in missing:
        temporary = target / f".{name.replace('tfevents', 'tmp')}"
        temporary.write_bytes(_events(wanted[name], run, steps, seconds))
        os.utime(temporary, ns=(stamps[name], stamps[name]))
        os.replace(temporary, target / name)


def _name(segment: Path) -> str:
    return f"events.out.tfevents.{segment.stem}.{segment.parent.name}"


def _events(segment: Path, run: RunConfig, steps: np.ndarray, seconds: np.ndarray) -> bytes:
    rows = list(scalars(segment))
    times = np.interp([step for step, _ in rows], steps, seconds)
    buffer = io.BytesIO()
    writer = RecordWriter(buffer)
    writer.write(Event(wall_time=times[0], file_version="brain.Event:2").SerializeToString())
    if bounds(segment)[0] == 0:
        writer.write(Event(wall_time=times[0], summary=_hparams(run)).SerializeToString())
    for (step, row), time in zip(rows, times, strict=True):
        values = [Summary.Value(tag=name, simple_value=value) for name, value in row.items() if name != "tokens"]
        writer.write(Event(wall_time=time, step=step, summary=Summary(value=values)).SerializeToString())
    return buffer.getvalue()


def _hparams(run: RunConfig) -> Summary:
    """The settings of a run as the plugin of hyperparameters keeps them: numbers, truth values and texts."""
    session = SessionStartInfo()
    for name, value in pd.json_normalize(settings_of(run)).to_dict("records")[0].items():
        if isinstance(value, bool):
            session.hparams[name].bool_value = value
        elif isinstance(value, int | float):
            session.hparams[name].number_value = value
        elif value is not None:
            session.hparams[name].string_value = str(value)
    content = metadata.create_summary_metadata(HParamsPluginData(session_start_info=session))
    empty = metadata.NULL_TENSOR
    return Summary(value=[Summary.Value(tag=metadata.SESSION_START_INFO_TAG, metadata=content, tensor=empty)])
