"""What the page of interventions shows: one more file, and a sweep has another axis."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
import pytest
import yaml

from sweeps.grid import load

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "models" / "interventions" / "README.md"


@pytest.mark.slow
def test_one_more_file_is_an_intervention(lab, tmp_path):
    for package in ("models", "sweeps", "harness"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__", "studies"))
    found = re.search(r"```python file=(\S+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert found
    (tmp_path / found[1]).write_text(found[2])
    defaults = {
        "domain": f"text:{lab.text}", "context": 16, "width": 16, "depth": 1, "heads": 2, "batch": 2, "tokens": 6400,
        "probe_windows": 8, "lr": 0.01, "keep": "final",
    }  # fmt: skip
    plain = {"name": "plain", "defaults": defaults, "blocks": [{}]}
    bounded = plain | {"blocks": [{"grid": {"bound_limit": [0, 0.05, 0.1]}}]}
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(plain))
    (tmp_path / "bounded.yaml").write_text(yaml.safe_dump(bounded))
    command = [sys.executable, "-m", "harness", "run", "bounded.yaml", "--out", "out", "--cache", str(lab.cache)]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    command[3:] = ["export", "out", "--what", "runs", "--to", "runs.csv"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    header, *rows = [line.split(",") for line in (tmp_path / "runs.csv").read_text().splitlines()]
    limits = {row[header.index("run_id")]: float(row[header.index("bound_limit")]) for row in rows}
    assert sorted(limits.values()) == [0, 0.05, 0.1]
    (free,) = (run for run, limit in limits.items() if not limit)
    assert free == load(tmp_path / "plain.yaml").configs[0].run_id
    largest = {}
    for run, limit in limits.items():
        leaves = ocp.PyTreeCheckpointer().restore(tmp_path / "out" / "runs" / run / "final")
        largest[limit] = max(float(np.abs(leaf).max()) for leaf in leaves.values() if np.ndim(leaf) > 1)
    assert largest[0.05] == pytest.approx(0.05) and largest[0.1] == pytest.approx(0.1) and largest[0] > 0.1
