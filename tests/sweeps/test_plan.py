"""Plans: sums that add up, reasons for what cannot run, and speed of planning."""

import json

import pytest
import yaml

from models.count import count, flops
from sweeps.calibration import TWO_CORES, pack_time
from sweeps.errors import InputError
from sweeps.grid import expand
from sweeps.memory import run_bytes
from sweeps.plan import plan
from sweeps.spec import read_spec

AXES = {"architecture": ["dense", "fine_grained_shared"], "params": [2e4, 1e5], "batch": [4, 8]}
BLOCK = {"grid": AXES, "seeds": 2}


def sweep_of(*blocks):
    spec = {"name": "test", "description": "d", "defaults": {"tokens": "4 N", "epochs": 2}, "blocks": list(blocks)}
    return expand(read_spec(yaml.safe_dump(spec), "spec.yaml"), "spec.yaml")


def test_sums():
    made = plan(sweep_of(BLOCK))
    assert len(made.cells) == len(made.runs) == 16 and not made.infeasible
    assert made.compiles == len({config.signature() for config in made.runs}) == 8
    assert made.flops == sum(cell.row["flops"] for cell in made.cells)
    assert made.flops == sum(3 * flops(config.model).forward * config.tokens for config in made.runs)
    assert made.flops_6nd == sum(6 * count(config.model).active * config.tokens for config in made.runs)
    assert made.seconds.training == pytest.approx(sum(pack_time(pack, TWO_CORES)[0] for pack in made.packs))
    assert made.seconds.total == pytest.approx(made.seconds.compile + made.seconds.training + made.seconds.evaluation)
    one_each = {config.signature(): config for config in made.runs}.values()
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

    def available(domain: str, tokenizer: str) -> int:
        asked.append((domain, tokenizer))
        return 100_000

    sweep = sweep_of(BLOCK, {"grid": {"params_kind": "total", "params": 1e4, "tokenizer": "bpe:32000"}})
    made = plan(sweep, available)
    assert asked == [("stdlib_code", "bytes")]
    large = [cell for cell in made.infeasible if cell.cell.config]
    assert {cell.cell.settings["params"] for cell in large} == {100_000}
    assert all("stdlib_code holds 100,000 as bytes" in str(cell.reason) for cell in large)
    assert [cell.run_id for cell in made.infeasible if not cell.cell.config] == [None]
    assert {config.run_id for pack in made.packs for config in pack.runs} == {run.run_id for run in made.runs}

    limit = max(run_bytes(config) for config in sweep.configs) - 1
    tight = plan(sweep, memory_limit=limit)
    assert any("GB" in str(cell.reason) for cell in tight.infeasible)
    assert all(pack.slots * run_bytes(pack.runs[0]) <= limit for pack in tight.packs)


def test_an_unknown_corpus_is_the_callers_error():
    def available(domain: str, tokenizer: str) -> int:
        raise InputError("data", "domain", domain, "a corpus")

    with pytest.raises(InputError):
        plan(sweep_of(BLOCK), available)


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
    made = plan(sweep_of({"grid": axes, "seeds": 5}), lambda domain, tokenizer: 10**9)
    assert len(made.runs) == 10_000 and made.compiles == 2
