"""The host's loop: runs leave one pack and go on in another as if nothing had happened."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from harness.record.segments import read_segments
from harness.record.status import Status, read_status, run_folder, write_status
from harness.record.sweep_folder import lay_out
from harness.train.pack import Session, train_pack
from sweeps.config import RunConfig

SLOTS = 4


class After:
    """Stop when asked for the n-th time, which is after the n-th dispatch."""

    def __init__(self, dispatches: int):
        self.left = dispatches

    def __call__(self) -> bool:
        self.left -= 1
        return self.left <= 0


@pytest.fixture
def out(tmp_path, finished_runs) -> Path:
    lay_out(tmp_path, "", finished_runs)
    return tmp_path


def session(lab, out: Path, dispatches: int = 10**6, save_seconds: float = 1e9, told=lambda tokens: None) -> Session:
    return Session(out, lab.cache, save_seconds, After(dispatches), False, told)


def state(out: Path, run: RunConfig) -> Status:
    return read_status(run_folder(out, run.run_id), run.steps)


def assert_recorded_as_in(finished: Path, out: Path, run: RunConfig):
    mine, theirs = run_folder(out, run.run_id), run_folder(finished, run.run_id)
    for kind in ("series", "evals"):
        got, expected = read_segments(mine, kind), read_segments(theirs, kind)
        assert got.to_csv() == expected.to_csv(), kind
    assert (mine / "status.json").read_text() == (theirs / "status.json").read_text()
    if (theirs / "gap.json").is_file():
        assert (mine / "gap.json").read_text() == (theirs / "gap.json").read_text()


def test_runs_go_on_identically_in_packs_of_another_composition(lab, finished, finished_runs, out):
    a, b, bad, d = finished_runs[:4]
    train_pack("first", (a, b, bad, d), SLOTS, session(lab, out, dispatches=5))
    reached = state(out, a).step
    assert 0 < reached < a.steps and state(out, a).state == "running" and state(out, bad).state == "diverged"
    # `a` alone in another slot and, further on, beside `d`, which was saved at another step, and `b`, further still.
    train_pack("second", (bad, a), SLOTS, session(lab, out, dispatches=2))
    assert reached < state(out, a).step < a.steps and state(out, d).step == reached
    train_pack("third", (d, b, a), SLOTS, session(lab, out))
    for run in (a, b, bad, d):
        assert_recorded_as_in(finished, out, run)
    assert not (out / "checkpoints" / "third").exists()


def test_what_was_recorded_after_the_last_checkpoint_is_dropped_and_recorded_anew(lab, finished, finished_runs, out):
    runs = tuple(finished_runs[:4])
    train_pack("pack", runs, SLOTS, session(lab, out, dispatches=3))
    saved = out / "saved"
    shutil.copytree(out / "checkpoints", saved)
    reached = state(out, runs[0]).step
    train_pack("pack", runs, SLOTS, session(lab, out, dispatches=2))
    assert state(out, runs[0]).step > reached
    shutil.rmtree(out / "checkpoints")  # the process died before its checkpoint was whole
    shutil.copytree(saved, out / "checkpoints")
    train_pack("pack", runs, SLOTS, session(lab, out))
    for run in runs:
        assert_recorded_as_in(finished, out, run)


def test_progress_adds_up_to_the_tokens_of_all_runs(lab, finished_runs, out):
    told: list[int] = []
    train_pack("pack", tuple(finished_runs[:4]), SLOTS, session(lab, out, told=told.append))
    assert sum(told) == sum(run.tokens for run in finished_runs[:4]) and min(told) >= 0
    told.clear()
    train_pack("pack", tuple(finished_runs[:4]), SLOTS, session(lab, out, told=told.append))
    assert told == []


def test_a_run_that_cannot_be_fed_fails_alone(lab, finished, finished_runs, out):
    a, b = finished_runs[:2]
    thirsty = b.model_copy(update={"data": b.data.model_copy(update={"unique_tokens": 10**7})})
    wrong = b.model_copy(update={"data": b.data.model_copy(update={"tokenizer": "bpe:300"})})
    train_pack("pack", (thirsty, a, wrong), SLOTS, session(lab, out))
    assert_recorded_as_in(finished, out, a)
    assert state(out, thirsty).state == state(out, wrong).state == "failed"
    assert "unique_tokens" in state(out, thirsty).reason and "10000000" in state(out, thirsty).reason
    assert "model.vocab" in state(out, wrong).reason and "bpe:300" in state(out, wrong).reason


def test_a_pack_of_ended_runs_compiles_and_changes_nothing(lab, finished_runs, out, monkeypatch):
    for run in finished_runs[:4]:
        write_status(run_folder(out, run.run_id), Status("done", run.steps, run.steps))
    monkeypatch.setattr("harness.train.pack.programs", lambda *_: pytest.fail("it was about to compile"))
    train_pack("pack", tuple(finished_runs[:4]), SLOTS, session(lab, out))


def test_series_of_a_run(finished, finished_runs):
    run = finished_runs[1]
    folder = run_folder(finished, run.run_id)
    series, evals, timing = (read_segments(folder, kind) for kind in ("series", "evals", "timing"))
    assert list(series) == ["step", "tokens", "epoch", "train_loss", "lr", "grad_norm"]
    assert series["step"].tolist() == list(range(1, run.steps + 1))
    assert (series["tokens"].to_numpy() == 32 * series["step"].to_numpy()).all()
    # Window number 2 (step - 1) + 1, counted from 0, is the last one of a step.
    assert series["epoch"].tolist() == [(2 * step - 1) // run.windows for step in range(1, run.steps + 1)]
    assert abs(run.epochs - 6) < 0.1 and series["epoch"].max() in (5, 6)
    assert list(evals) == ["step", "tokens", "probe", "documents", "probe_tokens", "probe_bytes", "loss", "loss_se"]
    assert evals["step"].unique().tolist() == list(run.evaluation_steps())
    assert set(evals["probe"]) >= {"seen", "heldout"} and (evals["probe_tokens"].to_numpy() <= 8 * 16).all()
    assert evals.loc[evals["step"] == 0, "loss"].between(5.3, 5.8).all()
    final = evals.loc[(evals["step"] == run.steps) & (evals["probe"] == "heldout"), "loss"].to_numpy()
    assert final[0] < 4.0
    assert list(timing) == ["step", "wall_seconds", "tokens_per_second", "compile_seconds"]
    assert timing["step"].iloc[-1] == run.steps and (timing["wall_seconds"].to_numpy() > 0).all()


def test_sgd_trains(finished, finished_runs):
    for run in finished_runs[4:]:
        loss = read_segments(run_folder(finished, run.run_id), "series")["train_loss"]
        assert run.optimizer.kind == "sgd" and loss.iloc[-100:].mean() < loss.iloc[:20].mean() - 1.0


def test_the_diverged_run_is_recorded_up_to_its_first_bad_step(finished, finished_runs):
    run = finished_runs[2]
    folder, status = run_folder(finished, run.run_id), state(finished, run)
    series = read_segments(folder, "series")
    bad = ~np.isfinite(series[["train_loss", "grad_norm"]]).all(axis=1)
    assert status.state == "diverged" and bad.tolist() == [False] * (status.step - 1) + [True]
    assert f"step {status.step}" in status.reason and not (folder / "gap.json").exists()


def test_final_parameters_are_kept_of_the_runs_that_ask_for_it(finished, finished_runs):
    for run in finished_runs:
        folder = run_folder(finished, run.run_id)
        assert (folder / "final").is_dir() == (run.keep == "final")
        if run.keep == "final":
            assert json.loads((folder / "final.json").read_text())["steps"] == run.steps
