"""Event files that TensorBoard and tensorboardX (PyTorch's writer) wrote, as tables of runs."""

import json

import numpy as np
import pytest

pytest.importorskip("tensorboard")
pytest.importorskip("tensorboardX")

from tensorboard.summary import Writer
from tensorboardX import SummaryWriter

from harness.source import read_runs
from harness.tables.trackers.runs import import_runs
from sweeps.errors import InputError


@pytest.fixture(scope="module")
def store(ladder, tmp_path_factory):
    """The ladder as PyTorch's writer leaves it, with the hyperparameters in a folder below each run's own."""
    folder = tmp_path_factory.mktemp("tensorboard")
    for run in ladder:
        with SummaryWriter(str(folder / run.name)) as writer:
            for step, loss in run.curve:
                writer.add_scalar("val/loss", loss, step)
            writer.add_hparams({"n_params": run.params, "tokens": run.tokens, "kind": "dense"}, {"done": 1.0})
    return folder


def test_runs_and_curves_are_those_that_were_written(store, check_ladder):
    told = []
    imported = import_runs("tensorboard", str(store), curves=True, tell=told.append)
    check_ladder(imported, "run_id", "n_params", "tokens", "val/loss", places=1e-6)  # scalars are of 32 bits
    assert told == ["isogap fit takes N = n_params, D = tokens, L = val/loss"]
    assert set(imported.runs["kind"]) == {"dense"} and "state" not in imported.runs


def test_a_fit_reads_the_table_unasked(store, ladder, tmp_path):
    imported = import_runs("tensorboard", str(store), tell=lambda _: None)
    with pytest.warns(UserWarning, match="N = n_params, D = tokens, L = val/loss"):
        frame = read_runs(imported.runs, "chinchilla")
    assert sorted(frame["D"]) == sorted(run.tokens for run in ladder)


def test_a_damaged_file_is_named_and_the_rest_is_read(store, ladder, tmp_path):
    run = ladder[0]
    for name in ("damaged", "cut", "whole"):
        with SummaryWriter(str(tmp_path / name)) as writer:
            for step, loss in run.curve:
                writer.add_scalar("loss", loss, step)
    for name, harm in (("damaged", lambda data: data[:-12] + b"\xff" + data[-11:]), ("cut", lambda data: data[:-7])):
        (file,) = (tmp_path / name).iterdir()
        file.write_bytes(harm(file.read_bytes()))
    (tmp_path / "noise").mkdir()
    (tmp_path / "noise" / "events.out.tfevents.1").write_bytes(b"these are no events")
    told = []
    runs = import_runs("tensorboard", str(tmp_path), tell=told.append).runs.set_index("run_id")
    losses = [loss for _, loss in run.curve]
    assert runs["loss"].to_dict() == pytest.approx(
        {"damaged": losses[-2], "cut": losses[-2], "whole": losses[-1], "noise": float("nan")}, rel=1e-6, nan_ok=True
    )
    complaints = " ".join(line for line in told if "the rest of this file is left out" in line)
    assert [str(tmp_path / name) in complaints for name in ("damaged", "cut", "noise", "whole")] == [True] * 3 + [False]
    assert any("1 of 4 runs have no loss: noise" in line for line in told)


def test_folders_of_one_run_are_one_row(tmp_path):
    for split, loss in (("train", 2.5), ("validation", 3.0)):  # as Keras writes
        writer = Writer(str(tmp_path / "keras" / split))
        writer.add_scalar("epoch_loss", loss, step=1)
        writer.close()
    for name in ("test", "other"):  # a run that happens to be called so
        with SummaryWriter(str(tmp_path / "plain" / name)) as writer:
            writer.add_scalar("loss", 5.0, 1)
            writer.add_image("pixels", np.zeros((3, 2, 2)), 1)
    with SummaryWriter(str(tmp_path / "torch")) as writer:
        writer.add_scalars("loss", {"a": 1.0, "b": 2.0}, 7)
        writer.add_text("args", json.dumps({"learning_rate": 0.1, "model": {"n_params": 5}}))  # as Hugging Face writes
    with SummaryWriter(str(tmp_path / "lightning" / "version_0")) as writer:
        writer.add_scalar("val_loss", 4.0, 7)
    (tmp_path / "lightning" / "version_0" / "hparams.yaml").write_text("lr: 0.2\nmodel: {n_params: 6}\n")
    runs = import_runs("tensorboard", str(tmp_path), tell=lambda _: None).runs.set_index("run_id")
    rows = {run: row.dropna().to_dict() for run, row in runs.iterrows()}
    assert rows == {
        "keras": {"train/epoch_loss": 2.5, "validation/epoch_loss": 3.0},
        "lightning/version_0": {"lr": 0.2, "model.n_params": 6, "val_loss": 4.0},
        "plain/test": {"loss": 5.0},
        "plain/other": {"loss": 5.0},
        "torch": {"args.learning_rate": 0.1, "args.model.n_params": 5, "loss/a": 1.0, "loss/b": 2.0},
    }


def test_a_loss_from_before_the_end_of_a_run_is_told(tmp_path):
    for name, last in (("early", 80), ("late", 97)):
        with SummaryWriter(str(tmp_path / name)) as writer:
            for step in range(101):
                writer.add_scalar("train/loss", 3.0, step)
                if step in (50, last):
                    writer.add_scalar("val/loss", 4.0, step)
    told = []
    import_runs("tensorboard", str(tmp_path), tell=told.append)
    assert told[-1] == "1 of 2 runs went on by 5 % or more after their last val/loss: early"


def test_what_is_no_folder_of_events_is_refused(tmp_path):
    for store in (None, str(tmp_path), str(tmp_path / "none")):
        with pytest.raises(InputError, match="event file"):
            import_runs("tensorboard", store)
