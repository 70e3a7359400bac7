"""TensorBoard's event files as runs, read by TensorBoard itself: scalars, hyperparameters, and settings in texts."""

import json
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from tensorboard.backend.event_processing.io_wrapper import GetLogdirSubdirectories
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.compat import tf
from tensorboard.plugins.hparams import metadata
from tensorboard.util import tensor_util

from harness.tables.trackers.logs import hearing
from harness.tables.trackers.runs import Tell, TrackedRun, curve_of
from sweeps.errors import InputError, reason_of

# Keras and others write the metrics of one run into such folders beside each other.
_SPLITS = {"train", "training", "validation", "valid", "val", "eval", "test"}
# The folder of `SummaryWriter.add_hparams`; the metrics in it are those of the run's end, and not of a step.
_NAMED_BY_TIME = re.compile(r"\d+\.\d+")
# By the numbers of `tensorboard.plugins.hparams.api_pb2.Status`.
_STATES = {1: "finished", 2: "failed", 3: "running"}


def read_tensorboard(store: str | None, curves: bool, tell: Tell) -> list[TrackedRun]:
    """Read the event files in a folder, at any depth. As in TensorBoard, a run is a folder that holds some.

    Folders of one run are joined: `train`, `validation` and the like, if no other folder stands beside them, whose
    names then stand before their metrics; and what `SummaryWriter.add_hparams` and `add_scalars` put below a run's own
    folder. The settings are hyperparameters,
    texts that are JSON objects (as of Hugging Face's Trainer), and the file `hparams.yaml` that Lightning writes beside
    the events. A damaged record ends the reading of its file, which is told.

    Raises:
        InputError: no such folder, or one without event files.
    """
    folder = Path(store or "")
    if not store or not folder.is_dir():
        raise InputError("tensorboard", "DIR", store, "a folder of event files")
    places = sorted(Path(place) for place in GetLogdirSubdirectories(store))
    if not places:
        raise InputError(store, "DIR", "no event file", "a folder of event files (*tfevents*), at any depth")

    def hear(record: logging.LogRecord) -> None:
        # TensorBoard's readers stop at a damaged record, and note it only in their log.
        for argument in record.args if isinstance(record.args, tuple) else ():
            if isinstance(argument, tf.errors.DataLossError):
                tell(f"{argument}: the rest of this file is left out")

    with hearing(("tensorboard",), logging.DEBUG, hear):
        parts = {place: _part(place, tell) for place in places}
    runs: dict[Path, TrackedRun] = {}
    for place, part in parts.items():
        home, rename = _home(place, part, folder, parts)
        run_id = folder.resolve().name if home == folder else home.relative_to(folder).as_posix()
        runs[home] = _joined(run_id, runs.get(home), part, rename)
    return list(runs.values())


def _part(place: Path, tell: Tell) -> TrackedRun:
    """What the event files of one folder hold."""
    # All scalars, and of texts, images and the rest the last of each tag.
    events = EventAccumulator(str(place), {"tensors": 1}, tensor_size_guidance={"scalars": 0})
    events.Reload()
    logged: list[tuple[int, dict[str, float]]] = []
    final: dict[str, float] = {}
    config: dict[str, Any] = _hparams_file(place / "hparams.yaml", tell)
    for tag in events.Tags()["tensors"]:
        plugin = events.SummaryMetadata(tag).plugin_data.plugin_name
        if plugin == "scalars":
            for event in events.Tensors(tag):
                final[tag] = tensor_util.make_ndarray(event.tensor_proto).item()
                logged.append((event.step, {tag: final[tag]}))
        elif plugin == "text" and (settings := _object(events.Tensors(tag)[-1].tensor_proto)):
            config[tag.removesuffix("/text_summary")] = settings
    about, hyper = _session(events)
    curve = curve_of(() if _NAMED_BY_TIME.fullmatch(place.name) else logged)
    return TrackedRun("", about, config | hyper, final, curve)


def _hparams_file(path: Path, tell: Tell) -> dict[str, Any]:
    try:
        settings = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        tell(f"{path}: settings that cannot be read are left out ({reason_of(error)})")
        return {}
    return settings if isinstance(settings, dict) else {}


def _object(proto: Any) -> dict[str, Any]:
    """The JSON object that a text is; empty if it is none."""
    text = tensor_util.make_ndarray(proto).ravel()[0]
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _session(events: EventAccumulator) -> tuple[dict[str, str | None], dict[str, Any]]:
    """The state and the hyperparameters that the plugin of hyperparameters keeps of a run."""
    try:
        contents = events.PluginTagToContent("hparams")
    except KeyError:
        return {}, {}
    about: dict[str, str | None] = {}
    settings: dict[str, Any] = {}
    if start := contents.get(metadata.SESSION_START_INFO_TAG):
        values = metadata.parse_session_start_info_plugin_data(start).hparams
        settings = {name: getattr(value, str(value.WhichOneof("kind"))) for name, value in values.items()}
    if end := contents.get(metadata.SESSION_END_INFO_TAG):
        session = metadata.parse_session_end_info_plugin_data(end)
        # PyTorch's writer says `success` together with the hyperparameters, before the end, and without a time.
        if session.end_time_secs:
            about["state"] = _STATES.get(session.status)
    return about, settings


def _home(
    place: Path, part: TrackedRun, folder: Path, parts: Mapping[Path, TrackedRun]
) -> tuple[Path, Callable[[str], str]]:
    """The folder of the run that a folder of events belongs to, and what its metrics are called there."""
    above = next((outer for outer in place.parents if outer in parts), None)
    beside = {other.name.lower() for other in parts if other.parent == place.parent}
    if place != folder and beside <= _SPLITS:
        return place.parent, lambda tag: f"{place.name}/{tag}"
    if above and _NAMED_BY_TIME.fullmatch(place.name):
        return above, str
    if above and part.final:
        # add_scalars("loss", {"a": ..}) writes the tag `loss` into a folder loss/a or, PyTorch's, loss_a.
        inner = place.relative_to(above).as_posix()
        if all(inner.replace("/", "_").startswith(f"{tag.replace('/', '_')}_") for tag in part.final):
            return above, lambda tag: inner
    return place, str


def _joined(run_id: str, run: TrackedRun | None, part: TrackedRun, rename: Callable[[str], str]) -> TrackedRun:
    """A run with one more part; what it has already stays."""
    run = run or TrackedRun(run_id)
    final = {rename(tag): value for tag, value in part.final.items()}
    curve = run.curve.combine_first(part.curve.rename(columns=rename))
    return TrackedRun(run_id, {**part.about, **run.about}, {**part.config, **run.config}, {**final, **run.final}, curve)
