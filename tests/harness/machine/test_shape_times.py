"""`isogap time`: which shapes are timed, what a row says, and that its columns fit the law of times."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.machine import shape_times
from harness.machine.shape_times import LEAST_CALLS, _timed, decoded_tokens, row_of, shapes_of
from models.config import TrainingObjective, make_config
from models.count import count, flops
from sweeps.grid import load
from sweeps.shape import MICRO_TOKENS

SHAPES = """
name: shapes
defaults: {context: 128, batch: 8, tokens: 1e5}
blocks:
  - grid: {width: [32, 64, 128], depth: [1, 2, 4], context: [64, 256], batch: [4, 16], lr: [0.01, 0.02]}
    seeds: 2
  - grid: {architecture: [top2], width: [64], depth: [2]}
"""


@pytest.fixture(scope="module")
def timings(tmp_path_factory):
    spec = tmp_path_factory.mktemp("specs") / "shapes.yaml"
    spec.write_text(SHAPES)
    return shapes_of(load(spec).configs, MICRO_TOKENS)


def measured(seconds: float) -> dict[str, float]:
    names = ("step_seconds", "prefill_seconds", "decode_seconds_per_token")
    parts = {"": 1.0, "_iqr": 0.1, "_least": 0.9}
    return {f"{name}{part}": share * seconds for name in names for part, share in parts.items()}


def test_runs_that_share_a_program_and_a_batch_are_timed_once(timings):
    assert len(timings) == 3 * 3 * 2 * 2 + 1
    assert {timing.turns for timing in timings} == {1, 2}  # 16 x 256 tokens are two micro-batches
    assert all(timing.turns == 2 for timing in timings if timing.run.batch_tokens == 4096)
    assert all(timing.shape.accumulates == (timing.turns > 1) for timing in timings)


def test_a_row_says_what_was_counted(timings):
    timing = timings[-1]
    row, model = row_of(timing, measured(0.5)), timing.run.model
    assert row["architecture"] == "top2" and row["experts"] == 8 and row["ffn_width"] == 256
    assert row["N_total"] == count(model).total and row["N_active"] < row["N_total"]
    assert row["flops_step"] == flops(model).train * 8 * 128 and row["token_seconds"] == 0.5 / 1024
    for what in ("step", "decode"):
        parts = [value for name, value in row.items() if name.startswith(f"bytes_{what}_")]
        assert len(parts) == 3 and sum(parts) == pytest.approx(row[f"bytes_{what}"])


def test_the_page_names_the_columns(timings):
    page = (Path(shape_times.__file__).parent / "README.md").read_text(encoding="utf-8")
    cells = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    named = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
    calls = {"step_calls": 50, "decode_calls": 50}
    assert sorted(named) == sorted(row_of(timings[0], measured(1.0) | calls))


def test_a_short_context_is_decoded_in_the_same_proportion():
    def of(context: int) -> tuple[int, int]:
        return decoded_tokens(make_config("dense", vocab=5, context=context, width=8, depth=1, heads=1))

    assert of(1024) == of(384) == (128, 256)
    assert of(96) == (32, 64) and of(2) == (1, 1) and of(1) == (1, 1)


def test_models_that_do_not_decode_read_a_whole_window():
    for objective in (TrainingObjective("masked", 0.3), TrainingObjective(patch=4)):
        model = make_config("dense", vocab=5, context=96, width=8, depth=1, heads=1, objective=objective)
        assert decoded_tokens(model) == (96, 0)


def test_times_are_medians_of_calls_until_there_are_enough_or_time_is_over(monkeypatch):
    clock = [0.0]
    spent = iter([4.0, 1.0, 2.0, 3.0, 8.0, 1.0, 1.0])

    def call() -> None:
        clock[0] += next(spent)

    monkeypatch.setattr("harness.machine.shape_times.time.perf_counter", lambda: clock[0])
    timed = _timed(call, 2, calls=100, limit=0.0)
    assert timed.calls == LEAST_CALLS == 5 and timed.seconds == 1.5 and timed.iqr == 2.0 - 1.0 and timed.least == 0.5
    assert _timed(call, 1, calls=2, limit=1e9).calls == 2


def test_in_rounds_every_shape_is_timed_once_a_round_in_changing_order(timings, monkeypatch):
    clock, order = [0.0], []

    def prepared(timing):
        number = timings.index(timing)

        def call(seconds: float) -> None:
            order.append(number)
            # What slows the machine slows all shapes of the round: the second one takes three times as long.
            clock[0] += seconds * (3 if len(order) > 9 and len(order) <= 18 else 1)

        times = {shape_times.STEP: 1.0 + number, shape_times.PREFILL: 0.5, shape_times.DECODE: 8.0}
        return {name: shape_times.Prepared(lambda each=each: call(each), 4) for name, each in times.items()}

    monkeypatch.setattr("harness.machine.shape_times.prepare_calls", prepared)
    monkeypatch.setattr("harness.machine.shape_times.time.perf_counter", lambda: clock[0])
    found = shape_times.time_in_rounds(timings[:3], 4)
    rounds = [order[start : start + 9 : 3] for start in range(0, 36, 9)]
    assert all(sorted(each) == [0, 1, 2] for each in rounds) and len({tuple(each) for each in rounds}) > 1
    for number, columns in enumerate(found):
        step = (1.0 + number) / 4
        assert columns["step_seconds_rounds"] == pytest.approx([step, 3 * step, step, step])
        assert columns["step_seconds"] == columns["step_seconds_least"] == step and columns["step_calls"] == 4
        assert columns["decode_seconds_per_token_rounds"] == pytest.approx([2.0, 6.0, 2.0, 2.0])


def test_the_command_times_every_shape(lab, isogap, tmp_path, hurried):
    """One shape: two rates and two seeds are timed once."""
    spec, table = tmp_path / "one.yaml", tmp_path / "times.csv"
    settings = "context: 16, width: 16, depth: 1, heads: 2, batch: 2, tokens: 9600, optimizer: sgd"
    spec.write_text(f"name: one\ndefaults: {{{settings}}}\nblocks: [{{grid: {{lr: [0.1, 0.2]}}, seeds: 2}}]\n")
    ended = isogap("time", spec, "--json", "--out", table, "--repeats", 3, "--seconds", 1, "--cache", lab.cache)
    assert ended.status == 0, ended.err
    (row,) = json.loads(ended.out)
    pd.testing.assert_frame_equal(pd.read_csv(table), pd.DataFrame([row]), check_dtype=False)
    assert row["optimizer"] == "sgd" and row["interventions"] == "none"
    assert row["prompt_tokens"] == 5 and row["new_tokens"] == 11 and row["step_calls"] == 3
    assert 0 < row["decode_seconds_per_token"] < 1 and 0 < row["prefill_seconds"] < 1
    assert 1e-5 < row["step_seconds_least"] <= row["step_seconds"] < 1 and row["step_seconds_iqr"] >= 0


def test_the_command_times_what_does_not_decode(lab, isogap, tmp_path, hurried):
    """An encoder, a decoder of patches and one of tokens: only the last has times of decoding."""
    spec, table = tmp_path / "objectives.yaml", tmp_path / "times.parquet"
    settings = "context: 16, width: 16, depth: 1, heads: 2, batch: 2, tokens: 9600"
    grid = "where: objective == 'next' or patch == 1, grid: {objective: [masked, next], patch: [1, 4]}"
    spec.write_text(f"name: three\ndefaults: {{{settings}}}\nblocks: [{{{grid}}}]\n")
    options = ("--json", "--out", table, "--repeats", 3, "--seconds", 1, "--cache", lab.cache)
    ended = isogap("time", spec, *options)
    assert ended.status == 0, ended.err
    encoder, decoder, patches = json.loads(ended.out)
    assert decoder["new_tokens"] == 11 and decoder["flops_decode"] > 0 and decoder["decode_seconds_per_token"] > 0
    decoding = [name for name in decoder if "decode" in name]
    assert len(decoding) == 9
    for row in (encoder, patches):
        assert [row[name] for name in decoding] == [None] * 9 and (row["prompt_tokens"], row["new_tokens"]) == (16, 0)
        assert 0 < row["prefill_seconds_least"] < 1 and 0 < row["step_seconds"] < 1
    assert pd.read_parquet(table)["decode_seconds_per_token"].isna().tolist() == [True, False, True]
    ended = isogap("time", spec, "--repeats", 1, "--seconds", 0, "--cache", lab.cache)
    assert ended.status == 0 and ended.out.count("dense") == 3, ended.err


@pytest.mark.parametrize(("option", "word"), [(("--out", "{tmp}/a.xlsx"), ".xlsx"), (("--repeats", "0"), "repeats")])
def test_unusable_options_end_before_the_work(lab, isogap, tmp_path, option, word):
    ended = isogap("time", lab.spec, "--cache", lab.cache, *(part.format(tmp=tmp_path) for part in option))
    assert ended.status == 2 and word in ended.err


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ("width: 1000000, depth: 1, tokens: 1e9", "left out, it needs"),  # ten million million parameters
        ("params: 10, tokens: 1e5", "got 0"),  # no model is so small
    ],
)
def test_a_sweep_of_which_nothing_can_run_is_refused(lab, isogap, tmp_path, settings, word):
    spec = tmp_path / "none.yaml"
    spec.write_text(f"name: none\ndefaults: {{{settings}}}\nblocks: [{{grid: {{context: [16]}}}}]\n")
    ended = isogap("time", spec, "--cache", lab.cache)
    assert ended.status == 2 and "one that can run in" in ended.err and word in ended.err, ended.err


@pytest.mark.slow
def test_times_that_follow_bytes_are_fitted_by_the_law_of_times(timings, isogap, tmp_path):
    """Planted: 1 ms, 0.1 ns per byte of parameters, 0.02 of activations; 2 % noise. FLOPs describe them worse."""
    rng = np.random.default_rng(0)
    rows = []
    for timing in timings:
        blank = row_of(timing, measured(1.0))
        seconds = 1e-3 + 1e-10 * blank["bytes_step_parameters"] + 2e-11 * blank["bytes_step_activations"]
        rows.append(row_of(timing, measured(seconds * np.exp(0.02 * rng.standard_normal()))))
    table, fitted = tmp_path / "times.csv", {}
    pd.DataFrame(rows).to_csv(table, index=False)
    for name, columns in (("bytes", "bytes_step_parameters,bytes_step_activations"), ("flops", "flops_step")):
        options = ("--law", "time_law", "--set", "t=step_seconds", "--set", f"x={columns}", "--bootstrap", 0)
        held_out = ("--holdout", "width == 128", "--json", tmp_path / f"{name}.json")
        ended = isogap("fit", table, *options, *held_out, "--no-sensitivity")
        assert ended.status == 0, ended.err
        fitted[name] = json.loads((tmp_path / f"{name}.json").read_text())
    found = {name: each["estimate"] for name, each in fitted["bytes"]["parameters"].items()}
    truth = {"c0": 1e-3, "c[bytes_step_parameters]": 1e-10, "c[bytes_step_activations]": 2e-11}
    assert found == pytest.approx(truth, rel=0.1)
    assert fitted["bytes"]["holdout"]["mean_abs_relative_error"] < 0.05
    assert fitted["flops"]["holdout"]["mean_abs_relative_error"] > 0.1
