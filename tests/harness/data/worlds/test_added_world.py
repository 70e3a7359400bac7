"""What the page of data shows: one more file, and there is another corpus."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
CODE = """
from pathlib import Path
from harness.data.catalog import corpora
from harness.data.store import prepare
store = prepare("coins:bias=0.2", "symbols:3", Path("cache"))
(row,) = [row for row in corpora(Path("cache")) if row["name"] == "coins"]
print(len(store.train_ids), (store.train == 1).sum() / (store.train < 2).sum(), row["vocab"])
"""


def test_one_more_file_is_a_world(tmp_path):
    for package in ("models", "sweeps", "harness"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__", "studies"))
    page = (ROOT / "harness" / "data" / "README.md").read_text(encoding="utf-8")
    found = re.search(r"```python file=(\S+)\n(.*?)```", page, re.S)
    assert found
    (tmp_path / found[1]).write_text(found[2])
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    documents, heads, vocab = done.stdout.split()
    assert int(documents) == 9000 and float(heads) == pytest.approx(0.2, abs=0.01) and vocab == "3"
