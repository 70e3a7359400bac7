"""Plans: sums that add up, reasons for what cannot run, and speed of planning."""

import dataclasses
import json

import pytest
import yaml

from models.count import count, flops
from sweeps.calibration import TWO_CORES, PinnedWorkers
from sweeps.config import DataConfig, RunConfig
from sweeps.errors import InputError
from sweeps.grid import expand
from sweeps.plan import pack_time, plan
from sweeps.shape import run_bytes, shape_of
from sweeps.spec import read_spec

AXES = {"architecture": ["dense", "fine_grained_shared"], "params": [2e4, 1e5], "batch": [4, 8]}
BLOCK = {"grid": AXES, "seeds": 2}


def sweep_of(*blocks):
    spec = {"name": "test", "description": "d", "defaults": {"tokens": "4 N", "epochs": 2}, "blocks": list(blocks)}
    return expand(read_spec(yaml.safe_dump(spec), "spec.yaml"), "spec.yaml")


def test_sums():
    made = plan(sweep_of(BLOCK))
    assert len(made.cells) == len(made.runs) == 16 and not made.infeasible
    assert made.compiles == len({shape_of(config, 2048) for config in made.runs}) == 8
    assert made.flops == sum(cell.row["flops"] for cell in made.cells)
    assert made.flops == sum(3 * flops(config.model).forward * config.tokens for config in made.runs)
    assert made.flops_6nd == sum(6 * count(config.model).active * config.tokens for config in made.runs)
    assert made.seconds.training == pytest.approx(sum(pack_time(pack, TWO_CORES)[0] for pack in made.packs))
    assert made.seconds.total == pytest.approx(made.seconds.compile + made.seconds.training + made.seconds.evaluation)
    one_each = {shape_of(config, 2048).signature: config.model for config in made.runs}.values()
    assert made.seconds.compile == pytest.approx(sum(map(TWO_CORES.compile_time, one_each)))


def test_rows_speak_of_the_named_n():
    for which, column in (("total", "N_total"), ("active", "N_active"), ("nonembedding", "N_nonembedding")):
        block = {"grid": {"architecture": "top2", "params": 1e5, "params_kind": which}}
        (cell,) = plan(sweep_of(block)).cells
        row = cell.row
        assert row["N"] == row[column] and row["params_kind"] == which
        assert row["u"] == pytest.approx(row["D"] / row[column] ** 0.74)
        assert row["D"] == row["steps"] * row["batch_tokens"] and row["epochs"] == pytest.approx(2, rel=0.01)
        assert 0 < row["head_share_parameters"] < 1 and 0 < row["head_share_flops"] < 1


def test_what_the_corpus_or_the_memory_cannot_hold_is_said_and_left_out():
    asked = []

    def available(data: DataConfig) -> int:
        asked.append((data.domain, data.tokenizer, data.heldout_fraction))
        return 100_000

    sweep = sweep_of(BLOCK, {"grid": {"params_kind": "total", "params": 1e4, "tokenizer": "bpe:32000"}})
    made = plan(sweep, available)
    assert asked == [("stdlib_code", "bytes", 0.1)]
    large = [cell for cell in made.infeasible if cell.cell.config]
    assert {cell.cell.settings["params"] for cell in large} == {100_000}
    assert all("stdlib_code holds 100,000 as bytes" in str(cell.reason) for cell in large)
    assert [cell.run_id for cell in made.infeasible if not cell.cell.config] == [None]
    assert {config.run_id for pack in made.packs for config in pack.runs} == {run.run_id for run in made.runs}

    most = max(run_bytes(shape_of(config, 2048)) for config in sweep.configs)
    tight = plan(sweep, machine_bytes=most - 1)
    assert {cell.memory_bytes for cell in tight.infeasible if cell.cell.config} == {most}
    assert all("GB" in str(cell.reason) for cell in tight.infeasible if cell.cell.config)
    assert len(plan(sweep, machine_bytes=most).runs) == 16


def test_a_run_too_large_for_a_shared_pack_is_feasible_alone():
    large = {"grid": {"params": 1e5, "batch": 1023, "context": 512, "tokens": "40 N"}, "seeds": 2}
    made = plan(sweep_of(large), machine_bytes=10**12, memory_limit=2 * 10**9)
    assert run_bytes(shape_of(made.runs[0], 2048)) > 2 * 10**9 and not made.infeasible
    assert [pack.slots for pack in made.packs] == [1]


