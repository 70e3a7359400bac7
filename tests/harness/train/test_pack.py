"""The host's loop: runs leave one pack and go on in another as if nothing had happened."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from harness.record.heartbeat import HeartbeatWriter, Spent
from harness.record.segments import read_segments, whole_ends
from harness.record.status import Status, read_status, run_folder, write_status
from harness.record.sweep_folder import lay_out
from harness.train.devices import in_slot, key_of
from harness.train.pack import train_pack as train
from harness.train.programs import programs
from harness.train.session import Session, Stop
from harness.train.slot import Slot
from sweeps.config import RunConfig
from sweeps.packs import make_pack
from sweeps.shape import shape_of

SLOTS = 2


class After(Stop):
    """Stop when asked for the n-th time, which is after the n-th dispatch, or as told."""

    def __init__(self, dispatches: int):
        super().__init__()
        self.left = dispatches

    def __call__(self) -> bool:
        self.left -= 1
        return self.left <= 0 or super().__call__()


@pytest.fixture
def out(tmp_path, finished_runs) -> Path:
    lay_out(tmp_path, "", finished_runs)
    return tmp_path


def train_pack(
    lab, out: Path, *runs: RunConfig, dispatches: int = 10**6, save_seconds: float = 1e9, spent: Spent | None = None,
    micro_tokens: int = 2048, fail_fast: bool = False,
) -> None:  # fmt: skip
    """Train these runs in this order as one pack, and stop after so many dispatches."""
    pack = make_pack(shape_of(runs[0], micro_tokens), SLOTS, runs)
    programs(key_of(pack))
    # Asked once before the first dispatch, to wait for the programs.
    session, stop = Session(out, lab.cache, fail_fast=fail_fast), After(dispatches + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.train.pack.SAVE_SECONDS", save_seconds)
        train(pack, session, stop, HeartbeatWriter(out, spent))


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


def test_runs_go_on_identically_in_other_packs_slots_and_company(lab, finished, finished_runs, out):
    a, b, bad, d = finished_runs[:4]
    train_pack(lab, out, a, bad, b, d, dispatches=5)
    reached = state(out, a).step
    # `b` took the slot of the run that diverged.
    assert 0 < state(out, b).step < reached < a.steps and state(out, bad).state == "diverged"
    assert state(out, a).state == "running" and state(out, d).state == "pending"
    # `a` in the other slot beside `d`, which begins.
    train_pack(lab, out, d, a, dispatches=2)
    assert reached < state(out, a).step < a.steps and 0 < state(out, d).step
    train_pack(lab, out, b, d, a)
    for run in (a, b, bad, d):
        assert_recorded_as_in(finished, out, run)


def test_every_run_of_a_long_queue_takes_the_slot_that_falls_free(lab, finished, finished_runs, out):
    runs = [finished_runs[place] for place in (3, 2, 0, 1)]
    train_pack(lab, out, *runs)
    for run in runs:
        assert_recorded_as_in(finished, out, run)
    assert not any((out / "checkpoints").glob("*"))


def test_what_was_recorded_after_the_last_checkpoint_is_dropped_and_recorded_anew(lab, finished, finished_runs, out):
    runs = finished_runs[:4]
    train_pack(lab, out, *runs, dispatches=3)
    saved = out / "saved"
    shutil.copytree(out / "checkpoints", saved)
    reached = state(out, runs[0]).step
    train_pack(lab, out, *runs, dispatches=2)
    assert state(out, runs[0]).step > reached
    shutil.rmtree(out / "checkpoints")  # the process died before its checkpoint was whole
    shutil.copytree(saved, out / "checkpoints")
    train_pack(lab, out, *runs)
    for run in runs:
        assert_recorded_as_in(finished, out, run)


@pytest.mark.slow
def test_a_run_left_within_its_first_step_begins_anew_and_loses_no_later_one(lab, finished_runs, out, tmp_path):
    # 16 turns a step, beside one of 2 whose first evaluation, after 6 turns, ends the first dispatch.
    long = finished_runs[0].model_copy(update={"batch": 32, "steps": 40})
    short = finished_runs[0].model_copy(update={"batch": 4, "steps": 7})
    undisturbed = tmp_path / "undisturbed"
    for folder in (out, undisturbed):
        lay_out(folder, "", [long, short])
    train_pack(lab, undisturbed, long, short, micro_tokens=32)
    train_pack(lab, out, long, short, dispatches=1, micro_tokens=32)
    assert state(out, long).step == 0 and state(out, short).step == 3
    # A save within the first step, and the process goes on: what it saves later counts.
    train_pack(lab, out, long, short, dispatches=4, save_seconds=0.0, micro_tokens=32)
    reached = state(out, long).step
    assert 0 < reached < 40 and reached in whole_ends(run_folder(out, long.run_id), long.evaluation_steps())
    train_pack(lab, out, long, short, micro_tokens=32)
    for run in (long, short):
        assert_recorded_as_in(undisturbed, out, run)


def test_time_and_tokens_are_accounted_for(lab, finished_runs, out):
    spent = Spent()
    train_pack(lab, out, *finished_runs[4:], spent=spent)
    assert spent.tokens == sum(run.tokens for run in finished_runs[4:])
    assert min(spent.evaluation, spent.training) > 0
    assert spent.training + spent.evaluation + spent.compiling < spent.total
    recorded = [read_segments(run_folder(out, run.run_id), "timing") for run in finished_runs[4:]]
    assert sum(timing["wall_seconds"].to_numpy().sum() for timing in recorded) == pytest.approx(spent.training)
    again = Spent()
    train_pack(lab, out, *finished_runs[4:], spent=again)
    assert again.tokens == 0 == again.training


def test_a_run_that_cannot_be_fed_fails_alone(lab, finished, finished_runs, out):
    a, b = finished_runs[:2]
    thirsty = b.model_copy(update={"data": b.data.model_copy(update={"unique_tokens": 10**7})})
    wrong = b.model_copy(update={"data": b.data.model_copy(update={"tokenizer": "bpe:300"})})
    train_pack(lab, out, thirsty, a, wrong)
    assert_recorded_as_in(finished, out, a)
    assert state(out, thirsty).state == state(out, wrong).state == "failed"
    assert "unique_tokens" in state(out, thirsty).reason and "10000000" in state(out, thirsty).reason
    assert "model.vocab" in state(out, wrong).reason and "bpe:300" in state(out, wrong).reason


def test_fail_fast_stops_when_the_dispatch_before_a_checkpoint_brings_a_divergence(lab, finished_runs, out):
    a, b, bad, d = finished_runs[:4]
    # A save after every dispatch records what runs at that moment, be it good or bad.
    train_pack(lab, out, a, bad, b, d, save_seconds=0.0, fail_fast=True)
    assert state(out, bad).state == "diverged"
    assert 0 < state(out, a).step < a.steps and state(out, a).state == "running"
    assert state(out, b).state == state(out, d).state == "pending"


def test_fail_fast_stops_at_a_run_that_cannot_be_read(lab, finished_runs, out):
    a, b = finished_runs[:2]
    thirsty = b.model_copy(update={"data": b.data.model_copy(update={"unique_tokens": 10**7})})
    train_pack(lab, out, thirsty, a, b, fail_fast=True)
    assert state(out, thirsty).state == "failed" and state(out, a).state == state(out, b).state == "pending"
    wrong = b.model_copy(update={"data": b.data.model_copy(update={"tokenizer": "bpe:300"})})
    train_pack(lab, out, a, wrong, b, fail_fast=True)
    assert 0 < state(out, a).step < a.steps and state(out, b).state == "pending"


def test_fail_fast_stops_at_an_evaluation_that_is_not_finite(lab, finished_runs, out, monkeypatch):
    a, b, _, d = finished_runs[:4]
    real = Slot.evaluated

    def spoilt(slot: Slot, step: int, losses):
        bad = slot.config == d and step == d.steps
        real(slot, step, {view: each * np.nan if bad else each for view, each in losses.items()})

    monkeypatch.setattr(Slot, "evaluated", spoilt)
    train_pack(lab, out, a, d, b, fail_fast=True)
    assert state(out, d).state == "diverged" and "evaluation" in state(out, d).reason
    assert state(out, b).state in ("pending", "running")


@pytest.mark.parametrize("method", ["evaluated", "finish"])
def test_a_run_whose_measurement_fails_fails_alone(lab, finished, finished_runs, out, monkeypatch, method):
    a, b, _, d = finished_runs[:4]
    real = getattr(Slot, method)

    def sometimes(slot: Slot, *args):
        if slot.config == b and slot.step > 100:
            raise ZeroDivisionError("no windows\nat all")
        return real(slot, *args)

    monkeypatch.setattr(Slot, method, sometimes)
    train_pack(lab, out, b, a, d)
    for run in (a, d):
        assert_recorded_as_in(finished, out, run)
    status = state(out, b)
    assert (status.state, status.reason) == ("failed", "ZeroDivisionError: no windows")
    assert "Traceback" in (run_folder(out, b.run_id) / "error.txt").read_text()


def test_a_pack_of_ended_runs_compiles_and_changes_nothing(lab, finished_runs, out, monkeypatch):
    for run in finished_runs[:4]:
        write_status(run_folder(out, run.run_id), Status("done", run.steps, run.steps))
    monkeypatch.setattr("harness.train.pack.compile_ahead", lambda *_: pytest.fail("it was about to wait"))
    train_pack(lab, out, *finished_runs[:4])


def test_series_of_a_run(finished, finished_runs):
    run = finished_runs[1]
    folder = run_folder(finished, run.run_id)
    series, evals, timing = (read_segments(folder, kind) for kind in ("series", "evals", "timing"))
    assert list(series) == [
        "step",
        "tokens",
        "epoch",
        "train_loss",
        "lr",
        "grad_norm",
        "gradient_signal",
        "gradient_noise",
    ]
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


@pytest.mark.parametrize("spec", [("run",), (), (None, "run")])
def test_what_is_in_a_slot_is_read_where_it_lies(spec):
    values = np.arange(4 * 6 * 2, dtype=np.float32).reshape(4, 6, 2)
    mesh = jax.make_mesh((2,), ("run",), axis_types=(jax.sharding.AxisType.Auto,))
    leaf = jax.device_put(values, NamedSharding(mesh, PartitionSpec(*spec)))
    for place in range(4):
        part = in_slot(leaf, place)
        assert np.array_equal(part, values[place])
        if spec == ("run",):  # without a program of both devices, of which several at once may stop each other
            assert part.devices() == {mesh.devices[place // 2]}
    assert np.array_equal(in_slot(values, 3), values[3])
