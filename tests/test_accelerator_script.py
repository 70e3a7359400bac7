"""scripts/accelerator.py: what is found is kept, and a part that is stopped ends no other. The whole of it is slow."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "accelerator.py"


def accelerator(to: Path, *options: str) -> tuple[int, dict, str]:
    """(exit status, the parts of the JSON, what was printed) of the script at small sizes."""
    command = [sys.executable, str(SCRIPT), "--small", "--to", str(to), *options]
    environment = {"PYTHONPATH": str(SCRIPT.parents[1]), "JAX_PLATFORMS": "cpu", "PATH": "/usr/bin:/bin"}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended.returncode, json.loads(to.read_text())["parts"], ended.stdout


def test_a_cpu_is_told_without_a_peak(tmp_path):
    status, parts, printed = accelerator(tmp_path / "found.json", "--parts", "device", "--seconds", "300")
    (row,) = parts["device"]["rows"]
    assert status == 0 and parts["device"]["problem"] is None
    assert row["platform"] == "cpu" and row["dtype"] == "float32" and row["peak_flops"] is None
    assert "cpu" in printed


def test_parts_that_are_stopped_are_told_and_end_no_other(tmp_path):
    status, parts, printed = accelerator(tmp_path / "found.json", "--parts", "mfu", "pilot", "--seconds", "0.2")
    assert status == 1 and list(parts) == ["mfu", "pilot"]
    for found in parts.values():
        assert found["rows"] == [] and found["problem"].startswith("stopped")
    assert printed.count("stopped") == 2


@pytest.mark.slow
def test_all_parts_at_small_sizes(tmp_path):
    status, parts, _ = accelerator(tmp_path / "found.json", "--seconds", "1200")
    assert status == 0, parts
    assert len(parts["resume"]["rows"]) == 3 and all(row["identical"] for row in parts["resume"]["rows"])
    assert parts["resume"]["rows"][0]["killed_within_runs_at"]
    for row in (*parts["mfu"]["rows"], *parts["packed"]["rows"]):
        assert row["mfu"] is None and row["tokens_per_second"] > 0
        assert 1 / 3 < row["memory_gb"] / row["plan_gb"] < 3
    for row in parts["bfloat16"]["rows"]:  # it learns, and the type changes the loss by far less than learning does
        assert row["loss_float32"] < row["loss_start"] - 0.5 and abs(row["difference"]) < 0.02
    for row in parts["pilot"]["rows"]:  # the same CPU twice
        assert row["gap_twin"] == row["gap_twin_cpu"] is not None