def test_a_text_that_cannot_be_had_is_the_reason_of_its_cells_and_asked_for_once():
    asked = []

    def available(data: DataConfig) -> int:
        tokenizer, heldout_fraction = data.tokenizer, data.heldout_fraction
        asked.append((tokenizer, heldout_fraction))
        if tokenizer == "bpe:5000":
            raise InputError(data.domain, "tokenizer", tokenizer, "at most bpe:900")
        return round(heldout_fraction * 10**9)

    axes = {"tokenizer": ["bytes", "bpe:5000"], "heldout_fraction": [0.1, 0.2], "params": 1e6}
    made = plan(sweep_of({"grid": axes, "seeds": 2}), available)
    assert sorted(asked) == [("bpe:5000", 0.1), ("bpe:5000", 0.2), ("bytes", 0.1), ("bytes", 0.2)]
    assert [cell.cell.settings["tokenizer"] for cell in made.infeasible] == ["bpe:5000"] * 4
    assert all("at most bpe:900" in str(cell.reason) for cell in made.infeasible) and len(made.runs) == 4


def test_what_a_run_is_refused_for_on_its_text_is_a_reason_that_runs_share():
    def check(run: RunConfig) -> None:
        if run.optimizer.lr > 0.01:
            raise InputError(run.run_id, "probe.measures", "pass_rates", "a world")

    made = plan(sweep_of({"grid": {"lr": [0.1, 0.001], "params": 1e5}, "seeds": 3}), check_text=check)
    assert len(made.runs) == 3
    assert [cell.reason for cell in made.infeasible] == ["probe.measures: got 'pass_rates', expected a world"] * 3


def test_json_holds_everything():
    made = plan(sweep_of(BLOCK, {"grid": {"epochs": 1e9, "params": 1e5}}))
    value = json.loads(made.to_json())
    assert value["runs"] == 16 and value["infeasible"] == 1 and value["compiles"] == made.compiles
    assert value["seconds"]["total"] == pytest.approx(made.seconds.total)
    assert [row["run_id"] for row in value["cells"]] == [cell.run_id for cell in made.cells]
    assert "one window" in value["cells"][-1]["reason"]
    assert sorted(run for pack in value["packs"] for run in pack["runs"]) == sorted(c.run_id for c in made.runs)


def test_ten_thousand_cells_can_be_planned():
    axes = {"lr": [k * 1e-5 for k in range(1, 501)], "weight_decay": [0, 0.1], "params": [2e4, 1e5]}
    made = plan(sweep_of({"grid": axes, "seeds": 5}), lambda data: 10**9)
    assert len(made.runs) == 10_000 and made.compiles == 2


def pinned(gain: float, compile_time: float = 1.0, start: float = 0.0):
    """Two cores on which a pack gains nothing, and pinned workers gain that much."""
    alone = {32: {1: 1.0}, 128: {1: 1.0}}
    return dataclasses.replace(
        TWO_CORES,
        packing_gain=alone,
        workers=PinnedWorkers(2, start, compile_time, {width: {1: gain} for width in alone}),
    )


LONG = {"grid": {"params": [2e4, 1e5], "tokens": ["400 N", "800 N"]}, "seeds": 3}


def test_whoever_ends_a_sweep_sooner_trains_it():
    whole = plan(sweep_of(LONG))
    for gain, processes in ((0.9, 1), (1.0, 1), (1.2, 2)):
        assert plan(sweep_of(LONG), calibration=pinned(gain)).processes == processes
    assert whole.processes == 1 and whole.calibration == TWO_CORES
    assert plan(sweep_of(LONG), calibration=pinned(1.2, start=1e5)).processes == 1
    # Nothing but compiling, and each compiles by itself as fast as one on all cores: twice as fast together.
    short = {"grid": {"params": [2e4, 1e5], "batch": [4, 8]}, "seeds": 1}
    made = plan(sweep_of(short), calibration=pinned(1.0))
    assert made.processes == 2 and made.compiles == len(made.packs) == 4
    assert made.seconds.compile == pytest.approx(plan(sweep_of(short)).seconds.compile / 2, rel=0.2)


def test_pinned_workers_share_the_work_and_end_together():
    calibration = pinned(1.2)
    made = plan(sweep_of(LONG), calibration=calibration)
    each = [
        made.calibration.compile_time(pack.shape.model) + sum(pack_time(pack, made.calibration)) for pack in made.packs
    ]
    assert sum(each) / 2 <= made.seconds.total <= sum(each) / 2 + max(each) / 2  # of any greedy schedule of two
    assert json.loads(made.to_json())["processes"] == 2


def test_a_shape_is_not_compiled_twice_for_less_than_that_takes():
    for tokens, compiles in (("4 N", 1), ("8000 N", 2)):
        block = {"grid": {"params": [2e4], "tokens": [tokens]}, "seeds": 4}
        assert plan(sweep_of(block), calibration=pinned(1.5)).compiles == compiles
