"""Runs with interventions that are killed end as if nothing had happened."""

import time

import pytest
import yaml

from harness.record.status import read_status

SETTINGS = {
    "context": 16, "width": 16, "depth": 1, "heads": 2, "batch": 2, "tokens": 28800, "probe_windows": 8, "epochs": 3,
    "lr": 0.01,
}  # fmt: skip
ALL = {
    "prune_sparsity": 0.5, "freeze_share": 0.3, "freeze_tensors": "embedding", "quantize_weights": "int4",
    "activations_format": "int8", "dropout_rate": 0.1, "masking_rate": 0.1, "feedback_kind": "direct",
    "average_decay": 0.99, "inject_copies": 3, "inject_windows": 4,
}  # fmt: skip
BLOCKS = [
    {"name": "all", "defaults": ALL, "seeds": 2},
    {"name": "copies", "defaults": {"replicas_count": 2}, "seeds": 2},
]


@pytest.mark.slow
def test_killed_runs_end_with_the_same_tables(lab, isogap, tables, tmp_path, ended_children):
    spec = {"name": "x", "defaults": SETTINGS | {"domain": f"text:{lab.text}"}, "blocks": BLOCKS}
    sweep = tmp_path / "all.yaml"
    sweep.write_text(yaml.safe_dump(spec))
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert isogap("run", sweep, "--out", whole, "--cache", lab.cache).status == 0

    def done() -> int:
        return sum(read_status(folder, 0).step for folder in (out / "runs").glob("*"))

    total, killed = 4 * 900, 0
    for share in (0.2, 0.45, 0.7):
        child = lab.spawn("run", sweep, "--out", out, "--cache", lab.cache)
        ended_children.append(child)
        while done() < share * total and child.poll() is None:
            time.sleep(0.005)
        child.kill()
        child.communicate(timeout=100)
        killed += child.returncode != 0
    assert killed
    child = lab.spawn("run", sweep, "--out", out, "--cache", lab.cache)
    ended_children.append(child)
    _, err = child.communicate(timeout=300)
    assert child.returncode == 0, err
    assert tables(out) == tables(whole)
