"""W&B's folders that its own client wrote, and tables as they are exported from it, as tables of runs."""

import json
import random
import struct
import zlib

import numpy as np
import pandas as pd
import pytest

from harness.tables.trackers.runs import import_runs
from sweeps.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore")  # of the client's own


@pytest.fixture(scope="module")
def folder(ladder, tmp_path_factory):
    """The ladder as offline runs. The client writes the last one, which fails, in two sessions."""
    pytest.importorskip("wandb")
    import wandb

    folder = tmp_path_factory.mktemp("wandb")
    settings = wandb.Settings(
        mode="offline", silent=True, console="off", disable_git=True, x_disable_stats=True, x_disable_meta=True
    )

    def session(run, points, code=0):
        config = {"model": {"n_params": run.params, "widths": [1, 2]}, "tokens": run.tokens}
        options = {"dir": folder, "project": "ladder", "reinit": "create_new", "settings": settings}
        started = wandb.init(id=run.name, name=run.name, config=config, **options)
        started.define_metric("train/loss", summary="min")
        for step, loss in points:
            started.log({"val/loss": loss, "train/loss": loss - step}, step=step)
        started.summary["note"] = "as given"
        started.finish(exit_code=code)

    for run in ladder[:-1]:
        session(run, run.curve)
    session(ladder[-1], ladder[-1].curve[:1])
    session(ladder[-1], ladder[-1].curve[1:], code=1)
    # The client's own process writes on after the end of a run: one in four files lacked its last step.
    wandb.teardown()
    return folder / "wandb"


def test_runs_and_curves_are_those_that_were_written(folder, ladder, check_ladder):
    told = []
    imported = import_runs("wandb", str(folder), curves=True, tell=told.append)
    check_ladder(imported, "run_name", "model.n_params", "tokens", "val/loss")
    failed = imported.runs.loc[imported.runs["state"] == "failed", "run_id"]
    assert failed.tolist() == [ladder[-1].name]
    assert told == [
        "1 of 12 runs did not finish (1 failed): --where \"state == 'finished'\" leaves them out of a fit",
        "isogap fit takes N = model.n_params, D = tokens, L = val/loss, L_train = train/loss",
    ]
    assert set(imported.runs["note"]) == {"as given"} and set(imported.runs["model.widths"]) == {"[1, 2]"}
    lowest = {run.name: min(loss - step for step, loss in run.curve) for run in ladder[:-1]}
    assert imported.runs.set_index("run_id")["train/loss.min"].drop(ladder[-1].name).to_dict() == pytest.approx(lowest)


def test_one_run_of_a_folder_or_its_file_will_do(folder, ladder):
    (file,) = folder.glob(f"*/run-{ladder[0].name}.wandb")
    for store in (file, file.parent):
        runs = import_runs("wandb", str(store), tell=lambda _: None).runs
        assert runs["run_id"].tolist() == [ladder[0].name]


def test_a_run_without_an_end_is_unfinished_and_damage_is_named(folder, ladder, tmp_path):
    (file,) = folder.glob(f"*/run-{ladder[0].name}.wandb")
    data = file.read_bytes()
    (tmp_path / "cut.wandb").write_bytes(data[:-60])
    (tmp_path / "other.wandb").write_bytes(b"something else")
    told = []
    (tmp_path / "run-dead.wandb").write_bytes(data[:7])  # killed before anything was written
    runs = import_runs("wandb", str(tmp_path), tell=told.append).runs
    assert runs["run_id"].tolist() == ["cut", "dead"] and runs["state"].tolist() == ["unfinished"] * 2
    assert runs["model.n_params"].dropna().tolist() == [ladder[0].params]
    assert "cut.wandb: damaged at byte" in told[0] and "other.wandb: left out" in told[1]
    assert told[-1] == "1 of 2 runs have no val/loss: dead"


@pytest.mark.parametrize("seed", range(20))
def test_records_beside_damage_are_read(seed, tmp_path):
    # Records of random sizes as LevelDB's writer lays them out, with one bit changed: what is read was written, in its
    # order, and only records that touch the damaged block are missing.
    pytest.importorskip("wandb")
    from harness.tables.trackers.wandb_offline import log_records

    rng = random.Random(seed)
    records = [rng.randbytes(rng.choice((0, 10, 1000, 40_000, 100_000))) for _ in range(30)]
    data, spans = b":W&B\xe1\xbe\x00", []
    for record in records:
        start, rest, first = len(data), record, True
        while first or rest:
            left = 32768 - len(data) % 32768
            if left < 7:
                data += bytes(left)
                left = 32768
            part, rest = rest[: left - 7], rest[left - 7 :]
            kind = (1 if not rest else 2) if first else (4 if not rest else 3)
            first = False
            data += struct.pack("<IHB", zlib.crc32(bytes([kind]) + part), len(part), kind) + part
        spans.append((start, len(data)))
    assert list(log_records(data, tmp_path, pytest.fail)) == records
    place = rng.randrange(7, len(data))
    data = data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :]
    told = []
    block = place // 32768 * 32768
    whole = [r for r, (start, end) in zip(records, spans, strict=True) if end <= block or start >= block + 32768]
    read = list(log_records(data, tmp_path, told.append))
    remaining = iter(read)
    assert all(record in remaining for record in whole) and len(told) <= 1
    written = iter(records)
    assert all(record in written for record in read)


