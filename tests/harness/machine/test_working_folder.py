"""Whatever the working folder holds, isogap imports its own packages, or says in one line why it cannot."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.processes import run_module

ROOT = Path(__file__).parents[3]


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python started in a folder, with isogap found as it is when installed: after the working folder."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    environment |= {"PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)


def test_plan_from_a_folder_with_such_packages(foreign_folder, lab):
    planned = python(foreign_folder, "-m", "harness", "plan", str(lab.spec), "--cache", str(lab.cache), "--json")
    assert planned.returncode == 0, planned.stderr
    assert json.loads(planned.stdout)["runs"] == 6


def test_the_process_that_measures_imports_isogap(foreign_folder, monkeypatch):
    monkeypatch.chdir(foreign_folder)
    run_module("harness.machine.trial")  # what is measured, without the minutes of measuring


@pytest.mark.parametrize("kind", ["package", "folder"])
def test_a_session_there_is_told_which_folder_to_leave(tmp_path, kind):
    (tmp_path / "models").mkdir()
    if kind == "package":
        (tmp_path / "models" / "__init__.py").write_text("raise RuntimeError")
    ended = python(tmp_path, "-c", "import harness")
    if kind == "folder" and not ended.returncode:
        return  # without __init__.py it stands behind a package, unless that is found by an editable installation
    last = ended.stderr.splitlines()[-1]
    assert ended.returncode == 1 and last.startswith("ImportError: ") and str(tmp_path / "models") in last, ended
    assert "rename" in last and str(ROOT / "models") in last


def test_a_session_elsewhere_is_not(tmp_path):
    ended = python(tmp_path, "-c", "import harness, models, sweeps; print(harness.__file__, models.__file__)")
    assert ended.returncode == 0 and ended.stdout.split() == [
        str(ROOT / f"{name}/__init__.py") for name in ("harness", "models")
    ]
