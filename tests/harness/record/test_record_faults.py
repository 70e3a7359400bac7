"""Full, read-only and failing disks, damaged files, a clock set back: one clear line, and nothing finished is lost."""

import errno
import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from harness import files
from harness.files import write_bytes, write_files, write_json
from harness.record.segments import read_segments, segment_files, whole_ends, write_segment
from harness.record.status import Status, read_status, run_folder, write_status
from harness.record.sweep_folder import lay_out, read_configs
from harness.record.table import export, runs_table
from models.config import make_config
from sweeps.config import DataConfig, OptimizerConfig, RunConfig
from sweeps.errors import InputError


def run(seed: int) -> RunConfig:
    model = make_config("dense", vocab=257, context=16, width=16, depth=1, heads=2)
    data = DataConfig(domain="", tokenizer="bytes", unique_tokens=1000)
    return RunConfig(model=model, data=data, optimizer=OptimizerConfig(lr=0.1), steps=60, batch=2, seed=seed)


RUNS = [run(seed) for seed in range(3)]


def record(folder: Path, ends: tuple[int, ...] = (0, 20, 60)) -> None:
    """The segments of a run of 60 steps; those of its evaluations where there are any."""
    for start, end in zip(ends, ends[1:], strict=False):
        steps = [*range(start + 1, end + 1)]
        marks = [s for s in RUNS[0].evaluation_steps() if start < s <= end or s == start == 0]
        write_segment(folder, "series", start, end, {"step": steps, "train_loss": [1.0 / s for s in steps]})
        write_segment(folder, "evals", start, end, {"step": marks, "loss": [1.0] * len(marks)})
        write_segment(folder, "documents", start, end, {"step": marks, "loss": [1.0] * len(marks)})
        write_segment(folder, "timing", start, end, {"step": [end], "wall_seconds": [2.0]})


@pytest.fixture
def sweep(tmp_path) -> Path:
    """A folder with two finished runs and one that is pending."""
    lay_out(tmp_path, "name: faults\n", RUNS)
    for config in RUNS[:2]:
        folder = run_folder(tmp_path, config.run_id)
        record(folder)
        write_json(folder / "gap.json", {"gap_probe": 0.25})
        write_status(folder, Status("done", 60, 60, 1 / 60))
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_an_error_at_any_moment_leaves_the_old_files_whole_and_nothing_beside(tmp_path, monkeypatch, rng, number):
    old = {tmp_path / "a" / "one": b"1" * 10, tmp_path / "b" / "two": b"2" * 5000, tmp_path / "three": b"3"}
    write_files(old)
    new = {path: content + b"new" for path, content in old.items()}
    real = {name: getattr(os, name) for name in ("fsync", "replace")}
    moments = iter(())

    def counted(name):
        def call(*arguments):
            if next(moments):
                raise OSError(number, os.strerror(number))
            return real[name](*arguments)

        return call

    # Three files flushed, three renamed, three folders flushed.
    for fatal in rng.sample(range(9), 9):
        write_files(old)
        moments = iter([call == fatal for call in range(fatal + 1)])
        with monkeypatch.context() as patch, pytest.raises(OSError) as told:
            for name in real:
                patch.setattr(files.os, name, counted(name))
            write_files(new)
        assert told.value.errno == number and Path(told.value.filename) in {*old, *(p.parent for p in old)}
        left = contents(tmp_path)
        assert set(left) == {str(path.relative_to(tmp_path)) for path in old}
        assert all(left[str(p.relative_to(tmp_path))] in (old[p], new[p]) for p in old)


def test_a_disk_that_runs_full_keeps_what_was_written(small_disk, rng):
    status, folder = Status("running", 3, 60), small_disk / "runs" / "a"
    write_status(folder, status)
    written: dict[str, bytes] = {}
    with pytest.raises(OSError) as told:
        for number in range(1000):
            name, content = f"{number}.parquet", rng.randbytes(rng.randrange(100, 30_000))
            write_bytes(folder / "series" / name, content)
            written[name] = content
    assert told.value.errno == errno.ENOSPC and told.value.filename == str(
        folder / "series" / f"{len(written)}.parquet"
    )
    assert written and contents(folder / "series") == written
    # Not even a status fits when the disk is filled to the brim; the one that stands stays.
    (small_disk / "filler").write_bytes(b"x" * (os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize))
    with pytest.raises(OSError, match="No space left"):
        write_status(folder, Status("done", 60, 60, reason="x" * 5000))
    assert read_status(folder, 60) == status and contents(folder / "series") == written


def test_a_full_disk_is_one_line_and_a_table_whole_or_absent(sweep, small_disk, isogap, lab):
    (small_disk / "runs.csv").write_text("old")
    (small_disk / "filler").write_bytes(b"x" * (os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize))
    ended = isogap("export", sweep, "--what", "series", "--to", small_disk / "runs.csv")
    assert ended.status == 2 and ended.err.count("\n") == 1 and f"{small_disk}/runs.csv" in ended.err, ended
    assert (small_disk / "runs.csv").read_text() == "old"
    (small_disk / "out").mkdir()
    ended = isogap("run", lab.spec, "--out", small_disk / "out", "--cache", lab.cache)
    assert ended.status == 2 and ended.err.count("\n") == 1 and f"{small_disk}/out/" in ended.err, ended
    ended = isogap("run", lab.spec, "--out", sweep, "--cache", small_disk / "cache")
    assert ended.status == 2 and ended.err.count("\n") == 1 and f"{small_disk}/cache/" in ended.err, ended