SETTINGS = [{"n_params": 10.0**k, "tokens": 10.0 ** (k + 1)} for k in (6, 7, 8)]
SUMMARIES = [
    {"val/loss": 3.0, "_step": 4},
    {"val/loss": float("nan"), "note": "no nan", "_step": 4},
    {"val/loss": 2.0, "_step": 4},
]


def exported(kind, path):
    """The loop of W&B's manual (a table of name, config and summary), and its page of runs."""
    names, states = ["a", "b", "c"], ["finished", "crashed", "finished"]
    frame = pd.DataFrame({"name": names, "state": states, "config": SETTINGS, "summary": SUMMARIES})
    if kind == "columns.json":
        frame.to_json(path)
    elif kind == "records.json":
        path.write_text(json.dumps(frame.to_dict("records")))
    elif kind == "lines.json":
        frame.to_json(path, orient="records", lines=True)
    elif kind == "loop.csv":
        frame.to_csv(path)
    else:
        page = pd.DataFrame(SETTINGS).assign(**{"val/loss": [row["val/loss"] for row in SUMMARIES]})
        page.insert(0, "Name", names)
        page.assign(State=states).to_csv(path, index=False)


@pytest.mark.parametrize("kind", ["columns.json", "records.json", "lines.json", "loop.csv", "page.csv"])
def test_exported_tables_are_read(kind, tmp_path):
    exported(kind, tmp_path / kind)
    told = []
    runs = import_runs("wandb", str(tmp_path / kind), tell=told.append).runs
    assert runs["run_id"].tolist() == ["a", "b", "c"] and runs["state"].tolist() == ["finished", "crashed", "finished"]
    assert runs["n_params"].tolist() == [1e6, 1e7, 1e8] and runs["tokens"].tolist() == [1e7, 1e8, 1e9]
    np.testing.assert_array_equal(runs["val/loss"], [3.0, np.nan, 2.0])
    assert told[1:] == [
        "1 of 3 runs did not finish (1 crashed): --where \"state == 'finished'\" leaves them out of a fit",
        "isogap fit takes N = n_params, D = tokens, L = val/loss",
        "1 of 3 runs have no val/loss: b",
    ]


def test_an_exported_chart_is_curves(tmp_path):
    chart = {"Step": [1, 2, 3]}
    for run, values in {"a - b": [3.0, None, 2.0], "c": [5.0, 4.0, None]}.items():
        chart |= {f"{run} - val/loss{end}": values for end in ("", "__MIN", "__MAX")}
        chart |= {f"{run} - _step{end}": [1, 2, 3] for end in ("", "__MIN", "__MAX")}
    pd.DataFrame(chart).to_csv(tmp_path / "chart.csv", index=False)
    imported = import_runs("wandb", str(tmp_path / "chart.csv"), curves=True, tell=lambda _: None)
    assert imported.runs.to_dict("list") == {"run_id": ["a - b", "c"], "val/loss": [2.0, 4.0]}
    assert imported.curves.to_dict("list") == {
        "run_id": ["a - b", "a - b", "c", "c"], "step": [1, 3, 1, 2], "val/loss": [3.0, 2.0, 5.0, 4.0],
    }  # fmt: skip


@pytest.mark.parametrize("named", [True, False])
def test_an_exported_history_is_curves(named, tmp_path):
    rows = [("a", 0, 3.0, 1.0), ("a", 5, 2.5, None), ("b", 0, 4.0, 1.0)][: 3 if named else 2]
    frame = pd.DataFrame(rows, columns=["run_id", "_step", "val/loss", "lr"]).assign(_runtime=1.0)
    (frame if named else frame.drop(columns="run_id")).to_csv(tmp_path / "a.csv", index=False)
    imported = import_runs("wandb", str(tmp_path / "a.csv"), curves=True, tell=lambda _: None)
    assert imported.runs["val/loss"].tolist() == [2.5, 4.0][: 1 + named]
    assert imported.runs["run_id"].tolist() == ["a", "b"][: 1 + named]
    assert imported.curves[["run_id", "step", "val/loss"]].to_numpy().tolist() == [list(row[:3]) for row in rows]


def test_what_is_told_of_damage_is_a_warning_in_python(tmp_path):
    pytest.importorskip("wandb")
    (tmp_path / "other.wandb").write_bytes(b"something else")
    with pytest.warns(UserWarning, match="other.wandb: left out"), pytest.raises(InputError, match="at least one run"):
        import_runs("wandb", str(tmp_path))


def test_what_is_none_of_these_is_refused(tmp_path):
    (tmp_path / "empty.csv").write_text("")
    for store in (None, str(tmp_path), str(tmp_path / "none"), "./none/at-all", str(tmp_path / "empty.csv")):
        with pytest.raises(InputError):
            import_runs("wandb", store)
