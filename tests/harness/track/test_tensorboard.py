"""Event files as TensorBoard itself reads them, against the record."""

import os

import numpy as np
import pytest

pytest.importorskip("tensorboard")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from harness.record.segments import write_segment
from harness.track.tensorboard import mirror_to_tensorboard


def read(recorded) -> tuple[dict[tuple[str, int], list[float]], dict[str, list[tuple[int, float]]]]:
    """All values of each (tag, step), and each tag's (step, wall time) in the order they are stored."""
    folder = recorded.out / "tensorboard" / recorded.config.run_id
    values, times = {}, {}
    if folder.is_dir():
        accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
        accumulator.Reload()
        for tag in accumulator.Tags()["scalars"]:
            for event in accumulator.Scalars(tag):
                values.setdefault((tag, event.step), []).append(event.value)
                times.setdefault(tag, []).append((event.step, event.wall_time))
    return values, times


def check(recorded) -> None:
    values, times = read(recorded)
    assert values == {key: [float(np.float32(value))] for key, value in recorded.rows.items()}
    for pairs in times.values():
        assert pairs == sorted(pairs) and all(a[1] <= b[1] for a, b in zip(pairs, pairs[1:], strict=False))


@pytest.mark.parametrize("seed", range(5))
def test_a_killed_and_resumed_record_is_mirrored_exactly(seed, recorded):
    run = recorded(seed)
    for _ in range(8):
        for _ in range(run.random.randint(1, 3)):
            run.commit(run.random.randint(1, 30))
        if run.random.random() < 0.7:
            mirror_to_tensorboard(run.out, run.config)
            check(run)
        if run.random.random() < 0.6:
            run.cut()
    mirror_to_tensorboard(run.out, run.config)
    check(run)


def test_a_mirror_that_is_whole_is_not_written_again(recorded):
    run = recorded(3)
    run.commit(25)
    mirror_to_tensorboard(run.out, run.config)
    folder = run.out / "tensorboard" / run.config.run_id
    before = {path.name: (path.stat().st_ino, path.read_bytes()) for path in folder.iterdir()}
    mirror_to_tensorboard(run.out, run.config)
    assert {path.name: (path.stat().st_ino, path.read_bytes()) for path in folder.iterdir()} == before
    # What a crash left half written goes, and what is lost comes again, the same to the byte.
    (folder / ".events.out.tmp.000000000-000000025.series").write_bytes(b"half")
    (folder / "events.out.tfevents.000000000-000000025.series").unlink()
    mirror_to_tensorboard(run.out, run.config)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {n: b for n, (_, b) in before.items()}


def test_a_segment_recorded_anew_under_the_same_name_is_mirrored_anew(recorded):
    run = recorded(4)
    run.commit(25)
    mirror_to_tensorboard(run.out, run.config)
    run.step, run.rows = 0, {}
    for path in run.folder.rglob("*.parquet"):
        os.utime(path, (10**9, 10**9))
    mirror_to_tensorboard(run.out, run.config)
    run.commit(25)  # other losses: as from other hardware
    mirror_to_tensorboard(run.out, run.config)
    check(run)


def test_half_a_commit_is_not_shown(recorded):
    run = recorded(5)
    run.commit(20)
    write_segment(run.folder, "series", 20, 30, {"step": [*range(21, 31)], "train_loss": [1.0] * 10})
    mirror_to_tensorboard(run.out, run.config)
    check(run)