def test_a_read_only_folder_is_one_line(small_disk, isogap, tmp_path):
    lay_out(small_disk, "name: faults\n", RUNS[:1])
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    before = contents(small_disk)
    with pytest.raises(OSError) as told:
        lay_out(small_disk, "name: another\n", RUNS)
    assert told.value.errno == errno.EROFS and str(told.value.filename).startswith(str(small_disk))
    assert contents(small_disk) == before
    ended = isogap("export", small_disk, "--what", "runs", "--to", small_disk / "runs.csv")
    assert ended.status == 2 and ended.err.count("\n") == 1 and "runs.csv" in ended.err


BROKEN = [b"", b"\0" * 64, b"{", b"[]", b"null", b'{"state": "done"}', b"\xff\xfe"]


@pytest.mark.parametrize("content", [*BROKEN, b'{"state": "gone", "step": 1, "steps": 60}'])
def test_a_damaged_status_is_recomputed_unless_the_run_is_whole(sweep, content):
    done, other, pending = (run_folder(sweep, config.run_id) for config in RUNS)
    for folder in (done, other, pending):
        (folder / "status.json").write_bytes(content)
    (other / "series" / "000000020-000000060.parquet").unlink()
    assert read_status(done, 60).state == "done"
    assert read_status(other, 60).state == "interrupted"
    assert read_status(pending, 60).state == "interrupted"
    assert runs_table(sweep)["status"].tolist() == ["done", "interrupted", "interrupted"]
    (done / "gap.json").write_bytes(content if content != b'{"state": "done"}' else b"")
    if not content.startswith(b'{"state": "gone"'):
        assert read_status(done, 60).state == "interrupted"


@pytest.mark.parametrize("content", BROKEN[:5])
def test_a_damaged_gap_is_one_line_that_says_what_to_do(sweep, content):
    folder = run_folder(sweep, RUNS[1].run_id)
    (folder / "gap.json").write_bytes(content)
    with pytest.raises(InputError, match=rf"gap.json.*delete {folder}/status.json") as told:
        runs_table(sweep)
    assert "\n" not in str(told.value)
    (folder / "status.json").unlink()
    assert runs_table(sweep)["status"].tolist() == ["done", "pending", "pending"]


@pytest.mark.parametrize("kind", ["series", "evals", "documents", "timing"])
def test_a_damaged_segment_of_a_finished_run_is_named(sweep, rng, tmp_path, kind):
    folder = run_folder(sweep, RUNS[0].run_id)
    path = rng.choice(sorted((folder / kind).iterdir()))
    path.write_bytes(path.read_bytes()[: -rng.randrange(1, 200)])
    with pytest.raises(InputError, match=rf"{path}.*delete {folder}/status.json") as told:
        export(sweep, "runs" if kind == "timing" else kind, tmp_path / "table.csv")  # pyright: ignore[reportArgumentType]
    assert "\n" not in str(told.value) and not (tmp_path / "table.csv").exists()


@pytest.mark.parametrize("content", BROKEN)
def test_either_copy_of_the_configurations_is_enough(sweep, content):
    (sweep / "configs.jsonl").write_bytes(content)
    assert read_configs(sweep) == RUNS
    assert lay_out(sweep, "name: faults\n", RUNS) == RUNS
    file = run_folder(sweep, RUNS[0].run_id) / "config.json"
    file.write_bytes(content)
    assert read_configs(sweep) == RUNS
    (sweep / "configs.jsonl").unlink()
    with pytest.raises(InputError, match=f"{file}: config"):
        read_configs(sweep)
    # The sweep itself has them all.
    assert lay_out(sweep, "name: faults\n", RUNS) == RUNS
    (sweep / "configs.jsonl").unlink()
    assert read_configs(sweep) == RUNS
    (sweep / "sweep.yaml").write_bytes(content)
    assert lay_out(sweep, "name: faults\n", RUNS) == RUNS and (sweep / "sweep.yaml").read_text() == "name: faults\n"
    (sweep / "configs.jsonl").unlink()
    # One that validates but is of another run.
    file.write_text(RUNS[1].canonical_json())
    with pytest.raises(InputError, match=f"{file}: config.*another run"):
        read_configs(sweep)


OTHER_RUN = b'{"runs": ["0123456789ab"]}'


@pytest.mark.parametrize("content", [*BROKEN, OTHER_RUN])
def test_a_damaged_list_of_runs_is_made_anew_when_it_is_deleted(sweep, content):
    before = runs_table(sweep)
    (sweep / "manifest.json").write_bytes(content)
    with pytest.raises(InputError, match=r"manifest.json: runs: .*delete it"):
        read_configs(sweep)
    (sweep / "manifest.json").unlink()
    lay_out(sweep, "name: faults\n", RUNS)
    assert runs_table(sweep).equals(before)


def test_a_clock_set_back_changes_nothing(tmp_path, monkeypatch, sweep):
    before = contents(sweep)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 1e6)
    assert runs_table(sweep)["status"].tolist() == ["done", "done", "pending"]
    folder = tmp_path / "again"
    record(folder)
    assert (
        contents(folder)["series/000000000-000000020.parquet"]
        == (before[f"runs/{RUNS[0].run_id}/series/000000000-000000020.parquet"])
    )
    assert whole_ends(folder, RUNS[0].evaluation_steps()) == {0, 20, 60}


def test_all_files_of_a_finished_run_can_be_written_at_once(tmp_path):
    rows = {"series": {"step": [1, 2], "train_loss": [3.0, 2.0]}, "evals": {}, "timing": {"step": [2]}}
    write_files(segment_files(tmp_path, 0, 2, rows) | {tmp_path / "gap.json": json.dumps({}).encode()})
    assert read_segments(tmp_path, "series")["train_loss"].tolist() == [3.0, 2.0]
    assert not (tmp_path / "evals").exists() and whole_ends(tmp_path) == {0, 2}
