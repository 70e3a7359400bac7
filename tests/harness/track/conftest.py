"""A run's record that is written, damaged and written on, beside a plain list of what it holds.

Trackers write to stores of the test: MLflow's database, whose making takes six seconds, is made once and copied.
"""

import importlib
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from harness.record.segments import remove_damaged, write_segment
from harness.record.status import Status, run_folder, write_status
from models.config import make_config
from sweeps.config import DataConfig, OptimizerConfig, RunConfig

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read when the package is imported


class Recorded:
    """A run of 400 steps that commits now and then; `rows` is what its folder holds, {(tag, step): value}."""

    def __init__(self, out: Path, seed: int):
        self.random, self.out, self.step = random.Random(seed), out, 0
        self.rows: dict[tuple[str, int], float] = {}
        self.config = RunConfig(
            model=make_config("dense", vocab=257, context=16, width=16, depth=1, heads=2),
            data=DataConfig(domain="", tokenizer="bytes", unique_tokens=1000),
            optimizer=OptimizerConfig(lr=0.1),
            steps=400,
            batch=2,
        )
        self.folder = run_folder(out, self.config.run_id)

    def commit(self, steps: int) -> None:
        """Record steps beyond the last, with an evaluation after every tenth and before the first."""
        start, self.step = self.step, self.step + steps
        new = list(range(start + 1, self.step + 1))
        losses = [float(np.float32(self.random.uniform(1, 9))) for _ in new]
        series = {"step": new, "tokens": [32 * s for s in new], "epoch": [0 for _ in new], "train_loss": losses}
        due = [s for s in ([0] if start == 0 else []) + new if s % 10 == 0]
        probes = [(s, probe, self.random.uniform(1, 9)) for s in due for probe in ("seen", "heldout")]
        evals = {
            "step": [s for s, _, _ in probes], "tokens": [32 * s for s, _, _ in probes],
            "probe": [probe for _, probe, _ in probes], "loss": [loss for _, _, loss in probes],
            "loss_se": [0.5 * loss for _, _, loss in probes],
        }  # fmt: skip
        timing = {"step": [self.step], "wall_seconds": [self.random.uniform(0, 2)]}
        for kind, rows in (("series", series), ("evals", evals), ("timing", timing)):
            write_segment(self.folder, kind, start, self.step, rows)
        for s, loss in zip(new, losses, strict=True):
            self.rows |= {("train_loss", s): loss, ("epoch", s): 0.0}
        for s, probe, loss in probes:
            self.rows |= {(f"{probe}/loss", s): loss, (f"{probe}/loss_se", s): 0.5 * loss}

    def cut(self) -> None:
        """Damage, for which a resume takes away all beyond a commit before the last."""
        ends = [int(path.stem.split("-")[1]) for path in (self.folder / "timing").iterdir()]
        self.step = self.random.choice([0, *ends])
        for path in self.folder.rglob("*.parquet"):
            if int(path.stem.split("-")[1]) > self.step:
                path.write_bytes(b"")
        remove_damaged(self.folder, ())
        # The evaluation at step 0 is committed with the first steps.
        self.rows = {key: v for key, v in self.rows.items() if 0 < key[1] <= self.step or (self.step and key[1] == 0)}

    def status(self, state) -> None:
        write_status(self.folder, Status(state, self.step, self.config.steps))


@pytest.fixture
def recorded(tmp_path):
    def make(seed: int) -> Recorded:
        print(f"seed {seed}")
        return Recorded(tmp_path / "sweep", seed)

    return make


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory):
    """A database of MLflow without runs."""
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def mlflow_store(empty_mlflow, tmp_path, monkeypatch):
    """The database that the mirror writes to."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "sweep" / "mlflow").mkdir(parents=True)
    return shutil.copy(empty_mlflow, tmp_path / "sweep" / "mlflow" / "mlflow.db")


@pytest.fixture
def trackio_store(tmp_path, monkeypatch):
    """The folder that the mirror writes to; Trackio's modules take it from the environment when they are imported."""
    pytest.importorskip("trackio")
    for name in ("utils", "sqlite_storage"):
        monkeypatch.setattr(importlib.import_module(f"trackio.{name}"), "TRACKIO_DIR", tmp_path / "trackio")
    return tmp_path / "trackio"
