"""The study of contamination: forgetting times of known curves, and gaps without what windows differ in themselves."""

import numpy as np
import pandas as pd
import pytest

from harness.study.papers.contamination import MOST, ONCE, _Curves, _less_once, _times

RATE, DECAY, STEPS = 0.01, 0.5, np.arange(10.0, 1201.0, 10.0)


def run(draw, copies, gap):
    control = 2.0 + 0.3 * draw
    return {
        "N": 1e4, "weight_decay": DECAY, "lr": RATE, "batch_tokens": 512, "inject_end": 1 / 6, "draw": draw,
        "inject_copies": copies, "curve_tokens": STEPS * 512, "curve_control": np.full(len(STEPS), control),
        "curve_injected": control - 0.1 * draw - gap,
    }  # fmt: skip


def test_the_forgetting_time_is_that_of_an_exponential_over_what_weight_decay_alone_takes():
    # All windows have been read after 200 steps; then the gap falls to 1/e in 60, weights in 1/(0.01 x 0.5) = 200.
    gap = 0.5 * np.exp(-np.maximum(STEPS - 200, 0) / 60)
    rows = [run(draw, copies, each) for draw in range(3) for copies, each in ((ONCE, 0 * gap), (MOST, gap))]
    curves = _Curves(pd.DataFrame(rows))
    assert curves.exposed == 200 and curves.full.estimate == pytest.approx(0.5)
    assert np.exp(_times([curves])[1e4, DECAY].estimate or 0) == pytest.approx(60 / 200, rel=0.02)
    assert curves.left == pytest.approx(3 * [0.0], abs=1e-4)


def test_windows_that_are_hard_by_themselves_make_no_gap():
    same = {"block": "copies", "N": 1e4, "D": 1e6, "weight_decay": 0.1, "inject_end": 1.0}
    gaps = [
        same | {"draw": d, "inject_copies": c, "gap": 0.3 * d + g} for d in (0, 1) for c, g in ((1, 0.0), (36, 0.2))
    ]
    found = _less_once(pd.DataFrame(gaps)).set_index(["inject_copies", "draw"])["gap"]
    assert found[MOST].tolist() == pytest.approx([0.2, 0.2]) and found[ONCE].tolist() == [0.0, 0.0]
