"""What Trackio's own interface reads from its folder, against the record."""

import pytest

pytest.importorskip("trackio")

from trackio.api import Api
from trackio.sqlite_storage import SQLiteStorage

from harness.track.trackio import mirror_to_trackio


def read(recorded) -> dict[tuple[str, int], list[float]]:
    """All values of each (metric, step) of the one run in the project named like the folder."""
    (run,) = Api().runs("sweep")
    assert run.id == run.name == recorded.config.run_id
    config = run.config or {}
    assert config["optimizer"]["lr"] == 0.1 and config["N_nonembedding"] == 12 * 16**2 + 3 * 16
    values = {}
    for row in SQLiteStorage.get_logs("sweep", run.name, run_id=run.id):
        for name, value in row.items():
            if name not in ("step", "timestamp", "tokens"):
                values.setdefault((name, row["step"]), []).append(value)
    return values


def test_every_row_is_there_once(recorded, trackio_store):
    run = recorded(11)
    for steps in (35, 20, 40):
        run.commit(steps)
        for _ in range(2):
            mirror_to_trackio(run.out, run.config)
        assert read(run) == {key: [value] for key, value in run.rows.items()}


def test_a_run_cut_back_goes_on_where_the_mirror_stands(recorded, trackio_store):
    run = recorded(12)
    run.commit(30)
    run.commit(30)
    mirror_to_trackio(run.out, run.config)
    before, last = dict(run.rows), run.step
    while run.step == last:
        run.cut()
    while run.step <= last:
        run.commit(45)
    mirror_to_trackio(run.out, run.config)
    # Recomputed rows are the same in a real record; here they differ, and the first ones stand.
    assert read(run) == {k: [v] for k, v in (before | {k: v for k, v in run.rows.items() if k[1] > last}).items()}


def test_a_name_that_trackio_keeps_for_itself_is_told(recorded, trackio_store, tmp_path):
    run = recorded(13)
    run.commit(5)
    (tmp_path / "sweep").rename(tmp_path / "sweep_system")
    with pytest.raises(ValueError, match="Choose a different project name"):
        mirror_to_trackio(tmp_path / "sweep_system", run.config)
